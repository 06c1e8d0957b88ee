"""Writes in order: on every state in between, no packet is treated as neither policy would."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.hyperv.entries import BasicEntry, Entry, ExtendedEntry
from vswitch.hyperv.ordering import Order, order_of, states
from vswitch.hyperv.semantic import Acls, transient
from vswitch.model.types import Action, BasicAction, Direction, Side

INBOUND, OUTBOUND = Direction

ADDRESSES = ["ANY", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"]
PORTS = ["ANY", "80", "80-90", "85-1000"]


@st.composite
def extended_entries(draw: st.DrawFn) -> ExtendedEntry:
    protocol = draw(st.sampled_from(["ANY", "TCP", "UDP", "1"]))
    action = draw(st.sampled_from(list(Action)))
    stateful = protocol in ("TCP", "UDP") and action is Action.ALLOW and draw(st.booleans())
    return ExtendedEntry(
        draw(st.sampled_from(list(Direction))),
        draw(st.integers(1, 5)),
        action,
        protocol,
        remote=draw(st.sampled_from(ADDRESSES)),
        local_port=draw(st.sampled_from(PORTS)) if protocol in ("TCP", "UDP") else "ANY",
        stateful=stateful,
        timeout=60 if stateful else 0,
    )


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


def walk(old: Acls, new: Acls) -> tuple[Order, list[Acls]]:
    """The order, checked to be possible on a host: no key twice at any moment, only what changes."""
    order = order_of(old, new)
    present: set[Entry] = {*old.extended, *old.basic}
    for step in order.steps:
        if step.add:
            assert step.entry not in present
            assert step.entry.key not in {entry.key for entry in present}
            present.add(step.entry)
        else:
            present.remove(step.entry)
        kept = (old.extended & new.extended) | (old.basic & new.basic)
        assert kept <= present
    passed = [old, *states(old, order.steps)]
    assert passed[-1] == new
    return order, passed


@given(adapters(), adapters())
def test_no_state_in_between_is_wrong_without_being_announced(old: Acls, new: Acls) -> None:
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


def test_without_room_the_traffic_at_risk_is_named() -> None:
    old = Acls.of([_deny(502)._replace(remote="10.0.0.0/8"), _allow(501, "80-90"), _deny(500)])
    new = Acls.of([_deny(502)._replace(remote="10.0.0.0/8"), _allow(501, "85-95"), _deny(500)])
    order, _ = walk(old, new)
    (exposure,) = order.exposures
    assert [str(region) for region in exposure.traffic.cuts] == [
        "IPv4, TCP, local port 85-90, remote all but 10.0.0.0/8",
        "IPv6, TCP, local port 85-90",
    ]
    assert exposure.traffic.leaks == ()
    assert (exposure.first, exposure.last) == (0, 0)


@pytest.mark.parametrize("address", ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32"])
def test_a_basic_prefix_changes_its_action_without_a_gap(address: str) -> None:
    below = BasicEntry(INBOUND, BasicAction.DENY, Side.REMOTE, "10.0.0.0/7")
    old = Acls.of([BasicEntry(INBOUND, BasicAction.ALLOW, Side.REMOTE, address), below])
    new = Acls.of([BasicEntry(INBOUND, BasicAction.DENY, Side.REMOTE, address), below])
    order, _ = walk(old, new)
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
    assert replace(order, exposures=()) == order
