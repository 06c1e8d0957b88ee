"""What a guest's own network stack says: its listening sockets, its firewall, its next hop.

Each question is asked inside the guest's namespace, named by its path; errors are those of `in_netns`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from vswitch.lab.isolation import search_path
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.captured_frames import Address
from vswitch.model.types import TCP, UDP

__all__ = ["Listener", "NextHop", "guest_firewall", "guest_listens", "listening", "next_hop", "next_hop_here"]

NFT_SECONDS = 5.0
NETLINK_SECONDS = 2.0
# /proc/net state of a socket that waits: TCP LISTEN; UDP not connected.
WAITING = {TCP: "0A", UDP: "07"}
TABLES = {TCP: ("tcp", "tcp6"), UDP: ("udp", "udp6")}

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


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A socket that waits for others: IP protocol (TCP or UDP), port, local address.

    The address `::` takes IPv4 as well, unless the program asked for IPv6 only.
    """

    protocol: int
    port: int
    address: str

    def takes(self, address: Address) -> bool:
        """Whether it would receive what is sent to this address of the guest."""
        own = ip_address(self.address)
        if own.is_unspecified:
            return own.version == 6 or address.version == 4
        return own == address.__class__(int(address))  # without the scope


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


def listening(netns: str) -> list[Listener]:
    """All TCP and UDP sockets of the guest that wait for others, sorted, each once."""
    return in_netns(netns, lambda: sorted(set(_listeners())))


def guest_listens(netns: str, protocol: int, port: int, address: Address) -> bool:
    """Whether anything in the guest would take a new TCP connection or a UDP datagram there."""
    return any(
        listener.protocol == protocol and listener.port == port and listener.takes(address)
        for listener in listening(netns)
    )


def guest_firewall(netns: str) -> str | None:
    """A hint that the guest filters by itself: how many nftables rules it has.

    None where it has none, or where there is no `nft` command to ask.
    """
    nft = shutil.which("nft", path=search_path())
    if nft is None:
        return None
    command = [nft, "-j", "list", "ruleset"]
    try:
        done = in_netns(
            netns, lambda: subprocess.run(command, capture_output=True, timeout=NFT_SECONDS, check=True)
        )
        entries = json.loads(done.stdout)["nftables"]
    except (subprocess.SubprocessError, OSError, ValueError, KeyError):
        return None
    rules = sum("rule" in entry for entry in entries)
    dropping = sum(entry.get("chain", {}).get("policy") == "drop" for entry in entries)
    if not rules and not dropping:
        return None
    return f"nftables: {rules} rule(s), {dropping} chain(s) that drop by default"


def next_hop(
    netns: str, destination: Address, source: Address | None = None, interface: str | None = None
) -> NextHop | None:
    """The next hop of a guest for `destination`, None without a route there."""
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


def _listeners() -> Iterator[Listener]:
    """Read the tables of the calling thread's namespace."""
    for protocol, names in TABLES.items():
        for name in names:
            try:
                lines = Path("/proc/thread-self/net", name).read_text().splitlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for line in lines:
                local, _, state = line.split()[1:4]
                if state == WAITING[protocol]:
                    address, port = local.split(":")
                    yield Listener(protocol, int(port, 16), str(_address(address)))


def _address(digits: str) -> Address:
    """An address as /proc writes it: 32-bit words in the machine's byte order."""
    words = [int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)]
    packed = b"".join(words)
    if len(packed) == 4:
        return IPv4Address(packed)
    address = IPv6Address(packed)
    return address.ipv4_mapped or address
