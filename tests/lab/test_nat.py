"""A host's NAT network with real packets: sessions, filtering, mappings, and what stays outside of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.running_lab import RunningLab, Talker, running_lab
from vswitch.errors import EnvironmentError_
from vswitch.lab.building import nat_tables as nat
from vswitch.model import load_site

pytestmark = [pytest.mark.lab, pytest.mark.requires("nft")]

LAYOUT = """
name: nat
networks:
  lan:
    clients:
      client: {addresses: [192.168.1.50/24], routes: {172.20.0.0/24: 192.168.1.5}, services: [http]}
      other: {addresses: [192.168.1.60/24]}
hosts:
  hv01:
    switches: {vs-lan: {type: External, network: lan}, vs-nat: {type: Internal}, vs-nat2: {type: Internal}}
    management_os:
      adapters:
        - {switch: vs-lan, addresses: [192.168.1.5/24]}
        - {switch: vs-nat, addresses: [172.20.0.1/26, 172.20.0.65/26]}
        - {switch: vs-nat2, addresses: [172.20.0.129/25]}
    nat:
      name: inside
      internal_ip_interface_address_prefix: 172.20.0.0/24
      udp_idle_session_timeout: 77
      static_mappings:
        - {protocol: TCP, external_port: 8080, internal_ip_address: 172.20.0.11, internal_port: http}
        - {protocol: TCP, external_port: 8081, internal_ip_address: 172.20.0.12, internal_port: http}
    vms:
      d:
        adapters: [{switch: vs-nat, addresses: [172.20.0.12/26]}]
        gateway: 172.20.0.1
        services: [http]
      a:
        adapters: [{switch: vs-nat, addresses: [172.20.0.11/26]}]
        gateway: 172.20.0.1
        services: [http]
      c:
        adapters: [{switch: vs-nat, addresses: [172.20.0.70/26]}]
        gateway: 172.20.0.65
        services: [http]
      b:
        adapters: [{switch: vs-nat2, addresses: [172.20.0.130/25]}]
        gateway: 172.20.0.129
        services: [http]
"""
POLICY = "extended_acls: [{name: nothing, adapters: d, direction: Inbound, action: Deny}]"
TABLES = "table ip vswitch_nat"
OPEN = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", int(sys.argv[1])))
sock.settimeout(0.5)
print("bound")
for line in sys.stdin:
    word, *rest = line.split()
    if word == "send":
        sock.sendto(rest[2].encode(), (rest[0], int(rest[1])))
        print("sent")
    else:
        try:
            data, peer = sock.recvfrom(100)
            print(data.decode(), *peer)
        except TimeoutError:
            print("silence")
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT, {"closed.yaml": POLICY}) as lab:
        yield lab


def talk(lab: RunningLab, guest: str, port: int) -> Any:
    """A UDP socket in a guest, to be told `send ADDRESS PORT WORD` or `hear`."""
    return lab.python(guest, OPEN, str(port))


def ready(talker: Talker) -> Talker:
    assert talker.hear() == "bound"
    return talker


def run(lab: RunningLab, guest: str, *argv: str) -> str:
    process = lab.popen(guest, *argv)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return output


def sessions(lab: RunningLab) -> str:
    return run(lab, "hv01", "nft", "list", "ruleset")


def admitted(lab: RunningLab) -> dict[str, str]:
    """What comes through to a's session with client: from another port of it, and from another machine."""
    found = {}
    with (
        talk(lab, "a", 41000) as inside,
        talk(lab, "client", 42000) as server,
        talk(lab, "client", 42001) as same,
        talk(lab, "other", 42000) as stranger,
        talk(lab, "client", 42002) as early,
    ):
        for each in (inside, server, same, stranger, early):
            ready(each)
        early.say("send 192.168.1.5 41000 early")
        assert inside.say("hear") == "silence"  # no session, no way in
        inside.say("send 192.168.1.50 42000 hello")
        assert server.say("hear") == "hello 192.168.1.5 41000"
        server.say("send 192.168.1.5 41000 answer")
        assert inside.say("hear") == "answer 192.168.1.50 42000"
        for name, talker in (("same", same), ("stranger", stranger)):
            talker.say(f"send 192.168.1.5 41000 {name}")
            found[name] = inside.say("hear").split()[0]
        inside.say("send 192.168.1.50 42001 back")
        assert same.say("hear") == "back 192.168.1.5 41000"
    return found


def test_an_open_session_admits_the_address_it_was_opened_to(lab: RunningLab) -> None:
    lab.call("forget")
    assert admitted(lab) == {"same": "same", "stranger": "silence"}


def test_endpoint_independent_filtering_admits_everybody() -> None:
    key = "udp_filtering_behavior: EndpointIndependentFiltering"
    with running_lab(LAYOUT.replace("name: inside\n", f"name: inside\n      {key}\n")) as lab:
        assert admitted(lab) == {"same": "same", "stranger": "stranger"}


def test_an_idle_session_admits_nobody() -> None:
    """Symptom 48 of §9: after the timeout the server's datagrams find no way in."""
    with (
        running_lab(LAYOUT.replace("timeout: 77", "timeout: 2")) as lab,
        talk(lab, "a", 41000) as inside,
        talk(lab, "client", 42000) as server,
    ):
        ready(inside), ready(server)
        inside.say("send 192.168.1.50 42000 hello")
        assert server.say("hear") == "hello 192.168.1.5 41000"
        server.say("send 192.168.1.5 41000 soon")
        assert inside.say("hear") == "soon 192.168.1.50 42000"
        time.sleep(6)
        server.say("send 192.168.1.5 41000 late")
        assert inside.say("hear") == "silence"


def test_forgetting_ends_sessions(lab: RunningLab) -> None:
    assert lab.probe("a", "client", "http") == "open"
    assert "172.20.0.11" in sessions(lab).partition("chain prerouting")[0]
    lab.call("forget")
    assert "172.20.0.11" not in sessions(lab).partition("chain prerouting")[0]
    assert lab.probe("a", "client", "http") == "open"


def test_a_host_passes_on_nothing_but_what_it_translates(lab: RunningLab) -> None:
    """The client has a route to the prefix behind the NAT, by way of the host; it does not help."""
    assert lab.probe("client", "a", "http", patience=0.4) == "filtered"
    assert lab.probe("client", "a", "icmp", patience=0.4) == "filtered"
    assert lab.probe("client", "hv01", "tcp/8080") == "open"
    assert lab.probe("a", "b", "http", patience=0.4) == "filtered"  # §6: no routing between its subnets
    assert lab.probe("b", "client", "http") == "open"


def test_a_host_does_not_show_machines_the_way_around_it(lab: RunningLab) -> None:
    """Two subnets on one switch: an ICMP redirect would tell of a way past the NAT."""
    assert lab.probe("a", "c", "http", patience=0.4) == "filtered"
    lines = run(lab, "hv01", "cat", "/proc/net/snmp").splitlines()
    names, numbers = (line.split() for line in lines if line.startswith("Icmp:"))
    assert dict(zip(names, numbers, strict=True))["OutRedirects"] == "0"


def test_the_reference_says_the_same(lab: RunningLab) -> None:
    for source, destination, traffic, layer in (
        ("client", "a", "http", "NAT"),
        ("client", "a", "icmp", "NAT"),
        ("a", "b", "http", "NAT"),
        ("a", "client", "ip/47", "NAT"),
        ("b", "client", "tcp/81", "service"),
        ("client", "hv01", "udp/9", "NAT"),
    ):
        found = lab.call("probe", source=source, destination=destination, traffic=traffic, patience=0.4)
        assert found["agrees"], found
        assert [report["layer"] for report in found["reports"]] == [layer]
        told = lab.call("explain", source=source, destination=destination, traffic=traffic)
        assert told["agrees"], told


def test_a_probe_sees_its_packets_on_both_sides_of_a_nat(lab: RunningLab) -> None:
    for source, destination, traffic, places in (
        ("a", "client", "http", ["a (eth0)", "client (eth0)"]),
        ("client", "hv01", "tcp/8080", ["client (eth0)", "hv01 (eth0)", "a (eth0)"]),
    ):
        (report,) = lab.call("probe", source=source, destination=destination, traffic=traffic)["reports"]
        seen = report["evidence"]["sightings"]
        assert [each["label"] for each in seen] == places
        assert all(each["requests"] and each["replies"] for each in seen), seen


def test_a_probe_sees_where_its_packets_come_in_and_where_a_mapping_leads(lab: RunningLab) -> None:
    for source, destination, traffic, places in (
        # By the adapter on its own side, though the address is another one's.
        ("a", "hv01/192.168.1.5", "tcp/8080", {"a (eth0)": True, "hv01 (eth0)": False, "hv01 (eth1)": True}),
        ("client", "hv01", "tcp/8081", {"client (eth0)": True, "hv01 (eth0)": True, "d (eth0)": False}),
    ):
        asked = {"source": source, "destination": destination, "traffic": traffic, "patience": 0.4}
        (report,) = lab.call("probe", **asked)["reports"]
        assert report["agrees"], report
        seen = report["evidence"]["sightings"]
        assert {each["label"]: each["requests"] > 0 for each in seen} == places


def test_nothing_outside_of_the_host_is_touched(lab: RunningLab) -> None:
    assert TABLES in sessions(lab)
    for guest in ("a", "client"):
        assert not run(lab, guest, "nft", "list", "ruleset").strip()
        assert run(lab, guest, "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    assert run(lab, "hv01", "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"
    here = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    assert TABLES not in here.stdout


def test_sessions_end_as_the_layout_says(lab: RunningLab) -> None:
    folder = "/proc/sys/net/netfilter/nf_conntrack_"
    for name, seconds in (
        ("udp_timeout", 77),
        ("udp_timeout_stream", 77),
        ("tcp_timeout_established", 1800),
        ("tcp_timeout_syn_sent", 120),
        ("icmp_timeout", 30),
    ):
        assert run(lab, "hv01", "cat", folder + name).strip() == str(seconds)


def one_of_two(host: str, address: str, mac: str) -> str:
    """A host with a NAT, whose prefix and VM are as the other host's."""
    return f"""
  {host}:
    switches: {{vs-lan: {{type: External, network: lan}}, vs-nat: {{type: Internal}}}}
    management_os:
      adapters:
        - {{switch: vs-lan, addresses: [{address}/24], mac: 00-15-5D-{mac}-00-01}}
        - {{switch: vs-nat, addresses: [172.20.0.1/24], mac: 00-15-5D-{mac}-00-02}}
    nat:
      name: inside
      internal_ip_interface_address_prefix: 172.20.0.0/24
      static_mappings:
        - {{protocol: TCP, external_port: 8080, internal_ip_address: 172.20.0.11, internal_port: http}}
    vms:
      vm-{host}:
        adapters: [{{switch: vs-nat, addresses: [172.20.0.11/24], mac: 00-15-5D-{mac}-00-03}}]
        gateway: 172.20.0.1
        services: [http]"""


TWO = (
    "name: two\nnetworks: {lan: {clients: {client: {addresses: [192.168.1.50/24], services: [http]}}}}"
    + "\nhosts:"
    + one_of_two("hv01", "192.168.1.5", "AA")
    + one_of_two("hv02", "192.168.1.6", "BB")
)


def test_two_nats_of_one_prefix_and_a_host_that_speaks_as_its_inside() -> None:
    with running_lab(TWO) as lab:
        for source, destination, traffic, outcome, layer in (
            ("vm-hv01", "hv02", "tcp/8080", "open", None),
            ("vm-hv02", "hv01", "tcp/8080", "open", None),
            ("vm-hv01", "hv02", "tcp/8081", "refused", "NAT"),
            ("hv01/172.20.0.1", "client", "http", "open", None),
            ("hv01/172.20.0.1", "client", "icmp", "open", None),
            ("hv01", "hv02", "tcp/8080", "open", None),
        ):
            found = lab.call("probe", source=source, destination=destination, traffic=traffic)
            (report,) = found["reports"]
            assert (report["outcome"], report["agrees"], report["layer"]) == (outcome, True, layer), report
            assert report["evidence"]["sightings"][-1]["requests"], report["evidence"]
        (report,) = lab.call("probe", source="vm-hv01", destination="hv02", traffic="tcp/8080")["reports"]
        labels = [each["label"] for each in report["evidence"]["sightings"]]
        assert labels == ["vm-hv01 (eth0)", "hv02 (eth0)", "vm-hv02 (eth0)"]


def test_without_nft_the_lab_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    found = load_site("lab.yaml", read={"lab.yaml": LAYOUT}.__getitem__).guest["hv01"].nat
    assert found
    with pytest.raises(EnvironmentError_, match="nft is not installed") as refused:
        nat.install(found, ())
    assert "nftables" in refused.value.hint
