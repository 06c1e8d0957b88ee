"""Interfaces, addresses and routes, set up over rtnetlink in batches.

A thousand guests take a thousand `ip` processes otherwise. Messages are built by pure functions and
sent by `Netlink`, which works in the network namespace of the thread that opened it. pyroute2 would
double the processor time of a lab's building: docs/decisions/0015.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from vswitch.errors import LabError
from vswitch.model.types import Interface, Network

__all__ = ["Message", "Netlink", "address", "link_up", "route", "veth"]

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR = 2
_IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_F_NODAD = 1, 2, 8, 0x02
_RTA_DST, _RTA_GATEWAY = 1, 5
_TABLE_MAIN, _PROTO_STATIC, _SCOPE_UNIVERSE, _TYPE_UNICAST = 254, 4, 0, 1
_BATCH = 64  # messages sent before their answers are read: far below any receive buffer


@dataclass(frozen=True, slots=True)
class Message:
    """One request; `what` names it in errors ("address 10.0.0.1/24 on eth0")."""

    kind: int
    flags: int
    payload: bytes
    what: str


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _link(flags: int) -> bytes:
    return struct.pack("BxHiII", socket.AF_UNSPEC, 0, 0, flags, flags)


def veth(name: str, peer: str, *, mac: str = "", peer_netns: int | None = None) -> Message:
    """A veth pair: `name`, up, here, and `peer` in the namespace open as descriptor `peer_netns`.

    The kernel does not let the peer come up in the same step: that takes `link_up` over there.
    `mac` is the address of `name`, with colons; without one the kernel chooses. Offloads are on, the
    MTU is 1500.
    """
    other = _link(0) + _name(peer)
    if peer_netns is not None:
        other += _attribute(_IFLA_NET_NS_FD, struct.pack("i", peer_netns))
    info = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(
        _IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, other)
    )
    payload = _link(_IFF_UP) + _name(name) + _attribute(_IFLA_LINKINFO, info)
    if mac:
        payload += _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return Message(_RTM_NEWLINK, _CREATE | _EXCLUSIVE, payload, f"interface {name} (other end {peer})")


def link_up(name: str) -> Message:
    """Bring the interface `name` up."""
    return Message(_RTM_NEWLINK, 0, _link(_IFF_UP) + _name(name), f"bringing {name} up")


def address(name: str, value: Interface) -> Message:
    """Give the interface `name` (it must exist in this namespace) an address, usable at once.

    Duplicate address detection is skipped: the site has no duplicates.
    """
    packed = value.ip.packed
    family = socket.AF_INET if value.version == 4 else socket.AF_INET6
    payload = struct.pack("BBBBI", family, value.network.prefixlen, 0, 0, socket.if_nametoindex(name))
    payload += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    if value.version == 6:
        payload += _attribute(_IFA_FLAGS, struct.pack("I", _IFA_F_NODAD))
    return Message(_RTM_NEWADDR, _CREATE | _EXCLUSIVE, payload, f"address {value} on {name}")


def route(destination: Network | None, next_hop: str) -> Message:
    """A route to `destination` (None: the default route) by way of the address `next_hop`."""
    hop: IPv4Address | IPv6Address = ip_address(next_hop)
    family = socket.AF_INET if hop.version == 4 else socket.AF_INET6
    length = destination.prefixlen if destination else 0
    payload = struct.pack(
        "BBBBBBBBI",
        family, length, 0, 0, _TABLE_MAIN, _PROTO_STATIC, _SCOPE_UNIVERSE, _TYPE_UNICAST, 0,
    )  # fmt: skip
    if destination:
        payload += _attribute(_RTA_DST, destination.network_address.packed)
    payload += _attribute(_RTA_GATEWAY, hop.packed)
    return Message(_RTM_NEWROUTE, _CREATE, payload, f"route to {destination or 'anywhere'} via {next_hop}")


class Netlink:
    """A rtnetlink socket of the network namespace the calling thread is in; any thread may use it then."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, messages: Iterable[Message]) -> None:
        """Carry the messages out, in order. Raises LabError naming the first that failed."""
        waiting = iter(messages)
        with self._lock:
            while batch := list(islice(waiting, _BATCH)):
                self._send(batch)

    def _send(self, batch: list[Message]) -> None:
        first = self._sequence + 1
        data = bytearray()
        for message in batch:
            self._sequence += 1
            flags = _REQUEST | _ACK | message.flags
            size = 16 + len(message.payload)
            data += struct.pack("IHHII", size, message.kind, flags, self._sequence, 0) + message.payload
        self._socket.send(data)
        answered = 0
        while answered < len(batch):
            for sequence, code in _answers(self._socket.recv(1 << 16)):
                answered += 1
                if code:
                    message = batch[sequence - first]
                    raise LabError(f"cannot set up {message.what}: {os.strerror(-code)}")


def _answers(data: bytes) -> Iterable[tuple[int, int]]:
    """Sequence number and error code (0: done) of each answer in a datagram."""
    offset = 0
    while offset < len(data):
        size, kind, _, sequence, _ = struct.unpack_from("IHHII", data, offset)
        if kind == _NLMSG_ERROR:
            yield sequence, struct.unpack_from("i", data, offset + 16)[0]
        offset += (size + 3) & ~3
