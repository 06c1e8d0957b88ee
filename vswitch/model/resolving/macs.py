"""MAC addresses nobody wrote: dynamic ones from a host's pool (§1.4), made-up ones of other machines."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2s
from ipaddress import IPv4Interface
from itertools import count

from vswitch.model.files.layout_file import HostEntry, LayoutFile

__all__ = ["POOL_SIZE", "MacPools", "made_up_macs"]

POOL_SIZE = 256


class MacPools:
    """The dynamic MAC pool of each host: 00-15-5D, two octets of the host, 00 to FF.

    The two octets are the last two of the host's first IPv4 address. A host without one gets a
    pair from its place in the file that no other host uses. Addresses written in the layout are
    never handed out.
    """

    def __init__(self, layout: LayoutFile) -> None:
        pairs: dict[str, int] = {}
        for name, host in layout.hosts.items():
            address = _first_ipv4(host)
            if address is not None:
                pairs[name] = int(address.ip) & 0xFFFF
        used = set(pairs.values())
        for index, name in enumerate(layout.hosts):
            if name not in pairs:
                pairs[name] = next(pair for pair in count(index + 1) if pair & 0xFFFF not in used) & 0xFFFF
                used.add(pairs[name])
        self._pairs = pairs
        self._next = dict.fromkeys(pairs, 0)
        self._written = _written_macs(layout)

    def prefix(self, host: str) -> str:
        """The first five octets of a host's pool."""
        pair = self._pairs[host]
        return f"00-15-5D-{pair >> 8:02X}-{pair & 0xFF:02X}"

    def take(self, host: str) -> str | None:
        """The next address of a host's pool, None when all 256 are used."""
        while self._next[host] < POOL_SIZE:
            mac = f"{self.prefix(host)}-{self._next[host]:02X}"
            self._next[host] += 1
            if mac not in self._written:
                return mac
        return None


def made_up_macs(name: str) -> Iterator[str]:
    """Locally administered addresses for a machine that is no VM, the first one by its name alone."""
    for salt in count():
        octets = blake2s(f"{name}|{salt}".encode(), digest_size=5).digest()
        yield "-".join(["02", *(f"{octet:02X}" for octet in octets)])


def _first_ipv4(host: HostEntry) -> IPv4Interface | None:
    for adapter in host.management_os.adapters:
        for address in adapter.addresses:
            if isinstance(address, IPv4Interface):
                return address
    return None


def _written_macs(layout: LayoutFile) -> frozenset[str]:
    found: set[str] = set()
    for host in layout.hosts.values():
        for machine in (host.management_os, *host.vms.values()):
            found.update(adapter.mac for adapter in machine.adapters if adapter.mac)
    for network in layout.networks.values():
        found.update(client.mac for client in network.clients.values() if client.mac)
    return frozenset(found)
