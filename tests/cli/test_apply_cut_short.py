"""Applies that are cut short, by anybody: what is said of them is what flows and packets show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Ran, Run
from tests.support.halting import DEFAULT_PATIENCE
from tests.support.hanging import hung
from tests.support.pair_of_hosts import LAYOUT
from tests.support.running_lab import RunningLab, running_lab, wait_until
from vswitch.cli import applying
from vswitch.cli.output import Output
from vswitch.errors import BusyError, InForceUnknown, NotInForce
from vswitch.lab.process import client
from vswitch.wire import NoAnswer

pytestmark = pytest.mark.lab

#: The second lets a reach b by HTTP, the first does not; each changes both hosts.
CLOSED = """
extended_acls:
  - {name: closed, adapters: [a, b, c], direction: Inbound, action: Deny, weight: 1}
  - {name: back, adapters: [a, c], direction: Inbound, action: Allow, protocol: TCP, weight: 2}
"""
OPEN = """
extended_acls:
  - {name: web, adapters: [b, c], direction: Inbound, action: Allow, protocol: TCP, local_port: 80,
     weight: 9, stateful: true}
"""
POLICIES = {"closed.yaml": CLOSED, "open.yaml": OPEN}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT, {"closed.yaml": CLOSED}, extensions=["tests.support.halting"]) as lab:
        yield lab


def apply(lab: RunningLab, name: str) -> str:
    """Apply this policy; how the apply ended, in one word."""
    try:
        report = lab.call("apply", policies=[name], texts={name: POLICIES[name]})
    except NotInForce:
        return "old"
    except InForceUnknown:
        return "unknown"
    return str(report["in_force"])


def in_force(lab: RunningLab) -> str:
    """The policy in force by what the lab says of itself, after having compared that with all there is."""
    (name,) = lab.call("sources")["policies"]
    lab.policies = {name: POLICIES[name]}
    assert lab.cookies() == lab.fresh_cookies(), "the flows are those of the policy the lab names"
    status = lab.call("status")
    assert status["files"] == ["lab.yaml", name]
    assert status["in_force"] == {"policies": [name], "apply": None}
    rules = {entry["name"] for entry in lab.call("rule_counters") if entry["where"]}
    assert rules == ({"web"} if name == "open.yaml" else {"closed", "back"})
    outcome = lab.probe("a", "b", "http", patience=0.4)
    assert outcome == ("open" if name == "open.yaml" else "filtered"), "and the packets do as it says"
    return str(name)


def other(name: str) -> str:
    return "open.yaml" if name == "closed.yaml" else "closed.yaml"


@contextmanager
def asking(lab: RunningLab) -> Iterator[list[dict[str, Any]]]:
    """Ask who decides, again and again, while the block lasts; every answer has to be of one policy."""
    answers: list[dict[str, Any]] = []
    over: list[bool] = []

    def ask() -> None:
        while not over:
            try:
                answers.append(lab.call("explain", source="a", destination="b", traffic="http"))
            except BusyError:
                continue
            assert answers[-1]["agrees"], answers[-1]
            status = lab.call("status")
            assert status["in_force"]["policies"] or status["in_force"]["apply"], "nothing is kept secret"

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        try:
            yield answers
        finally:
            over.append(True)
            asked.result(30)


@pytest.mark.parametrize(
    ("point", "ends"),
    [
        ("asked", "old"),
        ("begun", "old"),
        ("bundled 0", "old"),
        ("bundled 1", "new"),
        ("commit", "new"),
        ("sessions", "new"),
    ],
)
def test_an_apply_whose_controller_is_killed_ends_as_it_says(lab: RunningLab, point: str, ends: str) -> None:
    before = in_force(lab)
    restarts = lab.call("status")["restarts"]["controller"]
    lab.call("halt", what="kill", point=point)
    with asking(lab) as answers:
        assert apply(lab, other(before)) == ends
    assert answers
    assert in_force(lab) == (before if ends == "old" else other(before))
    assert lab.call("status")["restarts"]["controller"] == restarts + 1


def test_what_a_killed_controller_had_begun_comes_about_no_more(lab: RunningLab) -> None:
    """The program that sends the flows outlives the controller, and the switch takes them when it can."""
    before = in_force(lab)
    vswitchd = lab.call("status")["processes"]["ovs-vswitchd of hv02"]
    lab.call("halt", what="hold", point="bundle 1")
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(apply, lab, other(before))
        wait_until(lambda: bool(lab.call("is_held")), "the first switch has taken it")
        assert held(lab) == {"hv01/vs": "new", "hv02/vs": "old"}
        lab.inside("kill", "-STOP", str(vswitchd))
        try:
            lab.call("go_on")
            wait_until(lambda: "add-flows" in senders(lab), "the second is being sent its flows")
            lab.signal_controller("KILL")
            wait_until(lambda: "add-flows" not in senders(lab), "what was sending has ended too")
        finally:
            lab.inside("kill", "-CONT", str(vswitchd))
        assert outcome.result(60) == "old"
    assert in_force(lab) == before


def senders(lab: RunningLab) -> str:
    """The command lines of what is talking to switches."""
    return lab.inside("sh", "-c", "pgrep -ax ovs-ofctl || true")


def held(lab: RunningLab) -> dict[str, str]:
    """What the switches hold while an apply is under way."""
    under_way = lab.call("apply_status")["apply"]
    return dict(under_way["switches"]) if under_way else {}


def test_a_switch_that_hangs_longer_than_the_controller_waits(lab: RunningLab) -> None:
    before = in_force(lab)
    vswitchd = lab.call("status")["processes"]["ovs-vswitchd of hv02"]
    lab.inside("kill", "-STOP", str(vswitchd))
    try:
        assert apply(lab, other(before)) == "unknown"
        status = lab.call("apply_status", policies=[other(before)], texts=POLICIES)
        assert (status["in_force"], status["policies"]) == ("unknown", None)
        assert status["apply"] == {
            "policies": [other(before)],
            "taken_back": True,
            "switches": {"hv01/vs": "old", "hv02/vs": "unknown"},
        }
    finally:
        lab.inside("kill", "-CONT", str(vswitchd))
    wait_until(lambda: lab.call("apply_status")["apply"] is None, "it is taken back without being asked")
    assert in_force(lab) == before


# ------------------------------------------------------------------ the command


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in POLICIES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def vswitch(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from vswitch.cli.entry import main; main()", *words]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@contextmanager
def held_up(lab: RunningLab, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command `vswitch apply` while one of two switches has taken the policy, until the block ends."""
    lab.call("halt", what="hold", point="bundle 1")
    process = vswitch("apply", name, "--lab", lab.name, *options)
    try:
        wait_until(lambda: bool(lab.call("is_held")), "the apply is half done")
        yield process
    finally:
        lab.call("go_on")
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "status", "options"),
    [("SIGINT", 130, ()), ("SIGTERM", 143, ("-o", "json")), ("SIGKILL", -signal.SIGKILL, ())],
)
def test_an_apply_nobody_waits_for_any_more_says_how_to_find_out(
    lab: RunningLab, run: Run, name: str, status: int, options: tuple[str, ...]
) -> None:
    new = other(in_force(lab))
    with held_up(lab, new, *options) as process:
        os.kill(process.pid, getattr(signal, name))
        began = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 10
        assert process.returncode == status
        asked = run("apply", "--status", "--lab", lab.name, new)
        assert asked.status == 3
        assert "hv01/vs: the new policy" in asked.out
        assert "hv02/vs: the old policy" in asked.out
        assert f"an apply of {new} is under way" in run("ps", "--lab", lab.name).out
    if options:
        assert json.loads(out)["in_force"] == "unknown"
    if name != "SIGKILL":
        assert "not in force on every switch yet, and the lab goes on with it" in out + err
        assert f"vswitch apply --status --lab {lab.name} {new}" in out + err
    wait_until(lambda: lab.call("apply_status")["apply"] is None, "the apply has ended")
    assert run("apply", "--status", "--lab", lab.name, new) == Ran(0, f"in force: {new}\n", "")
    assert run("apply", "--status", "--lab", lab.name, other(new)).status == 1
    assert in_force(lab) == new


@pytest.mark.usefixtures("files")
def test_an_apply_that_takes_longer_than_one_waits_is_not_known_and_then_in_force(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = other(in_force(lab))
    real = client.call
    pending: list[Future[Any]] = []

    def impatient(name: str, op: str, **args: Any) -> Any:
        """Ends the wait for the apply itself while it is half done."""
        if op != "apply":
            return real(name, op, **args)
        pending.append(pool.submit(real, name, op, **args))
        wait_until(lambda: bool(lab.call("is_held")), "the apply is half done")
        time.sleep(DEFAULT_PATIENCE + 0.2)  # longer than the lab waits for the controller to answer others
        raise NoAnswer("the lab has not answered in time")

    with ThreadPoolExecutor(1) as pool:
        lab.call("halt", what="hold", point="bundle 1")
        monkeypatch.setattr(client, "call", impatient)
        try:
            with pytest.raises(InForceUnknown) as raised:
                applying.apply_policies(lab.name, [new], {new: POLICIES[new]}, lambda _: None, Output.TEXT)
        finally:
            monkeypatch.undo()
            lab.call("go_on")
    assert raised.value.exit_status == 3
    assert f"vswitch apply --status --lab {lab.name} {new}" in raised.value.hint
    assert pending[0].result(30)["in_force"] == "new"
    assert in_force(lab) == new


@pytest.mark.usefixtures("files")
def test_the_outcome_is_part_of_the_json(lab: RunningLab, run: Run, files: Path) -> None:
    def outcome(*words: str) -> tuple[int, str]:
        ran = run("apply", *words, "--lab", lab.name, "-o", "json")
        return ran.status, ran.json["in_force"]

    name = in_force(lab)
    assert outcome(name) == (0, "new")
    (files / "bad.yaml").write_text("extended_acls: [{nmae: x}]\n")
    assert outcome("bad.yaml") == (2, "old")
    lab.call("halt", what="kill", point="begin")
    assert outcome(other(name)) == (1, "old")
    status = run("apply", "--status", "--lab", lab.name, "-o", "json")
    assert (status.status, status.json) == (0, {"schema": 1, "policies": [name], "apply": None})
    lab.call("halt", what="kill", point="commit")
    ran = run("apply", other(name), "--lab", lab.name)
    assert (ran.status, ran.out) == (0, "in force, though the controller ended during the apply\n")
    assert run("apply", "--lab", lab.name).status == 2


def test_the_mark_of_a_switch_is_no_flow_to_users(lab: RunningLab) -> None:
    assert "table=40" in lab.ofctl(0, "dump-flows")
    assert all(flow["table"] != 40 for flow in lab.call("flows")["hv01/vs"])
    held = {f"{flow['cookie']:#x}" for flow in lab.call("flows")["hv01/vs"]}
    assert {flow["cookie"] for flow in lab.call("flows_in_words")["hv01/vs"]} == held
    assert lab.call("counters")["hv01/vs"].keys() == held


def test_what_a_hung_lab_has_in_force_is_not_known(
    lab: RunningLab, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWITCH_SILENCE_TIMEOUT", "1")
    with hung(lab.name):
        for words in (("open.yaml",), ()):
            process = vswitch("apply", "--status", "--lab", lab.name, *words)
            _, said = process.communicate(timeout=60)
            assert (process.returncode, "in force is not known" in said) == (3, True), said
            assert "VSWITCH_SILENCE_TIMEOUT" in said
