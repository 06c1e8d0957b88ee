"""Which of many extended entries of a direction conflict: they overlap and do different things."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vswitch.acl_entries import ExtendedEntry
from vswitch.compare.acl_diff import boxes_of, outcome_of
from vswitch.compare.box_index import Index, ones

__all__ = ["Conflicts"]


class Conflicts:
    """The conflicts among `entries`, in their order."""

    def __init__(self, entries: Sequence[ExtendedEntry]) -> None:
        self._entries = entries
        self._spaces = [_Space(entries, version) for version in (4, 6)]

    def of(self, entry: ExtendedEntry) -> list[ExtendedEntry]:
        """The entries that overlap this one, which is one of them, and do something else."""
        found = {index for space in self._spaces for index in space.conflicting(entry)}
        return [self._entries[index] for index in sorted(found)]


class _Space:
    """The entries as boxes of one IP version; an entry may have several."""

    def __init__(self, entries: Sequence[ExtendedEntry], version: int) -> None:
        self._version = version
        boxes = [(at, box) for at, entry in enumerate(entries) for box in boxes_of(entry, version)]
        self._owners = [owner for owner, _ in boxes]
        self._index = Index([box for _, box in boxes])
        self._alike: dict[int, int] = {}  # boxes by what their entries do
        for bit, owner in enumerate(self._owners):
            outcome = outcome_of(entries[owner])
            self._alike[outcome] = self._alike.get(outcome, 0) | 1 << bit

    def conflicting(self, entry: ExtendedEntry) -> Iterable[int]:
        """The places of the entries."""
        found = 0
        for box in boxes_of(entry, self._version):
            found |= self._index.meeting(box)
        return (self._owners[bit] for bit in ones(found & ~self._alike.get(outcome_of(entry), 0)))
