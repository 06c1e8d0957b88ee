"""`vswitch test`: prove every expectation of a layout with real packets.

The lab is started without any policy first: there, traffic that the policy is to deny has to get
through, or the Deny would prove nothing. Then the policies are applied and everything is asked. A
Deny that no policy makes (a VLAN, a private VLAN, no route) has no such control; for it the
destination has to answer the same traffic at its own address when it asks itself, and where a switch
drops it, the counter of the drop has to move.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from vswitch.errors import NoSuchLab
from vswitch.lab.process import client
from vswitch.model.site import Expectation, Site
from vswitch.patience import Patience
from vswitch.semantics.conversation import Conversation, converse_range

__all__ = ["Proof", "prove"]

_PASSED = {"Allow": ("open", "delivered"), "Refused": ("refused",)}
_REACHED = ("open", "refused", "delivered")
_EACH = 10.0  # seconds that a question may take where many are asked at once
_EXTENSIONS = ("vswitch.diagnose.question_operations",)


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of one expectation. `seconds` is not the probe's share alone but its phase's."""

    layout: str
    name: str
    where: str
    passed: bool
    message: str
    expected: str
    outcome: str
    evidence: Sequence[Any]
    control: Any = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def prove(
    layout: str,
    site: Site,
    texts: dict[str, str],
    *,
    name: str,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[Proof], dict[str, float]]:
    """Start a lab `name` for `layout`, prove its expectations, take it down.

    `site` is the layout with its policies, `texts` the texts of all its files by path. Returns the
    proofs and how long each phase took, in seconds. Raises what keeps the lab from running.
    """
    times: dict[str, float] = {}
    policies = list(site.files[1:])
    started = time.monotonic()

    def lap(phase: str) -> None:
        nonlocal started
        now = time.monotonic()
        times[phase] = round(now - started, 3)
        started = now

    sources = {"layout": layout, "texts": texts, "policies": []}
    client.start(name, sources, extensions=_EXTENSIONS, progress=progress, attached=True)
    try:
        lap("up")
        questions = [_question(expectation) for expectation in site.expectations]
        answers = [_answers(site, expectation) for expectation in site.expectations]
        controls = _controls(name, site, [_decisive(talks) for talks in answers], questions)
        lap("control")
        client.call(name, "apply", policies=policies, texts=texts)
        client.call(name, "forget")
        lap("apply")
        reports = _ask(name, "probe_all", questions) if questions else []
        lap("proof")
    except KeyboardInterrupt:
        client.kill(name)  # without asking it: who has pressed Ctrl-C waits for nothing
        raise
    finally:
        with suppress(NoSuchLab):  # it has ended by itself: what is being raised says why
            client.down(name)
        lap("down")
    return [
        _judge(layout, expectation, talks, found, control)
        for expectation, talks, found, control in zip(
            site.expectations, answers, reports, controls, strict=True
        )
    ], times


def _ask(name: str, operation: str, questions: list[dict[str, Any]]) -> Any:
    patience = Patience.from_environment().longer(_EACH * len(questions))
    return client.call(name, operation, within=patience, questions=questions)


def _question(expectation: Expectation) -> dict[str, Any]:
    return {
        "source": expectation.source,
        "destination": expectation.destination,
        "traffic": str(expectation.traffic),
    }


def _answers(site: Site, expectation: Expectation) -> list[Conversation]:
    """The reference's answers: one, or for a range of ports as many as there are different ones."""
    parts = converse_range(site, expectation.source, expectation.destination, expectation.traffic)
    return [answer for _, answer in parts]


def _decisive(talks: Sequence[Conversation]) -> Conversation:
    """The answer that tells how to prove a range: the first that a switch denied, if any."""
    return next((talk for talk in talks if talk.decided_by), talks[0])


def _controls(
    name: str, site: Site, answers: Sequence[Conversation], questions: Sequence[dict[str, Any]]
) -> list[Any]:
    """For each expected Deny what shows that it proves something; None for other expectations.

    By an ACL: the same traffic without policies. Else: the destination, asked by itself.
    """
    by_acl: list[int] = []
    by_structure: list[int] = []
    for index, (talk, expectation) in enumerate(zip(answers, site.expectations, strict=True)):
        if expectation.verdict == "Deny":
            decided = talk.decided_by
            (by_acl if decided is not None and decided.drop.rule else by_structure).append(index)
    found: list[Any] = [None] * len(answers)
    for operation, indexes in (("probe_all", by_acl), ("probe_destinations", by_structure)):
        if indexes:
            reports = _ask(name, operation, [questions[index] for index in indexes])
            for index, report in zip(indexes, reports, strict=True):
                found[index] = report
    return found


def _judge(
    layout: str,
    expectation: Expectation,
    talks: Sequence[Conversation],
    reports: Sequence[Any],
    control: Any,
) -> Proof:
    outcomes = sorted({report["outcome"] for report in reports})
    problem = _problem(expectation, talks, reports, outcomes, control)
    asked = f"{expectation.source} -> {expectation.destination} {expectation.traffic}"
    return Proof(
        layout=layout,
        name=f"{asked}: {expectation.verdict}",
        where=str(expectation.origin),
        passed=not problem,
        message=problem,
        expected=expectation.verdict,
        outcome=", ".join(outcomes),
        evidence=reports,
        control=control,
    )


def _problem(
    expectation: Expectation,
    talks: Sequence[Conversation],
    reports: Sequence[Any],
    outcomes: Sequence[str],
    control: Any,
) -> str:
    """Why the expectation is not proven; "" if it is."""
    details = "; ".join(dict.fromkeys(str(report["detail"]) for report in reports))
    talk = _decisive(talks)
    if expectation.verdict in _PASSED:
        if any(outcome not in _PASSED[expectation.verdict] for outcome in outcomes):
            seen = ", ".join(outcomes)
            return f"expected {expectation.verdict}, observed {seen}: {details}{_told(reports)}"
        return _wrong_rule(expectation, [[rule.name for rule in talk.rules] for talk in talks])
    if any(outcome in _REACHED for outcome in outcomes):
        return f"expected Deny, observed {', '.join(outcomes)}: {details}{_told(reports)}"
    disagreeing = [report for report in reports if not report["agrees"]]
    if disagreeing:
        return f"the packets say {outcomes}, the reference expected {disagreeing[0]['expected']}: {details}"
    decided = talk.decided_by
    if decided is None:
        if expectation.by:
            return f"nothing was dropped, so not by {expectation.by}: {talk.cause}"
        return _unanswered(control)
    rule = decided.drop.rule
    wrong = _wrong_rule(expectation, [_denied_by(each) for each in talks])
    if wrong:
        return wrong
    if not all(_moved(report) for report in reports) and decided.place.count("/"):
        return f"denied as expected, but the counter of {decided.drop} at {decided.place} did not move"
    if not rule:
        return _unanswered(control)
    if not (control and _all_reached(control)):
        seen = _seen(control or ()) or "nothing"
        return f"no positive control: without policies this traffic was {seen}, so the Deny proves nothing"
    return ""


def _told(reports: Sequence[Any]) -> str:
    """What the first report with a cause says of it."""
    told = (each for each in reports if each["cause"])
    return next((f"; layer {each['layer']}: {each['cause']}; fix: {each['fix']}" for each in told), "")


def _unanswered(control: Any) -> str:
    """Why a Deny that no ACL makes proves nothing; "" if the destination answered itself.

    Where the ends have no address of one IP version there is nothing to ask, and nothing to doubt.
    """
    if control is None or not _all_reached(control):
        seen = _seen(control or ()) or "not asked"
        return f"no positive control: the destination asked by itself was {seen}, so the Deny proves nothing"
    return ""


def _all_reached(control: Sequence[Any]) -> bool:
    return all(report["outcome"] in _REACHED for report in control)


def _seen(control: Sequence[Any]) -> str:
    return ", ".join(sorted({report["outcome"] for report in control}))


def _denied_by(talk: Conversation) -> list[str]:
    if talk.decided_by is None:
        return []
    drop = talk.decided_by.drop
    return [drop.rule.name if drop.rule else str(drop.reason)]


def _wrong_rule(expectation: Expectation, decided: Sequence[Sequence[str]]) -> str:
    """What decided other than expected; "" if nothing did. `decided` has the names for each part."""
    other = next((names for names in decided if expectation.by not in names), None)
    if not expectation.by or other is None:
        return ""
    return f"decided by {', '.join(other) or 'no rule'}, not by {expectation.by}"


def _moved(report: Any) -> bool:
    return any(move["moved"] for move in report["counters"])
