"""Writes in order: on every state in between, no packet is treated as neither policy would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host.random_entries import ADDRESSES, extended_entries
from vswitch.acl_entries import Acls, BasicEntry, Entry, ExtendedEntry
from vswitch.compare.acl_diff import transient
from vswitch.hyperv.planning.ordering import Order, order_of, states
from vswitch.model.types import Action, BasicAction, Direction, Side

INBOUND, OUTBOUND = Direction


@st.composite
def basic_entries(draw: st.DrawFn) -> BasicEntry:
    addresses = ["ANY MAC", "00-15-5D-00-00-01", "0.0.0.0/0", "::/0", *ADDRESSES[1:]]
    address = draw(st.sampled_from(addresses))
    actions = [BasicAction.ALLOW, BasicAction.DENY]
    if "-" not in address and "MAC" not in address:
        actions.append(BasicAction.METER)
    return BasicEntry(
        draw(st.sampled_from(list(Direction))),
        draw(st.sampled_from(actions)),
        draw(st.sampled_from(list(Side))),
        address,
    )


@st.composite
def adapters(draw: st.DrawFn) -> Acls:
    extended = draw(st.lists(extended_entries(), max_size=6, unique_by=lambda entry: entry.key))
    basic = draw(st.lists(basic_entries(), max_size=3, unique_by=lambda entry: entry.key))
    return Acls(frozenset(extended), frozenset(basic))


def walk(old: Acls, new: Acls, fixed: frozenset[Entry] = frozenset()) -> tuple[Order, list[Acls]]:
    """The order, checked to be possible on a host: no key twice at any moment, `fixed` always there."""
    order = order_of(old, new, fixed)
    present: set[Entry] = {*old.extended, *old.basic}
    for step in order.steps:
        if step.add:
            assert step.entry not in present
            assert step.entry.key not in {entry.key for entry in present}
            present.add(step.entry)
        else:
            present.remove(step.entry)
        assert fixed <= present
    passed = [old, *states(old, order.steps)]
    assert passed[-1] == new
    return order, passed


@given(adapters(), adapters())
def test_no_state_in_between_is_wrong_without_being_announced(old: Acls, new: Acls) -> None:
    """By the comparison that the ordering uses itself; test_ordering_reference.py judges by the reference."""
    order, passed = walk(old, new)
    for index, between in enumerate(passed[1:]):
        for direction in Direction:
            wrong = transient(old, between, new, direction)
            said = [
                exposure.traffic
                for exposure in order.exposures
                if exposure.first <= index <= exposure.last and exposure.traffic.direction is direction
            ]
            assert said == ([wrong] if wrong else [])


@given(st.lists(extended_entries(), max_size=7, unique_by=lambda entry: entry.weight), st.data())
def test_with_free_weights_nothing_is_exposed(old: list[ExtendedEntry], data: st.DataObject) -> None:
    """Weights ten apart and one direction: whatever changes, there is a safe order."""

    def spaced(entries: list[ExtendedEntry]) -> Acls:
        return Acls.of(replace_weight(entry) for entry in entries)

    def replace_weight(entry: ExtendedEntry) -> ExtendedEntry:
        return entry._replace(weight=entry.weight * 100, direction=INBOUND)

    new = data.draw(st.lists(extended_entries(), max_size=7, unique_by=lambda entry: entry.weight))
    order, _ = walk(spaced(old), spaced(new))
    assert order.exposures == ()


def _allow(weight: int, port: str) -> ExtendedEntry:
    return ExtendedEntry(INBOUND, weight, Action.ALLOW, "TCP", local_port=port)


def _deny(weight: int = 1) -> ExtendedEntry:
    return ExtendedEntry(INBOUND, weight, Action.DENY)


def test_a_weight_that_is_reused_gets_a_stand_in() -> None:
    old, new = Acls.of([_allow(500, "80-90"), _deny()]), Acls.of([_allow(500, "85-95"), _deny()])
    order, _ = walk(old, new)
    assert order.exposures == ()
    assert [(step.add, step.entry.weight, step.stand_in) for step in order.steps] == [  # type: ignore[union-attr]
        (True, 65535, True),
        (False, 500, False),
        (True, 500, False),
        (False, 65535, True),
    ]


WALL = [_deny(502)._replace(remote="10.0.0.0/8"), _deny(500)]


@pytest.mark.parametrize("highest", [502, 65535])
def test_neighbours_make_room_where_there_is_none(highest: int) -> None:
    """Upwards by a copy, downwards (nothing is above 65535) by a way round for the neighbour."""
    up = highest - 502
    wall = [entry._replace(weight=entry.weight + up) for entry in WALL]
    old, new = (Acls.of([*wall, _allow(501 + up, port)]) for port in ("80-90", "85-95"))
    order, _ = walk(old, new)
    assert order.exposures == ()


def test_entries_of_others_are_no_room_and_the_traffic_at_risk_is_named() -> None:
    """At the very top, between two foreign entries."""
    theirs = [entry._replace(weight=entry.weight + 65033) for entry in WALL]
    old, new = (Acls.of([*theirs, _allow(65534, port)]) for port in ("80-90", "85-95"))
    order, passed = walk(old, new, frozenset(theirs))
    assert all(frozenset(theirs) <= state.extended for state in passed)
    (exposure,) = order.exposures
    assert [str(region) for region in exposure.traffic.cuts] == [
        "IPv4, TCP, local port 85-90, remote all but 10.0.0.0/8",
        "IPv6, TCP, local port 85-90",
    ]
    assert exposure.traffic.leaks == ()
    assert (exposure.first, exposure.last) == (0, 0)


def test_no_stand_in_passes_an_entry_that_cannot_be_read() -> None:
    """It may do anything: above it, a stand-in would decide what it decided."""
    old, new = (Acls.of([_allow(500, port), _deny()]) for port in ("80-90", "85-95"))
    order = order_of(old, new, walls=frozenset({(INBOUND, 600), (INBOUND, 400), (OUTBOUND, 450)}))
    (stand_in,) = {step.entry for step in order.steps if step.stand_in}
    assert isinstance(stand_in, ExtendedEntry)
    assert stand_in.weight == 599
    tight = order_of(old, new, walls=frozenset({(INBOUND, 501), (INBOUND, 499)}))
    assert not any(step.stand_in for step in tight.steps)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("lowest", [1, 500, 65436])
def test_a_hundred_conflicting_weights_without_a_gap(lowest: int, kept: bool) -> None:
    def entries(change: int) -> Acls:
        return Acls.of(
            ExtendedEntry(
                INBOUND,
                lowest + index,
                Action.ALLOW if index % 2 else Action.DENY,
                "TCP",
                local_port=f"{1000 + index}-{2000 + index + (change if index % 2 or not kept else 0)}",
            )
            for index in range(100)
        )

    order, _ = walk(entries(0), entries(1))
    assert order.exposures == ()


def test_a_part_waits_half_way_where_two_change_places() -> None:
    """What a basic entry denied an extended one does, and the reverse: neither can go first as a whole."""
    old = Acls.of([_deny(9)._replace(remote="10.1.0.0/16"), _basic_deny("10.2.0.0/16")])
    new = Acls.of([_deny(9)._replace(remote="10.2.0.0/16"), _basic_deny("10.1.0.0/16")])
    order, _ = walk(old, new)
    assert order.exposures == ()


def _basic_deny(address: str) -> BasicEntry:
    return BasicEntry(INBOUND, BasicAction.DENY, Side.REMOTE, address)


@pytest.mark.parametrize("address", ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "00-15-5D-00-00-01"])
def test_a_basic_entry_changes_its_action_in_two_writes(address: str) -> None:
    below = BasicEntry(INBOUND, BasicAction.DENY, Side.REMOTE, "10.0.0.0/7")
    old = Acls.of([BasicEntry(INBOUND, BasicAction.ALLOW, Side.REMOTE, address), below])
    new = Acls.of([BasicEntry(INBOUND, BasicAction.DENY, Side.REMOTE, address), below])
    order, _ = walk(old, new)
    assert len(order.steps) == 2
    assert order.exposures == ()


def test_directions_change_in_the_order_that_cuts_no_answers() -> None:
    """Answers that passed by a rule before and pass by state afterwards must pass all the time."""
    opens = ExtendedEntry(OUTBOUND, 10, Action.ALLOW, "TCP", stateful=True, timeout=60)
    old = Acls.of([ExtendedEntry(OUTBOUND, 10, Action.ALLOW, "TCP"), _allow(10, "ANY"), _deny(1)])
    new = Acls.of([opens, _deny(1)])
    order, _ = walk(old, new)
    assert order.exposures == ()
    assert order.steps[0].entry.direction is OUTBOUND


def test_rules_that_stay_are_never_written() -> None:
    common = [_allow(weight, str(weight)) for weight in range(100, 140)]
    old, new = Acls.of([*common, _deny()]), Acls.of([*common, _deny(2)])
    order, _ = walk(old, new)
    assert [step.entry for step in order.steps] == [_deny(2), _deny()]
    assert order.exposures == ()
