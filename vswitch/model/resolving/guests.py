"""Guests of a host: adapters with their MACs, VLANs and addresses, default routers, routes, services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vswitch.errors import Origin
from vswitch.model.files.address_fields import Address
from vswitch.model.files.layout_file import AdapterEntry, HostEntry, LayoutFile, MachineEntry
from vswitch.model.names import find_name, same
from vswitch.model.problems import listing
from vswitch.model.resolving.claims import Claims, Path, Segment
from vswitch.model.resolving.macs import POOL_SIZE, MacPools
from vswitch.model.resolving.nat_resolver import resolve_nat
from vswitch.model.resolving.port_settings import has_virtual_function, virtual_function_notes
from vswitch.model.resolving.suspicious import Note
from vswitch.model.site import Adapter, Guest, GuestKind, Host, Service, Switch
from vswitch.model.types import Interface, Network, SwitchType, Vlan, VlanMode

__all__ = ["Guests", "Links", "segment_vlan"]

#: A guest's addresses, each with the broadcast domain it is on.
Links = list[tuple[Interface, Segment]]


class Guests:
    """Builds the guests of hosts in file order."""

    def __init__(self, layout: LayoutFile, claims: Claims, pools: MacPools) -> None:
        self.layout = layout
        self.claims = claims
        self.pools = pools
        self.notes: list[Note] = []

    def host_guests(self, host: Host, entry: HostEntry) -> Iterator[Guest]:
        """The management OS (if any switch reaches it) and the VMs of one host.

        OpenFlow ports are numbered in this order: uplinks, ManagementOS adapters, VM adapters.
        """
        switches = {switch.name: switch for switch in host.switches}
        number = 1 + sum(switch.type is SwitchType.EXTERNAL for switch in host.switches)
        path: Path = ("hosts", host.name)
        management = entry.management_os
        written = [
            (adapter, (*path, "management_os", "adapters", i))
            for i, adapter in enumerate(management.adapters)
        ]
        self.check_management(written, switches)
        here: Path = (*path, "management_os")
        entries: list[tuple[AdapterEntry, Path]] = written + [
            (AdapterEntry(switch=switch.name), (*path, "switches", switch.name))
            for switch in host.switches
            if switch.allow_management_os and not any(same(switch.name, each.switch) for each, _ in written)
        ]
        if entries:
            origin = self.claims.at_key(here if written else path)
            adapters = self.adapters(host, host.name, entries, number, switches, management=True)
            guest = self.guest(host, host.name, GuestKind.MANAGEMENT_OS, origin, management, adapters, here)
            yield replace(guest, nat=resolve_nat(entry.nat, guest, path, self.claims)) if entry.nat else guest
            number += len(entries)
        elif entry.nat:
            self.claims.wrong(
                (*path, "nat"),
                f"the management OS of {host.name!r} has no adapter, so its NAT has no side at all",
                "give it an Internal switch for the guests and share an External one with it",
            )
        elif management.services:
            self.claims.wrong(
                (*here, "services"),
                f"the management OS of {host.name!r} has services but no adapter",
                "share a switch with it (allow_management_os: true) or remove them",
            )
        for name, vm in entry.vms.items():
            vm_path: Path = (*path, "vms", name)
            vm_entries = [(adapter, (*vm_path, "adapters", i)) for i, adapter in enumerate(vm.adapters)]
            vm_adapters = self.adapters(host, name, vm_entries, number, switches)
            yield self.guest(host, name, GuestKind.VM, self.claims.at_key(vm_path), vm, vm_adapters, vm_path)
            number += len(vm_entries)

    def check_management(
        self, entries: Sequence[tuple[AdapterEntry, Path]], switches: Mapping[str, Switch]
    ) -> None:
        """A management OS only has adapters on switches that reach it."""
        for entry, path in entries:
            switch = _named(entry.switch, switches)
            if switch is None or switch.allow_management_os:
                continue
            private = switch.type is SwitchType.PRIVATE
            self.claims.wrong(
                (*path, "switch"),
                f"the switch {switch.name!r} does not reach the management OS",
                "a Private switch connects VMs only; an Internal one also the host"
                if private
                else "set allow_management_os: true on it",
            )

    def guest(
        self,
        host: Host,
        name: str,
        kind: GuestKind,
        origin: Origin,
        entry: MachineEntry,
        adapters: tuple[Adapter, ...],
        path: Path,
    ) -> Guest:
        """One VM or management OS with its adapters."""
        switches = {switch.name: switch for switch in host.switches}
        links: Links = []
        for adapter in adapters:
            switch = switches.get(adapter.switch)
            if switch is None:
                continue
            domain = switch.network or switch.id
            links += [(address, (domain, segment_vlan(adapter.vlan))) for address in adapter.addresses]
            for vlan, tagged in adapter.tagged_addresses:
                links += [(address, (domain, vlan)) for address in tagged]
        return Guest(
            name,
            kind,
            origin,
            host=host.name,
            adapters=adapters,
            services=self.services(entry.services, path),
            gateways=self.gateways(entry.gateway, links, path),
            routes=self.routes(entry.routes, links, path),
            forwarding=entry.forwarding,
        )

    # --- adapters

    def adapters(
        self,
        host: Host,
        guest: str,
        entries: Sequence[tuple[AdapterEntry, Path]],
        number: int,
        switches: Mapping[str, Switch],
        *,
        management: bool = False,
    ) -> tuple[Adapter, ...]:
        """The adapters of one guest; OpenFlow ports from `number` on."""
        names: dict[str, Origin] = {}
        found: list[Adapter] = []
        for index, (entry, path) in enumerate(entries):
            where = self.claims.at(path)
            switch = _named(entry.switch, switches)
            switch_name = switch.name if switch is not None else entry.switch
            default = switch_name if management else _default_name(index)
            name = entry.name or default
            first = names.setdefault(name.lower(), where)
            if first is not where:
                self.claims.wrong(
                    (*path, "name"),
                    f"{guest!r} has two adapters named {name!r}",
                    f"see {first}; give each a name that differs in more than case",
                )
            if switch is None:
                self.claims.unknown(
                    (*path, "switch"), f"switch on host {host.name!r} named", entry.switch, switches
                )
            else:
                self.check_vlan(entry, switch, path)
                domain = switch.network or switch.id
                vlan = segment_vlan(entry.vlan)
                self.claims.addresses(guest, (domain, vlan), entry.addresses, (*path, "addresses"))
                for vlan, tagged in entry.tagged.items():
                    self.claims.addresses(guest, (domain, vlan), tagged, (*path, "tagged", vlan))
            found.append(
                Adapter(
                    guest=guest,
                    name=name,
                    host=host.name,
                    switch=switch_name,
                    mac=self.mac(host.name, entry, path),
                    number=number + index,
                    interface=f"eth{index}",
                    origin=where,
                    is_management_os=management,
                    vlan=entry.vlan,
                    addresses=entry.addresses,
                    tagged_addresses=tuple(sorted(entry.tagged.items())),
                    mac_address_spoofing=entry.mac_address_spoofing,
                    dhcp_guard=entry.dhcp_guard,
                    router_guard=entry.router_guard,
                    allow_teaming=entry.allow_teaming,
                    ieee_priority_tag=entry.ieee_priority_tag,
                    port_mirroring=entry.port_mirroring,
                    virtual_function=has_virtual_function(entry.iov_weight, switch, management=management),
                    storm_limit=entry.storm_limit,
                    maximum_bandwidth=-(-entry.maximum_bandwidth // 8) * 8,
                )
            )
            if switch is not None:
                self.notes += virtual_function_notes(found[-1], entry.iov_weight, switch)
        return tuple(found)

    def mac(self, host: str, entry: AdapterEntry, path: Path) -> str:
        """The written MAC, or the next one of the host's pool."""
        if entry.mac:
            self.claims.mac(entry.mac, self.claims.at((*path, "mac")))
            return entry.mac
        where = self.claims.at(path)
        mac = self.pools.take(host)
        if mac is None:
            self.claims.report.add(
                where,
                f"the dynamic MAC pool of host {host!r} is exhausted",
                f"{self.pools.prefix(host)}-00 to -FF are {POOL_SIZE} addresses; write `mac:` for more",
            )
            return "00-00-00-00-00-00"
        self.claims.mac(
            mac,
            where,
            "it is dynamic: hosts whose first IPv4 addresses end in the same two octets share a pool,"
            " as on real hosts; write `mac:` or change the host's address",
        )
        return mac

    def check_vlan(self, entry: AdapterEntry, switch: Switch, path: Path) -> None:
        """Check an adapter's VLANs against its mode and the network behind its switch."""
        vlan = entry.vlan
        for vlan_id in entry.tagged:
            if vlan.mode is not VlanMode.TRUNK or vlan_id not in vlan.allowed:
                allowed = listing(vlan.allowed) if vlan.mode is VlanMode.TRUNK else ""
                self.claims.report.add(
                    self.claims.at_key((*path, "tagged", vlan_id)),
                    f"the guest cannot use VLAN {vlan_id} on this adapter",
                    f"the trunk allows {allowed}" if allowed else "tagged addresses need vlan: {trunk: ...}",
                )
        network = self.layout.networks.get(switch.network)
        if network is None:
            return
        used: list[tuple[Path, int]] = []
        match vlan.mode:
            case VlanMode.ACCESS:
                used = [(("vlan", "access"), vlan.access)]
            case VlanMode.ISOLATED | VlanMode.COMMUNITY:
                mode = vlan.mode.lower()
                used = [
                    (("vlan", mode, "primary"), vlan.primary),
                    (("vlan", mode, "secondary"), vlan.secondary),
                ]
            case VlanMode.PROMISCUOUS:
                used = [(("vlan", "promiscuous", "primary"), vlan.primary)]
                used += [(("vlan", "promiscuous", "secondaries"), each) for each in vlan.secondaries]
            case VlanMode.TRUNK:
                used = [(("tagged", each), each) for each in entry.tagged if each in vlan.allowed]
        for part, vlan_id in used:
            if vlan_id not in network.vlans:
                self.claims.wrong(
                    (*path, *part),
                    f"VLAN {vlan_id} is not carried by the network {switch.network!r}",
                    f"it carries untagged frames and VLANs {listing(network.vlans)};"
                    f" add {vlan_id} to its `vlans`",
                )

    # --- layer 3

    def gateways(self, written: tuple[Address, ...] | None, links: Links, path: Path) -> tuple[str, ...]:
        """Default routers: as written (on link), or those of the networks the guest is on."""
        if written is not None:
            for index, address in enumerate(written):
                self.check_on_link(address, links, (*path, "gateway", index), "gateway")
            return tuple(str(address) for address in written)
        found: dict[int, str] = {}
        own = {address.ip for address, _ in links}
        for address, (domain, vlan) in links:
            network = self.layout.networks.get(domain)
            for router in network.gateways.get(vlan, ()) if network else ():
                if (
                    router.version == address.version
                    and router.ip in address.network
                    and router.ip not in own
                ):
                    found.setdefault(router.version, str(router.ip))
        return tuple(found[version] for version in sorted(found))

    def routes(
        self, written: Mapping[Network, Address], links: Links, path: Path
    ) -> tuple[tuple[Network, str], ...]:
        """Static routes; each next hop must be on link."""
        for prefix, next_hop in written.items():
            here = (*path, "routes", self.written_prefix((*path, "routes"), prefix))
            if prefix.version != next_hop.version:
                self.claims.wrong(here, f"the route to {prefix} has an IPv{next_hop.version} next hop", "")
            else:
                self.check_on_link(next_hop, links, here, "next hop")
        return tuple((prefix, str(next_hop)) for prefix, next_hop in written.items())

    def written_prefix(self, path: Path, prefix: Network) -> str:
        """The key of `routes` that was read as this prefix."""
        entries = self.claims.root.find(path).entries or {}
        spellings = {str(prefix), str(prefix.network_address)}
        return next((key for key in entries if key.strip().lower() in spellings), str(prefix))

    def check_on_link(self, address: Address, links: Links, path: Path, what: str) -> None:
        """A router must share a prefix with the guest and not be the guest."""
        networks = [link.network for link, _ in links if link.version == address.version]
        if any(link.ip == address for link, _ in links):
            self.claims.wrong(path, f"the {what} {address} is the guest's own address", "")
        elif not any(address in network for network in networks):
            self.claims.wrong(
                path,
                f"the {what} {address} is not on link",
                f"the guest is on {listing(dict.fromkeys(networks))}",
            )

    def services(self, entries: Sequence[tuple[Service, ...]], path: Path) -> tuple[Service, ...]:
        """Listeners, each once."""
        found: dict[tuple[int, int], Service] = {}
        for index, entry in enumerate(entries):
            for service in entry:
                if (service.protocol, service.port) in found:
                    word = "tcp" if service.protocol == 6 else "udp"
                    self.claims.wrong(
                        (*path, "services", index),
                        f"{word}/{service.port} is listed twice",
                        "each port listens once",
                    )
                    break
                found[service.protocol, service.port] = service
        return tuple(found.values())


def _default_name(index: int) -> str:
    return f"Network Adapter {index + 1}" if index else "Network Adapter"


def _named(name: str, switches: Mapping[str, Switch]) -> Switch | None:
    """The switch of a host that an adapter names."""
    found = find_name(name, switches)
    return None if found is None else switches[found]


def segment_vlan(vlan: Vlan) -> int:
    """The VLAN whose broadcast domain a guest's untagged interface belongs to.

    The VLANs of a private VLAN are one IP subnet, here named by its primary.
    """
    return vlan.primary if vlan.is_private else vlan.send
