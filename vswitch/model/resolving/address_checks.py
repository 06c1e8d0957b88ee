"""Legal but suspicious addresses: what a layout's author probably mistyped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vswitch.errors import Origin
from vswitch.model.resolving.guests import segment_vlan
from vswitch.model.resolving.suspicious import Note
from vswitch.model.site import Guest, GuestKind, Host, PhysicalPort
from vswitch.model.types import Interface

__all__ = ["address_notes"]

_Segment = tuple[str, int]  # broadcast domain (physical network or switch), VLAN


def address_notes(hosts: Sequence[Host], guests: Sequence[Guest]) -> list[Note]:
    """Warnings about gateways that nobody is, and addresses from the subnet of another VLAN."""
    domain = {switch.id: switch.network or switch.id for host in hosts for switch in host.switches}
    known = {str(address.ip) for guest in guests for address in guest.addresses}
    routers = [port for guest in guests if guest.kind is GuestKind.GATEWAY for port in guest.ports]
    found: list[Note] = []
    for guest in guests:
        found += [
            Note(
                guest.origin,
                f"the gateway {gateway} of {guest.name} is the address of no machine in the layout",
            )
            for gateway in guest.gateways
            if gateway not in known
        ]
        for origin, address, segment in _used(guest, domain):
            found += _elsewhere(guest, origin, address, segment, routers)
    return found


def _used(guest: Guest, domain: dict[str, str]) -> Iterable[tuple[Origin, Interface, _Segment]]:
    """The addresses of a guest that is no router of a physical network, each with its segment."""
    for adapter in guest.adapters:
        name = domain[f"{adapter.host}/{adapter.switch}"]
        for address in adapter.addresses:
            yield adapter.origin, address, (name, segment_vlan(adapter.vlan))
        for vlan, tagged in adapter.tagged_addresses:
            for address in tagged:
                yield adapter.origin, address, (name, vlan)
    if guest.kind is GuestKind.CLIENT:
        for port in guest.ports:
            for address in port.addresses:
                yield guest.origin, address, (port.network, port.vlan)


def _elsewhere(
    guest: Guest, origin: Origin, address: Interface, segment: _Segment, routers: Sequence[PhysicalPort]
) -> Iterable[Note]:
    """A warning if the routers of the network know the address's subnet only in other VLANs."""
    network, vlan = segment
    homes = {
        port.vlan
        for port in routers
        if port.network == network
        for own in port.addresses
        if own.version == address.version and address.ip in own.network
    }
    if homes and vlan not in homes:
        yield Note(
            origin,
            f"{address} of {guest.name} is in the subnet of {_named(min(homes))} of {network!r},"
            f" but the machine is on {_named(vlan)}",
        )


def _named(vlan: int) -> str:
    return f"VLAN {vlan}" if vlan else "the untagged network"
