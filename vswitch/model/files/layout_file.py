"""The layout file: what users may write, key by key, as pydantic models.

These models check each value by itself. What only shows when values are put together (unknown
switches, duplicate names, gateways not on link) is checked by layout.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from vswitch.errors import InputError
from vswitch.model import service_names as services
from vswitch.model.files.address_fields import InterfaceAddress, Mac, NextHop, NextHops, Prefix
from vswitch.model.files.fields import (
    EMPTY_LIST,
    EMPTY_TABLE,
    VLAN_SCHEMA,
    VLANS_SCHEMA,
    FileModel,
    GuestName,
    LabName,
    Many,
    Name,
    OnOff,
    VlanId,
    VlanOrUntagged,
    Vlans,
    budgets,
    integer,
    one_of,
    scalar,
    spend,
    vlan_id,
    vlan_or_untagged,
    vlans,
)
from vswitch.model.files.file_limits import Budget
from vswitch.model.files.nat_file import NatEntry, one_nat
from vswitch.model.problems import FieldError, did_you_mean, listing, shorten
from vswitch.model.site import Service
from vswitch.model.traffic import meant, parse_traffic, port_of, port_range_of
from vswitch.model.types import (
    MOST_BITS_A_SECOND,
    MOST_FRAMES_A_SECOND,
    TCP,
    UDP,
    PortMirroring,
    SwitchType,
    Vlan,
    VlanMode,
)

__all__ = [
    "AdapterEntry",
    "ClientEntry",
    "ExpectationEntry",
    "FileModel",
    "HostEntry",
    "LayoutFile",
    "MachineEntry",
    "NetworkEntry",
    "SwitchEntry",
    "VERDICTS",
]

VERDICTS = ("Allow", "Refused", "Deny")


# --- vlan: ---------------------------------------------------------------------------------------

_VLAN_KEYS: dict[str, tuple[str, ...]] = {
    "trunk": ("allowed", "native"),
    "isolated": ("primary", "secondary"),
    "community": ("primary", "secondary"),
    "promiscuous": ("primary", "secondaries"),
}


def _vlan(value: Any, info: ValidationInfo) -> Vlan:
    """The setting of Set-VMNetworkAdapterVlan (§2.1): `untagged` or one mode with its ids."""
    modes = ("access", *_VLAN_KEYS)
    if isinstance(value, str) and value.strip().lower() == "untagged":
        return Vlan()
    allowed = f"allowed: untagged or one of {listing(modes)}, such as {{access: 10}}"
    if not isinstance(value, dict):
        raise FieldError(f"{shorten(value) if value else 'nothing'} is not a VLAN setting", allowed)
    for key in value:
        if key not in modes:
            raise FieldError(
                f"unknown VLAN mode {shorten(key)}", f"{did_you_mean(key, modes)} {allowed}".strip(), (key,)
            )
    if len(value) != 1:
        raise FieldError(f"a VLAN setting has one mode, found {len(value)}", allowed)
    mode, setting = next(iter(value.items()))
    try:
        if mode == "access":
            return Vlan(VlanMode.ACCESS, access=vlan_id(setting))
        return _vlan_mode(mode, setting, budgets(info).vlan_ids)
    except FieldError as error:
        raise error.under(mode) from None


def _vlan_mode(mode: str, setting: Any, budget: Budget) -> Vlan:
    keys = _VLAN_KEYS[mode]
    shown = f"{{{mode}: {{{', '.join(f'{key}: ...' for key in keys)}}}}}"
    if not isinstance(setting, dict):
        raise FieldError(f"{mode} takes a mapping", f"write {shown}")
    for key in setting:
        if key not in keys:
            raise FieldError(
                f"unknown key {shorten(key)}", f"{did_you_mean(key, keys)} write {shown}", (key,)
            )
    if missing := next((key for key in keys if key not in setting and key != "native"), None):
        raise FieldError(f"the key {missing!r} is missing here", f"write {shown}")

    def read(key: str, reader: Any) -> Any:
        try:
            return reader(setting[key])
        except FieldError as error:
            raise error.under(key) from None

    def many(value: Any) -> tuple[int, ...]:
        return vlans(value, budget)

    if mode == "trunk":
        native = read("native", vlan_or_untagged) if "native" in setting else 0
        return Vlan(VlanMode.TRUNK, native=native, allowed=read("allowed", many))
    primary = read("primary", vlan_id)
    if mode == "promiscuous":
        secondaries = read("secondaries", many)
        if primary in secondaries:
            raise FieldError(
                f"the primary VLAN {primary} is also a secondary", "they must differ", ("secondaries",)
            )
        return Vlan(VlanMode.PROMISCUOUS, primary=primary, secondaries=secondaries)
    secondary = read("secondary", vlan_id)
    if primary == secondary:
        raise FieldError(f"primary and secondary VLAN are both {primary}", "they must differ", ("secondary",))
    return Vlan(VlanMode(mode.capitalize()), primary=primary, secondary=secondary)


def _vlan_object(keys: dict[str, Any], optional: str = "") -> dict[str, Any]:
    return {
        "type": "object",
        "properties": keys,
        "required": [key for key in keys if key != optional],
        "additionalProperties": False,
    }


_UNTAGGED_SCHEMA: dict[str, Any] = {"enum": ["untagged", "Untagged"]}
_PRIVATE_SCHEMA = _vlan_object({"primary": VLAN_SCHEMA, "secondary": VLAN_SCHEMA})
_VLAN_FORMS: dict[str, Any] = {
    "access": VLAN_SCHEMA,
    "trunk": _vlan_object(
        {"allowed": VLANS_SCHEMA, "native": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}, "native"
    ),
    "isolated": _PRIVATE_SCHEMA,
    "community": _PRIVATE_SCHEMA,
    "promiscuous": _vlan_object({"primary": VLAN_SCHEMA, "secondaries": VLANS_SCHEMA}),
}
_VlanSetting = Annotated[
    Vlan,
    PlainValidator(_vlan),
    WithJsonSchema(
        {"anyOf": [_UNTAGGED_SCHEMA, *(_vlan_object({key: form}) for key, form in _VLAN_FORMS.items())]}
    ),
]


# --- services: -----------------------------------------------------------------------------------


def _service(value: Any, info: ValidationInfo) -> tuple[Service, ...]:
    """`http`, `tcp/8080`, `{tcp: 8080}`, `{udp: dns}` or `{tcp: "8000-8003"}` as listeners.

    They are counted before they are made.
    """
    form = "allowed: a service name such as http, tcp/8080, udp/dns, or {tcp: 8000-8003}"
    budget = budgets(info).listeners
    if isinstance(value, dict):
        if not value:
            raise FieldError("a service is empty", form)
        found: list[Service] = []
        for key, ports in value.items():
            protocol = _LISTENING.get(key.lower())
            if protocol is None:
                guess = did_you_mean(key, tuple(_LISTENING))
                raise FieldError(f"unknown key {shorten(key)}", f"{guess} {form}".strip(), (key,))
            for item in ports if isinstance(ports, list) else [ports]:
                try:
                    found += _listeners(scalar(item, "a port or service name"), protocol, budget)
                except FieldError as error:
                    raise error.under(key) from None
        return tuple(found)
    text = scalar(value, "a service").strip()
    word, slash, ports_text = text.partition("/")
    if slash and word.strip().lower() in _LISTENING:
        return tuple(_listeners(ports_text, _LISTENING[word.strip().lower()], budget))
    try:
        asked = parse_traffic(text)
    except InputError:
        asked = None
    if asked and not asked.has_ports:
        raise FieldError(f"nothing listens on {shorten(text)}: only TCP and UDP have ports", form)
    if slash or ":" in text or _NUMBERS.fullmatch(text):
        fault = "is not a service" if slash or ":" in text else "says no protocol"
        raise FieldError(f"{shorten(text)[1:-1]} {fault}", f"{_other_form(text)} {form}".strip())
    protocol, port = port_of(text, form)
    return (Service(protocol, port, services.name_of(port, protocol)),)


_LISTENING = {"tcp": TCP, "udp": UDP}
_NUMBERS = re.compile(r"[\d\s-]+")


def _other_form(text: str) -> str:
    """What is meant by a protocol and ports in another form: `tcp:80`, `80/tcp`, `80`."""
    first, _, second = text.replace("/", ":").partition(":")
    ports = [
        f"{protocol.strip().lower()}/{number.strip()}"
        for protocol, number in ((first, second), (second, first))
    ]
    if not second:
        ports = [f"tcp/{first}", f"udp/{first}"]
    return meant(
        *(each for each in ports if each.partition("/")[0] in _LISTENING and not each.endswith("/0"))
    )


def _listeners(text: str, protocol: int, budget: Budget) -> list[Service]:
    ports = port_range_of(text, protocol, least=1)
    if not spend(budget, ports.last - ports.first + 1, "the services"):
        return []
    return [
        Service(protocol, port, services.name_of(port, protocol))
        for port in range(ports.first, ports.last + 1)
    ]


_PORT_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]
}
_PORTS_SCHEMA: dict[str, Any] = {"anyOf": [_PORT_SCHEMA, {"type": "array", "items": _PORT_SCHEMA}]}
_ServiceItem = Annotated[
    tuple[Service, ...],
    PlainValidator(_service),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": dict.fromkeys(("tcp", "udp", "TCP", "UDP"), _PORTS_SCHEMA),
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


# --- the file ------------------------------------------------------------------------------------


class ClientEntry(FileModel):
    """A machine on the physical network."""

    vlan: VlanOrUntagged = Field(default=0, description="VLAN of its access port; 0 or untagged for none.")
    addresses: Many[InterfaceAddress] = Field(default=(), description="Addresses with prefix length.")
    gateway: NextHops | None = Field(
        default=None, description="Default router; the network's own if not written."
    )
    routes: Annotated[dict[Prefix, NextHop], *EMPTY_TABLE] = Field(
        default={}, description="Further routes: prefix to next hop."
    )
    mac: Mac | None = Field(default=None, description="MAC address; made up if not written.")
    services: Annotated[tuple[_ServiceItem, ...], *EMPTY_LIST] = Field(
        default=(), description="What listens there."
    )


class NetworkEntry(FileModel):
    """A VLAN-aware physical switch with its router and clients."""

    vlans: Vlans = Field(default=(), description="VLANs it carries besides untagged frames: ids or ranges.")
    gateways: Annotated[dict[VlanOrUntagged, Many[InterfaceAddress]], *EMPTY_TABLE] = Field(
        default={}, description="The physical router's addresses on each VLAN (0: untagged)."
    )
    clients: Annotated[dict[GuestName, ClientEntry], *EMPTY_TABLE] = Field(
        default={}, description="Machines on it, by name."
    )


class SwitchEntry(FileModel):
    """A virtual switch."""

    type: Annotated[SwitchType, *one_of(SwitchType, "a switch type")] = Field(description="What it connects.")
    network: Name | None = Field(default=None, description="Physical network behind it; External only.")
    allow_management_os: OnOff | None = Field(
        None, description="Whether the host itself is connected; External: true if not written."
    )
    aging_time: Annotated[int, *integer(1, 1_000_000, "an ageing time in seconds")] = Field(
        default=300, description="Seconds after which a learned MAC is forgotten."
    )
    max_mac_addresses: Annotated[int, *integer(1, 1_000_000, "a number of MAC addresses")] = Field(
        default=4096, description="Most learned MACs."
    )


class AdapterEntry(FileModel):
    """A VMNetworkAdapter, of a VM or of the management OS."""

    switch: Name = Field(description="Switch of the same host.")
    name: Name | None = Field(default=None, description="Name of the adapter.")
    mac: Mac | None = Field(
        default=None, description="Static MAC address; from the host's pool if not written."
    )
    vlan: _VlanSetting = Field(default=Vlan(), description="VLAN mode.")
    addresses: Many[InterfaceAddress] = Field(
        default=(), description="Addresses with prefix length, in the guest."
    )
    tagged: Annotated[dict[VlanId, Many[InterfaceAddress]], *EMPTY_TABLE] = Field(
        default={}, description="Addresses on VLAN sub-interfaces inside the guest; Trunk only."
    )
    mac_address_spoofing: OnOff = Field(default=False, description="May send with any MAC address.")
    dhcp_guard: OnOff = Field(default=False, description="May not send DHCP server messages.")
    router_guard: OnOff = Field(
        default=False, description="May not send router advertisements and redirects."
    )
    allow_teaming: OnOff = Field(
        default=False, description="May send with the MACs of the guest's other adapters."
    )
    ieee_priority_tag: OnOff = Field(
        default=False, description="Keeps the 802.1p priority of tags it sends; Off: set to 0."
    )
    port_mirroring: Annotated[PortMirroring, *one_of(PortMirroring, "a mirroring mode")] = Field(
        default=PortMirroring.NONE,
        description="What a Source sends or receives is copied to every Destination of its switch.",
    )
    iov_weight: Annotated[int, *integer(0, 100, "an IovWeight")] = Field(
        default=0,
        description="SR-IOV: above 0, frames go past the switch: no ACLs, guards, limits or mirroring.",
    )
    storm_limit: Annotated[int, *integer(0, MOST_FRAMES_A_SECOND, "a number of frames per second")] = Field(
        default=0, description="Most broadcast, multicast and unknown unicast it may send a second; 0: any."
    )
    maximum_bandwidth: Annotated[int, *integer(0, MOST_BITS_A_SECOND, "a bandwidth in bit/s")] = Field(
        default=0, description="Most bits it may send a second; 0: any."
    )


class MachineEntry(FileModel):
    """A VM, or the management OS of a host."""

    adapters: Annotated[tuple[AdapterEntry, ...], *EMPTY_LIST] = Field(
        default=(), description="Network adapters."
    )
    gateway: NextHops | None = Field(
        default=None, description="Default router; the network's own if not written."
    )
    routes: Annotated[dict[Prefix, NextHop], *EMPTY_TABLE] = Field(
        default={}, description="Further routes: prefix to next hop."
    )
    forwarding: OnOff = Field(default=False, description="Whether the guest is a router.")
    services: Annotated[tuple[_ServiceItem, ...], *EMPTY_LIST] = Field(
        default=(), description="What listens there."
    )


class HostEntry(FileModel):
    """A Hyper-V host."""

    switches: Annotated[dict[Name, SwitchEntry], *EMPTY_TABLE] = Field(
        default={}, description="Virtual switches, by name."
    )
    management_os: MachineEntry = Field(default=MachineEntry(), description="The host's own network stack.")
    nat: Annotated[NatEntry | None, BeforeValidator(one_nat)] = Field(
        default=None, description="The host's NAT network, as New-NetNat makes it."
    )
    vms: Annotated[dict[GuestName, MachineEntry], *EMPTY_TABLE] = Field(
        default={}, description="VMs, by name."
    )


def _text(value: Any) -> str:
    text = scalar(value, "a text").strip()
    if not text:
        raise FieldError("a text is empty")
    return text


_Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]


class ExpectationEntry(FileModel):
    """One line of `expect`."""

    source: _Text = Field(alias="from", description="Guest, guest/adapter or guest/address.")
    destination: _Text = Field(alias="to", description="Guest, guest/adapter or guest/address.")
    traffic: _Text = Field(description="TRAFFIC: icmp, http, tcp/445, udp/53, tcp/1024-2048.")
    verdict: Annotated[str, *one_of(VERDICTS, "a verdict")] = Field(
        description="What real packets must prove."
    )
    by: _Text | None = Field(default=None, description="Rule or drop reason that must decide.")


class LayoutFile(FileModel):
    """A site: physical networks, Hyper-V hosts with switches and VMs, and what to expect of them."""

    name: LabName = Field(description="Name of the lab.")
    networks: Annotated[dict[Name, NetworkEntry], *EMPTY_TABLE] = Field(
        default={}, description="Physical networks, by name."
    )
    hosts: Annotated[dict[GuestName, HostEntry], *EMPTY_TABLE] = Field(
        default={}, description="Hyper-V hosts, by name."
    )
    policies: Many[_Text] = Field(default=(), description="Policy files, relative to this file.")
    expect: Annotated[tuple[ExpectationEntry, ...], *EMPTY_LIST] = Field(
        default=(), description="What `vswitch test` proves with real packets."
    )
