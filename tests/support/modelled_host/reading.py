"""The shipped PowerShell module's reading functions, one by one, on a modelled host.

Each method marked `mirrors` has the name and the calls of one function of Vswitch.psm1, in the same
order; a test compares the two. `hyperv_module` has the functions that write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from tests.support.modelled_host.cmdlets import Adapter, CmdletError, Cmdlets, Entry
from tests.support.modelled_host.values import Document, OperationError, keys_of, readable, stop, time_text

Function = TypeVar("Function", bound=Callable[..., Any])

VERSION = "0.2.0"


def mirrors(name: str) -> Callable[[Function], Function]:
    """Marks a method as the counterpart of one PowerShell function."""

    def mark(method: Function) -> Function:
        method.mirrors = name  # type: ignore[attr-defined]
        return method

    return mark


class ModuleReader:
    """The part of the module that only reads. `now` is the host's clock (UTC)."""

    def __init__(
        self, host: Cmdlets, now: datetime, *, computer: str, busy: bool, unsafe_folder: bool
    ) -> None:
        self.host = host
        self.now = now
        self.computer = computer
        self.busy = busy
        self.unsafe_folder = unsafe_folder

    # -------------------------------------------------------------- rights, folder, files

    @mirrors("Get-VswitchRight")
    def get_right(self) -> Document:
        return {
            "administrator": self.host.administrator,
            "hyperVAdministrator": self.host.hyper_v_administrator,
        }

    @mirrors("Initialize-VswitchHost")
    def initialize_host(self, *, administrator: bool = False) -> None:
        try:
            self.host.import_module(Name="Hyper-V")
        except CmdletError as error:
            text = f"The Hyper-V PowerShell module cannot be loaded: {error.message}"
            raise stop("HyperVMissing", text) from error
        right = self.get_right()
        if not right["administrator"] and not right["hyperVAdministrator"]:
            raise stop(
                "AccessDenied",
                "The account is in neither Hyper-V Administrators nor Administrators on this host",
            )
        if administrator and not right["administrator"]:
            raise stop(
                "AccessDenied",
                "An automatic undo is a scheduled task of the system account:"
                " registering it needs a member of Administrators",
            )

    @mirrors("Initialize-VswitchFolder")
    def initialize_folder(self) -> None:
        self.get_right()
        if self.unsafe_folder:
            raise stop(
                "UnsafeFolder",
                "The folder belongs to, or can be changed by, somebody other than"
                " Administrators and Hyper-V Administrators",
            )

    @mirrors("Initialize-VswitchStore")
    def initialize_store(self) -> None:
        self.initialize_folder()
        self.initialize_folder()

    @mirrors("Read-VswitchFile")
    def read_file(self, path: str) -> Any:
        for name in (path, f"{path}.new"):
            try:
                document = self.host.read(name)
                if not document:
                    raise ValueError("it holds no document")
                return document
            except FileNotFoundError:
                continue
            except ValueError as error:
                if name == path:
                    raise stop("UnreadableFile", f"The file {path} cannot be read: {error}") from error
        return None

    @mirrors("Write-VswitchFile")
    def write_file(self, path: str, document: Any) -> None:
        self.host.write(path, document)

    @mirrors("Enter-VswitchLock")
    def enter_lock(self) -> None:
        if self.busy:
            raise stop("Busy", "Another vswitch operation is changing this host")

    # -------------------------------------------------------------- records and entries

    @mirrors("Get-VswitchRecord")
    def get_record(self) -> list[Document]:
        found: list[Document] = (self.read_file("vswitch/owned.json") or {"records": []})["records"]
        return found

    @mirrors("Test-VswitchRecord")
    def test_record(self) -> bool:
        return self.read_file("vswitch/owned.json") is not None

    @mirrors("Get-VswitchAcl")
    def get_acl(self, adapter: Adapter, kind: str) -> list[Entry]:
        if kind == "extended":
            return self.host.get_vm_network_adapter_extended_acl(VMNetworkAdapter=adapter)
        return self.host.get_vm_network_adapter_acl(VMNetworkAdapter=adapter)

    @mirrors("Read-VswitchEntry")
    def read_entry(self, adapter: Adapter) -> Document:
        extended = [readable("extended", acl) for acl in self.get_acl(adapter, "extended")]
        basic = [readable("basic", acl) for acl in self.get_acl(adapter, "basic")]
        return {"acls": basic, "extendedAcls": extended}

    @mirrors("Find-VswitchAcl")
    def find_acl(self, adapter: Adapter, kind: str, entry: Entry) -> list[Entry]:
        wanted = keys_of(kind, entry)
        halves: dict[str, Entry] = {}
        told_apart = ("Direction", "Weight") if kind == "extended" else ("Direction",)
        for acl in self.get_acl(adapter, kind):
            if any(acl[name] != entry[name] for name in told_apart):
                continue
            keys = keys_of(kind, readable(kind, acl))
            if not keys or not set(keys) <= set(wanted):
                continue
            if len(keys) == len(wanted):
                return [acl]
            halves.setdefault(keys[0], acl)
        return [halves[key] for key in wanted if key in halves]

    # -------------------------------------------------------------- reading the host

    @mirrors("Get-VswitchAdapter")
    def get_adapter(self) -> list[Adapter]:
        found: list[Adapter] = []
        if machines := self.host.get_vm():
            found += self.host.get_vm_network_adapter(VM=machines)
        return found + self.host.get_vm_network_adapter(ManagementOS=True)

    @mirrors("Find-VswitchAdapter")
    def find_adapter(self, ids: Sequence[str]) -> dict[str, Adapter]:
        return {adapter["Id"]: adapter for adapter in self.get_adapter() if adapter["Id"] in ids}

    @mirrors("Read-VswitchSwitch")
    def read_switch(self) -> list[Document]:
        return [dict(switch) for switch in self.host.get_vm_switch()]

    @mirrors("Read-VswitchTeam")
    def read_team(self) -> list[Document]:
        return [dict(team) for team in self.host.get_vm_switch_team()]

    @mirrors("Read-VswitchMachine")
    def read_machine(self) -> list[Document]:
        return [dict(machine) for machine in self.host.get_vm()]

    @mirrors("Read-VswitchVlan")
    def read_vlan(self, adapter: Adapter) -> Document:
        return dict(self.host.get_vm_network_adapter_vlan(VMNetworkAdapter=adapter)[0])

    @mirrors("Read-VswitchIsolation")
    def read_isolation(self, adapter: Adapter) -> Document:
        return dict(self.host.get_vm_network_adapter_isolation(VMNetworkAdapter=adapter)[0])

    @mirrors("Read-VswitchAdapter")
    def read_adapter(self, adapter: Adapter) -> Document:
        state = {name: value for name, value in adapter.items() if name not in ("acls", "extendedAcls")}
        state["vlan"] = self.read_vlan(adapter)
        state["isolation"] = self.read_isolation(adapter)
        return state | self.read_entry(adapter)

    @mirrors("Read-VswitchAddress")
    def read_address(self) -> list[Document]:
        macs = {nic["InterfaceIndex"]: nic["MacAddress"] for nic in self.host.get_net_adapter()}
        return [
            {
                "MacAddress": macs[address["InterfaceIndex"]],
                "IPAddress": address["IPAddress"],
                "PrefixLength": address["PrefixLength"],
            }
            for address in self.host.get_net_ip_address()
            if address["InterfaceIndex"] in macs
        ]

    @mirrors("Read-VswitchNat")
    def read_nat(self) -> list[Document]:
        nats = []
        for nat in self.host.get_net_nat():
            mappings = [dict(one) for one in self.host.get_net_nat_static_mapping()]
            own = [one for one in mappings if one.pop("NatName") == nat["Name"]]
            nats.append(nat | {"mappings": own})
        return nats

    @mirrors("Read-VswitchRecord")
    def read_record(self) -> list[Document]:
        self.initialize_folder()
        return self.get_record()

    @mirrors("Export-VswitchState")
    def export_state(self) -> Document:
        self.initialize_host()
        unread: list[Document] = []
        teams = self._part("teams", self.read_team, unread)
        addresses = self._part("addresses", self.read_address, unread)
        nats = self._part("nats", self.read_nat, unread)
        records = self._part("records", self.read_record, unread)
        # One that cannot be read is there.
        recorded = any(part["part"] == "records" for part in unread) or self.test_record()
        adapters = [self.read_adapter(adapter) for adapter in self.get_adapter()]
        return {
            "schema": 1,
            "computer": self.computer,
            "os": "Microsoft Windows NT 10.0.26100.0",
            "moduleVersion": VERSION,
            "time": time_text(self.now),
            "rights": self.get_right(),
            "switches": self.read_switch(),
            "teams": teams,
            "vms": self.read_machine(),
            "adapters": adapters,
            "addresses": addresses,
            "nats": nats,
            "records": records,
            "recorded": recorded,
            "unread": unread,
        }

    @staticmethod
    def _part(name: str, read: Callable[[], list[Document]], unread: list[Document]) -> list[Document]:
        try:
            return read()
        except (CmdletError, OperationError) as error:
            unread.append({"part": name, "message": str(error)})
            return []
