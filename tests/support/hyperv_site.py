"""A modelled host's state as a Site, so that the project's reference can judge its frames.

Written without the project's importer, which it serves to check. Values in a state are numbers:
OnOffState On is 0 (hyperv-semantics §5.1).
"""

from __future__ import annotations

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
    PortRange,
    Side,
    SwitchType,
    Vlan,
    VlanMode,
    normalise_mac,
)

Document = dict[str, Any]
NOWHERE = Origin("state")
ON = 0
NETWORK, UPLINK = "uplink", 60000
DIRECTIONS = {1: Direction.INBOUND, 2: Direction.OUTBOUND}
PROTOCOLS = {"TCP": 6, "UDP": 17}
PRIVATE_MODES = {1: VlanMode.ISOLATED, 2: VlanMode.COMMUNITY, 3: VlanMode.PROMISCUOUS}


def site_of(state: Document) -> Site:
    """The host with its connected adapters. Every external switch shares one physical network."""
    name = state["computer"]
    types = (SwitchType.PRIVATE, SwitchType.INTERNAL, SwitchType.EXTERNAL)
    switches = tuple(
        Switch(
            name,
            switch["Name"],
            types[switch["SwitchType"]],
            NOWHERE,
            f"br{index}",
            index + 1,
            network=NETWORK if switch["SwitchType"] == 2 else "",
            uplink=UPLINK + index if switch["SwitchType"] == 2 else 0,
            allow_management_os=switch["AllowManagementOS"],
        )
        for index, switch in enumerate(state["switches"])
    )
    by_guest: dict[str, list[Adapter]] = {}
    for number, adapter in enumerate(state["adapters"], start=1):
        guest = adapter["VMName"] or "ManagementOS"
        if adapter["SwitchId"]:
            by_guest.setdefault(guest, []).append(_adapter(name, guest, number, adapter))
    guests = tuple(
        Guest(
            guest,
            GuestKind.MANAGEMENT_OS if guest == "ManagementOS" else GuestKind.VM,
            NOWHERE,
            name,
            adapters=tuple(adapters),
        )
        for guest, adapters in by_guest.items()
    )
    networks = (PhysicalNetwork(NETWORK, NOWHERE),) if any(switch.network for switch in switches) else ()
    return Site(name, networks, (Host(name, NOWHERE, switches),), guests)


def _adapter(host: str, guest: str, number: int, state: Document) -> Adapter:
    return Adapter(
        guest,
        state["Name"],
        host,
        state["SwitchName"],
        normalise_mac(state["MacAddress"]),
        number,
        f"eth{number}",
        NOWHERE,
        is_management_os=state["IsManagementOs"],
        vlan=_vlan(state["vlan"]),
        addresses=tuple(ip_interface(text) for text in state["IPAddresses"]),
        mac_address_spoofing=state["MacAddressSpoofing"] == ON,
        dhcp_guard=state["DhcpGuard"] == ON,
        router_guard=state["RouterGuard"] == ON,
        allow_teaming=state["AllowTeaming"] == ON,
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


def _vlan(state: Document) -> Vlan:
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
            address = ip_network(text)
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
