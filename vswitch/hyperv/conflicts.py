"""Which of many extended entries of a direction conflict: they overlap and do different things.

A set of entries is a number with bits for each of them. For each field it is known which entries
begin up to a value, and which end before it: all that overlap an entry in every field are then found
by a few operations on such numbers, however many entries there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import or_

from vswitch.hyperv.entries import ExtendedEntry
from vswitch.hyperv.semantic import boxes_of
from vswitch.hyperv.space import Interval
from vswitch.model.types import Action

__all__ = ["Conflicts"]

_BOXES = 2  # that an entry has at most; each has a bit of its own


class Conflicts:
    """The conflicts among `entries`, in their order."""

    def __init__(self, entries: Sequence[ExtendedEntry]) -> None:
        self._entries = entries
        self._spaces = [_Space(entries, version) for version in (4, 6)]
        self._alike: dict[tuple[Action, bool], int] = {}
        whole = (1 << _BOXES) - 1
        for index, entry in enumerate(entries):
            does = _does(entry)
            self._alike[does] = self._alike.get(does, 0) | whole << _BOXES * index

    def of(self, entry: ExtendedEntry) -> list[ExtendedEntry]:
        """The entries that overlap this one, which is one of them, and do something else."""
        alike = self._alike[_does(entry)]
        found = {bit // _BOXES for space in self._spaces for bit in _bits(space.overlapping(entry) & ~alike)}
        return [self._entries[index] for index in sorted(found)]


def _does(entry: ExtendedEntry) -> tuple[Action, bool]:
    return entry.action, entry.action is Action.ALLOW and entry.stateful


class _Space:
    """The entries as boxes of one IP version."""

    def __init__(self, entries: Iterable[ExtendedEntry], version: int) -> None:
        self._version = version
        boxes = {
            1 << _BOXES * index + part: box
            for index, entry in enumerate(entries)
            for part, box in enumerate(boxes_of(entry, version))
        }
        fields = zip(*boxes.values(), strict=True)
        self._fields = [_Field(dict(zip(boxes, field, strict=True))) for field in fields]

    def overlapping(self, entry: ExtendedEntry) -> int:
        found = 0
        for box in boxes_of(entry, self._version):
            meets = -1
            for field, interval in zip(self._fields, box, strict=True):
                meets &= field.overlapping(interval)
            found |= meets
        return found


class _Field:
    """The intervals of one field, by the bit of their box."""

    def __init__(self, intervals: dict[int, Interval]) -> None:
        self._starts, self._begun = _steps((first, bit) for bit, (first, _) in intervals.items())
        self._ends, self._ended = _steps((last, bit) for bit, (_, last) in intervals.items())

    def overlapping(self, interval: Interval) -> int:
        first, last = interval
        return self._begun[bisect_right(self._starts, last)] & ~self._ended[bisect_left(self._ends, first)]


def _steps(bits: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Values in order, and the bits before the first of them, up to the first, up to the second ..."""
    at: dict[int, int] = {}
    for value, bit in bits:
        at[value] = at.get(value, 0) | bit
    values = sorted(at)
    return values, list(accumulate((at[value] for value in values), or_, initial=0))


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
