"""What the commands do on one host, with everything they need in one place."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from vswitch.errors import HostError
from vswitch.hyperv.apply import Applied, apply_plan, call, read_host
from vswitch.hyperv.desired import Desired, Rule, Wanted, desired, host_of
from vswitch.hyperv.entries import Entry
from vswitch.hyperv.plan import HostPlan, plan_host
from vswitch.hyperv.state import HostState, entries_of, read_state
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
    known = backups(target)
    ids = [str(each["planId"]) for each in known]
    if to and to not in ids:
        raise HostError(
            f"there is no backup of a plan {to}", host=target.name, hint="`vswitch hyperv backups` lists them"
        )
    in_force = [str(each["planId"]) for each in known if each.get("state") in _IN_FORCE]
    unreadable = [str(each["planId"]) for each in known if each.get("state") == _UNREADABLE]
    if to in unreadable:
        raise HostError(f"the backup of plan {to} cannot be read", host=target.name, hint=_NAME_ANOTHER)
    documents: dict[str, dict[str, Any]] = {}

    def backup(plan_id: str) -> dict[str, Any]:
        if plan_id not in documents:
            found = call(target.link, target.name, "backups", {"planId": plan_id}).get("backups") or [{}]
            documents[plan_id] = found[0]
        return documents[plan_id]

    last = ids.index(to) if to else 0
    while not to:
        newest = next((each for each in in_force if ids.index(each) >= last), None)
        if newest is None:
            raise HostError("no plan is in force that could be taken back", host=target.name)
        last = ids.index(newest)
        taken_back = _taken_back(backup(newest))
        if taken_back in unreadable:
            raise HostError(
                f"plan {newest} took back plan {taken_back}, whose backup cannot be read",
                host=target.name,
                hint=_NAME_ANOTHER,
            )
        if taken_back in ids[last + 1 :]:
            last = ids.index(taken_back) + 1
        elif _only_looked(backup(newest)):
            last += 1
        else:
            break
    before: dict[str, frozenset[Entry]] = {}
    others: dict[str, frozenset[Entry]] = {}  # were there, and not ours
    for plan_id in reversed([each for each in ids[: last + 1] if each in in_force or each == ids[last]]):
        document = backup(plan_id)
        for adapter in document.get("adapters") or ():
            records = [
                record for record in document.get("records") or () if record.get("adapter") == adapter["id"]
            ]
            entries = frozenset(entry for record in records for entry in entries_of(record))
            before.setdefault(str(adapter["id"]), entries)
            there = read_state({"schema": 1, "computer": "", "adapters": [adapter]}).adapters[0].entries
            others.setdefault(str(adapter["id"]), frozenset(there) - entries)
    state = target.read()
    wanted: list[Wanted] = []
    for adapter in state.adapters:
        entries = before.get(adapter.id, state.records.get(adapter.id, frozenset()) & adapter.entries.keys())
        rules: dict[Entry, Rule | None] = dict.fromkeys(entries)
        # What was taken over from others since is given back to them, not removed.
        wanted.append(Wanted(adapter, rules, others.get(adapter.id, frozenset())))
    gone = [adapter for adapter in before if state.adapter(adapter) is None]
    notes = (
        *(f"the adapter {adapter} is no longer on the host" for adapter in gone),
        *(
            f"the backup of plan {plan_id} cannot be read: what only that plan changed stays as it is"
            for plan_id in unreadable
        ),
    )
    return _plan(target, state, Desired(tuple(wanted), (f"{_ROLLBACK}{ids[last]}",), notes))


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
