"""Host states for tests, in the form of an export: small pieces with Hyper-V's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.modelled_host.host import blank_state
from tests.support.modelled_host.values import Document

OFF, RUNNING = 3, 2
PRIVATE, INTERNAL, EXTERNAL = 0, 1, 2
DIRECTIONS = {"Inbound": 1, "Outbound": 2}
ACTIONS = {"Allow": 1, "Deny": 2, "Meter": 3}


def switch(name: str, kind: int = PRIVATE, **fields: Any) -> Document:
    """A switch; its Id is made from its name."""
    return {
        "Id": _guid("5", name),
        "Name": name,
        "SwitchType": kind,
        "AllowManagementOS": kind != PRIVATE,
        "EmbeddedTeamingEnabled": False,
        "IovEnabled": False,
        "BandwidthReservationMode": 1,
        "NetAdapterInterfaceDescriptions": ["Example 10GbE Adapter"] if kind == EXTERNAL else [],
        "Notes": "",
        "Extensions": [{"Name": "Microsoft Windows Filtering Platform", "ExtensionType": 2, "Enabled": True}],
    } | fields


def vm(name: str, state: int = RUNNING) -> Document:
    """A VM; its Id is made from its name."""
    return {"Id": _guid("7", name), "Name": name, "State": state, "Generation": 2}


def adapter(
    owner: str | None,
    on: str | None,
    number: int,
    *addresses: str,
    name: str = "Network Adapter",
    acls: Sequence[Document] = (),
    rules: Sequence[Document] = (),
    **fields: Any,
) -> Document:
    """An adapter of a VM, or of the management OS (owner None), on a switch (or on None)."""
    machine = _guid("7", owner) if owner else None
    own = _guid("c", f"{owner}/{name}/{number}").upper()
    return {
        "Id": f"Microsoft:{(machine or own).upper()}\\{own}",
        "Name": name,
        "VMId": machine,
        "VMName": owner,
        "IsManagementOs": owner is None,
        "SwitchName": on or "",
        "SwitchId": _guid("5", on) if on else None,
        "Connected": on is not None,
        "MacAddress": f"00155D0A{number:04X}",
        "DynamicMacAddressEnabled": True,
        "IPAddresses": list(addresses),
        "MacAddressSpoofing": 1,
        "DhcpGuard": 1,
        "RouterGuard": 1,
        "AllowTeaming": 1,
        "PortMirroringMode": 0,
        "IeeePriorityTag": 1,
        "StormLimit": 0,
        "BandwidthSetting": {
            "MaximumBandwidth": 0,
            "MinimumBandwidthAbsolute": 0,
            "MinimumBandwidthWeight": 0,
        },
        "DynamicIPAddressLimit": 0,
        "IovWeight": 0,
        "VFDataPathActive": False,
        "vlan": {
            "OperationMode": 0,
            "AccessVlanId": 0,
            "NativeVlanId": 0,
            "AllowedVlanIdList": [],
            "PrivateVlanMode": 0,
            "PrimaryVlanId": 0,
            "SecondaryVlanId": 0,
            "SecondaryVlanIdList": [],
            "IsTemplate": True,
        },
        "isolation": {
            "IsolationMode": 0,
            "AllowUntaggedTraffic": False,
            "DefaultIsolationID": 0,
            "MultiTenantStack": 1,
            "IsTemplate": True,
        },
        "acls": list(acls),
        "extendedAcls": list(rules),
    } | fields


def extended(action: str, direction: str, weight: int, **fields: Any) -> Document:
    """An extended entry as it reads back; fields by their own names, the rest ANY."""
    return {
        "Direction": DIRECTIONS[direction],
        "Action": ACTIONS[action],
        "LocalIPAddress": "ANY",
        "RemoteIPAddress": "ANY",
        "LocalPort": "ANY",
        "RemotePort": "ANY",
        "Protocol": "ANY",
        "Weight": weight,
        "Stateful": False,
        "IdleSessionTimeout": 0,
        "IsolationID": 0,
    } | fields


def basic(action: str, direction: str, side: str, kind: int, address: str) -> Document:
    """A basic entry as it reads back. `kind` is the number of its address type."""
    entry: Document = {"Direction": DIRECTIONS[direction], "Action": ACTIONS[action]}
    for name in ("Local", "Remote"):
        used = name == side
        entry |= {f"{name}Address": address if used else "", f"{name}AddressType": kind if used else 0}
    return entry | {"MeteredMegabytes": "0" if action == "Meter" else ""}


def sample_state() -> Document:
    """A host with two VMs (one off), a management OS adapter, foreign entries, and awkward names."""
    state = blank_state("HV01")
    state["switches"] = [switch("vs-ext", EXTERNAL), switch("Störnetz 試験")]
    state["vms"] = [vm("web01"), vm("a'; Stop-VM *", OFF)]
    deny = extended("Deny", "Inbound", 1)
    state["adapters"] = [
        adapter(
            "web01",
            "vs-ext",
            1,
            "10.0.0.11",
            rules=[deny, extended("Allow", "Inbound", 500, Protocol="TCP", LocalPort="443")],
            acls=[basic("Deny", "Outbound", "Remote", 2, "10.9.0.0/16")],
        ),
        adapter("a'; Stop-VM *", "vs-ext", 2, "10.0.0.12", name="[ab]* $(Get-VM)"),
        adapter(None, "vs-ext", 3, "10.0.0.1", name="vs-ext"),
    ]
    state["addresses"] = [{"MacAddress": "00-15-5D-0A-00-03", "IPAddress": "10.0.0.1", "PrefixLength": 24}]
    return state


def plan(state: Document, steps: Sequence[Document], **fields: Any) -> Document:
    """A plan for a host in this state; lists the adapters its steps name."""
    named = list(dict.fromkeys(step["adapter"] for step in steps))
    return {
        "schema": 1,
        "planId": "plan-1",
        "host": state["computer"],
        "createdAt": "2026-01-01T00:00:00Z",
        "policyDigest": "0123",
        "adapters": [
            {
                "id": one["Id"],
                "name": one["Name"],
                "vmName": one["VMName"],
                "isManagementOs": one["IsManagementOs"],
                "expectedAcls": one["acls"],
                "expectedExtendedAcls": one["extendedAcls"],
            }
            for one in state["adapters"]
            if one["Id"] in named
        ],
        "steps": list(steps),
        "records": [],
        "expectedRecords": [record for record in state["records"] if record["adapter"] in named],
        "confirmWithin": 0,
    } | fields


def step(operation: str, adapter_id: str, entry: Document) -> Document:
    """One step of a plan."""
    return {"op": operation, "adapter": adapter_id, "entry": entry}


def _guid(kind: str, text: str) -> str:
    digits = text.encode("utf-8").hex()[-11:].rjust(11, "0")
    return f"{kind}0000000-0000-4000-8000-{kind}{digits}"
