"""Probes between real guests: a client and a server with a router between them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.support.guest_sockets import socket_in
from tests.support.known import known
from tests.support.namespaces import Namespace
from vswitch.errors import LabError
from vswitch.lab.building.guest_services import GuestService, ServicesReply, plan_line
from vswitch.lab.probing.evidence import ProbeResult
from vswitch.lab.probing.guest_stack import next_hop
from vswitch.lab.probing.packet_probe import Cause, Outcome, ProbeRequest, WatchPoint, probe
from vswitch.lab.probing.probe_evidence import Evidence
from vswitch.model.types import TCP, UDP

pytestmark = pytest.mark.lab

ICMP, GRE = 1, 47
NFT = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin") or ""
needs_nft = pytest.mark.skipif(not NFT, reason="needs nft (package nftables)")
both = pytest.mark.parametrize("version", [4, 6])


def net(version: int, number: int, host: str) -> str:
    return f"10.{number}.0.{int(host, 16)}" if version == 4 else f"2001:db8:{number}::{host}"


class Lan:
    """client c0 - r0 router r1 - s0 server, IPv4 and IPv6; the server listens on tcp/80 and udp/53."""

    def __init__(self, new_namespace: Callable[[], Namespace]) -> None:
        self.client, self.router, self.server = (new_namespace() for _ in range(3))
        for space in (self.client, self.router, self.server):
            # The kernel sends a peer six ICMP errors in a row, then one a second.
            space.sysctl("ipv4/icmp_ratelimit", "0")
            space.sysctl("ipv6/icmp/ratelimit", "0")
        self.router.sysctl("ipv4/ip_forward", "1")
        self.router.sysctl("ipv6/conf/all/forwarding", "1")
        self.link(self.client, "c0", "r0", 1, "1")
        self.link(self.server, "s0", "r1", 2, "1")
        for version in (4, 6):
            plen = "16" if version == 4 else "48"
            for space, other in ((self.client, 2), (self.server, 1)):
                mine = 3 - other
                for number in (other, 3):  # network 3 is where the router knows no way
                    space.run(
                        *("ip", f"-{version}", "route", "add", f"{net(version, number, '0')}/{plen}"),
                        *("via", net(version, mine, "fe")),
                    )
            self.router.run(
                "ip", f"-{version}", "route", "add", "unreachable", f"{net(version, 3, '0')}/{plen}"
            )

    def link(self, space: Namespace, name: str, peer: str, number: int, host: str) -> None:
        space.run("ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", self.router.path)
        for end, interface, address in ((space, name, host), (self.router, peer, "fe")):
            end.sysctl(f"ipv6/conf/{interface}/accept_dad", "0")
            end.run("ip", "link", "set", interface, "up")
            end.run("ip", "address", "add", f"{net(4, number, address)}/24", "dev", interface)
            end.run("ip", "address", "add", f"{net(6, number, address)}/64", "dev", interface, "nodad")

    def ask(
        self, version: int, protocol: int, port: int | None = None, to: str = "", **more: Any
    ) -> ProbeRequest:
        options: dict[str, Any] = {"timeout": 0.4, "watch": self.watch} | more
        return ProbeRequest(
            netns=self.client.path,
            source=ip_address(net(version, 1, "1")),
            destination=ip_address(to or net(version, 2, "1")),
            protocol=protocol,
            port=port,
            **options,
        )

    @property
    def watch(self) -> tuple[WatchPoint, ...]:
        return (
            WatchPoint("client", self.client.path, "c0"),
            WatchPoint("server", self.server.path, "s0", at_destination=True),
        )


@pytest.fixture(scope="module")
def lan(new_namespace: Callable[[], Namespace]) -> Iterator[Lan]:
    lan = Lan(new_namespace)
    services = subprocess.Popen(
        [sys.executable, "-m", "vswitch.lab.building.guest_services"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        known(services.stdin).write(
            plan_line(
                [
                    GuestService("web01", lan.server.path, "tcp", 80),
                    GuestService("web01", lan.server.path, "udp", 53),
                ]
            )
        )
        known(services.stdin).flush()
        assert ServicesReply.parse(known(services.stdout).readline()) == ServicesReply(2)
        yield lan
    finally:
        services.communicate()


@contextmanager
def filter_in(space: Namespace, hook: str, rule: str) -> Iterator[None]:
    """An nftables rule in a guest, for a while."""
    space.run(NFT, "add", "table", "inet", "test")
    try:
        space.run(NFT, "add chain inet test c { type filter hook " + hook + " priority 0; }")
        space.run(NFT, f"add rule inet test c {rule}")
        yield
    finally:
        space.run(NFT, "delete", "table", "inet", "test")


def counts(result: ProbeResult, label: str) -> tuple[int, int, int]:
    seen = next(each for each in result.sightings if each.label == label)
    return seen.requests, seen.replies, seen.errors


@both
def test_tcp_open(lan: Lan, version: int) -> None:
    result = probe(lan.ask(version, TCP, 80))
    assert (result.outcome, result.cause) == (Outcome.OPEN, Cause.ANSWER)
    assert result.answer == "vswitch web01 tcp/80"
    assert result.sent == 1
    assert 0 < known(result.rtt) < 0.4
    for label in ("client", "server"):
        requests, replies, errors = counts(result, label)
        assert (requests, errors) == (1, 0)
        assert replies >= 2  # SYN+ACK, banner
    syn = next(frame for frame in result.sightings[1].frames if frame.packet and frame.packet.tcp_flags)
    packet = known(syn.packet)
    assert (syn.direction, packet.tcp_flags) == ("in", "S")
    assert (packet.source_port,) == result.source_ports
    assert f"answered tcp/80 in {known(result.rtt) * 1000:.1f} ms: vswitch web01" in result.detail


@both
def test_udp_open(lan: Lan, version: int) -> None:
    result = probe(lan.ask(version, UDP, 53))
    assert (result.outcome, result.cause) == (Outcome.OPEN, Cause.ANSWER)
    assert result.answer == "vswitch web01 udp/53"
    assert result.sent == 1
    assert counts(result, "server") == counts(result, "client") == (1, 1, 0)


@both
def test_icmp_open(lan: Lan, version: int) -> None:
    result = probe(lan.ask(version, ICMP))
    assert (result.outcome, result.cause) == (Outcome.OPEN, Cause.ANSWER)
    assert counts(result, "server") == counts(result, "client") == (1, 1, 0)
    assert known(result.rtt) > 0
    assert known(result.next_hop).address == ip_address(net(version, 1, "fe"))
    assert known(result.next_hop).interface == "c0"
    assert known(result.next_hop).mac


@both
def test_a_guest_reaches_itself(lan: Lan, version: int) -> None:
    request = lan.ask(version, TCP, 80, watch=())
    result = probe(replace(request, netns=lan.server.path, source=request.destination))
    assert result.outcome is Outcome.OPEN
    assert known(result.next_hop).state == "LOCAL"


@both
def test_a_silent_service_is_open_too(lan: Lan, version: int) -> None:
    with socket_in(lan.server.path, socket.AF_INET6) as silent:
        silent.bind(("::", 0))
        silent.listen()
        result = probe(lan.ask(version, TCP, silent.getsockname()[1]))
    assert (result.outcome, result.answer) == (Outcome.OPEN, "")


@both
def test_tcp_refused(lan: Lan, version: int) -> None:
    result = probe(lan.ask(version, TCP, 81))
    assert (result.outcome, result.cause, result.error) == (Outcome.REFUSED, Cause.RESET, "ECONNREFUSED")
    assert counts(result, "server") == counts(result, "client") == (1, 1, 0)
    assert result.detail.endswith("refused tcp/81 with a TCP reset")


@both
def test_udp_refused(lan: Lan, version: int) -> None:
    result = probe(lan.ask(version, UDP, 54))
    assert (result.outcome, result.cause) == (Outcome.REFUSED, Cause.ICMP)
    assert known(result.icmp).sender == ip_address(net(version, 2, "1"))
    assert known(result.icmp).text == "port unreachable"
    assert counts(result, "server") == counts(result, "client") == (1, 0, 1)


@needs_nft
@both
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (ICMP, None), (GRE, None)])
def test_filtered_on_the_way(lan: Lan, version: int, protocol: int, port: int | None) -> None:
    with filter_in(lan.router, "forward", "drop"):
        result = probe(lan.ask(version, protocol, port))
    assert (result.outcome, result.cause) == (Outcome.FILTERED, Cause.NO_ANSWER)
    assert result.sent == 2
    assert counts(result, "client") == (2, 0, 0)
    assert counts(result, "server") == (0, 0, 0)
    assert result.detail.endswith("requests seen at client, not at server")


@needs_nft
@both
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (ICMP, None)])
def test_arrived_but_not_answered(lan: Lan, version: int, protocol: int, port: int | None) -> None:
    echo = "icmp type echo-request" if version == 4 else "icmpv6 type echo-request"
    match = {TCP: "tcp dport 80", UDP: "udp dport 53", ICMP: echo}
    with filter_in(lan.server, "input", f"{match[protocol]} drop"):
        result = probe(lan.ask(version, protocol, port))
    assert result.outcome is Outcome.FILTERED
    assert counts(result, "client") == counts(result, "server") == (2, 0, 0)
    assert result.detail.endswith("requests seen at client, server")


@needs_nft
@both
def test_the_answer_is_lost_on_the_way(lan: Lan, version: int) -> None:
    with filter_in(lan.router, "forward", "tcp sport 80 drop"):
        result = probe(lan.ask(version, TCP, 80))
    assert result.outcome is Outcome.FILTERED
    assert counts(result, "client") == (2, 0, 0)
    requests, replies, _ = counts(result, "server")
    assert requests >= 2
    assert replies >= 2
    assert result.detail.endswith("requests seen at client, server; replies seen at server, not at client")


@needs_nft
def test_a_reset_on_behalf_of_the_destination_is_a_refusal(lan: Lan) -> None:
    with filter_in(lan.router, "forward", "meta l4proto tcp reject with tcp reset"):
        result = probe(lan.ask(4, TCP, 80))
    assert (result.outcome, result.cause) == (Outcome.REFUSED, Cause.RESET)
    assert counts(result, "server") == (0, 0, 0)  # the evidence that it was not the destination


@needs_nft
@both
def test_a_guest_that_rejects_refuses(lan: Lan, version: int) -> None:
    with filter_in(lan.server, "input", "tcp dport 80 reject with icmpx admin-prohibited"):
        result = probe(lan.ask(version, TCP, 80))
    assert (result.outcome, result.cause) == (Outcome.REFUSED, Cause.ICMP)
    assert known(result.icmp).text == "administratively prohibited"


@needs_nft
@pytest.mark.parametrize(("protocol", "port"), [(UDP, 53), (ICMP, None)])
def test_the_sources_own_firewall(lan: Lan, protocol: int, port: int | None) -> None:
    match = "udp dport 53" if protocol == UDP else "icmp type echo-request"
    with filter_in(lan.client, "output", f"{match} drop"):
        result = probe(lan.ask(4, protocol, port))
    assert (result.outcome, result.cause, result.error) == (Outcome.FILTERED, Cause.OWN_FIREWALL, "EPERM")


@both
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (ICMP, None), (GRE, None)])
def test_a_router_says_no(lan: Lan, version: int, protocol: int, port: int | None) -> None:
    result = probe(lan.ask(version, protocol, port, to=net(version, 3, "9")))
    assert (result.outcome, result.cause) == (Outcome.UNREACHABLE, Cause.ROUTER)
    assert known(result.icmp).sender == ip_address(net(version, 1, "fe"))
    assert known(result.icmp).text == ("host unreachable" if version == 4 else "no route")
    assert str(known(result.icmp).sender) in result.detail
    assert counts(result, "client") == (1, 0, 1)


@both
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (ICMP, None), (GRE, None)])
def test_no_neighbour(lan: Lan, version: int, protocol: int, port: int | None) -> None:
    nobody = net(version, 1, f"{protocol:x}")  # each test its own: a failed entry stays for a while
    if protocol == ICMP:
        nobody = net(version, 1, "77")
    result = probe(lan.ask(version, protocol, port, to=nobody))
    assert (result.outcome, result.cause) == (Outcome.UNREACHABLE, Cause.NEIGHBOUR)
    assert known(result.next_hop).state == "INCOMPLETE"
    assert counts(result, "client") == (0, 0, 0)
    assert result.sightings[0].asked >= 1
    assert result.sightings[0].answered == 0
    assert f"{nobody} did not answer" in result.detail


def test_the_stack_gives_the_neighbour_up(lan: Lan) -> None:
    """With more patience than the kernel has: after three requests it says so itself."""
    result = probe(lan.ask(4, TCP, 80, to="10.1.0.78", timeout=8, attempts=1))
    assert (result.outcome, result.cause) == (Outcome.UNREACHABLE, Cause.NEIGHBOUR)
    assert result.error == "EHOSTUNREACH"
    assert result.sightings[0].asked == 3
    assert known(result.next_hop).state == "FAILED"


def test_neighbour_resolution_is_seen(lan: Lan) -> None:
    lan.client.run("ip", "neighbour", "flush", "dev", "c0")
    result = probe(lan.ask(4, ICMP))
    assert (result.sightings[0].asked, result.sightings[0].answered) == (1, 1)


@both
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (ICMP, None), (GRE, None)])
def test_no_route(lan: Lan, version: int, protocol: int, port: int | None) -> None:
    far = "203.0.113.1" if version == 4 else "2001:db9::1"
    result = probe(lan.ask(version, protocol, port, to=far))
    assert (result.outcome, result.cause, result.error) == (
        Outcome.UNREACHABLE,
        Cause.NO_ROUTE,
        "ENETUNREACH",
    )
    assert result.next_hop is None
    assert result.sent == 0
    assert "no route" in result.detail


@both
@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_routes_that_lead_nowhere(lan: Lan, version: int, kind: str) -> None:
    route = ("203.0.113.0/24", "203.0.113.9") if version == 4 else ("2001:db9::/64", "2001:db9::9")
    lan.client.run("ip", f"-{version}", "route", "add", kind, route[0])
    try:
        for protocol, port in ((TCP, 80), (UDP, 53), (ICMP, None)):
            result = probe(lan.ask(version, protocol, port, to=route[1]))
            assert (result.outcome, result.cause) == (Outcome.UNREACHABLE, Cause.NO_ROUTE), protocol
    finally:
        lan.client.run("ip", f"-{version}", "route", "del", kind, route[0])


@both
@pytest.mark.parametrize("protocol", [GRE, 50, 132, 255])
def test_other_protocols_are_delivered(lan: Lan, version: int, protocol: int) -> None:
    result = probe(lan.ask(version, protocol))
    assert result.outcome is Outcome.DELIVERED
    assert counts(result, "server")[0] == 1
    assert str(result.request) == f"ip/{protocol}"


@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (TCP, 81)])
def test_a_source_port_can_be_chosen_again_and_again(lan: Lan, protocol: int, port: int) -> None:
    for _ in range(3):
        result = probe(lan.ask(4, protocol, port, source_port=40_000 + port))
        assert result.outcome is (Outcome.REFUSED if port == 81 else Outcome.OPEN)
        assert result.source_ports == (40_000 + port,)
        assert counts(result, "server")[0] == 1


@needs_nft
def test_a_chosen_source_port_is_kept_while_asking_again(lan: Lan) -> None:
    with filter_in(lan.router, "forward", "drop"):
        result = probe(lan.ask(4, TCP, 80, source_port=41_000, attempts=4))
    assert (result.outcome, result.sent, result.source_ports) == (Outcome.FILTERED, 4, (41_000,))
    assert counts(result, "client") == (4, 0, 0)


@needs_nft
def test_what_the_kernel_sends_again_is_counted(lan: Lan) -> None:
    with filter_in(lan.router, "forward", "drop"):
        result = probe(lan.ask(4, TCP, 80, timeout=1.6, attempts=1))
    assert result.sent == 2
    assert counts(result, "client") == (2, 0, 0)


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_source_port_in_use(lan: Lan, protocol: int) -> None:
    kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
    with socket_in(lan.client.path, socket.AF_INET, kind) as other:
        other.bind(("", 42_000))
        if protocol == TCP:
            other.listen()
        with pytest.raises(LabError, match="source port 42000 is in use"):
            probe(lan.ask(4, protocol, 80, source_port=42_000))


def test_questions_that_cannot_be_asked(lan: Lan, tmp_path: Path) -> None:
    fine = lan.ask(4, TCP, 80)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"source": ip_address("10.9.9.9")}, "10.9.9.9 is not an address of the source guest"),
        ({"interface": "eth7"}, "no interface eth7"),
        ({"netns": str(tmp_path / "gone")}, "no network namespace"),
        ({"watch": (WatchPoint("x", lan.client.path, "eth7"),)}, "no interface eth7"),
    ]
    for change, message in refused:
        with pytest.raises(LabError, match=message):
            probe(replace(fine, **change))
    with pytest.raises(LabError, match="IP protocol 0 cannot be sent"):
        probe(lan.ask(4, 0))
    contradictions: list[dict[str, Any]] = [
        {"port": None},
        {"source": ip_address("::1")},
        {"destination": ip_address("224.0.0.1")},
        {"attempts": 0},
        {"protocol": GRE, "watch": ()},
    ]
    for change in contradictions:
        with pytest.raises(ValueError):  # noqa: PT011  each has its own words
            replace(fine, **change)


def link_local(space: Namespace, interface: str) -> str:
    """The interface's own link-local address."""
    line = space.run("ip", "-6", "-oneline", "address", "show", "dev", interface, "scope", "link")
    return line.split("inet6 ")[1].split("/")[0]


def test_an_interface_can_be_named_and_link_local_addresses_work(lan: Lan) -> None:
    own, routers = link_local(lan.client, "c0"), link_local(lan.router, "r0")
    for to, more in ((routers, {"interface": "c0"}), (f"{routers}%c0", {})):
        for protocol, port, outcome in (
            (ICMP, None, Outcome.OPEN),
            (TCP, 9, Outcome.REFUSED),
            (UDP, 9, Outcome.REFUSED),
        ):
            request = lan.ask(6, protocol, port, to=to, watch=(lan.watch[0],), **more)
            result = probe(replace(request, source=ip_address(own)))
            assert result.outcome is outcome
            assert counts(result, "client")[0] == 1


@needs_nft
def test_many_at_once_do_not_mix_up(lan: Lan) -> None:
    expected: dict[tuple[int, int | None], Outcome] = {
        (TCP, 80): Outcome.OPEN,
        (TCP, 81): Outcome.REFUSED,
        (TCP, 82): Outcome.FILTERED,
        (UDP, 53): Outcome.OPEN,
        (UDP, 54): Outcome.REFUSED,
        (UDP, 82): Outcome.FILTERED,
        (ICMP, None): Outcome.OPEN,
        (GRE, None): Outcome.DELIVERED,
    }
    questions = [(version, *traffic) for version in (4, 6) for traffic in expected] * 6
    with filter_in(lan.router, "forward", "th dport 82 drop"), ThreadPoolExecutor(24) as pool:
        # Less than the second after which the kernel sends a SYN again, just as the probe ends.
        results = list(pool.map(lambda each: probe(lan.ask(*each, timeout=0.8)), questions))
    for (_, protocol, port), result in zip(questions, results, strict=True):
        assert result.outcome is expected[protocol, port], result.detail
        assert counts(result, "client")[0] == result.sent
        assert counts(result, "server")[0] == (0 if result.outcome is Outcome.FILTERED else result.sent)


@both
def test_results_are_plain_data(lan: Lan, version: int) -> None:
    result = probe(lan.ask(version, UDP, 54))
    data = json.loads(json.dumps(Evidence.of(result).to_dict()))
    assert data["outcome"] == "refused"
    assert data["traffic"] == "udp/54"
    assert data["sightings"][1]["requests"] == 1
    assert any("udp" in line for line in data["sightings"][1]["frames"])


@both
def test_next_hops(lan: Lan, version: int) -> None:
    path, plain = lan.client.path, ip_address(net(version, 1, "fe"))
    probe(lan.ask(version, ICMP, to=str(plain)))
    for destination in (plain, ip_address(net(version, 2, "1"))):
        hop = known(next_hop(path, destination))
        assert (hop.address, hop.interface) == (plain, "c0")
        assert hop.state in ("REACHABLE", "DELAY", "STALE")
        assert known(hop.mac) in lan.router.run("ip", "link", "show", "r0")
    assert known(next_hop(path, ip_address(net(version, 1, "1")))).state == "LOCAL"
    assert known(next_hop(path, ip_address(net(version, 1, "99")))).state == "NONE"
    assert next_hop(path, ip_address("198.51.100.1" if version == 4 else "2001:db9::1")) is None
