"""Where two first-match lists differ, rule by rule: fast where they share most of their rules.

A packet can only be treated differently if a rule that is not in both lists decides it in one of
them. Of such rules the topmost that contains the packet is looked at, in an order of all rules that
agrees with both lists: nothing above it matches, so one list has its outcome, and the other that of
the first of its own rules below. So each rule is a small problem of its own, inside its box.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from vswitch.compare.box_index import Index, ones
from vswitch.compare.diagram import BitRule, Box, Interval, L, meet, merge
from vswitch.compare.region_search import Found, search

__all__ = ["differences"]

#: Lists of which more than half differs are looked at rule by rule only if all changed rules together
#: meet no more than so many others: a rule takes about 20 us.
_FEW = 50_000


def differences(
    box: Box,
    old: Sequence[BitRule],
    new: Sequence[BitRule],
    default: int,
    classify: Callable[[tuple[int, ...]], L | None],
    enough: int,
) -> Found[L]:
    """Label every packet of a box by the outcomes in the old and in the new list.

    `classify` turns the two outcomes into a label, or None if they are of no interest, as equal ones
    are. A packet no rule of a list matches has `default`. A label of which `enough` regions are found
    is not looked for any further.
    """
    shared = set(old) & set(new)
    lists = [_joined(each, shared) for each in (old, new)]
    changed = _Changed(box, lists[0], lists[1], default, classify)
    if changed.near or changed.size <= _FEW:
        return changed.find(enough)
    return search(box, lists, default, classify, lambda keys: keys[0] == keys[1], enough)


@dataclass(frozen=True, slots=True)
class _Part(Generic[L]):
    """The packets of `box` whose first rule gives them a label.

    `rules` and, among them, those that give a label, as masks; a packet without a rule has none.
    """

    box: Box
    rules: int
    labelled: int
    label_of: Mapping[int, L | None]  # by the rule's outcome


class _Changed(Generic[L]):
    """The rules that one of two lists has and the other has not, and what they change."""

    def __init__(
        self,
        box: Box,
        old: Sequence[BitRule],
        new: Sequence[BitRule],
        default: int,
        classify: Callable[[tuple[int, ...]], L | None],
    ) -> None:
        self.classify = classify
        rules, members = merge([[*each, BitRule(box, default)] for each in (old, new)])
        self.rules = rules[::-1]  # so that the first rule has the highest bit
        self.masks = [sum(1 << (len(rules) - 1 - at) for at in each) for each in members]
        self.index = Index([rule.box for rule in self.rules])
        self.of_outcome: dict[int, int] = {}
        for at, rule in enumerate(self.rules):
            self.of_outcome[rule.outcome] = self.of_outcome.get(rule.outcome, 0) | 1 << at
        self._match_moved()
        self.parts = list(self._parts())

    @property
    def near(self) -> bool:
        """Whether the lists share at least half of the rules of one of them."""
        shared = (self.masks[0] & self.masks[1]).bit_count()
        return 2 * shared >= min(mask.bit_count() for mask in self.masks)

    @property
    def size(self) -> int:
        """The rules to look at, over all parts: what it takes to find the differences."""
        return sum(part.rules.bit_count() for part in self.parts)

    def find(self, enough: int) -> Found[L]:
        """The differences; a label of which there are `enough` is not looked for any further."""
        found: Found[L] = Found()
        full: set[L] = set()
        for part in self.parts:
            possible = {
                label
                for outcome, mask in self.of_outcome.items()
                if part.labelled & mask and (label := part.label_of[outcome]) is not None
            }
            if possible <= full:
                found.unfinished |= possible
                continue
            self._search(part, enough, full, found)
            full = {label for label, regions in found.regions.items() if len(regions) >= enough}
        return found

    def _search(self, part: _Part[L], enough: int, full: Collection[L], found: Found[L]) -> None:
        """Take in the labelled regions of a part. Fields that all its rules take whole are left out."""
        labels: list[L | None] = [None, *(label for label in part.label_of.values() if label is not None)]
        chosen = [(at, self.rules[at]) for at in reversed(ones(part.rules))]
        fields = [
            level
            for level, (low, high) in enumerate(part.box)
            if any(rule.box[level][0] > low or rule.box[level][1] < high for _, rule in chosen)
        ]
        rules = [
            BitRule(
                tuple([rule.box[level] for level in fields]),
                labels.index(part.label_of[rule.outcome]) if part.labelled >> at & 1 else 0,
            )
            for at, rule in chosen
        ]
        own = search(
            tuple([part.box[level] for level in fields]),
            [rules, ()],
            0,
            lambda outcomes: labels[outcomes[0]],
            lambda keys: keys[0] == keys[1],
            enough,
            whole=False,
            full=full,
        )
        found.unfinished |= own.unfinished
        for label, number in own.total.items():
            found.total[label] = found.total.get(label, 0) + number
        for label, regions in own.regions.items():
            for region in regions:
                every: list[tuple[Interval, ...]] = [(span,) for span in part.box]
                for level, intervals in zip(fields, region, strict=True):
                    every[level] = intervals
                found.regions.setdefault(label, []).append(tuple(every))

    def _match_moved(self) -> None:
        """Take a rule that stands in both lists at different places for one if that changes nothing.

        It may pass rules of one list that it does not overlap or that have the same outcome.
        """
        above: dict[BitRule, int] = {}
        changed = self.masks[0] ^ self.masks[1]
        for at in reversed(range(len(self.rules))):
            bit, rule = 1 << at, self.rules[at]
            if not changed & bit:
                continue
            first = above.setdefault(rule, bit)
            own, other = self.masks if self.masks[0] & bit else self.masks[::-1]
            if own & first or not other & first:
                continue
            passed = self.index.meeting(rule.box) & ~self.of_outcome[rule.outcome] & (first - 1) & -bit
            mover = next((mask for mask in (own, other) if not passed & mask), None)
            if mover is not None:
                self.masks[self.masks.index(mover)] ^= bit | first

    def _parts(self) -> Iterator[_Part[L]]:
        """Disjoint parts that hold all differences: a changed rule's box, where none above it matches.

        Of the rules below, those of the list it is not in matter. Rules that give no label are left
        out below the last that gives one.
        """
        old, new = self.masks
        changed = old ^ new
        for at in reversed(range(len(self.rules))):
            bit, rule = 1 << at, self.rules[at]
            if not changed & bit:
                continue
            meeting, whole = self.index.meeting(rule.box), self.index.taking(rule.box)
            above = (old | new) & meeting & -bit & ~bit
            if above & whole:
                continue
            other = (new if old & bit else old) & meeting & (bit - 1)
            other &= -(1 << ((other & whole).bit_length() - 1))
            label_of = {
                outcome: self.classify((rule.outcome, outcome) if old & bit else (outcome, rule.outcome))
                for outcome in self.of_outcome
            }
            same = sum(self.of_outcome[outcome] for outcome, label in label_of.items() if label is None)
            labelled = other & ~same
            if not labelled:
                continue
            yield _Part(rule.box, (above | other) & -(labelled & -labelled), labelled, label_of)


# --- rules in pieces -----------------------------------------------------------------------------


def _joined(rules: Sequence[BitRule], keep: Collection[BitRule]) -> list[BitRule]:
    """The same list in fewer rules: those that together are a box with one outcome become one.

    One of the two has to get past the rules between them. Rules to `keep` are left as they are.
    """
    found: list[BitRule | None] = [*rules]
    count = len(found) + 1
    while len(found) < count:
        count = len(found)
        for field in range(len(rules[0].box) if rules else 0):
            groups: dict[tuple[Box, int], list[int]] = {}
            for at, rule in enumerate(found):
                if rule is not None and rule not in keep:
                    others = rule.box[:field] + rule.box[field + 1 :]
                    groups.setdefault((others, rule.outcome), []).append(at)
            for group in groups.values():
                _join(found, group, field)
        found = [rule for rule in found if rule is not None]
    return [rule for rule in found if rule is not None]


def _join(rules: list[BitRule | None], group: Sequence[int], field: int) -> None:
    """Join those of a group that follow each other in this field; the others are alike."""
    spans = sorted((rule.box[field], at) for at in group if (rule := rules[at]) is not None)
    (low, high), at = spans[0]
    for (start, end), other in spans[1:]:
        first, last = min(at, other), max(at, other)
        target = None
        if start <= high + 1:
            between = rules[first + 1 : last]
            target = (
                first if _passes(rules[last], between) else last if _passes(rules[first], between) else None
            )
        if target is None:
            (low, high), at = (start, end), other
            continue
        high = max(high, end)
        rule = rules[at]
        assert rule is not None
        rules[at] = rules[other] = None
        at = target
        rules[at] = BitRule((*rule.box[:field], (low, high), *rule.box[field + 1 :]), rule.outcome)


def _passes(mover: BitRule | None, others: Sequence[BitRule | None]) -> bool:
    """Whether a rule may change places with all these."""
    return mover is not None and not any(
        rule is not None and rule.outcome != mover.outcome and meet(rule.box, mover.box) for rule in others
    )
