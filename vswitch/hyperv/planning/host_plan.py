"""What has to be written on one host, and what that does: computed from its state and a policy.

Ownership (docs/decisions/0008-ownership-of-hyperv-rules.md): an entry is ours if a record says that we wrote
it and it is on the host exactly so. Everything else is foreign: it is never removed, and nothing of
ours takes its place. All reasons against a plan are found here, before anything is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vswitch.acl_entries import Entry, describe, sort_key, to_host
from vswitch.compare.regions import Region
from vswitch.errors import HostError, InputError, InputErrors
from vswitch.hyperv.host.host_state import HostState
from vswitch.hyperv.host.plan_document import PlanDocument, PlannedAdapter
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.host.shown_entries import kind_of
from vswitch.hyperv.planning.adapter_plan import AdapterPlan
from vswitch.hyperv.planning.checks import collisions, halves, plan_warnings, refusals, refused
from vswitch.hyperv.planning.desired import Desired, Wanted
from vswitch.hyperv.planning.ordering import Exposure
from vswitch.hyperv.planning.winrm_access import winrm_lost
from vswitch.json_values import Json

__all__ = ["HostPlan", "paired", "plan_host"]

#: Seconds that one write takes, measured by others at about 190 ms for four to five (§4.7).
SECONDS_PER_STEP = 0.05


@dataclass(frozen=True)
class HostPlan:
    """Everything for one host. `host` is what the user calls it, `port` where its WinRM is reached."""

    host: str
    computer: str
    plan_id: str
    created_at: str
    policies: tuple[str, ...]
    adapters: tuple[AdapterPlan, ...]
    warnings: tuple[str, ...]
    port: int = 0
    records: tuple[OwnershipRecord, ...] = ()  # what the host says is ours
    saved: PlanDocument | None = None  # the document that this plan was read from, to be sent as it is

    @property
    def changes(self) -> bool:
        """Whether anything is to be written: entries, or the record of what is ours."""
        return any(adapter.writes or _record_changes(adapter) for adapter in self.adapters)

    @property
    def drifted(self) -> bool:
        """Whether anything is other than the last apply left it, entries of others included."""
        return self.changes or any(adapter.came or adapter.went for adapter in self.adapters)

    @property
    def to_send(self) -> bool:
        """Whether there is anything to send: writes, a record, or a new note of what others have there."""
        return self.drifted if self.saved is None else bool(self.saved.adapters)

    @property
    def exposures(self) -> list[tuple[AdapterPlan, Exposure]]:
        """Traffic that is treated as neither the old nor the new entries do, for a moment."""
        return [(adapter, each) for adapter in self.adapters for each in adapter.order.exposures]

    @property
    def questions(self) -> list[str]:
        """What the administrator has to agree to before this is applied; empty if nothing."""
        found: list[str] = []
        for adapter, exposure in self.exposures:
            seconds = (exposure.last - exposure.first + 1) * SECONDS_PER_STEP
            for what, regions in (("let through", exposure.traffic.leaks), ("cut", exposure.traffic.cuts)):
                if regions:
                    found.append(
                        f"{adapter.adapter.label} {exposure.traffic.direction}: the entries there leave no"
                        " order of writes that treats all traffic as before or as after: for about"
                        f" {seconds:.2f} s this is {what}: {_some(regions)}"
                    )
        for adapter in self.adapters:
            if adapter.adapter.is_management_os and adapter.writes:
                lost = winrm_lost(adapter.old, adapter.new, self.port)
                if lost:
                    found.append(f"{adapter.adapter.label}: this cuts WinRM to the host: {_some(lost)}")
        return found

    def digest(self) -> str:
        """A digest of what the policy wants, whatever the host has."""
        wanted = [[adapter.adapter.id, sorted(map(describe, adapter.rules))] for adapter in self.adapters]
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()

    def document(self, *, confirm_within: int = 0) -> PlanDocument:
        """The plan as it is sent and saved. A saved one keeps its own seconds where none are given."""
        if self.saved is not None:
            return self.saved.undone_after(confirm_within)
        touched = [
            adapter
            for adapter in self.adapters
            if adapter.writes or _record_changes(adapter) or adapter.came or adapter.went
        ]
        touched.sort(key=lambda adapter: adapter.adapter.is_management_os)
        ids = {adapter.adapter.id for adapter in touched}
        name = ", ".join(self.policies)
        return PlanDocument(
            schema=1,
            plan_id=self.plan_id,
            host=self.computer,
            created_at=self.created_at,
            policy_digest=self.digest(),
            adapters=tuple(_planned(each) for each in touched),
            steps=tuple(step for each in touched for step in each.steps),
            records=tuple(
                OwnershipRecord.of(each.adapter.id, name, each.owned_after, each.beside)
                for each in touched
                if each.owned_after
            ),
            records_during=tuple(
                OwnershipRecord.of(each.adapter.id, name, {*each.owned_before, *each.temporary})
                for each in touched
            ),
            expected_records=tuple(
                OwnershipRecord(adapter=record.adapter, entries=record.entries)
                for record in self.records
                if record.adapter in ids
            ),
            confirm_within=confirm_within,
        )

    def as_dict(self) -> dict[str, Json]:
        """The plan as plain data for people's programs: `--output json`."""
        return {
            "host": self.host,
            "computer": self.computer,
            "plan_id": self.plan_id,
            "created_at": self.created_at,
            "policies": list(self.policies),
            "changes": self.changes,
            "adapters": [_adapter_dict(adapter) for adapter in self.adapters],
            "questions": self.questions,
            "warnings": list(self.warnings),
        }


def _planned(adapter: AdapterPlan) -> PlannedAdapter:
    there = adapter.adapter
    return PlannedAdapter(
        id=there.id,
        name=there.name,
        vm_name=there.vm_name or None,
        is_management_os=there.is_management_os,
        expected_acls=there.lists.basic,
        expected_extended_acls=there.lists.extended,
    )


def _record_changes(adapter: AdapterPlan) -> bool:
    return adapter.owned_after != adapter.owned_before or not adapter.recorded


def _some(regions: Sequence[Region], limit: int = 5) -> str:
    texts = [str(region) for region in regions[:limit]]
    more = len(regions) - limit
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _adapter_dict(adapter: AdapterPlan) -> dict[str, Json]:
    def one(entry: Entry) -> dict[str, Json]:
        rule = adapter.rules.get(entry)
        return {
            "kind": kind_of(entry),
            "text": describe(entry),
            "rule": rule.name if rule else None,
            "where": str(rule.origin) if rule else None,
            "entry": to_host(entry),
        }

    return {
        "id": adapter.adapter.id,
        "adapter": adapter.adapter.label,
        "added": [one(entry) for entry in adapter.added],
        "removed": [one(entry) for entry in adapter.removed],
        "changed": [{"from": one(before), "to": one(after)} for before, after in adapter.changed],
        "kept": len(adapter.kept),
        "foreign": [one(entry) for entry in adapter.foreign],
        "adopted": [one(entry) for entry in adapter.adopted],
        "came": adapter.came,
        "went": adapter.went,
        "present_but_foreign": [one(entry) for entry in adapter.present],
        "effects": [diff.as_dict() for diff in adapter.effects],
        "shadowing": [
            {"winner": one(each.winner), "loser": one(each.loser), "wholly": each.wholly}
            for each in adapter.conflicts
        ],
        "writes": len(adapter.steps),
        "exposures": [exposure.as_dict() for exposure in adapter.order.exposures],
    }


# --- making one ----------------------------------------------------------------------------------


def plan_host(
    wanted: Desired,
    state: HostState,
    *,
    host: str = "",
    plan_id: str,
    created_at: str,
    local_records: Mapping[str, frozenset[Entry]] | None = None,
    adopt: bool = False,
    port: int = 0,
) -> HostPlan:
    """How to get a host from `state` to what is wanted.

    `local_records` is this side's copy of what is ours by adapter id, used where the host has lost
    its own. With `adopt`, foreign entries that equal wanted ones become ours. `port` is where WinRM is
    reached, if it is none of the usual ones. Raises InputErrors with every reason why the plan could not
    be carried out, HostError if the host cannot read its record.
    """
    errors: list[InputError] = []
    warnings: list[str] = [*wanted.warnings]
    unread = next((each for each in state.unread if each.part == "records"), None)
    if unread is not None:
        raise HostError(
            f"the record of which entries are ours cannot be read: {unread.message}",
            host=host or state.computer,
            hint="have an administrator of the host look at %ProgramData%\\vswitch",
        )
    lost = not state.recorded and bool(local_records)
    if lost:
        warnings.append(
            "the host has no record of our entries; this side's copy is used, and written there again"
        )
    records = local_records if lost and local_records is not None else state.records
    of_adapter = {each.adapter.id: each for each in wanted.adapters}
    adapters: list[AdapterPlan] = []
    for adapter in state.adapters:
        want = of_adapter.get(adapter.id) or Wanted(adapter, {})
        if not want.entries and adapter.id not in records:
            continue
        recorded = records.get(adapter.id, frozenset()) - want.released
        plan = _adapter_plan(want, recorded, state, adopt)
        adapters.append(plan)
        errors += [refused(adapter, text, rule) for text, rule in refusals(want.entries)]
        errors += collisions(plan)
        errors += halves(plan)
        warnings += plan_warnings(plan, state)
    if errors:
        raise InputErrors(errors)
    return HostPlan(
        host or state.computer,
        state.computer,
        plan_id,
        created_at,
        wanted.policies,
        tuple(adapters),
        tuple(dict.fromkeys(warnings)),
        port,
        state.ownership,
    )


def _adapter_plan(want: Wanted, recorded: frozenset[Entry], state: HostState, adopt: bool) -> AdapterPlan:
    adapter = want.adapter
    there = adapter.entries.keys()
    owned = frozenset(recorded & there)
    equal = [entry for entry in want.entries if entry in there and entry not in owned]
    # An ANY that the host shows as one entry is taken over whole or not at all.
    whole = [entry for entry in equal if all(each in want.entries for each in adapter.lists.together(entry))]
    adopted = frozenset(entry for entry in whole if adopt or entry in want.reclaimed)
    missing = [entry for entry in want.entries if entry not in there]
    added, removed, changed = paired(missing, (entry for entry in owned if entry not in want.entries))
    return AdapterPlan(
        adapter=adapter,
        added=added,
        removed=removed,
        changed=changed,
        kept=_sorted(entry for entry in owned if entry in want.entries),
        foreign=_sorted(entry for entry in there if entry not in owned and entry not in adopted),
        adopted=_sorted(adopted),
        present=_sorted(entry for entry in equal if entry not in adopted),
        owned_before=owned,
        recorded=state.records.get(adapter.id, frozenset()) == owned,
        seen=state.others.get(adapter.id) if owned else None,
        rules=want.entries,
    )


def paired(
    come: Iterable[Entry], go: Iterable[Entry]
) -> tuple[tuple[Entry, ...], tuple[Entry, ...], tuple[tuple[Entry, Entry], ...]]:
    """What is added, what is removed, and what is changed: the pairs among both with one weight or prefix."""
    surplus = {entry.key: entry for entry in go}
    missing = list(come)
    changed = [(surplus.pop(entry.key), entry) for entry in missing if entry.key in surplus]
    after = {entry for _, entry in changed}
    return (
        _sorted(entry for entry in missing if entry not in after),
        _sorted(surplus.values()),
        tuple(sorted(changed, key=lambda pair: sort_key(pair[1]))),
    )


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=sort_key))
