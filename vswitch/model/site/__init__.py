"""The site: everything a layout and its policies say, resolved, checked and frozen.

This is what the rest of the project works on; nothing here reads files. Names are unique: guests
(VMs, ManagementOS of each host, clients, gateways) share one name space. MAC addresses are unique.
Every ACL entry is one Hyper-V can hold: lists, groups and names are already expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from vswitch.errors import Origin
from vswitch.model.site.acls import BasicAcl, ExtendedAcl
from vswitch.model.site.host_nat import Nat, NatFiltering, StaticMapping
from vswitch.model.site.machines import Adapter, Guest, GuestKind, PhysicalPort, Service
from vswitch.model.site.switches import Host, PhysicalNetwork, Switch
from vswitch.model.traffic import Traffic

__all__ = [
    "Adapter",
    "BasicAcl",
    "Expectation",
    "ExtendedAcl",
    "Guest",
    "GuestKind",
    "Host",
    "Nat",
    "NatFiltering",
    "PhysicalNetwork",
    "PhysicalPort",
    "Service",
    "Site",
    "StaticMapping",
    "Switch",
]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line of `expect`: what real packets must prove.

    `verdict` is "Allow" (a service answers), "Refused" (delivered, nothing listens) or "Deny".
    `by` names the rule or drop reason that must have decided, or is "".
    """

    source: str
    destination: str
    traffic: Traffic
    verdict: str
    by: str
    origin: Origin


@dataclass(frozen=True)
class Site:
    """One layout with its policies applied."""

    name: str
    networks: tuple[PhysicalNetwork, ...]
    hosts: tuple[Host, ...]
    guests: tuple[Guest, ...]
    expectations: tuple[Expectation, ...] = ()
    files: tuple[str, ...] = ()  # the layout first, then the policies
    warnings: tuple[str, ...] = ()  # legal but suspicious: `file:line:column: sentence`

    @cached_property
    def guest(self) -> dict[str, Guest]:
        """Guests by name."""
        return {guest.name: guest for guest in self.guests}

    @cached_property
    def adapters(self) -> tuple[Adapter, ...]:
        """All adapters, hosts in order, each by OpenFlow port number."""
        order = {host.name: index for index, host in enumerate(self.hosts)}
        found = [adapter for guest in self.guests for adapter in guest.adapters]
        return tuple(sorted(found, key=lambda adapter: (order[adapter.host], adapter.number)))

    @cached_property
    def switch(self) -> dict[str, Switch]:
        """Switches by `host/name`."""
        return {switch.id: switch for host in self.hosts for switch in host.switches}

    def adapters_of(self, switch: Switch) -> tuple[Adapter, ...]:
        """The adapters connected to one switch, by OpenFlow port number."""
        return self._by_switch.get(switch.id, ())

    @cached_property
    def _by_switch(self) -> dict[str, tuple[Adapter, ...]]:
        found: dict[str, list[Adapter]] = {}
        for adapter in self.adapters:
            found.setdefault(f"{adapter.host}/{adapter.switch}", []).append(adapter)
        return {name: tuple(adapters) for name, adapters in found.items()}

    def physical_ports(self, network: str) -> Iterator[PhysicalPort]:
        """The access ports of one physical network."""
        for guest in self.guests:
            for port in guest.ports:
                if port.network == network:
                    yield port
