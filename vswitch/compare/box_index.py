"""Which of many boxes meet a box and which contain it, as masks: a bit for each, in their order.

For each field it is known which boxes begin up to a value, and which end before it. All that are asked
for are then found by a few operations on such numbers, however many boxes there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import or_

from vswitch.compare.diagram import Box, Interval

__all__ = ["Index", "ones"]

#: Edges in order, and the boxes before the first of them, up to the first, up to the second ...
_Side = tuple[list[int], list[int]]


class Index:
    """An index of `boxes`, all of the same fields."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self._fields = [
            (_side(low for low, _ in spans), _side(high for _, high in spans))
            for spans in zip(*boxes, strict=True)
        ]

    def meeting_in(self, level: int, span: Interval) -> int:
        """The boxes with some of these values in one field."""
        (lows, begun), (highs, ended) = self._fields[level]
        return begun[bisect_right(lows, span[1])] & ~ended[bisect_left(highs, span[0])]

    def taking_in(self, level: int, span: Interval) -> int:
        """The boxes with all of these values in one field."""
        (lows, begun), (highs, ended) = self._fields[level]
        return begun[bisect_right(lows, span[0])] & ~ended[bisect_left(highs, span[1])]

    def meeting(self, box: Box) -> int:
        """The boxes that contain some of a box."""
        found = -1
        for level, span in enumerate(box):
            found &= self.meeting_in(level, span)
        return found

    def taking(self, box: Box) -> int:
        """The boxes that contain all of a box."""
        found = -1
        for level, span in enumerate(box):
            found &= self.taking_in(level, span)
        return found


def _side(edges: Iterable[int]) -> _Side:
    bits_at: dict[int, int] = {}
    for at, edge in enumerate(edges):
        bits_at[edge] = bits_at.get(edge, 0) | 1 << at
    ordered = sorted(bits_at)
    return ordered, list(accumulate((bits_at[edge] for edge in ordered), or_, initial=0))


def ones(mask: int) -> list[int]:
    """The positions of a mask's bits, lowest first."""
    digits = bin(mask)[:1:-1]
    found = []
    at = digits.find("1")
    while at >= 0:
        found.append(at)
        at = digits.find("1", at + 1)
    return found
