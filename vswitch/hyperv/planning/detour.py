"""Where extended entries go meanwhile whose weights are still taken by the entries they follow.

Two extended entries of a direction cannot have one weight (§4.3). So a part is first brought to a
set of entries that does the same as the new one, but has no weight that an old entry must give up
first. Two sets do the same if of each two entries that conflict (they overlap and do different
things) the same one decides, that is, if their highest copies stand in the same order.

An entry whose weight is taken gets the highest free weight below the entries above it that conflict
with it. If there is none, the lowest of those first gets a copy higher up, for which the same holds
(`up`). If that leads nowhere either, the entries below make room downwards (`down`); for that their
own weight is given up for a while, so entries of somebody else do not take part in it. Where all of
that fails, copies of all entries, in their order, go above everything there is, if there is room.
"""

from __future__ import annotations

from collections.abc import Set

from vswitch.acl_entries import Entry, ExtendedEntry
from vswitch.hyperv.planning.conflicts import Conflicts

__all__ = ["detour"]

_BOTTOM, _TOP = 0, 65536


def detour(
    old: frozenset[ExtendedEntry],
    new: frozenset[ExtendedEntry],
    fixed: Set[Entry],
    walls: Set[int] = frozenset(),
) -> frozenset[ExtendedEntry]:
    """Entries of one direction that do what `new` does, with weights that are free while `old` is there.

    `fixed` are entries of somebody else, `walls` the weights of some that may do anything. Equal to
    `new` where no weight is taken. An entry for which there is no room keeps its weight.
    """
    taken = {entry.weight for entry in old - new}
    waiting = [entry for entry in new - old if entry.weight in taken]
    if not waiting:
        return new
    conflicting = Conflicts(sorted(new, key=lambda entry: -entry.weight))
    tried: list[_Detour] = []
    for up in (True, False):
        tried.append(_Detour(old, new, fixed, walls, waiting, conflicting))
        if tried[-1].find(up=up):
            return tried[-1].entries
    highest = max(entry.weight for entry in (*old, *new))
    if not walls and highest + len(new) < _TOP:
        copies = sorted(new, key=lambda entry: entry.weight)
        above = {entry._replace(weight=weight) for weight, entry in enumerate(copies, _TOP - len(new))}
        return frozenset(above | new.difference(waiting))
    return min(tried, key=lambda each: len(each.stuck)).entries


class _Detour:
    """Weights for all entries: `at` is where the highest copy of each stands."""

    def __init__(
        self,
        old: frozenset[ExtendedEntry],
        new: frozenset[ExtendedEntry],
        fixed: Set[Entry],
        walls: Set[int],
        waiting: list[ExtendedEntry],
        conflicting: Conflicts,
    ) -> None:
        self.walls = sorted(walls)
        self.new = sorted(new, key=lambda entry: -entry.weight)
        self.conflicting = conflicting
        self.fixed = fixed
        self.used = {entry.weight for entry in (*old, *new)}
        self.at = {entry: entry.weight for entry in new}
        self.waiting = set(waiting)
        self.taken = frozenset(waiting)
        self.stuck: list[ExtendedEntry] = []
        self.known: dict[ExtendedEntry, tuple[list[ExtendedEntry], list[ExtendedEntry]]] = {}

    def find(self, *, up: bool) -> bool:
        """Look for weights, upwards or downwards first. False if some entries are `stuck`."""
        for upwards in (up, not up):
            self.waiting.update(self.stuck)
            order = self.new if upwards else self.new[::-1]
            self.stuck = [each for each in order if each in self.waiting and not self.move(each, up=upwards)]
        return not self.stuck

    @property
    def entries(self) -> frozenset[ExtendedEntry]:
        """The entries where they stand; what has a copy above need not go."""
        moved = {entry._replace(weight=weight) for entry, weight in self.at.items()}
        kept = {each for each, weight in self.at.items() if weight > each.weight and each not in self.taken}
        return frozenset(moved | kept)

    def move(self, entry: ExtendedEntry, *, up: bool) -> bool:
        """Find a free weight for an entry that waits; others make room. False if there is none."""
        before = dict(self.at), set(self.used)
        moving = [entry]
        while moving:
            last = moving[-1]
            weight, nearest = self.free_weight(last, up=up)
            if weight:
                self.at[last] = weight
                self.used.add(weight)
                self.waiting.discard(last)
                moving.pop()
            elif nearest is None or nearest in moving or not self.can_move(nearest, up=up):
                self.at, self.used = before
                self.waiting.discard(entry)
                return False
            else:
                moving.append(nearest)
        return True

    def can_move(self, entry: ExtendedEntry, *, up: bool) -> bool:
        """Whether an entry stands where it stood, and may stand elsewhere for a while."""
        return self.at[entry] == entry.weight and entry not in self.taken and (up or entry not in self.fixed)

    def free_weight(self, entry: ExtendedEntry, *, up: bool) -> tuple[int, ExtendedEntry | None]:
        """A weight for an entry, as far up or down as its neighbours allow; else 0 and the nearest one."""
        above, below = ([each for each in side if each not in self.waiting] for side in self.conflicts(entry))
        over = min(above, key=self.at.__getitem__, default=None)
        under = max(below, key=self.at.__getitem__, default=None)
        high = min([self.at[over] if over else _TOP, *(each for each in self.walls if each > entry.weight)])
        low = max(
            [self.at[under] if under else _BOTTOM, *(each for each in self.walls if each < entry.weight)]
        )
        if entry not in self.waiting:  # it makes room, so it has to leave its place in that direction
            low, high = (max(low, entry.weight), high) if up else (low, min(high, entry.weight))
        weights = range(high - 1, low, -1) if up else range(low + 1, high)
        weight = next((each for each in weights if each not in self.used), 0)
        return weight, over if up else under

    def conflicts(self, entry: ExtendedEntry) -> tuple[list[ExtendedEntry], list[ExtendedEntry]]:
        """The entries above and below that overlap an entry and do something else."""
        found = self.known.get(entry)
        if found is None:
            others = self.conflicting.of(entry)
            found = self.known[entry] = (
                [other for other in others if other.weight > entry.weight],
                [other for other in others if other.weight < entry.weight],
            )
        return found
