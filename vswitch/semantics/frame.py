"""One Ethernet frame, with exactly the fields a virtual switch looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, normalise_mac

__all__ = [
    "ARP",
    "BROADCAST",
    "ECHO_REPLY",
    "ECHO_REQUEST",
    "IPV4",
    "IPV6",
    "IPV6_FRAGMENT",
    "TAG_TYPES",
    "Address",
    "Fragment",
    "Frame",
    "arp_request",
    "icmp",
    "icmp_echo",
    "ip",
    "is_multicast",
    "multicast_mac",
    "neighbour_solicitation",
    "port_unreachable",
    "raw",
    "solicited_node",
    "tcp",
    "udp",
]

Address = IPv4Address | IPv6Address

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
#: The protocol of IPv6's fragment header (RFC 8200): all a switch sees of a later fragment's (U5).
IPV6_FRAGMENT = 44
#: Ethertypes of 802.1Q and 802.1ad tags: of a frame that carries another tag behind its `vlan`.
TAG_TYPES = (0x8100, 0x88A8)
BROADCAST = "FF-FF-FF-FF-FF-FF"
ARP_REQUEST, ARP_REPLY = 1, 2
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
# ICMP types by IP version.
ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
_PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))


class Fragment(StrEnum):
    """Which part of a fragmented IP packet this is. Only `LATER` lacks the ports."""

    NONE = "none"
    FIRST = "first"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame on one wire.

    `vlan` is the 802.1Q tag on that wire: None untagged, 0 a priority tag; `priority` its 802.1p
    priority from 0 to 7, 0 without a tag. MAC addresses are in Hyper-V's spelling. `src`, `dst`,
    `protocol` are those of the IP packet; for ARP `src` and `dst` are the sender's and the target's
    protocol address. `target` is the address that ND asks for or announces. `tcp_flags` ("S", "SA",
    "A", "R", "" unknown) decides nothing; it only shows which verdicts hang on an open question.
    """

    src_mac: str
    dst_mac: str
    ethertype: int
    vlan: int | None = None
    src: Address | None = None
    dst: Address | None = None
    protocol: int | None = None
    src_port: int | None = None
    dst_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    fragment: Fragment = Fragment.NONE
    arp_operation: int | None = None
    target: Address | None = None
    tcp_flags: str = ""
    priority: int = 0

    @property
    def is_ip(self) -> bool:
        """Whether IP entries look at this frame at all (§3.2, §4.6)."""
        return self.ethertype in (IPV4, IPV6)

    @property
    def version(self) -> int | None:
        """4 or 6, None for a frame that is not IP."""
        return {IPV4: 4, IPV6: 6}.get(self.ethertype)

    @property
    def is_neighbour_discovery(self) -> bool:
        """IPv6 neighbour or router discovery (ICMPv6 133-137)."""
        return self.protocol == ICMPV6 and self.icmp_type in range(133, 138)

    def tagged(self, vlan: int | None) -> Frame:
        """The same frame with another tag of the same priority, or with none."""
        if vlan == self.vlan:
            return self
        return replace(self, vlan=vlan, priority=0 if vlan is None else self.priority)

    def reply(self, mac: str | None = None) -> Frame:
        """What the addressed machine sends back, on the same VLAN.

        `mac` is that machine's own address; it is needed when the frame was sent to a group.
        ARP requests, neighbour solicitations, echo requests, TCP and UDP have answers; for other
        frames this is the same packet in the opposite direction.
        """
        own = mac or self.dst_mac
        if self.ethertype == ARP:
            return replace(
                self, src_mac=own, dst_mac=self.src_mac, src=self.dst, dst=self.src, arp_operation=ARP_REPLY
            )
        if self.protocol == ICMPV6 and self.icmp_type == NEIGHBOUR_SOLICITATION:
            return replace(
                self,
                src_mac=own,
                dst_mac=self.src_mac,
                src=self.target,
                dst=self.src,
                icmp_type=NEIGHBOUR_ADVERTISEMENT,
            )
        icmp_type = self.icmp_type
        if self.version and icmp_type == ECHO_REQUEST[self.version]:
            icmp_type = ECHO_REPLY[self.version]
        return replace(
            self,
            src_mac=own,
            dst_mac=self.src_mac,
            src=self.dst,
            dst=self.src,
            src_port=self.dst_port,
            dst_port=self.src_port,
            icmp_type=icmp_type,
            tcp_flags={"": "", "S": "SA"}.get(self.tcp_flags, "A"),
        )

    def __str__(self) -> str:
        tag = "" if self.vlan is None else f" VLAN {self.vlan}"
        tag += f" priority {self.priority}" if self.priority else ""
        return f"{self.src_mac} > {self.dst_mac}{tag} {self.summary}"

    @property
    def summary(self) -> str:
        """The payload in a few words: `TCP SYN 10.0.0.1:50000 > 10.0.0.2:80`."""
        if self.ethertype == ARP:
            if self.arp_operation == ARP_REQUEST:
                return f"ARP who has {self.dst}, tell {self.src}"
            return f"ARP {self.src} is at {self.src_mac}"
        if not self.is_ip:
            return f"ethertype 0x{self.ethertype:04x}"
        if self.protocol == ICMPV6 and self.icmp_type == NEIGHBOUR_SOLICITATION:
            return f"ND who has {self.target}, tell {self.src}"
        if self.protocol == ICMPV6 and self.icmp_type == NEIGHBOUR_ADVERTISEMENT:
            return f"ND {self.target} is at {self.src_mac}"
        later = " later fragment" if self.fragment is Fragment.LATER else ""
        if self.protocol in (TCP, UDP) and not later:
            name = "UDP" if self.protocol == UDP else _TCP_NAMES.get(self.tcp_flags, "TCP")
            return f"{name} {_endpoint(self.src, self.src_port)} > {_endpoint(self.dst, self.dst_port)}"
        if self.protocol in (ICMPV4, ICMPV6) and not later:
            name = f"ICMPv{self.version} type {self.icmp_type} code {self.icmp_code}"
            return f"{name} {self.src} > {self.dst}"
        return f"IP protocol {self.protocol}{later} {self.src} > {self.dst}"


_TCP_NAMES = {"S": "TCP SYN", "SA": "TCP SYN-ACK", "A": "TCP ACK", "R": "TCP RST"}


def _endpoint(address: Address | None, port: int | None) -> str:
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"


def is_multicast(mac: str) -> bool:
    """Whether a MAC names a group; broadcast is one."""
    return bool(int(mac[:2], 16) & 1)


def multicast_mac(address: Address) -> str:
    """The group MAC that carries an IP multicast or the limited broadcast address (RFC 1112, 2464)."""
    if isinstance(address, IPv6Address):
        return normalise_mac(f"3333{int(address) & 0xFFFFFFFF:08x}")
    if int(address) == 0xFFFFFFFF:
        return BROADCAST
    return normalise_mac(f"01005e{int(address) & 0x7FFFFF:06x}")


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group in which the owner of an address is asked for (RFC 4291)."""
    return IPv6Address(_SOLICITED_NODE | (int(address) & 0xFFFFFF))


def raw(src_mac: str, dst_mac: str, ethertype: int, *, vlan: int | None = None) -> Frame:
    """A frame that is not IP (LLDP, STP, ...)."""
    return Frame(src_mac, dst_mac, ethertype, vlan)


def arp_request(src_mac: str, src: IPv4Address, target: IPv4Address, *, vlan: int | None = None) -> Frame:
    """A broadcast ARP request: who has `target`?"""
    return Frame(src_mac, BROADCAST, ARP, vlan, src=src, dst=target, arp_operation=ARP_REQUEST)


def neighbour_solicitation(
    src_mac: str, src: IPv6Address, target: IPv6Address, *, vlan: int | None = None
) -> Frame:
    """IPv6's question for a neighbour's MAC, sent to the solicited-node group."""
    group = solicited_node(target)
    return Frame(
        src_mac,
        multicast_mac(group),
        IPV6,
        vlan,
        src=src,
        dst=group,
        protocol=ICMPV6,
        icmp_type=NEIGHBOUR_SOLICITATION,
        icmp_code=0,
        target=target,
    )


def ip(
    src_mac: str, dst_mac: str, src: Address, dst: Address, protocol: int, *, vlan: int | None = None
) -> Frame:
    """An IP packet of any protocol, without a transport header."""
    return Frame(
        src_mac, dst_mac, IPV4 if src.version == 4 else IPV6, vlan, src=src, dst=dst, protocol=protocol
    )


def tcp(
    src_mac: str,
    dst_mac: str,
    src: Address,
    dst: Address,
    src_port: int,
    dst_port: int,
    *,
    flags: str = "S",
    vlan: int | None = None,
) -> Frame:
    """A TCP segment, a SYN unless `flags` says otherwise."""
    frame = ip(src_mac, dst_mac, src, dst, TCP, vlan=vlan)
    return replace(frame, src_port=src_port, dst_port=dst_port, tcp_flags=flags)


def udp(
    src_mac: str,
    dst_mac: str,
    src: Address,
    dst: Address,
    src_port: int,
    dst_port: int,
    *,
    vlan: int | None = None,
) -> Frame:
    """A UDP datagram."""
    return replace(ip(src_mac, dst_mac, src, dst, UDP, vlan=vlan), src_port=src_port, dst_port=dst_port)


def icmp(
    src_mac: str,
    dst_mac: str,
    src: Address,
    dst: Address,
    icmp_type: int,
    icmp_code: int = 0,
    *,
    vlan: int | None = None,
) -> Frame:
    """An ICMPv4 or ICMPv6 message, by the version of the addresses."""
    protocol = ICMPV4 if src.version == 4 else ICMPV6
    frame = ip(src_mac, dst_mac, src, dst, protocol, vlan=vlan)
    return replace(frame, icmp_type=icmp_type, icmp_code=icmp_code)


def icmp_echo(src_mac: str, dst_mac: str, src: Address, dst: Address, *, vlan: int | None = None) -> Frame:
    """An echo request."""
    return icmp(src_mac, dst_mac, src, dst, ECHO_REQUEST[src.version], vlan=vlan)


def port_unreachable(
    src_mac: str, dst_mac: str, src: Address, dst: Address, *, vlan: int | None = None
) -> Frame:
    """What a host answers to a UDP datagram for a port on which nothing listens."""
    icmp_type, icmp_code = _PORT_UNREACHABLE[src.version]
    return icmp(src_mac, dst_mac, src, dst, icmp_type, icmp_code, vlan=vlan)
