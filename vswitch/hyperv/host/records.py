"""Lists of ACL entries as hosts and records have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vswitch.acl_entries import Entry, basic_from_host, extended_from_host, to_host
from vswitch.hyperv.host.raw_values import maps_of, text_of
from vswitch.model.problems import shorten

__all__ = ["entries_by_adapter", "entries_of", "read_entries", "record_of"]


def read_entries(
    extended: Sequence[Any], basic: Sequence[Any]
) -> tuple[dict[Entry, Mapping[str, Any]], list[str]]:
    """The entries in an adapter's two lists, each with its object, and what cannot be read, as text."""
    entries: dict[Entry, Mapping[str, Any]] = {}
    unreadable: list[str] = []
    for kind, told in (("extended", extended), ("basic", basic)):
        unreadable += [
            f"{kind} entry that is not one: {shorten(each)}" for each in told if not isinstance(each, Mapping)
        ]
    for raw in maps_of(extended):
        try:
            entries[extended_from_host(raw)] = raw
        except (ValueError, TypeError, OverflowError) as error:
            weight = _quoted(text_of(raw.get("Weight")), 24)
            unreadable.append(f"extended entry of weight {weight}: {_quoted(str(error), 120)}")
    for raw in maps_of(basic):
        try:
            entries.update(dict.fromkeys(basic_from_host(raw), raw))
        except (ValueError, TypeError, OverflowError) as error:
            address = text_of(raw.get("RemoteAddress")) or text_of(raw.get("LocalAddress"))
            unreadable.append(
                f"basic entry for {_quoted(address, 80) or 'nothing'}: {_quoted(str(error), 120)}"
            )
    return entries, unreadable


def _quoted(text: str, limit: int) -> str:
    """What a host or a library says, on one line and not endless."""
    return shorten(text, limit)[1:-1]


def entries_by_adapter(records: Sequence[Mapping[str, Any]]) -> dict[str, frozenset[Entry]]:
    """The entries of records, by adapter id."""
    found: dict[str, set[Entry]] = {}
    for record in records:
        found.setdefault(text_of(record.get("adapter")), set()).update(entries_of(record))
    return {adapter: frozenset(entries) for adapter, entries in found.items()}


def entries_of(record: Mapping[str, Any]) -> list[Entry]:
    """The entries of one ownership record; what cannot be understood owns nothing."""
    extended = [raw for raw in maps_of(record.get("entries")) if raw.get("kind") == "extended"]
    basic = [raw for raw in maps_of(record.get("entries")) if raw.get("kind") == "basic"]
    return list(read_entries(extended, basic)[0])


def record_of(
    adapter: str, policy: str, entries: Iterable[Entry], others: Iterable[str] | None = None
) -> dict[str, Any]:
    """An ownership record as hosts keep it. `others` are the entries of others beside ours, as text."""
    found = sorted(entries, key=lambda entry: (len(entry), entry))
    kinds = [("basic" if len(entry) == 4 else "extended", entry) for entry in found]
    record = {
        "adapter": adapter,
        "policy": policy,
        "entries": [{"kind": kind, **to_host(entry)} for kind, entry in kinds],
    }
    return record if others is None else record | {"others": sorted(others)}
