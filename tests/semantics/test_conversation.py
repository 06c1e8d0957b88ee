"""Whole conversations: verdict, what a client sees, who decided, and the sentences about it."""

from __future__ import annotations

import pytest

from tests.support import model_files
from tests.support.asking import ask, by, traffic
from tests.support.sites import (
    SiteBuilder,
    basic,
    extended,
    one_switch,
    with_acls,
)
from vswitch.errors import InputError
from vswitch.model.site import Site
from vswitch.model.types import Action
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Expected, converse, converse_range
from vswitch.semantics.journey import LegKind
from vswitch.semantics.verdict import DropReason

DENY_ALL = (extended("Deny", "Inbound", 1), extended("Deny", "Outbound", 1))


def pair(**server: object) -> Site:
    """web and sql, which listens on tcp/1433 and udp/53, on one private switch."""
    return (
        SiteBuilder()
        .switch("vs")
        .vm("web", "10.0.0.1/24 2001:db8::1/64")
        .vm("sql", "10.0.0.2/24 2001:db8::2/64", services=["tcp/1433", "udp/53"], **server)  # type: ignore[arg-type]
        .build()
    )


# --- what a client sees --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "legs"),
    [
        ("tcp/1433", Expected.OPEN, ["SYN", "SYN-ACK", "ACK"]),
        ("tcp/80", Expected.REFUSED, ["SYN", "RST"]),
        ("udp/53", Expected.OPEN, ["datagram", "reply"]),
        ("udp/54", Expected.REFUSED, ["datagram", "port unreachable"]),
        ("icmp", Expected.OPEN, ["echo", "echo reply"]),
        ("ip/47", Expected.OPEN, ["packet"]),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_without_acls_everything_arrives(
    text: str, expected: Expected, legs: list[str], version: int
) -> None:
    answer = ask(pair(), "web", "sql", text, version=version)
    assert (answer.verdict, answer.expected) == (Action.ALLOW, expected)
    assert [leg.name for leg in answer.legs] == legs
    assert answer.source_address
    assert answer.source_address.version == version
    assert answer.assumptions == frozenset()


def test_every_packet_first_resolves_its_neighbour_once() -> None:
    answer = ask(pair(), "web", "sql", "tcp/1433")
    kinds = [[hop.kind for hop in leg.hops] for leg in answer.legs]
    assert kinds == [
        [LegKind.NEIGHBOUR, LegKind.NEIGHBOUR, LegKind.REQUEST],
        [LegKind.REPLY],
        [LegKind.REQUEST],
    ]
    assert answer.legs[0].hops[0].frame.summary == "ARP who has 10.0.0.2, tell 10.0.0.1"


def test_refused_names_what_listens() -> None:
    answer = ask(pair(), "web", "sql", "tcp/8080")
    assert answer.layer is Layer.SERVICE
    assert answer.cause == "nothing listens on tcp/8080 of sql (it listens on tcp/1433)"
    assert answer.fix == "start the service, or ask for a port on which sql listens"
    # A bare `dns` means TCP; the service is there, in UDP.
    bare = ask(pair(), "web", "sql", "tcp/53")
    assert bare.fix == "start the service, or ask for udp/53, on which sql listens"


def test_a_refusal_that_cannot_get_back_is_filtered() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP"), *DENY_ALL]
    answer = ask(pair(rules=rules), "web", "sql", "tcp/80")
    assert (answer.verdict, answer.expected) == (Action.DENY, Expected.FILTERED)
    assert "nothing listens on tcp/80" in answer.cause
    assert "its RST was denied" in answer.cause


def test_a_port_unreachable_is_not_part_of_the_flow_and_that_is_u6() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="UDP", stateful=True), *DENY_ALL]
    answer = ask(pair(rules=rules), "web", "sql", "udp/99")
    assert answer.expected is Expected.FILTERED
    assert "U6" in answer.assumptions
    assert ask(pair(rules=rules), "web", "sql", "udp/53").expected is Expected.OPEN


# --- ACLs ----------------------------------------------------------------------------------------------


def test_a_stateful_allow_lets_the_reply_out() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP", local_port=1433, stateful=True), *DENY_ALL]
    answer = ask(pair(rules=rules), "web", "sql", "tcp/1433")
    assert answer.expected is Expected.OPEN
    assert [rule.name for rule in answer.rules] == ["Allow-Inbound-9"]
    assert answer.assumptions == {"U13"}


def test_a_stateless_allow_fails_at_the_reply() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP", local_port=1433), *DENY_ALL]
    answer = ask(pair(rules=rules), "web", "sql", "tcp/1433")
    assert (answer.verdict, answer.expected, by(answer)) == (
        Action.DENY,
        Expected.FILTERED,
        "Deny-Outbound-1",
    )
    assert answer.decided_by
    assert answer.decided_by.leg is LegKind.REPLY
    assert answer.decided_by.adapter
    assert answer.decided_by.adapter.id == "sql/Network Adapter"
    assert answer.cause == (
        "the SYN reached sql, but its SYN-ACK was denied at sql/Network Adapter by Outbound rule"
        " Deny-Outbound-1 (policy.yaml:1:3): the Inbound allow Allow-Inbound-9 (policy.yaml:9:3) is stateless"
    )
    assert answer.fix.startswith("make Allow-Inbound-9 stateful; or add an Outbound Allow for tcp with local")


def test_an_outbound_stateless_allow_fails_at_the_clients_own_inbound() -> None:
    rules = [extended("Allow", "Outbound", 9, protocol="TCP"), *DENY_ALL]
    answer = ask(with_acls(pair(), "web", rules=rules), "web", "sql", "tcp/1433")
    assert by(answer) == "Deny-Inbound-1"
    assert "the Outbound allow Allow-Outbound-9" in answer.cause
    assert "an Inbound Allow for tcp with remote port 1433" in answer.fix


def test_a_reply_denied_where_nothing_matched_the_request() -> None:
    answer = ask(pair(rules=[extended("Deny", "Outbound", 1)]), "web", "sql", "tcp/1433")
    assert "no Inbound entry matched the request" in answer.cause


def test_a_denied_request_names_the_entry_that_is_missing() -> None:
    answer = ask(pair(rules=DENY_ALL), "web", "sql", "tcp/1433")
    assert (answer.layer, by(answer)) == (Layer.ACL, "Deny-Inbound-1")
    assert answer.decided_by
    assert answer.decided_by.leg is LegKind.REQUEST
    assert answer.fix == (
        "add a Stateful Inbound Allow for tcp with local port 1433 to sql/Network Adapter,"
        " with a weight above 1"
    )
    assert answer.assumptions == frozenset()


def test_the_management_os_is_named_as_a_policy_names_it() -> None:
    policy = """
extended_acls:
  - {name: nobody, adapters: "host:hv01", direction: Inbound, action: Deny, weight: 1}
"""
    answer = ask(model_files.site(policy), "client", "hv01", "tcp/5985")
    assert "to host:hv01/vs-lan" in answer.fix


def test_where_the_order_in_the_file_decides_the_advice_is_a_place_in_it() -> None:
    deny = "  - {name: nobody, adapters: 'host:hv01', direction: Inbound, action: Deny}\n"
    allow = deny.replace("nobody", "late").replace("Deny}", "Allow, protocol: TCP, stateful: true}")
    alone = ask(model_files.site(f"extended_acls:\n{deny}"), "client", "hv01", "tcp/5985")
    assert alone.fix.endswith("to host:hv01/vs-lan, above 'nobody' in the file")
    both = ask(model_files.site(f"extended_acls:\n{deny}{allow}"), "client", "hv01", "tcp/5985")
    assert both.fix == "move late above nobody in the file"
    assert "would allow it, but stands below it in the file" in both.cause
    weighed = allow.replace("stateful", "weight: 7, stateful")
    mixed = ask(model_files.site(f"extended_acls:\n{deny}{weighed}"), "client", "hv01", "tcp/5985")
    assert mixed.fix == "give late a larger weight than 60000"


def test_an_allow_below_the_deny_is_named() -> None:
    rules = [extended("Deny", "Inbound", 100), extended("Allow", "Inbound", 5, protocol="TCP", stateful=True)]
    answer = ask(pair(rules=rules), "web", "sql", "tcp/1433")
    assert "its weight 5 is smaller" in answer.cause
    assert answer.fix == "give Allow-Inbound-5 a larger weight than 100"


def test_icmp_needs_both_directions() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="ICMP"), *DENY_ALL]
    answer = ask(pair(rules=rules), "web", "sql", "icmp")
    assert "ICMP cannot be stateful" in answer.cause
    both = [*rules, extended("Allow", "Outbound", 9, protocol="ICMP")]
    assert ask(pair(rules=both), "web", "sql", "icmp").expected is Expected.OPEN


def test_neighbour_discovery_is_blocked_by_deny_any() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP", stateful=True), *DENY_ALL]
    answer = ask(pair(rules=rules), "web", "sql", "tcp/1433", version=6)
    assert (answer.verdict, answer.expected) == (Action.DENY, Expected.UNREACHABLE)
    assert answer.decided_by
    assert answer.decided_by.leg is LegKind.NEIGHBOUR
    assert answer.cause.startswith("neighbour discovery is blocked at sql/Network Adapter by Inbound rule")
    assert answer.fix.startswith("allow protocol 58 both ways")
    cured = [*rules, *(extended("Allow", d, 8, protocol=58) for d in ("Inbound", "Outbound"))]
    assert ask(pair(rules=cured), "web", "sql", "tcp/1433", version=6).expected is Expected.OPEN


def test_a_basic_deny_stops_what_an_extended_allow_admits() -> None:
    site = pair(
        rules=[extended("Allow", "Inbound", 9)], acls=[basic("Deny", "Inbound", remote="10.0.0.0/24")]
    )
    answer = ask(site, "web", "sql", "tcp/1433")
    assert by(answer) == "Deny-Inbound-Remote-10.0.0.0/24"
    assert answer.assumptions == {"U1"}
    assert "longer prefix" in answer.fix


def test_a_basic_deny_of_the_reply() -> None:
    site = pair(acls=[basic("Deny", "Outbound", remote="10.0.0.1/32")])
    assert "basic ACLs are stateless" in ask(site, "web", "sql", "tcp/1433").cause


def test_a_mac_deny_stops_arp() -> None:
    answer = ask(pair(acls=[basic("Deny", "Inbound", remote_mac="ANY")]), "web", "sql", "tcp/1433")
    assert (answer.layer, answer.expected) == (Layer.ACL, Expected.UNREACHABLE)
    assert "a MAC entry stops ARP as well" in answer.cause


def test_bystanders_do_not_colour_the_answer() -> None:
    crowded = SiteBuilder().switch("vs").vm("web", "10.0.0.1/24").vm("sql", "10.0.0.2/24")
    crowded.vm("noise", "10.0.0.3/24", rules=DENY_ALL, acls=[basic("Deny", "Inbound", remote_mac="ANY")])
    assert ask(crowded.build(), "web", "sql", "icmp").assumptions == frozenset()


# --- guards --------------------------------------------------------------------------------------------


def test_dhcp_guard_stops_a_server() -> None:
    site = (
        SiteBuilder().switch("vs").vm("dhcp", "10.0.0.1/24", dhcp_guard=True).vm("pc", "10.0.0.2/24").build()
    )
    answer = ask(site, "dhcp", "pc", "udp/68:67")
    assert (answer.layer, by(answer)) == (Layer.GUARD, DropReason.DHCP_GUARD)
    assert answer.fix.startswith("turn DhcpGuard off on dhcp/Network Adapter")


# --- ends ----------------------------------------------------------------------------------------------


def test_a_pair_in_one_subnet_is_preferred() -> None:
    site = one_switch(a="10.1.0.1/24 10.2.0.1/24", b="10.2.0.2/24 10.1.0.2/24").build()
    answer = ask(site, "a", "b", "icmp")
    assert str(answer.destination_address) == "10.1.0.2"
    assert str(ask(site, "a", "b/10.2.0.2", "icmp").source_address) == "10.2.0.1"


def test_ends_may_name_an_adapter() -> None:
    site = (
        SiteBuilder()
        .switch("vs")
        .vm("a", "10.0.0.1/24")
        .vm("b", "10.0.0.2/24")
        .adapter("b", "10.0.0.3/24")
        .build()
    )
    assert str(ask(site, "a", "b/Network Adapter 2", "icmp").destination_address) == "10.0.0.3"
    assert str(ask(site, "a", "b/eth1", "icmp").destination_address) == "10.0.0.3"


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("wob", "sql", "there is no guest 'wob'"),
        ("web/nope", "sql", "web has no adapter 'nope'"),
        ("web/10.0.0.9", "sql", "web does not have the address 10.0.0.9"),
        ("web", "web/10.0.0.1", "web and web/10.0.0.1 are one machine"),
    ],
)
def test_ends_that_are_not_there(source: str, destination: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ask(pair(), source, destination, "icmp")
    assert caught.value.hint


# --- ranges --------------------------------------------------------------------------------------------


def test_a_range_is_split_exactly_where_the_answer_changes() -> None:
    rules = [
        extended("Allow", "Inbound", 9, protocol="TCP", local_port=(1000, 1500), stateful=True),
        *DENY_ALL,
    ]
    parts = converse_range(pair(rules=rules), "web", "sql", traffic("tcp/1-65535"))
    assert [(str(ports), answer.expected) for ports, answer in parts] == [
        ("1-999", Expected.FILTERED),
        ("1000-1432", Expected.REFUSED),
        ("1433", Expected.OPEN),
        ("1434-1500", Expected.REFUSED),
        ("1501-65535", Expected.FILTERED),
    ]


def test_traffic_without_ports_is_one_answer() -> None:
    ((ports, answer),) = converse_range(pair(), "web", "sql", traffic("icmp"))
    assert (str(ports), answer.expected) == ("0-65535", Expected.OPEN)


# --- purity --------------------------------------------------------------------------------------------


def test_the_same_question_has_the_same_answer_and_state_is_not_changed() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP", stateful=True), *DENY_ALL]
    site = pair(rules=rules)
    first = ask(site, "web", "sql", "tcp/1433")
    assert first == ask(site, "web", "sql", "tcp/1433")
    flows = dict(first.state.switches["hv01/vs"].flows)
    again = converse(site, "web", "sql", traffic("tcp/1433"), first.state, now=10)
    assert again.expected is Expected.OPEN
    assert dict(first.state.switches["hv01/vs"].flows) == flows


def test_live_state_lets_the_other_side_talk_on_its_flow_only() -> None:
    rules = [extended("Allow", "Inbound", 9, protocol="TCP", local_port=1433, stateful=True), *DENY_ALL]
    site = pair(rules=rules)
    state = ask(site, "web", "sql", "tcp/1433").state
    same = converse(site, "sql", "web", traffic("tcp/50000:1433"), state)
    assert same.verdict is Action.ALLOW
    assert converse(site, "sql", "web", traffic("tcp/50001:1433"), state).verdict is Action.DENY
    assert converse(site, "sql", "web", traffic("tcp/50000:1433"), state, now=255).verdict is Action.DENY
