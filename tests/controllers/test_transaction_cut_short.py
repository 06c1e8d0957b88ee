"""Applies whose controller ends on the way, and switches that fall silent: what the next one makes of it."""

from __future__ import annotations

import pytest

from tests.support.running_lab import wait_until
from tests.support.transaction_rig import FIRST, LAYOUT, NEW, OLD, SWITCHES, TransactionRig, fail, live
from vswitch.controller.transaction import Transactions
from vswitch.errors import (
    InForceUnknown,
    NotInForce,
    SwitchTimeout,
)
from vswitch.inforce import Record, held_mark
from vswitch.model import load_site
from vswitch.pipeline import MARK_COOKIE, compile_site, mark_of


class Killed(BaseException):
    """The controller's end, at the point where it is raised."""


def kill(rig: TransactionRig, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an apply of NEW die at this point; only threads that end by themselves are left of it."""
    name, _, step = point.partition(" ")
    switch = rig.switches.get(name)

    def die(*args: object) -> None:
        raise Killed

    def die_at(what: str) -> None:
        if what == step.removeprefix("after "):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rig.transactions, "workers", 1)  # one switch after the other
        if switch is None:
            patch.setattr(Record, name, die)
        elif step.startswith("after "):
            switch.after = die_at
        else:
            switch.before = die_at
        if point.startswith("hv01") and step.endswith("bundle"):
            rig.switches["hv02"].before = die_at  # it dies with the other thread
        with pytest.raises(Killed):
            rig.apply(NEW)
    for each in rig.switches.values():
        each.before = each.after = lambda step: None


def come_back(rig: TransactionRig) -> list[str]:
    """Another controller, which every switch connects to; what it did to the switches' flows."""
    for switch in rig.switches.values():
        switch.said.clear()
    rig.transactions = Transactions(rig.rundir)
    for datapath_id in SWITCHES:
        rig.transactions.connected(datapath_id)
    return [name for name, switch in rig.switches.items() if switch.said]


@pytest.mark.parametrize(
    ("point", "holds", "written"),
    [
        ("begin", OLD, []),
        ("hv01 zones", OLD, []),
        ("hv01 bundle", OLD, []),
        ("hv01 after bundle", OLD, ["hv01"]),
        ("hv02 bundle", OLD, ["hv01"]),
        ("hv02 after bundle", NEW, []),
        ("hv01 settle", NEW, []),
        ("commit", NEW, []),
        ("hv01 connections", NEW, []),
    ],
)
def test_an_apply_cut_short_is_wholly_in_force_or_not_at_all(
    rig: TransactionRig, monkeypatch: pytest.MonkeyPatch, point: str, holds: str, written: list[str]
) -> None:
    live(rig, "hv01")
    kill(rig, point, monkeypatch)
    assert come_back(rig) == written, "what is right is not written again"
    assert [path.name for path in rig.rundir.glob("*.json")] == ["site.json"]
    assert len(rig.switches["hv01"].live) == (holds == OLD), "sessions end with their rule, and only then"
    rig.assert_holds(holds)


def test_an_apply_that_was_being_taken_back_is_taken_back(
    rig: TransactionRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if every switch has taken the new policy: somebody may have been told that it is not in force."""
    rig.switches["hv02"].after = fail("bundle", times=1)

    def die(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Transactions, "_compare_all", die)
        with pytest.raises(Killed):
            rig.apply(NEW)
    assert come_back(rig) == ["hv01", "hv02"]
    rig.assert_holds(OLD)


def test_what_a_silent_switch_had_received_is_found_when_it_is_carried_out(
    rig: TransactionRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle whose sender was ended takes effect after the switch was found to be right."""
    switch = rig.switches["hv02"]
    late: list[str] = []

    def silent(step: str) -> None:
        if step == "bundle":
            raise SwitchTimeout("no answer")

    def wake(seconds: float) -> None:
        switch.before = lambda step: None
        if late:
            switch.bundle("br0", late.pop())

    real = switch.bundle

    def bundle(bridge: str, lines: str) -> None:
        if not late:
            late.append(lines)
        real(bridge, lines)

    switch.before = silent
    monkeypatch.setattr(switch, "bundle", bundle, raising=False)
    monkeypatch.setattr("time.sleep", wake)
    with pytest.raises(NotInForce, match="still in force everywhere: no answer"):
        rig.apply(NEW)
    monkeypatch.undo()
    assert held_mark(switch, "br0") == held_mark_of(rig, OLD)  # type: ignore[arg-type]


def held_mark_of(rig: TransactionRig, text: str) -> int:
    """The mark that hv02 has under this policy."""
    site = load_site("l.yaml", ("p.yaml",), read={"l.yaml": LAYOUT, "p.yaml": text}.__getitem__)
    return mark_of(compile_site(site)["hv02"].switches["br0"].flows)


def test_a_switch_in_doubt_is_put_right_without_being_asked(rig: TransactionRig) -> None:
    dead = rig.switches["hv02"]
    dead.after = fail("bundle", times=1)
    dead.before = fail("counters", times=3)
    with pytest.raises(InForceUnknown, match="except perhaps on hv02/vs"):
        rig.apply(NEW)
    assert (rig.rundir / "undoing.json").exists()
    wait_until(lambda: not (rig.rundir / "undoing.json").exists(), "the apply is taken back")
    rig.assert_holds(OLD)


def test_the_mark_of_a_switch_is_put_right_by_itself(rig: TransactionRig) -> None:
    counted = rig.transactions.reconciled_flows
    rig.switches["hv01"].held[MARK_COOKIE] = "actions=write_metadata:0x1"
    rig.transactions.connected(FIRST)
    assert rig.transactions.reconciled_flows == counted
    rig.assert_holds(OLD)
