"""Limits as meters: their numbers and sizes, and that a changed limit is one changed meter."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.sites import SiteBuilder
from vswitch.pipeline import MeterChange, Purpose, SwitchProgram, compile_site, meter_difference


def program(**settings: Any) -> SwitchProgram:
    """The program of a switch with two adapters, the first with these settings."""
    site = SiteBuilder().switch("vs").vm("a", **settings).vm("b").build()
    return compile_site(site)["hv01"].switches["br0"]


def texts(found: SwitchProgram) -> dict[int, str]:
    return {number: meter.text for number, meter in found.meters.items()}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"storm_limit": 10}, "meter=1,pktps,burst,band=type=drop,rate=10,burst_size=10"),
        ({"storm_limit": 1}, "meter=1,pktps,burst,band=type=drop,rate=1,burst_size=1"),
        (
            {"storm_limit": 2**32 - 1},
            "meter=1,pktps,burst,band=type=drop,rate=4294967295,burst_size=4294967295",
        ),
        # 64 KiB, which a guest may hand over in one piece, are 524 kbit.
        ({"maximum_bandwidth": 8}, "meter=65537,kbps,burst,band=type=drop,rate=1,burst_size=1024"),
        ({"maximum_bandwidth": 1_999_992}, "meter=65537,kbps,burst,band=type=drop,rate=1999,burst_size=1024"),
        (
            {"maximum_bandwidth": 10**9},
            "meter=65537,kbps,burst,band=type=drop,rate=1000000,burst_size=250000",
        ),
    ],
)
def test_a_limit_is_one_meter_and_one_flow(settings: dict[str, int], text: str) -> None:
    plain, limited = program(), program(**settings)
    assert list(texts(limited).values()) == [text]
    (added,) = (flow for cookie, flow in limited.flows.items() if cookie not in plain.flows)
    assert not plain.flows.keys() - limited.flows.keys()
    assert (added.purpose, added.adapter) == (Purpose.LIMIT, "a/Network Adapter")
    assert added.meter in limited.meters
    assert added.actions.startswith(f"meter:{added.meter},")
    assert added.reason == limited.meters[added.meter].reason


def test_without_limits_there_are_no_meters_and_no_flow_knows_of_them() -> None:
    plain = program()
    assert plain.meters == {}
    assert not any("meter" in flow.actions or "reg6" in flow.match for flow in plain.flows.values())


def test_a_virtual_function_passes_the_limits_by() -> None:
    assert program(storm_limit=10, maximum_bandwidth=8000, virtual_function=True).meters == {}


def test_a_changed_limit_is_one_changed_meter_and_no_changed_flow() -> None:
    old = program(storm_limit=10, maximum_bandwidth=8000)
    new = program(storm_limit=20, maximum_bandwidth=8000)
    assert old.flows.keys() == new.flows.keys()
    change = meter_difference(texts(old), new.meters)
    assert change == MeterChange((("mod-meter", new.meters[1].text),), ())
    assert meter_difference(texts(new), new.meters) == MeterChange()


def test_meters_come_before_the_flows_and_go_after_them() -> None:
    none, some = program(), program(storm_limit=10, maximum_bandwidth=8000)
    assert meter_difference({}, some.meters) == MeterChange(
        tuple(("add-meter", text) for text in texts(some).values()), ()
    )
    gone = (("del-meter", "meter=1"), ("del-meter", "meter=65537"))
    assert meter_difference(texts(some), none.meters) == MeterChange((), gone)
