"""Frames that only tests make: answers to a neighbour's question by themselves, later fragments."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from vswitch.model.types import ICMPV6
from vswitch.semantics.frame import ARP, ARP_REPLY, IPV6, NEIGHBOUR_ADVERTISEMENT, Fragment, Frame


def later_fragment(frame: Frame) -> Frame:
    """A later fragment of the same packet: it has no TCP, UDP or ICMP header."""
    return replace(
        frame,
        fragment=Fragment.LATER,
        src_port=None,
        dst_port=None,
        icmp_type=None,
        icmp_code=None,
        tcp_flags="",
    )


def arp_reply(
    src_mac: str, src: IPv4Address, dst_mac: str, dst: IPv4Address, *, vlan: int | None = None
) -> Frame:
    """A unicast ARP reply: `src` is at `src_mac`."""
    return Frame(src_mac, dst_mac, ARP, vlan, src=src, dst=dst, arp_operation=ARP_REPLY)


def neighbour_advertisement(
    src_mac: str, src: IPv6Address, dst_mac: str, dst: IPv6Address, *, vlan: int | None = None
) -> Frame:
    """The answer to a neighbour solicitation: `src` is at `src_mac`."""
    return Frame(
        src_mac,
        dst_mac,
        IPV6,
        vlan,
        src=src,
        dst=dst,
        protocol=ICMPV6,
        icmp_type=NEIGHBOUR_ADVERTISEMENT,
        icmp_code=0,
        target=src,
    )
