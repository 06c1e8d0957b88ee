"""Guards, MAC checks, VLANs, learning and forwarding (hyper-v-facts §§1.2-1.6, 2, 2.1)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from tests.support.sites import (
    SiteBuilder,
    access,
    community,
    extended,
    isolated,
    one_switch,
    promiscuous,
    trunk,
)
from vswitch.model.site import Site
from vswitch.model.types import Direction, Vlan
from vswitch.semantics.frame import BROADCAST, Frame, icmp, raw, tcp, udp
from vswitch.semantics.switch_memory import SwitchState
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import DropReason, Result, Stage

MAC = [f"00-15-5D-00-00-{n:02X}" for n in range(10)]
STRANGER, OTHER = "02-00-00-00-00-01", "02-00-00-00-00-02"
ETHERTYPE = 0x88B5
A4, B4 = ip_address("10.0.0.1"), ip_address("10.0.0.2")
A6, B6 = ip_address("2001:db8::1"), ip_address("2001:db8::2")


def run(site: Site, ingress: int, frame: Frame, state: SwitchState | None = None, now: float = 0.0) -> Result:
    return process(site, site.switch["hv01/vs"], ingress, frame, state, now)


def reason(result: Result) -> DropReason:
    (drop,) = result.drops
    return drop.reason


def frame(source: str, destination: str, vlan: int | None = None) -> Frame:
    return raw(source, destination, ETHERTYPE, vlan=vlan)


def wire(result: Result) -> dict[int, int | None]:
    """The ports a frame left by, each with its tag."""
    return {port: out.vlan for port, out in result.outputs.items()}


def external(*vlans: Vlan, **fields: object) -> Site:
    """Uplink 1; adapters 2, 3, ... with MAC 1, 2, ... in these VLAN modes."""
    builder = SiteBuilder().network("lan", 10, 20, 100, 201, 202).switch("vs", network="lan")
    for index, vlan in enumerate(vlans):
        builder.vm(f"vm{index + 1}", vlan=vlan, **fields)  # type: ignore[arg-type]
    return builder.build()


# --- guards (§2) -----------------------------------------------------------------------------------


def guarded(**fields: object) -> Site:
    return one_switch().vm("a", **fields).vm("b", **fields).build()  # type: ignore[arg-type]


def test_rule_9_dhcp_guard_stops_server_messages_the_vm_sends() -> None:
    site = one_switch().vm("a", dhcp_guard=True).vm("b").build()
    for offer in (udp(MAC[1], MAC[2], A4, B4, 67, 68), udp(MAC[1], MAC[2], A6, B6, 547, 546)):
        assert reason(run(site, 1, offer)) is DropReason.DHCP_GUARD
    assert run(site, 1, udp(MAC[1], BROADCAST, A4, B4, 68, 67)).outputs


def test_rule_9_dhcp_guard_never_filters_what_the_vm_receives() -> None:
    site = one_switch().vm("a", dhcp_guard=True).vm("b").build()
    assert run(site, 2, udp(MAC[2], MAC[1], B4, A4, 67, 68)).outputs


@pytest.mark.parametrize(
    ("addresses", "icmp_type", "stopped"),
    [
        ((A4, B4), 5, True),
        ((A4, B4), 9, True),
        ((A4, B4), 8, False),
        ((A4, B4), 134, False),
        ((A6, B6), 134, True),
        ((A6, B6), 137, True),
        ((A6, B6), 135, False),
        ((A6, B6), 5, False),
    ],
)
def test_rule_9_router_guard_stops_advertisements_and_redirects_the_vm_sends(
    addresses: tuple[object, object], icmp_type: int, stopped: bool
) -> None:
    site = one_switch().vm("a", router_guard=True).vm("b").build()
    message = icmp(MAC[1], MAC[2], *addresses, icmp_type)  # type: ignore[arg-type]
    result = run(site, 1, message)
    assert bool(result.outputs) is not stopped
    if stopped:
        assert reason(result) is DropReason.ROUTER_GUARD
    received = icmp(MAC[2], MAC[1], *addresses, icmp_type)  # type: ignore[arg-type]
    assert run(site, 2, received).outputs


def test_acls_come_before_guards_and_guards_before_the_mac_check() -> None:
    rules = [extended("Deny", "Outbound", 1, protocol="UDP", remote_port=68)]
    offer = udp(STRANGER, MAC[2], A4, B4, 67, 68)
    with_rule = one_switch().vm("a", dhcp_guard=True, rules=rules).vm("b").build()
    assert reason(run(with_rule, 1, offer)) is DropReason.ACL
    without = one_switch().vm("a", dhcp_guard=True).vm("b").build()
    assert reason(run(without, 1, offer)) is DropReason.DHCP_GUARD


# --- source MAC (§§1.3, 1.4) -----------------------------------------------------------------------


def test_rule_8_spoofing_off_sends_with_the_configured_mac_only() -> None:
    site = one_switch().vm("a").vm("b").build()
    assert run(site, 1, frame(MAC[1], MAC[2])).outputs
    result = run(site, 1, frame(STRANGER, MAC[2]))
    assert reason(result) is DropReason.MAC_SPOOFING
    assert result.drops[0].direction is Direction.OUTBOUND
    assert reason(run(site, 1, frame(MAC[2], BROADCAST))) is DropReason.MAC_SPOOFING


def test_spoofing_on_sends_with_any_unicast_mac() -> None:
    site = one_switch().vm("a", mac_address_spoofing=True).vm("b").build()
    assert run(site, 1, frame(STRANGER, MAC[2])).outputs


def test_a_configured_mac_is_pinned_to_its_port() -> None:
    site = one_switch().vm("a", mac_address_spoofing=True).vm("b").build()
    assert reason(run(site, 1, frame(MAC[2], BROADCAST))) is DropReason.UNAUTHORIZED_MAC
    site = external(Vlan())
    assert reason(run(site, 1, frame(MAC[1], BROADCAST))) is DropReason.UNAUTHORIZED_MAC


def test_multicast_and_broadcast_sources_are_dropped() -> None:
    site = external(Vlan(), mac_address_spoofing=True)
    for ingress in (1, 2):
        for source in (BROADCAST, "01-00-5E-00-00-01"):
            assert reason(run(site, ingress, frame(source, BROADCAST))) is DropReason.INVALID_SOURCE_MAC


def test_allow_teaming_lets_a_port_use_the_mac_of_a_sibling() -> None:
    builder = one_switch().vm("a", allow_teaming=True).adapter("a").vm("b")
    site = builder.build()
    assert run(site, 1, frame(MAC[2], MAC[3])).outputs
    assert reason(run(site, 2, frame(MAC[1], MAC[3]))) is DropReason.MAC_SPOOFING
    assert reason(run(site, 1, frame(MAC[3], BROADCAST))) is DropReason.MAC_SPOOFING
    assert not run(site, 1, frame(MAC[2], MAC[3])).state.learned


def test_a_teaming_port_with_spoofing_off_learns_nothing() -> None:
    builder = SiteBuilder().switch("vs").switch("other").vm("a", allow_teaming=True)
    site = builder.adapter("a", switch="other").vm("b").build()
    result = run(site, 1, frame(MAC[2], MAC[3]))
    assert result.outputs
    assert not result.state.learned


# --- VLAN modes (§2.1) -----------------------------------------------------------------------------


def test_untagged_is_vlan_0_and_only_that() -> None:
    site = external(Vlan(), Vlan(), access(10))
    assert wire(run(site, 2, frame(MAC[1], BROADCAST))) == {1: None, 3: None}
    assert reason(run(site, 2, frame(MAC[1], MAC[2], 10))) is DropReason.UNAUTHORIZED_VLAN


def test_access_guest_is_untagged_and_the_uplink_is_tagged() -> None:
    site = external(access(10), access(10), access(20))
    result = run(site, 2, frame(MAC[1], BROADCAST))
    assert wire(result) == {1: 10, 3: None}
    assert result.drops[0].ports == (4,)
    assert wire(run(site, 1, frame(STRANGER, MAC[1], 10))) == {2: None}


def test_access_drops_tagged_frames_even_of_its_own_vlan() -> None:
    site = external(access(10), access(10))
    assert reason(run(site, 2, frame(MAC[1], MAC[2], 10))) is DropReason.UNAUTHORIZED_VLAN


def test_a_priority_tag_counts_as_untagged_and_that_is_u16() -> None:
    site = external(access(10), access(10), Vlan())
    result = run(site, 2, frame(MAC[1], MAC[2], 0))
    assert wire(result) == {3: None}
    assert result.assumptions == {"U16"}
    upstream = run(site, 1, frame(STRANGER, MAC[3], 0))
    assert wire(upstream) == {4: None}
    assert upstream.assumptions == {"U16"}


def test_trunk_tags_allowed_vlans_and_untagged_is_native() -> None:
    site = external(trunk(10, 20, native=30), access(10), access(30), access(20))
    assert wire(run(site, 2, frame(MAC[1], BROADCAST, 10))) == {1: 10, 3: None}
    assert wire(run(site, 2, frame(MAC[1], BROADCAST))) == {1: 30, 4: None}
    assert wire(run(site, 3, frame(MAC[2], MAC[1]))) == {2: 10}
    assert wire(run(site, 4, frame(MAC[3], MAC[1]))) == {2: None}
    assert reason(run(site, 2, frame(MAC[1], BROADCAST, 99))) is DropReason.UNAUTHORIZED_VLAN


def test_the_native_vlan_is_allowed_and_may_be_tagged() -> None:
    site = external(trunk(10, native=30), access(30))
    assert wire(run(site, 2, frame(MAC[1], MAC[2], 30))) == {3: None}


def test_a_unicast_to_an_adapter_of_another_vlan_is_filtered() -> None:
    site = external(access(10), access(20))
    result = run(site, 2, frame(MAC[1], MAC[2]))
    assert reason(result) is DropReason.FILTERED_VLAN
    assert result.drops[0].port == 3
    assert reason(run(site, 1, frame(STRANGER, MAC[1], 20))) is DropReason.FILTERED_VLAN


PVLAN = (promiscuous(100, 201, 202), isolated(100, 201), isolated(100, 201), community(100, 202))


@pytest.mark.parametrize(
    ("source", "destination", "verdict"),
    [
        (1, 2, True),
        (2, 1, True),
        (1, 4, True),
        (4, 1, True),
        (4, 5, True),
        (2, 3, False),
        (2, 4, False),
        (4, 2, False),
    ],
)
def test_private_vlan_reachability(source: int, destination: int, verdict: bool) -> None:
    """1 promiscuous, 2 and 3 isolated, 4 and 5 one community (§2.1 table)."""
    site = external(*PVLAN, community(100, 202))
    result = run(site, source + 1, frame(MAC[source], MAC[destination]))
    assert bool(result.outputs) is verdict
    if verdict:
        assert wire(result) == {destination + 1: None}
    else:
        assert reason(result) is DropReason.FAILED_PVLAN_SETTING


def test_private_vlans_on_the_uplink() -> None:
    site = external(*PVLAN)
    assert wire(run(site, 3, frame(MAC[2], BROADCAST))) == {1: 201, 2: None}
    assert wire(run(site, 2, frame(MAC[1], BROADCAST))) == {1: 100, 3: None, 4: None, 5: None}
    assert wire(run(site, 1, frame(STRANGER, BROADCAST, 202))) == {2: None, 5: None}
    assert reason(run(site, 1, frame(STRANGER, MAC[2], 201))) is DropReason.FAILED_PVLAN_SETTING


def test_an_unrelated_vlan_is_filtered_not_a_private_vlan_fault() -> None:
    site = external(isolated(100, 201), access(10))
    assert reason(run(site, 3, frame(MAC[2], MAC[1]))) is DropReason.FILTERED_VLAN
    assert reason(run(site, 2, frame(MAC[1], MAC[2]))) is DropReason.FILTERED_VLAN


# --- forwarding (§1.3) -------------------------------------------------------------------------------


def test_known_unicast_goes_to_the_one_matching_port() -> None:
    site = external(Vlan(), Vlan(), Vlan())
    assert wire(run(site, 2, frame(MAC[1], MAC[3]))) == {4: None}


def test_unknown_unicast_goes_to_the_uplink_and_not_to_spoofing_off_ports() -> None:
    site = external(Vlan(), Vlan())
    assert wire(run(site, 2, frame(MAC[1], STRANGER))) == {1: None}
    result = run(site, 1, frame(STRANGER, OTHER))
    assert (reason(result), result.assumptions) == (DropReason.UNKNOWN_UNICAST, frozenset({"U3"}))


def test_unknown_unicast_reaches_spoofing_on_ports_of_the_vlan() -> None:
    builder = SiteBuilder().network("lan", 10).switch("vs", network="lan")
    builder.vm("a", vlan=access(10)).vm("b", vlan=access(10), mac_address_spoofing=True)
    site = builder.vm("c", mac_address_spoofing=True).build()
    assert wire(run(site, 2, frame(MAC[1], STRANGER))) == {1: 10, 3: None}
    assert wire(run(site, 1, frame(OTHER, STRANGER, 10))) == {3: None}


def test_broadcast_and_multicast_reach_all_ports_of_the_vlan_and_the_uplink() -> None:
    site = external(Vlan(), Vlan(), access(10))
    for destination in (BROADCAST, "01-00-5E-00-00-FB"):
        result = run(site, 2, frame(MAC[1], destination))
        assert wire(result) == {1: None, 3: None}
        assert [(d.reason, d.ports) for d in result.drops] == [(DropReason.FILTERED_VLAN, (4,))]
    assert wire(run(site, 1, frame(STRANGER, BROADCAST))) == {2: None, 3: None}


def test_nothing_returns_to_the_port_it_came_from() -> None:
    site = external(Vlan())
    assert reason(run(site, 2, frame(MAC[1], MAC[1]))) is DropReason.OWN_PORT
    state = run(site, 1, frame(STRANGER, BROADCAST)).state
    assert reason(run(site, 1, frame(OTHER, STRANGER), state)) is DropReason.OWN_PORT


# --- learning (§1.2) -----------------------------------------------------------------------------------


def learning_site(**switch: Any) -> Site:
    """Uplink 1, spoofing-On 2 (MAC 1) and 3 (MAC 2), spoofing-Off 4 (MAC 3)."""
    builder = SiteBuilder().network("lan").switch("vs", network="lan", **switch)
    builder.vm("a", mac_address_spoofing=True).vm("b", mac_address_spoofing=True).vm("c")
    return builder.build()


def test_addresses_behind_the_uplink_and_spoofing_on_ports_are_learned() -> None:
    site = learning_site()
    state = run(site, 1, frame(STRANGER, BROADCAST)).state
    assert wire(run(site, 4, frame(MAC[3], STRANGER), state)) == {1: None}
    state = run(site, 2, frame(OTHER, BROADCAST), state).state
    assert wire(run(site, 4, frame(MAC[3], OTHER), state)) == {2: None}


def test_the_forwarding_key_is_mac_and_vlan() -> None:
    site = external(trunk(10, 20), mac_address_spoofing=True)
    state = run(site, 2, frame(STRANGER, BROADCAST, 10)).state
    assert set(state.learned) == {(STRANGER, 10)}
    assert wire(run(site, 1, frame(OTHER, STRANGER, 10), state)) == {2: 10}


def test_a_learned_address_moves() -> None:
    site = learning_site()
    state = run(site, 2, frame(STRANGER, BROADCAST)).state
    state = run(site, 3, frame(STRANGER, BROADCAST), state).state
    assert wire(run(site, 4, frame(MAC[3], STRANGER), state)) == {3: None}
    assert len(state.learned) == 1


def test_a_static_mac_never_moves() -> None:
    site = learning_site()
    state = run(site, 1, frame(MAC[3], BROADCAST)).state
    assert not state.learned
    assert not run(site, 2, frame(MAC[1], BROADCAST)).state.learned


def test_learned_addresses_age() -> None:
    site = learning_site(aging_time=300)
    state = run(site, 2, frame(STRANGER, BROADCAST), now=0).state
    assert wire(run(site, 4, frame(MAC[3], STRANGER), state, 299)) == {2: None}
    assert set(wire(run(site, 4, frame(MAC[3], STRANGER), state, 300))) == {1, 2, 3}
    renewed = run(site, 2, frame(STRANGER, BROADCAST), state, 299).state
    assert wire(run(site, 4, frame(MAC[3], STRANGER), renewed, 598)) == {2: None}
    received_only = run(site, 4, frame(MAC[3], STRANGER), state, 299).state
    assert set(wire(run(site, 4, frame(MAC[3], STRANGER), received_only, 300))) == {1, 2, 3}


def test_the_table_of_learned_addresses_is_limited() -> None:
    site = learning_site(max_mac_addresses=1)
    state = run(site, 2, frame(STRANGER, BROADCAST), now=0).state
    full = run(site, 3, frame(OTHER, BROADCAST), state, 1)
    assert set(full.state.learned) == {(STRANGER, 0)}
    assert full.outputs
    assert any("max_mac_addresses" in step.text for step in full.steps)
    moved = run(site, 3, frame(STRANGER, BROADCAST), full.state, 2).state
    assert moved.learned[STRANGER, 0].port == 3
    assert (OTHER, 0) in run(site, 3, frame(OTHER, BROADCAST), moved, 302).state.learned


def test_private_vlan_ports_learn_for_the_vlans_they_receive() -> None:
    builder = SiteBuilder().network("lan", 100, 201).switch("vs", network="lan")
    builder.vm("p", vlan=promiscuous(100, 201)).vm("i", vlan=isolated(100, 201), mac_address_spoofing=True)
    site = builder.build()
    state = run(site, 3, frame(STRANGER, BROADCAST)).state
    assert set(state.learned) == {(STRANGER, 100)}
    assert wire(run(site, 2, frame(MAC[1], STRANGER), state)) == {3: None}


def test_a_dropped_frame_teaches_nothing() -> None:
    site = external(Vlan(), mac_address_spoofing=True)
    assert not run(site, 2, frame(STRANGER, BROADCAST, 10)).state.learned


def test_learned_addresses_of_changed_ports_are_forgotten() -> None:
    site = learning_site()
    state = run(site, 2, frame(STRANGER, BROADCAST)).state
    state = run(site, 1, frame(OTHER, BROADCAST), state).state
    guests = tuple(
        replace(g, adapters=tuple(replace(a, mac_address_spoofing=False) for a in g.adapters))
        for g in site.guests
    )
    changed = replace(site, guests=guests)
    left = state.for_site_change(changed, changed.switch["hv01/vs"])
    assert set(left.learned) == {(OTHER, 0)}


# --- order, purity ---------------------------------------------------------------------------------------


def test_stages_follow_hyper_vs_order() -> None:
    site = one_switch().vm("a").vm("b").build()
    result = run(site, 1, tcp(MAC[1], MAC[2], A4, B4, 1, 2))
    outbound = [Stage.STATE, Stage.EXTENDED_ACL, Stage.BASIC_ACL]
    assert [step.stage for step in result.steps] == [
        *outbound,
        Stage.DHCP_GUARD,
        Stage.ROUTER_GUARD,
        Stage.SOURCE_MAC,
        Stage.VLAN_INGRESS,
        Stage.LEARNING,
        Stage.FORWARDING,
        Stage.VLAN_EGRESS,
        *outbound,
        Stage.DELIVERY,
    ]


def test_a_spoofed_frame_that_an_acl_denies_is_an_acl_drop() -> None:
    site = one_switch().vm("a", rules=[extended("Deny", "Outbound", 1)]).vm("b").build()
    result = run(site, 1, tcp(STRANGER, MAC[2], A4, B4, 1, 2))
    assert reason(result) is DropReason.ACL


def test_the_state_given_is_never_changed() -> None:
    site = learning_site()
    before = run(site, 2, frame(STRANGER, BROADCAST)).state
    copy = dict(before.learned)
    first = run(site, 3, frame(STRANGER, BROADCAST), before, 5)
    second = run(site, 3, frame(STRANGER, BROADCAST), before, 5)
    assert dict(before.learned) == copy
    assert first == second
    with pytest.raises(TypeError):
        before.learned[STRANGER, 1] = before.learned[STRANGER, 0]  # type: ignore[index]


def test_a_port_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="no port 9"):
        run(learning_site(), 9, frame(STRANGER, BROADCAST))
