"""Whether a change on an adapter of the management OS cuts the way by which the host is managed."""

from __future__ import annotations

from vswitch.acl_entries import Acls
from vswitch.compare.acl_diff import lost
from vswitch.compare.regions import Region, ip_traffic
from vswitch.model.types import TCP, Direction

__all__ = ["winrm_lost"]

_PORTS = (5985, 5986)


def winrm_lost(old: Acls, new: Acls, port: int = 0) -> list[Region]:
    """WinRM traffic that `old` lets pass and `new` does not; `port` is one more beside the usual ones."""
    ports = sorted({*_PORTS, port or _PORTS[0]})
    winrm = ip_traffic(protocol=[(TCP, TCP)], local_port=[(each, each) for each in ports])
    return [region for direction in Direction for region in lost(old, new, direction, winrm)]
