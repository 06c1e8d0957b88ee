"""The shipped PowerShell module, function by function, on a modelled host: what it writes.

Each method marked `mirrors` has the name and the calls of one function of Vswitch.psm1, in the same
order; a test compares the two. What the functions without effects do is in `hyperv_values`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.support.modelled_host.cmdlets import ALREADY_EXISTS, Adapter, CmdletError, Cmdlets, Entry
from tests.support.modelled_host.reading import ModuleReader, mirrors
from tests.support.modelled_host.values import (
    Document,
    OperationError,
    address_text,
    armed_folder,
    assert_plan,
    backup_path,
    error_data,
    is_addition,
    key_text,
    mac_text,
    missing_of,
    planned_text,
    progress_path,
    protocol_text,
    record_text,
    records_during,
    step_kind,
    stop,
    time_text,
    unreadable_backup,
)


class Module(ModuleReader):
    """One process that has loaded the module on a host."""

    # -------------------------------------------------------------- ownership record

    @mirrors("Set-VswitchRecord")
    def set_record(self, ids: Sequence[str], records: Sequence[Document]) -> None:
        kept = [record for record in self.get_record() if record["adapter"] not in ids]
        fresh = [record for record in records if record["adapter"] in ids]
        self.write_file("vswitch/owned.json", {"schema": 1, "records": [*kept, *fresh]})

    # -------------------------------------------------------------- ACL entries

    @mirrors("Add-VswitchExtendedEntry")
    def add_extended_entry(self, adapter: Adapter, entry: Entry) -> None:
        arguments: Document = {
            "Action": ("", "Allow", "Deny")[entry["Action"]],
            "Direction": ("", "Inbound", "Outbound")[entry["Direction"]],
            "Weight": entry["Weight"],
        }
        spelled = {
            "LocalIPAddress": address_text(entry["LocalIPAddress"]),
            "RemoteIPAddress": address_text(entry["RemoteIPAddress"]),
            "LocalPort": entry["LocalPort"].upper() or "ANY",
            "RemotePort": entry["RemotePort"].upper() or "ANY",
            "Protocol": protocol_text(entry["Protocol"]),
        }
        arguments |= {name: text for name, text in spelled.items() if text != "ANY"}
        if entry["Stateful"]:
            arguments |= {"Stateful": True, "IdleSessionTimeout": entry["IdleSessionTimeout"]}
        if entry["IsolationID"]:
            arguments["IsolationID"] = entry["IsolationID"]
        self.host.add_vm_network_adapter_extended_acl(VMNetworkAdapter=adapter, **arguments)

    @mirrors("Add-VswitchBasicEntry")
    def add_basic_entry(self, adapter: Adapter, entry: Entry) -> None:
        side = "Local" if entry["LocalAddressType"] else "Remote"
        kind, text = entry[f"{side}AddressType"], entry[f"{side}Address"]
        special = {1: mac_text(text), 4: "0.0.0.0/0", 5: "::/0", 6: "ANY", 7: "ANY"}
        address = special[kind] if kind in special else address_text(text)
        self.host.add_vm_network_adapter_acl(
            VMNetworkAdapter=adapter,
            Action=("", "Allow", "Deny", "Meter")[entry["Action"]],
            Direction=("", "Inbound", "Outbound")[entry["Direction"]],
            **{f"{side}{'Mac' if kind in (1, 7) else 'IP'}Address": address},
        )

    @mirrors("Add-VswitchEntry")
    def add_entry(self, adapter: Adapter, kind: str, entry: Entry) -> None:
        if kind == "extended":
            self.add_extended_entry(adapter, entry)
        else:
            self.add_basic_entry(adapter, entry)

    @mirrors("Remove-VswitchEntry")
    def remove_entry(self, kind: str, acls: Sequence[Entry]) -> None:
        if kind == "extended":
            self.host.remove_vm_network_adapter_extended_acl(InputObject=acls)
        else:
            self.host.remove_vm_network_adapter_acl(InputObject=acls)

    # -------------------------------------------------------------- automatic undo

    @mirrors("Save-VswitchUndo")
    def save_undo(self, plan_id: str) -> None:
        self.initialize_folder()
        self.initialize_folder()
        for name in ("Vswitch.psm1", "undo.ps1"):
            self.host.write(f"{armed_folder(plan_id)}/{name}", name)

    @mirrors("Register-VswitchUndo")
    def register_undo(self, plan_id: str, until: str) -> None:
        self.host.new_scheduled_task_action()
        self.host.new_scheduled_task_trigger()
        self.host.new_scheduled_task_trigger()
        self.host.new_scheduled_task_principal()
        self.host.new_scheduled_task_settings_set()
        self.host.register_scheduled_task(
            TaskName=f"undo {plan_id}", StartBoundary=until, Folder=armed_folder(plan_id)
        )

    @mirrors("Unregister-VswitchUndo")
    def unregister_undo(self, plan_id: str) -> None:
        try:
            self.host.unregister_scheduled_task(TaskName=f"undo {plan_id}")
            for path in [path for path in self.host.files if path.startswith(f"{armed_folder(plan_id)}/")]:
                del self.host.files[path]
        except CmdletError:
            return  # a task that stays behind does nothing

    # -------------------------------------------------------------- backups

    @mirrors("Get-VswitchBackupDocument")
    def get_backup_document(self, plan_id: str) -> Document:
        document: Document | None = self.read_file(backup_path(plan_id))
        if document is None:
            raise stop("NotFound", f"This host has no backup of plan {plan_id}")
        return document

    @mirrors("Get-VswitchBackupSummary")
    def get_backup_summary(self, backup: Document) -> Document:
        applying = backup["state"] == "applying"
        done = self.get_progress(backup["planId"]) if applying else backup["stepsDone"]
        names = ("planId", "createdAt", "sequence", "policyDigest", "state")
        return {name: backup[name] for name in names} | {
            "stepsDone": done,
            "steps": len(backup["plan"]["steps"]),
            "armedUntil": backup["armedUntil"] or None,
            "adapters": [
                {name: adapter[name] for name in ("id", "name", "vmName")} for adapter in backup["adapters"]
            ],
        }

    @mirrors("Get-VswitchBackup")
    def get_backup(self, plan_id: str = "") -> list[Document]:
        if plan_id:
            return [self.get_backup_document(plan_id)]
        names = sorted({path.removesuffix(".new") for path in self.host.files})
        paths = [path for path in names if re.fullmatch(r"vswitch/backups/.*\.json", path)]
        summaries = []
        for path in paths:
            try:
                if (document := self.read_file(path)) is not None:
                    summaries.append(self.get_backup_summary(document))
            except (OperationError, LookupError, TypeError):
                summaries.append(unreadable_backup(path))
        return sorted(summaries, key=lambda summary: -summary["sequence"])

    # -------------------------------------------------------------- plans

    @mirrors("Get-VswitchResult")
    def get_result(
        self,
        backup: Document,
        live: dict[str, Adapter],
        done: int,
        undone: bool,
        *,
        after_failure: bool = False,
    ) -> Document:
        adapters = []
        for adapter in backup["adapters"]:
            state = "gone"
            entries: Document = {"acls": [], "extendedAcls": []}
            if adapter["id"] in live:
                state = "unread"
                try:
                    entries = self.read_entry(live[adapter["id"]])
                    state = "other"
                except (CmdletError, OperationError):
                    if not after_failure:
                        raise
            if state == "other":
                now = key_text(entries["acls"], entries["extendedAcls"])
                before = key_text(adapter["acls"], adapter["extendedAcls"])
                if now == planned_text(backup["plan"], adapter["id"], before):
                    state = "new"
                if now == before and (undone or state != "new"):
                    state = "old"
            adapters.append({"id": adapter["id"], "name": adapter["name"], "state": state, **entries})
        return {
            "planId": backup["planId"],
            "stepsDone": done,
            "undone": undone,
            "adapters": adapters,
            "armedUntil": backup["armedUntil"] or None,
            "errors": [],
        }

    @mirrors("Get-VswitchProgress")
    def get_progress(self, plan_id: str) -> int:
        return len(self.host.files.get(progress_path(plan_id), ""))

    @mirrors("Add-VswitchProgress")
    def add_progress(self, plan_id: str) -> None:
        self.host.append(progress_path(plan_id), ".")

    @mirrors("Save-VswitchBackup")
    def save_backup(self, backup: Document) -> None:
        self.write_file(backup_path(backup["planId"]), backup)

    @mirrors("Invoke-VswitchStep")
    def invoke_step(self, step: Document, live: dict[str, Adapter]) -> None:
        kind, adapter = step_kind(step), live[step["adapter"]]
        if is_addition(step):
            self.add_entry(adapter, kind, step["entry"])
            return
        found = self.find_acl(adapter, kind, step["entry"])
        if missing_of(kind, step["entry"], found):
            raise stop("StateChanged", "An entry that was to be removed is no longer there")
        self.remove_entry(kind, found)

    @mirrors("Undo-VswitchStep")
    def undo_step(self, step: Document, live: dict[str, Adapter]) -> None:
        if step["adapter"] not in live:
            raise stop("NotFound", "The adapter is no longer on this host")
        kind, adapter = step_kind(step), live[step["adapter"]]
        found = self.find_acl(adapter, kind, step["entry"])
        if is_addition(step):
            if found:
                self.remove_entry(kind, found)
            return
        for entry in missing_of(kind, step["entry"], found):
            self.add_entry(adapter, kind, entry)

    @mirrors("Restore-VswitchBackup")
    def restore_backup(self, backup: Document, live: dict[str, Adapter], count: int) -> Document:
        steps, errors = backup["plan"]["steps"], []
        ids = [adapter["id"] for adapter in backup["adapters"]]
        if count > 0:
            try:
                self.set_record(ids, records_during(backup))
            except (CmdletError, OperationError) as error:
                errors.append(error_data(error))
        for index in reversed(range(count)):
            try:
                self.undo_step(steps[index], live)
            except (CmdletError, OperationError) as error:
                errors.append(error_data(error, steps[index]["adapter"], index))
        was_armed = bool(backup["armedUntil"])
        try:
            if not errors:
                self.set_record(ids, backup["records"])
                backup |= {"state": "undone", "stepsDone": 0, "armedUntil": None}
            else:
                backup |= {"state": "failed", "stepsDone": count}
            self.save_backup(backup)
        except (CmdletError, OperationError) as error:
            errors.append(error_data(error))
        undone = not errors
        if undone and was_armed:
            self.unregister_undo(backup["planId"])
        result = self.get_result(backup, live, count, undone, after_failure=True)
        return result | {"errors": errors}

    @mirrors("Assert-VswitchExpectation")
    def assert_expectation(self, plan: Document, live: dict[str, Adapter]) -> list[Document]:
        records, before = self.get_record(), []
        for adapter in plan["adapters"]:
            name = adapter["name"]
            if adapter["id"] not in live:
                raise stop("NotFound", f"The adapter '{name}' is no longer on this host", adapter["id"])
            entries = self.read_entry(live[adapter["id"]])
            now = key_text(entries["acls"], entries["extendedAcls"])
            if now != key_text(adapter["expectedAcls"], adapter["expectedExtendedAcls"]):
                text = f"The entries of the adapter '{name}' have changed since the plan was made"
                raise stop("StateChanged", text, adapter["id"])
            ours = record_text(records, adapter["id"])
            if ours != record_text(plan.get("expectedRecords", []), adapter["id"]):
                text = (
                    f"The record of what is ours at the adapter '{name}' has changed since the plan was made"
                )
                raise stop("StateChanged", text, adapter["id"])
            before.append({"id": adapter["id"], "name": name, "vmName": adapter.get("vmName"), **entries})
        return before

    @mirrors("Get-VswitchRepeat")
    def get_repeat(self, plan: Document, summaries: Sequence[Document]) -> Document | None:
        plan_id = plan["planId"]
        for other in summaries:
            waits = other["state"] == "applied" and other["armedUntil"] is not None
            if other["planId"] != plan_id and waits:
                raise stop("Armed", f"Plan {other['planId']} still waits to be confirmed on this host")
        same = [summary for summary in summaries if summary["planId"] == plan_id]
        if not same or same[0]["state"] == "undone":
            return None
        backup = self.get_backup_document(plan_id)
        live = self.find_adapter([adapter["id"] for adapter in backup["adapters"]])
        result = self.get_result(backup, live, len(backup["plan"]["steps"]), False, after_failure=True)
        different = [adapter for adapter in result["adapters"] if adapter["state"] != "new"]
        if same[0]["state"] in ("applying", "failed"):
            text = f"Plan {plan_id} was begun on this host and neither finished nor undone"
            raise stop("Unfinished", text, result=result)
        if different:
            text = f"Plan {plan_id} was applied on this host before, and its adapters have changed since"
            raise stop("StateChanged", text, different[0]["id"], result=result)
        return result | {"repeated": True}

    @mirrors("Invoke-VswitchPlanStep")
    def invoke_plan_step(
        self, backup: Document, live: dict[str, Adapter], progress: dict[str, int]
    ) -> Document:
        plan, ids = backup["plan"], [adapter["id"] for adapter in backup["adapters"]]
        records, seconds = plan["records"], plan.get("confirmWithin", 0)
        self.set_record(ids, records_during(backup))
        if seconds > 0:
            self.save_undo(backup["planId"])
            self.register_undo(backup["planId"], backup["armedUntil"])
        for step in plan["steps"]:
            self.add_progress(backup["planId"])
            progress["begun"] += 1
            self.invoke_step(step, live)
            progress["done"] += 1
        result = self.get_result(backup, live, progress["done"], False)
        for adapter in result["adapters"]:
            if adapter["state"] != "new":
                text = (
                    f"Read back after writing, the entries of the adapter '{adapter['name']}'"
                    " are not what the plan says"
                )
                raise stop("NotAsPlanned", text, adapter["id"])
        self.set_record(ids, records)
        backup |= {"state": "applied", "stepsDone": progress["done"]}
        if seconds > 0:
            backup["armedUntil"] = time_text(self.now, seconds)
        self.save_backup(backup)
        if seconds > 0:
            self.register_undo(backup["planId"], backup["armedUntil"])
        return result | {"armedUntil": backup["armedUntil"]}

    @mirrors("Invoke-VswitchPlanDocument")
    def invoke_plan_document(self, plan: Document) -> Document:
        assert_plan(plan, self.computer)
        seconds = plan.get("confirmWithin", 0)
        self.initialize_host(administrator=seconds > 0)
        self.initialize_store()
        self.enter_lock()
        summaries = self.get_backup()
        repeat = self.get_repeat(plan, summaries)
        if repeat is not None:
            return repeat
        ids = [adapter["id"] for adapter in plan["adapters"]]
        live = self.find_adapter(ids)
        before = self.assert_expectation(plan, live)
        backup: Document = {
            "schema": 1,
            "planId": plan["planId"],
            "host": self.computer,
            "policyDigest": plan.get("policyDigest", ""),
            "sequence": summaries[0]["sequence"] + 1 if summaries else 1,
            "createdAt": time_text(self.now),
            "state": "applying",
            "stepsDone": 0,
            "armedUntil": time_text(self.now, seconds) if seconds > 0 else None,
            "adapters": before,
            "records": [record for record in self.get_record() if record["adapter"] in ids],
            "plan": plan,
        }
        self.host.files.pop(progress_path(plan["planId"]), None)
        progress = {"begun": 0, "done": 0}
        try:
            self.save_backup(backup)
            return self.invoke_plan_step(backup, live, progress)
        except (CmdletError, OperationError) as error:
            problem, count = error_data(error), progress["begun"]
            if count > progress["done"]:
                step = plan["steps"][progress["done"]]
                problem["target"] = {"adapter": step["adapter"], "step": progress["done"]}
            if problem["hresult"] == ALREADY_EXISTS:
                count = progress["done"]
            raise OperationError(problem, self.restore_backup(backup, live, count)) from error

    @mirrors("Undo-VswitchPlan")
    def undo_plan(self, plan_id: str, *, if_due: bool = False) -> Document:
        self.initialize_host()
        self.initialize_store()
        self.enter_lock()
        backup = self.get_backup_document(plan_id)
        ids = [adapter["id"] for adapter in backup["adapters"]]
        live = self.find_adapter(ids)
        if if_due and not backup["armedUntil"]:
            self.unregister_undo(plan_id)
        early = not backup["armedUntil"] or backup["armedUntil"] > time_text(self.now)
        if if_due and early:
            return self.get_result(backup, live, 0, False)
        if backup["state"] == "undone":
            return self.get_result(backup, live, 0, True)
        for other in self.get_backup():
            shared = [adapter for adapter in other["adapters"] if adapter["id"] in ids]
            later = other["sequence"] > backup["sequence"] and other["state"] != "undone"
            if later and shared:
                text = f"Plan {other['planId']} has changed the same adapters since"
                raise stop("Superseded", text, shared[0]["id"])
        count = self.get_progress(plan_id) if backup["state"] == "applying" else backup["stepsDone"]
        result = self.restore_backup(backup, live, count)
        if not result["undone"]:
            raise OperationError(result["errors"][0], result)
        return result

    @mirrors("Confirm-VswitchPlan")
    def confirm_plan(self, plan_id: str) -> Document:
        self.initialize_host()
        self.initialize_store()
        self.enter_lock()
        backup = self.get_backup_document(plan_id)
        if backup["state"] not in ("applied", "confirmed"):
            text = f"Plan {plan_id} cannot be confirmed: its state is {backup['state']}"
            raise stop("NotApplied", text)
        was_armed = bool(backup["armedUntil"])
        backup |= {"state": "confirmed", "armedUntil": None}
        self.save_backup(backup)
        if was_armed:
            self.unregister_undo(plan_id)
        return {"planId": plan_id, "confirmed": True, "wasArmed": was_armed}

    @mirrors("Invoke-VswitchOperation")
    def invoke_operation(self, request: Document) -> Document:
        try:
            return {"schema": 1, "ok": True, "result": self._perform(request)}
        except (CmdletError, OperationError) as error:
            result = error.result if isinstance(error, OperationError) else None
            return {"schema": 1, "ok": False, "error": error_data(error), "result": result}

    def _perform(self, request: Document) -> Document:
        arguments = request.get("arguments") or {}
        plan_id = arguments.get("planId", "")
        match request.get("operation", ""):
            case "export":
                return self.export_state()
            case "apply":
                return self.invoke_plan_document(arguments.get("plan") or {})
            case "undo":
                return self.undo_plan(plan_id, if_due=bool(arguments.get("ifDue")))
            case "confirm":
                return self.confirm_plan(plan_id)
            case "backups":
                self.initialize_host()
                return {"backups": self.get_backup(plan_id)}
            case other:
                raise stop("UnknownOperation", f"There is no operation '{other}'")


def add_entry_call(host: Cmdlets, adapter: Adapter, kind: str, entry: Entry) -> None:
    """Adds an entry as an administrator would by hand, past the module."""
    module = Module(host, datetime.now(UTC), computer="", busy=False, unsafe_folder=False)
    module.add_entry(adapter, kind, entry)
