"""A modelled host's state as a Site, so that the project's reference can judge its frames.

Written without the project's importer and reader of entries, which it serves to check: nothing of
`vswitch.hyperv` is used. Values in a state are numbers: OnOffState On is 0 (hyper-v-facts §5.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Any

from vswitch.errors import Origin
from vswitch.model.site import (
    Adapter,
    BasicAcl,
    ExtendedAcl,
    Guest,
    GuestKind,
    Host,
    PhysicalNetwork,
    Site,
    Switch,
)
from vswitch.model.types import (
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Network,
    PortMirroring,
    PortRange,
    Side,
    SwitchType,
    Vlan,
    VlanMode,
    normalise_mac,
)

Document = dict[str, Any]
NOWHERE = Origin("state")
_MIRRORING = (PortMirroring.NONE, PortMirroring.DESTINATION, PortMirroring.SOURCE)
ON = 0
UPLINK, VLAN_ISOLATION = 60000, 3
DIRECTIONS = {1: Direction.INBOUND, 2: Direction.OUTBOUND}
PROTOCOLS = {"TCP": 6, "UDP": 17}
PRIVATE_MODES = {1: VlanMode.ISOLATED, 2: VlanMode.COMMUNITY, 3: VlanMode.PROMISCUOUS}


def site_of(*states: Document) -> Site:
    """Hosts with their connected adapters, as one site.

    Adapters are numbered as they stand in their host's state, from 1. External switches of one name
    share a physical network that carries every VLAN. Names that are not unique get an id behind them.
    """
    hosts: list[Any] = []
    guests: list[Any] = []
    for index, state in enumerate(states):
        switches = tuple(_switches(state, index << 16))
        hosts.append(Host(state["computer"], NOWHERE, switches))
        guests += _guests(state)
    networks = dict.fromkeys(switch.network for host in hosts for switch in host.switches if switch.network)
    carried = tuple(range(1, 4095))
    physical = tuple(PhysicalNetwork(name, NOWHERE, carried) for name in networks)
    return Site("host", physical, tuple(hosts), tuple(guests))


def _switches(state: Document, first: int) -> Iterable[Switch]:
    names = _unique((switch["Id"], switch["Name"]) for switch in state["switches"])
    for index, switch in enumerate(state["switches"]):
        kind = (SwitchType.PRIVATE, SwitchType.INTERNAL, SwitchType.EXTERNAL)[switch["SwitchType"]]
        external = kind is SwitchType.EXTERNAL
        yield Switch(
            state["computer"],
            names[switch["Id"]],
            kind,
            NOWHERE,
            f"br{index}",
            first + index + 1,
            network=switch["Name"] if external else "",
            uplink=UPLINK + index if external else 0,
            allow_management_os=switch["AllowManagementOS"],
        )


def _guests(state: Document) -> Iterable[Guest]:
    """The VMs and the management OS; told apart by the VM's id, which is what Hyper-V does."""
    host = state["computer"]
    switches = _unique((switch["Id"], switch["Name"]) for switch in state["switches"])
    with_functions = {
        switch["Id"] for switch in state["switches"] if switch["SwitchType"] == 2 and switch["IovEnabled"]
    }
    names = _unique((one["VMId"], one["VMName"]) for one in state["adapters"] if not one["IsManagementOs"])
    found: dict[str, list[Adapter]] = {}
    for number, one in enumerate(state["adapters"], start=1):
        guest = f"ManagementOS of {host}" if one["IsManagementOs"] else f"{names[one['VMId']]} on {host}"
        if one["SwitchId"]:
            adapter = _adapter(host, guest, switches[one["SwitchId"]], number, one)
            if not adapter.is_management_os and one["SwitchId"] in with_functions:
                active = one["IovWeight"] > 0 or one["VFDataPathActive"]
                adapter = replace(adapter, virtual_function=active)
            found.setdefault(guest, []).append(adapter)
    for guest, adapters in found.items():
        kind = GuestKind.MANAGEMENT_OS if adapters[0].is_management_os else GuestKind.VM
        yield Guest(guest, kind, NOWHERE, host, adapters=tuple(adapters))


def _unique(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names by id, with the id behind a name that several have."""
    found = dict(named)
    names: Sequence[str] = list(found.values())
    return {key: name if names.count(name) == 1 else f"{name} {key}" for key, name in found.items()}


def _adapter(host: str, guest: str, switch: str, number: int, state: Document) -> Adapter:
    return Adapter(
        guest,
        f"{state['Name']} {number}",
        host,
        switch,
        normalise_mac(state["MacAddress"]),
        number,
        f"eth{number}",
        NOWHERE,
        is_management_os=state["IsManagementOs"],
        vlan=_vlan(state["vlan"], state["isolation"]),
        addresses=tuple(ip_interface(text) for text in state["IPAddresses"]),
        mac_address_spoofing=state["MacAddressSpoofing"] == ON,
        dhcp_guard=state["DhcpGuard"] == ON,
        router_guard=state["RouterGuard"] == ON,
        allow_teaming=state["AllowTeaming"] == ON,
        ieee_priority_tag=state["IeeePriorityTag"] == ON,
        port_mirroring=_MIRRORING[state["PortMirroringMode"]],
        storm_limit=state["StormLimit"],
        maximum_bandwidth=state["BandwidthSetting"]["MaximumBandwidth"],
        acls=tuple(_basic(entry) for entry in state["acls"]),
        extended_acls=tuple(
            sorted(
                (_extended(entry) for entry in state["extendedAcls"]),
                key=lambda acl: (acl.direction, -acl.weight),
            )
        ),
    )


def _vlan(state: Document, isolation: Document) -> Vlan:
    """The VLAN mode, or the VLAN that Set-VMNetworkAdapterIsolation gives to untagged frames (§2.2)."""
    match state["OperationMode"]:
        case 1:
            return Vlan(VlanMode.ACCESS, access=state["AccessVlanId"])
        case 2:
            allowed = tuple(sorted(state["AllowedVlanIdList"]))
            return Vlan(VlanMode.TRUNK, native=state["NativeVlanId"], allowed=allowed)
        case 3:
            return Vlan(
                PRIVATE_MODES[state["PrivateVlanMode"]],
                primary=state["PrimaryVlanId"],
                secondary=state["SecondaryVlanId"],
                secondaries=tuple(sorted(state["SecondaryVlanIdList"])),
            )
        case _ if isolation["IsolationMode"] == VLAN_ISOLATION and isolation["DefaultIsolationID"]:
            return Vlan(VlanMode.ACCESS, access=isolation["DefaultIsolationID"])
        case _:
            return Vlan()


def _extended(entry: Document) -> ExtendedAcl:
    return ExtendedAcl(
        _name(entry, "Weight"),
        NOWHERE,
        (Action.ALLOW, Action.DENY)[entry["Action"] - 1],
        DIRECTIONS[entry["Direction"]],
        entry["Weight"],
        _network(entry["LocalIPAddress"]),
        _network(entry["RemoteIPAddress"]),
        _ports(entry["LocalPort"]),
        _ports(entry["RemotePort"]),
        _protocol(entry["Protocol"]),
        entry["Stateful"],
        entry["IdleSessionTimeout"] if entry["Stateful"] else 0,
        entry["IsolationID"],
    )


def _basic(entry: Document) -> BasicAcl:
    side = Side.LOCAL if entry["LocalAddressType"] else Side.REMOTE
    kind, text = entry[f"{side}AddressType"], entry[f"{side}Address"]
    address: Network | str | AnyAddress
    match kind:
        case 1:
            address = normalise_mac(text)
        case 4:
            address = ip_network("0.0.0.0/0")
        case 5:
            address = ip_network("::/0")
        case 6:
            address = AnyAddress.IP
        case 7:
            address = AnyAddress.MAC
        case _:
            address = ip_network(text, strict=False)
    action = (BasicAction.ALLOW, BasicAction.DENY, BasicAction.METER)[entry["Action"] - 1]
    return BasicAcl(_name(entry, "Action"), NOWHERE, action, DIRECTIONS[entry["Direction"]], side, address)


def _name(entry: Document, key: str) -> str:
    return f"{DIRECTIONS[entry['Direction']]} {key} {entry[key]}"


def _network(text: str) -> Network | None:
    return None if text == "ANY" else ip_network(text, strict=False)


def _ports(text: str) -> PortRange | None:
    if text == "ANY":
        return None
    first, _, last = text.partition("-")
    return PortRange(int(first), int(last or first))


def _protocol(text: str) -> int | None:
    if text == "ANY":
        return None
    return PROTOCOLS.get(text) or int(text)
