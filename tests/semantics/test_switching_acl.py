"""Extended and basic port ACLs at one virtual switch (hyper-v-facts §§0, 3.2, 4.2-4.6)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.support.more_frames import later_fragment
from tests.support.sites import access, basic, extended, one_switch, trunk, with_acls
from vswitch.model.site import Site
from vswitch.model.types import Direction
from vswitch.semantics.acl import evaluate_basic
from vswitch.semantics.frame import (
    BROADCAST,
    Fragment,
    Frame,
    arp_request,
    icmp,
    icmp_echo,
    ip,
    neighbour_solicitation,
    raw,
    tcp,
    udp,
)
from vswitch.semantics.switch_memory import SwitchState
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import DropReason, Result, Stage


@pytest.fixture
def site() -> Site:
    return one_switch(a="10.1.0.1/16 2001:db8::1/64", b="10.1.0.2/16 2001:db8::2/64").build()


A, B = "00-15-5D-00-00-01", "00-15-5D-00-00-02"
A4, B4 = ip_address("10.1.0.1"), ip_address("10.1.0.2")
A6, B6 = ip_address("2001:db8::1"), ip_address("2001:db8::2")
SYN = tcp(A, B, A4, B4, 50000, 80)
SYN6 = tcp(A, B, A6, B6, 50000, 80)
DATAGRAM = udp(A, B, A4, B4, 50000, 53)
ECHO = icmp_echo(A, B, A4, B4)


def run(site: Site, frame: Frame, state: SwitchState | None = None, now: float = 0.0) -> Result:
    ingress = 1 if frame.src_mac == A else 2
    return process(site, site.switch["hv01/vs"], ingress, frame, state, now)


def passes(site: Site, frame: Frame, state: SwitchState | None = None, now: float = 0.0) -> bool:
    return bool(run(site, frame, state, now).outputs)


def decided_by(result: Result) -> str:
    (drop,) = result.drops
    assert drop.reason is DropReason.ACL
    assert drop.rule
    return drop.rule.name


# --- extended: order and default ---------------------------------------------------------------


def test_rule_1_larger_weight_wins_and_first_match_ends_evaluation(site: Site) -> None:
    deny = extended("Deny", "Inbound", 1)
    allow = extended("Allow", "Inbound", 500, protocol="TCP", local_port=80)
    guarded = with_acls(site, "b", rules=[deny, allow])
    assert passes(guarded, SYN)
    assert decided_by(run(guarded, DATAGRAM)) == "Deny-Inbound-1"
    flipped = with_acls(site, "b", rules=[allow, replace(deny, weight=501)])
    assert not passes(flipped, SYN)


def test_rule_2_no_match_means_allow(site: Site) -> None:
    assert passes(with_acls(site, "b", rules=[extended("Allow", "Inbound", 5, protocol="UDP")]), SYN)
    assert passes(site, SYN)


def test_a_lone_deny_inbound_leaves_outbound_open(site: Site) -> None:
    guarded = with_acls(site, "a", rules=[extended("Deny", "Inbound", 1)])
    assert passes(guarded, SYN)
    assert not passes(guarded, SYN.reply())


def test_rule_5_direction_is_the_vms_viewpoint(site: Site) -> None:
    assert not passes(with_acls(site, "a", rules=[extended("Deny", "Outbound", 1)]), SYN)
    assert passes(with_acls(site, "a", rules=[extended("Deny", "Inbound", 1)]), SYN)
    assert not passes(with_acls(site, "b", rules=[extended("Deny", "Inbound", 1)]), SYN)
    assert passes(with_acls(site, "b", rules=[extended("Deny", "Outbound", 1)]), SYN)


def test_rule_6_a_frame_between_vms_is_filtered_twice(site: Site) -> None:
    both = with_acls(site, "a", rules=[extended("Allow", "Outbound", 1)])
    both = with_acls(both, "b", rules=[extended("Allow", "Inbound", 1)])
    seen = [(s.port, s.direction) for s in run(both, SYN).steps if s.stage is Stage.EXTENDED_ACL]
    assert seen == [(1, Direction.OUTBOUND), (2, Direction.INBOUND)]
    drop = run(with_acls(both, "b", rules=[extended("Deny", "Inbound", 1)]), SYN).drops[0]
    assert (drop.port, drop.direction) == (2, Direction.INBOUND)


def test_inbound_remote_is_the_source_and_outbound_remote_is_the_destination(site: Site) -> None:
    inbound = extended("Deny", "Inbound", 1, remote="10.1.0.1/32", local="10.1.0.2/32")
    assert not passes(with_acls(site, "b", rules=[inbound]), SYN)
    assert passes(with_acls(site, "b", rules=[extended("Deny", "Inbound", 1, remote="10.1.0.2/32")]), SYN)
    outbound = extended("Deny", "Outbound", 1, local="10.1.0.1/32", remote="10.1.0.2/32")
    assert not passes(with_acls(site, "a", rules=[outbound]), SYN)


def test_inbound_local_port_is_the_destination_port(site: Site) -> None:
    for fields, verdict in [
        ({"local_port": 80}, False),
        ({"local_port": (70, 90)}, False),
        ({"local_port": (81, 90)}, True),
        ({"remote_port": 80}, True),
        ({"remote_port": 50000}, False),
    ]:
        rule = extended("Deny", "Inbound", 1, protocol="TCP", **fields)  # type: ignore[arg-type]
        assert passes(with_acls(site, "b", rules=[rule]), SYN) is verdict
    out = extended("Deny", "Outbound", 1, protocol="TCP", remote_port=80)
    assert not passes(with_acls(site, "a", rules=[out]), SYN)


def test_all_given_fields_must_match(site: Site) -> None:
    rule = extended("Deny", "Inbound", 1, protocol="TCP", local_port=80, remote="10.2.0.0/16")
    assert passes(with_acls(site, "b", rules=[rule]), SYN)


def test_any_other_ip_protocol_is_matched_by_its_number(site: Site) -> None:
    guarded = with_acls(site, "b", rules=[extended("Deny", "Inbound", 1, protocol=47)])
    assert not passes(guarded, ip(A, B, A4, B4, 47))
    assert passes(guarded, ip(A, B, A4, B4, 50))


def test_rule_11_all_of_ipv4_is_not_any(site: Site) -> None:
    guarded = with_acls(site, "b", rules=[extended("Deny", "Inbound", 1, remote="0.0.0.0/0")])
    assert not passes(guarded, SYN)
    assert passes(guarded, SYN6)
    assert not passes(with_acls(site, "b", rules=[extended("Deny", "Inbound", 1)]), SYN6)
    narrowed = with_acls(site, "b", acls=[basic("Deny", "Inbound", remote="0.0.0.0/0")])
    assert passes(narrowed, SYN6)
    assert not passes(with_acls(site, "b", acls=[basic("Deny", "Inbound", remote="ANY")]), SYN6)


def test_isolation_id_limits_a_rule_to_one_vlan() -> None:
    site = one_switch().vm("a", vlan=trunk(10, 20)).vm("b", vlan=trunk(10, 20)).build()
    inbound = with_acls(site, "b", rules=[extended("Deny", "Inbound", 1, isolation_id=10)])
    outbound = with_acls(site, "a", rules=[extended("Deny", "Outbound", 1, isolation_id=10)])
    for guarded in (inbound, outbound):
        assert not passes(guarded, SYN.tagged(10))
        assert passes(guarded, SYN.tagged(20))
    untagged = one_switch().vm("a", vlan=access(10)).vm("b", vlan=access(10)).build()
    sending = with_acls(untagged, "a", rules=[extended("Deny", "Outbound", 1, isolation_id=10)])
    assert not passes(sending, SYN)


# --- extended: Stateful --------------------------------------------------------------------------


def stateful_site(site: Site, **fields: object) -> Site:
    return with_acls(
        site,
        "b",
        rules=[
            extended("Allow", "Inbound", 500, protocol="TCP", local_port=80, stateful=True, **fields),  # type: ignore[arg-type]
            extended("Deny", "Inbound", 1),
            extended("Deny", "Outbound", 1),
        ],
    )


def test_the_first_matching_packet_opens_the_flow_both_ways(site: Site) -> None:
    guarded = stateful_site(site)
    assert not passes(guarded, SYN.reply())
    opened = run(guarded, SYN)
    assert opened.outputs
    assert passes(guarded, SYN.reply(), opened.state, 1)
    assert passes(guarded, SYN, opened.state, 1)


def test_a_stateless_allow_does_not_admit_the_reply(site: Site) -> None:
    guarded = with_acls(
        site,
        "b",
        rules=[extended("Allow", "Inbound", 500, protocol="TCP"), extended("Deny", "Outbound", 1)],
    )
    opened = run(guarded, SYN)
    assert not opened.state.flows
    assert decided_by(run(guarded, SYN.reply(), opened.state)) == "Deny-Outbound-1"


def test_another_5_tuple_is_another_flow(site: Site) -> None:
    guarded = stateful_site(site)
    state = run(guarded, SYN).state
    assert not passes(guarded, replace(SYN.reply(), dst_port=50001), state)
    assert not passes(guarded, DATAGRAM.reply(), state)


def test_state_ends_after_the_idle_timeout_without_traffic_in_either_direction(site: Site) -> None:
    guarded = stateful_site(site, timeout=100)
    state = run(guarded, SYN, now=0).state
    assert passes(guarded, SYN.reply(), state, 99)
    assert not passes(guarded, SYN.reply(), state, 100)
    refreshed = run(guarded, SYN.reply(), state, 99).state
    assert passes(guarded, SYN.reply(), refreshed, 198)
    assert not passes(guarded, SYN.reply(), refreshed, 199)


def test_state_belongs_to_the_adapter_that_made_it(site: Site) -> None:
    guarded = with_acls(
        site,
        "a",
        rules=[
            extended("Allow", "Outbound", 9, protocol="TCP", stateful=True),
            extended("Deny", "Inbound", 1),
        ],
    )
    guarded = with_acls(guarded, "b", rules=[extended("Deny", "Outbound", 1)])
    state = run(guarded, SYN).state
    assert {key[0] for key in state.flows} == {1}
    assert decided_by(run(guarded, SYN.reply(), state)) == "Deny-Outbound-1"
    assert passes(with_acls(guarded, "b"), SYN.reply(), state)


def test_an_established_flow_is_matched_by_state_not_by_order(site: Site) -> None:
    guarded = stateful_site(site)
    state = run(guarded, SYN).state
    adapter = guarded.guest["b"].adapters[0]
    stricter = with_acls(site, "b", rules=[extended("Deny", "Inbound", 900), *adapter.extended_acls])
    kept = state.for_site_change(stricter, stricter.switch["hv01/vs"])
    assert passes(stricter, SYN, kept)
    assert not passes(stricter, SYN)


def test_flows_die_with_their_rule(site: Site) -> None:
    guarded = stateful_site(site)
    state = run(guarded, SYN).state
    switch = guarded.switch["hv01/vs"]
    assert state.for_site_change(guarded, switch).flows
    assert not state.for_site_change(site, switch).flows
    assert not state.for_site_change(stateful_site(site, timeout=30), switch).flows
    renamed = stateful_site(site, name="another name", line=99)
    assert state.for_site_change(renamed, switch).flows


def test_no_syn_is_required_to_create_state_and_that_is_u6(site: Site) -> None:
    guarded = stateful_site(site)
    midstream = run(guarded, replace(SYN, tcp_flags="A"))
    assert midstream.state.flows
    assert "U6" in midstream.assumptions
    assert "U6" not in run(guarded, SYN).assumptions


def test_state_does_not_bypass_basic_acls_and_that_is_u6(site: Site) -> None:
    guarded = stateful_site(site)
    state = run(guarded, SYN).state
    adapter = guarded.guest["b"].adapters[0]
    narrowed = with_acls(
        site, "b", rules=adapter.extended_acls, acls=[basic("Deny", "Outbound", remote="10.1.0.1/32")]
    )
    result = run(narrowed, SYN.reply(), state)
    assert (result.drops[0].stage, result.assumptions) == (Stage.BASIC_ACL, frozenset({"U6"}))


def test_icmp_is_never_stateful_and_needs_two_rules(site: Site) -> None:
    rules = [extended("Deny", "Inbound", 1), extended("Deny", "Outbound", 1)]
    one_way = [extended("Allow", "Inbound", 9, protocol="ICMP"), *rules]
    guarded = with_acls(site, "b", rules=one_way)
    result = run(guarded, ECHO)
    assert result.outputs
    assert not result.state.flows
    assert not passes(guarded, ECHO.reply(), result.state)
    both = with_acls(site, "b", rules=[*one_way, extended("Allow", "Outbound", 9, protocol="ICMP")])
    assert passes(both, ECHO.reply())


def test_icmp_errors_of_a_stateful_flow_are_not_related(site: Site) -> None:
    guarded = stateful_site(site)
    state = run(guarded, SYN).state
    assert not passes(guarded, icmp(B, A, B4, A4, 3, 3), state)


def test_rule_3_only_an_allow_of_tcp_or_udp_can_be_stateful(site: Site) -> None:
    for rule, frame in [
        (extended("Deny", "Inbound", 5, protocol="TCP", stateful=True), SYN),
        (extended("Allow", "Inbound", 5, protocol="ICMP", stateful=True), ECHO),
        (extended("Allow", "Inbound", 5, protocol=47, stateful=True), ip(A, B, A4, B4, 47)),
    ]:
        assert not run(with_acls(site, "b", rules=[rule]), frame).state.flows
    udp_rule = extended("Allow", "Inbound", 5, protocol="UDP", stateful=True)
    assert run(with_acls(site, "b", rules=[udp_rule]), DATAGRAM).state.flows


def test_pmtu_signals_are_lost_with_icmp(site: Site) -> None:
    guarded = stateful_site(site)
    state = run(guarded, SYN).state
    assert not passes(guarded, icmp(A, B, A4, B4, 3, 4), state)


# --- basic ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("swap", [False, True])
def test_rule_4_longest_prefix_decides_whatever_the_order(site: Site, swap: bool) -> None:
    acls = [basic("Deny", "Inbound", remote="ANY"), basic("Allow", "Inbound", remote="10.1.0.0/16")]
    guarded = with_acls(site, "b", acls=acls[::-1] if swap else acls)
    assert passes(guarded, SYN)
    assert not passes(guarded, replace(SYN, src=ip_address("10.2.0.1")))
    deeper = with_acls(site, "b", acls=[*acls, basic("Deny", "Inbound", remote="10.1.0.1/32")])
    assert not passes(deeper, SYN)


def test_basic_no_entries_and_no_match_allow(site: Site) -> None:
    assert passes(with_acls(site, "b", acls=[basic("Deny", "Inbound", remote="10.9.0.0/16")]), SYN)
    assert passes(with_acls(site, "b", acls=[basic("Allow", "Inbound", remote="10.9.0.0/16")]), SYN)


def test_basic_local_is_the_vms_own_address(site: Site) -> None:
    assert not passes(with_acls(site, "b", acls=[basic("Deny", "Inbound", local="10.1.0.2/32")]), SYN)
    assert passes(with_acls(site, "b", acls=[basic("Deny", "Inbound", local="10.1.0.1/32")]), SYN)
    assert not passes(with_acls(site, "a", acls=[basic("Deny", "Outbound", local="10.1.0.1/32")]), SYN)


def test_basic_local_and_remote_are_separate_and_deny_wins_u2(site: Site) -> None:
    guarded = with_acls(
        site,
        "b",
        acls=[basic("Allow", "Inbound", local="10.1.0.2/32"), basic("Deny", "Inbound", remote="ANY")],
    )
    result = run(guarded, SYN)
    assert not result.outputs
    assert result.assumptions == {"U2"}


def test_basic_equal_length_tie_deny_wins_u2(site: Site) -> None:
    guarded = with_acls(
        site,
        "b",
        acls=[basic("Allow", "Inbound", remote="ANY"), basic("Deny", "Inbound", remote="0.0.0.0/0")],
    )
    assert run(guarded, SYN).assumptions == {"U2"}
    assert not passes(guarded, SYN)
    assert passes(guarded, SYN6)


def test_basic_mac_and_ip_are_both_evaluated_u2(site: Site) -> None:
    guarded = with_acls(
        site,
        "b",
        acls=[basic("Allow", "Inbound", remote="10.1.0.1/32"), basic("Deny", "Inbound", remote_mac=A)],
    )
    result = run(guarded, SYN)
    assert (decided_by(result), result.assumptions) == (f"Deny-Inbound-Remote-{A}", frozenset({"U2"}))


def test_basic_mac_longest_match(site: Site) -> None:
    guarded = with_acls(
        site,
        "b",
        acls=[basic("Deny", "Inbound", remote_mac="ANY"), basic("Allow", "Inbound", remote_mac=A)],
    )
    assert passes(guarded, SYN)
    stranger = replace(SYN, src_mac="02-00-00-00-00-01")
    assert evaluate_basic(guarded.guest["b"].adapters[0].acls, Direction.INBOUND, stranger).denies


def test_meter_entries_only_count_u14(site: Site) -> None:
    acls = [
        basic("Meter", "Inbound", remote="10.1.0.1/32"),
        basic("Deny", "Inbound", remote="10.1.0.0/16"),
    ]
    result = run(with_acls(site, "b", acls=acls), SYN)
    assert not result.outputs
    assert result.assumptions == {"U14"}
    assert passes(with_acls(site, "b", acls=acls[:1]), SYN)


def test_basic_and_extended_must_both_pass_u1(site: Site) -> None:
    allow, deny = extended("Allow", "Inbound", 5), extended("Deny", "Inbound", 5)
    for rules, acls, verdict, flags in [
        ([allow], [basic("Deny", "Inbound", remote="ANY")], False, {"U1"}),
        ([deny], [basic("Allow", "Inbound", remote="ANY")], False, {"U1"}),
        ([allow], [basic("Allow", "Inbound", remote="ANY")], True, set()),
        ([deny], [basic("Deny", "Inbound", remote="ANY")], False, set()),
        ([], [basic("Deny", "Inbound", remote="ANY")], False, set()),
    ]:
        result = run(with_acls(site, "b", rules=rules, acls=acls), SYN)
        assert bool(result.outputs) == verdict
        assert result.assumptions == flags


# --- ARP, ND, DHCP, fragments --------------------------------------------------------------------

DENY_ALL = [extended("Deny", "Inbound", 1), extended("Deny", "Outbound", 1)]


def test_rule_7_ip_acls_do_not_touch_arp_and_that_is_u13(site: Site) -> None:
    guarded = with_acls(site, "b", rules=DENY_ALL, acls=[basic("Deny", "Inbound", remote="ANY")])
    result = run(guarded, arp_request(A, A4, B4))  # type: ignore[arg-type]
    assert set(result.outputs) == {2}
    assert result.assumptions == {"U13"}
    assert passes(guarded, raw(A, B, 0x88CC))
    assert run(site, arp_request(A, A4, B4)).assumptions == set()  # type: ignore[arg-type]


def test_rule_7_deny_any_cuts_neighbour_discovery_until_protocol_58_is_allowed(site: Site) -> None:
    solicitation = neighbour_solicitation(A, A6, B6)  # type: ignore[arg-type]
    assert not passes(with_acls(site, "b", rules=DENY_ALL), solicitation)
    cured = [*DENY_ALL, *(extended("Allow", d, 9, protocol=58) for d in ("Inbound", "Outbound"))]
    assert passes(with_acls(site, "b", rules=cured), solicitation)
    assert passes(with_acls(site, "b", rules=cured), solicitation.reply(B))


def test_rule_7_deny_any_cuts_dhcp_until_both_directions_are_allowed(site: Site) -> None:
    zero, everyone = ip_address("0.0.0.0"), ip_address("255.255.255.255")
    discover = udp(A, BROADCAST, zero, everyone, 68, 67)
    offer = udp(B, A, B4, A4, 67, 68)
    assert not passes(with_acls(site, "a", rules=DENY_ALL), discover)
    assert not passes(with_acls(site, "a", rules=DENY_ALL), offer)
    renewal = udp(A, B, A4, B4, 68, 67)
    assert not passes(with_acls(site, "a", rules=DENY_ALL), renewal)
    cured = [
        *DENY_ALL,
        extended("Allow", "Outbound", 9, protocol="UDP", local_port=68, remote_port=67),
        extended("Allow", "Inbound", 9, protocol="UDP", local_port=68, remote_port=67),
    ]
    assert passes(with_acls(site, "a", rules=cured), discover)
    assert passes(with_acls(site, "a", rules=cured), offer)
    assert passes(with_acls(site, "a", rules=cured), renewal)


def test_basic_mac_deny_any_stops_everything_including_arp(site: Site) -> None:
    guarded = with_acls(site, "b", acls=[basic("Deny", "Inbound", remote_mac="ANY")])
    assert not passes(guarded, arp_request(A, A4, B4))  # type: ignore[arg-type]
    assert not passes(guarded, SYN)
    assert not passes(guarded, raw(A, B, 0x88CC))


def test_fragments_without_ports_do_not_match_entries_with_ports_u5(site: Site) -> None:
    guarded = with_acls(
        site,
        "b",
        rules=[
            extended("Allow", "Inbound", 9, protocol="TCP", local_port=80),
            extended("Deny", "Inbound", 1),
        ],
    )
    later = later_fragment(SYN)
    result = run(guarded, later)
    assert not result.outputs
    assert result.assumptions == {"U5"}
    assert passes(guarded, replace(SYN, fragment=Fragment.FIRST))
    opening = [extended("Allow", "Inbound", 9, protocol="TCP", local_port=80, stateful=True)]
    first = run(
        with_acls(site, "b", rules=[*opening, extended("Deny", "Inbound", 1)]),
        replace(SYN, fragment=Fragment.FIRST),
    )
    assert not first.outputs
    assert first.assumptions == {"U5"}
    by_protocol = with_acls(site, "b", rules=[extended("Deny", "Inbound", 9, protocol="TCP")])
    assert run(by_protocol, later).assumptions == set()
    six = later_fragment(SYN6)
    assert (passes(by_protocol, six), run(by_protocol, six).assumptions) == (True, frozenset({"U5"}))


def test_a_later_fragment_neither_uses_nor_makes_state(site: Site) -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP", stateful=True)]
    result = run(with_acls(site, "b", rules=rules), later_fragment(SYN))
    assert not result.state.flows
    assert result.assumptions == {"U5"}
