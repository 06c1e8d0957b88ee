"""Plans in files: written as they are sent, read back as plans, and shown from nothing else.

All that is shown and asked of a saved plan is worked out from the steps that will be sent and from the
entries they were made for. The digest finds damage and slips of the hand, no forgery: whoever makes a
new one has made a new plan, and it is that plan which is shown.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from vswitch.acl_entries import Entry, describe, sort_key
from vswitch.errors import InputError, Origin
from vswitch.hyperv.applying.json_files import write_file
from vswitch.hyperv.host.document_parts import DocumentPart, JsonValue
from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.hyperv.host.plan_document import PlanDocument, PlannedAdapter, PlanStep
from vswitch.hyperv.host.records import OwnershipRecord, entries_in, owned_by_adapter
from vswitch.hyperv.planning.adapter_plan import AdapterPlan
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.exact_entries import check_as_read, check_recorded, check_written
from vswitch.hyperv.planning.host_plan import HostPlan, paired
from vswitch.hyperv.planning.plan_steps import rule_of_step
from vswitch.json_values import Json
from vswitch.model.problems import shorten
from vswitch.textfiles import read_json

__all__ = ["SAVED_SCHEMA", "digest_of", "plan_of_document", "read_plan_file", "save_plan_file", "saved_plans"]

#: The version of the form in which plans are saved.
SAVED_SCHEMA = 1
_KIND = "vswitch-plan"
_HINT = "make one with `vswitch hyperv plan --save FILE`"


def digest_of(document: Json) -> str:
    """A digest of plain data, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def saved_plans(plans: Iterable[HostPlan]) -> dict[str, Json]:
    """Plans as a file keeps them."""
    found: list[Json] = [{"name": plan.host, "plan": plan.document().to_dict()} for plan in plans]
    return {"schema": SAVED_SCHEMA, "kind": _KIND, "plans": found, "digest": digest_of(found)}


def save_plan_file(path: str | os.PathLike[str], plans: Iterable[HostPlan]) -> None:
    """Keep plans in a file. Raises EnvironmentError_."""
    write_file(Path(path), saved_plans(plans))


def read_plan_file(path: str | os.PathLike[str]) -> list[HostPlan]:
    """The plans of a file. Raises InputError for one that is not whole, or whose parts do not fit."""
    where = Origin(os.fspath(path))
    document = read_json(path, "a saved plan", hint=_HINT)
    if not isinstance(document, Mapping) or document.get("kind") != _KIND:
        raise InputError("this is not a saved plan", where=where, hint=_HINT)
    if document.get("schema") != SAVED_SCHEMA:
        raise InputError("the saved plan is of another version", where=where, hint="make a new one")
    plans = document.get("plans")
    if document.get("digest") != digest_of(plans):
        raise InputError(
            "the saved plan was changed after it was made, or is damaged",
            where=where,
            hint="what was reviewed is what is applied: change the policy, and make a new plan",
        )
    try:
        named = _File.model_validate({"plans": plans}, extra="forbid").plans
        found = [plan_of_document(PlanDocument.from_dict(each.plan), each.name) for each in named]
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


def _check_hosts(plans: Sequence[HostPlan]) -> None:
    """Raises ValueError for two plans of one name, or for the same adapter."""
    names = Counter(each.host for each in plans)
    places = Counter(
        (each.computer.lower(), adapter.adapter.id) for each in plans for adapter in each.adapters
    )
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"there are {count} plans for {name}")
    for (computer, _), count in places.items():
        if count > 1:
            raise ValueError(f"two plans write to one adapter of {computer}")


class _Saved(DocumentPart):
    """`review` is what older versions kept beside a plan: it is not looked at."""

    name: Annotated[str, Field(min_length=1)]
    plan: JsonValue
    review: JsonValue = None


class _File(DocumentPart):
    plans: list[_Saved]


# --- the plan ------------------------------------------------------------------------------------


def plan_of_document(document: PlanDocument, name: str = "") -> HostPlan:
    """The plan that a document says, for the host that users call `name`.

    Raises ValueError if its parts do not fit each other, or an entry is in words that mean something else
    to PowerShell.
    """
    for told in document.adapters:
        for raw in told.expected_extended_acls:
            check_as_read("extended", raw)
        for raw in told.expected_acls:
            check_as_read("basic", raw)
    records = [*document.records, *document.records_during]
    return HostPlan(
        name or document.host,
        document.host,
        document.plan_id,
        document.created_at,
        tuple(dict.fromkeys(record.policy for record in records)),
        tuple(_adapter_plan(each, document) for each in document.adapters),
        (),
        saved=document,
    )


def _adapter_plan(told: PlannedAdapter, document: PlanDocument) -> AdapterPlan:
    """One adapter of a plan: what its steps make of the entries they were made for."""
    adapter = HostAdapter(
        told.id,
        told.name,
        vm_name=told.vm_name or "",
        is_management_os=told.is_management_os,
        lists=told.lists,
    )

    def named_in(records: Iterable[OwnershipRecord]) -> frozenset[Entry]:
        return owned_by_adapter([*records]).get(adapter.id, frozenset())

    there = frozenset(adapter.entries)
    for record in (*document.records, *document.records_during):
        if record.adapter == adapter.id:
            _check_record(record, adapter)
    ours, owned_after = named_in(document.records_during), named_in(document.records)
    sent = document.steps_on(adapter.id)
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
        recorded=named_in(document.expected_records or ()) & there == owned,
        seen=None,
        rules=rules,
        sent=sent,
    )


def _check_record(record: OwnershipRecord, adapter: HostAdapter) -> None:
    """Raises ValueError for a record with something that is not an entry, or one in other words than ours."""
    for raw in record.entries:
        named = entries_in(raw)
        if not isinstance(raw, Mapping) or not named:
            raise ValueError(f"{adapter.label}: a record of it names something that is not an entry")
        check_recorded(raw, named)


def _carried_out(
    adapter: HostAdapter, sent: Iterable[PlanStep], ours: frozenset[Entry]
) -> tuple[frozenset[Entry], dict[Entry, PolicyRule | None]]:
    """The entries after some steps, and the rules these name. Raises ValueError for an impossible step."""
    there = set(adapter.entries)
    rules: dict[Entry, PolicyRule | None] = {}
    for step in sent:
        if not step.entries:
            raise ValueError(f"{adapter.label}: a step of it is about something that is not an entry")
        as_read = [shown.raw for entry in step.entries if (shown := adapter.entries.get(entry)) is not None]
        check_written(step.entry, step.entries, () if step.adds else as_read)
        for entry in step.entries:
            if step.adds and entry in there:
                raise ValueError(f"{adapter.label}: it adds {describe(entry)}, which is there already")
            if not step.adds and entry not in there:
                raise ValueError(f"{adapter.label}: it removes {describe(entry)}, which is not there")
            if entry not in ours:
                raise ValueError(f"{adapter.label}: it writes {describe(entry)}, and does not call it ours")
            (there.add if step.adds else there.discard)(entry)
            if step.adds:
                rules[entry] = rule_of_step(step)
    return frozenset(there), rules
