"""What the commands do on one host, with everything they need in one place."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from vswitch.errors import HostError
from vswitch.hyperv.apply import Applied, apply_plan, call, read_host
from vswitch.hyperv.desired import Desired, Rule, Wanted, desired, host_of
from vswitch.hyperv.entries import Entry, describe, sort_key
from vswitch.hyperv.plan import HostPlan, plan_host
from vswitch.hyperv.state import HostState, entries_of, entries_of_step, read_state
from vswitch.hyperv.store import Store
from vswitch.hyperv.transport import Transport
from vswitch.model.site import Site

__all__ = ["Target", "backups", "new_plan_id", "plan_policy", "plan_rollback"]

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
class Target:
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
        return self.state if self.state is not None else read_host(self.link, self.name)

    def apply(self, plan: HostPlan | dict[str, Any], *, confirm_within: int = 0) -> Applied:
        """Carry out a plan: one round trip."""
        return apply_plan(plan, self.link, self.store, host=self.name, confirm_within=confirm_within)

    def confirm(self, plan_id: str) -> dict[str, Any]:
        """Keep an applied plan; without an id, the one whose undo is armed."""
        if not plan_id:
            # One that ended half-way may be armed too: it is undone, never kept.
            armed = [
                each for each in backups(self) if each.get("armedUntil") and each.get("state") == "applied"
            ]
            if not armed:
                raise HostError("no plan waits to be confirmed", host=self.name)
            plan_id = str(armed[0]["planId"])
        return call(self.link, self.name, "confirm", {"planId": plan_id})


def plan_policy(target: Target, site: Site, *, adopt: bool = False) -> HostPlan:
    """How to bring the host to what the policies of `site` say."""
    state = target.read()
    wanted = desired(site, host_of(site, state, target.name), state)
    return _plan(target, state, wanted, adopt=adopt)


def _plan(target: Target, state: HostState, wanted: Desired, *, adopt: bool = False) -> HostPlan:
    now = target.clock()
    return plan_host(
        wanted,
        state,
        host=target.name,
        plan_id=new_plan_id(now),
        created_at=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        local_records=target.store.records(state.computer, [each.id for each in state.adapters]),
        adopt=adopt,
        port=target.port,
    )


def backups(target: Target) -> list[dict[str, Any]]:
    """The host's backups, newest first."""
    return list(call(target.link, target.name, "backups", {}).get("backups") or ())


def plan_rollback(target: Target, to: str = "") -> HostPlan:
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

    def __init__(self, target: Target) -> None:
        self.target = target
        known = backups(target)
        self.ids = [str(each["planId"]) for each in known]
        self.in_force = [str(each["planId"]) for each in known if each.get("state") in _IN_FORCE]
        self.unreadable = [str(each["planId"]) for each in known if each.get("state") == _UNREADABLE]
        self._documents: dict[str, dict[str, Any]] = {}

    def backup(self, plan_id: str) -> dict[str, Any]:
        """A plan's backup: one round trip, the first time."""
        if plan_id not in self._documents:
            found = call(self.target.link, self.target.name, "backups", {"planId": plan_id})
            self._documents[plan_id] = (found.get("backups") or [{}])[0]
        return self._documents[plan_id]

    def since(self, last: int) -> list[dict[str, Any]]:
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


def _as_before(
    state: HostState, documents: Sequence[Mapping[str, Any]], warnings: tuple[str, ...]
) -> Desired:
    """Our entries as they were before some plans, whose backups are `documents`, the oldest first.

    What was taken over from others since is given back to them, not removed; what was given away since,
    and never removed, is ours again.
    """
    before: dict[str, frozenset[Entry]] = {}
    others: dict[str, frozenset[Entry]] = {}  # were there, and not ours
    removed: dict[str, set[Entry]] = {}
    for document in documents:
        for step in (document.get("plan") or {}).get("steps") or ():
            if str(step.get("op")).startswith("remove"):
                removed.setdefault(str(step.get("adapter")), set()).update(entries_of_step(step))
        for adapter in document.get("adapters") or ():
            records = [
                record for record in document.get("records") or () if record.get("adapter") == adapter["id"]
            ]
            there = (
                read_state({"schema": 1, "computer": "", "adapters": [adapter]}).adapters[0].entries.keys()
            )
            # What somebody had removed by hand was in the record, and not there.
            ours = frozenset(entry for record in records for entry in entries_of(record)) & there
            before.setdefault(str(adapter["id"]), ours)
            others.setdefault(str(adapter["id"]), frozenset(there) - ours)
    wanted: list[Wanted] = []
    notes: list[str] = []
    for adapter in state.adapters:
        owned = state.records.get(adapter.id, frozenset()) & adapter.entries.keys()
        entries = before.get(adapter.id, owned)
        rules: dict[Entry, Rule | None] = dict.fromkeys(entries)
        released = others.get(adapter.id, frozenset())
        wanted.append(Wanted(adapter, rules, released, entries - removed.get(adapter.id, set())))
        given = sorted(owned & released, key=sort_key)
        notes += [f"{adapter.label}: {describe(each)} stays and stops being ours" for each in given]
    gone = [adapter for adapter in before if state.adapter(adapter) is None]
    notes += [f"the adapter {adapter} is no longer on the host" for adapter in gone]
    return Desired(tuple(wanted), (), (*notes, *warnings))


def _taken_back(backup: Mapping[str, Any]) -> str:
    """The plan to before which a backed-up plan went back; "" if it is none of `plan_rollback`."""
    plan = backup.get("plan")
    records = plan.get("recordsDuring") if isinstance(plan, Mapping) else None
    names = [str(record.get("policy")) for record in records or () if isinstance(record, Mapping)]
    return names[0].removeprefix(_ROLLBACK) if names and names[0].startswith(_ROLLBACK) else ""


def _only_looked(backup: Mapping[str, Any]) -> bool:
    """Whether a plan changed neither entries nor what is ours: it took note of entries of others."""
    plan = backup.get("plan") or {}
    owned = [
        {str(record["adapter"]): set(entries_of(record)) for record in side.get("records") or ()}
        for side in (backup, plan)
    ]
    return not plan.get("steps") and owned[0] == owned[1]
