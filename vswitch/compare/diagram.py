"""Exact comparison of first-match rule lists over many header fields at once.

A rule is a box (an interval in every field) with an outcome; in a list the first rule that contains
a packet decides. To compare lists they are put into one numbering, so that a list is a bit mask and
the part of it that matters in some corner of the space is a smaller mask. Field by field, the space
falls into the elementary intervals of the rules still alive; corners with equal masks are worked
out once, lists that have become equal are not looked at further. What results is a decision diagram
whose paths are disjoint products of interval sets: nothing is sampled, nothing is approximated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

__all__ = [
    "Box",
    "Comparison",
    "Diagram",
    "Interval",
    "Reduction",
    "Region",
    "BitRule",
    "TooMuchError",
    "meet",
    "merge",
]

Interval = tuple[int, int]  # both ends included
Box = tuple[Interval, ...]
Region = tuple[tuple[Interval, ...], ...]  # the intervals of every field
Split = tuple[int, tuple[tuple[int, tuple[Interval, ...]], ...]]
L = TypeVar("L", bound=Hashable)

_NOTHING = 0


class BitRule(NamedTuple):
    """A box and the outcome of the packets in it (0, 1, ...)."""

    box: Box
    outcome: int


def meet(one: Box, other: Box) -> bool:
    """Whether some packet is in both boxes."""
    return all(a[0] <= b[1] and b[0] <= a[1] for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class Diagram(Generic[L]):
    """The part of a box that got a label, as a graph; node 0 is the part without one.

    `nodes[i]` is a label, or a field number with (child, intervals of that field) for each child.
    """

    box: Box
    nodes: tuple[L | Split | None, ...]
    root: int

    def count(self) -> list[dict[L, int]]:
        """For every node: how many regions of each label `paths` has from there on."""
        found: list[dict[L, int]] = []
        for content in self.nodes:  # a child stands before its parents
            counts: dict[L, int] = {}
            if isinstance(content, tuple):
                for child, _ in content[1]:
                    for label, number in found[child].items():
                        counts[label] = counts.get(label, 0) + number
            elif content is not None:
                counts[content] = 1
            found.append(counts)
        return found

    def paths(self, wanted: Callable[[int], bool]) -> Iterator[tuple[L, Region]]:
        """Disjoint labelled regions: a label and the intervals of every field.

        Those behind a node that is not `wanted`, asked when it is reached, are left out.
        """
        waiting: list[tuple[int, Region]] = [(self.root, tuple((span,) for span in self.box))]
        while waiting:
            node, fields = waiting.pop()
            content = self.nodes[node]
            if content is None or not wanted(node):
                continue
            if isinstance(content, tuple):
                level, children = content
                waiting += [
                    (child, (*fields[:level], intervals, *fields[level + 1 :]))
                    for child, intervals in reversed(children)
                ]
            else:
                yield content, fields


class TooMuchError(Exception):
    """A comparison takes more steps than it was given."""


class Comparison(Generic[L]):
    """Labels every packet of a box by the outcomes that first-match lists give it.

    The lists come as masks over one numbering of `rules`, last to first: the lowest bits stand for
    `outcomes`, one each, and match everything; then one bit for each rule. A list ends with one of
    the former. `classify` turns the outcomes (one of each list) into a label, or None for packets
    of no interest. `settled` is asked with one key for each list, where equal keys mean equal lists
    in that corner: it may say that no packet there is of interest.
    """

    def __init__(
        self,
        box: Box,
        rules: Sequence[BitRule],
        outcomes: Sequence[int],
        masks: tuple[int, ...],
        classify: Callable[[tuple[int, ...]], L | None],
        settled: Callable[[tuple[int, ...]], bool],
    ) -> None:
        self.box = box
        self.classify = classify
        self.settled = settled
        self.masks = masks
        self.steps = 0
        self.reduction = Reduction(rules, outcomes)
        leaves = self.reduction.leaves
        bits = [1 << position for position in range(len(outcomes), len(outcomes) + len(rules))]
        depth = len(box)
        self.narrow = [0] * depth  # rules that do not take a field whole
        self.edges: list[list[tuple[int, ...]]] = []  # where each rule begins, and where it has ended
        self.alive: list[dict[int, int]] = []  # the rules that contain the value at an edge
        for level, (bottom, top) in enumerate(box):
            edges_of: list[tuple[int, ...]] = [()] * len(outcomes)
            toggles: dict[int, int] = {bottom: 0}
            always = leaves
            for bit, rule in zip(bits, rules, strict=True):
                low, high = rule.box[level]
                if low <= bottom and high >= top:
                    always |= bit
                    edges_of.append(())
                    continue
                low = max(low, bottom)
                edges = (low, high + 1) if high < top else (low,)
                edges_of.append(edges)
                self.narrow[level] |= bit
                for edge in edges:
                    toggles[edge] = toggles.get(edge, 0) ^ bit
            self.edges.append(edges_of)
            self.alive.append({})
            for edge in sorted(toggles):
                always ^= toggles[edge]
                self.alive[level][edge] = always
        self.narrow_behind = [0] * depth
        for level in range(depth - 1, 0, -1):
            self.narrow_behind[level - 1] = self.narrow_behind[level] | self.narrow[level]
        self.whole = [0] * (depth + 1)  # rules that take this and all further fields whole
        self.whole[depth] = sum(bits) | leaves
        for level in range(depth - 1, -1, -1):
            self.whole[level] = self.whole[level + 1] & ~self.narrow[level]
        self.nodes: list[L | Split | None] = [None]
        self.made: dict[Hashable, int] = {}
        self.known: dict[tuple[int, tuple[int, ...]], int] = {}

    def run(self, steps: int) -> Diagram[L]:
        """The diagram. Raises TooMuchError if it needs to look at more than `steps` intervals."""
        self.steps = steps
        root = self._build(0, self.masks)
        return Diagram(self.box, tuple(self.nodes), root)

    def _build(self, level: int, masks: tuple[int, ...]) -> int:
        """The node for these lists, where the fields before `level` are fixed."""
        reduce, whole = self.reduction.reduce, self.whole[level]
        masks = tuple([reduce(mask, whole) for mask in masks])
        if self.settled(masks):
            return _NOTHING
        union = 0
        for mask in masks:
            union |= mask
        depth = len(self.box)
        while level < depth and not union & self.narrow[level]:
            level += 1
        key = (level, masks)
        node = self.known.get(key)
        if node is None:
            if level == depth:
                label = self.classify(self.reduction.outcomes(masks))
                node = _NOTHING if label is None else self._make(label)
            else:
                node = self._split(level, masks, union & self.narrow[level])
            self.known[key] = node
        return node

    def _split(self, level: int, masks: tuple[int, ...], varying: int) -> int:
        found = {self.box[level][0]}
        edges_of = self.edges[level]
        digits = bin(varying)[:1:-1]
        at = digits.find("1")
        while at >= 0:
            found.update(edges_of[at])
            at = digits.find("1", at + 1)
        self.steps -= len(found)
        if self.steps < 0:
            raise TooMuchError
        edges = sorted(found)
        inside = self._inner if any(mask & self.narrow_behind[level] for mask in masks) else self._last
        spans: dict[int, list[Interval]] = {}
        previous, begin = -1, edges[0]
        for child, edge in zip(inside(level, masks, edges), edges, strict=True):
            if child != previous:
                if previous >= 0:
                    spans.setdefault(previous, []).append((begin, edge - 1))
                previous, begin = child, edge
        spans.setdefault(previous, []).append((begin, self.box[level][1]))
        if len(spans) == 1:
            return previous
        return self._make((level, tuple((child, tuple(each)) for child, each in spans.items() if child)))

    def _inner(self, level: int, masks: tuple[int, ...], edges: list[int]) -> Iterator[int]:
        """The node for the values from each edge on, where further fields matter."""
        alive_at = self.alive[level]
        known: dict[tuple[int, ...], int] = {}
        for edge in edges:
            alive = alive_at[edge]
            key = tuple([mask & alive for mask in masks])
            child = known.get(key)
            if child is None:
                child = known[key] = self._build(level + 1, key)
            yield child

    def _last(self, level: int, masks: tuple[int, ...], edges: list[int]) -> Iterator[int]:
        """The same where this is the last field that matters: the first rule alive decides."""
        alive_at = self.alive[level]
        outcome_at = self.reduction.outcome_at
        known: dict[tuple[int, ...], int] = {}
        for edge in edges:
            alive = alive_at[edge]
            outcomes = tuple([outcome_at[(mask & alive).bit_length() - 1] for mask in masks])
            child = known.get(outcomes)
            if child is None:
                label = self.classify(outcomes)
                child = known[outcomes] = _NOTHING if label is None else self._make(label)
            yield child

    def _make(self, content: L | Split) -> int:
        node = self.made.get(content)
        if node is None:
            node = self.made[content] = len(self.nodes)
            self.nodes.append(content)
        return node


class Reduction:
    """What of a list matters, by the numbering that Comparison describes."""

    def __init__(self, rules: Sequence[BitRule], outcomes: Sequence[int]) -> None:
        self.leaf = {outcome: 1 << position for position, outcome in enumerate(outcomes)}
        self.leaves = (1 << len(outcomes)) - 1
        self.outcome_at = [*outcomes, *(rule.outcome for rule in rules)]
        self.of_outcome = dict.fromkeys(outcomes, 0)
        for position, outcome in enumerate(self.outcome_at):
            self.of_outcome[outcome] |= 1 << position

    def reduce(self, mask: int, whole: int) -> int:
        """The list without the rules that cannot matter where those of `whole` match everything."""
        decides = (mask & whole).bit_length()
        above = mask >> decides << decides
        outcome = self.outcome_at[decides - 1]
        other = above & ~self.of_outcome[outcome]
        if not other:
            return self.leaf[outcome]
        return above & -(other & -other) | self.leaf[outcome]

    def outcomes(self, masks: Iterable[int]) -> tuple[int, ...]:
        """What the first rule of each list says."""
        return tuple([self.outcome_at[mask.bit_length() - 1] for mask in masks])


# --- one numbering for several lists -------------------------------------------------------------


def merge(lists: Sequence[Sequence[BitRule]]) -> tuple[list[BitRule], list[list[int]]]:
    """All rules in an order that agrees with every list, and the indexes of each list's rules.

    Rules that two lists share are one where their order allows it: the longest run of shared rules
    in the same order is kept, the others stand twice.
    """
    merged: list[list[BitRule]] = []  # each rule in a cell of its own, so that it can be found again
    members: list[list[list[BitRule]]] = []
    for each in lists:
        merged, cells = _merge_one(merged, each)
        members.append(cells)
    index = {id(cell): position for position, cell in enumerate(merged)}
    return [cell[0] for cell in merged], [[index[id(cell)] for cell in cells] for cells in members]


def _merge_one(
    merged: list[list[BitRule]], each: Sequence[BitRule]
) -> tuple[list[list[BitRule]], list[list[BitRule]]]:
    place: dict[BitRule, int] = {}
    for position, cell in enumerate(merged):
        place.setdefault(cell[0], position)
    shared = _longest_increasing([(place[rule], own) for own, rule in enumerate(each) if rule in place])
    result: list[list[BitRule]] = []
    cells: list[list[BitRule]] = []
    done = own_done = 0
    for position, own in [*shared, (len(merged), len(each))]:
        result += merged[done:position]
        fresh = [[rule] for rule in each[own_done:own]]
        result += fresh
        cells += fresh
        if position < len(merged):
            result.append(merged[position])
            cells.append(merged[position])
        done, own_done = position + 1, own + 1
    return result, cells


def _longest_increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose first numbers increase strictly."""
    tails: list[int] = []  # smallest last number of a run of each length
    at: list[int] = []  # index of that last pair
    before: list[int] = []
    for index, (number, _) in enumerate(pairs):
        length = bisect_left(tails, number)
        before.append(at[length - 1] if length else -1)
        tails[length : length + 1] = [number]
        at[length : length + 1] = [index]
    found: list[tuple[int, int]] = []
    index = at[-1] if at else -1
    while index >= 0:
        found.append(pairs[index])
        index = before[index]
    return found[::-1]
