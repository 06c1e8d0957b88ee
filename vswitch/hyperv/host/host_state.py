"""A host's state as the PowerShell module exports it, read into typed data.

The reader is tolerant where hosts and PowerShell versions differ (§5.4): enumerations as numbers or
names, single objects in place of lists, missing columns, GUIDs as text or objects. An ACL entry it
cannot understand is kept as it is and named; it never becomes another entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from vswitch.acl_entries import Acls, Entry, describe, enum_value
from vswitch.errors import InputError, Origin
from vswitch.hyperv.host.name_checks import computer_fault
from vswitch.hyperv.host.nat_settings import NAT_SETTINGS, HostMapping, HostNat
from vswitch.hyperv.host.plan_document import label_of
from vswitch.hyperv.host.raw_values import (
    flag_of,
    id_of,
    list_of,
    mapping_of,
    maps_of,
    number_of,
    on_of,
    text_of,
)
from vswitch.hyperv.host.records import OwnershipRecord, owned_by_adapter
from vswitch.hyperv.host.shown_entries import EntryLists, ShownEntry, read_lists
from vswitch.hyperv.host.vlan_settings import ISOLATION_MODES, untold_vlans, vlan_setting
from vswitch.json_values import Json
from vswitch.model.problems import shorten
from vswitch.model.types import Direction, PortMirroring, SwitchType, Vlan, normalise_mac
from vswitch.textfiles import read_json

__all__ = [
    "HostAdapter",
    "HostState",
    "HostSwitch",
    "UnreadPart",
    "read_state",
    "state_from_file",
]

_NO_MAC = "00-00-00-00-00-00"
_NO_SWITCH = "00000000-0000-0000-0000-000000000000"
_TYPES = ("Private", "Internal", "External")
_MIRRORING_MODES = ("None", "Destination", "Source")
_VM_STATES = {"Running": 2, "Off": 3, "Saved": 6, "Paused": 9}


@dataclass(frozen=True, slots=True)
class HostSwitch:
    """A virtual switch. `nics` are the descriptions of the physical adapters behind it."""

    id: str
    name: str
    type: SwitchType
    allow_management_os: bool
    teaming: bool
    nics: tuple[str, ...] = ()
    notes: str = ""
    extensions: tuple[str, ...] = ()  # those switched on
    iov_enabled: bool = True


@dataclass(frozen=True, slots=True)
class HostAdapter:
    """A VMNetworkAdapter with everything of it that matters here.

    `vm_name` is "" for the management OS. `mac` is "" if none has been given out yet. `lists` are its
    ACL entries, extended and basic.
    """

    id: str
    name: str
    vm_id: str = ""
    vm_name: str = ""
    is_management_os: bool = False
    switch_id: str = ""
    switch_name: str = ""
    mac: str = ""
    dynamic_mac: bool = False
    addresses: tuple[str, ...] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)  # prefix lengths, as far as they are told
    spoofing: bool = False
    dhcp_guard: bool = False
    router_guard: bool = False
    allow_teaming: bool = False
    ieee_priority_tag: bool = False
    storm_limit: int = 0  # frames a second
    maximum_bandwidth: int = 0  # bit/s
    vlan: Vlan = field(default_factory=Vlan)
    isolation_mode: str = "None"
    isolation_id: int = 0
    port_mirroring: PortMirroring = PortMirroring.NONE
    iov_weight: int = 0
    virtual_function_active: bool = False
    others: tuple[str, ...] = ()  # further settings that differ from their default, for people
    lists: EntryLists = field(default_factory=EntryLists)

    @property
    def virtual_function(self) -> bool:
        """Whether frames go past the switch, or will once the VM and its NIC are ready for it."""
        return self.iov_weight > 0 or self.virtual_function_active

    @property
    def label(self) -> str:
        """`web01/Network Adapter` or `ManagementOS/vs-lan`, for people."""
        return label_of(None if self.is_management_os else self.vm_name, self.name)

    @property
    def entries(self) -> Mapping[Entry, ShownEntry]:
        """Every entry that can be read, with the object that shows it."""
        return self.lists.shown

    @property
    def unreadable(self) -> tuple[str, ...]:
        """What of its entries cannot be read, as text."""
        return self.lists.unreadable

    @property
    def walls(self) -> frozenset[tuple[Direction, int]]:
        """The weights of extended entries that cannot be read."""
        return self.lists.walls

    def texts(self, entries: Iterable[Entry]) -> frozenset[str]:
        """Some of the entries as text, with all that cannot be read."""
        return frozenset([*map(describe, entries), *self.unreadable])

    @property
    def acls(self) -> Acls:
        """All entries."""
        return Acls.of(self.entries)


@dataclass(frozen=True, slots=True)
class UnreadPart:
    """A part of the state that the account may not read, and why, such as `nats` or `records`."""

    part: str
    message: str

    def __str__(self) -> str:
        return f"{self.part}: {self.message}"


@dataclass(frozen=True)
class HostState:
    """One host. `ownership` is its record of the entries that vswitch has written.

    `recorded` is False only if the host has no record at all: no entry was ever written, or it is lost.
    `running` holds the ids of VMs that are not off. `unread` says what the account may not read.
    """

    schema_version: ClassVar[int] = 1

    computer: str
    system: str = ""
    time: str = ""
    switches: tuple[HostSwitch, ...] = ()
    adapters: tuple[HostAdapter, ...] = ()
    vms: tuple[tuple[str, str], ...] = ()  # id, name
    running: frozenset[str] = frozenset()
    teams: tuple[str, ...] = ()
    nats: tuple[HostNat, ...] = ()
    ownership: tuple[OwnershipRecord, ...] = ()
    recorded: bool = True
    unread: tuple[UnreadPart, ...] = ()

    @staticmethod
    def from_dict(document: Json, where: Origin | None = None) -> HostState:
        """See `read_state`."""
        return read_state(document, where)

    @cached_property
    def records(self) -> Mapping[str, frozenset[Entry]]:
        """The entries that are ours by the host's record, by adapter id."""
        return owned_by_adapter(self.ownership)

    @cached_property
    def others(self) -> Mapping[str, frozenset[str]]:
        """The entries of others that were there when a record was written, as text, by adapter id."""
        return {each.adapter: frozenset(each.others) for each in self.ownership if each.others is not None}

    def adapter(self, adapter_id: str) -> HostAdapter | None:
        """The adapter of that id."""
        return next((adapter for adapter in self.adapters if adapter.id == adapter_id), None)


# --- reading -------------------------------------------------------------------------------------


def state_from_file(path: str | os.PathLike[str]) -> HostState:
    """The state in an exported file. Raises InputError if it is not one."""
    document = read_json(path, "the state of a host", hint="export it with Export-VswitchState.ps1")
    return read_state(document, Origin(os.fspath(path)))


def read_state(document: Json, where: Origin | None = None) -> HostState:
    """The exported `document` (JSON as Python data) as typed data.

    Raises InputError at `where` for what is no host state at all, or of another schema.
    """
    hint = "export it again with the module that comes with this program"
    if not isinstance(document, Mapping) or "adapters" not in document or "computer" not in document:
        raise InputError("this is not the state of a Hyper-V host", where=where, hint=hint)
    if document.get("schema") != HostState.schema_version:
        raise InputError(
            f"the state has schema {shorten(document.get('schema'))}, not 1", where=where, hint=hint
        )
    computer = document["computer"]
    if (fault := computer_fault(computer)) or not isinstance(computer, str):
        raise InputError(
            f"the host calls itself {shorten(computer)}, which no computer is called: {fault}",
            where=where,
            hint="check which machine answers there; records are kept by the computer's name",
        )
    try:
        adapters = _adapters(document)
        vms = [(id_of(vm.get("Id")), text_of(vm.get("Name"))) for vm in maps_of(document.get("vms"))]
        own = _own_addresses(maps_of(document.get("addresses")))
        return HostState(
            computer=computer,
            system=text_of(document.get("os")),
            time=text_of(document.get("time")),
            switches=tuple(_switch(raw) for raw in maps_of(document.get("switches"))),
            adapters=tuple(_adapter(raw, own) for raw in adapters),
            vms=tuple(vms),
            running=frozenset(
                id_of(vm.get("Id"))
                for vm in maps_of(document.get("vms"))
                if enum_value(vm.get("State", 2), _VM_STATES, "a VM's state") != _VM_STATES["Off"]
            ),
            teams=tuple(_named(raw) for raw in maps_of(document.get("teams"))),
            nats=tuple(_nat(raw) for raw in maps_of(document.get("nats"))),
            ownership=tuple(map(OwnershipRecord.from_dict, maps_of(document.get("records")))),
            recorded=bool(document.get("records")) or flag_of(document.get("recorded", True)),
            unread=tuple(
                UnreadPart(text_of(part.get("part")), text_of(part.get("message")))
                for part in maps_of(document.get("unread"))
            ),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"the host's state cannot be understood: {error}", where=where, hint=hint) from None


def _adapters(document: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """All adapters, each with its lists of entries. Raises ValueError where a part is not told.

    Whatever is left out here would pass for an adapter without entries, and so for one that is as wanted.
    """
    told = document["adapters"]
    found = maps_of(told)
    if told is None or told == "" or len(found) < len(list_of(told)):
        raise ValueError("its adapters are not told")
    ids = [text_of(each.get("Id")) for each in found]
    if not all(ids) or len(set(ids)) < len(ids):
        raise ValueError("an adapter has no id of its own")
    for each in found:
        for name in ("acls", "extendedAcls"):
            if each.get(name) is None or each.get(name) == "":
                raise ValueError(f"the {name} of an adapter are not told")
    return found


def _switch(raw: Mapping[str, Json]) -> HostSwitch:
    kind = enum_value(raw.get("SwitchType"), _TYPES, "a switch type")
    if not 0 <= kind < len(_TYPES):
        raise ValueError(f"{kind} is not a switch type")
    return HostSwitch(
        id_of(raw.get("Id")),
        text_of(raw.get("Name")),
        SwitchType(_TYPES[kind]),
        flag_of(raw.get("AllowManagementOS")),
        flag_of(raw.get("EmbeddedTeamingEnabled")),
        tuple(text_of(nic) for nic in list_of(raw.get("NetAdapterInterfaceDescriptions"))),
        text_of(raw.get("Notes")),
        tuple(
            text_of(each.get("Name"))
            for each in maps_of(raw.get("Extensions"))
            if flag_of(each.get("Enabled"))
        ),
        raw.get("IovEnabled") is None or flag_of(raw.get("IovEnabled")),
    )


def _own_addresses(told: Sequence[Mapping[str, Json]]) -> dict[str, dict[str, int]]:
    """The host's own addresses with their prefix lengths, by MAC address."""
    found: dict[str, dict[str, int]] = {}
    for each in told:
        with suppress(ValueError):  # a tunnel's link has something else for a MAC address
            mac = normalise_mac(text_of(each.get("MacAddress")))
            found.setdefault(mac, {})[text_of(each.get("IPAddress"))] = number_of(each.get("PrefixLength"))
    return found


def _adapter(raw: Mapping[str, Json], own: Mapping[str, Mapping[str, int]]) -> HostAdapter:
    """`own` are the host's own addresses, by MAC address."""
    switch_id = id_of(raw.get("SwitchId"))
    mac = text_of(raw.get("MacAddress")).strip()
    mac = "" if not mac or normalise_mac(mac) == _NO_MAC else normalise_mac(mac)
    lengths = own.get(mac, {}) if flag_of(raw.get("IsManagementOs")) else {}
    told = [text_of(address) for address in list_of(raw.get("IPAddresses"))]
    isolation = mapping_of(raw.get("isolation"))
    mode = enum_value(isolation.get("IsolationMode", 0), ISOLATION_MODES, "an isolation mode")
    return HostAdapter(
        id=text_of(raw.get("Id")),
        name=text_of(raw.get("Name")),
        vm_id=id_of(raw.get("VMId")),
        vm_name=text_of(raw.get("VMName")),
        is_management_os=flag_of(raw.get("IsManagementOs")),
        switch_id="" if switch_id == _NO_SWITCH else switch_id,
        switch_name=text_of(raw.get("SwitchName")),
        mac=mac,
        dynamic_mac=flag_of(raw.get("DynamicMacAddressEnabled")),
        addresses=tuple(dict.fromkeys([*told, *lengths])),
        lengths=lengths,
        spoofing=on_of(raw.get("MacAddressSpoofing")),
        dhcp_guard=on_of(raw.get("DhcpGuard")),
        router_guard=on_of(raw.get("RouterGuard")),
        allow_teaming=on_of(raw.get("AllowTeaming")),
        ieee_priority_tag=on_of(raw.get("IeeePriorityTag")),
        storm_limit=number_of(raw.get("StormLimit")),
        maximum_bandwidth=number_of(mapping_of(raw.get("BandwidthSetting")).get("MaximumBandwidth")),
        vlan=vlan_setting(raw.get("vlan")),
        isolation_mode=ISOLATION_MODES[mode] if 0 <= mode < len(ISOLATION_MODES) else str(mode),
        isolation_id=number_of(isolation.get("DefaultIsolationID")),
        port_mirroring=_mirroring(raw.get("PortMirroringMode")),
        iov_weight=number_of(raw.get("IovWeight")),
        virtual_function_active=flag_of(raw.get("VFDataPathActive")),
        others=(*_others(raw), *untold_vlans(raw.get("vlan"), isolation)),
        lists=read_lists(list_of(raw.get("extendedAcls")), list_of(raw.get("acls"))),
    )


def _others(raw: Mapping[str, Json]) -> Iterable[str]:
    """Settings the layout has no word for."""
    mirroring = enum_value(raw.get("PortMirroringMode") or 0, _MIRRORING_MODES, "a mirroring mode")
    if not 0 <= mirroring < len(_MIRRORING_MODES):
        yield f"PortMirroringMode {mirroring} is not known"
    if number_of(raw.get("DynamicIPAddressLimit")):
        yield f"DynamicIPAddressLimit {number_of(raw.get('DynamicIPAddressLimit'))}"
    bandwidth = mapping_of(raw.get("BandwidthSetting"))
    for name in ("MinimumBandwidthWeight", "MinimumBandwidthAbsolute"):
        if number_of(bandwidth.get(name)):
            yield f"{name} {number_of(bandwidth.get(name))}: matters only where a physical NIC is full"


def _mirroring(raw: Json) -> PortMirroring:
    """PortMirroringMode (§2); missing and unknown ones are None."""
    known = dict(enumerate(_MIRRORING_MODES))
    return PortMirroring(known.get(enum_value(raw or 0, _MIRRORING_MODES, "a mirroring mode"), "None"))


def _named(raw: Mapping[str, Json]) -> str:
    members = ", ".join(text_of(each) for each in list_of(raw.get("NetAdapterInterfaceDescription")))
    return f"{text_of(raw.get('Name'))} ({members})" if members else text_of(raw.get("Name"))


def _nat(raw: Mapping[str, Json]) -> HostNat:
    return HostNat(
        text_of(raw.get("Name")),
        text_of(raw.get("InternalIPInterfaceAddressPrefix")),
        text_of(raw.get("ExternalIPInterfaceAddressPrefix")),
        tuple(
            HostMapping(
                text_of(each.get("Protocol")),
                text_of(each.get("ExternalIPAddress")),
                number_of(each.get("ExternalPort")),
                text_of(each.get("InternalIPAddress")),
                number_of(each.get("InternalPort")),
                text_of(each.get("RemoteExternalIPAddressPrefix")),
            )
            for each in maps_of(raw.get("mappings"))
        ),
        {name: text_of(raw.get(name)) for name in NAT_SETTINGS if text_of(raw.get(name))},
    )
