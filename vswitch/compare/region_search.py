"""Where several first-match lists differ: the space is cut into cells small enough to compare.

A comparison field by field (vswitch.compare.diagram) keeps together what belongs together, but the
more fields in which rules cross each other, the more it has to look at. So it is given a number of
steps; if they do not suffice, the cell is cut in two, in the field and at the edge of a rule that
part the rules best, and each half is tried. In a half, fewer rules matter: those behind a rule that
takes the whole of it do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import product
from operator import and_, or_
from typing import Generic

from vswitch.compare.box_index import Index, ones
from vswitch.compare.diagram import (
    BitRule,
    Box,
    Comparison,
    Interval,
    L,
    Reduction,
    Region,
    TooMuchError,
    merge,
)

__all__ = ["Found", "search"]

#: Intervals that a comparison may look at: in the whole space (about half a second), so that usual
#: policies are compared in one piece; in a cell, and there for each rule that matters.
_STEPS_WHOLE = 330_000
_STEPS = 500
_STEPS_EACH = 4
#: Of so many rules, the first that matter in a cell, one edge is chosen to cut it at.
_CANDIDATES = 256


@dataclass
class Found(Generic[L]):
    """Disjoint regions of each label, and how many there are.

    `total` counts regions beyond those listed. For labels in `unfinished` there are more.
    """

    regions: dict[L, list[Region]] = field(default_factory=dict)
    total: dict[L, int] = field(default_factory=dict)
    unfinished: set[L] = field(default_factory=set)


def search(
    box: Box,
    lists: Sequence[Sequence[BitRule]],
    default: int,
    classify: Callable[[tuple[int, ...]], L | None],
    settled: Callable[[tuple[int, ...]], bool],
    enough: int,
    *,
    whole: bool = True,
    full: Collection[L] = (),
) -> Found[L]:
    """Label every packet of a box by the outcomes the lists give it.

    A packet no rule of a list matches has `default`. For `classify` and `settled` see Comparison. A
    label of which `enough` regions are found is not looked for any further, nor are those that are
    `full` from the start. `whole`: the box is large enough to spend many steps on before it is cut.
    """
    return _Search(box, lists, default, classify, settled, enough, full).run(_STEPS_WHOLE if whole else 0)


@dataclass(frozen=True, slots=True)
class _Cell:
    """A box, and what matters in it: each list, and the rules that take a field of it whole.

    `whole` is empty for the box that all cells are cut from, until it is cut.
    """

    box: Box
    masks: tuple[int, ...]
    whole: tuple[int, ...]


class _Search(Generic[L]):
    def __init__(
        self,
        box: Box,
        lists: Sequence[Sequence[BitRule]],
        default: int,
        classify: Callable[[tuple[int, ...]], L | None],
        settled: Callable[[tuple[int, ...]], bool],
        enough: int,
        full: Collection[L],
    ) -> None:
        self.box = box
        self.classify = classify
        self.settled = settled
        self.enough = enough
        rules, members = merge(lists)
        rules.reverse()
        self.rules = rules
        self.outcomes = sorted({default, *(rule.outcome for rule in rules)})
        self.reduction = Reduction(rules, self.outcomes)
        first = len(self.outcomes)
        top = first + len(rules) - 1
        self.root = tuple(
            sum(1 << (top - index) for index in each) | self.reduction.leaf[default] for each in members
        )
        self.known: dict[tuple[int, ...], frozenset[L]] = {}
        self.found: Found[L] = Found()
        self.full = set(full)  # labels of which there are enough

    def run(self, steps: int) -> Found[L]:
        found = self.found
        waiting = [_Cell(self.box, self.root, ())]
        while waiting:
            cell = waiting.pop()
            everything = reduce(and_, cell.whole or (self.reduction.leaves,))
            masks = tuple([self.reduction.reduce(mask, everything) for mask in cell.masks])
            if self.settled(masks):
                continue
            possible = self._possible(masks)
            if possible <= self.full:
                found.unfinished |= possible
                continue
            cell = _Cell(cell.box, masks, cell.whole)
            if not self._compare(cell, steps):
                if not cell.whole:
                    whole = tuple(self._taking(level, span) for level, span in enumerate(self.box))
                    cell = _Cell(cell.box, masks, whole)
                waiting += self._cut(cell)
            steps = 0
        return found

    def _possible(self, masks: tuple[int, ...]) -> frozenset[L]:
        """The labels that there may be where lists come down to these.

        Where outcomes differ, the topmost of the rules that decide is not in every list.
        """
        of_outcome = self.reduction.of_outcome
        common = reduce(and_, masks)
        key = tuple(
            [
                sum([1 << at for at, outcome in enumerate(self.outcomes) if mask & of_outcome[outcome]])
                for each in masks
                for mask in (each, each & ~common)
            ]
        )
        labels = self.known.get(key)
        if labels is None:
            choices = [[o for at, o in enumerate(self.outcomes) if bits >> at & 1] for bits in key]
            found = {
                self.classify(outcomes)
                for outcomes in product(*choices[::2])
                if any(each in own for each, own in zip(outcomes, choices[1::2], strict=True))
            }
            labels = self.known[key] = frozenset(label for label in found if label is not None)
        return labels

    def _compare(self, cell: _Cell, steps: int) -> bool:
        """Take in the regions of a cell; False if that takes too many steps."""
        chosen = ones(_union(cell.masks) >> len(self.outcomes))
        masks = tuple([self._shrunk(mask, chosen) for mask in cell.masks])
        comparison = Comparison(
            cell.box, [self.rules[at] for at in chosen], self.outcomes, masks, self.classify, self.settled
        )
        try:
            diagram = comparison.run(steps or _STEPS + _STEPS_EACH * len(chosen))
        except TooMuchError:
            return False
        counts = diagram.count()
        found = self.found
        for label, number in counts[diagram.root].items():
            found.total[label] = found.total.get(label, 0) + number
        for label, region in diagram.paths(lambda node: not counts[node].keys() <= self.full):
            listed = found.regions.setdefault(label, [])
            listed.append(region)
            if len(listed) >= self.enough:
                self.full.add(label)
        return True

    def _shrunk(self, mask: int, chosen: Sequence[int]) -> int:
        """A list in the numbering of a few rules that it is made of."""
        first = len(self.outcomes)
        digits = f"{mask >> first:0{len(self.rules)}b}"[::-1]
        rules = "".join([digits[at] for at in reversed(chosen)])
        return int(rules or "0", 2) << first | mask & self.reduction.leaves

    @cached_property
    def _index(self) -> Index:
        """Not needed if the first comparison suffices."""
        return Index([rule.box for rule in self.rules])

    def _taking(self, level: int, span: Interval) -> int:
        """The rules that contain all these values, and the defaults."""
        return self._index.taking_in(level, span) << len(self.outcomes) | self.reduction.leaves

    def _meeting(self, level: int, span: Interval) -> int:
        """The rules that contain some of these values, and the defaults."""
        return self._index.meeting_in(level, span) << len(self.outcomes) | self.reduction.leaves

    def _cut(self, cell: _Cell) -> list[_Cell]:
        """The two halves of a cell."""
        union = _union(cell.masks)
        box = cell.box
        best: tuple[int, int, int, int, int] | None = None
        own = union & ~reduce(and_, cell.masks)
        for chosen in (own, union):
            narrow = chosen & ~reduce(and_, cell.whole)
            if narrow:
                break
        tops = ones(narrow >> len(self.outcomes))[-_CANDIDATES:]
        for level, (bottom, top) in enumerate(box):
            edges: list[int] = []
            for at in tops:
                low, high = self.rules[at].box[level]
                if low > bottom:
                    edges.append(low)
                if high < top:
                    edges.append(high + 1)
            if not edges:
                continue
            edges.sort()
            edge = edges[len(edges) // 2]
            left = self._meeting(level, (bottom, edge - 1))
            right = self._meeting(level, (edge, top))
            score = (union & left).bit_count() ** 2 + (union & right).bit_count() ** 2
            if best is None or score < best[0]:
                best = (score, level, edge, left, right)
        assert best is not None
        _, level, edge, left, right = best
        halves = []
        for span, meeting in (((edge, box[level][1]), right), ((box[level][0], edge - 1), left)):
            halves.append(
                _Cell(
                    (*box[:level], span, *box[level + 1 :]),
                    tuple([mask & meeting for mask in cell.masks]),
                    (*cell.whole[:level], self._taking(level, span), *cell.whole[level + 1 :]),
                )
            )
        return halves


def _union(masks: Sequence[int]) -> int:
    return reduce(or_, masks)
