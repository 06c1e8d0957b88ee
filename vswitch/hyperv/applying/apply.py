"""Carrying out a plan on a host, and saying exactly which state the host is in whatever happens.

The host does the work: it checks that nothing changed since the plan was made, backs up, writes in
order, reads back, and undoes everything if a write fails. This side keeps its own record before the
first write and after the last, compares what was read back, and looks again after lost contact.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vswitch.acl_entries import Entry, describe
from vswitch.errors import EnvironmentError_, HostError, InputError, Origin, VswitchError
from vswitch.hyperv.applying.answers import (
    PlanResult,
    Refused,
    UnreadableAnswer,
    ask_apply,
    ask_backups,
    ask_undo,
    export_of,
)
from vswitch.hyperv.applying.outcomes import (
    AdapterResult,
    Applied,
    ApplyError,
    NotVerified,
    Standing,
    WaysOut,
    ways_out,
)
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.host.backup_document import BackupSummary
from vswitch.hyperv.host.plan_document import PlanDocument
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.host.shown_entries import EntryLists
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.hyperv.planning.plan_steps import rule_of_step
from vswitch.hyperv.winrm.interface import OutcomeUnknown, Transport
from vswitch.hyperv.winrm.refusals import hyperv_problem, wrote_nothing
from vswitch.model.problems import shorten

__all__ = ["apply_plan"]

#: What was ours by this side's record, by adapter id.
Before = Mapping[str, frozenset[Entry]]
_SETTLE_SECONDS = 3.0
_ROLLBACK = ["vswitch", "hyperv", "rollback"]


@dataclass
class _Work:
    """A plan on its way, as sent."""

    host: str
    plan: PlanDocument
    transport: Transport
    store: Store
    wait: Callable[[float], None] = time.sleep

    @property
    def ids(self) -> tuple[str, ...]:
        return self.plan.ids

    @property
    def computer(self) -> str:
        return self.plan.host

    @property
    def ways(self) -> WaysOut:
        """What can be done where the plan may be in force."""
        armed = self.plan.confirm_within
        itself = f"the host does so by itself within {armed} s of the write unless it is confirmed"
        return ways_out(self.host, self.plan.plan_id, self.ids, itself if armed else "")

    def unknown(self, why: str) -> NotVerified:
        """What to say where nothing that was read back says what is in force."""
        writes, adapters = len(self.plan.steps), len(self.ids)
        return NotVerified(
            why,
            host=self.host,
            plan_id=self.plan.plan_id,
            sent=f"plan {self.plan.plan_id} with {writes} {'write' if writes == 1 else 'writes'} on"
            f" {adapters} {'adapter' if adapters == 1 else 'adapters'}",
            possible="the entries from before, those of the plan, or those after some of its writes",
            ways=self.ways,
            adapters=[AdapterResult(each.id, each.label, Standing.UNKNOWN) for each in self.plan.adapters],
        )


def apply_plan(
    plan: HostPlan,
    transport: Transport,
    store: Store,
    *,
    host: str = "",
    confirm_within: int = 0,
    wait: Callable[[float], None] = time.sleep,
) -> Applied:
    """Carry out a plan, fresh or read from a file, in one round trip.

    With `confirm_within` seconds, the host undoes it by itself unless it is confirmed in time.
    Raises NotVerified if nothing read back says what is in force, ApplyError with the state of the host
    for any other failure; other errors mean that nothing was written. `wait` passes time before the
    host is read again after lost contact.
    """
    document = plan.document(confirm_within=confirm_within)
    if not document.adapters:
        return Applied(document.plan_id, 0, note="nothing to do")
    work = _Work(host or plan.host, document, transport, store, wait)
    before = store.records(work.computer, work.ids)
    # Were this process to die, what it may have written must still be known as ours.
    store.keep_plan(document)
    store.keep_records(work.computer, work.ids, [*document.records_during, *document.records])
    try:
        return _send(work, before)
    except VswitchError:
        raise
    except Exception as error:
        # Whatever it is, the host has been sent something, and that must be said.
        raise work.unknown(
            f"this is a defect of vswitch, please report it: {shorten(repr(error), 200)}"
        ) from error


def _send(work: _Work, before: Before) -> Applied:
    try:
        answer = ask_apply(work.transport, work.host, work.plan)
    except (OutcomeUnknown, UnreadableAnswer) as error:
        return _look_again(work, error, before)
    except VswitchError:
        _restore_records(work, before)
        raise
    if isinstance(answer, Refused):
        return _failed(work, answer, before)
    if answer.repeated:
        return _repeated(work, answer, before)
    return _verified(work, _results(work, answer), answer.armed_until)


def _repeated(work: _Work, answer: PlanResult, before: Before) -> Applied:
    """The host says that it had the plan in force already: so it must have kept a backup of it."""
    try:
        backup = _backup_of(work)
    except VswitchError as error:
        raise work.unknown(
            f"the host says that the plan was in force already, and then {error.message}"
        ) from None
    if backup is None or backup.state not in ("applied", "confirmed"):
        known = f"has it as {backup.state}" if backup else "has no backup of it"
        why = f"it says that the plan was in force already, but {known}"
        return _look_again(work, UnreadableAnswer("apply", why, host=work.host), before)
    note = f"plan {work.plan.plan_id} was already in force: verified, nothing was written"
    return _verified(work, _results(work, answer), answer.armed_until, note=note, steps=0)


def _verified(
    work: _Work,
    adapters: tuple[AdapterResult, ...],
    armed_until: str | None,
    *,
    note: str = "",
    steps: int | None = None,
) -> Applied:
    """Verified, if every adapter of the plan was read back and has what the plan makes of it.

    `steps` are those carried out, where they are not all of them.
    """
    wrong = [each for each in adapters if each.standing is not Standing.NEW]
    if any(each.standing is Standing.UNKNOWN for each in wrong):
        raise work.unknown("the host says that it is done, but not what it holds now")
    if wrong:
        raise ApplyError(
            f"the host says it is done, but {wrong[0].label} is {wrong[0].standing}",
            host=work.host,
            standing=Standing.OTHER,
            adapters=adapters,
            hint=str(work.ways),
        )
    notes = [note, _keep_records(work, work.plan.records)]
    done = len(work.plan.steps) if steps is None else steps
    return Applied(work.plan.plan_id, done, adapters, armed_until, "; ".join(filter(None, notes)))


def _restore_records(work: _Work, before: Before) -> None:
    policy = "restored"
    _keep_records(
        work, [OwnershipRecord.of(each, policy, before[each]) for each in work.ids if before.get(each)]
    )


def _keep_records(work: _Work, records: Iterable[OwnershipRecord]) -> str:
    """This side's record; what it says of more entries than are ours does no harm, so an error is a note."""
    try:
        work.store.keep_records(work.computer, work.ids, records)
    except (EnvironmentError_, InputError) as error:
        return f"this side's record is not up to date: {error.message}"
    return ""


def _failed(work: _Work, answer: Refused, before: Before) -> Applied:
    """The host refused or failed; it has undone what it did, as far as it could."""
    error, result = answer.error.to_dict(), answer.result
    text, where = _step_text(work, answer.error.target.step)
    problem = hyperv_problem(
        error,
        host=work.host,
        adapter=next(
            (each.label for each in work.plan.adapters if each.id == answer.error.target.adapter), ""
        ),
        rule=text,
        where=where,
    )
    adapters = _results(work, result) if result else ()
    if result is None:
        if answer.spoiled or not wrote_nothing(error):
            return _look_again(work, problem, before)
        _restore_records(work, before)
        outcome = "nothing was written"
    elif any(each.standing is not Standing.OLD for each in adapters):
        raise _mixed(work, problem, adapters)
    elif result.undone:
        _restore_records(work, before)
        outcome = "everything was undone, the host is as before"
    else:
        # The host's record may still name all that the plan writes: this side's stays as wide.
        outcome = "the entries there are as before"
        left = [hyperv_problem(each.to_dict(), host=work.host).message for each in result.errors]
        if left:
            outcome += f", but the undo could not be finished: {'; '.join(dict.fromkeys(left))}"
    raise ApplyError(
        f"{problem.message}; {outcome}",
        host=work.host,
        standing=Standing.OLD,
        adapters=adapters,
        hint=problem.hint,
        where=problem.where,
    )


def _step_text(work: _Work, step: int | None) -> tuple[str, Origin | None]:
    """How people call a step's entry, and where the rule is that it comes from."""
    steps = work.plan.steps
    if step is None or not 0 <= step < len(steps):
        return "", None
    rule = rule_of_step(steps[step])
    if rule is not None:
        return f"{rule.name!r}", rule.origin
    entries = steps[step].entries
    return (describe(entries[0]) if entries else ""), None


def _mixed(work: _Work, error: HostError, adapters: Sequence[AdapterResult]) -> ApplyError:
    parts = [f"{each.label} is {each.standing}" for each in adapters if each.standing is not Standing.OLD]
    named = "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
    return ApplyError(
        f"{error.message}; the host is in between: {named}",
        host=work.host,
        standing=Standing.OTHER,
        adapters=adapters,
        hint=f"put it back with `{shlex.join([*_ROLLBACK, work.host])}`, or make a new plan and apply it: it"
        " completes what is missing. All entries of ours are still known as ours.",
        where=error.where,
    )


def _look_again(work: _Work, error: HostError, before: Before) -> Applied:
    """Read the host again: it may be done, have undone, or have died half-way; then undo."""
    lost = isinstance(error, OutcomeUnknown)
    try:
        backup = _settled_backup(work, isinstance(error, OutcomeUnknown) and error.may_still_run)
        if backup is not None and backup.state in ("applied", "confirmed"):
            found = _read_back(work, old=False)
            why = "contact was lost on the way" if lost else error.message
            return _verified(work, found, backup.armed_until, note=f"{why}; the host was read again")
        if backup is None or backup.state == "undone":
            adapters = _read_back(work, old=True)
        else:
            adapters = _results(work, ask_undo(work.transport, work.host, work.plan.plan_id, work.ids))
        if any(each.standing is Standing.UNKNOWN for each in adapters):
            raise HostError("it does not say what an adapter holds", host=work.host)
        if any(each.standing is not Standing.OLD for each in adapters):
            raise _mixed(work, error, adapters)
    except ApplyError:
        raise
    except VswitchError as again:
        raise work.unknown(f"{error.message}, and it could not be read again ({again.message})") from None
    outcome = (
        "it was read again: nothing was written"
        if backup is None
        else "it was reached again and everything was undone: the host is as before"
    )
    _restore_records(work, before)
    raise ApplyError(
        f"{error.message}; {outcome}",
        host=work.host,
        standing=Standing.OLD,
        adapters=adapters,
        hint="apply the plan again" if lost else error.hint,
        where=error.where,
    )


def _backup_of(work: _Work) -> BackupSummary | None:
    known = ask_backups(work.transport, work.host)
    return next((each for each in known if each.plan_id == work.plan.plan_id), None)


def _settled_backup(work: _Work, may_still_run: bool) -> BackupSummary | None:
    """The host's backup of the plan once no operation works on it any more; None if it has none."""
    attempts = 5 if may_still_run else 2
    for attempt in range(attempts):
        backup = _backup_of(work)
        if backup is None and not may_still_run:
            return None
        if backup is not None and backup.state != "applying":
            return backup
        if attempt + 1 < attempts and may_still_run:
            work.wait(_SETTLE_SECONDS)
    return backup


# --- what was read back --------------------------------------------------------------------------


def _results(work: _Work, result: PlanResult) -> tuple[AdapterResult, ...]:
    """What the host read back, judged here: the module's own judgement counts only where it is worse."""
    words = {"old": Standing.OLD, "new": Standing.NEW, "gone": Standing.GONE, "unread": Standing.UNKNOWN}
    found: list[AdapterResult] = []
    for each in result.adapters:
        said = words.get(each.state, Standing.OTHER)
        if said in (Standing.GONE, Standing.UNKNOWN):
            found.append(AdapterResult(each.id, work.plan.adapter(each.id).label, said))
            continue
        judged = _judged(work, each.id, each.lists, old=said is Standing.OLD)
        found.append(replace(judged, standing=said) if said is Standing.OTHER else judged)
    return tuple(found)


def _read_back(work: _Work, *, old: bool) -> tuple[AdapterResult, ...]:
    """The plan's adapters, read anew; what is as before and as planned at once is the former if `old`."""
    state = export_of(work.transport, work.host)
    if state.computer.lower() != work.computer.lower():
        raise HostError(f"{state.computer} answers there, not {work.computer}", host=work.host)
    found: list[AdapterResult] = []
    for planned in work.plan.adapters:
        adapter = state.adapter(planned.id)
        if adapter is None:
            found.append(AdapterResult(planned.id, planned.label, Standing.GONE))
        else:
            found.append(_judged(work, planned.id, adapter.lists, old=old))
    return tuple(found)


def _judged(work: _Work, adapter_id: str, now: EntryLists, *, old: bool) -> AdapterResult:
    """Which state an adapter with these entries is in. What is both, as where nothing changes, is `old`."""
    sent = work.plan.adapter(adapter_id)
    planned = set(sent.lists.shown)
    for step in work.plan.steps_on(adapter_id):
        (planned.update if step.adds else planned.difference_update)(step.entries)
    there, was = set(now.shown), set(sent.lists.shown)
    states = [Standing.OLD] if there == was else []
    states += [Standing.NEW] if there == planned else []
    if sorted(now.unreadable) != sorted(sent.lists.unreadable):
        states = []
    details = [f"+ {describe(entry)}" for entry in there - was]
    details += [f"- {describe(entry)}" for entry in was - there]
    standing = (states[0] if old else states[-1]) if states else Standing.OTHER
    return AdapterResult(adapter_id, sent.label, standing, tuple(sorted(details)))
