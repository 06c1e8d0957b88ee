"""A frame of the reference as bytes for the wire."""

from __future__ import annotations

import logging
from typing import Any

from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, colon_mac
from vswitch.semantics.frame import (
    ARP,
    IPV4,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    Fragment,
    Frame,
)

__all__ = ["as_bytes"]


def as_bytes(frame: Frame, token: bytes) -> bytes:
    """The frame with right checksums, and `token` behind its payload: Ethernet's own padding.

    Every kind of frame can carry a token there, and switches hand padding on.
    """
    from scapy.layers.l2 import Dot1Q, Ether
    from scapy.packet import Raw

    made = Ether(src=colon_mac(frame.src_mac), dst=colon_mac(frame.dst_mac), type=frame.ethertype)
    if frame.vlan is not None:
        made.type = 0x8100
        made /= Dot1Q(vlan=frame.vlan, prio=frame.priority, type=frame.ethertype)
    made /= _payload(frame) if frame.ethertype == ARP or frame.is_ip else Raw(bytes(46))
    return bytes(made).ljust(60, b"\0") + token


def _payload(frame: Frame) -> Any:
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP as Arp
    from scapy.packet import Raw

    if frame.ethertype == ARP:
        return Arp(
            op=frame.arp_operation, hwsrc=colon_mac(frame.src_mac), psrc=str(frame.src), pdst=str(frame.dst)
        )
    body = _body(frame) or Raw(b"scenario")
    more, offset = frame.fragment is Fragment.FIRST, 8 if frame.fragment is Fragment.LATER else 0
    if frame.ethertype == IPV4:
        header = IP(src=str(frame.src), dst=str(frame.dst), proto=frame.protocol, frag=offset)
        header.flags = "MF" if more else 0
        return header / body
    if frame.fragment is not Fragment.NONE:
        from scapy.layers.inet6 import IPv6ExtHdrFragment

        part = IPv6ExtHdrFragment(nh=frame.protocol, offset=offset, m=int(more), id=1)
        return IPv6(src=str(frame.src), dst=str(frame.dst)) / part / body
    return IPv6(src=str(frame.src), dst=str(frame.dst), nh=frame.protocol) / body


def _body(frame: Frame) -> Any:
    """What follows the IP header; None for a protocol without one of its own, or a later fragment."""
    from scapy.layers import inet, inet6
    from scapy.packet import Raw

    if frame.fragment is Fragment.LATER:
        return None
    if frame.protocol == TCP:
        return inet.TCP(sport=frame.src_port, dport=frame.dst_port, flags=frame.tcp_flags or "A")
    if frame.protocol == UDP:
        return inet.UDP(sport=frame.src_port, dport=frame.dst_port) / Raw(b"scenario")
    if frame.icmp_type is None:
        return None
    if frame.protocol == ICMPV4:
        return inet.ICMP(type=frame.icmp_type, code=frame.icmp_code or 0) / Raw(bytes(28))
    if frame.protocol != ICMPV6:
        return None
    if frame.icmp_type == NEIGHBOUR_SOLICITATION and frame.target:
        return inet6.ICMPv6ND_NS(tgt=str(frame.target))
    if frame.icmp_type == NEIGHBOUR_ADVERTISEMENT and frame.target:
        return inet6.ICMPv6ND_NA(tgt=str(frame.target), R=0, S=1, O=1)
    return inet6.ICMPv6Unknown(type=frame.icmp_type, code=frame.icmp_code or 0, msgbody=bytes(28))
