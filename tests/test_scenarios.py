"""Scenarios on three engines: the reference, the compiled flows traced, and real packets in a lab.

An engine that sees something else than the scenario says, or than another engine, is a failure that
prints what each of them saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.scenarios.engines import AnswerSeen, FrameSeen, Reference
from tests.support.scenarios.lab import LabPool
from tests.support.scenarios.run import Disagreement, run
from tests.support.scenarios.scenario import (
    ENGINES,
    Scenario,
    ScenarioQuestion,
    SentFrame,
    controls,
    load_all,
)
from tests.support.scenarios.trace import FlowTrace, TracedSwitches

SCENARIOS = load_all()
WITH_CONTROLS = [*SCENARIOS, *controls(SCENARIOS)]
WITH_CONTROLS.sort(key=lambda each: [s.layout for s in SCENARIOS].index(each.layout))


@pytest.fixture(scope="module")
def switches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedSwitches]:
    with TracedSwitches(tmp_path_factory.mktemp("ovs")) as running:
        yield running


@pytest.fixture(scope="module")
def labs() -> Iterator[LabPool]:
    pool = LabPool()
    yield pool
    pool.close()


class Mistaken(Reference):
    """An engine that stands for real packets which went another way."""

    name = "real"

    def ask(self, questions: list[ScenarioQuestion]) -> list[AnswerSeen]:
        return [replace(seen, outcome="filtered", denied=True) for seen in super().ask(questions)]

    def send(self, sent: SentFrame) -> FrameSeen:
        return replace(super().send(sent), delivered=("nobody/eth0",))


@pytest.mark.ovs
@pytest.mark.parametrize("kind", [ScenarioQuestion, SentFrame])
def test_a_disagreement_prints_all_three(kind: type, switches: TracedSwitches) -> None:
    scenario = next(
        replace(each, steps=(step,))
        for each in SCENARIOS
        for step in each.steps
        if isinstance(step, kind) and getattr(step, "verdict", "Allow") == "Allow"
    )
    with pytest.raises(Disagreement) as caught:
        run(scenario, [Reference(), FlowTrace(switches), Mistaken()])
    told = str(caught.value)
    assert "the engines contradict each other" in told
    assert f"step: {scenario.steps[0]}" in told
    assert all(f"--- {name} in detail" in told for name in ENGINES)


@pytest.mark.ovs
@pytest.mark.parametrize("scenario", WITH_CONTROLS, ids=lambda each: each.id)
def test_reference_and_flows(scenario: Scenario, switches: TracedSwitches) -> None:
    run(scenario, [Reference(), FlowTrace(switches)])


@pytest.mark.lab
@pytest.mark.parametrize("scenario", WITH_CONTROLS, ids=lambda each: each.id)
def test_all_engines(scenario: Scenario, switches: TracedSwitches, labs: LabPool) -> None:
    if "real" in scenario.exceptions:
        pytest.skip(f"not with real packets: {scenario.exceptions['real']}")
    run(scenario, [Reference(), FlowTrace(switches), labs.lab(scenario.layout)])
