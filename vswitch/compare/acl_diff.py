"""What traffic two sets of ACL entries treat differently, exactly; and which entries hide others.

Outcomes are those of vswitch.semantics.acl for packets with their ports (fragments without ports
are left out, U5): extended entries by weight, basic entries by longest prefix in four families that
must all pass (U1, U2). A stateful Allow is an outcome of its own: the answers to what it lets pass
are passed by state (§4.4). Local is always the adapter's own side, so that a packet and its answer
have the same coordinates in both directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_network

from vswitch.acl_entries import ANY, ANY_MAC, Acls, BasicEntry, ExtendedEntry
from vswitch.compare.diagram import BitRule, Box, Interval, meet
from vswitch.compare.edits import differences
from vswitch.compare.region_search import search
from vswitch.compare.regions import Region, boxes_within, tops, unite, whole
from vswitch.json_values import Json
from vswitch.model.types import TCP, UDP, Action, BasicAction, Direction, Side

__all__ = [
    "ALLOW",
    "DENY",
    "STATEFUL",
    "TrafficChange",
    "Hidden",
    "SemanticDiff",
    "Transient",
    "boxes_of",
    "covers",
    "hidden",
    "lost",
    "outcome_of",
    "overlaps",
    "semantic_diff",
    "transient",
]

DENY, ALLOW, STATEFUL = 0, 1, 2
_VERSIONS = (4, 6, 0)
_LOOKED_FOR = 4  # regions looked for in place of each one listed, since some become one
_OTHER = {Direction.INBOUND: Direction.OUTBOUND, Direction.OUTBOUND: Direction.INBOUND}


class TrafficChange(StrEnum):
    """What happens to some traffic."""

    ALLOWED = "newly allowed"
    DENIED = "newly denied"
    STATEFUL = "answers newly pass by state"
    STATELESS = "answers no longer pass by state"


@dataclass(frozen=True)
class SemanticDiff:
    """Traffic of one adapter and direction that two rule sets treat differently.

    `changes` has disjoint regions of traffic for each kind of change that there is; together they
    are all of it unless `more` says how many further regions were found. A kind in `unfinished` has
    so many that the search for others of it ended early: `more` is the least there are.
    """

    direction: Direction
    changes: Mapping[TrafficChange, tuple[Region, ...]]
    more: Mapping[TrafficChange, int]
    unfinished: frozenset[TrafficChange] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def as_dict(self) -> dict[str, Json]:
        """Plain data for `--output json` and saved plans."""
        return {
            "direction": str(self.direction),
            "changes": {
                str(change): [region.as_dict() for region in regions]
                for change, regions in self.changes.items()
            },
            "more": {str(change): count for change, count in self.more.items()},
            "more_is_a_minimum": [str(change) for change in TrafficChange if change in self.unfinished],
        }


# --- entries as boxes ----------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def boxes_of(entry: ExtendedEntry, version: int) -> tuple[Box, ...]:
    """The packets an extended entry matches; two boxes where it names ports but no protocol (U15)."""
    if version == 0:
        return ()
    top = tops(version)
    local, remote = _prefix(entry.local, version), _prefix(entry.remote, version)
    if local is None or remote is None:
        return ()
    isolation = (entry.isolation, entry.isolation) if entry.isolation else (0, top[1])
    has_ports = entry.local_port != ANY or entry.remote_port != ANY
    if entry.protocol == ANY:
        protocols = [(TCP, TCP), (UDP, UDP)] if has_ports else [(0, 255)]
    else:
        number = {"TCP": TCP, "UDP": UDP}.get(entry.protocol) or int(entry.protocol)
        if has_ports and number not in (TCP, UDP):
            return ()
        protocols = [(number, number)]
    ports = (_ports(entry.local_port), _ports(entry.remote_port))
    return tuple(
        (protocol, isolation, *ports, local, remote, (0, top[6]), (0, top[7])) for protocol in protocols
    )


@lru_cache(maxsize=1 << 14)
def _prefix(text: str, version: int) -> Interval | None:
    """The addresses of one IP version a prefix stands for."""
    if text == ANY:
        return (0, tops(version)[4])
    network = ip_network(text)
    if network.version != version:
        return None
    return (int(network.network_address), int(network.broadcast_address))


def _ports(text: str) -> Interval:
    if text == ANY:
        return (0, 65535)
    first, dash, last = text.partition("-")
    return (int(first), int(last if dash else first))


def outcome_of(entry: ExtendedEntry) -> int:
    """What an extended entry does: DENY, ALLOW or STATEFUL."""
    if entry.action is Action.DENY:
        return DENY
    return STATEFUL if entry.stateful else ALLOW


@lru_cache(maxsize=2048)
def _extended_rules(
    entries: frozenset[ExtendedEntry], direction: Direction, version: int
) -> tuple[BitRule, ...]:
    """The extended entries of one direction as a first-match list."""
    ordered = sorted(
        (entry for entry in entries if entry.direction is direction),
        key=lambda entry: (-entry.weight, entry[2:]),
    )
    return tuple(BitRule(box, outcome_of(entry)) for entry in ordered for box in boxes_of(entry, version))


def _stateful_rules(
    entries: frozenset[ExtendedEntry], direction: Direction, version: int
) -> tuple[BitRule, ...]:
    """The same list; empty if no rule in it is stateful, since only that matters to answers."""
    rules = _extended_rules(entries, direction, version)
    return rules if any(rule.outcome == STATEFUL for rule in rules) else ()


_FIELD_OF = {(Side.LOCAL, False): 4, (Side.REMOTE, False): 5, (Side.LOCAL, True): 6, (Side.REMOTE, True): 7}


@lru_cache(maxsize=2048)
def _basic_rules(entries: frozenset[BasicEntry], direction: Direction, version: int) -> tuple[BitRule, ...]:
    """What the basic entries of one direction deny, as rules that do not overlap within a family."""
    found: list[BitRule] = []
    for (side, is_mac), field in _FIELD_OF.items():
        if version == 0 and not is_mac:
            continue
        top = tops(version)
        ranked: list[tuple[int, int, Interval]] = []  # -prefix length, action (Deny first), addresses
        for entry in entries:
            if (entry.direction, entry.side, entry.is_mac) != (direction, side, is_mac):
                continue
            span = _basic_span(entry, version)
            if span is None or entry.action is BasicAction.METER:
                continue
            action = DENY if entry.action is BasicAction.DENY else ALLOW
            ranked.append(((span[1] - span[0]), action, span))
        found += [
            BitRule(tuple((0, each) if index != field else span for index, each in enumerate(top)), DENY)
            for span in _denied(sorted(ranked))
        ]
    return tuple(found)


def _basic_span(entry: BasicEntry, version: int) -> Interval | None:
    if not entry.is_mac:
        return _prefix(entry.address, version)
    if entry.address == ANY_MAC:
        return (0, tops(version)[6])
    number = int(entry.address.replace("-", ""), 16)
    return (number, number)


def _denied(ranked: Sequence[tuple[int, int, Interval]]) -> list[Interval]:
    """The addresses that a first-match list of nested spans denies, as disjoint intervals."""
    edges = sorted({edge for _, _, (low, high) in ranked for edge in (low, high + 1)})
    found: list[Interval] = []
    for low, following in itertools.pairwise(edges):
        action = next((action for _, action, span in ranked if span[0] <= low <= span[1]), ALLOW)
        if action != DENY:
            continue
        if found and found[-1][1] == low - 1:
            found[-1] = (found[-1][0], following - 1)
        else:
            found.append((low, following - 1))
    return found


# --- the differences -----------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def semantic_diff(old: Acls, new: Acls, direction: Direction, limit: int = 1000) -> SemanticDiff:
    """Which traffic `new` lets pass that `old` denied, and so on, exactly.

    At most `limit` regions of each kind are listed.
    """

    def classify(outcomes: tuple[int, ...]) -> TrafficChange | None:
        was, becomes = outcomes
        if (was > DENY) != (becomes > DENY):
            return TrafficChange.ALLOWED if becomes else TrafficChange.DENIED
        return TrafficChange.STATEFUL if becomes > was else TrafficChange.STATELESS if becomes < was else None

    regions: dict[TrafficChange, list[Region]] = {}
    counted: dict[TrafficChange, int] = {}
    unfinished: set[TrafficChange] = set()
    for version in _VERSIONS:
        lists = [
            _basic_rules(acls.basic, direction, version) + _extended_rules(acls.extended, direction, version)
            for acls in (old, new)
        ]
        if lists[0] == lists[1]:
            continue
        found = differences(whole(version), lists[0], lists[1], ALLOW, classify, _LOOKED_FOR * limit)
        unfinished |= found.unfinished
        for change, each in found.regions.items():
            regions.setdefault(change, []).extend(Region(version, fields) for fields in each)
            counted[change] = counted.get(change, 0) + found.total[change]
    changes: dict[TrafficChange, tuple[Region, ...]] = {}
    more: dict[TrafficChange, int] = {}
    for change in TrafficChange:
        if change in regions:
            united = unite(regions[change])
            changes[change] = tuple(united[:limit])
            rest = len(united) - limit if len(regions[change]) == counted[change] else counted[change] - limit
            if rest > 0 or change in unfinished:
                more[change] = max(rest, 0)
    return SemanticDiff(direction, changes, more, frozenset(unfinished))


@dataclass(frozen=True)
class Transient:
    """Traffic of one direction that a state in between treats as neither the old nor the new one does.

    `leaks` is let pass though both deny it; `cuts` is denied though both let it pass. Answers that
    pass by state count as passing.
    """

    direction: Direction
    leaks: tuple[Region, ...]
    cuts: tuple[Region, ...]

    def __bool__(self) -> bool:
        return bool(self.leaks or self.cuts)

    def as_dict(self) -> dict[str, Json]:
        """Plain data."""
        return {
            "direction": str(self.direction),
            "leaks": [region.as_dict() for region in self.leaks],
            "cuts": [region.as_dict() for region in self.cuts],
        }


def _lists_of_passing(
    acls: Acls, direction: Direction, version: int
) -> tuple[tuple[BitRule, ...], tuple[BitRule, ...], tuple[BitRule, ...], tuple[BitRule, ...]]:
    """The four lists whose outcomes say, by `_passes`, whether a packet passes."""
    stateful = _stateful_rules(acls.extended, _OTHER[direction], version)
    return (
        _basic_rules(acls.basic, direction, version),
        _extended_rules(acls.extended, direction, version),
        stateful,
        # What basic entries stop on its way out has no answers.
        _basic_rules(acls.basic, _OTHER[direction], version) if stateful else (),
    )


def _passes(basic: int, own: int, other: int, opening: int) -> bool:
    """Whether a packet passes: by entries of its direction, or by state as the answer to one that could."""
    return basic > DENY and (own > DENY or (other == STATEFUL and opening > DENY))


@lru_cache(maxsize=1024)
def lost(old: Acls, new: Acls, direction: Direction, within: Region, limit: int = 1000) -> tuple[Region, ...]:
    """Which packets of the traffic `within` the entries `old` let pass, and `new` do not, exactly.

    Answers that pass by state count as passing. At most about `limit` regions are listed; there are
    none only if nothing is lost.
    """

    def classify(outcomes: tuple[int, ...]) -> bool | None:
        return True if _passes(*outcomes[:4]) and not _passes(*outcomes[4:]) else None

    def settled(keys: tuple[int, ...]) -> bool:
        return keys[:4] == keys[4:]

    found: list[Region] = []
    for version in _VERSIONS:
        lists = [rules for acls in (old, new) for rules in _lists_of_passing(acls, direction, version)]
        if lists[:4] == lists[4:]:
            continue
        for box in boxes_within(within, version):
            inside = [_inside(box, rules) for rules in lists]
            regions = search(box, inside, ALLOW, classify, settled, limit).regions
            found += [Region(version, fields) for fields in regions.get(True, ())]
    return tuple(unite(found))


def _inside(box: Box, rules: Sequence[BitRule]) -> list[BitRule]:
    """The rules that decide something in a box, cut to it."""
    return [
        BitRule(
            tuple((max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(box, rule.box, strict=True)),
            rule.outcome,
        )
        for rule in rules
        if meet(box, rule.box)
    ]


@lru_cache(maxsize=4096)
def transient(old: Acls, between: Acls, new: Acls, direction: Direction, limit: int = 50) -> Transient:
    """What goes wrong while an adapter on its way from `old` to `new` has the entries `between`."""

    def classify(outcomes: tuple[int, ...]) -> bool | None:
        was, amid, becomes = (_passes(*outcomes[index : index + 4]) for index in (0, 4, 8))
        return amid if was == becomes != amid else None

    def settled(keys: tuple[int, ...]) -> bool:
        return keys[4:8] in (keys[0:4], keys[8:12])

    found: dict[bool, list[Region]] = {True: [], False: []}
    for version in _VERSIONS:
        lists = [
            rules for acls in (old, between, new) for rules in _lists_of_passing(acls, direction, version)
        ]
        if lists[4:8] in (lists[0:4], lists[8:12]):
            continue
        regions = search(whole(version), lists, ALLOW, classify, settled, limit).regions
        for leaks, each in regions.items():
            found[leaks] += [Region(version, fields) for fields in each]
    return Transient(direction, tuple(unite(found[True])), tuple(unite(found[False])))


# --- entries that hide others --------------------------------------------------------------------


def overlaps(one: ExtendedEntry, other: ExtendedEntry) -> bool:
    """Whether some packet matches both."""
    return any(
        meet(box, another)
        for version in (4, 6)
        for box in boxes_of(one, version)
        for another in boxes_of(other, version)
    )


def covers(outer: ExtendedEntry, inner: ExtendedEntry) -> bool:
    """Whether every packet that matches `inner` matches `outer` too."""
    return all(
        any(
            all(a[0] <= b[0] and b[1] <= a[1] for a, b in zip(another, box, strict=True))
            for another in boxes_of(outer, version)
        )
        for version in (4, 6)
        for box in boxes_of(inner, version)
    )


@dataclass(frozen=True)
class Hidden:
    """Two entries with different outcomes for the same traffic: `winner` decides over `loser`.

    `wholly`: the loser never decides because of this winner alone.
    """

    winner: ExtendedEntry | BasicEntry
    loser: ExtendedEntry | BasicEntry
    wholly: bool


def hidden(ours: Acls, foreign: Acls) -> list[Hidden]:
    """Foreign entries that shadow ours or are shadowed by ours, in part or wholly.

    Pairs with the same outcome change nothing and are left out.
    """
    found: list[Hidden] = []
    for theirs in sorted(foreign.extended, key=lambda entry: (entry.direction, -entry.weight)):
        for own in sorted(ours.extended, key=lambda entry: -entry.weight):
            if own.direction is not theirs.direction or outcome_of(own) == outcome_of(theirs):
                continue
            if overlaps(own, theirs):
                winner, loser = (own, theirs) if own.weight > theirs.weight else (theirs, own)
                found.append(Hidden(winner, loser, covers(winner, loser)))
    for other in sorted(foreign.basic):
        for mine in sorted(ours.basic):
            pair = _basic_pair(mine, other)
            if pair is not None:
                found.append(pair)
    return found


def _basic_pair(one: BasicEntry, other: BasicEntry) -> Hidden | None:
    """Of two basic entries of one family, the longer prefix decides, Deny on a tie (§3.2, U2)."""
    if (one.direction, one.side, one.is_mac) != (other.direction, other.side, other.is_mac):
        return None
    if one.action is other.action or BasicAction.METER in (one.action, other.action):
        return None
    for version in (4, 6):
        a, b = _basic_span(one, version), _basic_span(other, version)
        if a is None or b is None or a[0] > b[1] or b[0] > a[1]:
            continue
        sizes = (a[1] - a[0], b[1] - b[0])
        first = sizes[0] < sizes[1] or (sizes[0] == sizes[1] and one.action is BasicAction.DENY)
        winner, loser = (one, other) if first else (other, one)
        return Hidden(winner, loser, sizes[0] == sizes[1])
    return None
