"""In which order the entries of one adapter are written, so that nothing slips through or is lost.

An adapter's entries fall into parts that decide on their own: the extended entries of a direction,
and each family of basic entries (local or remote, IP or MAC). Within a part the highest-ranking
entry that matches decides. Going from the old to the new entries of a part by

1. adding the new ones, highest rank first, and then
2. removing the old ones, lowest rank first,

every packet is treated at every moment as the old or as the new entries treat it. For (1): if the
decision is a new entry's, then all new entries above it are there, so it is also the new set's
decision; else it is the old set's. (2) is (1) backwards.

Two entries cannot share a key (a weight, a prefix). Where a new entry needs the key of an old one,
a stand-in does its work meanwhile: an extended entry at a free weight between the same conflicting
neighbours, for a basic one the two halves of its prefix. Where there is no room for one, the old
entry goes just before the new one comes, and what that exposes is computed and said.

Parts are combined by `and` (extended with basic) and by flow state (Inbound with Outbound), so the
parts' order matters too. While one part changes, each packet meets the others as they are: all that
can happen is what happens between two parts. Those states are compared exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import ip_network
from itertools import count
from typing import Any, NamedTuple

from vswitch.hyperv.entries import BasicEntry, Entry, ExtendedEntry
from vswitch.hyperv.semantic import Acls, Transient, overlaps, transient
from vswitch.model.types import Action, BasicAction, Direction

__all__ = ["Exposure", "Order", "Step", "order_of", "states"]

_TOP_WEIGHT = 65535
_MOST_PARTS = 7  # for more parts that change at once, only the usual orders are tried


class Step(NamedTuple):
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

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"first_step": self.first, "last_step": self.last, **self.traffic.as_dict()}


@dataclass(frozen=True)
class Order:
    """The writes of one adapter in order, and what they expose meanwhile (usually nothing)."""

    steps: tuple[Step, ...]
    exposures: tuple[Exposure, ...] = ()


def states(old: Acls, steps: Iterable[Step]) -> Iterable[Acls]:
    """The adapter's entries after each step."""
    extended, basic = set(old.extended), set(old.basic)
    for step in steps:
        chosen: set[Any] = extended if isinstance(step.entry, ExtendedEntry) else basic
        if step.add:
            chosen.add(step.entry)
        else:
            chosen.discard(step.entry)
        yield Acls(frozenset(extended), frozenset(basic))


@lru_cache(maxsize=1024)
def order_of(old: Acls, new: Acls) -> Order:
    """How to get from `old` to `new`; both hold everything on the adapter, foreign entries too."""
    was, becomes = _parts(old), _parts(new)
    changed = sorted(part for part in {*was, *becomes} if was.get(part) != becomes.get(part))
    steps: list[Step] = []
    gaps = False
    for part in _sequence(old, new, changed):
        found, has_gaps = _part_steps(was.get(part, frozenset()), becomes.get(part, frozenset()))
        gaps = gaps or has_gaps
        steps += found
    if not gaps and _parts_are_safe(old, new, changed):
        return Order(tuple(steps))
    return Order(tuple(steps), tuple(_exposures(old, new, steps)))


def _exposures(old: Acls, new: Acls, steps: Sequence[Step]) -> list[Exposure]:
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


def _independent(old: Acls, new: Acls, changed: Sequence[Part]) -> bool:
    """Whether the parts that change have nothing to do with each other."""
    if len(changed) <= 1:
        return True
    kinds = {part[1] for part in changed} - {"meter"}
    if kinds == {"basic"}:
        return all(
            sum(part[0] == direction for part in changed if part[1] == "basic") <= 1
            for direction in Direction
        )
    if kinds != {"extended"}:
        return False
    return not any(entry.stateful for acls in (old, new) for entry in acls.extended)


def _parts_are_safe(old: Acls, new: Acls, changed: Sequence[Part]) -> bool:
    return _independent(old, new, changed) or _path(old, new, changed)[1] == 0


def _sequence(old: Acls, new: Acls, changed: Sequence[Part]) -> Sequence[Part]:
    return changed if _independent(old, new, changed) else _path(old, new, changed)[0]


def _path(old: Acls, new: Acls, changed: Sequence[Part]) -> tuple[Sequence[Part], int]:
    """The order of the parts that exposes least, and how much that is (0: nothing).

    Letting denied traffic pass counts more than cutting allowed traffic.
    """
    was, becomes = _parts(old), _parts(new)

    @cache
    def cost(done: frozenset[Part]) -> int:
        if len(done) in (0, len(changed)):
            return 0
        chosen = [(becomes if part in done else was).get(part, frozenset()) for part in {*was, *becomes}]
        between = Acls.of(entry for entries in chosen for entry in entries)
        found = [transient(old, between, new, direction) for direction in Direction]
        return sum(1000 * len(each.leaks) + len(each.cuts) for each in found)

    if len(changed) > _MOST_PARTS:
        tried = [list(changed), list(changed)[::-1], sorted(changed, key=lambda part: (part[1], part))]
        costs = [sum(cost(frozenset(each[: k + 1])) for k in range(len(each))) for each in tried]
        return tried[costs.index(min(costs))], min(costs)
    ticket = count()
    queue: list[tuple[int, int, tuple[Part, ...]]] = [(0, next(ticket), ())]
    while True:
        spent, _, path = heapq.heappop(queue)
        if len(path) == len(changed):
            return path, spent
        for part in changed:
            if part not in path:
                heapq.heappush(queue, (spent + cost(frozenset((*path, part))), next(ticket), (*path, part)))


# --- within a part -------------------------------------------------------------------------------


def _rank(entry: Entry) -> tuple[Any, ...]:
    """Smaller decides first."""
    if isinstance(entry, ExtendedEntry):
        return (-entry.weight, entry[2:])
    return (-_length(entry), entry.action is not BasicAction.DENY, entry.address)


def _length(entry: BasicEntry) -> int:
    """How specific a basic entry is; only compared within a family and an IP version."""
    if entry.is_mac:
        return len(entry.address)
    return ip_network(entry.address).prefixlen


def _part_steps(old: frozenset[Entry], new: frozenset[Entry]) -> tuple[list[Step], bool]:
    """The steps of one part, and whether an entry had to go before its successor could come."""
    added, removed = sorted(new - old, key=_rank), sorted(old - new, key=_rank)
    in_the_way: dict[tuple[object, ...], list[Entry]] = {}
    for entry in removed:
        in_the_way.setdefault(entry.key, []).append(entry)
    colliding = [entry for entry in added if entry.key in in_the_way]
    stand_ins = _stand_ins(colliding, old, new)
    steps: list[Step] = []
    gone: set[Entry] = set()
    first: list[tuple[Entry, bool]] = [(entry, False) for entry in added if entry not in stand_ins]
    first += [(entry, True) for entries in stand_ins.values() for entry in entries]
    for entry, is_stand_in in sorted(first, key=lambda each: _rank(each[0])):
        for other in () if is_stand_in else in_the_way.get(entry.key, ()):
            steps.append(Step(False, other))
            gone.add(other)
        steps.append(Step(True, entry, is_stand_in))
    steps += [Step(False, entry) for entry in reversed(removed) if entry not in gone]
    # The same two passes once more: from the stand-ins to the entries they stand for.
    steps += [Step(True, entry) for entry in colliding if entry in stand_ins]
    standing = sorted((each for entries in stand_ins.values() for each in entries), key=_rank, reverse=True)
    steps += [Step(False, entry, True) for entry in standing]
    return steps, bool(gone)


def _stand_ins(
    colliding: Sequence[Entry], old: frozenset[Entry], new: frozenset[Entry]
) -> dict[Entry, tuple[Entry, ...]]:
    """For each entry whose key is taken: entries of other keys that do the same; absent if none can."""
    if not colliding:
        return {}
    if isinstance(colliding[0], ExtendedEntry):
        extended = [entry for entry in new if isinstance(entry, ExtendedEntry)]
        return _free_weights([each for each in colliding if isinstance(each, ExtendedEntry)], old, extended)
    taken = {entry.key for entry in (*old, *new)}
    found: dict[Entry, tuple[Entry, ...]] = {}
    for entry in colliding:
        assert isinstance(entry, BasicEntry)
        halves = [entry._replace(address=half) for half in _halves(entry)]
        if halves and not any(half.key in taken for half in halves):
            found[entry] = tuple(halves)
    return found


def _free_weights(
    colliding: Sequence[ExtendedEntry], old: Iterable[Entry], new: Sequence[ExtendedEntry]
) -> dict[Entry, tuple[Entry, ...]]:
    """A free weight for each entry, as high as its conflicting neighbours above allow."""
    used = {entry.weight for entry in (*old, *new) if isinstance(entry, ExtendedEntry)}
    stands_at = {entry: entry.weight for entry in new}
    found: dict[Entry, tuple[Entry, ...]] = {}
    conflicts = _conflicts()
    for entry in colliding:
        above = below = None
        for other in new:
            if other is entry or not conflicts(entry, other):
                continue
            if other.weight > entry.weight:
                above = min(above or _TOP_WEIGHT + 1, stands_at[other])
            else:
                below = max(below or 0, other.weight)
        weight = (above or _TOP_WEIGHT + 1) - 1
        while weight in used:
            weight -= 1
        if weight > (below or 0):
            used.add(weight)
            stands_at[entry] = weight
            found[entry] = (entry._replace(weight=weight),)
    return found


def _conflicts() -> Callable[[ExtendedEntry, ExtendedEntry], bool]:
    """Whether the order of two entries matters: they overlap and do different things."""

    def conflict(one: ExtendedEntry, other: ExtendedEntry) -> bool:
        same = one.action is other.action and (one.action is Action.DENY or one.stateful == other.stateful)
        return not same and overlaps(one, other)

    return conflict


def _halves(entry: BasicEntry) -> list[str]:
    """Longer prefixes that together are an entry's prefix; none for a single address or a MAC."""
    if entry.is_mac:
        return []
    network = ip_network(entry.address)
    if network.prefixlen == network.max_prefixlen:
        return []
    return [
        str(half.network_address) if half.prefixlen == half.max_prefixlen else str(half)
        for half in network.subnets()
    ]
