"""Many entries with contiguous weights: the order of their writes is found soon, and exposes nothing."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host.random_entries import extended_entries
from vswitch.acl_entries import Acls, ExtendedEntry
from vswitch.compare.acl_diff import overlaps
from vswitch.hyperv.planning.conflicts import Conflicts
from vswitch.hyperv.planning.detour import detour
from vswitch.hyperv.planning.ordering import order_of
from vswitch.model.types import Action, Direction

HIGHEST = 60_000


def policy(count: int, seed: int) -> list[ExtendedEntry]:
    """Overlapping Allow and Deny entries of one direction, without a gap between their weights."""
    draw = random.Random(seed)
    found = []
    for index in range(count):
        protocol, port = draw.choice(["ANY", "TCP", "UDP"]), draw.randrange(1, 2000)
        found.append(
            ExtendedEntry(
                Direction.INBOUND,
                HIGHEST - index,
                draw.choice(list(Action)),
                protocol,
                draw.choice(["ANY", "192.168.0.0/16", f"192.168.{draw.randrange(4)}.0/24"]),
                draw.choice(["ANY", f"10.{draw.randrange(4)}.0.0/16", f"10.0.{draw.randrange(8)}.0/24"]),
                "ANY" if protocol == "ANY" else f"{port}-{port + draw.randrange(2000)}",
            )
        )
    return found


def acls(entries: list[ExtendedEntry]) -> Acls:
    return Acls.of(entries)


@given(st.lists(extended_entries(), max_size=12, unique_by=lambda entry: entry[1:]))
def test_conflicts_are_those_by_definition(entries: list[ExtendedEntry]) -> None:
    """Whatever is compared at once is what comparing two by two gives."""
    entries = [entry._replace(direction=Direction.INBOUND) for entry in entries]
    conflicts = Conflicts(entries)
    for entry in entries:
        by_definition = [
            other
            for other in entries
            if overlaps(entry, other)
            and (other.action, other.stateful and other.action is Action.ALLOW)
            != (entry.action, entry.stateful and entry.action is Action.ALLOW)
        ]
        assert conflicts.of(entry) == by_definition


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kept", [2, 5])
def test_all_but_a_few_replaced_in_place_expose_nothing(seed: int, kept: int) -> None:
    """Those that stay are in the way both upwards and downwards; above all there is room."""
    old, new = policy(80, seed), policy(80, 100 + seed)
    for place in random.Random(seed).sample(range(80), kept):
        new[place] = old[place]
    order = order_of(acls(old), acls(new))
    assert order.exposures == ()
    assert {step.entry for step in order.steps if not step.add} >= set(old) - set(new)


def test_nothing_goes_above_an_entry_that_cannot_be_read() -> None:
    old, new = policy(80, 0), policy(80, 100)
    new[20], new[60] = old[20], old[60]
    free = detour(frozenset(old), frozenset(new), frozenset())
    assert max(entry.weight for entry in free) == 65_535
    walled = detour(frozenset(old), frozenset(new), frozenset(), {HIGHEST + 1})
    assert max(entry.weight for entry in walled) <= HIGHEST


@pytest.mark.parametrize("share", [7, 2, 1])
def test_a_thousand_contiguous_weights_take_seconds_at_most(share: int) -> None:
    old, other = policy(1000, 1), policy(1000, 2)
    new = [other[index] if index % share == 0 else old[index] for index in range(1000)]
    begun = time.process_time()
    order = order_of(acls(old), acls(new))
    assert time.process_time() - begun < 20
    assert order.exposures == ()
