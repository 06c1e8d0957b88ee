"""What the commands do on one host, with everything they need in one place."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from vswitch.acl_entries import Entry, describe, sort_key
from vswitch.errors import HostError, VswitchError
from vswitch.hyperv.applying.answers import (
    Confirmed,
    UnreadableAnswer,
    ask_backup,
    ask_backups,
    ask_confirm,
    export_of,
)
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import Applied, NotVerified, ways_out
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.host.backup_document import Backup, BackupSummary
from vswitch.hyperv.host.host_state import HostState
from vswitch.hyperv.host.records import owned_by_adapter
from vswitch.hyperv.planning.desired import Desired, PolicyRule, Wanted, desired, host_of
from vswitch.hyperv.planning.host_plan import HostPlan, plan_host
from vswitch.hyperv.winrm.interface import OutcomeUnknown, Transport
from vswitch.model.problems import shorten
from vswitch.model.site import Site

__all__ = ["RemoteHost", "backups", "new_plan_id", "plan_policy", "plan_rollback"]

_ROLLBACK = "rollback of "
_IN_FORCE = ("applied", "confirmed", "applying", "failed")
_UNREADABLE = "unreadable"
_NAME_ANOTHER = "name another plan with --to; `vswitch hyperv backups` lists them"


def new_plan_id(now: datetime) -> str:
    """A name for a plan that no other plan has."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class RemoteHost:
    """One host to work on, by WinRM at `port`. `state` replaces reading it (one exported to a file)."""

    name: str
    transport: Transport | None
    store: Store
    state: HostState | None = None
    clock: Callable[[], datetime] = field(default=_now)
    port: int = 0

    @property
    def link(self) -> Transport:
        """The transport. Raises HostError for a state from a file, which cannot be written to."""
        if self.transport is None:
            raise HostError("a state from a file can only be looked at", host=self.name)
        return self.transport

    def read(self) -> HostState:
        """The host's state: one round trip, or none."""
        return self.state if self.state is not None else export_of(self.link, self.name)

    def apply(self, plan: HostPlan, *, confirm_within: int = 0) -> Applied:
        """Carry out a plan: one round trip."""
        return apply_plan(plan, self.link, self.store, host=self.name, confirm_within=confirm_within)

    def confirm(self, plan_id: str = "") -> Confirmed:
        """Keep an applied plan; without an id, the one whose undo is armed. Raises HostError.

        That it stays is read back from the host's list of backups. Raises NotVerified if that does not
        say so.
        """
        if not plan_id:
            # One that ended half-way may be armed too: it is undone, never kept.
            armed = [each for each in backups(self) if each.armed_until and each.state == "applied"]
            if not armed:
                raise HostError("no plan waits to be confirmed", host=self.name)
            plan_id = armed[0].plan_id
        why, was_armed = "", True
        try:
            was_armed = ask_confirm(self.link, self.name, plan_id).was_armed
        except (OutcomeUnknown, UnreadableAnswer) as error:
            why = error.message
        except VswitchError:
            raise
        except Exception as error:  # whatever it is, something was sent
            why = f"this is a defect of vswitch, please report it: {shorten(repr(error), 200)}"
        try:
            known = next((each for each in backups(self) if each.plan_id == plan_id), None)
        except VswitchError as error:
            raise self._not_confirmed(plan_id, why or "it answered", error.message) from None
        if known is None or known.state != "confirmed" or known.armed_until:
            listed = f"the host lists it as {known.state}" if known else "the host does not list it"
            until = f", to be undone at {known.armed_until}" if known and known.armed_until else ""
            raise self._not_confirmed(plan_id, why or "the host says that it stays", listed + until)
        return Confirmed(plan_id=plan_id, confirmed=True, was_armed=was_armed)

    def _not_confirmed(self, plan_id: str, why: str, read: str) -> NotVerified:
        return NotVerified(
            f"{why}, but read again: {read}",
            host=self.name,
            plan_id=plan_id,
            sent=f"to keep plan {plan_id}",
            possible="the plan, for good or until the host undoes it by itself",
            ways=ways_out(
                self.name, plan_id, [], "the host does so by itself if it was armed, unless it is confirmed"
            ),
        )


def plan_policy(target: RemoteHost, site: Site, *, adopt: bool = False) -> HostPlan:
    """How to bring the host to what the policies of `site` say."""
    state = target.read()
    wanted = desired(site, host_of(site, state, target.name), state)
    return _plan(target, state, wanted, adopt=adopt)


def _plan(target: RemoteHost, state: HostState, wanted: Desired, *, adopt: bool = False) -> HostPlan:
    now = target.clock()
    memory = target.store.recall(state.computer, [each.id for each in state.adapters])
    plan = plan_host(
        wanted,
        state,
        host=target.name,
        plan_id=new_plan_id(now),
        created_at=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        local_records=memory.records,
        adopt=adopt,
        port=target.port,
    )
    return replace(plan, warnings=(*plan.warnings, *memory.problems))


def backups(target: RemoteHost) -> tuple[BackupSummary, ...]:
    """The host's backups, newest first: one round trip."""
    return ask_backups(target.link, target.name)


def plan_rollback(target: RemoteHost, to: str = "") -> HostPlan:
    """How to bring our entries back to what they were before a plan was applied.

    `to` is that plan's id; without it, the latest plan that is in force. A rollback, and what it took
    back, is not counted as such a plan: each further one goes back one plan more. Plans applied after
    it are taken back with it. Entries of others stay as they are now. When a plan was applied whose
    backup cannot be read is not known: it cannot be gone back to, and is named in the plan's warnings.
    """
    past = _Past(target)
    if to and to not in past.ids:
        raise HostError(
            f"there is no backup of a plan {to}", host=target.name, hint="`vswitch hyperv backups` lists them"
        )
    if to in past.unreadable:
        raise HostError(f"the backup of plan {to} cannot be read", host=target.name, hint=_NAME_ANOTHER)
    warnings = tuple(
        f"the backup of plan {plan_id} cannot be read: what only that plan changed stays as it is"
        for plan_id in past.unreadable
    )
    state = target.read()
    last = past.ids.index(to) if to else past.next_back(0)
    while True:
        wanted = _as_before(state, past.since(last), warnings)
        plan = _plan(target, state, replace(wanted, policies=(f"{_ROLLBACK}{past.ids[last]}",)))
        if to or plan.changes:
            return plan
        last = past.next_back(last + 1)  # everything is as it was before that plan: go back further


class _Past:
    """The plans of a host's backups, the newest first, and which of them are in force or unreadable."""

    def __init__(self, target: RemoteHost) -> None:
        self.target = target
        known = backups(target)
        self.ids = [each.plan_id for each in known]
        self.in_force = [each.plan_id for each in known if each.state in _IN_FORCE]
        self.unreadable = [each.plan_id for each in known if each.state == _UNREADABLE]
        self._documents: dict[str, Backup] = {}

    def backup(self, plan_id: str) -> Backup:
        """A plan's backup: one round trip, the first time."""
        if plan_id not in self._documents:
            self._documents[plan_id] = ask_backup(self.target.link, self.target.name, plan_id)
        return self._documents[plan_id]

    def since(self, last: int) -> list[Backup]:
        """The backups of the plan at a place and of those in force after it, the oldest first."""
        plans = [each for each in self.ids[: last + 1] if each in self.in_force or each == self.ids[last]]
        return [self.backup(each) for each in reversed(plans)]

    def next_back(self, last: int) -> int:
        """The place of the plan to take back next, from a place on: the newest not taken back yet."""
        while True:
            newest = next((each for each in self.in_force if self.ids.index(each) >= last), None)
            if newest is None:
                raise HostError("no plan is in force that could be taken back", host=self.target.name)
            last = self.ids.index(newest)
            taken_back = _taken_back(self.backup(newest))
            if taken_back in self.unreadable:
                raise HostError(
                    f"plan {newest} took back plan {taken_back}, whose backup cannot be read",
                    host=self.target.name,
                    hint=_NAME_ANOTHER,
                )
            if taken_back in self.ids[last + 1 :]:
                last = self.ids.index(taken_back) + 1
            elif _only_looked(self.backup(newest)):
                last += 1
            else:
                return last


def _as_before(state: HostState, documents: Sequence[Backup], warnings: tuple[str, ...]) -> Desired:
    """Our entries as they were before some plans, whose backups are `documents`, the oldest first.

    What was taken over from others since is given back to them, not removed; what was given away since,
    and never removed, is ours again.
    """
    before: dict[str, frozenset[Entry]] = {}
    others: dict[str, frozenset[Entry]] = {}  # were there, and not ours
    removed: dict[str, set[Entry]] = {}
    for document in documents:
        for step in document.plan.steps:
            if not step.adds:
                removed.setdefault(step.adapter, set()).update(step.entries)
        recorded = owned_by_adapter(document.records)
        for backed_up in document.adapters:
            there = frozenset(backed_up.lists.shown)
            # What somebody had removed by hand was in the record, and not there.
            ours = there & recorded.get(backed_up.id, frozenset())
            before.setdefault(backed_up.id, ours)
            others.setdefault(backed_up.id, there - ours)
    wanted: list[Wanted] = []
    notes: list[str] = []
    for adapter in state.adapters:
        owned = state.records.get(adapter.id, frozenset()) & adapter.entries.keys()
        entries = before.get(adapter.id, owned)
        rules: dict[Entry, PolicyRule | None] = dict.fromkeys(entries)
        released = others.get(adapter.id, frozenset())
        wanted.append(Wanted(adapter, rules, released, entries - removed.get(adapter.id, set())))
        given = sorted(owned & released, key=sort_key)
        notes += [f"{adapter.label}: {describe(each)} stays and stops being ours" for each in given]
    gone = [adapter for adapter in before if state.adapter(adapter) is None]
    notes += [f"the adapter {adapter} is no longer on the host" for adapter in gone]
    return Desired(tuple(wanted), (), (*notes, *warnings))


def _taken_back(backup: Backup) -> str:
    """The plan to before which a backed-up plan went back; "" if it is none of `plan_rollback`."""
    names = [record.policy for record in backup.plan.records_during]
    return names[0].removeprefix(_ROLLBACK) if names and names[0].startswith(_ROLLBACK) else ""


def _only_looked(backup: Backup) -> bool:
    """Whether a plan changed neither entries nor what is ours: it took note of entries of others."""
    return not backup.plan.steps and owned_by_adapter(backup.records) == owned_by_adapter(backup.plan.records)
