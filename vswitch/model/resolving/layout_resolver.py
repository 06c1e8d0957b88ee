"""A layout file resolved: names looked up, defaults filled in, everything checked together.

The result is a site without policies. All rules about single values have been checked by
layout_file.py already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from vswitch.errors import InputError
from vswitch.model.files.layout_file import ClientEntry, HostEntry, LayoutFile, NetworkEntry
from vswitch.model.files.yaml_text import Node
from vswitch.model.names import find_name
from vswitch.model.problems import Report, did_you_mean, listing
from vswitch.model.resolving.address_checks import address_notes
from vswitch.model.resolving.claims import Claims, Path
from vswitch.model.resolving.guests import Guests, Links
from vswitch.model.resolving.macs import MacPools, made_up_macs
from vswitch.model.resolving.port_settings import mirroring_notes
from vswitch.model.resolving.suspicious import nat_notes
from vswitch.model.site import (
    Expectation,
    Guest,
    GuestKind,
    Host,
    PhysicalNetwork,
    PhysicalPort,
    Switch,
)
from vswitch.model.traffic import parse_traffic
from vswitch.model.types import SwitchType

__all__ = ["Bare", "resolve_layout"]


@dataclass(frozen=True)
class Bare:
    """A site before policies."""

    name: str
    networks: tuple[PhysicalNetwork, ...]
    hosts: tuple[Host, ...]
    guests: tuple[Guest, ...]
    expectations: tuple[Expectation, ...]
    warnings: tuple[str, ...] = ()  # as in Site


def resolve_layout(layout: LayoutFile, root: Node, file: str, report: Report) -> Bare | None:
    """The site a layout describes, or None if mistakes (put into `report`) prevent it."""
    before = len(report)
    bare = _Resolver(layout, Claims(root, file, report)).resolve()
    return bare if len(report) == before else None


class _Resolver:
    """Walks a layout in file order."""

    def __init__(self, layout: LayoutFile, claims: Claims) -> None:
        self.layout = layout
        self.claims = claims
        self.build = Guests(layout, claims, MacPools(layout))

    def resolve(self) -> Bare:
        self.claim_names()
        guests: list[Guest] = []
        networks: list[PhysicalNetwork] = []
        for name, network in self.layout.networks.items():
            networks.append(PhysicalNetwork(name, self.claims.at_key(("networks", name)), network.vlans))
            guests += self.network_guests(name, network)
        hosts: list[Host] = []
        for index, (name, host) in enumerate(self.layout.hosts.items()):
            resolved = self.host(index, name, host)
            hosts.append(resolved)
            guests += self.build.host_guests(resolved, host)
        expectations = self.expectations({guest.name: guest for guest in guests})
        adapters = [adapter for guest in guests for adapter in guest.adapters]
        notes = [*self.build.notes, *mirroring_notes(adapters)]
        if not self.claims.report:  # some addresses may be missing
            notes += [*address_notes(hosts, guests), *nat_notes(guests)]
        return Bare(
            self.layout.name,
            tuple(networks),
            tuple(hosts),
            tuple(guests),
            expectations,
            tuple(map(str, sorted(notes))),
        )

    def check_spelling(self, names: Iterable[str], path: Path, what: str) -> None:
        """Names of one kind must differ in more than case."""
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(name.lower(), name)
            if other != name:
                self.claims.report.add(
                    self.claims.at_key((*path, name)),
                    f"the {what} {other!r} and {name!r} differ only in case",
                    "Windows takes them for one; rename one of them",
                )

    def claim_names(self) -> None:
        self.check_spelling(self.layout.networks, ("networks",), "networks")
        for network, entry in self.layout.networks.items():
            if entry.gateways:
                path: Path = ("networks", network, "gateways")
                self.claims.name(f"{network}-gateway", path, "the network's router")
            for client in entry.clients:
                self.claims.name(client, ("networks", network, "clients", client), "a client")
        for host, host_entry in self.layout.hosts.items():
            self.check_spelling(host_entry.switches, ("hosts", host, "switches"), "switches")
            self.claims.name(host, ("hosts", host), "a host")
            for vm in host_entry.vms:
                self.claims.name(vm, ("hosts", host, "vms", vm), "a VM")

    # --- physical networks

    def network_guests(self, name: str, network: NetworkEntry) -> list[Guest]:
        path: Path = ("networks", name, "gateways")
        router = f"{name}-gateway"
        ports: list[PhysicalPort] = []
        for vlan, addresses in network.gateways.items():
            here = (*path, self.written_vlan(path, vlan))
            self.check_carried(vlan, name, network, here, on_key=True)
            self.claims.addresses(router, (name, vlan), addresses, here)
            mac = self.claims.free_mac(made_up_macs(f"{router} {vlan}"), self.claims.at_key(here))
            ports.append(PhysicalPort(router, name, vlan, mac, f"eth{len(ports)}", addresses))
        guests = [self.client(name, network, client, entry) for client, entry in network.clients.items()]
        if ports:
            where = self.claims.at_key(path)
            guests.insert(0, Guest(router, GuestKind.GATEWAY, where, ports=tuple(ports), forwarding=True))
        return guests

    def client(self, network: str, entry: NetworkEntry, name: str, client: ClientEntry) -> Guest:
        path: Path = ("networks", network, "clients", name)
        self.check_carried(client.vlan, network, entry, (*path, "vlan"))
        segment = (network, client.vlan)
        self.claims.addresses(name, segment, client.addresses, (*path, "addresses"))
        if client.mac:
            mac = client.mac
            self.claims.mac(mac, self.claims.at((*path, "mac")))
        else:
            mac = self.claims.free_mac(made_up_macs(name), self.claims.at_key(path))
        links: Links = [(address, segment) for address in client.addresses]
        return Guest(
            name,
            GuestKind.CLIENT,
            self.claims.at_key(path),
            ports=(PhysicalPort(name, network, client.vlan, mac, "eth0", client.addresses),),
            services=self.build.services(client.services, path),
            gateways=self.build.gateways(client.gateway, links, path),
            routes=self.build.routes(client.routes, links, path),
        )

    def check_carried(
        self, vlan: int, name: str, network: NetworkEntry, path: Path, *, on_key: bool = False
    ) -> None:
        if vlan and vlan not in network.vlans:
            where = self.claims.at_key(path) if on_key else self.claims.at(path)
            self.claims.report.add(
                where,
                f"VLAN {vlan} is not carried by the network {name!r}",
                f"it carries untagged frames and VLANs {listing(network.vlans)}; add {vlan} to its `vlans`",
            )

    def written_vlan(self, path: Path, vlan: int) -> str:
        """The key that was read as this VLAN (0 may be written `untagged`)."""
        entries = self.claims.root.find(path).entries or {}
        text = str(vlan)
        return (
            text
            if text in entries
            else next((key for key in entries if key.strip().lower() == "untagged"), text)
        )

    # --- hosts and switches

    def host(self, index: int, name: str, entry: HostEntry) -> Host:
        switches: list[Switch] = []
        uplinks = 0
        for position, (switch_name, switch) in enumerate(entry.switches.items()):
            path: Path = ("hosts", name, "switches", switch_name)
            network = self.network(switch_name, switch.type, switch.network, path)
            external = switch.type is SwitchType.EXTERNAL
            shared = switch.allow_management_os
            if shared is not None and not external and shared != (switch.type is SwitchType.INTERNAL):
                reaches = "never reaches" if shared else "always reaches"
                self.claims.wrong(
                    (*path, "allow_management_os"),
                    f"a switch of type {switch.type} {reaches} the management OS",
                    "leave allow_management_os out, or choose another type",
                )
            uplinks += external
            switches.append(
                Switch(
                    host=name,
                    name=switch_name,
                    type=switch.type,
                    origin=self.claims.at_key(path),
                    bridge=f"br{position}",
                    datapath_id=(index + 1) << 16 | (position + 1),
                    network=network or "",
                    uplink=uplinks if external else 0,
                    allow_management_os=switch.type is SwitchType.INTERNAL
                    or (external and shared is not False),
                    aging_time=switch.aging_time,
                    max_mac_addresses=switch.max_mac_addresses,
                )
            )
        return Host(name, self.claims.at_key(("hosts", name)), tuple(switches))

    def network(self, switch: str, kind: SwitchType, network: str | None, path: Path) -> str | None:
        """The physical network behind a switch, as its own entry spells it."""
        found = find_name(network, self.layout.networks) if network is not None else None
        if kind is not SwitchType.EXTERNAL:
            if network is not None:
                self.claims.wrong(
                    (*path, "network"),
                    f"the {kind} switch {switch!r} cannot have a network",
                    "only an External switch is joined to a physical network",
                )
        elif network is None:
            self.claims.report.add(
                self.claims.at_key(path),
                f"the External switch {switch!r} has no network",
                f"add `network:`; known: {listing(self.layout.networks)}",
            )
        elif found is None:
            self.claims.unknown((*path, "network"), "network", network, self.layout.networks)
        return found or network

    # --- expectations

    def expectations(self, guests: dict[str, Guest]) -> tuple[Expectation, ...]:
        found: list[Expectation] = []
        for index, entry in enumerate(self.layout.expect):
            path: Path = ("expect", index)
            source = self.end(entry.source, guests, (*path, "from"))
            destination = self.end(entry.destination, guests, (*path, "to"))
            try:
                traffic = parse_traffic(entry.traffic, self.claims.at((*path, "traffic")))
            except InputError as error:
                self.claims.report.append(error)
                continue
            found.append(
                Expectation(
                    source,
                    destination,
                    traffic,
                    entry.verdict,
                    entry.by or "",
                    self.claims.at(path),
                )
            )
        return tuple(found)

    def end(self, text: str, guests: dict[str, Guest], path: Path) -> str:
        """`guest`, `guest/adapter` or `guest/address` as the layout spells them; one must exist."""
        word, slash, part = text.partition("/")
        name = find_name(word, guests)
        if name is None:
            self.claims.unknown(path, "guest", word, guests)
            return text
        guest = guests[name]
        adapter = find_name(part, [each.name for each in guest.adapters])
        if not slash or adapter is not None:
            return f"{name}/{adapter}" if slash else name
        try:
            address = ip_address(part)
        except ValueError:
            names = [adapter.name for adapter in guest.adapters]
            guess = did_you_mean(part, names)
            self.claims.wrong(
                path,
                f"{name!r} has no adapter {part!r}",
                f"{guess}{' ' if guess else ''}its adapters: {listing(names)}",
            )
            return text
        if address not in (interface.ip for interface in guest.addresses):
            self.claims.wrong(path, f"{name!r} has no address {part}", f"it has {listing(guest.addresses)}")
        return f"{name}/{part}"
