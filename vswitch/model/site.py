"""The site: everything a layout and its policies say, resolved, checked and frozen.

This is what the rest of the project works on; nothing here reads files. Names are unique: guests
(VMs, ManagementOS of each host, clients, gateways) share one name space. MAC addresses are unique.
Every ACL entry is one Hyper-V can hold: lists, groups and names are already expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from vswitch.errors import Origin
from vswitch.model.traffic import Traffic
from vswitch.model.types import (
    TCP,
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Interface,
    Network,
    PortMirroring,
    PortRange,
    Side,
    SwitchType,
    Vlan,
)

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
class ExtendedAcl:
    """One extended port ACL entry as Add-VMNetworkAdapterExtendedAcl takes it (§4.1).

    None stands for ANY. `idle_session_timeout` is in seconds, 0 for a stateless entry.
    `isolation_id` 0 means every VLAN. `name` and `origin` are the policy rule it comes from;
    several entries of one rule share them (Hyper-V itself stores no name). `by_order` says that the
    rule has no weight of its own: the order in the file gave it this one.
    """

    name: str
    origin: Origin
    action: Action
    direction: Direction
    weight: int  # 1-65535, larger is evaluated first, unique per adapter and direction
    local_ip_address: Network | None = None
    remote_ip_address: Network | None = None
    local_port: PortRange | None = None
    remote_port: PortRange | None = None
    protocol: int | None = None  # IP protocol number
    stateful: bool = False
    idle_session_timeout: int = 0
    isolation_id: int = 0
    by_order: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class BasicAcl:
    """One basic port ACL entry: one endpoint, one direction (§3.1).

    `address` is an IP prefix, a MAC in Hyper-V's spelling, or one of the ANY wildcards.
    """

    name: str
    origin: Origin
    action: BasicAction
    direction: Direction
    side: Side
    address: Network | str | AnyAddress

    @property
    def is_mac(self) -> bool:
        """Whether the entry looks at MAC addresses (and so also at non-IP frames)."""
        return self.address is AnyAddress.MAC or (
            isinstance(self.address, str) and not isinstance(self.address, AnyAddress)
        )


@dataclass(frozen=True, slots=True)
class Service:
    """Something that really listens in a guest. `protocol` is TCP (6) or UDP (17)."""

    protocol: int
    port: int
    name: str  # IANA service name, or ""


class GuestKind(StrEnum):
    """What a guest stands for."""

    VM = "VM"
    MANAGEMENT_OS = "ManagementOS"
    CLIENT = "Client"  # a machine on the physical network
    GATEWAY = "Gateway"  # the router of a physical network


@dataclass(frozen=True, slots=True)
class Adapter:
    """A VMNetworkAdapter: of a VM, or of the management OS.

    `addresses` are the guest's own on its untagged interface; `tagged_addresses` those of VLAN
    sub-interfaces inside the guest (Trunk only), sorted by VLAN id. `number` is the OpenFlow port
    on the host's Open vSwitch instance, unique within the host. `interface` is the Linux
    interface in the guest (`eth0`, ...); a sub-interface is `eth0.<vlan>`. `storm_limit` is in frames
    and `maximum_bandwidth` in bits per second, 0 for no limit; both are of what the guest sends (§2).
    With a `virtual_function` (SR-IOV) its frames go past the switch's port: no ACLs, guards, limits,
    mirroring (§1.6).
    """

    guest: str
    name: str
    host: str
    switch: str
    mac: str
    number: int
    interface: str
    origin: Origin
    is_management_os: bool = False
    vlan: Vlan = field(default_factory=Vlan)
    addresses: tuple[Interface, ...] = ()
    tagged_addresses: tuple[tuple[int, tuple[Interface, ...]], ...] = ()
    mac_address_spoofing: bool = False
    dhcp_guard: bool = False
    router_guard: bool = False
    allow_teaming: bool = False
    ieee_priority_tag: bool = False
    port_mirroring: PortMirroring = PortMirroring.NONE
    virtual_function: bool = False
    storm_limit: int = 0
    maximum_bandwidth: int = 0
    acls: tuple[BasicAcl, ...] = ()
    extended_acls: tuple[ExtendedAcl, ...] = ()  # by direction, then weight descending

    @property
    def id(self) -> str:
        """`web01/Network Adapter`: unique in the site, what users and reports call it."""
        return f"{self.guest}/{self.name}"

    @property
    def port_name(self) -> str:
        """The Linux interface of the switch's end, in the host's namespace."""
        return f"p{self.number}"


@dataclass(frozen=True, slots=True)
class PhysicalPort:
    """An access port of a physical network, with the machine behind it (client or gateway)."""

    guest: str
    network: str
    vlan: int  # 0 = untagged
    mac: str
    interface: str
    addresses: tuple[Interface, ...] = ()


class NatFiltering(StrEnum):
    """Whose packets an open NAT session admits beside the answers, in Set-NetNat's words (U12)."""

    ADDRESS_DEPENDENT = "AddressDependentFiltering"  # any port of an address that was sent to
    ENDPOINT_INDEPENDENT = "EndpointIndependentFiltering"  # anybody's


@dataclass(frozen=True, slots=True)
class StaticMapping:
    """One entry of Add-NetNatStaticMapping (§6). `protocol` is TCP (6) or UDP (17).

    `external_address` None stands for every external address of the NAT, `remote` None for every
    sender.
    """

    origin: Origin
    protocol: int
    external_address: IPv4Address | None
    external_port: int
    internal_address: IPv4Address
    internal_port: int
    remote: IPv4Network | None = None

    def __str__(self) -> str:
        name = "tcp" if self.protocol == TCP else "udp"
        return f"{name}/{self.external_port} to {self.internal_address}:{self.internal_port}"


@dataclass(frozen=True, slots=True)
class Nat:
    """The NAT network of a host, as New-NetNat makes it (§6). Timeouts are in seconds.

    `external` are the management OS's addresses by which it leaves: of several on one interface the
    first is used.
    """

    name: str
    origin: Origin
    internal: IPv4Network
    external: tuple[IPv4Address, ...]
    mappings: tuple[StaticMapping, ...] = ()
    tcp_filtering: NatFiltering = NatFiltering.ADDRESS_DEPENDENT
    udp_filtering: NatFiltering = NatFiltering.ADDRESS_DEPENDENT
    icmp_query_timeout: int = 30
    tcp_established_connection_timeout: int = 1800
    tcp_transient_connection_timeout: int = 120
    udp_idle_session_timeout: int = 120

    def has_inside(self, address: object) -> bool:
        """Whether an address (of either IP version) is one of the internal prefix."""
        return isinstance(address, IPv4Address) and address in self.internal


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine with an IP stack. VMs and ManagementOS have adapters, others physical ports.

    `gateways` are default routers (next-hop addresses, at most one IPv4 and one IPv6).
    `forwarding` makes it a router. `routes` are (destination prefix, next hop). `nat` is the NAT
    network of the host (ManagementOS only), for which alone a host passes packets on.
    """

    name: str
    kind: GuestKind
    origin: Origin
    host: str = ""  # VM, ManagementOS
    adapters: tuple[Adapter, ...] = ()
    ports: tuple[PhysicalPort, ...] = ()
    services: tuple[Service, ...] = ()
    gateways: tuple[str, ...] = ()
    routes: tuple[tuple[Network, str], ...] = ()
    forwarding: bool = False
    nat: Nat | None = None

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """All addresses of the guest, in the order written."""
        found: list[Interface] = []
        for adapter in self.adapters:
            found.extend(adapter.addresses)
            for _, tagged in adapter.tagged_addresses:
                found.extend(tagged)
        for port in self.ports:
            found.extend(port.addresses)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Switch:
    """A virtual switch of one host.

    `bridge` is the Open vSwitch bridge on the host's own instance (`br0`, ...), `datapath_id` its
    OpenFlow datapath id, unique in the site.
    `network` is the physical network behind an External switch, else "". `uplink` is the OpenFlow
    port of the uplink on the host's instance (External only, else 0). `aging_time` in seconds and
    `max_mac_addresses` bound the learned entries (§1.2).
    """

    host: str
    name: str
    type: SwitchType
    origin: Origin
    bridge: str
    datapath_id: int
    network: str = ""
    uplink: int = 0
    allow_management_os: bool = False
    aging_time: int = 300
    max_mac_addresses: int = 4096

    @property
    def id(self) -> str:
        """`hv01/vs-lan`: unique in the site."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True)
class Host:
    """A Hyper-V host: its switches by name, in file order."""

    name: str
    origin: Origin
    switches: tuple[Switch, ...] = ()


@dataclass(frozen=True, slots=True)
class PhysicalNetwork:
    """A VLAN-aware physical switch that joins uplinks, clients and a gateway.

    `vlans` lists the VLANs it carries besides untagged (0).
    """

    name: str
    origin: Origin
    vlans: tuple[int, ...] = ()


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
