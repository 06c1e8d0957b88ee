"""`vswitch test`: prove every expectation of a layout with real packets.

The lab is started without any policy first: there, traffic that the policy is to deny has to get
through, or the Deny would prove nothing. Then the policies are applied and everything is asked. A
Deny that no policy makes (a VLAN, a private VLAN, no route) has no such control; for it the
destination has to answer the same traffic at its own address when it asks itself, and where a switch
drops it, the counter of the drop has to move.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from vswitch.diagnose.lab_questions import EXTENSION, Asking, destinations_in, forget_in, probe_all_in
from vswitch.diagnose.probed import REACHED, PortsProbed
from vswitch.diagnose.proofs import ExpectedVerdict, Proof
from vswitch.errors import NoSuchLab
from vswitch.lab.probing.evidence import Outcome
from vswitch.lab.probing.probe_evidence import Evidence
from vswitch.lab.process import client
from vswitch.lab.process.lab_requests import apply_to
from vswitch.model.resolving.sources import Sources
from vswitch.model.site import Expectation, Site
from vswitch.patience import Patience
from vswitch.semantics.conversation import Conversation, converse_range

__all__ = ["prove"]

_PASSED = {
    ExpectedVerdict.ALLOW: frozenset({Outcome.OPEN, Outcome.DELIVERED}),
    ExpectedVerdict.REFUSED: frozenset({Outcome.REFUSED}),
}
_EACH = 10.0  # seconds that a question may take where many are asked at once

#: What shows that a Deny proves something; None for other expectations.
_Control = tuple[PortsProbed, ...] | tuple[Evidence, ...] | None


def prove(
    site: Site,
    sources: Sources,
    *,
    name: str,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[Proof], dict[str, float]]:
    """Start a lab `name` for a layout, prove its expectations, take it down.

    `site` is the layout with its policies, `sources` their files. Returns the proofs and how long each
    phase took, in seconds. Raises what keeps the lab from running.
    """
    times: dict[str, float] = {}
    started = time.monotonic()

    def lap(phase: str) -> None:
        nonlocal started
        now = time.monotonic()
        times[phase] = round(now - started, 3)
        started = now

    bare = replace(sources, policies=())
    client.start(name, bare, extensions=[EXTENSION], progress=progress, attached=True)
    try:
        lap("up")
        questions = [_question(expectation) for expectation in site.expectations]
        answers = [_answers(site, expectation) for expectation in site.expectations]
        controls = _controls(name, site, [_decisive(talks) for talks in answers], questions)
        lap("control")
        apply_to(name, site.files[1:], sources.texts)
        forget_in(name)
        lap("apply")
        reports = probe_all_in(name, questions, within=_patience(questions)) if questions else []
        lap("proof")
    except KeyboardInterrupt:
        client.kill(name)  # without asking it: who has pressed Ctrl-C waits for nothing
        raise
    finally:
        with suppress(NoSuchLab):  # it has ended by itself: what is being raised says why
            client.down(name)
        lap("down")
    return [
        _judge(sources.layout, expectation, talks, found, control)
        for expectation, talks, found, control in zip(
            site.expectations, answers, reports, controls, strict=True
        )
    ], times


def _patience(questions: Sequence[Asking]) -> Patience:
    return Patience.from_environment().longer(_EACH * len(questions))


def _question(expectation: Expectation) -> Asking:
    return Asking(expectation.source, expectation.destination, str(expectation.traffic))


def _answers(site: Site, expectation: Expectation) -> list[Conversation]:
    """The reference's answers: one, or for a range of ports as many as there are different ones."""
    parts = converse_range(site, expectation.source, expectation.destination, expectation.traffic)
    return [answer for _, answer in parts]


def _decisive(talks: Sequence[Conversation]) -> Conversation:
    """The answer that decides how to prove a range: the first that a switch denied, if any."""
    return next((talk for talk in talks if talk.decided_by), talks[0])


def _controls(
    name: str, site: Site, answers: Sequence[Conversation], questions: Sequence[Asking]
) -> list[_Control]:
    """For each expected Deny what shows that it proves something; None for other expectations.

    By an ACL: the same traffic without policies. Else: the destination, asked by itself.
    """
    by_acl: list[int] = []
    by_structure: list[int] = []
    for index, (talk, expectation) in enumerate(zip(answers, site.expectations, strict=True)):
        if ExpectedVerdict(expectation.verdict) is ExpectedVerdict.DENY:
            decided = talk.decided_by
            (by_acl if decided is not None and decided.drop.rule else by_structure).append(index)
    found: dict[int, _Control] = {}
    if by_acl:
        asked = [questions[index] for index in by_acl]
        found |= zip(by_acl, probe_all_in(name, asked, within=_patience(asked)), strict=True)
    if by_structure:
        asked = [questions[index] for index in by_structure]
        found |= zip(by_structure, destinations_in(name, asked, within=_patience(asked)), strict=True)
    return [found.get(index) for index in range(len(answers))]


def _judge(
    layout: str,
    expectation: Expectation,
    talks: Sequence[Conversation],
    reports: Sequence[PortsProbed],
    control: _Control,
) -> Proof:
    problem = _problem(expectation, talks, reports, control)
    asked = f"{expectation.source} -> {expectation.destination} {expectation.traffic}"
    return Proof(
        layout=layout,
        name=f"{asked}: {expectation.verdict}",
        where=str(expectation.origin),
        passed=not problem,
        message=problem,
        expected=ExpectedVerdict(expectation.verdict),
        outcome=_seen(reports),
        evidence=tuple(reports),
        control=control,
    )


def _problem(
    expectation: Expectation,
    talks: Sequence[Conversation],
    reports: Sequence[PortsProbed],
    control: _Control,
) -> str:
    """Why the expectation is not proven; "" if it is."""
    wanted = ExpectedVerdict(expectation.verdict)
    outcomes = {report.outcome for report in reports}
    details = "; ".join(dict.fromkeys(report.detail for report in reports))
    talk = _decisive(talks)
    if wanted is not ExpectedVerdict.DENY:
        if not outcomes <= _PASSED[wanted]:
            return f"expected {wanted}, observed {_seen(reports)}: {details}{_advice(reports)}"
        return _wrong_rule(expectation, [[rule.name for rule in talk.rules] for talk in talks])
    if outcomes & REACHED:
        return f"expected Deny, observed {_seen(reports)}: {details}{_advice(reports)}"
    disagreeing = [report for report in reports if not report.agrees]
    if disagreeing:
        expected = disagreeing[0].expected
        return f"the packets say {_seen(reports)}, the reference expected {expected}: {details}"
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


def _advice(reports: Iterable[PortsProbed]) -> str:
    """What the first report with a cause says of it."""
    with_cause = (each for each in reports if each.cause)
    return next((f"; layer {each.layer}: {each.cause}; fix: {each.fix}" for each in with_cause), "")


def _unanswered(control: _Control) -> str:
    """Why a Deny that no ACL makes proves nothing; "" if the destination answered itself.

    Where the ends have no address of one IP version there is nothing to ask, and nothing to doubt.
    """
    if control is None or not _all_reached(control):
        seen = _seen(control or ()) or "not asked"
        return f"no positive control: the destination asked by itself was {seen}, so the Deny proves nothing"
    return ""


def _all_reached(control: Iterable[PortsProbed | Evidence]) -> bool:
    return all(report.outcome in REACHED for report in control)


def _seen(reports: Iterable[PortsProbed | Evidence]) -> str:
    return ", ".join(sorted({report.outcome for report in reports}))


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


def _moved(report: PortsProbed) -> bool:
    return any(move.moved for move in report.counters)
