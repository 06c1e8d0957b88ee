"""Policies put on the adapters of a site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from vswitch.model.problems import Report, did_you_mean
from vswitch.model.resolving.adapter_names import Targets
from vswitch.model.resolving.layout_resolver import Bare
from vswitch.model.resolving.memo import Context
from vswitch.model.resolving.policy_expansion import Policy
from vswitch.model.resolving.port_settings import unfiltered_note
from vswitch.model.resolving.programs import Program, basic_program, extended_program
from vswitch.model.resolving.rules import Basic, Extended, Lane
from vswitch.model.resolving.suspicious import MANY_ENTRIES, Note, denies_discovery
from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl, Guest
from vswitch.model.types import Direction, DropReason

__all__ = ["DROP_REASONS", "Assembly", "assemble"]

R = TypeVar("R", bound=Extended | Basic)
E = TypeVar("E", bound=ExtendedAcl | BasicAcl)

#: What `by` of an expectation may name beside rules: reasons (§8) that can decide a verdict.
DROP_REASONS = frozenset(DropReason) - {
    DropReason.ACL,  # the rule is named
    DropReason.QOS,  # a limit decides no verdict
    DropReason.OWN_PORT,
    DropReason.NOT_CONNECTED,
    DropReason.PHYSICAL_VLAN,
}


@dataclass(frozen=True, slots=True)
class Assembly:
    """Guests with the ACLs of all policies, and warnings in file order."""

    guests: tuple[Guest, ...]
    warnings: tuple[str, ...]


def assemble(
    bare: Bare,
    context: Context,
    policies: Sequence[Policy],
    files: Sequence[str],
    report: Report,
    *,
    expected: bool,
) -> Assembly:
    """Give each adapter its entries. Mistakes that only show there go to `report`.

    `files` orders the warnings. `expected`: these are the layout's own policies, so its
    expectations are about them.
    """
    extended = [rule for policy in policies for rule in policy.extended]
    basic = [rule for policy in policies for rule in policy.basic]
    names = _check_names([*extended, *basic], report)
    lanes = _lanes(extended)
    layers: dict[Direction, _Layer[Extended, ExtendedAcl]] = {
        direction: _Layer(
            extended,
            _of_direction(lanes, direction),
            partial(extended_program, direction=direction),
            context.extended[direction],
        )
        for direction in Direction
    }
    plain: _Layer[Basic, BasicAcl] = _Layer(
        basic, {targets: lane for (targets, _), lane in _lanes(basic).items()}, basic_program, context.basic
    )
    notes = _Notes(report)
    guests: list[Guest] = []
    index = 0
    for guest in bare.guests:
        adapters: list[Adapter] = []
        for adapter in guest.adapters:
            inbound = layers[Direction.INBOUND].program(index)
            outbound = layers[Direction.OUTBOUND].program(index)
            acls = plain.program(index)
            notes.extended(adapter, Direction.INBOUND, inbound)
            notes.extended(adapter, Direction.OUTBOUND, outbound)
            notes.basic(adapter, acls)
            count = len(inbound.entries) + len(outbound.entries) + len(acls.entries)
            if count and adapter.virtual_function:
                notes.found.add(unfiltered_note(adapter, count))
            adapters.append(context.adapter(index, adapter, inbound, outbound, acls))
            index += 1
        guests.append(context.guest(guest, tuple(adapters)))
    for direction, layer in layers.items():
        context.extended[direction] = layer.programs
    context.basic = plain.programs
    found = notes.found | set(_expected_by(bare, names) if expected else ())
    order = {file: position for position, file in enumerate(files)}
    warnings = sorted(found, key=lambda note: (order[note.origin.file], note))
    return Assembly(tuple(guests), tuple(map(str, warnings)))


def _of_direction(lanes: dict[Lane, list[int]], direction: Direction) -> dict[Targets, list[int]]:
    """Indexes of the rules of one direction by their adapters, ascending."""
    found: dict[Targets, list[int]] = {}
    for (targets, directions), places in lanes.items():
        if direction in directions:
            found[targets] = sorted(found[targets] + places) if targets in found else places
    return found


def _lanes(rules: Sequence[Extended | Basic]) -> dict[Lane, list[int]]:
    """Indexes of the rules with the same adapters and directions."""
    found: dict[Lane, list[int]] = defaultdict(list)
    for index, rule in enumerate(rules):
        found[rule.lane].append(index)
    return found


class _Layer(Generic[R, E]):
    """The rules of one kind and direction, and the program of each adapter made from them."""

    def __init__(
        self,
        rules: Sequence[R],
        lanes: dict[Targets, list[int]],
        make: Callable[[Sequence[R], Program[R, E] | None], Program[R, E]],
        previous: dict[tuple[Targets, ...], Program[R, E]],
    ) -> None:
        self.rules = rules
        self.lanes = lanes
        self.make = make
        self.previous = previous
        self.programs: dict[tuple[Targets, ...], Program[R, E]] = {}
        self.applying: dict[int, list[Targets]] = defaultdict(list)
        for targets in lanes:
            for index in targets.indexes:
                self.applying[index].append(targets)

    def program(self, adapter: int) -> Program[R, E]:
        """The entries of one adapter, by its index."""
        key = tuple(self.applying.get(adapter, ()))
        program = self.programs.get(key)
        if program is None:
            places = (
                self.lanes[key[0]] if len(key) == 1 else sorted(i for each in key for i in self.lanes[each])
            )
            rules = [self.rules[place] for place in places]
            program = self.previous.get(key)
            if program is None or program.rules != rules:
                program = self.make(rules, program)
            self.programs[key] = program
        return program


class _Notes:
    """Collects the mistakes and warnings of programs, each once."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.found: set[Note] = set()
        self._seen: set[tuple[object, ...]] = set()

    def first(self, *key: object) -> bool:
        """Whether this is the first time for `key`."""
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def basic(self, adapter: Adapter, program: Program[R, E]) -> None:
        """Take what a program says about itself; `adapter` is one it is for."""
        if not self.first(id(program)):
            return
        for clash in program.clashes:
            if self.first(clash.rule, clash.other):
                self.report.append(clash.error(adapter.id))
        self.found.update(note for note in program.notes if self.first(note.origin, note.kind))

    def extended(
        self, adapter: Adapter, direction: Direction, program: Program[Extended, ExtendedAcl]
    ) -> None:
        """The same for extended entries, and what shows only together with the adapter."""
        self.basic(adapter, program)
        count = len(program.entries)
        if count > MANY_ENTRIES:
            sentence = f"{adapter.id!r} has {count} extended entries {direction}"
            self.found.add(Note(adapter.origin, f"{sentence}; more than {MANY_ENTRIES} are unusual"))
        addresses = (*adapter.addresses, *(each for _, tagged in adapter.tagged_addresses for each in tagged))
        if count and any(address.version == 6 for address in addresses):
            entry = denies_discovery(program.entries)
            if entry is not None and self.first("discovery", entry.name, direction):
                self.found.add(
                    Note(
                        entry.origin,
                        f"{entry.name!r} denies IPv6 neighbour discovery {direction} on {adapter.id!r},"
                        " which has an IPv6 address; allow protocol ICMPv6 above it",
                    )
                )


def _check_names(rules: Sequence[Extended | Basic], report: Report) -> set[str]:
    """All rule names; two rules of one name are a mistake."""
    names = {rule.name for rule in rules}
    if len(names) != len(rules):
        first: dict[str, Extended | Basic] = {}
        for rule in rules:
            other = first.setdefault(rule.name, rule)
            if other is not rule:
                report.add(
                    rule.origin,
                    f"the rule name {rule.name!r} is taken",
                    f"reports tell rules apart by name, across all policies; see {other.origin}",
                )
    return names


def _expected_by(bare: Bare, names: set[str]) -> list[Note]:
    """Warnings about expectations that name neither a rule nor a reason."""
    found: list[Note] = []
    for expectation in bare.expectations:
        if expectation.by and expectation.by not in names and expectation.by not in DROP_REASONS:
            guess = did_you_mean(expectation.by, [*names, *sorted(DROP_REASONS)])
            text = f"`by: {expectation.by}` is neither a rule nor a drop reason"
            found.append(Note(expectation.origin, f"{text}; {guess}" if guess else text))
    return found
