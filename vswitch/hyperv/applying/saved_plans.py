"""Plans in files: written as they are sent, read back as plans, and shown from nothing else.

All that is shown and asked of a saved plan is worked out from the steps that will be sent and from the
entries they were made for. The digest finds damage and slips of the hand, no forgery: whoever makes a
new one has made a new plan, and it is that plan which is shown.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vswitch.acl_entries import Entry, describe, sort_key
from vswitch.errors import InputError, Origin
from vswitch.hyperv.host.host_state import HostAdapter, read_state
from vswitch.hyperv.host.name_checks import computer_fault, plan_fault
from vswitch.hyperv.host.records import entries_of
from vswitch.hyperv.planning.adapter_plan import AdapterPlan
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.exact_entries import check_as_read, check_recorded, check_written
from vswitch.hyperv.planning.host_plan import HostPlan, paired
from vswitch.hyperv.planning.plan_steps import entries_of_step, rule_of_step
from vswitch.model.problems import shorten
from vswitch.textfiles import read_json

__all__ = ["SavedPlan", "digest_of", "plan_of_wire", "read_plan_file", "saved_plans"]


@dataclass(frozen=True)
class SavedPlan:
    """One host's plan from a file: what the user calls the host, what will be sent, and what that is."""

    name: str
    wire: dict[str, Any]
    plan: HostPlan


def digest_of(document: Any) -> str:
    """A digest of plain data, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def saved_plans(plans: Iterable[HostPlan]) -> dict[str, Any]:
    """Plans as a file keeps them."""
    found = [{"name": plan.host, "plan": plan.wire()} for plan in plans]
    return {"schema": 1, "kind": "vswitch-plan", "plans": found, "digest": digest_of(found)}


def read_plan_file(path: str) -> list[SavedPlan]:
    """The plans of a file. Raises InputError for one that is not whole, or whose parts do not fit."""
    where = Origin(path)
    document = read_json(path, "a saved plan", hint="make one with `vswitch hyperv plan --save FILE`")
    if not isinstance(document, dict) or document.get("kind") != "vswitch-plan":
        raise InputError(
            "this is not a saved plan", where=where, hint="make one with `vswitch hyperv plan --save FILE`"
        )
    if document.get("schema") != 1:
        raise InputError("the saved plan is of another version", where=where, hint="make a new one")
    plans = document.get("plans")
    if document.get("digest") != digest_of(plans):
        raise InputError(
            "the saved plan was changed after it was made, or is damaged",
            where=where,
            hint="what was reviewed is what is applied: change the policy, and make a new plan",
        )
    found: list[SavedPlan] = []
    try:
        for each in _File.model_validate({"plans": plans}).plans:
            found.append(SavedPlan(each.name, each.plan, plan_of_wire(each.plan, each.name)))
        _check_hosts(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise _misfit(why, where) from None
    except ValueError as error:
        raise _misfit(str(error), where) from None
    return found


def _misfit(why: str, where: Origin) -> InputError:
    return InputError(
        f"the saved plan does not fit together: {shorten(why, 300)[1:-1]}",
        where=where,
        hint="nothing was sent; make a new plan",
    )


def _check_hosts(plans: Sequence[SavedPlan]) -> None:
    """Raises ValueError for two plans of one name, or for the same adapter."""
    names = Counter(each.name for each in plans)
    places = Counter(
        (each.plan.computer.lower(), adapter.adapter.id) for each in plans for adapter in each.plan.adapters
    )
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"there are {count} plans for {name}")
    for (computer, _), count in places.items():
        if count > 1:
            raise ValueError(f"two plans write to one adapter of {computer}")


# --- the form ------------------------------------------------------------------------------------


def _is_computer(name: str) -> str:
    if fault := computer_fault(name):
        raise ValueError(f"no computer is called {shorten(name)}: {fault}")
    return name


def _is_plan(name: str) -> str:
    if fault := plan_fault(name):
        raise ValueError(f"no plan is called {shorten(name)}: {fault}")
    return name


class _Part(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False
    )


Id = Annotated[str, Field(min_length=1)]
Raw = list[dict[str, Any]]


class _Adapter(_Part):
    id: Id
    name: str
    vm_name: str | None
    is_management_os: bool
    expected_acls: Raw
    expected_extended_acls: Raw


class _Rule(_Part):
    name: str
    file: str
    line: int
    column: int


class _Step(_Part):
    op: Literal["addExtended", "removeExtended", "addBasic", "removeBasic"]
    adapter: Id
    entry: dict[str, Any]
    rule: _Rule | None = None


class _Record(_Part):
    adapter: Id
    policy: str = ""
    entries: Raw
    others: list[str] = []


class _Plan(_Part):
    plan_schema: Literal[1] = Field(alias="schema")
    plan_id: Annotated[str, AfterValidator(_is_plan)]
    host: Annotated[str, AfterValidator(_is_computer)]
    created_at: Annotated[str, Field(pattern=r"^[0-9TZ:.+-]{0,40}$")]
    policy_digest: str
    adapters: list[_Adapter]
    steps: list[_Step]
    records: list[_Record]
    records_during: list[_Record]
    expected_records: list[_Record] = []
    confirm_within: Annotated[int, Field(ge=0, le=86400)] = 0


class _Saved(BaseModel):
    """`review` is what older versions kept beside a plan: it is not looked at."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    name: Id
    plan: dict[str, Any]
    review: Any = None


class _File(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)
    plans: list[_Saved]


# --- the plan ------------------------------------------------------------------------------------


def plan_of_wire(wire: Mapping[str, Any], name: str = "") -> HostPlan:
    """A plan in the form of `HostPlan.wire`, as a plan again, for the host that users call `name`.

    Raises ValueError (pydantic's ValidationError is one) if its parts are not of their types, or do not
    fit each other.
    """
    told = _Plan.model_validate(dict(wire))
    ids = [each.id for each in told.adapters]
    if len({each.lower() for each in ids}) < len(ids):  # as the host finds them
        raise ValueError("it lists an adapter twice")
    parts: tuple[Sequence[_Step | _Record], ...] = (
        told.steps,
        told.records,
        told.records_during,
        told.expected_records,
    )
    for each in (part for group in parts for part in group):
        if each.adapter not in ids:
            raise ValueError(f"a part of it is for the adapter {each.adapter}, which it does not list")
    for adapter in told.adapters:
        for raw in adapter.expected_extended_acls:
            check_as_read("extended", raw)
        for raw in adapter.expected_acls:
            check_as_read("basic", raw)
    state = read_state(
        {
            "schema": 1,
            "computer": told.host,
            "adapters": [
                {
                    "Id": each.id,
                    "Name": each.name,
                    "VMName": each.vm_name,
                    "IsManagementOs": each.is_management_os,
                    "acls": each.expected_acls,
                    "extendedAcls": each.expected_extended_acls,
                }
                for each in told.adapters
            ],
        }
    )
    if [each.id for each in state.adapters] != ids:
        raise ValueError("the id of an adapter is not text")
    records = [*told.records, *told.records_during]
    return HostPlan(
        name or told.host,
        told.host,
        told.plan_id,
        told.created_at,
        tuple(dict.fromkeys(record.policy for record in records)),
        tuple(_adapter_plan(adapter, told, wire) for adapter in state.adapters),
        (),
    )


def _adapter_plan(adapter: HostAdapter, told: _Plan, wire: Mapping[str, Any]) -> AdapterPlan:
    """One adapter of a plan: what its steps make of the entries they were made for."""

    def named_in(records: Iterable[_Record]) -> frozenset[Entry]:
        return frozenset(
            entry
            for record in records
            if record.adapter == adapter.id
            for entry in entries_of({"entries": record.entries})
        )

    there = frozenset(adapter.entries)
    for record in (*told.records, *told.records_during):
        for raw in record.entries if record.adapter == adapter.id else ():
            if not (named := entries_of({"entries": [raw]})):
                raise ValueError(f"{adapter.label}: a record of it names something that is not an entry")
            check_recorded(raw, named)
    ours, owned_after = named_in(told.records_during), named_in(told.records)
    sent = tuple(step for step in wire["steps"] if step["adapter"] == adapter.id)
    after, rules = _carried_out(adapter, sent, ours)
    if not owned_after <= after:
        odd = describe(next(iter(owned_after - after)))
        raise ValueError(f"{adapter.label}: it takes {odd} for ours, which would not be there")
    new = after - there
    if not new <= owned_after:
        raise ValueError(f"{adapter.label}: it adds {describe(next(iter(new - owned_after)))} as nobody's")
    owned = ours & there
    added, removed, changed = paired(new, there - after)
    adopted = owned_after - owned - new
    return AdapterPlan(
        adapter=adapter,
        added=added,
        removed=removed,
        changed=changed,
        kept=tuple(sorted(owned & owned_after, key=sort_key)),
        foreign=tuple(sorted(there - owned - adopted, key=sort_key)),
        adopted=tuple(sorted(adopted, key=sort_key)),
        present=(),
        owned_before=owned,
        recorded=named_in(told.expected_records) & there == owned,
        seen=None,
        rules=rules,
        sent=sent,
    )


def _carried_out(
    adapter: HostAdapter, sent: Iterable[Mapping[str, Any]], ours: frozenset[Entry]
) -> tuple[frozenset[Entry], dict[Entry, PolicyRule | None]]:
    """The entries after some steps, and the rules these name. Raises ValueError for an impossible step."""
    there = set(adapter.entries)
    rules: dict[Entry, PolicyRule | None] = {}
    for step in sent:
        adds, entries = str(step["op"]).startswith("add"), entries_of_step(step)
        if not entries:
            raise ValueError(f"{adapter.label}: a step of it is about something that is not an entry")
        as_read = [raw for entry in entries if (raw := adapter.entries.get(entry)) is not None]
        check_written(step["entry"], entries, () if adds else as_read)
        for entry in entries:
            if adds and entry in there:
                raise ValueError(f"{adapter.label}: it adds {describe(entry)}, which is there already")
            if not adds and entry not in there:
                raise ValueError(f"{adapter.label}: it removes {describe(entry)}, which is not there")
            if entry not in ours:
                raise ValueError(f"{adapter.label}: it writes {describe(entry)}, and does not call it ours")
            (there.add if adds else there.discard)(entry)
            if adds:
                rules[entry] = rule_of_step(step)
    return frozenset(there), rules
