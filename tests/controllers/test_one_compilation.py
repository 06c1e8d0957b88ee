"""A policy is parsed and compiled once for each apply; whoever answers questions takes the result."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.command_line import LAYOUT, POLICY
from tests.support.running_lab import RunningLab, running_lab
from vswitch.compiled import CompiledPolicy
from vswitch.pipeline import compile_site

pytestmark = pytest.mark.lab

ONCE = {"controller parses": 1, "controller compiles": 1}
QUESTION = {"source": "web02", "destination": "web01", "traffic": "http"}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT, {"policy.yaml": POLICY}, ["tests.support.counting_lab"]) as lab:
        yield lab


def ask_everything(lab: RunningLab) -> None:
    lab.call("explain", **QUESTION)
    lab.call("probe", **QUESTION)
    lab.call("probe_all", questions=[QUESTION])
    lab.call("probe_destinations", questions=[QUESTION])
    for operation in ("flows_in_words", "rule_counters", "mac_table", "status", "guests", "names", "ping"):
        lab.call(operation)


def test_a_policy_is_parsed_and_compiled_once_for_each_apply(lab: RunningLab) -> None:
    # The supervisor reads the layout to build it, before there is a controller.
    ask_everything(lab)
    assert lab.call("work_done") == ONCE | {"supervisor parses": 1}
    for number in range(2):
        lab.apply(f"# {number}\n{POLICY}")
        ask_everything(lab)
        assert lab.call("work_done") == ONCE


def test_answers_need_no_controller(lab: RunningLab) -> None:
    lab.apply(f"# before\n{POLICY}")
    before = lab.call("explain", **QUESTION)
    lab.call("work_done")
    lab.signal_controller("STOP")
    try:
        assert lab.call("explain", **QUESTION) == before
        assert lab.call("work_done") == {}, "it was known already"
    finally:
        lab.signal_controller("CONT")
    lab.apply(f"# after\n{POLICY}")
    lab.call("work_done")
    lab.signal_controller("STOP")
    try:
        ask_everything(lab)
        assert lab.call("work_done") == {"supervisor parses": 1, "supervisor compiles": 1}
    finally:
        lab.signal_controller("CONT")
    lab.restart_controller()
    ask_everything(lab)
    assert lab.call("work_done") == ONCE, "of the controller that came back alone"
    assert lab.call("controller_status")["reconciled_flows"] == 0


def test_what_is_handed_on_is_what_was_compiled(lab: RunningLab) -> None:
    site = lab.site()
    policy = CompiledPolicy(site, compile_site(site))
    with os.fdopen(policy.to_descriptor(), "rb") as file:
        found = CompiledPolicy.from_file(file)
    assert found == policy
    rules = {id(rule) for adapter in found.site.adapters for rule in (*adapter.acls, *adapter.extended_acls)}
    owned = [
        flow.rule
        for host in found.programs.values()
        for program in host.switches.values()
        for flow in program.flows.values()
        if flow.rule is not None
    ]
    assert owned
    assert all(id(rule) in rules for rule in owned), "flows lead back to the site's own entries"
