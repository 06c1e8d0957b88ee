"""The ACL entries of one adapter: weights given out, clashes refused.

Adapters to which the same rules apply have the same entries, so each distinct list of rules is
worked out once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vswitch.errors import InputError
from vswitch.model.resolving.rules import Basic, Extended
from vswitch.model.resolving.spans import Span
from vswitch.model.resolving.suspicious import Note, basic_notes, extended_notes
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import AnyAddress, BasicAction, Direction

__all__ = ["AUTOMATIC_TOP", "Clash", "Program", "basic_program", "extended_program"]

#: Automatic weights go down from here; larger ones are left to explicit weights.
AUTOMATIC_TOP = 60000

# More changed rules than this are worked out from scratch.
_FEW = 50


@dataclass(frozen=True, slots=True)
class Clash:
    """A mistake that shows on an adapter: `{adapter}` in its message stands for the adapter's id."""

    rule: Extended | Basic
    other: Extended | Basic | None  # the rule it clashes with
    message: str
    hint: str

    def error(self, adapter: str) -> InputError:
        """As the user sees it."""
        return InputError(self.message.format(adapter=repr(adapter)), where=self.rule.origin, hint=self.hint)


R = TypeVar("R", bound=Extended | Basic)
E = TypeVar("E", bound=ExtendedAcl | BasicAcl)


@dataclass(frozen=True, slots=True, eq=False)
class Program(Generic[R, E]):
    """The rules of an adapter (in one direction, if extended) and the entries they become."""

    rules: Sequence[R]
    entries: tuple[E, ...]
    clashes: tuple[Clash, ...]
    notes: tuple[Note, ...]
    spans: Sequence[Span] = ()  # of each extended entry


def extended_program(
    rules: Sequence[Extended],
    previous: Program[Extended, ExtendedAcl] | None = None,
    *,
    direction: Direction,
) -> Program[Extended, ExtendedAcl]:
    """Entries of the rules of one adapter and direction, by descending weight.

    `rules` are in file order. A rule with weight W takes W, W-1, ...; one without takes the next
    free weights below AUTOMATIC_TOP in file order, with room to grow to the next ten entries as
    long as all rules fit. `previous` is a program made before: it saves work and changes nothing.
    """
    edited = _edited(rules, previous, direction) if previous is not None else None
    if edited is not None:
        return edited
    clashes: list[Clash] = []
    taken: dict[int, Extended] = {}
    automatic: list[Extended] = []
    entries: list[ExtendedAcl] = []
    spans: list[Span] = []
    for rule in rules:
        top = rule.weight
        if top is None:
            automatic.append(rule)
            continue
        weights = range(top, top - len(rule.matches), -1)
        other = next((taken[weight] for weight in weights if weight in taken), None)
        if other is not None:
            clashes.append(_weight_clash(rule, other, direction))
            continue
        taken.update(dict.fromkeys(weights, rule))
        entries += rule.entries(direction, weights)
        spans += rule.spans
    free: Sequence[int] = range(AUTOMATIC_TOP, 0, -1)
    if taken:
        free = [weight for weight in free if weight not in taken]
    spacious = sum([rule.slots for rule in automatic]) <= len(free)
    position = 0
    for rule in automatic:
        size = len(rule.matches)
        if position + size > len(free):
            clashes.append(_no_weight_left(rule, len(free), direction))
            break
        entries += rule.entries(direction, free[position : position + size])
        spans += rule.spans
        position += rule.slots if spacious else size
    if taken:
        order = sorted(range(len(entries)), key=lambda place: -entries[place].weight)
        entries = [entries[place] for place in order]
        spans = [spans[place] for place in order]
    return _program(rules, entries, spans, clashes, direction)


def _program(
    rules: Sequence[Extended],
    entries: list[ExtendedAcl],
    spans: list[Span],
    clashes: list[Clash],
    direction: Direction,
) -> Program[Extended, ExtendedAcl]:
    notes = extended_notes(entries, spans, direction)
    return Program(rules, tuple(entries), tuple(clashes), tuple(notes), spans)


def _edited(
    rules: Sequence[Extended], previous: Program[Extended, ExtendedAcl], direction: Direction
) -> Program[Extended, ExtendedAcl] | None:
    """`previous` with a few rules changed that take the weights of the old ones; None if not so."""
    if previous.clashes or len(rules) != len(previous.rules):
        return None
    changed = [(old, new) for old, new in zip(previous.rules, rules, strict=True) if old is not new]
    if len(changed) > _FEW:
        return None
    entries, spans = list(previous.entries), list(previous.spans)
    for old, new in changed:
        if old.weight != new.weight or len(old.matches) != len(new.matches):
            return None
        places = _places(old, previous.entries, direction)
        if places is None:
            return None
        made = new.entries(direction, [entries[place].weight for place in places])
        for place, entry, span in zip(places, made, new.spans, strict=True):
            entries[place], spans[place] = entry, span
    return _program(rules, entries, spans, [], direction)


def _places(rule: Extended, entries: Sequence[ExtendedAcl], direction: Direction) -> list[int] | None:
    """Where the entries of one rule stand among those of its adapter; None if they are not known."""
    for made in rule.known_entries(direction):
        places = [bisect_left(entries, -entry.weight, key=lambda each: -each.weight) for entry in made]
        if all(
            place < len(entries) and entries[place] is entry
            for place, entry in zip(places, made, strict=True)
        ):
            return places
    return None


def _no_weight_left(rule: Extended, room: int, direction: Direction) -> Clash:
    return Clash(
        rule,
        None,
        f"no automatic weight is left for this rule on {{adapter}}, {direction}",
        f"the rules without a weight share the {room} free weights up to {AUTOMATIC_TOP}",
    )


def _weight_clash(rule: Extended, other: Extended, direction: Direction) -> Clash:
    def span(each: Extended) -> str:
        assert each.weight is not None  # only explicit weights clash
        low = each.weight - len(each.matches) + 1
        return (
            f"{each.weight}"
            if low == each.weight
            else f"{each.weight} to {low} ({len(each.matches)} entries)"
        )

    return Clash(
        rule,
        other,
        f"the weight of {rule.name!r} is taken on {{adapter}}, {direction}: it needs {span(rule)},"
        f" and {other.name!r} at {other.origin} has {span(other)}",
        "weights are unique for each adapter and direction",
    )


def basic_program(
    rules: Sequence[Basic], previous: Program[Basic, BasicAcl] | None = None
) -> Program[Basic, BasicAcl]:
    """Entries of the basic rules of one adapter, in file order.

    Hyper-V refuses a second entry for the same endpoint and direction (§3.3); Meter entries stand
    apart (U14). `previous` is not needed here.
    """
    clashes: list[Clash] = []
    found: list[BasicAcl] = []
    taken: dict[object, tuple[Basic, BasicAcl]] = {}
    for rule in rules:
        for entry in rule.entries:
            meter = entry.action is BasicAction.METER
            key = (meter, entry.direction, entry.side, entry.is_mac, entry.address)
            first = taken.setdefault(key, (rule, entry))
            if first[1] is entry:
                found.append(entry)
                continue
            what = "ANY" if isinstance(entry.address, AnyAddress) else str(entry.address)
            clashes.append(
                Clash(
                    rule,
                    first[0],
                    f"{entry.side} {what}, {entry.direction}, is already in the basic ACLs of {{adapter}}:"
                    f" {first[0].name!r} at {first[0].origin} has it with {first[1].action}",
                    "Hyper-V refuses the second with 0x800700B7; remove one of them",
                )
            )
            break
    return Program(rules, tuple(found), tuple(clashes), tuple(basic_notes(found)))
