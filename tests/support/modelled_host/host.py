"""A strict model of a Hyper-V host that runs the shipped PowerShell module's operations.

    host = HypervHost(state)                      # state: the form of an exported state
    answer = host.execute(module_text, {"operation": "export", "arguments": {}})

The host checks that the script it is given is the module that ships, then performs the operation as
the module does, cmdlet by cmdlet (`hyperv_module`, `hyperv_cmdlets`). Each cmdlet call and each file
written is a numbered step, at which `faults` strike. `verdict` asks the project's reference what the
host does to a frame. One host may be used from several threads; operations then wait for each other.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.modelled_host.as_site import site_of
from tests.support.modelled_host.cmdlets import CmdletError, CmdletFault, Cmdlets, Entry
from tests.support.modelled_host.module_functions import Module, add_entry_call
from tests.support.modelled_host.values import Document, keys_of
from tests.support.winrm.endpoint import Hang, HostDied
from vswitch.model.site import Site
from vswitch.semantics import Frame, Result, SwitchState, process

__all__ = [
    "CmdletError",
    "CmdletFault",
    "Hang",
    "HostDied",
    "HypervHost",
    "NotTheModule",
    "blank_state",
    "shipped_module",
]

MODULE = Path(__file__).resolve().parents[3] / "powershell" / "Vswitch" / "Vswitch.psm1"


class NotTheModule(Exception):
    """The script that came is not the module that ships."""


def shipped_module() -> str:
    """The text of the shipped module."""
    return MODULE.read_text(encoding="ascii")


class HypervHost:
    """One host: switches, VMs, adapters with their ACLs, and what the module keeps in its files.

    `state` is in the form of an exported state and is not changed. `any_as_two` shows basic ANY
    entries as one per IP version. `faults` strike once each; `on_step` is called with the name of
    every step before it happens (a test may wait there). `busy` and `unsafe_folder` make the module
    meet a held lock and a data folder prepared by somebody else.
    """

    def __init__(
        self, state: Document, *, any_as_two: bool = False, faults: Iterable[CmdletFault] = ()
    ) -> None:
        self.cmdlets = Cmdlets(copy.deepcopy(state), any_as_two=any_as_two)
        self.cmdlets.faults.extend(faults)
        if state.get("records"):
            document = {"schema": 1, "records": state["records"]}
            self.cmdlets.files["vswitch/owned.json"] = json.dumps(document)
        self.computer: str = state["computer"]
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.busy = False
        self.unsafe_folder = False
        self._one_at_a_time = threading.RLock()

    # -------------------------------------------------------------- the far end of the bridge

    def execute(self, module_text: str, request: Document) -> Document:
        """What the module answers to one request, as the JSON document it writes.

        Raises NotTheModule for any other script; HostDied and Hang as faults say, with all that
        was done so far left done.
        """
        if module_text != shipped_module():
            raise NotTheModule("the script is not the module that ships")
        return self._run(json.loads(json.dumps(request)))

    def _run(self, request: Document) -> Document:
        with self._one_at_a_time:
            self.cmdlets.begin(request.get("operation", ""))
            module = Module(
                self.cmdlets,
                self.now,
                computer=self.computer,
                busy=self.busy,
                unsafe_folder=self.unsafe_folder,
            )
            answer: Document = json.loads(json.dumps(module.invoke_operation(request)))
            return answer

    @property
    def log(self) -> list[str]:
        """The steps of the last operation: names of cmdlets, and `write <file>`."""
        return list(self.cmdlets.log)

    def steps_of(self, request: Document) -> list[str]:
        """The steps an operation would take now, without faults and without taking them."""
        return self.copy()._logged(request)

    def _logged(self, request: Document) -> list[str]:
        self._run(request)
        return self.log

    def copy(self) -> HypervHost:
        """A host in the same state, without faults."""
        twin = HypervHost(self.cmdlets.content, any_as_two=self.cmdlets.any_as_two)
        twin.cmdlets.files = dict(self.cmdlets.files)
        twin.cmdlets.tasks = dict(self.cmdlets.tasks)
        twin.cmdlets.ran = set(self.cmdlets.ran)
        for name in ("administrator", "hyper_v_administrator", "hyper_v_missing"):
            setattr(twin.cmdlets, name, getattr(self.cmdlets, name))
        twin.computer, twin.now = self.computer, self.now
        twin.busy, twin.unsafe_folder = self.busy, self.unsafe_folder
        return twin

    # -------------------------------------------------------------- what tests look at and do

    @property
    def faults(self) -> list[CmdletFault]:
        """The faults still to come; add to it, clear it."""
        return self.cmdlets.faults

    def state(self) -> Document:
        """The state an export would show to an administrator, whatever the rights and faults."""
        twin = self.copy()
        twin.cmdlets.administrator = True
        twin.cmdlets.hyper_v_missing = twin.unsafe_folder = False
        answer = twin._run({"operation": "export", "arguments": {}})
        result: Document = answer["result"]
        return result

    def adapter(self, adapter_id: str) -> dict[str, Any]:
        """The live adapter; KeyError where it is gone."""
        for adapter in self.cmdlets.content["adapters"]:
            if adapter["Id"] == adapter_id:
                found: dict[str, Any] = adapter
                return found
        raise KeyError(adapter_id)

    def keys(self, adapter_id: str) -> list[str]:
        """The adapter's entries as comparable texts, sorted: what the module itself compares."""
        adapter = self.adapter(adapter_id)
        basic = [key for entry in adapter["acls"] for key in keys_of("basic", entry)]
        extended = [key for entry in adapter["extendedAcls"] for key in keys_of("extended", entry)]
        return sorted(basic + extended)

    def add_entry(self, adapter_id: str, kind: str, entry: Entry) -> None:
        """An administrator adds an entry by hand ("extended" or "basic"); raises CmdletError."""
        with self._one_at_a_time:
            add_entry_call(self.cmdlets, self.adapter(adapter_id), kind, entry)

    def remove_entry(self, adapter_id: str, kind: str, entry: Entry) -> None:
        """An administrator removes an entry by hand; ValueError where there is none like it."""
        name = "extendedAcls" if kind == "extended" else "acls"
        adapter, keys = self.adapter(adapter_id), set(keys_of(kind, entry))
        with self._one_at_a_time:
            kept = [other for other in adapter[name] if not set(keys_of(kind, other)) <= keys]
            if len(kept) == len(adapter[name]):
                raise ValueError("no such entry")
            adapter[name] = kept

    def remove_adapter(self, adapter_id: str) -> None:
        """An administrator removes the adapter."""
        gone = self.adapter(adapter_id)
        self.cmdlets.content["adapters"].remove(gone)

    def lose_record(self) -> None:
        """The host's own ownership record is gone."""
        self.cmdlets.files.pop("vswitch/owned.json", None)

    def advance(self, seconds: float) -> list[Document]:
        """Time passes; scheduled tasks whose moment has come run, with the answers they gave."""
        with self._one_at_a_time:
            self.now += timedelta(seconds=seconds)
            now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            tasks = self.cmdlets.tasks.items()
            due = sorted((when, name) for name, (when, _) in tasks if when <= now)
            return [each for _, name in due if name not in self.cmdlets.ran for each in self._task(name)]

    def restart(self) -> list[Document]:
        """The host restarts: every task that is still registered runs, with the answers they gave."""
        with self._one_at_a_time:
            return [answer for name in sorted(self.cmdlets.tasks) for answer in self._task(name)]

    def _task(self, name: str) -> list[Document]:
        """What undo.ps1 does as the system account: again and again until nothing is armed any more.

        A failure is tried again here four times only. Before its time the script would wait: here it ends.
        """
        self.cmdlets.ran.add(name)
        folder = self.cmdlets.tasks[name][1]
        if not {f"{folder}/Vswitch.psm1", f"{folder}/undo.ps1"} <= self.cmdlets.files.keys():
            return []
        request = {"operation": "undo", "arguments": {"planId": Path(folder).name, "ifDue": True}}
        was = self.cmdlets.administrator
        answers: list[Document] = []
        self.cmdlets.administrator = True
        try:
            while len(answers) < 5 and not (answers and answers[-1]["ok"]):
                answers.append(self._run(request))
        finally:
            self.cmdlets.administrator = was
        if answers[-1]["ok"] and answers[-1]["result"]["armedUntil"]:
            self.cmdlets.ran.discard(name)
        return answers

    # -------------------------------------------------------------- verdicts

    def site(self) -> Site:
        """The host as the project's model, read straight from its state."""
        return site_of(self.cmdlets.content)

    def verdict(
        self, adapter_id: str, frame: Frame, state: SwitchState | None = None, now: float = 0.0
    ) -> Result:
        """What the host's switch does to a frame that this adapter's guest sends (the reference)."""
        site = self.site()
        number = self.cmdlets.content["adapters"].index(self.adapter(adapter_id)) + 1
        (sender,) = (adapter for adapter in site.adapters if adapter.number == number)
        return process(site, site.switch[f"{sender.host}/{sender.switch}"], number, frame, state, now)


def blank_state(computer: str = "HV01") -> Document:
    """An exported state without switches, VMs and adapters."""
    return {
        "schema": 1,
        "computer": computer,
        "os": "Microsoft Windows NT 10.0.26100.0",
        "moduleVersion": "1.0.0",
        "time": "2026-01-01T00:00:00Z",
        "rights": {"administrator": True, "hyperVAdministrator": False},
        "switches": [],
        "teams": [],
        "vms": [],
        "adapters": [],
        "addresses": [],
        "nats": [],
        "records": [],
        "recorded": False,
        "unread": [],
    }
