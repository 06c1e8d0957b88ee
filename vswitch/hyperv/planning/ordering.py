"""In which order the entries of one adapter are written, so that nothing slips through or is lost.

An adapter's entries fall into parts that decide on their own: the extended entries of a direction,
and each family of basic entries (local or remote, IP or MAC). Within a part the highest-ranking
entry that matches decides. Going from the old to the new entries of a part by

1. adding the new ones, highest rank first, and then
2. removing the old ones, lowest rank first,

every packet is treated at every moment as the old or as the new entries treat it. For (1): if the
decision is a new entry's, then all new entries above it are there, so it is also the new set's
decision; else it is the old set's. (2) is (1) backwards. Each packet changes over at most once in
each pass.

Two entries cannot share a key (a weight, a prefix). Of basic entries those two are an Allow and a
Deny, so while neither is there, the packets they are about are treated as one of them says: the new
one may come just after the old one has gone. Extended entries take a detour by other weights
(`detour`). Where there is no room for one, the old entry goes just before the new one comes, and
what that exposes is computed and said.

Parts are combined by `and` (extended with basic) and by flow state (Inbound with Outbound), so the
parts' order matters too. While a part is in one pass, each packet meets the others as they are: all
that can happen is what happens between two passes. Those states are compared exactly.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple

from vswitch.acl_entries import Acls, BasicEntry, Entry, ExtendedEntry
from vswitch.compare.acl_diff import Transient, transient
from vswitch.hyperv.planning.detour import detour
from vswitch.json_values import Json
from vswitch.model.types import BasicAction, Direction

__all__ = ["Exposure", "Order", "WriteStep", "order_given", "order_of", "states"]

_MOST_STATES = 128  # states between parts that are compared at most


class WriteStep(NamedTuple):
    """One write: add or remove an entry. `stand_in`: it is there only while others change."""

    add: bool
    entry: Entry
    stand_in: bool = False


@dataclass(frozen=True)
class Exposure:
    """Traffic treated as neither the old nor the new entries do, after steps `first` to `last`.

    Steps count from 0 within the adapter.
    """

    first: int
    last: int
    traffic: Transient

    def as_dict(self) -> dict[str, Json]:
        """Plain data."""
        return {"first_step": self.first, "last_step": self.last, **self.traffic.as_dict()}


@dataclass(frozen=True)
class Order:
    """The writes of one adapter in order, and what they expose meanwhile (usually nothing)."""

    steps: tuple[WriteStep, ...]
    exposures: tuple[Exposure, ...] = ()


def states(old: Acls, steps: Iterable[WriteStep]) -> Iterable[Acls]:
    """The adapter's entries after each step."""
    extended, basic = old
    for step in steps:
        if isinstance(step.entry, ExtendedEntry):
            extended = extended | {step.entry} if step.add else extended - {step.entry}
        else:
            basic = basic | {step.entry} if step.add else basic - {step.entry}
        yield Acls(extended, basic)


@lru_cache(maxsize=1024)
def order_of(
    old: Acls,
    new: Acls,
    fixed: frozenset[Entry] = frozenset(),
    walls: frozenset[tuple[Direction, int]] = frozenset(),
) -> Order:
    """How to get from `old` to `new`; both hold everything on the adapter that can be read.

    `fixed` are those entries of somebody else: they never go, not for a moment either. `walls` are
    where extended entries stand that cannot be read: no other is moved past them.
    """
    was, becomes = _parts(old), _parts(new)
    parts = {
        part: _part_steps(
            was.get(part, frozenset()),
            becomes.get(part, frozenset()),
            fixed,
            frozenset(weight for direction, weight in walls if direction == part[0]),
        )
        for part in sorted({*was, *becomes})
        if was.get(part) != becomes.get(part)
    }
    groups, exposes = [found.steps for found in parts.values()], False
    if not _independent(old, new, parts):
        groups, exposes = _sequence(old, new, parts)
    steps = tuple(step for group in groups for step in group)
    if not exposes and not any(found.gaps for found in parts.values()):
        return Order(steps)
    return Order(steps, tuple(_exposures(old, new, steps)))


def order_given(
    old: Acls,
    new: Acls,
    fixed: frozenset[Entry],
    walls: frozenset[tuple[Direction, int]],
    steps: tuple[tuple[bool, Entry], ...],
) -> Order:
    """Steps (whether it adds, and what) from `old` to `new` as they are given, and what they expose.

    If `order_of` would have them so, the answer is at hand; else every state on the way is compared.
    """
    usual = order_of(old, new, fixed, walls)
    if tuple(step[:2] for step in usual.steps) == steps:
        return usual
    given = tuple(WriteStep(*step) for step in steps)
    return Order(given, tuple(_exposures(old, new, given)))


def _exposures(old: Acls, new: Acls, steps: Sequence[WriteStep]) -> list[Exposure]:
    """Every state on the way compared with both ends."""
    found: list[Exposure] = []
    open_since: dict[Direction, int] = {}
    for index, between in enumerate(states(old, steps)):
        for direction in Direction:
            wrong = transient(old, between, new, direction)
            if not wrong:
                open_since.pop(direction, None)
                continue
            at = open_since.get(direction)
            if at is not None and found[at].traffic == wrong:
                found[at] = Exposure(found[at].first, index, wrong)
            else:
                open_since[direction] = len(found)
                found.append(Exposure(index, index, wrong))
    return found


# --- parts ---------------------------------------------------------------------------------------

Part = tuple[str, ...]


def _part_of(entry: Entry) -> Part:
    if isinstance(entry, ExtendedEntry):
        return (str(entry.direction), "extended")
    if entry.action is BasicAction.METER:
        return (str(entry.direction), "meter")
    return (str(entry.direction), "basic", str(entry.side), "MAC" if entry.is_mac else "IP")


def _parts(acls: Acls) -> dict[Part, frozenset[Entry]]:
    found: dict[Part, set[Entry]] = {}
    for entries in acls:
        for entry in entries:
            found.setdefault(_part_of(entry), set()).add(entry)
    return {part: frozenset(entries) for part, entries in found.items()}


def _independent(old: Acls, new: Acls, changed: Iterable[Part]) -> bool:
    """Whether the parts that change have nothing to do with each other."""
    parts = [part for part in changed if part[1] != "meter"]
    if any(entry.stateful for acls in (old, new) for entry in acls.extended):
        return len(parts) <= 1
    return all(sum(part[0] == direction for part in parts) <= 1 for direction in Direction)


def _sequence(old: Acls, new: Acls, parts: Mapping[Part, _PartSteps]) -> tuple[list[list[WriteStep]], bool]:
    """The passes of all parts in the order that exposes least, and whether that exposes something.

    Letting denied traffic pass counts more than cutting allowed traffic.
    """
    whole = [[found.steps] for found in parts.values()]
    halves = [[found.first, found.second] for found in parts.values()]
    found: list[tuple[int, list[list[WriteStep]]]] = []
    # Whole parts are enough for most plans; else one part may have to wait half-way for another.
    for units in (whole, halves):
        if (len(units[0]) + 1) ** len(units) > _MOST_STATES:
            continue
        found.append(_cheapest(old, new, units))
        if not found[-1][0]:
            break
    if not found:
        names = list(parts)
        for usual in (names, names[::-1], sorted(names, key=lambda part: (part[1], part))):
            steps = [parts[part].steps for part in usual]
            at = [itertools.chain(*steps[:index]) for index in range(1, len(steps))]
            found.append((sum(_cost(old, each, new) for each in at), steps))
    cost, groups = min(found, key=lambda each: each[0])
    return groups, cost > 0


def _cheapest(
    old: Acls, new: Acls, units: Sequence[Sequence[list[WriteStep]]]
) -> tuple[int, list[list[WriteStep]]]:
    """The cheapest way through the states between the units, which each part takes in their order."""
    goal = tuple(map(len, units))
    queue: list[tuple[int, int, tuple[int, ...], list[list[WriteStep]]]] = [(0, 0, (0,) * len(units), [])]
    seen: set[tuple[int, ...]] = set()
    while True:
        # Of equal ones, the one that has come furthest.
        spent, _, at, path = heapq.heappop(queue)
        if at == goal:
            return spent, path
        if at in seen:
            continue
        seen.add(at)
        for index, part in enumerate(units):
            there = (*at[:index], at[index] + 1, *at[index + 1 :])
            if at[index] == len(part) or there in seen:
                continue
            done = [
                step
                for number, each in zip(there, units, strict=True)
                for group in each[:number]
                for step in group
            ]
            cost = 0 if there == goal else _cost(old, done, new)
            heapq.heappush(queue, (spent + cost, -sum(there), there, [*path, part[at[index]]]))


def _cost(old: Acls, done: Iterable[WriteStep], new: Acls) -> int:
    """How much is exposed in the state after some steps."""
    *_, between = (old, *states(old, done))
    found = [transient(old, between, new, direction) for direction in Direction]
    return sum(1000 * len(each.leaks) + len(each.cuts) for each in found)


# --- within a part -------------------------------------------------------------------------------


def _rank(entry: Entry) -> tuple[int, bool, tuple[str | int, ...]]:
    """Smaller decides first."""
    if isinstance(entry, ExtendedEntry):
        return (-entry.weight, False, entry[2:])
    return (-_length(entry), entry.action is not BasicAction.DENY, (entry.address,))


def _length(entry: BasicEntry) -> int:
    """How specific a basic entry is; only compared within a family and an IP version."""
    if entry.is_mac:
        return len(entry.address)
    return ip_network(entry.address).prefixlen


class _PartSteps(NamedTuple):
    """The writes of one part: the first pass, and what comes after it."""

    first: list[WriteStep]
    second: list[WriteStep]
    gaps: bool  # an extended entry has to go before its successor comes

    @property
    def steps(self) -> list[WriteStep]:
        return self.first + self.second


def _part_steps(
    old: frozenset[Entry], new: frozenset[Entry], fixed: frozenset[Entry], walls: frozenset[int]
) -> _PartSteps:
    """The way from `old` to `new`, by a detour where extended entries' weights are taken."""
    was, becomes = (
        frozenset(entry for entry in side if isinstance(entry, ExtendedEntry)) for side in (old, new)
    )
    by: frozenset[Entry] = detour(was, becomes, fixed, walls) if becomes else new
    first, second = _passes(old, by, by - new)
    gaps = any(not step.add for step in first) and bool(becomes)
    for rest in _passes(by, new, by - new):
        second += rest
    return _PartSteps(first, second, gaps)


def _passes(
    old: frozenset[Entry], new: frozenset[Entry], stand_ins: frozenset[Entry]
) -> tuple[list[WriteStep], list[WriteStep]]:
    """The two passes. Where a key is taken, its old entry goes just before the new one comes."""
    added, removed = sorted(new - old, key=_rank), sorted(old - new, key=_rank)
    in_the_way = {entry.key: entry for entry in removed}
    first: list[WriteStep] = []
    for entry in added:
        other = in_the_way.pop(entry.key, None)
        if other is not None:
            first.append(WriteStep(False, other, other in stand_ins))
        first.append(WriteStep(True, entry, entry in stand_ins))
    gone = {step.entry for step in first if not step.add}
    return first, [
        WriteStep(False, entry, entry in stand_ins) for entry in reversed(removed) if entry not in gone
    ]
