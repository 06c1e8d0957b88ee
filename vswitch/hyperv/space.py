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
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Box", "Diagram", "Interval", "Rule", "compare"]

Interval = tuple[int, int]  # both ends included
Box = tuple[Interval, ...]
L = TypeVar("L", bound=Hashable)

_NOTHING = 0


class Rule(NamedTuple):
    """A box and the outcome of the packets in it (0, 1, ...)."""

    box: Box
    outcome: int


@dataclass(frozen=True)
class Diagram(Generic[L]):
    """The part of the space that got a label, as a graph; node 0 is the part without one.

    `nodes[i]` is a label, or a field number with (child, intervals of that field) for each child.
    """

    tops: tuple[int, ...]
    nodes: tuple[L | tuple[int, tuple[tuple[int, tuple[Interval, ...]], ...]] | None, ...]
    root: int

    def paths(self) -> Iterator[tuple[L, tuple[tuple[Interval, ...], ...]]]:
        """Disjoint labelled regions: a label and the intervals of every field."""
        whole: list[tuple[Interval, ...]] = [((0, top),) for top in self.tops]

        def walk(
            node: int, fields: list[tuple[Interval, ...]]
        ) -> Iterator[tuple[L, tuple[tuple[Interval, ...], ...]]]:
            content = self.nodes[node]
            if node == _NOTHING:
                return
            if not isinstance(content, tuple):
                yield content, tuple(fields)  # type: ignore[misc]  # only node 0 is None
                return
            level, children = content
            for child, intervals in children:
                inner = list(fields)
                inner[level] = intervals
                yield from walk(child, inner)

        return walk(self.root, whole)

    def count(self) -> dict[L, int]:
        """How many regions `paths` has for each label, without walking them."""
        known: dict[int, dict[L, int]] = {}

        def of(node: int) -> dict[L, int]:
            if node not in known:
                content = self.nodes[node]
                found: dict[L, int] = {}
                if node != _NOTHING and not isinstance(content, tuple):
                    found[content] = 1  # type: ignore[index]
                elif isinstance(content, tuple):
                    for child, _ in content[1]:
                        for label, number in of(child).items():
                            found[label] = found.get(label, 0) + number
                known[node] = found
            return known[node]

        return of(self.root)


def compare(
    tops: tuple[int, ...],
    lists: Sequence[Sequence[Rule]],
    default: int,
    classify: Callable[[tuple[int, ...]], L | None],
    settled: Callable[[tuple[int, ...]], bool],
) -> Diagram[L]:
    """Label every packet by the outcomes the lists give it.

    `tops` are the largest values of the fields. `classify` turns the outcomes (one of each list; a
    packet no rule matches has `default`) into a label, or None for packets of no interest.
    `settled` is asked with one key for each list, where equal keys mean equal lists in that corner:
    it may say that no packet there is of interest.
    """
    return _Comparison(tops, lists, default, classify, settled).run()


class _Comparison(Generic[L]):
    def __init__(
        self,
        tops: tuple[int, ...],
        lists: Sequence[Sequence[Rule]],
        default: int,
        classify: Callable[[tuple[int, ...]], L | None],
        settled: Callable[[tuple[int, ...]], bool],
    ) -> None:
        self.tops = tops
        self.classify = classify
        self.settled = settled
        rules, members = _merge(lists)
        outcomes = sorted({default, *(rule.outcome for rule in rules)})
        # The first rule has the highest bit. Behind all rules stands one for each outcome that
        # matches everything: what a list comes down to where a single outcome is left is then the
        # same mask, whichever rule decides.
        self.leaf = {outcome: 1 << position for position, outcome in enumerate(outcomes)}
        self.leaves = (1 << len(outcomes)) - 1
        self.outcome_at = [*outcomes, *(rule.outcome for rule in reversed(rules))]
        rules.reverse()
        bits = [1 << position for position in range(len(outcomes), len(self.outcome_at))]
        self.of_outcome = dict.fromkeys(outcomes, 0)
        for bit, rule in zip(bits, rules, strict=True):
            self.of_outcome[rule.outcome] |= bit
        self.masks = tuple(sum(bits[-1 - index] for index in each) | self.leaf[default] for each in members)
        depth = len(tops)
        self.narrow = [0] * depth  # rules that do not take a field whole
        self.edges: list[list[tuple[int, ...]]] = []  # where each rule begins, and where it has ended
        self.alive: list[dict[int, int]] = []  # the rules that contain the value at an edge
        for level, top in enumerate(tops):
            self.edges.append([()] * len(outcomes))
            toggles: dict[int, int] = {0: 0}
            for bit, rule in zip(bits, rules, strict=True):
                low, high = rule.box[level]
                edges = (low, high + 1) if high < top else (low,)
                self.edges[level].append(edges)
                if low > 0 or high < top:
                    self.narrow[level] |= bit
                for edge in edges:
                    toggles[edge] = toggles.get(edge, 0) ^ bit
            alive = self.leaves
            self.alive.append({})
            for edge in sorted(toggles):
                alive ^= toggles[edge]
                self.alive[level][edge] = alive
        self.narrow_behind = [0] * depth
        for level in range(depth - 1, 0, -1):
            self.narrow_behind[level - 1] = self.narrow_behind[level] | self.narrow[level]
        self.full = [0] * (depth + 1)
        self.full[depth] = sum(bits) | self.leaves
        for level in range(depth - 1, -1, -1):
            self.full[level] = self.full[level + 1] & ~self.narrow[level]
        self.nodes: list[L | tuple[int, tuple[tuple[int, tuple[Interval, ...]], ...]] | None] = [None]
        self.made: dict[Hashable, int] = {}
        self.known: dict[tuple[int, tuple[int, ...]], int] = {}

    def run(self) -> Diagram[L]:
        root = self.build(0, self.masks)
        return Diagram(self.tops, tuple(self.nodes), root)

    def reduce(self, level: int, mask: int) -> int:
        """The mask without the rules that cannot matter any more from this field on."""
        decides = (mask & self.full[level]).bit_length()
        above = mask >> decides << decides
        outcome = self.outcome_at[decides - 1]
        other = above & ~self.of_outcome[outcome]
        if not other:
            return self.leaf[outcome]
        return above & -(other & -other) | self.leaf[outcome]

    def build(self, level: int, masks: tuple[int, ...]) -> int:
        masks = tuple([self.reduce(level, mask) for mask in masks])
        if self.settled(masks):
            return _NOTHING
        union = 0
        for mask in masks:
            union |= mask
        depth = len(self.tops)
        while level < depth and not union & self.narrow[level]:
            level += 1
        key = (level, masks)
        node = self.known.get(key)
        if node is None:
            if level == depth:
                label = self.classify(tuple([self.outcome_at[mask.bit_length() - 1] for mask in masks]))
                node = _NOTHING if label is None else self.make(label)
            else:
                node = self.split(level, masks, union & self.narrow[level])
            self.known[key] = node
        return node

    def split(self, level: int, masks: tuple[int, ...], varying: int) -> int:
        found = {0}
        edges_of = self.edges[level]
        digits = bin(varying)[:1:-1]
        at = digits.find("1")
        while at >= 0:
            found.update(edges_of[at])
            at = digits.find("1", at + 1)
        edges = sorted(found)
        inside = self.inner if any(mask & self.narrow_behind[level] for mask in masks) else self.last
        spans: dict[int, list[Interval]] = {}
        previous, begin = -1, 0
        for child, edge in zip(inside(level, masks, edges), edges, strict=True):
            if child != previous:
                if previous >= 0:
                    spans.setdefault(previous, []).append((begin, edge - 1))
                previous, begin = child, edge
        spans.setdefault(previous, []).append((begin, self.tops[level]))
        if len(spans) == 1:
            return previous
        return self.make((level, tuple((child, tuple(each)) for child, each in spans.items() if child)))

    def inner(self, level: int, masks: tuple[int, ...], edges: list[int]) -> Iterator[int]:
        """The node for the values from each edge on, where further fields matter."""
        alive_at = self.alive[level]
        known: dict[tuple[int, ...], int] = {}
        for edge in edges:
            alive = alive_at[edge]
            key = tuple([mask & alive for mask in masks])
            child = known.get(key)
            if child is None:
                child = known[key] = self.build(level + 1, key)
            yield child

    def last(self, level: int, masks: tuple[int, ...], edges: list[int]) -> Iterator[int]:
        """The same where this is the last field that matters: the first rule alive decides."""
        alive_at = self.alive[level]
        outcome_at = self.outcome_at
        known: dict[tuple[int, ...], int] = {}
        for edge in edges:
            alive = alive_at[edge]
            outcomes = tuple([outcome_at[(mask & alive).bit_length() - 1] for mask in masks])
            child = known.get(outcomes)
            if child is None:
                label = self.classify(outcomes)
                child = known[outcomes] = _NOTHING if label is None else self.make(label)
            yield child

    def make(self, content: L | tuple[int, tuple[tuple[int, tuple[Interval, ...]], ...]]) -> int:
        node = self.made.get(content)
        if node is None:
            node = self.made[content] = len(self.nodes)
            self.nodes.append(content)
        return node


# --- one numbering for several lists -------------------------------------------------------------


def _merge(lists: Sequence[Sequence[Rule]]) -> tuple[list[Rule], list[list[int]]]:
    """All rules in an order that agrees with every list, and the indexes of each list's rules.

    Rules that two lists share are one where their order allows it: the longest run of shared rules
    in the same order is kept, the others stand twice.
    """
    merged: list[list[Rule]] = []  # each rule in a cell of its own, so that it can be found again
    members: list[list[list[Rule]]] = []
    for each in lists:
        merged, cells = _merge_one(merged, each)
        members.append(cells)
    index = {id(cell): position for position, cell in enumerate(merged)}
    return [cell[0] for cell in merged], [[index[id(cell)] for cell in cells] for cells in members]


def _merge_one(merged: list[list[Rule]], each: Sequence[Rule]) -> tuple[list[list[Rule]], list[list[Rule]]]:
    place: dict[Rule, int] = {}
    for position, cell in enumerate(merged):
        place.setdefault(cell[0], position)
    shared = _longest_increasing([(place[rule], own) for own, rule in enumerate(each) if rule in place])
    result: list[list[Rule]] = []
    cells: list[list[Rule]] = []
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
