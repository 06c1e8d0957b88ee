"""What a lab is made of, worked out from a site: namespaces, cables, bridges, guests' settings.

Pure. Names are short and made from numbers, because a site's names may be any text: hosts are
`h0`, `h1`, ..., guests `g0`, ..., physical networks `n0`, ... in the order of the site.

    guest g3: eth0 ──── p7 │ host h0: br0 (OpenFlow port 7)
                  host h0: br0, uplink port 1: p1 ──── h0p1 │ network n0 (a switch that knows VLANs)
    client g9: eth0 ──── g9eth0 │ network n0 (access port)

A trunk adapter whose guest has addresses on VLANs gets an `edge` bridge in between, which hands each
VLAN to a guest interface of its own (eth0.10, ...); not every kernel has VLAN interfaces:

    guest g3: eth0, eth0.10, ... ──── e7, e7v10, ... │ host h0: edge ── p7t ──── p7 │ host h0: br0
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vswitch.model.site import Adapter, Guest, Site, Switch
from vswitch.model.types import Interface, Network, Vlan, VlanMode, colon_mac
from vswitch.openvswitch import BridgeSpec, PortSpec

__all__ = [
    "CONTROLLER_SOCKET",
    "EDGE",
    "OPENFLOW_SOCKET",
    "Cable",
    "GuestPlan",
    "InstancePlan",
    "LabPlan",
    "make_plan",
]

EDGE = "edge"
OPENFLOW_SOCKET = "openflow.sock"
CONTROLLER_SOCKET = "controller.sock"
_NETWORK_DATAPATH_ID = 0xFFFF_0000_0000_0000  # far from the numbers of the site's own switches
_VLAN_PRESENT = 0x1000


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair: `interface` in the guest, `far_name` in the namespace `far` (h0, n0)."""

    interface: str
    far: str
    far_name: str
    mac: str  # with colons
    addresses: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """A guest: its namespace and all that is set in it."""

    guest: Guest
    namespace: str
    cables: tuple[Cable, ...]

    @property
    def routes(self) -> tuple[tuple[Network | None, str], ...]:
        """(destination, next hop); destination None is the default route."""
        return (*self.guest.routes, *((None, gateway) for gateway in self.guest.gateways))


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """An Open vSwitch instance of its own: a Hyper-V host's or a physical network's.

    `namespace` is its network namespace, `rundir` its folder below the lab's. `cables` are pairs with
    both ends in this namespace, `flows` the fixed flows of a bridge.
    """

    name: str
    namespace: str
    rundir: str
    bridges: tuple[BridgeSpec, ...]
    cables: tuple[tuple[str, str], ...] = ()
    flows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LabPlan:
    """The whole lab. `uplinks` are pairs (host namespace, name, network namespace, name)."""

    hosts: tuple[InstancePlan, ...]
    networks: tuple[InstancePlan, ...]
    guests: tuple[GuestPlan, ...]
    uplinks: tuple[tuple[str, str, str, str], ...]

    @property
    def instances(self) -> tuple[InstancePlan, ...]:
        """Hosts, then networks."""
        return (*self.hosts, *self.networks)


def make_plan(site: Site, rundir: Path, *, controller: bool = True) -> LabPlan:
    """The plan for `site`, in a lab whose run folder is `rundir`, with or without a controller."""
    hosts = {host.name: f"h{number}" for number, host in enumerate(site.hosts)}
    networks = {network.name: f"n{number}" for number, network in enumerate(site.networks)}
    guests = tuple(
        GuestPlan(guest, f"g{number}", _cables(guest, f"g{number}", hosts, networks))
        for number, guest in enumerate(site.guests)
    )
    uplinks = tuple(
        (hosts[switch.host], f"p{switch.uplink}", networks[switch.network], _uplink_name(hosts, switch))
        for switch in site.switch.values()
        if switch.network
    )
    return LabPlan(
        hosts=tuple(_host(site, number, rundir, controller) for number in range(len(site.hosts))),
        networks=tuple(_network(site, number, hosts, guests) for number in range(len(site.networks))),
        guests=guests,
        uplinks=uplinks,
    )


def _uplink_name(hosts: dict[str, str], switch: Switch) -> str:
    return f"{hosts[switch.host]}p{switch.uplink}"


def _has_edge(adapter: Adapter) -> bool:
    return bool(adapter.tagged_addresses)


def _cables(
    guest: Guest, namespace: str, hosts: dict[str, str], networks: dict[str, str]
) -> tuple[Cable, ...]:
    cables: list[Cable] = []
    for adapter in guest.adapters:
        far = f"e{adapter.number}" if _has_edge(adapter) else adapter.port_name
        untagged = Cable(
            adapter.interface, hosts[adapter.host], far, colon_mac(adapter.mac), adapter.addresses
        )
        cables.append(untagged)
        for vlan, addresses in adapter.tagged_addresses:
            name, far_name = f"{adapter.interface}.{vlan}", f"{far}v{vlan}"
            cables.append(replace(untagged, interface=name, far_name=far_name, addresses=addresses))
    for port in guest.ports:
        far_name = f"{namespace}{port.interface}"
        mac = colon_mac(port.mac)
        cables.append(Cable(port.interface, networks[port.network], far_name, mac, port.addresses))
    return tuple(cables)


def _host(site: Site, number: int, rundir: Path, controller: bool) -> InstancePlan:
    host = site.hosts[number]
    bridges: list[BridgeSpec] = []
    edge_ports: list[PortSpec] = []
    cables: list[tuple[str, str]] = []
    flows: list[str] = []
    # Open vSwitch connects to controllers below its own run folder only: there it finds a link.
    target = str(rundir / f"hosts/{number}" / OPENFLOW_SOCKET) if controller else ""
    for switch in host.switches:
        ports = [PortSpec(f"p{switch.uplink}", switch.uplink)] if switch.uplink else []
        for adapter in site.adapters_of(switch):
            port = PortSpec(adapter.port_name, adapter.number)
            ports.append(port if controller else _ordinary(port, adapter.vlan))
            if _has_edge(adapter):
                trunk = f"{adapter.port_name}t"
                cables.append((adapter.port_name, trunk))
                flows += _edge_flows(adapter, trunk, edge_ports)
        bridges.append(BridgeSpec(switch.bridge, switch.datapath_id, controller=target, ports=tuple(ports)))
    if edge_ports:
        bridges.append(BridgeSpec(EDGE, _NETWORK_DATAPATH_ID + 0x10000 + number, ports=tuple(edge_ports)))
    return InstancePlan(
        name=host.name,
        namespace=f"h{number}",
        rundir=f"hosts/{number}",
        bridges=tuple(bridges),
        cables=tuple(cables),
        flows=((EDGE, "\n".join(flows)),) if flows else (),
    )


def _ordinary(port: PortSpec, vlan: Vlan) -> PortSpec:
    """The port with the VLAN setting an ordinary switch would have for such an adapter."""
    match vlan.mode:
        case VlanMode.UNTAGGED:
            return replace(port, vlan_mode="trunk", trunks=(0,))
        case VlanMode.TRUNK:
            return replace(port, vlan_mode="native-untagged", tag=vlan.native, trunks=vlan.allowed)
        case _:
            return replace(port, vlan_mode="access", tag=vlan.send)


def _edge_flows(adapter: Adapter, trunk: str, ports: list[PortSpec]) -> list[str]:
    """The flows that sort an adapter's frames by VLAN; its ports are added to `ports`.

    Nothing is learned: all of a guest's interfaces share the adapter's MAC.
    """

    def add(name: str) -> int:
        ports.append(PortSpec(name, len(ports) + 1))
        return len(ports)

    outside, untagged = add(trunk), add(f"e{adapter.number}")
    flows = [
        f"add priority=1,in_port={outside} actions=output:{untagged}",
        f"add priority=1,in_port={untagged} actions=output:{outside}",
    ]
    for vlan, _ in adapter.tagged_addresses:
        port = add(f"e{adapter.number}v{vlan}")
        push = f"push_vlan:0x8100,set_field:{vlan | _VLAN_PRESENT}->vlan_vid"
        flows += [
            f"add priority=2,in_port={outside},dl_vlan={vlan} actions=pop_vlan,output:{port}",
            f"add priority=1,in_port={port} actions={push},output:{outside}",
        ]
    return flows


def _network(site: Site, number: int, hosts: dict[str, str], guests: tuple[GuestPlan, ...]) -> InstancePlan:
    """A physical network: one ordinary learning switch, uplinks as trunks, machines on access ports."""
    network = site.networks[number]
    names: list[tuple[str, int | None]] = [
        (_uplink_name(hosts, switch), None)
        for switch in site.switch.values()
        if switch.network == network.name
    ]
    for plan in guests:
        for port in plan.guest.ports:
            if port.network == network.name:
                names.append((f"{plan.namespace}{port.interface}", port.vlan))
    ports = []
    for index, (name, vlan) in enumerate(names, 1):
        if vlan:
            ports.append(PortSpec(name, index, vlan_mode="access", tag=vlan))
        else:  # VLAN 0 is the trunk's untagged frames
            trunks = (0,) if vlan == 0 else (0, *network.vlans)
            ports.append(PortSpec(name, index, vlan_mode="trunk", trunks=trunks))
    bridge = BridgeSpec("br0", _NETWORK_DATAPATH_ID + number, fail_mode="standalone", ports=tuple(ports))
    return InstancePlan(network.name, f"n{number}", f"networks/{number}", (bridge,))
