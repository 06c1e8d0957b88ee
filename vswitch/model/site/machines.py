"""Machines with an IP stack: guests, their adapters, physical ports and services."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from vswitch.errors import Origin
from vswitch.model.site.acls import BasicAcl, ExtendedAcl
from vswitch.model.site.host_nat import Nat
from vswitch.model.types import (
    Interface,
    Network,
    PortMirroring,
    Vlan,
)

__all__ = ["Service", "GuestKind", "Adapter", "PhysicalPort", "Guest"]


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
