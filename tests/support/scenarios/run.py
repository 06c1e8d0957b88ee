"""Take a scenario through engines step by step; whatever differs is told with what every engine saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from tests.support.scenarios.engines import AnswerSeen, Engine, FrameSeen
from tests.support.scenarios.scenario import Apply, Scenario, ScenarioQuestion, SentFrame, Step, Wait

__all__ = ["Disagreement", "run"]

#: Seconds of a scenario in which time matters that may pass unplanned between two steps.
SLACK = 0.8
ATTEMPTS = 4

Seen = AnswerSeen | FrameSeen | str | None


class Disagreement(AssertionError):
    """An engine does not see what the scenario says, or what another engine sees."""


class _Late(Exception):
    """This machine was too busy to take the steps when the scenario wants them."""


def run(scenario: Scenario, engines: Sequence[Engine], *, details: bool = True) -> None:
    """Take all steps of `scenario` on every engine. Raises Disagreement at the first step that fails.

    Where time matters and a machine that is busy with other things has let too much of it pass, the
    scenario is taken again: what was seen then says nothing.
    """
    chosen = [engine for engine in engines if engine.name not in scenario.exceptions]
    for _ in range(ATTEMPTS):
        try:
            return _Run(scenario, chosen, details).run()
        except _Late:
            continue
    raise Disagreement(f"{scenario.id}: this machine took {SLACK} s too long {ATTEMPTS} times")


class _Run:
    def __init__(self, scenario: Scenario, engines: Sequence[Engine], details: bool) -> None:
        self.scenario, self.engines, self.details = scenario, engines, details

    def run(self) -> None:
        for engine in self.engines:
            engine.begin(self.scenario)
        began = time.monotonic()
        for steps in _groups(self.scenario.steps):
            seen: dict[str, list[Seen]] = {}
            for engine in self.engines:
                if engine.name not in steps[0].exceptions:
                    seen[engine.name] = _take(engine, steps)
            planned = sum(step.seconds for step in steps if isinstance(step, Wait))
            if self.scenario.waits and time.monotonic() - began - planned > SLACK:
                raise _Late
            began = time.monotonic()
            for index, step in enumerate(steps):
                self.judge(step, {name: found[index] for name, found in seen.items()})

    def judge(self, step: Step, seen: dict[str, Seen]) -> None:
        problems = [f"{name}: {problem}" for name, each in seen.items() for problem in _problems(step, each)]
        problems += _differences(seen)
        if self.scenario.must_arrive:
            lost = [name for name, each in seen.items() if _lost(each)]
            problems += [f"{name}: a positive control, and it did not arrive" for name in lost]
        if not problems:
            return
        lines = [f"{self.scenario.id} ({self.scenario.cites})", f"  step: {step}"]
        lines += [f"  {problem}" for problem in problems]
        for name, each in seen.items():
            lines.append(f"  {name:9} saw: {each}")
        for name, each in seen.items():
            if self.details and isinstance(each, (AnswerSeen, FrameSeen)):
                lines.append(f"--- {name} in detail\n{each.details}")
        raise Disagreement("\n".join(lines))


def _lost(seen: Seen) -> bool:
    if isinstance(seen, AnswerSeen):
        return seen.denied
    return isinstance(seen, FrameSeen) and not seen.delivered


def _groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Questions that do not depend on each other may be asked at the same time."""
    group: list[Step] = []
    for step in steps:
        together = isinstance(step, ScenarioQuestion) and not step.source_port_given
        if group and not (together and step.exceptions == group[0].exceptions):
            yield group
            group = []
        if together:
            group.append(step)
        else:
            yield [step]
    if group:
        yield group


def _take(engine: Engine, steps: list[Step]) -> list[Seen]:
    questions = [step for step in steps if isinstance(step, ScenarioQuestion)]
    if questions:
        return list(engine.ask(questions))
    match steps[0]:
        case SentFrame() as sent:
            return [engine.send(sent)]
        case Wait() as wait:
            engine.wait(wait.seconds)
        case Apply(site=None) as apply:
            return [engine.refuses(apply.policy)]
        case Apply(site=site, policy=policy) if site is not None:
            engine.apply(site, policy)
    return [None]


def _problems(step: Step, seen: Seen) -> Iterator[str]:
    """Where what an engine saw is not what the scenario says."""
    match step, seen:
        case ScenarioQuestion(), AnswerSeen():
            verdict = "Deny" if seen.denied else "Refused" if seen.outcome == "refused" else "Allow"
            yield from _compare("verdict", step.verdict, verdict)
            yield from _compare("outcome", step.outcome, seen.outcome)
            if step.by and step.by not in seen.by:
                yield f"expected by {step.by}, found {list(seen.by)}"
            yield from _compare("leg", step.leg, seen.leg)
            yield from _compare("layer", step.layer, seen.layer)
            yield from _compare("assumptions", step.assumptions, seen.assumptions)
        case SentFrame(), FrameSeen():
            yield from _compare("delivered", step.delivered, seen.delivered)
            yield from _compare("drops", step.drops, seen.drops)
            yield from _compare("assumptions", step.assumptions, seen.assumptions)
            yield from _compare("limits", step.limits, seen.limits)
            low, high = step.copies
            for place, copies in seen.copies.items():
                if not low <= copies <= high:
                    yield f"expected {low} to {high} of {step.times} copies at {place}, found {copies}"
        case Apply(), str():
            if not seen:
                yield f"a policy is taken that should be refused: {step.refused}"
            elif step.refused not in seen:
                yield f"expected to be refused with {step.refused!r}"


def _compare(what: str, wanted: object, found: object) -> Iterator[str]:
    """Nothing to compare where the scenario does not say, or the engine cannot see."""
    if wanted not in (None, "", found) and found is not None:
        yield f"expected {what} {wanted}, found {found}"


def _differences(seen: dict[str, Seen]) -> Iterator[str]:
    """Engines that contradict each other, whatever the scenario says."""
    compared: dict[str, Callable[[Seen], object]] = {
        "outcomes": lambda each: each.outcome if isinstance(each, AnswerSeen) else None,
        "deliveries": lambda each: each.delivered if isinstance(each, FrameSeen) else None,
    }
    for what, look in compared.items():
        if len({look(each) for each in seen.values()}) > 1:
            yield f"the engines contradict each other about {what}"
    exact = [each for name, each in seen.items() if name != "real"]
    reasons = {
        each.by if isinstance(each, AnswerSeen) else (each.drops, each.limits)
        for each in exact
        if isinstance(each, (AnswerSeen, FrameSeen))
    }
    if len(reasons) > 1:
        yield "reference and trace give different reasons"
