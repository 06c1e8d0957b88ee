"""Carrying out a plan on a host, and saying exactly which state the host is in whatever happens.

The host does the work: it checks that nothing changed since the plan was made, backs up, writes in
order, reads back, and undoes everything if a write fails. This side keeps its own record before the
first write and after the last, compares what was read back, and looks again after lost contact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vswitch.errors import EnvironmentError_, HostError, Origin, VswitchError
from vswitch.hyperv.desired import Rule
from vswitch.hyperv.entries import Entry, describe
from vswitch.hyperv.plan import HostPlan
from vswitch.hyperv.problems import OutcomeUnknown, hyperv_problem
from vswitch.hyperv.refusals import wrote_nothing
from vswitch.hyperv.state import HostState, entries_of_step, read_state, record_of
from vswitch.hyperv.store import Store
from vswitch.hyperv.transport import ScriptRequest, Transport
from vswitch.wording import counted

__all__ = ["AdapterResult", "ApplyError", "Applied", "Standing", "apply_plan", "call", "read_host"]

_SETTLE_SECONDS = 3.0


class Standing(StrEnum):
    """Which state an adapter is in."""

    OLD = "as before"
    NEW = "as planned"
    OTHER = "neither as before nor as planned"
    GONE = "no longer there"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class AdapterResult:
    """One adapter after an apply or undo. `details` names the differences from the state before."""

    id: str
    label: str
    standing: Standing
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """A plan that was carried out and verified by reading back."""

    plan_id: str
    steps: int
    adapters: tuple[AdapterResult, ...] = ()
    armed_until: str | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "plan_id": self.plan_id,
            "steps": self.steps,
            "armed_until": self.armed_until,
            "adapters": [{"adapter": each.label, "state": str(each.standing)} for each in self.adapters],
            "note": self.note,
        }


class ApplyError(HostError):
    """A plan was not carried out. `standing` and `adapters` say which state the host is in."""

    def __init__(
        self,
        message: str,
        *,
        host: str,
        standing: Standing,
        adapters: Sequence[AdapterResult] = (),
        hint: str = "",
        where: Origin | None = None,
    ) -> None:
        super().__init__(message, host=host, where=where, hint=hint)
        self.standing = standing
        self.adapters = tuple(adapters)

    def as_dict(self) -> dict[str, object]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {
            "state": str(self.standing),
            "adapters": [
                {"adapter": each.label, "state": str(each.standing), "details": list(each.details)}
                for each in self.adapters
            ],
        }


# --- one round trip ------------------------------------------------------------------------------


def call(transport: Transport, host: str, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The result of one operation of the module. Raises HostError for a refusal."""
    document = transport.run(ScriptRequest(operation, dict(arguments)))
    if document.get("ok"):
        return dict(document.get("result") or {})
    raise hyperv_problem(document.get("error") or {}, host=host)


def read_host(transport: Transport, host: str) -> HostState:
    """The host's state, in one round trip. Raises HostError, InputError."""
    return read_state(call(transport, host, "export", {}))


# --- a plan --------------------------------------------------------------------------------------


@dataclass
class _Work:
    """A plan on its way: as sent, and how its entries are called."""

    host: str
    wire: Mapping[str, Any]
    transport: Transport
    store: Store
    rules: Mapping[str, Mapping[Entry, Rule | None]] = field(default_factory=dict)  # by adapter id
    wait: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.steps: dict[str, list[tuple[bool, list[Entry]]]] = {}
        for step in self.wire["steps"]:
            adds = str(step["op"]).startswith("add")
            self.steps.setdefault(str(step["adapter"]), []).append((adds, entries_of_step(step)))

    @property
    def computer(self) -> str:
        return str(self.wire["host"])

    @property
    def ids(self) -> list[str]:
        return [str(each["id"]) for each in self.wire["adapters"]]

    @property
    def labels(self) -> dict[str, str]:
        return {
            str(each["id"]): f"{each.get('vmName') or 'ManagementOS'}/{each.get('name')}"
            for each in self.wire["adapters"]
        }


def apply_plan(
    plan: HostPlan | Mapping[str, Any],
    transport: Transport,
    store: Store,
    *,
    host: str = "",
    confirm_within: int = 0,
    wait: Callable[[float], None] = time.sleep,
) -> Applied:
    """Carry out a plan, fresh or saved (the form that `HostPlan.wire` gives), in one round trip.

    With `confirm_within` seconds, the host undoes it by itself unless it is confirmed in time.
    Raises ApplyError with the state of the host; other HostErrors mean that nothing was written.
    `wait` passes time before the host is read again after lost contact.
    """
    if isinstance(plan, HostPlan):
        wire: dict[str, Any] = plan.wire(confirm_within=confirm_within)
        host = host or plan.host
    else:
        wire = {**plan, "confirmWithin": confirm_within or plan.get("confirmWithin", 0)}
        host = host or str(wire.get("host"))
    if not wire["adapters"]:
        return Applied(str(wire["planId"]), 0, note="nothing to do")
    rules = {each.adapter.id: each.rules for each in plan.adapters} if isinstance(plan, HostPlan) else {}
    work = _Work(host, wire, transport, store, rules, wait)
    before = store.records(work.computer, work.ids)
    # Were this process to die, what it may have written must still be known as ours.
    store.keep_plan(wire)
    store.keep_records(work.computer, work.ids, [*wire["recordsDuring"], *wire["records"]])
    try:
        document = transport.run(ScriptRequest("apply", {"plan": wire}))
    except OutcomeUnknown as error:
        return _after_lost_contact(work, error, before)
    except VswitchError:
        _restore_records(work, before)
        raise
    result = document.get("result") or {}
    if document.get("ok"):
        return _succeeded(work, result)
    return _failed(work, document.get("error") or {}, result, before)


def _succeeded(work: _Work, result: Mapping[str, Any], note: str = "") -> Applied:
    adapters = _results(work, result)
    wrong = [each for each in adapters if each.standing is not Standing.NEW]
    if wrong:
        raise ApplyError(
            f"the host says it is done, but {wrong[0].label} is {wrong[0].standing}",
            host=work.host,
            standing=Standing.OTHER,
            adapters=adapters,
            hint=f"undo it: vswitch hyperv rollback {work.host}",
        )
    repeated = bool(result.get("repeated")) and not note
    if repeated:
        note = f"plan {work.wire['planId']} was already in force: verified, nothing was written"
    notes = [note, _keep_records(work, work.wire["records"])]
    return Applied(
        str(work.wire["planId"]),
        0 if repeated else len(work.wire["steps"]),
        adapters,
        result.get("armedUntil"),
        "; ".join(filter(None, notes)),
    )


def _restore_records(work: _Work, before: Mapping[str, Any]) -> None:
    policy = "restored"
    _keep_records(work, [record_of(each, policy, before[each]) for each in work.ids if before.get(each)])


def _keep_records(work: _Work, records: Sequence[Mapping[str, Any]]) -> str:
    """This side's record; what it says of more entries than are ours does no harm, so an error is a note."""
    try:
        work.store.keep_records(work.computer, work.ids, records)
    except EnvironmentError_ as error:
        return f"this side's record is not up to date: {error.message}"
    return ""


def _failed(
    work: _Work, error: Mapping[str, Any], result: Mapping[str, Any], before: Mapping[str, Any]
) -> Applied:
    """The host refused or failed; it has undone what it did, as far as it could."""
    target = error.get("target") or {}
    adapter_id = str(target.get("adapter") or "")
    text, rule = _step_text(work, target.get("step"))
    problem = hyperv_problem(
        error,
        host=work.host,
        adapter=work.labels.get(adapter_id, ""),
        rule=text,
        where=rule.origin if rule else None,
    )
    adapters = _results(work, result)
    if not adapters:
        if not wrote_nothing(error):
            return _after_lost_contact(work, problem, before)
        _restore_records(work, before)
        outcome = "nothing was written"
    elif any(each.standing is not Standing.OLD for each in adapters):
        raise _mixed(work, _bare(problem, work.host), adapters)
    elif result.get("undone"):
        _restore_records(work, before)
        outcome = "everything was undone, the host is as before"
    else:
        # The host's record may still name all that the plan writes: this side's stays as wide.
        outcome = "the entries there are as before"
        left = [_bare(hyperv_problem(each, host=work.host), work.host) for each in result.get("errors") or ()]
        if left:
            outcome += f", but the undo could not be finished: {'; '.join(dict.fromkeys(left))}"
    raise ApplyError(
        f"{_bare(problem, work.host)}; {outcome}",
        host=work.host,
        standing=Standing.OLD,
        adapters=adapters,
        hint=problem.hint,
        where=problem.where,
    )


def _bare(error: VswitchError, host: str) -> str:
    return error.message.removeprefix(f"{host}: ")


def _step_text(work: _Work, step: Any) -> tuple[str, Rule | None]:
    """How people call a step's entry, and the rule it comes from."""
    steps = work.wire["steps"]
    if not isinstance(step, int) or not 0 <= step < len(steps):
        return "", None
    entries = entries_of_step(steps[step])
    if not entries:
        return "", None
    rule = work.rules.get(str(steps[step]["adapter"]), {}).get(entries[0])
    return f"{rule.name!r}" if rule else describe(entries[0]), rule


def _mixed(work: _Work, why: str, adapters: Sequence[AdapterResult]) -> ApplyError:
    parts = [f"{each.label} is {each.standing}" for each in adapters if each.standing is not Standing.OLD]
    named = "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
    return ApplyError(
        f"{why}; the host is in between: {named}",
        host=work.host,
        standing=Standing.OTHER,
        adapters=adapters,
        hint=f"put it back with `vswitch hyperv rollback {work.host}`, or make a new plan and apply it: it"
        " completes what is missing. All entries of ours are still known as ours.",
    )


def _after_lost_contact(work: _Work, error: HostError, before: Mapping[str, Any]) -> Applied:
    """Read the host again: it may be done, have undone, or have died half-way; then undo."""
    plan_id = str(work.wire["planId"])
    lost = isinstance(error, OutcomeUnknown)
    remedy = "apply the plan again" if lost else error.hint
    try:
        backup = _settled_backup(work, plan_id, isinstance(error, OutcomeUnknown) and error.may_still_run)
        if backup is None:
            outcome = "it was read again: nothing was written"
        elif backup["state"] in ("applied", "confirmed"):
            # Sent again, a plan that is in place is only read back.
            result = call(work.transport, work.host, "apply", {"plan": dict(work.wire)})
            why = "contact was lost on the way" if lost else _bare(error, work.host)
            return _succeeded(work, result, f"{why}; the host was read again")
        else:
            if backup["state"] != "undone":
                result = call(work.transport, work.host, "undo", {"planId": plan_id})
                adapters = _results(work, result)
                if any(each.standing is not Standing.OLD for each in adapters):
                    raise _mixed(work, _bare(error, work.host), adapters)
            outcome = "it was reached again and everything was undone: the host is as before"
        _restore_records(work, before)
        raise ApplyError(
            f"{_bare(error, work.host)}; {outcome}",
            host=work.host,
            standing=Standing.OLD,
            hint=remedy,
            where=error.where,
        ) from None
    except ApplyError:
        raise
    except VswitchError as again:
        armed = int(work.wire.get("confirmWithin") or 0)
        undo = f" The host undoes it by itself within {armed} s of the write." if armed else ""
        unknown = [AdapterResult(each, label, Standing.UNKNOWN) for each, label in work.labels.items()]
        raise ApplyError(
            f"{_bare(error, work.host)}, and it could not be read again ({_bare(again, work.host)}): each"
            f" adapter of plan {plan_id} has its entries from before, or those after one of the plan's"
            f" {counted(len(work.wire['steps']), 'step')}",
            host=work.host,
            standing=Standing.UNKNOWN,
            adapters=unknown,
            hint=f"when it answers again: vswitch hyperv rollback {work.host}, or make a new plan and apply"
            f" it.{undo}",
        ) from None


def _settled_backup(work: _Work, plan_id: str, may_still_run: bool) -> dict[str, Any] | None:
    """The host's backup of the plan once no operation works on it any more; None if it has none."""
    attempts = 5 if may_still_run else 2
    for attempt in range(attempts):
        found = call(work.transport, work.host, "backups", {})
        backups = [each for each in found.get("backups") or () if each.get("planId") == plan_id]
        if not backups and not may_still_run:
            return None
        if backups and backups[0]["state"] != "applying":
            return dict(backups[0])
        if attempt + 1 < attempts and may_still_run:
            work.wait(_SETTLE_SECONDS)
    return dict(backups[0]) if backups else None


def _results(work: _Work, result: Mapping[str, Any]) -> tuple[AdapterResult, ...]:
    """What the host read back, judged here as well."""
    words = {
        "old": Standing.OLD,
        "new": Standing.NEW,
        "gone": Standing.GONE,
        "unread": Standing.UNKNOWN,
    }
    sent = {str(each["id"]): each for each in work.wire["adapters"]}
    labels = work.labels
    found: list[AdapterResult] = []
    for each in result.get("adapters") or ():
        adapter_id = str(each.get("id"))
        standing = words.get(str(each.get("state")), Standing.OTHER)
        read = {"schema": 1, "computer": "", "adapters": [each]}
        now = read_state(read).adapters[0]
        expected = sent.get(adapter_id)
        details: list[str] = []
        if expected is not None and standing not in (Standing.GONE, Standing.UNKNOWN):
            raw = {"acls": expected["expectedAcls"], "extendedAcls": expected["expectedExtendedAcls"]}
            before = set(read_state({**read, "adapters": [raw]}).adapters[0].entries)
            planned = set(before)
            for adds, entries in work.steps.get(adapter_id, ()):
                (planned.update if adds else planned.difference_update)(entries)
            there = set(now.entries)
            if standing is Standing.NEW and there != planned:
                standing = Standing.OTHER
            if standing is Standing.OLD and there != before:
                standing = Standing.OTHER
            details += [f"+ {describe(entry)}" for entry in there - before]
            details += [f"- {describe(entry)}" for entry in before - there]
        found.append(
            AdapterResult(adapter_id, labels.get(adapter_id, adapter_id), standing, tuple(sorted(details)))
        )
    return tuple(found)
