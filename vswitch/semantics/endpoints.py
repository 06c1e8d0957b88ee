"""The ends of a conversation as hosts see them: interfaces, addresses and routes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from vswitch.errors import InputError
from vswitch.model.name_lookup import find_guest
from vswitch.model.names import find_name
from vswitch.model.problems import did_you_mean, listing
from vswitch.model.site import Adapter, Guest, PhysicalPort, Site
from vswitch.model.types import Interface
from vswitch.semantics.frame import Address

__all__ = ["Endpoint", "Nic", "Route", "choose_addresses", "endpoint", "nics_of", "owners", "route"]


@dataclass(frozen=True, slots=True)
class Nic:
    """One IP interface of a guest; `vlan` is the tag of a sub-interface, else 0."""

    guest: str
    interface: str
    mac: str
    vlan: int
    addresses: tuple[Interface, ...]
    end: Adapter | PhysicalPort

    def owns(self, address: Address) -> bool:
        """Whether this interface has the address."""
        return any(own.ip == address for own in self.addresses)

    def connected(self, address: Address) -> Interface | None:
        """The interface's own address in the longest of its subnets that holds `address`."""
        found = [own for own in self.addresses if own.version == address.version and address in own.network]
        return max(found, key=lambda own: own.network.prefixlen, default=None)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a user named: a guest, and perhaps one adapter or address of it."""

    guest: Guest
    nics: tuple[Nic, ...]
    address: Address | None = None

    def addresses(self, version: int) -> Iterator[tuple[Nic, Interface]]:
        """The addresses that may be used, in the order written."""
        for nic in self.nics:
            for own in nic.addresses:
                if own.version == version and self.address in (None, own.ip):
                    yield nic, own


@dataclass(frozen=True, slots=True)
class Route:
    """The way of one hop: out of `nic`, as `source`, to the neighbour `next_hop`."""

    nic: Nic
    source: Address
    next_hop: Address


def nics_of(guest: Guest) -> tuple[Nic, ...]:
    """All IP interfaces of a guest, sub-interfaces of a trunk included, in the order written."""
    found: list[Nic] = []
    for adapter in guest.adapters:
        found.append(Nic(guest.name, adapter.interface, adapter.mac, 0, adapter.addresses, adapter))
        for vlan, addresses in adapter.tagged_addresses:
            name = f"{adapter.interface}.{vlan}"
            found.append(Nic(guest.name, name, adapter.mac, vlan, addresses, adapter))
    for port in guest.ports:
        found.append(Nic(guest.name, port.interface, port.mac, 0, port.addresses, port))
    return tuple(found)


def owners(site: Site, address: Address) -> list[Nic]:
    """Every interface of the site that has this address."""
    return [nic for guest in site.guests for nic in nics_of(guest) if nic.owns(address)]


def endpoint(site: Site, text: str) -> Endpoint:
    """The end a user named: `web01`, `web01/Network Adapter`, `web01/eth0`, `web01/10.0.0.1` or `10.0.0.1`.

    Names are found without regard to case. Raises InputError when there is no such guest, adapter or
    address, or when several guests have the address.
    """
    name, _, rest = text.partition("/")
    whole = find_name(text, site.guest)
    address = None if whole or find_name(name, site.guest) else _address(text)
    if whole or address:
        guest = find_guest(site, text)
        nics = tuple(nic for nic in nics_of(guest) if address is None or nic.owns(address))
        return Endpoint(guest, nics, address)
    guest = find_guest(site, name)
    nics = nics_of(guest)
    if not rest:
        return Endpoint(guest, nics)
    try:
        wanted = ip_address(rest)
    except ValueError:
        names = list(dict.fromkeys(each for nic in nics for each in (_adapter_name(nic), nic.interface)))
        named = find_name(rest, names)
        chosen = tuple(nic for nic in nics if named in (nic.interface, _adapter_name(nic)))
        if chosen:
            return Endpoint(guest, chosen)
        adapters = list(dict.fromkeys(map(_adapter_name, nics)))
        hint = f"{did_you_mean(rest, adapters)} it has: {listing(adapters)}".strip()
        raise InputError(f"{guest.name} has no adapter {rest!r}", hint=hint) from None
    chosen = tuple(nic for nic in nics if nic.owns(wanted))
    if not chosen:
        own = ", ".join(str(each.ip) for each in guest.addresses) or "none"
        raise InputError(f"{guest.name} does not have the address {wanted}", hint=f"it has: {own}")
    return Endpoint(guest, chosen, wanted)


def _adapter_name(nic: Nic) -> str:
    return str(getattr(nic.end, "name", nic.interface))


def _address(text: str) -> Address | None:
    """The IP address that `text` is, with or without the length of its prefix."""
    try:
        return ip_interface(text).ip
    except ValueError:
        return None


def choose_addresses(
    source: Endpoint, destination: Endpoint, version: int | None
) -> tuple[Nic, Address, Address] | None:
    """The source interface and the two addresses, or None when the ends share no IP version.

    A pair in one subnet comes first, IPv4 before IPv6; else the destination's first address, and
    the source's address on the interface its route leaves by. Who is not behind a host's NAT asks the
    host by an address outside.
    """
    versions = (version,) if version else (4, 6)
    for each in versions:
        for nic, own in source.addresses(each):
            for other in _asked(source, destination, each):
                if other.ip in own.network and own.ip in other.network:
                    return nic, own.ip, other.ip
    for each in versions:
        for other in _asked(source, destination, each):
            usable = list(source.addresses(each))
            way = route(source.guest, other.ip, source.nics)
            for nic, own in usable:
                if way is not None and nic == way.nic:
                    return nic, own.ip, other.ip
            for nic, own in usable:
                return nic, own.ip, other.ip
    return None


def _asked(source: Endpoint, destination: Endpoint, version: int) -> list[Interface]:
    """The addresses of a destination by which the source may ask it."""
    found = [own for _, own in destination.addresses(version)]
    nat, here = destination.guest.nat, source.guest.host == destination.guest.host
    if nat is None or (here and any(nat.has_inside(own.ip) for own in source.guest.addresses)):
        return found
    return [own for own in found if not nat.has_inside(own.ip)] or found


def route(guest: Guest, destination: Address, preferred: tuple[Nic, ...] = ()) -> Route | None:
    """How a guest's IP stack sends to `destination`: the longest prefix among its subnets, its
    `routes` and its gateways; of equal ones a subnet first, then the preferred interfaces.
    """
    nics = nics_of(guest)
    candidates: list[tuple[tuple[int, int, bool], Route]] = []
    for nic in nics:
        own = nic.connected(destination)
        if own is not None:
            rank = (-own.network.prefixlen, 0, nic not in preferred)
            candidates.append((rank, Route(nic, own.ip, destination)))
    hops = [(network, hop) for network, hop in guest.routes if destination in network]
    written = [(network.prefixlen, hop) for network, hop in hops] + [(0, hop) for hop in guest.gateways]
    for length, hop in written:
        next_hop = ip_address(hop)
        if next_hop.version != destination.version:
            continue
        for nic in nics:
            own = nic.connected(next_hop)
            if own is not None:
                candidates.append(((-length, 1, nic not in preferred), Route(nic, own.ip, next_hop)))
    return min(candidates, key=lambda candidate: candidate[0], default=(None, None))[1]
