"""What a captured Ethernet frame says, as far as a probe needs to know.

Also of what is cut short, such as the eight bytes of a TCP header that an ICMP error quotes: OS-Ken's
packet library does not read the ports in those (docs/decisions/0015).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP

__all__ = ["Address", "CapturedFrame", "Packet", "Seen", "parse_frame", "parse_icmpv6", "parse_ip"]

Address = IPv4Address | IPv6Address

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
TAGS = (0x8100, 0x88A8)
ICMPV4_ERRORS = (3, 11, 12)  # unreachable, time exceeded, parameter problem
ICMPV6_ERRORS = (1, 2, 3, 4)  # the same and packet too big
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
FLAGS = "FSRPAUEC"  # of TCP, from the lowest bit


class Seen(IntEnum):
    """How the kernel classed a frame at the interface of the capture (linux/if_packet.h)."""

    HOST = 0  # came in, addressed to the interface's MAC
    BROADCAST = 1
    MULTICAST = 2
    OTHER_HOST = 3  # came in, addressed to another MAC
    OUTGOING = 4


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet: addresses, protocol number, and ports or ICMP fields where it has them.

    `quoted` is the packet an ICMP error complains about; `asks` and `tells` are the address of a
    neighbour solicitation or advertisement.
    """

    source: Address
    destination: Address
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    tcp_flags: str = ""  # letters of FLAGS
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None  # of an echo
    quoted: Packet | None = None
    asks: Address | None = None
    tells: Address | None = None

    def __str__(self) -> str:
        ends = f"{self.source} > {self.destination}"
        if self.source_port is not None:
            ends = f"{self.source} port {self.source_port} > {self.destination} port {self.destination_port}"
        if self.protocol == TCP:
            return f"{ends} tcp [{self.tcp_flags}]"
        if self.protocol == UDP:
            return f"{ends} udp"
        if self.icmp_type is not None:
            about = self.asks or self.tells or self.quoted
            return f"{ends} icmp {self.icmp_type}/{self.icmp_code}" + (f" ({about})" if about else "")
        return f"{ends} ip/{self.protocol}"


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A captured frame: when (Unix seconds), which way, what.

    `asks` and `tells` are the IP address an ARP request or neighbour solicitation asks about, or an
    ARP reply or neighbour advertisement tells the MAC of.
    """

    time: float
    seen: Seen
    source_mac: str
    destination_mac: str
    ethertype: int
    packet: Packet | None
    asks: Address | None
    tells: Address | None
    raw: bytes

    @property
    def direction(self) -> str:
        """`out` or `in`, from the viewpoint of the namespace the capture runs in."""
        return "out" if self.seen is Seen.OUTGOING else "in"

    def __str__(self) -> str:
        text = str(self.packet) if self.packet else f"type {self.ethertype:#06x}"
        if self.ethertype == ARP:
            text = f"arp who has {self.asks}" if self.asks else f"arp {self.tells} is here"
        return f"{self.time:.6f} {self.direction:3} {self.source_mac} > {self.destination_mac} {text}"


def parse_frame(raw: bytes, time: float = 0.0, seen: Seen = Seen.HOST) -> CapturedFrame:
    """A frame from its bytes, link header first. Never raises: what is cut short is left out."""
    source_mac, destination_mac = raw[6:12].hex(":"), raw[:6].hex(":")
    start = 14
    while (ethertype := int.from_bytes(raw[start - 2 : start])) in TAGS:
        start += 4
    packet, asks, tells = None, None, None
    if ethertype == ARP:
        asks, tells = _parse_arp(raw[start:])
    elif ethertype in (IPV4, IPV6):
        packet = parse_ip(raw[start:])
        if packet:
            asks, tells = packet.asks, packet.tells
    return CapturedFrame(time, seen, source_mac, destination_mac, ethertype, packet, asks, tells, raw)


def _parse_arp(data: bytes) -> tuple[Address | None, Address | None]:
    """The address asked about, or the address told."""
    if len(data) < 28 or data[:6] != bytes.fromhex("000108000604"):
        return None, None
    operation = data[7]
    sender, target = IPv4Address(data[14:18]), IPv4Address(data[24:28])
    if operation == 1 and sender != target:  # the same: an announcement, nobody is asked
        return target, None
    return None, sender


def parse_ip(data: bytes, *, quoting: bool = True) -> Packet | None:
    """An IP packet from its bytes; None where not even its header is whole.

    Extension headers of IPv6 are not followed: `protocol` is then that of the first one. Without
    `quoting`, what an ICMP error quotes is left out: an error that quotes an error stops there.
    """
    version = data[0] >> 4 if data else 0
    source: Address
    destination: Address
    if version == 4 and len(data) >= 20:
        source, destination = IPv4Address(data[12:16]), IPv4Address(data[16:20])
        protocol, start = data[9], (data[0] & 15) * 4
        if int.from_bytes(data[6:8]) & 0x1FFF:  # a later fragment has no ports
            return Packet(source, destination, protocol)
    elif version == 6 and len(data) >= 40:
        source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
        protocol, start = data[6], 40
    else:
        return None
    body = data[start:]
    if protocol in (TCP, UDP) and len(body) >= 4:
        source_port, destination_port = struct.unpack("!HH", body[:4])
        flags = body[13] if protocol == TCP and len(body) > 13 else 0
        letters = "".join(letter for bit, letter in enumerate(FLAGS) if flags >> bit & 1)
        return Packet(source, destination, protocol, source_port, destination_port, letters)
    if protocol == ICMPV4 and version == 4 and len(body) >= 8:
        return Packet(
            source,
            destination,
            protocol,
            icmp_type=body[0],
            icmp_code=body[1],
            icmp_id=int.from_bytes(body[4:6]) if body[0] in (0, 8) else None,
            quoted=parse_ip(body[8:], quoting=False) if quoting and body[0] in ICMPV4_ERRORS else None,
        )
    if protocol == ICMPV6 and version == 6 and len(body) >= 8:
        return parse_icmpv6(body, source, destination, quoting=quoting)
    return Packet(source, destination, protocol)


def parse_icmpv6(body: bytes, source: Address, destination: Address, *, quoting: bool = True) -> Packet:
    """An ICMPv6 message of at least eight bytes, without its IP header."""
    kind = body[0]
    target = IPv6Address(body[8:24]) if len(body) >= 24 else None
    return Packet(
        source,
        destination,
        ICMPV6,
        icmp_type=kind,
        icmp_code=body[1],
        icmp_id=int.from_bytes(body[4:6]) if kind in (128, 129) else None,
        quoted=parse_ip(body[8:], quoting=False) if quoting and kind in ICMPV6_ERRORS else None,
        asks=target if kind == NEIGHBOUR_SOLICITATION else None,
        tells=target if kind == NEIGHBOUR_ADVERTISEMENT else None,
    )
