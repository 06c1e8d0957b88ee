"""The cmdlets of a Hyper-V host, as strict as the real ones: types, ranges, uniqueness, late refusals.

Every call is a numbered step at which a test can inject a fault. Facts: hyper-v-facts §§3, 4, 5;
where the sources leave a choice, the model takes the stricter side.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, TypeVar

from tests.support.winrm.endpoint import Hang, HostDied

Entry = dict[str, Any]
Adapter = dict[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

ALREADY_EXISTS, INVALID_PARAMETER = 0x800700B7, 0x80070057
NOT_FOUND, ACCESS_DENIED, FAILED = 0x80070490, 0x80070005, 0x80004005
BINDING_FAILED = 0x80131501

OFF, RUNNING = 3, 2
LIVE_STATES = {2, 4, 9, 10, 11}
MAC, IPV4, IPV6, ANY_IPV4, ANY_IPV6, ANY_IP, ANY_MAC = range(1, 8)
DIRECTIONS = {"Inbound": 1, "Outbound": 2}
BASIC_DIRECTIONS = {**DIRECTIONS, "Both": 3}
ACTIONS = {"Allow": 1, "Deny": 2}
BASIC_ACTIONS = {**ACTIONS, "Meter": 3}


class CmdletError(Exception):
    """A cmdlet refused. `hresult` is the unsigned Windows code."""

    def __init__(
        self, message: str, hresult: int, category: str = "InvalidArgument", cmdlet: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hresult = hresult
        self.category = category
        self.cmdlet = cmdlet


@dataclass(frozen=True)
class CmdletFault:
    """Something that goes wrong at one step of one operation, once.

    `step` counts from 1 within a call of `HypervHost.execute`. `kind` is "error", "die" or "hang";
    `when` says whether the step's own effect has happened ("after") or not ("before").
    """

    step: int
    kind: str = "error"
    when: str = "before"
    hresult: int = FAILED
    message: str = ""  # "The operation failed." with the code, if empty
    operation: str = ""  # only in this operation; any, if empty


def cmdlet(name: str) -> Callable[[Function], Function]:
    """Marks a method as the model of one cmdlet and makes each call of it a numbered step."""

    def mark(method: Function) -> Function:
        @functools.wraps(method)
        def call(self: Cmdlets, *args: Any, **arguments: Any) -> Any:
            def effect() -> Any:
                try:
                    return method(self, *args, **arguments)
                except CmdletError as error:
                    error.cmdlet = error.cmdlet or name
                    raise

            return self.step(name, effect)

        call.cmdlet = name  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return mark


class Cmdlets:
    """What one host holds and what its cmdlets do to it.

    `content` is in the form of an exported state. `any_as_two` makes basic ANY entries read back as
    one entry per IP version instead of one for both: hosts may do either.
    """

    def __init__(self, content: dict[str, Any], *, any_as_two: bool = False) -> None:
        self.content = content
        self.any_as_two = any_as_two
        self.administrator = True
        self.hyper_v_administrator = True
        self.hyper_v_missing = False
        self.tasks: dict[str, tuple[str, str]] = {}  # name: when (UTC), the folder of its script
        self.ran: set[str] = set()  # tasks whose time has come; they stay registered
        self.files: dict[str, str] = {}  # below ProgramData, "/" between folders
        self.faults: list[CmdletFault] = []
        self.on_step: Callable[[str], None] = lambda _name: None
        self.log: list[str] = []
        self.operation = ""

    # -------------------------------------------------------------- steps and faults

    def begin(self, operation: str) -> None:
        """A new process starts: steps count from 1 again."""
        self.operation = operation
        self.log = []

    def step(self, name: str, effect: Callable[[], Any]) -> Any:
        """One numbered step; raises what a fault says, before or after its effect."""
        self.log.append(name)
        self.on_step(name)
        fault = self._due()
        if fault is not None and fault.when == "before":
            self._fail(fault, name)
        result = effect()
        if fault is not None:
            self._fail(fault, name)
        return result

    def _due(self) -> CmdletFault | None:
        for fault in self.faults:
            if fault.step == len(self.log) and fault.operation in ("", self.operation):
                self.faults.remove(fault)
                return fault
        return None

    @staticmethod
    def _fail(fault: CmdletFault, name: str) -> None:
        if fault.kind == "die":
            raise HostDied(name)
        if fault.kind == "hang":
            raise Hang(name)
        text = fault.message or f"The operation failed. (0x{fault.hresult:08X})"
        raise CmdletError(text, fault.hresult, "NotSpecified", name)

    # -------------------------------------------------------------- reading

    @cmdlet("Import-Module")
    def import_module(self, *, Name: str) -> None:
        if Name == "Hyper-V" and self.hyper_v_missing:
            text = "The module 'Hyper-V' was not loaded: there is no such module"
            raise CmdletError(text, BINDING_FAILED, "ResourceUnavailable")

    @property
    def sees(self) -> bool:
        """Whether the account is in one of the groups; for others the cmdlets return nothing at all."""
        return self.administrator or self.hyper_v_administrator

    @cmdlet("Get-VM")
    def get_vm(self) -> list[dict[str, Any]]:
        return list(self.content["vms"]) if self.sees else []

    @cmdlet("Get-VMNetworkAdapter")
    def get_vm_network_adapter(
        self, *, VM: Sequence[dict[str, Any]] = (), ManagementOS: bool = False
    ) -> list[Adapter]:
        if bool(VM) == ManagementOS:
            raise CmdletError("Parameter set cannot be resolved", BINDING_FAILED)
        if not self.sees:
            return []
        if ManagementOS:
            return [adapter for adapter in self.content["adapters"] if adapter["IsManagementOs"]]
        wanted = {machine["Id"] for machine in VM}
        return [adapter for adapter in self.content["adapters"] if adapter["VMId"] in wanted]

    @cmdlet("Get-VMNetworkAdapterVlan")
    def get_vm_network_adapter_vlan(self, *, VMNetworkAdapter: Adapter) -> list[dict[str, Any]]:
        return [self._present(VMNetworkAdapter)["vlan"]]

    @cmdlet("Get-VMNetworkAdapterIsolation")
    def get_vm_network_adapter_isolation(self, *, VMNetworkAdapter: Adapter) -> list[dict[str, Any]]:
        return [self._present(VMNetworkAdapter)["isolation"]]

    @cmdlet("Get-VMNetworkAdapterAcl")
    def get_vm_network_adapter_acl(self, *, VMNetworkAdapter: Adapter) -> list[Entry]:
        return list(self._present(VMNetworkAdapter)["acls"])

    @cmdlet("Get-VMNetworkAdapterExtendedAcl")
    def get_vm_network_adapter_extended_acl(self, *, VMNetworkAdapter: Adapter) -> list[Entry]:
        return list(self._present(VMNetworkAdapter)["extendedAcls"])

    @cmdlet("Get-VMSwitch")
    def get_vm_switch(self) -> list[dict[str, Any]]:
        return list(self.content["switches"]) if self.sees else []

    @cmdlet("Get-VMSwitchTeam")
    def get_vm_switch_team(self) -> list[dict[str, Any]]:
        return list(self.content["teams"]) if self.sees else []

    @cmdlet("Get-NetAdapter")
    def get_net_adapter(self) -> list[dict[str, Any]]:
        return [{"InterfaceIndex": index, "MacAddress": mac} for mac, index in self._own_links().items()]

    @cmdlet("Get-NetIPAddress")
    def get_net_ip_address(self) -> list[dict[str, Any]]:
        links = self._own_links()
        return [
            {"InterfaceIndex": links[own["MacAddress"]], **own} for own in self.content.get("addresses", ())
        ]

    def _own_links(self) -> dict[str, int]:
        """The host's own network adapters that have addresses: MAC address to index."""
        macs = dict.fromkeys(own["MacAddress"] for own in self.content.get("addresses", ()))
        return {mac: index for index, mac in enumerate(macs, 1)}

    @cmdlet("Get-NetNat")
    def get_net_nat(self) -> list[dict[str, Any]]:
        if not self.administrator:
            raise CmdletError("Access is denied.", ACCESS_DENIED, "PermissionDenied")
        return list(self.content["nats"])

    @cmdlet("Get-NetNatStaticMapping")
    def get_net_nat_static_mapping(self) -> list[dict[str, Any]]:
        return [
            {**mapping, "NatName": nat["Name"]} for nat in self.content["nats"] for mapping in nat["mappings"]
        ]

    def _present(self, adapter: Adapter) -> Adapter:
        if not any(adapter is here for here in self.content["adapters"]):
            raise CmdletError(
                "Hyper-V was unable to find the network adapter. (0x80070490)", NOT_FOUND, "ObjectNotFound"
            )
        return adapter

    # -------------------------------------------------------------- files

    def read(self, path: str) -> Any:
        """The document in a file. Raises FileNotFoundError, ValueError."""
        if path not in self.files:
            raise FileNotFoundError(path)
        return json.loads(self.files[path])

    def write(self, path: str, document: Any) -> None:
        """Two numbered steps: between them the old file is gone and the new one not yet at its place.

        Replacing a file is two renames, and the second may fail or never come.
        """
        text, fresh = json.dumps(document), f"{path}.new"

        def begin() -> None:
            self.files[fresh] = text
            self.files.pop(path, None)

        self.step(f"write {path}", begin)
        self.step(f"write {path}: in its place", lambda: self.files.update({path: self.files.pop(fresh)}))

    def append(self, path: str, text: str) -> None:
        """A numbered step: the text is on the disk at the end of the file, or not."""
        whole = self.files.get(path, "") + text
        self.step(f"write {path}", lambda: self.files.__setitem__(path, whole))

    # -------------------------------------------------------------- extended ACLs

    @cmdlet("Add-VMNetworkAdapterExtendedAcl")
    def add_vm_network_adapter_extended_acl(
        self,
        *,
        VMNetworkAdapter: Adapter,
        Action: str,
        Direction: str,
        Weight: int,
        LocalIPAddress: str = "ANY",
        RemoteIPAddress: str = "ANY",
        LocalPort: str = "ANY",
        RemotePort: str = "ANY",
        Protocol: str = "ANY",
        Stateful: bool = False,
        IdleSessionTimeout: int | None = None,
        IsolationID: int = 0,
    ) -> None:
        adapter = self._present(VMNetworkAdapter)
        _type("Stateful", Stateful, bool)
        _range("Weight", Weight, 1, 65535)
        timeout = 255 if IdleSessionTimeout is None else IdleSessionTimeout
        _range("IdleSessionTimeout", timeout, 0, 65535)
        if IdleSessionTimeout is not None and not Stateful:
            raise _refused("IdleSessionTimeout without Stateful")
        _range("IsolationID", IsolationID, 0, 2**31 - 1)
        local, remote = _ip("LocalIPAddress", LocalIPAddress), _ip("RemoteIPAddress", RemoteIPAddress)
        if "ANY" not in (local, remote) and (":" in local) != (":" in remote):
            raise _refused("An IPv4 and an IPv6 address in one entry")
        protocol = _protocol(Protocol)
        local_port, remote_port = _port("LocalPort", LocalPort), _port("RemotePort", RemotePort)
        if (local_port, remote_port) != ("ANY", "ANY") and protocol not in ("TCP", "UDP"):
            raise _refused("Ports with a protocol that has none")
        entry = {
            "Direction": _member("Direction", Direction, DIRECTIONS),
            "Action": _member("Action", Action, ACTIONS),
            "LocalIPAddress": local,
            "RemoteIPAddress": remote,
            "LocalPort": local_port,
            "RemotePort": remote_port,
            "Protocol": protocol,
            "Weight": Weight,
            "Stateful": Stateful,
            "IdleSessionTimeout": timeout if Stateful else 0,
            "IsolationID": IsolationID,
        }
        if self.is_live(adapter) and _cannot_work(entry):
            raise _refused("Failed to apply the network adapter's settings")
        for other in adapter["extendedAcls"]:
            if (other["Direction"], other["Weight"]) == (entry["Direction"], Weight):
                raise _duplicate()
        adapter["extendedAcls"].append(entry)

    @cmdlet("Remove-VMNetworkAdapterExtendedAcl")
    def remove_vm_network_adapter_extended_acl(self, *, InputObject: Sequence[Entry]) -> None:
        self._remove("extendedAcls", InputObject)

    # -------------------------------------------------------------- basic ACLs

    @cmdlet("Add-VMNetworkAdapterAcl")
    def add_vm_network_adapter_acl(
        self, *, VMNetworkAdapter: Adapter, Action: str, Direction: str, **address: str
    ) -> None:
        adapter = self._present(VMNetworkAdapter)
        action = _member("Action", Action, BASIC_ACTIONS)
        direction = _member("Direction", Direction, BASIC_DIRECTIONS)
        if len(address) != 1:
            raise _refused("A basic entry names one endpoint")
        ((name, text),) = address.items()
        parameter = re.fullmatch("(Local|Remote)(IP|Mac)Address", name)
        if parameter is None:
            raise CmdletError(f"A parameter cannot be found that matches '{name}'", BINDING_FAILED)
        side, kind = parameter.groups()
        if action == BASIC_ACTIONS["Meter"] and kind == "Mac":
            raise _refused("Meter entries name IP addresses")
        directions = [1, 2] if direction == BASIC_DIRECTIONS["Both"] else [direction]
        fresh = [
            _basic_entry(one, action, side, stored, number)
            for one in directions
            for stored, number in self._stored(kind, text)
        ]
        held = {key for entry in adapter["acls"] for key in _basic_keys(entry)}
        if any(key in held for entry in fresh for key in _basic_keys(entry)):
            raise _duplicate()
        adapter["acls"].extend(fresh)

    def _stored(self, kind: str, text: str) -> list[tuple[str, int]]:
        """How an address reads back: its text and kind, once or per IP version."""
        _type("an address", text, str)
        if kind == "Mac":
            if text == "ANY":
                return [("ANY", ANY_MAC)]
            if not re.fullmatch(r"([0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}", text):
                raise _refused(f"{text!r} is not a MAC address")
            return [(text.upper(), MAC)]
        if text == "ANY":
            both = [("0.0.0.0/0", ANY_IPV4), ("::/0", ANY_IPV6)]
            return both if self.any_as_two else [("ANY", ANY_IP)]
        if text == "0.0.0.0/0":
            return [(text, ANY_IPV4)]
        if text == "::/0":
            return [(text, ANY_IPV6)]
        stored = _ip("address", text)
        return [(stored, IPV6 if ":" in stored else IPV4)]

    @cmdlet("Remove-VMNetworkAdapterAcl")
    def remove_vm_network_adapter_acl(self, *, InputObject: Sequence[Entry]) -> None:
        self._remove("acls", InputObject)

    def _remove(self, kind: str, objects: Sequence[Entry]) -> None:
        if not objects:
            raise CmdletError("Cannot bind an empty array to 'InputObject'", BINDING_FAILED)
        for wanted in objects:
            holders = [a for a in self.content["adapters"] if any(wanted is entry for entry in a[kind])]
            if not holders:
                raise CmdletError("The object was not found. (0x80070490)", NOT_FOUND, "ObjectNotFound")
            holders[0][kind] = [entry for entry in holders[0][kind] if entry is not wanted]

    # -------------------------------------------------------------- connecting and starting

    def is_live(self, adapter: Adapter) -> bool:
        """Whether entries take effect at once, and so are checked at once (§4.4)."""
        if not adapter["SwitchId"]:
            return False
        if adapter["IsManagementOs"]:
            return True
        states = {machine["Id"]: machine["State"] for machine in self.content["vms"]}
        return states.get(adapter["VMId"]) in LIVE_STATES

    def start_vm(self, machine_id: str) -> None:
        """Start-VM. Raises CmdletError for entries that were accepted while the VM was off."""
        for adapter in self.content["adapters"]:
            if adapter["VMId"] == machine_id and adapter["SwitchId"]:
                self._check(adapter)
        self._machine(machine_id)["State"] = RUNNING

    def stop_vm(self, machine_id: str) -> None:
        """Stop-VM."""
        self._machine(machine_id)["State"] = OFF

    def connect(self, adapter: Adapter, switch_id: str) -> None:
        """Connect-VMNetworkAdapter. Raises CmdletError as `start_vm` does."""
        switch = next(switch for switch in self.content["switches"] if switch["Id"] == switch_id)
        before = adapter["SwitchId"], adapter["SwitchName"], adapter["Connected"]
        adapter.update(SwitchId=switch_id, SwitchName=switch["Name"], Connected=True)
        try:
            if self.is_live(adapter):
                self._check(adapter)
        except CmdletError:
            adapter["SwitchId"], adapter["SwitchName"], adapter["Connected"] = before
            raise

    def _machine(self, machine_id: str) -> dict[str, Any]:
        return next(machine for machine in self.content["vms"] if machine["Id"] == machine_id)

    @staticmethod
    def _check(adapter: Adapter) -> None:
        if any(_cannot_work(entry) for entry in adapter["extendedAcls"]):
            raise _refused(f"'{adapter['Name']}' failed to connect to the virtual switch")

    # -------------------------------------------------------------- scheduled tasks

    @cmdlet("New-ScheduledTaskAction")
    def new_scheduled_task_action(self) -> None: ...

    @cmdlet("New-ScheduledTaskTrigger")
    def new_scheduled_task_trigger(self) -> None: ...

    @cmdlet("New-ScheduledTaskPrincipal")
    def new_scheduled_task_principal(self) -> None: ...

    @cmdlet("New-ScheduledTaskSettingsSet")
    def new_scheduled_task_settings_set(self) -> None: ...

    @cmdlet("Register-ScheduledTask")
    def register_scheduled_task(self, *, TaskName: str, StartBoundary: str, Folder: str) -> None:
        if not self.administrator:
            raise CmdletError("Access is denied.", ACCESS_DENIED, "PermissionDenied")
        self.tasks[TaskName] = (StartBoundary, Folder)
        self.ran.discard(TaskName)

    @cmdlet("Unregister-ScheduledTask")
    def unregister_scheduled_task(self, *, TaskName: str) -> None:
        if not self.administrator:
            raise CmdletError("Access is denied.", ACCESS_DENIED, "PermissionDenied")
        if TaskName not in self.tasks:
            raise CmdletError("No such scheduled task", NOT_FOUND, "ObjectNotFound")
        del self.tasks[TaskName]


def _refused(what: str) -> CmdletError:
    return CmdletError(f"{what}: one or more arguments are invalid. (0x80070057)", INVALID_PARAMETER)


def _duplicate() -> CmdletError:
    text = "Cannot create a file when that file already exists. (0x800700B7)"
    return CmdletError(text, ALREADY_EXISTS, "ResourceExists")


def _type(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise CmdletError(f"Cannot convert {value!r} to the type required by '{name}'", BINDING_FAILED)


def _range(name: str, value: int, low: int, high: int) -> None:
    _type(name, value, int)
    if not low <= value <= high:
        raise _refused(f"{name} {value}")


def _member(name: str, value: str, members: dict[str, int]) -> int:
    if value not in members:
        raise CmdletError(f"'{value}' is not a value of {name}", BINDING_FAILED)
    return members[value]


def _ip(name: str, text: str) -> str:
    _type(name, text, str)
    if text == "ANY":
        return text
    address, slash, length = text.partition("/")
    if len(text) > 40 or "%" in text or (slash and not re.fullmatch("0|[1-9][0-9]{0,2}", length)):
        raise _refused(f"{name} {text!r}")
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
        if slash:
            ip_network(text)  # nothing behind the prefix
    except ValueError:
        raise _refused(f"{name} {text!r}") from None
    full = parsed.max_prefixlen
    if slash and int(length) == full and parsed.version == 6:
        raise _refused(f"{name} {text!r}")  # a host address is given without its length
    return str(parsed) if not slash or int(length) == full else f"{parsed}/{length}"


def _port(name: str, text: str) -> str:
    _type(name, text, str)
    if text == "ANY":
        return text
    number = "(0|[1-9][0-9]{0,4})"
    match = re.fullmatch(f"{number}(?:-{number})?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not 0 <= first <= last <= 65535:
        raise _refused(f"{name} {text!r}")
    return text


def _protocol(text: str) -> str:
    _type("Protocol", text, str)
    known = {"6": "TCP", "17": "UDP", "TCP": "TCP", "UDP": "UDP", "ANY": "ANY"}
    if text in known:
        return known[text]
    if not (re.fullmatch("0|[1-9][0-9]{0,2}", text) and int(text) <= 255):
        raise _refused(f"Protocol {text!r}")
    return text


def _cannot_work(entry: Entry) -> bool:
    """Stateful works for Allow with TCP or UDP only (§4.4)."""
    can = entry["Action"] == ACTIONS["Allow"] and entry["Protocol"] in ("TCP", "UDP")
    return bool(entry["Stateful"]) and not can


def _basic_entry(direction: int, action: int, side: str, address: str, kind: int) -> Entry:
    entry: Entry = {"Direction": direction, "Action": action}
    for name in ("Local", "Remote"):
        used = name == side
        entry |= {f"{name}Address": address if used else "", f"{name}AddressType": kind if used else 0}
    return entry | {"MeteredMegabytes": "0" if action == BASIC_ACTIONS["Meter"] else ""}


def _basic_keys(entry: Entry) -> list[tuple[object, ...]]:
    """What no other entry may share. ANY is both IP versions: underneath there is no kind for both (§3.3)."""
    side = "Local" if entry["LocalAddressType"] else "Remote"
    kind, meters = entry[f"{side}AddressType"], entry["Action"] == BASIC_ACTIONS["Meter"]
    kinds = [ANY_IPV4, ANY_IPV6] if kind == ANY_IP else [kind]
    text = entry[f"{side}Address"] if kind in (MAC, IPV4, IPV6) else ""
    return [(entry["Direction"], side, one, text, meters) for one in kinds]
