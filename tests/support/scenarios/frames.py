"""Frames as scenarios write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from tests.support.more_frames import arp_reply, later_fragment, neighbour_advertisement
from vswitch.model.site import Site
from vswitch.model.types import normalise_mac
from vswitch.semantics import frame as f
from vswitch.semantics.frame import Frame

__all__ = ["only", "place", "read_frame"]


def only(data: Mapping[str, Any], *allowed: str) -> None:
    """Raise ValueError for a key that is not one of those allowed."""
    if unknown := set(data) - set(allowed):
        raise ValueError(f"unknown keys {sorted(unknown)}, allowed: {', '.join(allowed)}")


class Shape:
    """How a scenario writes a frame: `from`, `to`, one kind, and what differs from the ordinary.

    `from` is a guest or guest/interface; `to` a guest, guest/interface, `broadcast` or a MAC address.
    Kinds: `udp: [67, 68]`, `tcp: [50000, 80]`, `icmp: 8`, `ip: 47`, `arp: request` or `reply`,
    `nd: solicitation` or `advertisement`, `ethertype: 0x88cc`. Further: `version` (4, or 6), `source_mac`
    and `destination_mac` (a MAC, or the guest that has it), `src` and `dst` (IP addresses), `tag` (VLAN),
    `priority` (802.1p, of the tag), `flags` (TCP's), `fragment` (first or later).
    """

    KINDS = ("udp", "tcp", "icmp", "ip", "arp", "nd", "ethertype")
    KEYS = (
        "from",
        "to",
        "version",
        "source_mac",
        "destination_mac",
        "src",
        "dst",
        "tag",
        "priority",
        "flags",
        "fragment",
    )

    def __init__(self, site: Site, data: Mapping[str, Any]) -> None:
        only(data, *self.KEYS, *self.KINDS)
        self.site, self.data = site, data
        kinds = [kind for kind in self.KINDS if kind in data]
        if len(kinds) != 1:
            raise ValueError(f"a frame has one kind of {self.KINDS}")
        self.kind = kinds[0]
        self.version = data.get("version", 4)

    def end(self, text: str) -> Any:
        """The adapter or physical port named `guest` or `guest/interface`."""
        name, _, interface = text.partition("/")
        guest = self.site.guest[name]
        ends: list[Any] = [*guest.adapters, *guest.ports]
        return next(each for each in ends if each.interface == (interface or "eth0"))

    def mac(self, text: str) -> str:
        if text == "broadcast":
            return f.BROADCAST
        try:
            return normalise_mac(text)
        except ValueError:
            return str(self.end(text).mac)

    def address(self, key: str, end: str) -> Any:
        if key in self.data:
            return ip_address(self.data[key])
        found = [own.ip for own in self.end(end).addresses if own.version == self.version]
        if not found:
            raise ValueError(f"{end} has no IPv{self.version} address: write {key}")
        return found[0]

    def build(self) -> Frame:
        data, value = self.data, self.data[self.kind]
        to = str(data.get("to", "broadcast"))
        source = self.mac(data.get("source_mac", data["from"]))
        target = self.mac(data.get("destination_mac", to))
        if self.kind == "ethertype":
            return f.raw(source, target, value)
        src, dst = self.address("src", data["from"]), self.address("dst", to)
        made = self._made(value, source, target, src, dst)
        if "to" in data or "destination_mac" in data:
            made = replace(made, dst_mac=target)
        match data.get("fragment"):
            case None:
                return made
            case "later":
                return later_fragment(made)
            case other:
                return replace(made, fragment=f.Fragment(other))

    def _made(self, value: Any, source: str, target: str, src: Any, dst: Any) -> Frame:
        match self.kind, value:
            case "arp", "request":
                assert isinstance(src, IPv4Address)
                return f.arp_request(source, src, dst)
            case "arp", "reply":
                assert isinstance(src, IPv4Address)
                return arp_reply(source, src, target, dst)
            case "nd", "solicitation":
                assert isinstance(src, IPv6Address)
                return f.neighbour_solicitation(source, src, dst)
            case "nd", "advertisement":
                assert isinstance(src, IPv6Address)
                return neighbour_advertisement(source, src, target, dst)
            case "udp", _:
                return f.udp(source, target, src, dst, *value)
            case "tcp", _:
                return f.tcp(source, target, src, dst, *value, flags=self.data.get("flags", "S"))
            case "icmp", _:
                return f.icmp(source, target, src, dst, value)
            case "ip", _:
                return f.ip(source, target, src, dst, value)
        raise ValueError(f"{self.kind}: {value}")


def read_frame(site: Site, data: Mapping[str, Any]) -> tuple[str, str, Frame]:
    """The guest and the interface it leaves by, and the frame. Raises ValueError, KeyError."""
    shape = Shape(site, data)
    guest, _, interface = data["from"].partition("/")
    made = shape.build().tagged(data.get("tag"))
    return guest, interface or "eth0", replace(made, priority=data.get("priority", 0))


def place(interface: str, priority: int) -> str:
    """Where a frame arrived: `guest/eth0`, `guest/eth0.10`, or with an 802.1p priority `guest/eth0.10^5`."""
    return f"{interface}^{priority}" if priority else interface
