"""ACL entries as a host shows them: each object with the entries that it is, or why it is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from vswitch.acl_entries import Entry, ExtendedEntry, basic_from_host, extended_from_host
from vswitch.hyperv.host.raw_values import maps_of, number_of, text_of
from vswitch.json_values import Json
from vswitch.model.problems import shorten
from vswitch.model.types import Direction

__all__ = ["EntryKind", "EntryLists", "ShownEntry", "kind_of", "read_entry", "read_lists"]


#: The two kinds of ACL entries, as documents name them.
EntryKind: TypeAlias = Literal["extended", "basic"]


class ShownEntry(NamedTuple):
    """One object of a host's lists. `entries` is more than one for an ANY of both IP versions.

    An object that cannot be read has none, and `fault` says why.
    """

    raw: Mapping[str, Json]
    entries: tuple[Entry, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class EntryLists:
    """An adapter's two lists. `shown` has the object of every entry; `unreadable` is text for people.

    `walls` are the weights of extended entries that cannot be read, in both directions if not even
    that is known.
    """

    extended: tuple[Mapping[str, Json], ...] = ()
    basic: tuple[Mapping[str, Json], ...] = ()
    shown: Mapping[Entry, ShownEntry] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    walls: frozenset[tuple[Direction, int]] = frozenset()

    def together(self, entry: Entry) -> tuple[Entry, ...]:
        """Entries the host shows, and removes, as one with `entry`: an ANY is for both IP versions."""
        shown = self.shown.get(entry)
        return tuple(each for each in shown.entries if self.shown[each] == shown) if shown else ()


def kind_of(entry: Entry) -> EntryKind:
    """Which kind an entry is of."""
    return "extended" if isinstance(entry, ExtendedEntry) else "basic"


def read_entry(kind: EntryKind, raw: Mapping[str, Json]) -> ShownEntry:
    """One object of the list of a kind."""
    try:
        found = (extended_from_host(raw),) if kind == "extended" else basic_from_host(raw)
    except (ValueError, TypeError, OverflowError) as error:
        return ShownEntry(raw, fault=str(error))
    return ShownEntry(raw, found)


def read_lists(extended: Sequence[Json], basic: Sequence[Json]) -> EntryLists:
    """Both lists. What cannot be read is named, and never becomes another entry."""
    lists: dict[EntryKind, Sequence[Json]] = {"extended": extended, "basic": basic}
    objects = {kind: tuple(maps_of(told)) for kind, told in lists.items()}
    unreadable = [
        f"{kind} entry that is not one: {shorten(each)}"
        for kind, told in lists.items()
        if len(objects[kind]) < len(told)
        for each in told
        if not isinstance(each, Mapping)
    ]
    shown: dict[Entry, ShownEntry] = {}
    walls: set[tuple[Direction, int]] = set()
    for kind, found in objects.items():
        for raw in found:
            each = read_entry(kind, raw)
            for entry in each.entries:
                shown[entry] = each
            if each.entries:
                continue
            if kind == "extended":
                walls |= _walls(raw)
                place = f"of weight {_quoted(text_of(raw.get('Weight')), 24)}"
            else:
                address = text_of(raw.get("RemoteAddress")) or text_of(raw.get("LocalAddress"))
                place = f"for {_quoted(address, 80) or 'nothing'}"
            unreadable.append(f"{kind} entry {place}: {_quoted(each.fault, 120)}")
    return EntryLists(objects["extended"], objects["basic"], shown, tuple(unreadable), frozenset(walls))


def _walls(raw: Mapping[str, Json]) -> set[tuple[Direction, int]]:
    """Where an extended entry is that cannot be read."""
    known = {"1": Direction.INBOUND, "2": Direction.OUTBOUND} | {str(each): each for each in Direction}
    direction = known.get(text_of(raw.get("Direction")).strip().capitalize())
    return {(each, number_of(raw.get("Weight"))) for each in ([direction] if direction else Direction)}


def _quoted(text: str, limit: int) -> str:
    """What a host or a library says, on one line and not endless."""
    return shorten(text, limit)[1:-1]
