"""Applies when switches refuse, fall silent or come back: what is in force afterwards."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.support.transaction_rig import (
    FIRST,
    LAYOUT,
    NEW,
    OLD,
    SECOND,
    SWITCHES,
    TransactionRig,
    fail,
    live,
)
from vswitch.controller import transaction
from vswitch.controller.transaction import Transactions
from vswitch.errors import (
    BusyError,
    InForceUnknown,
    InputErrors,
    LabError,
    NotInForce,
    SessionsLeft,
    SwitchError,
)
from vswitch.inforce import Record


def test_an_apply_replaces_what_is_there(rig: TransactionRig) -> None:
    report = rig.apply(NEW)
    rig.assert_holds(NEW)
    # The Deny, the Stateful Allow, and the look-ups of the new zone for each IP family and direction.
    assert {change["switch"] for change in report["switches"]} == set(SWITCHES.values())
    assert report["flows_changed"] == sum(max(c["added"], c["removed"]) for c in report["switches"])


@pytest.mark.parametrize("step", ["bundle", "settle", "zones"])
@pytest.mark.parametrize("name", ["hv01", "hv02"])
def test_a_switch_that_refuses_leaves_the_old_policy_everywhere(
    rig: TransactionRig, name: str, step: str
) -> None:
    rig.switches[name].before = fail(step, times=1)
    with pytest.raises(SwitchError, match=rf"the old policy is still in force everywhere: no {step} today"):
        rig.apply(NEW)
    rig.assert_holds(OLD)
    rig.apply(NEW)
    rig.assert_holds(NEW)


def test_a_bundle_that_took_effect_without_an_answer_is_put_back(rig: TransactionRig) -> None:
    rig.switches["hv01"].after = fail("bundle", times=1)
    with pytest.raises(SwitchError, match="still in force everywhere"):
        rig.apply(NEW)
    rig.assert_holds(OLD)


def test_a_switch_that_falls_silent_is_put_right_before_the_next_apply(rig: TransactionRig) -> None:
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


def test_a_switch_in_doubt_that_connects_again_is_put_right(rig: TransactionRig) -> None:
    dead = rig.switches["hv02"]
    dead.after = fail("bundle", times=1)
    dead.before = fail("counters", times=1)
    with pytest.raises(InForceUnknown, match="except perhaps"):
        rig.apply(NEW)
    rig.transactions.disconnected(SECOND)
    rig.transactions.connected(SECOND)
    rig.assert_holds(OLD)


@pytest.mark.parametrize("step", ["begin", "commit"])
def test_a_full_disk_leaves_the_old_policy(
    rig: TransactionRig, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(self: object, *args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Record, step, full)
        with pytest.raises(NotInForce, match="No space left on device"):
            rig.apply(NEW)
    rig.assert_holds(OLD)


def test_a_broken_policy_reaches_no_switch(rig: TransactionRig) -> None:
    before = [switch.bundles for switch in rig.switches.values()]
    with pytest.raises(InputErrors, match="actoin"):
        rig.apply("extended_acls:\n  - {name: x, adapters: a, direction: Inbound, actoin: Deny}\n")
    assert [switch.bundles for switch in rig.switches.values()] == before
    rig.assert_holds(OLD)


def test_a_switch_that_is_not_connected_is_said(rig: TransactionRig) -> None:
    rig.transactions.disconnected(SECOND)
    with pytest.raises(SwitchError, match=r"nothing was changed: not connected: hv02/vs"):
        rig.apply(NEW)
    assert rig.transactions.status().missing == ("hv02/vs",)
    with pytest.raises(SwitchError, match=r"hv02/vs"):
        rig.transactions.wait_ready(0.01)
    rig.transactions.connected(SECOND)
    rig.transactions.wait_ready(0.01)
    rig.assert_holds(OLD)


def test_sessions_end_with_their_rule_and_are_counted(rig: TransactionRig) -> None:
    live(rig, "hv01")
    live(rig, "hv02")
    assert rig.apply(OLD.replace("talk", "renamed"))["sessions_ended"] == 0
    assert rig.apply(NEW)["sessions_ended"] == 2
    assert not rig.switches["hv01"].live


def test_sessions_end_when_another_adapter_takes_their_zone(tmp_path: Path, rig: TransactionRig) -> None:
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
    meeting = TransactionRig(Transactions(tmp_path), rig.switches, tmp_path)
    meeting.transactions.connected(FIRST)
    before = meeting.transactions._programs["hv01"].zones
    live(meeting, "hv01")

    report = meeting.apply(both)

    assert meeting.transactions._programs["hv01"].zones.keys() > before.keys()
    assert report["sessions_ended"] == 1
    assert not rig.switches["hv01"].live


def test_sessions_without_a_mark_are_nobodys_rule(rig: TransactionRig) -> None:
    live(rig, "hv01", mark=0)
    assert rig.apply(NEW)["sessions_ended"] == 0


def test_sessions_that_cannot_be_ended_are_said_and_ended_by_the_next_apply(rig: TransactionRig) -> None:
    live(rig, "hv01")
    rig.switches["hv01"].before = fail("flush", times=1)
    with pytest.raises(SessionsLeft, match=r"the new policy is in force, but sessions of rules now gone"):
        rig.apply(NEW)
    assert rig.in_force() == NEW
    rig.apply(NEW)
    assert not rig.switches["hv01"].live
    rig.assert_holds(NEW)


def test_no_session_ends_when_an_apply_fails(rig: TransactionRig) -> None:
    live(rig, "hv01")
    rig.switches["hv02"].before = fail("bundle", times=1)
    with pytest.raises(SwitchError, match="still in force everywhere"):
        rig.apply(NEW)
    assert len(rig.switches["hv01"].live) == 1


def test_reconnecting_rewrites_only_what_is_wrong(rig: TransactionRig) -> None:
    counted = rig.transactions.reconciled_flows
    bundles = rig.switches["hv01"].bundles
    rig.transactions.connected(FIRST)
    assert (rig.transactions.reconciled_flows, rig.switches["hv01"].bundles) == (counted, bundles)
    del rig.switches["hv01"].held[min(rig.switches["hv01"].flows())]
    rig.switches["hv01"].held[0xBAD] = "not ours"
    rig.transactions.connected(FIRST)
    assert rig.transactions.reconciled_flows == counted + 1
    rig.assert_holds(OLD)


def test_reconnecting_puts_meters_before_flows_and_takes_them_away_after(
    tmp_path: Path, rig: TransactionRig
) -> None:
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


def test_a_switch_nobody_knows_is_refused(rig: TransactionRig) -> None:
    with pytest.raises(LabError, match="0x63"):
        rig.transactions.connected(99)


def test_a_controller_that_comes_back_knows_what_is_in_force(rig: TransactionRig) -> None:
    rig.apply(NEW)
    again = Transactions(rig.rundir)
    for datapath_id in SWITCHES:
        again.connected(datapath_id)
    assert again.reconciled_flows == 0
    assert again.status().policies == ("p.yaml",)


def test_texts_of_policies_no_longer_in_force_are_forgotten(rig: TransactionRig) -> None:
    for number in range(5):
        rig.transactions.apply([f"{number}.yaml"], {f"{number}.yaml": NEW})
    data = json.loads((rig.rundir / "site.json").read_text())
    assert data["texts"].keys() == {"l.yaml", "4.yaml"}


def test_a_second_apply_waits_for_the_first(rig: TransactionRig) -> None:
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
    rig: TransactionRig, monkeypatch: pytest.MonkeyPatch
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
