"""DHCP guard and router guard: what a guarded adapter may not send (§2)."""

from __future__ import annotations

from vswitch.model.site import Adapter
from vswitch.model.types import ICMPV4, ICMPV6, UDP
from vswitch.semantics.frame import Frame
from vswitch.semantics.verdict import DropReason

__all__ = ["guard_drops", "is_dhcp_server_message", "is_router_message"]

# UDP source port of a DHCP server, by IP version.
_DHCP_SERVER_PORT = {4: 67, 6: 547}
# Redirect and router advertisement, by (IP protocol, IP version).
_ROUTER_TYPES = {(ICMPV4, 4): (5, 9), (ICMPV6, 6): (134, 137)}


def is_dhcp_server_message(frame: Frame) -> bool:
    """Whether a DHCPv4 or DHCPv6 server sends this: UDP from port 67 (IPv4) or 547 (IPv6)."""
    return (
        frame.version is not None
        and frame.protocol == UDP
        and frame.src_port == _DHCP_SERVER_PORT[frame.version]
    )


def is_router_message(frame: Frame) -> bool:
    """Whether this is a router advertisement or a redirect: ICMPv4 5, 9; ICMPv6 134, 137."""
    if frame.version is None or frame.protocol is None:
        return False
    return frame.icmp_type in _ROUTER_TYPES.get((frame.protocol, frame.version), ())


def guard_drops(adapter: Adapter, frame: Frame) -> DropReason | None:
    """The guard that ends a frame sent by this adapter; guards never look at what it receives."""
    if adapter.dhcp_guard and is_dhcp_server_message(frame):
        return DropReason.DHCP_GUARD
    if adapter.router_guard and is_router_message(frame):
        return DropReason.ROUTER_GUARD
    return None
