"""The port ACLs of imported hosts as a policy file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vswitch.acl_entries import BasicEntry, Entry, EntryKey, ExtendedEntry, describe, sort_key
from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.hyperv.importing.rules_read import cannot_be_written, rule_name, rule_parts, with_any
from vswitch.hyperv.importing.yaml_scalars import LONGEST_NAME, Names, comment, listed, scalar

__all__ = ["RuleTarget", "policy_text"]


@dataclass(slots=True)
class RuleTarget:
    """An adapter in the layout: how a policy names it, and its entries."""

    pattern: str
    label: str
    adapter: HostAdapter


def policy_text(targets: Iterable[RuleTarget], times: str) -> tuple[str, list[str]]:
    """The policy file, each distinct entry once with all adapters that have it; and what it cannot hold.

    `times` says which hosts were read when.
    """
    holders: dict[Entry, list[RuleTarget]] = {}
    untold: list[str] = []
    for target in targets:
        keys: set[EntryKey] = set()
        # Of two entries for one prefix, the one that denies decides (U2), and is kept.
        found = sorted(target.adapter.entries, key=lambda entry: (entry.action != "Deny", sort_key(entry)))
        for entry in with_any(found):
            why = cannot_be_written(entry)
            if entry.key in keys:
                why = "another entry has its weight or prefix"
            if why:
                untold.append(f"{target.label}: {describe(entry)}: {why}")
                continue
            keys.add(entry.key)
            holders.setdefault(entry, []).append(target)
        untold += [f"{target.label}: {text}" for text in target.adapter.unreadable]
    names = Names()
    lines = [f"# The port ACLs of {comment(times)}."]
    lines += [f"# left out: {comment(text)}" for text in untold]
    for key, kind in (("extended_acls", ExtendedEntry), ("acls", BasicEntry)):
        chosen = sorted((entry for entry in holders if isinstance(entry, kind)), key=sort_key)
        lines.append(f"{key}:" if chosen else f"{key}: []")
        for entry in chosen:
            name = names.take(rule_name(entry)[:LONGEST_NAME])
            parts = [f"name: {scalar(name)}", f"adapters: {listed(t.pattern for t in holders[entry])}"]
            lines.append(f"  - {{{', '.join([*parts, *rule_parts(entry)])}}}")
    return "\n".join(lines) + "\n", untold
