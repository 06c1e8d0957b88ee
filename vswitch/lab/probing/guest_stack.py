"""What a guest's own network stack says of its next hop, read over rtnetlink.

It is asked inside the guest's namespace, named by its path; errors are those of `in_netns`. By hand and not
with pyroute2: docs/decisions/0015 has the figures.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.captured_frames import Address

__all__ = ["NextHop", "next_hop", "next_hop_here"]

NETLINK_SECONDS = 2.0

# linux/rtnetlink.h, linux/neighbour.h
NLMSG_ERROR, RTM_GETROUTE, RTM_GETNEIGH = 2, 26, 30
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY = 1, 2, 4, 5
NDA_DST, NDA_LLADDR = 1, 2
RTN_LOCAL = 2
STATES = {
    0x01: "INCOMPLETE",
    0x02: "REACHABLE",
    0x04: "STALE",
    0x08: "DELAY",
    0x10: "PROBE",
    0x20: "FAILED",
    0x40: "NOARP",
    0x80: "PERMANENT",
}


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a guest sends packets for an address: the neighbour, and what it knows of it.

    `state` is the kernel's word for the neighbour entry: `REACHABLE`, `STALE`, `INCOMPLETE` (asked,
    no answer yet), `FAILED` (no answer), ..., `NONE` without an entry, `LOCAL` for an own address.
    """

    address: Address
    interface: str
    state: str
    mac: str = ""

    @property
    def unanswered(self) -> bool:
        """Whether ARP or neighbour discovery has asked for it in vain."""
        return self.state in ("INCOMPLETE", "FAILED")


def next_hop(
    netns: str, destination: Address, source: Address | None = None, interface: str | None = None
) -> NextHop | None:
    """The next hop of a guest, whose namespace is at the path `netns`; None without a route there.

    Raises as `in_netns`.
    """
    return in_netns(netns, lambda: next_hop_here(destination, source, interface))


def next_hop_here(
    destination: Address, source: Address | None = None, interface: str | None = None
) -> NextHop | None:
    """As `next_hop`, in the namespace of the calling thread."""
    family, bits = (socket.AF_INET, 32) if destination.version == 4 else (socket.AF_INET6, 128)
    attributes = {RTA_DST: destination.packed}
    if source:
        attributes[RTA_SRC] = source.packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(NETLINK_SECONDS)
        try:
            if interface:
                attributes[RTA_OIF] = struct.pack("=i", socket.if_nametoindex(interface))
            header = struct.pack("=8BI", family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
            route, found = _ask(netlink, RTM_GETROUTE, header, attributes)
            (index,) = struct.unpack("=i", found[RTA_OIF])
            name = socket.if_indextoname(index)
        except (OSError, KeyError):  # no route; or one that leads nowhere (blackhole)
            return None
        if route[7] == RTN_LOCAL:
            return NextHop(destination, name, "LOCAL")
        address = ip_address(found.get(RTA_GATEWAY, destination.packed))
        try:
            header = struct.pack("=BBHiHBB", family, 0, 0, index, 0, 0, 0)
            entry, found = _ask(netlink, RTM_GETNEIGH, header, {NDA_DST: address.packed})
        except OSError:  # no entry
            return NextHop(address, name, "NONE")
        (state,) = struct.unpack("=H", entry[8:10])
        return NextHop(address, name, STATES.get(state, "NONE"), found.get(NDA_LLADDR, b"").hex(":"))


def _ask(
    netlink: socket.socket, kind: int, header: bytes, attributes: dict[int, bytes]
) -> tuple[bytes, dict[int, bytes]]:
    """Send one rtnetlink request; its answer's fixed header and attributes. Raises OSError."""
    body = header + b"".join(
        struct.pack("=HH", 4 + len(value), number) + value for number, value in attributes.items()
    )
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, 1, 0, 0) + body)
    answer = netlink.recv(65536)
    length, answered = struct.unpack("=IH", answer[:6])
    if answered == NLMSG_ERROR:
        code = -struct.unpack("=i", answer[16:20])[0]
        raise OSError(code, os.strerror(code))
    found: dict[int, bytes] = {}
    at = 16 + len(header)
    while at + 4 <= length:
        size, number = struct.unpack("=HH", answer[at : at + 4])
        found[number] = answer[at + 4 : at + size]
        at += max(4, (size + 3) & ~3)
    return answer[16 : 16 + len(header)], found
