"""StormLimit: the counting of frames in time, what a drained one does, what is told about it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.asking import by, traffic
from tests.support.sites import SiteBuilder
from vswitch.model.site import Site
from vswitch.model.types import Action
from vswitch.semantics.advice_limits import limited
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Conversation, converse
from vswitch.semantics.frame import BROADCAST, arp_request, raw
from vswitch.semantics.network import SiteState, send
from vswitch.semantics.storm import Bucket, count
from vswitch.semantics.switch_memory import SwitchState
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import DropReason

A, B, NOBODY = "00-15-5D-00-00-01", "00-15-5D-00-00-02", "02-00-00-00-00-99"


def pair(**settings: object) -> Site:
    builder = SiteBuilder().switch("vs").vm("a", "10.0.0.1/24", **settings)  # type: ignore[arg-type]
    return builder.vm("b", "10.0.0.2/24", services=["tcp/80"]).build()


def passed(limit: int, times: list[float]) -> list[bool]:
    """Which of the frames sent at these times are within the limit."""
    bucket: Bucket | None = None
    found = []
    for now in times:
        bucket, within = count(limit, bucket, now)
        found.append(within)
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000, 2**32 - 1])
@pytest.mark.parametrize("start", [0.0, 1000.0, 0.1, 1_700_000_000.123])
def test_a_second_gives_back_exactly_the_limit(limit: int, start: float) -> None:
    number = min(limit, 50)
    assert passed(limit, [start] * number) == [True] * number
    if limit == number:
        assert passed(limit, [start] * (limit + 1)) == [True] * limit + [False]
        later = passed(limit, [start] * (limit + 1) + [start + 1] * (limit + 1))
        assert later[limit + 1 :] == [True] * limit + [False]


def test_one_frame_comes_back_after_each_part_of_a_second() -> None:
    assert passed(4, [0.0] * 5 + [0.249, 0.25, 0.25]) == [True] * 4 + [False, False, True, False]


@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 700), min_size=1, max_size=200),
)
def test_no_second_lets_more_pass_than_twice_the_limit(limit: int, gaps: list[int]) -> None:
    times, now = [], 0
    for gap in gaps:
        now += gap if gap > 600 else 0
        times.append(now / 1000)
    found = passed(limit, times)
    for first in times:
        within = [time for time, ok in zip(times, found, strict=True) if ok and first <= time < first + 1]
        assert len(within) <= 2 * limit


def test_the_state_is_a_value() -> None:
    site = pair(storm_limit=1)
    switch, before = site.switch["hv01/vs"], SwitchState()
    first = process(site, switch, 1, raw(A, BROADCAST, 0x88CC), before, 5.0)
    assert before == SwitchState()
    for _ in range(2):
        again = process(site, switch, 1, raw(A, BROADCAST, 0x88CC), first.state, 5.0)
        assert [str(drop) for drop in again.drops] == ["StormLimit"]
        assert again.outputs == {}
    assert process(site, switch, 1, raw(A, BROADCAST, 0x88CC), again.state, 6.0).outputs
    assert first.state.for_site_change(site, switch).storms == first.state.storms


def test_unknown_unicast_that_nobody_gets_counts_too() -> None:
    site = pair(storm_limit=1)
    switch = site.switch["hv01/vs"]
    first = process(site, switch, 1, raw(A, NOBODY, 0x88CC))
    assert [str(drop) for drop in first.drops] == ["UnknownUnicast"]
    second = process(site, switch, 1, raw(A, NOBODY, 0x88CC), first.state)
    assert [str(drop) for drop in second.drops] == ["StormLimit"]
    assert second.assumptions == {"U11"}


def drained(site: Site) -> SiteState:
    """What is known after guest a has used up its limit."""
    frame = arp_request(A, IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9"))
    return send(site, "a", "eth0", frame).state


def ask(site: Site, state: SiteState | None = None) -> Conversation:
    return converse(site, "a", "b", traffic("tcp/80"), state)


def test_a_conversation_on_a_quiet_network_uses_no_limit_up() -> None:
    site = pair(storm_limit=1)
    answer = ask(site)
    assert answer.verdict is Action.ALLOW
    assert answer.state.switches["hv01/vs"].storms == {}
    assert ask(site, answer.state).verdict is Action.ALLOW


def test_a_conversation_whose_arp_is_cut_says_so() -> None:
    site = pair(storm_limit=1)
    answer = ask(site, drained(site))
    assert (answer.verdict, answer.layer, by(answer)) == (Action.DENY, Layer.LIMIT, "StormLimit")
    assert "a/Network Adapter sends more broadcast, multicast and unknown unicast" in answer.cause
    assert "StormLimit of 1 frame a second" in answer.cause
    wanted = "Set-VMNetworkAdapter -VMName 'a' -Name 'Network Adapter' -StormLimit 0"
    assert wanted in answer.fix
    assert f"storm_limit at {site.guest['a'].adapters[0].origin}" in answer.fix
    assert ask(pair(), drained(pair())).verdict is Action.ALLOW


def test_names_in_the_command_are_quoted() -> None:
    adapter = replace(pair(storm_limit=1).guest["a"].adapters[0], guest="it's", name="x'; y")
    fix = limited(adapter, DropReason.STORM_LIMIT).fix
    assert "Set-VMNetworkAdapter -VMName 'it''s' -Name 'x''; y' -StormLimit 0," in fix


def test_the_management_os_has_no_vm_name() -> None:
    adapter = replace(pair(maximum_bandwidth=8000).guest["a"].adapters[0], is_management_os=True)
    advice = limited(adapter, DropReason.QOS)
    assert "Set-VMNetworkAdapter -ManagementOS -Name 'Network Adapter' -MaximumBandwidth 0," in advice.fix
    assert "MaximumBandwidth of 8000 bit/s" in advice.cause


def test_limits_of_others_do_not_matter() -> None:
    site = pair(storm_limit=1)
    assert converse(site, "b", "a", traffic("icmp"), drained(site)).verdict is Action.ALLOW
