"""What Open vSwitch cannot carry out is refused, not dropped without a word."""

from __future__ import annotations

import pytest

from tests.support.sites import extended, one_switch
from vswitch.errors import InputError
from vswitch.model.site import ExtendedAcl, Site
from vswitch.pipeline import compile_site


def _rules(timeouts: int, direction: str) -> list[ExtendedAcl]:
    return [
        extended("Allow", direction, 10 + n, protocol="TCP", remote_port=n + 1, stateful=True, timeout=60 + n)
        for n in range(timeouts)
    ]


def _site(sender: int, receiver: int) -> Site:
    site = one_switch(other="10.0.0.9/24")
    site = site.vm("a", "10.0.0.1/24", rules=_rules(sender, "Outbound"))
    return site.vm("b", "10.0.0.2/24", rules=_rules(receiver, "Inbound")).build()


@pytest.mark.parametrize(("sender", "receiver"), [(3, 3), (5, 1), (6, 0)])
def test_six_idle_timeouts_on_the_way_are_possible(sender: int, receiver: int) -> None:
    program = compile_site(_site(sender, receiver))["hv01"]
    expected = [60 + n for count in (sender, receiver) for n in range(count)]
    assert sorted(program.zones.values()) == sorted(expected)
    # Each is looked into, or its flow states would not be found.
    text = "\n".join(flow.actions for flow in program.switches["br0"].flows.values())
    assert {zone for zone in program.zones if f"ct(zone={zone},table=" not in text} == set()


@pytest.mark.parametrize(("sender", "receiver"), [(3, 4), (6, 1), (7, 0)])
def test_a_seventh_is_refused(sender: int, receiver: int) -> None:
    with pytest.raises(InputError, match="too many different idle_session_timeout") as caught:
        compile_site(_site(sender, receiver))
    assert caught.value.where
