"""Applies when switches refuse, fall silent or come back: what is in force afterwards."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controllers import transaction
from controllers.transaction import Transactions
from tests.support.running_lab import wait_until
from vswitch.errors import (
    BusyError,
    InForceUnknown,
    InputErrors,
    LabError,
    NotInForce,
    SessionsLeft,
    SwitchError,
    SwitchTimeout,
)
from vswitch.inforce import Record, held_mark
from vswitch.model import load_site
from vswitch.openvswitch import Connection
from vswitch.pipeline import LEARNED_COOKIE, MARK_COOKIE, MARK_TABLE, compile_site, mark_of

LAYOUT = """
name: pair
networks: {lan: {}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan}}
    vms: {a: {adapters: [{switch: vs, addresses: [10.0.0.1/24]}]}}
  hv02:
    switches: {vs: {type: External, network: lan}}
    vms: {b: {adapters: [{switch: vs, addresses: [10.0.0.2/24]}]}}
"""
OLD = """
extended_acls:
  - {name: old, adapters: [a, b], direction: Inbound, action: Deny, remote_ip_address: 10.0.0.9, weight: 9}
  - {name: talk, adapters: [a, b], direction: Inbound, action: Allow, protocol: TCP, local_port: 80,
     remote_ip_address: 10.0.0.7, weight: 20, stateful: true, idle_session_timeout: 30}
"""
NEW = """
extended_acls:
  - {name: new, adapters: [a, b], direction: Inbound, action: Deny, remote_ip_address: 10.0.0.8, weight: 9}
  - {name: other, adapters: [a, b], direction: Inbound, action: Allow, protocol: TCP, local_port: 81,
     remote_ip_address: 10.0.0.7, weight: 20, stateful: true, idle_session_timeout: 60}
"""
FIRST, SECOND = 0x1_0001, 0x2_0001  # datapath ids
SWITCHES = {FIRST: "hv01/vs", SECOND: "hv02/vs"}


@dataclass
class FakeSwitch:
    """An Open vSwitch in words: holds cookies, zones and connections, and fails where it is told to."""

    held: dict[int, str] = field(default_factory=dict)
    zones: dict[int, int] = field(default_factory=dict)
    live: list[Connection] = field(default_factory=list)
    held_meters: dict[int, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)  # commands that changed meters, and bundles
    bundles: int = 0
    before: Callable[[str], None] = lambda what: None  # before anything is done
    after: Callable[[str], None] = lambda what: None  # after a bundle took effect

    def match_fragments(self, bridge: str) -> None:
        assert bridge == "br0"

    def meters(self, bridge: str) -> dict[int, str]:
        assert bridge == "br0"
        return dict(self.held_meters)

    def change_meters(self, bridge: str, changes: Iterable[tuple[str, str]]) -> None:
        assert bridge == "br0"
        for command, text in changes:
            self.before("meters")
            self.said.append(command)
            number = int(text.partition(",")[0].removeprefix("meter="))
            if command == "del-meter":
                del self.held_meters[number]
            else:
                assert (number in self.held_meters) == (command == "mod-meter")
                self.held_meters[number] = text

    def set_zone_timeouts(self, zones: Mapping[int, int]) -> None:
        self.before("zones")
        self.zones = dict(zones)

    def counters(self, bridge: str) -> dict[int, tuple[int, int]]:
        assert bridge == "br0"
        self.before("counters")
        return dict.fromkeys((*self.held, LEARNED_COOKIE), (0, 0))

    def dump_flows(self, bridge: str, table: int) -> list[Any]:
        assert (bridge, table) == ("br0", MARK_TABLE)
        self.before("mark")
        actions = self.held.get(MARK_COOKIE, "").partition("actions=")[2]
        return [SimpleNamespace(cookie=MARK_COOKIE, actions=actions)] if actions else []

    def flows(self) -> set[int]:
        """The cookies it holds, the mark's left out."""
        return set(self.held) - {MARK_COOKIE}

    def bundle(self, bridge: str, lines: str) -> None:
        assert bridge == "br0"
        self.before("bundle")
        self.bundles += 1
        self.said.append("bundle")
        for line in lines.splitlines():
            verb, rest = line.split(" ", 1)
            match = re.search(r"cookie=(0x[0-9a-f]+)", rest)
            assert match
            cookie = int(match[1], 16)
            if verb == "delete":
                self.held.pop(cookie, None)
            else:
                self.held[cookie] = rest
        self.after("bundle")

    def settle(self) -> None:
        self.before("settle")

    def connections(self) -> list[Connection]:
        self.before("connections")
        return list(self.live)

    def flush_connections(self, zone: int, unwanted: Callable[[Connection], bool]) -> int:
        self.before("flush")
        ended = [c for c in self.live if c.zone == zone and unwanted(c)]
        self.live = [c for c in self.live if c not in ended]
        return len(ended)


@dataclass
class Rig:
    transactions: Transactions
    switches: dict[str, FakeSwitch]
    rundir: Path

    def apply(self, text: str) -> Any:
        return self.transactions.apply(["p.yaml"], {"p.yaml": text}).as_dict()

    def in_force(self) -> str:
        """The policy a controller would find when it comes back."""
        data = json.loads((self.rundir / "site.json").read_text())
        return str(data["texts"]["p.yaml"])

    def assert_holds(self, text: str) -> None:
        """Every switch, and the controller's memory of them, is as after a fresh start with this policy."""
        site = load_site("l.yaml", ("p.yaml",), read={"l.yaml": LAYOUT, "p.yaml": text}.__getitem__)
        for name, program in compile_site(site).items():
            assert self.switches[name].flows() == program.switches["br0"].flows.keys(), name
            assert held_mark(self.switches[name], "br0") == mark_of(program.switches["br0"].flows), name  # type: ignore[arg-type]
            assert self.switches[name].zones == program.zones, name
        assert self.in_force() == text
        assert self.apply(text)["flows_changed"] == 0


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Two switches that hold the policy OLD."""
    made: dict[str, FakeSwitch] = {}
    monkeypatch.setattr(transaction, "_PAUSE", 0.01)
    monkeypatch.setattr(transaction, "_SECOND_LOOK", 0.01)
    monkeypatch.setattr(
        transaction, "SwitchClient", lambda path: made.setdefault(f"hv0{int(path.name) + 1}", FakeSwitch())
    )
    sources = {"layout": "l.yaml", "texts": {"l.yaml": LAYOUT, "p.yaml": OLD}, "policies": ["p.yaml"]}
    (tmp_path / "site.json").write_text(json.dumps(sources))
    transactions = Transactions(tmp_path)
    for datapath_id in SWITCHES:
        transactions.connected(datapath_id)
    rig = Rig(transactions, made, tmp_path)
    rig.assert_holds(OLD)
    return rig


def fail(*steps: str, times: int = 1000) -> Callable[[str], None]:
    """Something that raises SwitchError at these steps, so many times."""
    left = [times]

    def hook(step: str) -> None:
        if step in steps and left[0]:
            left[0] -= 1
            raise SwitchError(f"no {step} today", hint="look at its log")

    return hook


def test_an_apply_replaces_what_is_there(rig: Rig) -> None:
    report = rig.apply(NEW)
    rig.assert_holds(NEW)
    # The Deny, the Stateful Allow, and the look-ups of the new zone for each IP family and direction.
    assert {change["switch"] for change in report["switches"]} == set(SWITCHES.values())
    assert report["flows_changed"] == sum(max(c["added"], c["removed"]) for c in report["switches"])


@pytest.mark.parametrize("step", ["bundle", "settle", "zones"])
@pytest.mark.parametrize("name", ["hv01", "hv02"])
def test_a_switch_that_refuses_leaves_the_old_policy_everywhere(rig: Rig, name: str, step: str) -> None:
    rig.switches[name].before = fail(step, times=1)
    with pytest.raises(SwitchError, match=rf"the old policy is still in force everywhere: no {step} today"):
        rig.apply(NEW)
    rig.assert_holds(OLD)
    rig.apply(NEW)
    rig.assert_holds(NEW)


def test_a_bundle_that_took_effect_without_an_answer_is_put_back(rig: Rig) -> None:
    rig.switches["hv01"].after = fail("bundle", times=1)
    with pytest.raises(SwitchError, match="still in force everywhere"):
        rig.apply(NEW)
    rig.assert_holds(OLD)


def test_a_switch_that_falls_silent_is_put_right_before_the_next_apply(rig: Rig) -> None:
    dead = rig.switches["hv02"]
    dead.after = fail("bundle", times=1)

    def silent(step: str) -> None:
        if step == "counters":
            raise SwitchError("no answer")

    dead.before = silent
    with pytest.raises(InForceUnknown, match=r"still in force, except perhaps on hv02/vs: no bundle today"):
        rig.apply(NEW)
    assert rig.in_force() == OLD

    with pytest.raises(SwitchError, match=r"nothing was changed: hv02/vs does not answer"):
        rig.apply(OLD)

    dead.before = lambda step: None
    rig.apply(OLD)
    rig.assert_holds(OLD)


def test_a_switch_in_doubt_that_connects_again_is_put_right(rig: Rig) -> None:
    dead = rig.switches["hv02"]
    dead.after = fail("bundle", times=1)
    dead.before = fail("counters", times=1)
    with pytest.raises(InForceUnknown, match="except perhaps"):
        rig.apply(NEW)
    rig.transactions.disconnected(SECOND)
    rig.transactions.connected(SECOND)
    rig.assert_holds(OLD)


@pytest.mark.parametrize("step", ["begin", "commit"])
def test_a_full_disk_leaves_the_old_policy(rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(self: object, *args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Record, step, full)
        with pytest.raises(NotInForce, match="No space left on device"):
            rig.apply(NEW)
    rig.assert_holds(OLD)


def test_a_broken_policy_reaches_no_switch(rig: Rig) -> None:
    before = [switch.bundles for switch in rig.switches.values()]
    with pytest.raises(InputErrors, match="actoin"):
        rig.apply("extended_acls:\n  - {name: x, adapters: a, direction: Inbound, actoin: Deny}\n")
    assert [switch.bundles for switch in rig.switches.values()] == before
    rig.assert_holds(OLD)


def test_a_switch_that_is_not_connected_is_said(rig: Rig) -> None:
    rig.transactions.disconnected(SECOND)
    with pytest.raises(SwitchError, match=r"nothing was changed: not connected: hv02/vs"):
        rig.apply(NEW)
    assert rig.transactions.status()["missing"] == ["hv02/vs"]
    with pytest.raises(SwitchError, match=r"hv02/vs"):
        rig.transactions.wait_ready(0.01)
    rig.transactions.connected(SECOND)
    rig.transactions.wait_ready(0.01)
    rig.assert_holds(OLD)


def live(rig: Rig, name: str, mark: int | None = None) -> None:
    """Give a switch a live session of the policy in force, or one with this mark."""
    program = rig.transactions._programs[name]
    ((zone, own),) = program.marks
    rig.switches[name].live.append(
        Connection(zone, "tcp", "10.0.0.7", "10.0.0.1", 1, 80, own if mark is None else mark, 30, "", "")
    )


def test_sessions_end_with_their_rule_and_are_counted(rig: Rig) -> None:
    live(rig, "hv01")
    live(rig, "hv02")
    assert rig.apply(OLD.replace("talk", "renamed"))["sessions_ended"] == 0
    assert rig.apply(NEW)["sessions_ended"] == 2
    assert not rig.switches["hv01"].live


def test_sessions_end_when_another_adapter_takes_their_zone(tmp_path: Path, rig: Rig) -> None:
    """The zones of these two have the same digest: the first one in the layout has it if both need one."""
    layout = """
name: meeting
hosts:
  hv01:
    switches: {vs: {type: Private}}
    vms:
      vm151: {adapters: [{name: nic, switch: vs, addresses: [10.0.0.1/24]}]}
      vm163: {adapters: [{name: nic, switch: vs, addresses: [10.0.0.2/24]}]}
"""
    policy = """
extended_acls:
  - {name: talk, adapters: [WHO], direction: Inbound, action: Allow, protocol: TCP, local_port: 80,
     remote_ip_address: 10.0.0.7, weight: 20, stateful: true, idle_session_timeout: 255}
"""
    alone, both = policy.replace("WHO", "vm163"), policy.replace("WHO", "vm151, vm163")
    sources = {"layout": "l.yaml", "texts": {"l.yaml": layout, "p.yaml": alone}, "policies": ["p.yaml"]}
    (tmp_path / "site.json").write_text(json.dumps(sources))
    meeting = Rig(Transactions(tmp_path), rig.switches, tmp_path)
    meeting.transactions.connected(FIRST)
    before = meeting.transactions._programs["hv01"].zones
    live(meeting, "hv01")

    report = meeting.apply(both)

    assert meeting.transactions._programs["hv01"].zones.keys() > before.keys()
    assert report["sessions_ended"] == 1
    assert not rig.switches["hv01"].live


def test_sessions_without_a_mark_are_nobodys_rule(rig: Rig) -> None:
    live(rig, "hv01", mark=0)
    assert rig.apply(NEW)["sessions_ended"] == 0


def test_sessions_that_cannot_be_ended_are_said_and_ended_by_the_next_apply(rig: Rig) -> None:
    live(rig, "hv01")
    rig.switches["hv01"].before = fail("flush", times=1)
    with pytest.raises(SessionsLeft, match=r"the new policy is in force, but sessions of rules now gone"):
        rig.apply(NEW)
    assert rig.in_force() == NEW
    rig.apply(NEW)
    assert not rig.switches["hv01"].live
    rig.assert_holds(NEW)


def test_no_session_ends_when_an_apply_fails(rig: Rig) -> None:
    live(rig, "hv01")
    rig.switches["hv02"].before = fail("bundle", times=1)
    with pytest.raises(SwitchError, match="still in force everywhere"):
        rig.apply(NEW)
    assert len(rig.switches["hv01"].live) == 1


def test_reconnecting_rewrites_only_what_is_wrong(rig: Rig) -> None:
    counted = rig.transactions.reconciled_flows
    bundles = rig.switches["hv01"].bundles
    rig.transactions.connected(FIRST)
    assert (rig.transactions.reconciled_flows, rig.switches["hv01"].bundles) == (counted, bundles)
    del rig.switches["hv01"].held[min(rig.switches["hv01"].flows())]
    rig.switches["hv01"].held[0xBAD] = "not ours"
    rig.transactions.connected(FIRST)
    assert rig.transactions.reconciled_flows == counted + 1
    rig.assert_holds(OLD)


def test_reconnecting_puts_meters_before_flows_and_takes_them_away_after(tmp_path: Path, rig: Rig) -> None:
    switch = rig.switches["hv01"]
    limited = LAYOUT.replace("[10.0.0.1/24]", "[10.0.0.1/24], storm_limit: 10")
    text = "meter=3,pktps,burst,band=type=drop,rate=10,burst_size=10"

    def connect(layout: str) -> list[str]:
        """What a controller that starts with this layout does to the switch."""
        sources = {"layout": "l.yaml", "texts": {"l.yaml": layout, "p.yaml": OLD}, "policies": ["p.yaml"]}
        (tmp_path / "site.json").write_text(json.dumps(sources))
        switch.said.clear()
        Transactions(tmp_path).connected(FIRST)
        return switch.said

    assert connect(limited) == ["add-meter", "bundle"]
    assert switch.held_meters == {3: text}
    assert connect(limited) == []
    assert connect(limited.replace("storm_limit: 10", "storm_limit: 20")) == ["mod-meter"]
    switch.held_meters[99] = "not ours"
    assert connect(limited) == ["mod-meter", "del-meter"]
    assert switch.held_meters == {3: text}
    assert connect(LAYOUT) == ["bundle", "del-meter"]
    assert switch.held_meters == {}


def test_a_switch_nobody_knows_is_refused(rig: Rig) -> None:
    with pytest.raises(LabError, match="0x63"):
        rig.transactions.connected(99)


def test_a_controller_that_comes_back_knows_what_is_in_force(rig: Rig) -> None:
    rig.apply(NEW)
    again = Transactions(rig.rundir)
    for datapath_id in SWITCHES:
        again.connected(datapath_id)
    assert again.reconciled_flows == 0
    assert again.status()["policies"] == ["p.yaml"]


def test_texts_of_policies_no_longer_in_force_are_forgotten(rig: Rig) -> None:
    for number in range(5):
        rig.transactions.apply([f"{number}.yaml"], {f"{number}.yaml": NEW})
    data = json.loads((rig.rundir / "site.json").read_text())
    assert data["texts"].keys() == {"l.yaml", "4.yaml"}


def test_a_second_apply_waits_for_the_first(rig: Rig) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def hook(step: str) -> None:
        if step == "bundle":
            under_way.set()
            assert go_on.wait(10)

    rig.switches["hv01"].before = hook
    first = threading.Thread(target=rig.apply, args=(NEW,))
    first.start()
    assert under_way.wait(10)
    second = threading.Thread(target=rig.apply, args=(OLD,))
    second.start()
    second.join(0.05)
    assert second.is_alive()
    go_on.set()
    first.join(10)
    second.join(10)
    rig.assert_holds(OLD)


def test_a_second_apply_is_refused_when_the_first_takes_too_long(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def hook(step: str) -> None:
        if step == "bundle":
            under_way.set()
            assert go_on.wait(10)

    monkeypatch.setattr(transaction, "_PATIENCE", 0.01)
    rig.switches["hv01"].before = hook
    first = threading.Thread(target=rig.apply, args=(NEW,))
    first.start()
    assert under_way.wait(10)
    with pytest.raises(BusyError, match="another apply is still under way"):
        rig.apply(OLD)
    go_on.set()
    first.join(10)
    rig.assert_holds(NEW)


# ------------------------------------------------------------------ cut short


class Killed(BaseException):
    """The controller's end, at the point where it is raised."""


def kill(rig: Rig, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def come_back(rig: Rig) -> list[str]:
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
    rig: Rig, monkeypatch: pytest.MonkeyPatch, point: str, holds: str, written: list[str]
) -> None:
    live(rig, "hv01")
    kill(rig, point, monkeypatch)
    assert come_back(rig) == written, "what is right is not written again"
    assert [path.name for path in rig.rundir.glob("*.json")] == ["site.json"]
    assert len(rig.switches["hv01"].live) == (holds == OLD), "sessions end with their rule, and only then"
    rig.assert_holds(holds)


def test_an_apply_that_was_being_taken_back_is_taken_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
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
    rig: Rig, monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.setattr(transaction.time, "sleep", wake)
    with pytest.raises(NotInForce, match="still in force everywhere: no answer"):
        rig.apply(NEW)
    monkeypatch.undo()
    assert held_mark(switch, "br0") == held_mark_of(rig, OLD)  # type: ignore[arg-type]


def held_mark_of(rig: Rig, text: str) -> int:
    """The mark that hv02 has under this policy."""
    site = load_site("l.yaml", ("p.yaml",), read={"l.yaml": LAYOUT, "p.yaml": text}.__getitem__)
    return mark_of(compile_site(site)["hv02"].switches["br0"].flows)


def test_a_switch_in_doubt_is_put_right_without_being_asked(rig: Rig) -> None:
    dead = rig.switches["hv02"]
    dead.after = fail("bundle", times=1)
    dead.before = fail("counters", times=3)
    with pytest.raises(InForceUnknown, match="except perhaps on hv02/vs"):
        rig.apply(NEW)
    assert (rig.rundir / "undoing.json").exists()
    wait_until(lambda: not (rig.rundir / "undoing.json").exists(), "the apply is taken back")
    rig.assert_holds(OLD)


def test_the_mark_of_a_switch_is_put_right_by_itself(rig: Rig) -> None:
    counted = rig.transactions.reconciled_flows
    rig.switches["hv01"].held[MARK_COOKIE] = "actions=write_metadata:0x1"
    rig.transactions.connected(FIRST)
    assert rig.transactions.reconciled_flows == counted
    rig.assert_holds(OLD)
