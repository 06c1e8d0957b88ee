"""A host's NAT network comes into the layout; what it cannot have is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host.host import blank_state
from tests.support.modelled_host.states import EXTERNAL, INTERNAL, adapter, switch, vm
from tests.support.running_lab import running_lab
from vswitch.hyperv.host.host_state import read_state
from vswitch.hyperv.importing.importer import Imported, import_hosts
from vswitch.model import load_site
from vswitch.model.site import Nat, Site


def mapping(port: int, internal: str = "172.20.0.11", **fields: Any) -> dict[str, Any]:
    """A static mapping as it reads back."""
    return {
        "Protocol": "TCP",
        "ExternalIPAddress": "0.0.0.0",
        "ExternalPort": port,
        "InternalIPAddress": internal,
        "InternalPort": 80,
        "RemoteExternalIPAddressPrefix": "",
    } | fields


def nat(*mappings: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A NAT network as it reads back when it is fresh (§6)."""
    return {
        "Name": "MyNAT",
        "InternalIPInterfaceAddressPrefix": "172.20.0.0/16",
        "ExternalIPInterfaceAddressPrefix": "0.0.0.0/0",
        "TcpFilteringBehavior": "AddressDependentFiltering",
        "UdpFilteringBehavior": "AddressDependentFiltering",
        "IcmpQueryTimeout": 30,
        "TcpEstablishedConnectionTimeout": 1800,
        "TcpTransientConnectionTimeout": 120,
        "UdpIdleSessionTimeout": 120,
        "mappings": list(mappings),
    } | fields


def state(*nats: dict[str, Any], inside: str = "172.20.0.1", outside: str = "192.168.1.5") -> dict[str, Any]:
    """A host with a VM behind its NAT, as exported."""
    found = blank_state("HV01")
    found["switches"] = [switch("lan", EXTERNAL), switch("vs-other", INTERNAL), switch("vs-nat", INTERNAL)]
    found["vms"] = [vm("web01")]
    found["adapters"] = [
        adapter(None, "lan", 1, *([outside] if outside else []), name="lan"),
        adapter(None, "vs-other", 2, name="vs-other"),
        adapter(None, "vs-nat", 3, *([inside] if inside else []), name="vs-nat"),
        adapter("web01", "vs-nat", 4, "172.20.0.11"),
    ]
    found["nats"] = list(nats)
    return found


def imported(document: dict[str, Any]) -> Imported:
    return import_hosts([("hv01", read_state(document))], layout_file="lab.yaml", policy_file="policy.yaml")


def load(found: Imported) -> Site:
    return load_site("lab.yaml", read={"lab.yaml": found.layout, "policy.yaml": found.policy}.__getitem__)


def nat_of(found: Imported) -> Nat:
    nat = load(found).guest["hv01"].nat
    assert nat
    return nat


def test_a_fresh_nat_needs_no_comment() -> None:
    found = imported(state(nat(mapping(8080), mapping(443, InternalPort=443, Protocol="UDP"))))
    assert found.notes == ()
    made = nat_of(found)
    assert (made.name, str(made.internal), list(map(str, made.external))) == (
        "MyNAT",
        "172.20.0.0/16",
        ["192.168.1.5"],
    )
    assert list(map(str, made.mappings)) == ["tcp/8080 to 172.20.0.11:80", "udp/443 to 172.20.0.11:443"]
    assert "timeout" not in found.layout
    assert "external_ip_interface_address_prefix" not in found.layout
    guest = load(found).guest["web01"]
    assert list(map(str, guest.addresses)) == ["172.20.0.11/16"]  # the NAT's own prefix length, not a guess
    assert guest.gateways == ("172.20.0.1",)


def test_settings_that_differ() -> None:
    changed = nat(
        mapping(
            22,
            ExternalIPAddress="192.168.1.5",
            InternalIPAddress="172.20.0.11/32",
            InternalPort=0,
            RemoteExternalIPAddressPrefix="10.0.0.0/8",
            Protocol=6,
        ),
        Name="a/b: 'x'\u0007",
        ExternalIPInterfaceAddressPrefix="192.168.1.0/24",
        UdpFilteringBehavior="EndpointIndependentFiltering",
        UdpIdleSessionTimeout=300,
    )
    made = nat_of(imported(state(changed)))
    (one,) = made.mappings
    assert (str(one), str(one.external_address), str(one.remote)) == (
        "tcp/22 to 172.20.0.11:22",
        "192.168.1.5",
        "10.0.0.0/8",
    )
    assert (made.name, made.udp_idle_session_timeout) == ("a-b: 'x'-", 300)
    assert (str(made.udp_filtering), str(made.tcp_filtering)) == (
        "EndpointIndependentFiltering",
        "AddressDependentFiltering",
    )


@pytest.mark.parametrize(
    ("nats", "words"),
    [
        ([nat(), nat(Name="docker")], "NAT docker: internal prefix 172.20.0.0/16: left out: Windows leaves"),
        (
            [nat(InternalIPInterfaceAddressPrefix="")],
            "MyNAT: internal prefix : left out: its internal prefix",
        ),
        ([nat(InternalIPInterfaceAddressPrefix="10.9.0.0/24")], "10.9.0.1 on vs-nat is assumed"),
        (
            [nat(mapping(1, "10.9.9.9"))],
            "static mapping TCP 0.0.0.0:1 to 10.9.9.9:80: left out: 10.9.9.9 is not",
        ),
        ([nat(mapping(1, ExternalIPAddress="192.168.1.9"))], "192.168.1.9 is no known address of the host"),
        ([nat(mapping(1), mapping(1))], "another mapping has its port"),
        ([nat(mapping(1, Protocol="GRE"))], "only TCP and UDP ports can be mapped"),
        ([nat(mapping(1, RemoteExternalIPAddressPrefix="2001:db8::/32"))], "is no IPv4 prefix"),
        (
            [nat(ExternalIPInterfaceAddressPrefix="10.0.0.0/8")],
            "no known address of the host is in 10.0.0.0/8",
        ),
    ],
)
def test_what_cannot_be_had_is_a_comment_and_a_note(nats: list[dict[str, Any]], words: str) -> None:
    found = imported(state(*nats))
    (note,) = found.notes
    assert note.startswith("hv01: NAT ")
    assert words in note
    assert f"# {note.removeprefix('hv01: ')}" in found.layout
    load(found)


def test_an_address_the_host_does_not_tell_is_assumed() -> None:
    """On the Internal switch whose guests are behind the NAT."""
    found = imported(state(nat(), inside=""))
    assert [note for note in found.notes if "172.20.0.1 on vs-nat is assumed" in note]
    site = load(found)
    assert [str(each) for each in site.guest["hv01"].addresses] == ["192.168.1.5/24", "172.20.0.1/16"]
    assert site.guest["web01"].gateways == ("172.20.0.1",)


def test_the_hosts_own_addresses_come_from_its_network_stack() -> None:
    """Hyper-V does not tell them; MAC addresses lead from one to the other."""
    document = state(nat(), inside="", outside="")
    told = [
        ("00-15-5D-0A-00-01", "192.168.1.5", 25),
        ("00155D0A0003", "172.20.0.1", 24),
        ("00-15-5D-0A-00-03", "fe80::1%12", 64),
        ("00-15-5D-0A-00-02", "10.7.0.0", 16),  # no interface's with this length
        ("00-15-5D-0A-00-04", "10.8.0.1", 16),  # the MAC of a VM: not the host's own
        ("C0-00-02-01", "10.9.0.1", 16),
        ("", "127.0.0.1", 8),
    ]
    names = ("MacAddress", "IPAddress", "PrefixLength")
    document["addresses"] = [dict(zip(names, each, strict=True)) for each in told]
    found = imported(document)
    assert found.notes == ()
    site = load(found)
    assert list(map(str, site.guest["hv01"].addresses)) == ["192.168.1.5/25", "172.20.0.1/24", "10.7.0.0/15"]
    assert list(map(str, nat_of(found).external)) == ["192.168.1.5", "10.7.0.0"]
    assert list(map(str, site.guest["web01"].addresses)) == ["172.20.0.11/24"]  # as the host's on that switch
    assert site.guest["web01"].gateways == ("172.20.0.1",)


def test_a_host_that_tells_nothing_of_its_outside() -> None:
    found = imported(state(nat(), outside=""))
    assert [note for note in found.notes if "nothing gets out" in note]
    assert nat_of(found).external == ()


def test_a_host_without_adapters_has_no_nat() -> None:
    document = state(nat()) | {"adapters": [], "switches": [], "vms": []}
    found = imported(document)
    assert [note for note in found.notes if "no address in 172.20.0.0/16" in note]
    assert "    nat:" not in found.layout


texts = st.sampled_from(
    ["", "0.0.0.0", "172.20.0.0", "172.20.0.1", "172.20.0.11", "192.168.1.5", "junk", "::1"]
)
prefixes = st.sampled_from(
    ["", "172.20.0.0/24", "172.20.0.1/32", "192.168.1.0/24", "0.0.0.0/0", "::/0", "junk"]
)
mappings = st.builds(
    mapping,
    st.sampled_from([0, 1, 80, 70000]),
    texts,
    Protocol=st.sampled_from(["TCP", "UDP", "6", "", "x"]),
    ExternalIPAddress=texts,
    InternalPort=st.sampled_from([0, 80, 70000, -1]),
    RemoteExternalIPAddressPrefix=prefixes,
)
nats = st.builds(
    lambda found, **fields: nat(*found, **fields),
    st.lists(mappings, max_size=3),
    Name=st.sampled_from(["", "/", "\u0007", " x ", "n" * 200, "null"]),
    InternalIPInterfaceAddressPrefix=prefixes,
    ExternalIPInterfaceAddressPrefix=prefixes,
    UdpIdleSessionTimeout=st.sampled_from([0, 5, "junk", 10**12]),
)


@given(st.lists(nats, max_size=2), texts, texts)
def test_whatever_it_is_what_is_imported_loads(several: list[Any], inside: str, outside: str) -> None:
    load(imported(state(*several, inside=inside, outside=outside)))


@pytest.mark.lab
@pytest.mark.requires("nft")
def test_what_is_imported_runs_as_a_lab_and_a_vm_gets_out() -> None:
    found = imported(state(nat(mapping(8080))))
    assert "  lan: {vlans: []}" in found.layout
    client = "  lan: {vlans: [], clients: {client: {addresses: 192.168.1.50/24, services: [http]}}}"
    layout = found.layout.replace("  lan: {vlans: []}", client)
    layout = layout.replace("        # services: []", "        services: [http]")
    with running_lab(layout, {"policy.yaml": found.policy}) as lab:
        assert lab.probe("web01", "client", "http") == "open"
        assert lab.probe("client", "hv01", "tcp/8080") == "open"
        assert lab.probe("client", "web01", "http", patience=0.4) in ("filtered", "unreachable")
