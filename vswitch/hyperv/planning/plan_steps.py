"""The steps of a plan: from an order of writes, and back to the entries they write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from vswitch.acl_entries import Entry, ExtendedEntry, to_host
from vswitch.errors import Origin
from vswitch.hyperv.host.document_parts import WriteName
from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.hyperv.host.plan_document import PlanStep, StepRule
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.ordering import Order

__all__ = ["rule_of_step", "steps_of", "writes_of"]


def steps_of(adapter: HostAdapter, order: Order, rules: Mapping[Entry, PolicyRule | None]) -> list[PlanStep]:
    """The writes as the module takes them. An ANY that the host shows as one goes in one step.

    An addition names its rule in `rules`, where it has one.
    """
    found: list[PlanStep] = []
    gone: set[Entry] = set()
    for step in order.steps:
        shown = None if step.add else adapter.entries.get(step.entry)
        if shown is not None:
            if step.entry in gone:
                continue
            gone.update(adapter.lists.together(step.entry))
        rule = rules.get(step.entry) if step.add else None
        found.append(
            PlanStep(
                op=_name(step.add, isinstance(step.entry, ExtendedEntry)),
                adapter=adapter.id,
                entry=shown.raw if shown is not None else to_host(step.entry),
                rule=_told(rule),
            )
        )
    return found


def _name(adds: bool, extended: bool) -> WriteName:
    if extended:
        return "addExtended" if adds else "removeExtended"
    return "addBasic" if adds else "removeBasic"


@lru_cache(maxsize=1 << 14)
def _told(rule: PolicyRule | None) -> StepRule | None:
    if rule is None:
        return None
    at = rule.origin
    return StepRule(name=rule.name, file=at.file, line=at.line, column=at.column)


def rule_of_step(step: PlanStep) -> PolicyRule | None:
    """The policy rule that a step says it comes from; None where it names none."""
    told = step.rule
    return None if told is None else PolicyRule(told.name, Origin(told.file, told.line, told.column))


def writes_of(sent: Iterable[PlanStep]) -> Iterator[tuple[bool, Entry]]:
    """Steps as sent, entry by entry: an ANY that is one entry on the host is two here."""
    for step in sent:
        for entry in step.entries:
            yield step.adds, entry
