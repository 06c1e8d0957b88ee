"""`nat:` of a host: what it becomes, and every mistake in it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from vswitch.errors import InputErrors
from vswitch.model import load_site
from vswitch.model.site import Nat, NatFiltering, Site
from vswitch.model.types import TCP, UDP

PREFIX = "internal_ip_interface_address_prefix: 172.20.0.0/24"
MAPPING = "{protocol: TCP, external_port: http, internal_ip_address: 172.20.0.11}"
HOST = "{switch: vs-lan, addresses: [192.168.1.5/24, 192.168.1.6/24, 10.9.0.5/16]}"
LAYOUT = f"""\
name: nat
networks: {{lan: {{}}}}
hosts:
  hv01:
    switches:
      vs-lan: {{type: External, network: lan}}
      vs-nat: {{type: Internal}}
    management_os:
      adapters:
        - {HOST}
        - {{switch: vs-nat, addresses: [172.20.0.1/24, "2001:db8::1/64"]}}
      services: [winrm]
    nat:
      name: inside
      {PREFIX}
      static_mappings:
        - {MAPPING}
    vms:
      a: {{adapters: [{{switch: vs-nat, addresses: [172.20.0.11/24]}}]}}
"""


def load(layout: str = LAYOUT) -> Site:
    return load_site("layout.yaml", read={"layout.yaml": layout}.__getitem__)


def nat(layout: str = LAYOUT) -> Nat:
    found = load(layout).guest["hv01"].nat
    assert found
    return found


def test_defaults_are_those_of_a_fresh_netnat() -> None:
    found = nat()
    assert (found.name, found.internal) == ("inside", IPv4Network("172.20.0.0/24"))
    assert found.external == tuple(map(IPv4Address, ("192.168.1.5", "192.168.1.6", "10.9.0.5")))
    assert found.tcp_filtering is found.udp_filtering is NatFiltering.ADDRESS_DEPENDENT
    assert (found.tcp_established_connection_timeout, found.tcp_transient_connection_timeout) == (1800, 120)
    assert (found.udp_idle_session_timeout, found.icmp_query_timeout) == (120, 30)
    (mapping,) = found.mappings
    assert (mapping.protocol, mapping.external_address, mapping.external_port) == (TCP, None, 80)
    assert (mapping.internal_address, mapping.internal_port) == (IPv4Address("172.20.0.11"), 80)
    assert str(mapping) == "tcp/80 to 172.20.0.11:80"
    assert all(guest.nat is None for guest in load().guests if guest.name != "hv01")


def test_what_is_written() -> None:
    layout = LAYOUT.replace(
        PREFIX,
        f"{PREFIX}\n      external_ip_interface_address_prefix: 192.168.1.6\n"
        "      udp_filtering_behavior: endpointindependentfiltering\n      udp_idle_session_timeout: 300",
    ).replace(
        MAPPING,
        "{protocol: udp, external_ip_address: 192.168.1.6, external_port: 5353, internal_ip_address:"
        " 172.20.0.11, internal_port: dns, remote_external_ip_address_prefix: 10.0.0.0/8}",
    )
    found = nat(layout)
    assert found.external == (IPv4Address("192.168.1.6"),)
    assert (found.udp_filtering, found.tcp_filtering) == (
        NatFiltering.ENDPOINT_INDEPENDENT,
        NatFiltering.ADDRESS_DEPENDENT,
    )
    assert found.udp_idle_session_timeout == 300
    (mapping,) = found.mappings
    assert (mapping.protocol, mapping.external_port, mapping.internal_port) == (UDP, 5353, 53)
    assert (mapping.external_address, mapping.remote) == (
        IPv4Address("192.168.1.6"),
        IPv4Network("10.0.0.0/8"),
    )


@pytest.mark.parametrize("every", ["0.0.0.0", "0.0.0.0/0", "0.0.0.0/24"])
def test_every_external_address_as_administrators_write_it(every: str) -> None:
    layout = LAYOUT.replace("{protocol: TCP,", f"{{protocol: TCP, external_ip_address: {every},")
    assert nat(layout).mappings[0].external_address is None


def test_a_nat_needs_no_outside() -> None:
    """The host may be cut off: that is for `explain` to say."""
    assert nat(LAYOUT.replace(HOST, "{switch: vs-lan}")).external == ()


MISTAKES = [
    ("nat:\n      name: inside", "nat:\n      @@nmae: inside", "unknown key 'nmae'; did you mean 'name'"),
    ("      name: inside\n", "", "'name' is missing"),
    (f"      {PREFIX}\n", "", "'internal_ip_interface_address_prefix' is missing"),
    ("172.20.0.0/24", "@@172.20.0.1/24", "bits set; 172.20.0.0/24"),
    ("172.20.0.0/24", '@@"2001:db8::/64"', "not IPv4; IPv4 only"),
    (
        "172.20.0.0/24",
        "@@172.21.0.0/24",
        "no address of the management OS of 'hv01' is in 172.21.0.0/24; 172.21.0.1/24; 172.20.0.1",
    ),
    (
        PREFIX,
        f"{PREFIX}\n      external_ip_interface_address_prefix: @@10.0.0.0/16",
        "outside of 172.20.0.0/24 is in 10.0.0.0/16; 192.168.1.5",
    ),
    (PREFIX, f"{PREFIX}\n      tcp_filtering_behavior: @@Open", "'Open' is not a filtering behavior"),
    (PREFIX, f"{PREFIX}\n      udp_idle_session_timeout: @@0", "time in seconds; out of range"),
    ("services: [winrm]", "services: [winrm]\n      forwarding: @@On", "routes besides; leave out"),
    ("protocol: TCP", "protocol: @@ICMP", "'ICMP' is not a protocol; TCP, UDP"),
    ("external_port: http", "external_port: @@0", "out of range"),
    ("external_port: http", "external_port: @@80-81", "not one port"),
    ("external_port: http", "external_port: @@htp", "neither a port nor a known service; http"),
    ("external_port: http, ", "", "'external_port' is missing"),
    ("external_port: http", "external_port: @@winrm", "tcp/5985 is taken: 'hv01' itself listens there"),
    ("address: 172.20.0.11}", "address: @@172.21.0.11}", "172.21.0.11 is not behind the NAT; 172.20.0.0/24"),
    ("address: 172.20.0.11}", "address: @@web01}", "'web01' is not an IP address"),
    (
        "{protocol: TCP,",
        "{protocol: TCP, external_ip_address: @@192.168.1.7,",
        "192.168.1.7 is not an external address; 192.168.1.5",
    ),
    (
        MAPPING,
        f"{MAPPING}\n        - {{protocol: TCP, external_port: @@80, internal_ip_address: 172.20.0.12}}",
        "tcp/80 is mapped twice; layout.yaml:17",
    ),
]


@pytest.mark.parametrize(("part", "instead", "words"), MISTAKES, ids=[words for _, _, words in MISTAKES])
def test_every_mistake_says_where_and_what_is_right(part: str, instead: str, words: str) -> None:
    assert LAYOUT.count(part) == 1
    layout = LAYOUT.replace(part, instead)
    with pytest.raises(InputErrors) as caught:
        load(layout.replace("@@", ""))
    (error,) = caught.value.errors
    for word in words.split("; "):
        assert word in f"{error.message} {error.hint}"
    if "@@" in layout:
        before = layout[: layout.index("@@")]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        assert error.where
        assert (error.where.line, error.where.column) == (line, column)


def test_a_second_nat_is_refused_with_the_reason() -> None:
    indented = LAYOUT[LAYOUT.index("      name: inside") : LAYOUT.index("      static")]
    item = "      - {name: inside, internal_ip_interface_address_prefix: 172.20.0.0/24}\n"
    rest = LAYOUT[LAYOUT.index("      static") : LAYOUT.index("    vms:")]
    layout = LAYOUT.replace(indented + rest, item + item)
    with pytest.raises(InputErrors) as caught:
        load(layout)
    (error,) = caught.value.errors
    assert error.message == "a host has one NAT network, found 2"
    assert "undefined" in error.hint
    assert error.where
    assert error.where.line == 15
    with pytest.raises(InputErrors, match="leave out the brackets"):
        load(LAYOUT.replace(indented + rest, item))


def test_a_host_without_adapters_cannot_have_a_nat() -> None:
    layout = """
name: x
hosts:
  hv01: {nat: {name: n, internal_ip_interface_address_prefix: 10.0.0.0/24}, switches: {vs: {type: Private}}}
"""
    with pytest.raises(InputErrors, match="no adapter, so its NAT has no side"):
        load(layout)


def test_the_same_port_may_be_mapped_on_other_addresses_and_for_other_senders() -> None:
    def mapping(more: str) -> str:
        return f"        - {{protocol: TCP, external_port: 81, internal_ip_address: 172.20.0.11{more}}}"

    lines = [
        mapping(", external_ip_address: 192.168.1.5"),
        mapping(", external_ip_address: 192.168.1.6"),
        mapping(", remote_external_ip_address_prefix: 10.0.0.0/8"),
        mapping(", external_ip_address: 10.9.0.5").replace("TCP", "UDP"),
    ]
    layout = LAYOUT.replace(f"        - {MAPPING}", "\n".join(lines))
    assert len(nat(layout).mappings) == 4


def test_what_is_legal_and_leads_nowhere_is_a_warning() -> None:
    (warning,) = load(LAYOUT.replace("172.20.0.11}", "172.20.0.12}")).warnings
    assert warning == (
        "layout.yaml:17:11: the static mapping tcp/80 to 172.20.0.12:80 leads nowhere:"
        " nobody on 'hv01' has the address 172.20.0.12"
    )
    (warning,) = load(LAYOUT.replace(HOST, "{switch: vs-lan}")).warnings
    assert "layout.yaml:13:5: NAT 'inside' has no external side" in warning
    assert not load().warnings
