"""Two engines without packets; this module has the reference, scenario_trace.py the compiled flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.support.scenarios.frames import place
from tests.support.scenarios.scenario import Scenario, ScenarioQuestion, SentFrame, load_policy
from vswitch.errors import VswitchError
from vswitch.model.site import Site
from vswitch.semantics import network
from vswitch.semantics.conversation import Conversation, converse
from vswitch.semantics.network import SiteResult, SiteState
from vswitch.semantics.verdict import DropReason, Stage

__all__ = ["AnswerSeen", "Engine", "FrameSeen", "Reference"]


@dataclass(frozen=True)
class AnswerSeen:
    """What became of a question. `by` are the names that decided: one drop, or the rules that let it pass.

    None stands for what an engine cannot see.
    """

    outcome: str
    denied: bool
    by: tuple[str, ...]
    leg: str | None = None
    layer: str | None = None
    assumptions: tuple[str, ...] | None = None
    details: str = ""

    def __str__(self) -> str:
        verdict = "Deny" if self.denied else "Allow"
        return f"{verdict} ({self.outcome}) by {list(self.by)} leg {self.leg!r} layer {self.layer!r}"


@dataclass(frozen=True)
class FrameSeen:
    """Where a frame arrived, by what its copies were dropped, what limits it counts against: each sorted.

    `copies` are how many of those of a frame that was sent several times arrived at each place.
    """

    delivered: tuple[str, ...]
    drops: tuple[str, ...]
    assumptions: tuple[str, ...] | None = None
    limits: tuple[str, ...] | None = None
    copies: Mapping[str, int] = field(default_factory=dict)
    details: str = ""

    def __str__(self) -> str:
        copies = f" {dict(self.copies)}" if self.copies else ""
        limits = f", limits {list(self.limits)}" if self.limits else ""
        return f"delivered to {list(self.delivered)}{copies}, drops {list(self.drops)}{limits}"


class Engine(Protocol):
    """Takes a scenario's steps."""

    name: str

    def begin(self, scenario: Scenario) -> None:
        """Switches that know nothing yet, with the scenario's first policy."""

    def apply(self, site: Site, policy: str) -> None:
        """The policy of `site`, whose text is `policy`, while what switches remember stays."""

    def refuses(self, policy: str) -> str:
        """What is said to a policy that must not load; "" if it is taken."""

    def ask(self, questions: list[ScenarioQuestion]) -> list[AnswerSeen]:
        """Answers to questions that do not depend on each other."""

    def send(self, sent: SentFrame) -> FrameSeen:
        """Where a frame goes."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


def _answer(talk: Conversation, details: str) -> AnswerSeen:
    decided = talk.decided_by
    if decided is None:
        by = tuple(rule.name for rule in talk.rules)
    else:
        by = (decided.drop.rule.name if decided.drop.rule else str(decided.drop.reason),)
    return AnswerSeen(
        str(talk.expected),
        str(talk.verdict) == "Deny",
        by,
        str(decided.leg) if decided else "",
        str(talk.layer) if talk.layer else "",
        tuple(sorted(talk.assumptions)),
        details,
    )


def _seen(result: SiteResult, details: str) -> FrameSeen:
    return FrameSeen(
        tuple(sorted(place(f"{e.guest}/{e.interface}", e.frame.priority) for e in result.deliveries)),
        tuple(sorted(drop.rule.name if drop.rule else str(drop.reason) for _, drop in result.drops)),
        tuple(sorted(result.assumptions)),
        tuple(
            str(DropReason.STORM_LIMIT)
            for passage in result.passages
            for step in passage.steps
            if step.stage is Stage.STORM_LIMIT
        ),
        details=details,
    )


def _together(seen: list[FrameSeen]) -> FrameSeen:
    """What became of one frame sent several times."""
    copies = Counter(place for each in seen for place in each.delivered)
    drops = tuple(sorted({drop for each in seen for drop in each.drops}))
    return replace(seen[-1], delivered=tuple(sorted(copies)), drops=drops, copies=copies)


class Reference:
    """`vswitch.semantics` as it is."""

    name = "reference"

    def begin(self, scenario: Scenario) -> None:
        self.layout = scenario.layout
        self.site, self.state, self.now = scenario.site, SiteState(), 1000.0

    def apply(self, site: Site, policy: str) -> None:
        self.site, self.state = site, self.state.for_site_change(site)

    def refuses(self, policy: str) -> str:
        try:
            load_policy(self.layout, policy)
        except VswitchError as error:
            return str(error)
        return ""

    def ask(self, questions: list[ScenarioQuestion]) -> list[AnswerSeen]:
        return [self._ask(question) for question in questions]

    def _ask(self, question: ScenarioQuestion) -> AnswerSeen:
        talk = converse(
            self.site, question.source, question.destination, question.traffic, self.state,
            version=question.version, now=self.now,
        )  # fmt: skip
        self.state = talk.state
        hops = [hop for leg in talk.legs for hop in leg.hops]
        return _answer(talk, "\n".join(_words(hop.result) for hop in hops))

    def send(self, sent: SentFrame) -> FrameSeen:
        seen = [self._send(sent) for _ in range(sent.times)]
        return _together(seen) if sent.times > 1 else seen[0]

    def _send(self, sent: SentFrame) -> FrameSeen:
        result = network.send(self.site, sent.guest, sent.interface, sent.frame, self.state, self.now)
        self.state = result.state
        return _seen(result, _words(result))

    def wait(self, seconds: float) -> None:
        self.now += seconds


def _words(result: SiteResult) -> str:
    lines = [str(result.frame)]
    for passage in result.passages:
        lines += [f"  {passage.place}: {step.stage}: {step.text}" for step in passage.steps]
    return "\n".join(lines)
