"""The steps of a plan, as they are sent to a host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vswitch.acl_entries import Entry, ExtendedEntry, to_host
from vswitch.errors import Origin
from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.hyperv.host.records import entries_of
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.ordering import Order

__all__ = ["entries_of_step", "rule_of_step", "steps_of", "writes_of"]


def steps_of(
    adapter: HostAdapter, order: Order, rules: Mapping[Entry, PolicyRule | None]
) -> list[dict[str, Any]]:
    """The writes as the module takes them. An ANY that the host shows as one goes in one step.

    An addition names its rule in `rules`, where it has one.
    """
    found: list[dict[str, Any]] = []
    gone: set[int] = set()
    for step in order.steps:
        raw = None if step.add else adapter.entries.get(step.entry)
        if raw is not None:
            if id(raw) in gone:
                continue
            gone.add(id(raw))
        kind = "Extended" if isinstance(step.entry, ExtendedEntry) else "Basic"
        one: dict[str, Any] = {
            "op": f"{'add' if step.add else 'remove'}{kind}",
            "adapter": adapter.id,
            "entry": dict(raw) if raw is not None else to_host(step.entry),
        }
        rule = rules.get(step.entry) if step.add else None
        if rule is not None:
            at = rule.origin
            one["rule"] = {"name": rule.name, "file": at.file, "line": at.line, "column": at.column}
        found.append(one)
    return found


def rule_of_step(step: Mapping[str, Any]) -> PolicyRule | None:
    """The policy rule that a step says it comes from; None where it names none."""
    told = step.get("rule")
    if told is None:
        return None
    return PolicyRule(told["name"], Origin(told["file"], told["line"], told["column"]))


def writes_of(sent: Iterable[Mapping[str, Any]]) -> Iterator[tuple[bool, Entry]]:
    """Steps as sent, entry by entry: an ANY that is one entry on the host is two here."""
    for step in sent:
        for entry in entries_of_step(step):
            yield str(step["op"]).startswith("add"), entry


def entries_of_step(step: Mapping[str, Any]) -> list[Entry]:
    """The entries that one step of a plan, as sent to a host, adds or removes."""
    kind = "extended" if str(step["op"]).endswith("Extended") else "basic"
    return entries_of({"entries": [{"kind": kind, **step["entry"]}]})
