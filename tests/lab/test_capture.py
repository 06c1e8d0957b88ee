"""Captures in namespaces, and what frames say."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.guest_sockets import socket_in
from tests.support.known import known
from tests.support.namespaces import Namespace
from vswitch.errors import LabError
from vswitch.lab.probing.capture import Capture, Match
from vswitch.lab.probing.captured_frames import Seen, parse_frame
from vswitch.model.types import TCP, UDP

lab = pytest.mark.lab

MACS = bytes.fromhex("02000000000b02000000000a")
Address = IPv4Address | IPv6Address
Wire = tuple[Namespace, Namespace]

V4: list[Address] = [ip_address(f"192.0.2.{n}") for n in (1, 2, 3)]
V6: list[Address] = [ip_address(f"2001:db8::{n}") for n in (1, 2, 3)]


def ip_packet(source: Address, destination: Address, protocol: int, body: bytes) -> bytes:
    if source.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    else:
        header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
    return header + source.packed + destination.packed + body


def ip_frame(
    source: Address, destination: Address, protocol: int, body: bytes = b"\x00\x50\x00\x51" + bytes(16)
) -> bytes:
    ethertype = b"\x08\x00" if source.version == 4 else b"\x86\xdd"
    return MACS + ethertype + ip_packet(source, destination, protocol, body)


def arp_frame(operation: int, sender: Address, target: Address) -> bytes:
    return (
        MACS
        + bytes.fromhex("0806000108000604")
        + struct.pack("!H", operation)
        + MACS[6:]
        + sender.packed
        + bytes(6)
        + target.packed
    )


def test_what_an_icmp_error_quotes() -> None:
    for ends, icmp, body in ((V4, 1, b"\x03\x01"), (V6, 58, b"\x01\x03")):
        lost = ip_packet(ends[0], ends[1], UDP, struct.pack("!HHHH", 4000, 53, 8, 0))
        packet = parse_frame(ip_frame(ends[2], ends[0], icmp, body + bytes(6) + lost)).packet
        assert packet is not None
        assert (packet.source, packet.icmp_type, packet.icmp_code) == (ends[2], *body)
        quoted = known(packet.quoted)
        assert (quoted.source, quoted.destination, quoted.protocol) == (ends[0], ends[1], UDP)
        assert (quoted.source_port, quoted.destination_port) == (4000, 53)
        error = body + bytes(6) + ip_packet(ends[2], ends[0], icmp, body + bytes(6) + lost)
        again = known(parse_frame(ip_frame(ends[2], ends[0], icmp, error)).packet)
        assert known(again.quoted).quoted is None


def test_neighbour_frames() -> None:
    assert parse_frame(arp_frame(1, V4[0], V4[1])).asks == V4[1]
    assert parse_frame(arp_frame(2, V4[0], V4[1])).tells == V4[0]
    assert parse_frame(arp_frame(1, V4[0], V4[0])).tells == V4[0]  # an announcement
    for kind, name in ((135, "asks"), (136, "tells")):
        frame = parse_frame(ip_frame(V6[0], V6[1], 58, bytes([kind, 0]) + bytes(6) + V6[2].packed))
        assert getattr(frame, name) == V6[2]


def test_tags_fragments_and_flags() -> None:
    plain = ip_frame(V4[0], V4[1], TCP, struct.pack("!HHIIBB", 1, 2, 0, 0, 0x50, 0x12) + bytes(6))
    tagged = plain[:12] + bytes.fromhex("810000 64") + plain[12:]
    for raw in (plain, tagged):
        packet = known(parse_frame(raw).packet)
        assert (packet.source_port, packet.destination_port, packet.tcp_flags) == (1, 2, "SA")
    fragment = bytearray(plain)
    fragment[21] = 5
    assert known(parse_frame(bytes(fragment)).packet).source_port is None


@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    """Neither noise nor true frames cut short."""
    noise = data.draw(st.binary(max_size=120))
    kind = data.draw(st.sampled_from(["", "0800", "0806", "86dd", "8100"]))
    quoting = ip_frame(V6[0], V6[1], 58, b"\x01\x00" + bytes(6) + ip_packet(V6[1], V6[0], TCP, noise))
    for raw in (MACS + bytes.fromhex(kind) + noise, quoting[: data.draw(st.integers(0, len(quoting)))]):
        assert str(parse_frame(raw, 1.5, Seen.OUTGOING)).startswith("1.500000 out")


@pytest.fixture(scope="module")
def wire(new_namespace: Callable[[], Namespace]) -> Wire:
    """Two namespaces with ends `w0` and `w1`, without IPv6 of their own so that nothing stirs."""
    one, other = new_namespace(), new_namespace()
    for space in (one, other):
        space.sysctl("ipv6/conf/default/disable_ipv6", "1")
    one.run("ip", "link", "add", "w0", "type", "veth", "peer", "name", "w1", "netns", other.path)
    for space, name in ((one, "w0"), (other, "w1")):
        space.run("ip", "link", "set", name, "up")
    return one, other


@pytest.fixture
def send(wire: Wire) -> Iterator[Callable[[bytes], int]]:
    with socket_in(wire[0].path, socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("w0", 0))
        yield sock.send


@lab
def test_both_ends_see_a_frame_in_order(wire: Wire, send: Callable[[bytes], int]) -> None:
    frames = [ip_frame(V4[0], V4[1], UDP), arp_frame(1, V4[0], V4[1])]
    with Capture(wire[0].path, "w0") as out, Capture(wire[1].path, "w1") as into:
        for frame in frames:
            send(frame)
    for capture, direction in ((out, "out"), (into, "in")):
        caught = capture.frames()  # kept after the capture ended
        assert [frame.raw for frame in caught] == frames
        assert {frame.direction for frame in caught} == {direction}
        assert caught[0].time <= caught[1].time
        assert capture.lost == 0
    assert into.frames()[0].seen is Seen.OTHER_HOST  # the MAC is nobody's


@lab
@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_a_match_keeps_its_own(wire: Wire, send: Callable[[bytes], int], ends: list[Address]) -> None:
    icmp, other_ends = (1, V6) if ends is V4 else (58, V4)
    kept = [
        ip_frame(ends[0], ends[1], TCP),
        ip_frame(ends[1], ends[0], TCP),
        ip_frame(ends[2], ends[0], icmp),
        ip_frame(ends[2], ends[0], TCP)[:12] + bytes.fromhex("81000064") + b"\x08\x00" + bytes(40),
    ]
    if ends is V4:
        kept.append(arp_frame(1, ends[2], ends[1]))
    passed_by = [
        ip_frame(ends[0], ends[1], UDP),
        ip_frame(ends[0], ends[2], TCP),
        ip_frame(ends[2], ends[1], TCP),
        ip_frame(ends[1], ends[2], TCP),
        ip_frame(ends[2], ends[0], TCP),
        ip_frame(ends[0], ends[0], TCP),
        ip_frame(other_ends[0], other_ends[1], TCP),
        MACS + b"\x88\xcc" + bytes(50),
    ]
    with Capture(wire[0].path, "w0", Match(ends[0], ends[1], TCP)) as capture:
        for frame in (*passed_by, *kept, *passed_by):
            send(frame)
    assert [frame.raw for frame in capture.frames()] == kept


@lab
@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_a_match_of_a_port(wire: Wire, send: Callable[[bytes], int], ends: list[Address]) -> None:
    ways = [(ends[0], ends[1]), (ends[1], ends[0])]
    kept = [
        ip_frame(*way, UDP, struct.pack("!HHHH", *ports, 8, 0))
        for way in ways
        for ports in ((53, 4000), (4000, 53))
    ]
    passed_by = [ip_frame(*way, UDP, struct.pack("!HHHH", 4000, 4000, 53, 53)) for way in ways]
    if ends is V4:  # four bytes of options push the ports back
        with_options = bytearray(ip_frame(*ways[0], UDP, bytes(4) + struct.pack("!HHHH", 9, 53, 8, 0)))
        with_options[14] = 0x46
        kept.append(bytes(with_options))
    with Capture(wire[0].path, "w0", Match(ends[0], ends[1], UDP, 53)) as capture:
        for frame in (*passed_by, *kept, *passed_by):
            send(frame)
    assert [frame.raw for frame in capture.frames()] == kept


@lab
def test_a_full_buffer_is_owned_up_to(wire: Wire, send: Callable[[bytes], int]) -> None:
    big = ip_frame(V4[0], V4[1], UDP, bytes(1400))
    with Capture(wire[0].path, "w0") as capture:
        for _ in range(12_000):
            send(big)
        caught = len(capture.frames())
        assert capture.lost > 0
        assert caught + capture.lost == 12_000
        send(big)
        assert len(capture.frames()) == caught + 1


@lab
def test_an_interface_that_goes_down(wire: Wire, send: Callable[[bytes], int]) -> None:
    with Capture(wire[0].path, "w0") as capture:
        send(ip_frame(V4[0], V4[1], UDP))
        wire[0].run("ip", "link", "set", "w0", "down")
        wire[0].run("ip", "link", "set", "w0", "up")
        send(ip_frame(V4[1], V4[0], UDP))
        assert [known(frame.packet).source for frame in capture.frames()] == V4[:2]


@lab
def test_no_such_interface(wire: Wire) -> None:
    with pytest.raises(LabError, match="no interface eth9"), Capture(wire[0].path, "eth9"):
        pass
