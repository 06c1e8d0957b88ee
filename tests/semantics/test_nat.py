"""Conversations across a host's NAT: addresses before and after, sessions, and what is said of failures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.asking import ask, traffic
from tests.support.sites import extended, with_acls
from vswitch.model import load_site
from vswitch.model.site import Site
from vswitch.model.types import Action
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Conversation, Expected, converse, converse_range
from vswitch.semantics.nat import How
from vswitch.semantics.network import SiteState

OUTSIDE = "{switch: vs-lan, addresses: [192.168.1.5/24, 192.168.1.6/24]}"
INSIDE = "{switch: vs-nat, addresses: [172.20.0.1/24]}"
MAPPING = "{protocol: TCP, external_port: 8080, internal_ip_address: 172.20.0.11, internal_port: 80}"
NOBODY = (
    "{protocol: TCP, external_ip_address: 192.168.1.6, external_port: 81, internal_ip_address: 172.20.0.99}"
)
LAYOUT = f"""\
name: nat
networks:
  lan:
    vlans: [7]
    gateways: {{0: 192.168.1.1/24, 7: 10.7.0.1/24}}
    clients:
      client: {{addresses: [192.168.1.50/24], services: [http, {{udp: dns}}]}}
      other: {{addresses: [192.168.1.60/24]}}
      far: {{vlan: 7, addresses: [10.7.0.50/24], services: [http]}}
hosts:
  hv01:
    switches: {{vs-lan: {{type: External, network: lan}}, vs-nat: {{type: Internal}}}}
    management_os:
      adapters:
        - {INSIDE}
        - {OUTSIDE}
      services: [winrm]
    nat:
      name: it's inside
      internal_ip_interface_address_prefix: 172.20.0.0/24
      static_mappings:
        - {MAPPING}
        - {{protocol: UDP, external_port: 53, internal_ip_address: 172.20.0.12}}
        - {NOBODY}
    vms:
      a:
        adapters: [{{switch: vs-nat, addresses: [172.20.0.11/24]}}]
        gateway: 172.20.0.1
        services: [http, {{udp: 5000}}]
      b:
        adapters: [{{switch: vs-nat, addresses: [172.20.0.12/24]}}]
        gateway: 172.20.0.1
"""


def site(*changes: tuple[str, str]) -> Site:
    layout = LAYOUT
    for part, instead in changes:
        assert layout.count(part) == 1
        layout = layout.replace(part, instead)
    return load_site("layout.yaml", read={"layout.yaml": layout}.__getitem__)


def frames(answer: Conversation) -> list[list[str]]:
    """What each leg's packet looked like on each of its wires."""
    return [[hop.frame.summary for hop in leg.packets] for leg in answer.legs]


def how(answer: Conversation) -> list[list[How]]:
    return [[step.how for step in leg.translations] for leg in answer.legs]


# --- what is on the wires --------------------------------------------------------------------------


def test_outward_the_source_is_the_hosts_and_the_answer_finds_its_way_back() -> None:
    answer = ask(site(), "a", "client", "tcp/80")
    assert (answer.verdict, answer.expected) == (Action.ALLOW, Expected.OPEN)
    assert frames(answer) == [
        [
            "TCP SYN 172.20.0.11:50000 > 192.168.1.50:80",
            "TCP SYN 192.168.1.5:50000 > 192.168.1.50:80",
        ],
        [
            "TCP SYN-ACK 192.168.1.50:80 > 192.168.1.5:50000",
            "TCP SYN-ACK 192.168.1.50:80 > 172.20.0.11:50000",
        ],
        [
            "TCP ACK 172.20.0.11:50000 > 192.168.1.50:80",
            "TCP ACK 192.168.1.5:50000 > 192.168.1.50:80",
        ],
    ]
    assert how(answer) == [[How.SOURCE], [How.SESSION], [How.SESSION]]
    assert answer.assumptions == frozenset()


def test_inward_the_destination_is_the_mappings_and_the_client_stays_who_it_is() -> None:
    answer = ask(site(), "client", "hv01", "tcp/8080")
    assert answer.expected is Expected.OPEN
    assert frames(answer)[:2] == [
        [
            "TCP SYN 192.168.1.50:50000 > 192.168.1.5:8080",
            "TCP SYN 192.168.1.50:50000 > 172.20.0.11:80",
        ],
        [
            "TCP SYN-ACK 172.20.0.11:80 > 192.168.1.50:50000",
            "TCP SYN-ACK 192.168.1.5:8080 > 192.168.1.50:50000",
        ],
    ]
    assert how(answer) == [[How.MAPPING], [How.SESSION], [How.SESSION]]
    (step,) = answer.legs[0].translations
    assert (step.host, step.nat, str(step.mapping)) == ("hv01", "it's inside", "tcp/8080 to 172.20.0.11:80")
    assert answer.legs[0].hops[step.hop].frame.summary == "ARP who has 172.20.0.11, tell 172.20.0.1"


@pytest.mark.parametrize(
    ("text", "expected", "legs"),
    [
        ("icmp", Expected.OPEN, ["echo", "echo reply"]),
        ("udp/53", Expected.OPEN, ["datagram", "reply"]),
        ("udp/54", Expected.REFUSED, ["datagram", "port unreachable"]),
        ("tcp/81", Expected.REFUSED, ["SYN", "RST"]),
    ],
)
def test_every_answer_is_translated_back(text: str, expected: Expected, legs: list[str]) -> None:
    answer = ask(site(), "a", "client", text)
    assert (answer.expected, [leg.name for leg in answer.legs]) == (expected, legs)
    assert how(answer) == [[How.SOURCE], [How.SESSION]]
    assert answer.legs[-1].end == "a"


def test_a_routers_error_finds_the_machine_behind_the_nat() -> None:
    assert ask(site(), "a", "far", "tcp/80").expected is Expected.OPEN
    answer = ask(site(("far: {vlan: 7", "far: {vlan: 0")), "a", "far", "tcp/80")
    assert (answer.verdict, answer.expected) == (Action.DENY, Expected.UNREACHABLE)
    assert (answer.legs[-1].name, answer.legs[-1].end) == ("host unreachable", "a")
    assert how(answer) == [[How.SOURCE], [How.SESSION]]


def test_the_first_address_outside_is_asked_though_it_is_not_the_first_written() -> None:
    answer = ask(site(), "far", "hv01", "tcp/5985")
    assert str(answer.destination_address) == "192.168.1.5"


def test_neighbours_behind_the_nat_and_the_host_itself_are_not_translated() -> None:
    for source, destination, text in (("a", "b", "icmp"), ("a", "hv01", "tcp/5985"), ("hv01", "a", "tcp/80")):
        answer = ask(site(), source, destination, text)
        assert answer.expected is Expected.OPEN
        assert how(answer) == [[]] * len(answer.legs)


def test_a_range_is_split_at_mapped_ports() -> None:
    answers = converse_range(site(), "client", "hv01", traffic("tcp/8000-8100"))
    assert [(str(ports), str(answer.expected)) for ports, answer in answers] == [
        ("8000-8079", "refused"),
        ("8080", "open"),
        ("8081-8100", "refused"),
    ]


# --- sessions ----------------------------------------------------------------------------------------


def talk(where: Site, questions: Sequence[tuple[str, str, str]], now: float = 0.0) -> list[Conversation]:
    """Questions one after the other, remembering."""
    state, found = SiteState(), list[Conversation]()
    for source, destination, text in questions:
        answer = converse(where, source, destination, traffic(text), state, now=now)
        state = answer.state
        found.append(answer)
    return found


OPEN = ("a", "client", "udp/53:5000")


def test_a_session_admits_other_ports_of_an_address_it_was_sent_to() -> None:
    _, same, stranger = talk(
        site(), [OPEN, ("client", "hv01", "udp/5000:9"), ("other", "hv01", "udp/5000:9")]
    )
    assert (same.expected, same.legs[0].end) == (Expected.OPEN, "a")
    assert how(same)[0] == [How.FILTERING]
    assert same.assumptions == {"U12"}
    assert (stranger.expected, stranger.layer) == (Expected.REFUSED, Layer.NAT)


def test_endpoint_independent_filtering_admits_anybody() -> None:
    everybody = site(
        ("      static", "      udp_filtering_behavior: EndpointIndependentFiltering\n      static")
    )
    for asking in ("client", "other"):
        _, answer = talk(everybody, [OPEN, (asking, "hv01", "udp/5000:9")])
        assert answer.expected is Expected.OPEN
    _, tcp = talk(everybody, [("a", "client", "tcp/80:5001"), ("other", "hv01", "tcp/5001")])
    assert tcp.layer is Layer.NAT


def test_what_a_session_admits_opens_it_to_no_others() -> None:
    """Else one packet from outside would open a static mapping's machine to its sender's other ports."""
    *_, answer = talk(site(), [("client", "hv01", "tcp/8080"), ("client", "hv01", "tcp/8080:77")])
    assert how(answer)[0] == [How.MAPPING]
    sessions = answer.state.nats["hv01"]
    assert all(session.inbound for session in sessions)


@pytest.mark.parametrize(("later", "expected"), [(119.0, Expected.OPEN), (120.0, Expected.REFUSED)])
def test_an_idle_session_ends(later: float, expected: Expected) -> None:
    first = converse(site(), "a", "client", traffic("udp/53:5000"))
    answer = converse(site(), "client", "hv01", traffic("udp/5000:9"), first.state, now=later)
    assert answer.expected is expected


def test_inbound_datagrams_do_not_keep_a_session_alive() -> None:
    """UdpInboundRefresh is False (§6): symptom 48. An answer is outbound, and does."""
    no_answers = extended("Deny", "Outbound", 1, protocol="UDP", remote="192.168.1.50", local_port=5000)
    for where, seen in ((with_acls(site(), "a", rules=[no_answers]), 0.0), (site(), 100.0)):
        state = converse(site(), "a", "client", traffic("udp/53:5000")).state
        answer = converse(where, "client", "hv01", traffic("udp/5000:53"), state, now=100.0)
        assert (answer.legs[0].end, answer.legs[0].arrived) == ("a", True)
        assert [each.seen for each in answer.state.nats["hv01"]] == [seen]


def test_two_machines_with_one_source_port_get_two() -> None:
    first, second = talk(site(), [("a", "client", "udp/53:6000"), ("b", "client", "udp/53:6000")])
    assert first.expected is second.expected is Expected.OPEN
    assert frames(second)[0][1] == "UDP 192.168.1.5:6001 > 192.168.1.50:53"
    reused, _ = talk(site(), [("a", "client", "udp/53:6000"), ("b", "other", "udp/53:6000")])[::-1]
    assert frames(reused)[0][1].startswith("UDP 192.168.1.5:6000 >")


# --- what is said --------------------------------------------------------------------------------------


def test_no_mapping_names_the_nat_and_the_command() -> None:
    answer = ask(site(), "client", "hv01", "tcp/8081")
    assert (answer.expected, answer.layer) == (Expected.REFUSED, Layer.NAT)
    assert answer.cause.startswith("NAT it's inside on hv01 has no static mapping for tcp/8081")
    assert "nowhere to send it" in answer.cause
    assert "tcp/8080 to 172.20.0.11:80" in answer.cause
    assert answer.fix.startswith(
        "Add-NetNatStaticMapping -NatName 'it''s inside' -Protocol TCP -ExternalIPAddress 0.0.0.0"
        " -ExternalPort 8081 -InternalIPAddress "
    )
    assert "{protocol: TCP, external_port: 8081, internal_ip_address: " in answer.fix
    listening = ask(site(), "client", "hv01", "tcp/80")  # a listens there
    assert "-ExternalPort 80 -InternalIPAddress 172.20.0.11 -InternalPort 80;" in listening.fix


def test_a_mapping_for_other_senders_is_to_be_widened() -> None:
    limited = "remote_external_ip_address_prefix: 192.168.1.60"
    narrow = site((MAPPING, MAPPING.replace("}", f", {limited}}}")))
    words = "static mapping tcp/8080 to 172.20.0.11:80 (layout.yaml:22:11)"
    asking = ask(narrow, "client", "hv01", "tcp/8080")
    assert (asking.expected, asking.layer) == (Expected.REFUSED, Layer.NAT)
    assert asking.cause.startswith(f"the {words} of NAT it's inside on hv01 is for packets from")
    assert "from 192.168.1.60/32 only, and 192.168.1.50 is none of them" in asking.cause
    direct = ask(narrow, "client", "a", "tcp/80")
    assert f"its {words} is for packets from 192.168.1.60/32 only" in direct.cause
    for answer in (asking, direct):
        assert answer.fix.startswith(
            "widen its remote_external_ip_address_prefix at layout.yaml:22:11 to a prefix that holds"
            " 192.168.1.50 too"
        )
        assert "Remove-NetNatStaticMapping" in answer.fix
        assert answer.fix.endswith(
            "Add-NetNatStaticMapping -NatName 'it''s inside' -Protocol TCP -ExternalIPAddress 0.0.0.0"
            " -ExternalPort 8080 -InternalIPAddress 172.20.0.11 -InternalPort 80"
            " -RemoteExternalIPAddressPrefix <prefix>"
        )
    assert ask(narrow, "other", "a", "tcp/80").fix.endswith("tcp/8080: mapped to it")


def test_of_several_mappings_the_one_that_serves_the_sender_is_named() -> None:
    first = MAPPING.replace("8080", "81").replace("}", ", remote_external_ip_address_prefix: 192.168.1.60}")
    both = site((f"- {MAPPING}", f"- {first}\n        - {MAPPING}"), (f"        - {NOBODY}\n", ""))
    assert ask(both, "client", "a", "tcp/80").fix.endswith("192.168.1.6, tcp/8080: mapped to it")
    assert ask(both, "other", "a", "tcp/80").fix.endswith("192.168.1.6, tcp/81: mapped to it")


def test_an_address_behind_the_nat_cannot_be_asked_from_outside() -> None:
    answer = ask(site(), "client", "a", "tcp/80")
    assert (answer.verdict, answer.layer) == (Action.DENY, Layer.NAT)
    assert "172.20.0.11 of a is behind NAT it's inside of hv01 and cannot be reached" in answer.cause
    assert answer.fix == "ask hv01, 192.168.1.5 or 192.168.1.6, tcp/8080: mapped to it"
    unmapped = ask(site(), "client", "a", "udp/5000")
    assert "-Protocol UDP -ExternalIPAddress 0.0.0.0 -ExternalPort 5000" in unmapped.fix
    assert "-InternalIPAddress 172.20.0.11 -InternalPort 5000;" in unmapped.fix
    assert "only TCP and UDP ports" in ask(site(), "client", "a", "icmp").fix


def test_not_even_with_a_route_to_the_host() -> None:
    routed = site(
        (
            "client: {addresses: [192.168.1.50/24],",
            "client: {addresses: [192.168.1.50/24], routes: {172.20.0.0/24: 192.168.1.5},",
        )
    )
    answer = ask(routed, "client", "a", "tcp/80")
    assert (answer.expected, answer.layer) == (Expected.FILTERED, Layer.NAT)
    assert "behind NAT it's inside" in answer.cause


def test_a_mapping_to_an_address_nobody_has() -> None:
    answer = ask(site(), "client", "hv01/192.168.1.6", "tcp/81")
    assert (answer.expected, answer.layer) == (Expected.FILTERED, Layer.NAT)
    assert "the static mapping tcp/81 to 172.20.0.99:81 (layout.yaml:24:11)" in answer.cause
    assert "no machine behind the NAT has that address" in answer.cause
    assert ask(site(), "client", "hv01/192.168.1.5", "tcp/81").expected is Expected.REFUSED


def test_a_mapping_to_a_port_nobody_listens_on() -> None:
    answer = ask(site(), "client", "hv01", "udp/53")
    assert (answer.expected, answer.layer) == (Expected.REFUSED, Layer.NAT)
    assert "leads to b, and nothing listens on udp/53 there (it has no UDP service at all)" in answer.cause


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ("gateway: none", "a has no gateway; its way out is NAT it's inside of hv01, at 172.20.0.1"),
        ("gateway: 172.20.0.77", "a has the gateway 172.20.0.77; its way out is NAT"),
    ],
)
def test_a_machine_that_does_not_find_its_nat(gateway: str, words: str) -> None:
    own = "services: [http, {udp: 5000}]"
    lost = site((f"gateway: 172.20.0.1\n        {own}", f"{gateway}\n        {own}"))
    answer = ask(lost, "a", "client", "tcp/80")
    assert (answer.verdict, answer.layer, answer.fix) == (
        Action.DENY,
        Layer.ADDRESS,
        "give a the gateway 172.20.0.1",
    )
    assert words in answer.cause
    back = ask(lost, "client", "hv01", "tcp/8080")  # the request arrives, the answer does not find out
    assert (back.verdict, back.fix) == (Action.DENY, "give a the gateway 172.20.0.1")


def test_a_nat_without_an_outside() -> None:
    cut = site((OUTSIDE, "{switch: vs-lan}"), ("external_ip_address: 192.168.1.6, ", ""))
    answer = ask(cut, "a", "client", "tcp/80")
    assert (answer.expected, answer.layer) == (Expected.FILTERED, Layer.NAT)
    assert "hv01 has no IPv4 address outside of 172.20.0.0/24" in answer.cause
    assert "share an External switch" in answer.fix


def test_a_host_without_a_way_to_the_destination() -> None:
    answer = ask(site((OUTSIDE, f"{OUTSIDE}\n      gateway: none")), "a", "far", "tcp/80")
    assert (answer.expected, answer.layer) == (Expected.FILTERED, Layer.NAT)
    assert "hv01 itself has no route to 10.7.0.50" in answer.cause
    assert answer.fix == "give hv01 a gateway on the side of 192.168.1.5 or 192.168.1.6"


def test_only_three_protocols_are_translated() -> None:
    answer = ask(site(), "a", "client", "ip/47")
    assert (answer.expected, answer.layer) == (Expected.FILTERED, Layer.NAT)
    assert "TCP, UDP and ICMP echo only, not protocol 47" in answer.cause


def test_a_mapping_is_not_for_machines_behind_the_nat() -> None:
    answer = ask(site(), "b", "hv01/192.168.1.5", "tcp/8080")
    assert (answer.expected, answer.layer, answer.assumptions) == (
        Expected.REFUSED,
        Layer.NAT,
        frozenset({"U12"}),
    )
    assert answer.fix == "ask 172.20.0.11, port 80, directly"
