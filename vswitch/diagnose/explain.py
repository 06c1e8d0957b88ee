"""Ask the reference "can A reach B?", and the switches of a lab whether they agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vswitch.diagnose.explained import (
    Answer,
    DecisionShown,
    Explanation,
    FlowMet,
    HopShown,
    LegShown,
    MirrorCopies,
    PassageShown,
    RuleShown,
    StepShown,
    TracedFrame,
    TranslationShown,
)
from vswitch.diagnose.mirrored import mirrored
from vswitch.model.site import Site
from vswitch.model.traffic import Traffic
from vswitch.model.types import Action, DropReason, PortRange
from vswitch.semantics.cause import Advice
from vswitch.semantics.conversation import Conversation, converse_range
from vswitch.semantics.journey import Decision, Hop, Leg, Translation
from vswitch.semantics.network import Passage

if TYPE_CHECKING:
    from vswitch.diagnose.tracing import FlowSeen, SwitchCheck, TracedLab

__all__ = ["explain"]


def explain(
    site: Site,
    source: str,
    destination: str,
    traffic: Traffic,
    *,
    version: int | None = None,
    lab: TracedLab | None = None,
) -> Explanation:
    """Ask the reference, and the lab's Open vSwitch if there is one.

    Ends as `vswitch.semantics.conversation.converse` takes them. Raises InputError for an end that
    is not there, SwitchError if the lab's Open vSwitch does not answer.
    """
    answers = tuple(
        _answer(site, ports if traffic.ports else None, talk, _checks(lab, talk) if lab else ())
        for ports, talk in converse_range(site, source, destination, traffic, version=version)
    )
    return Explanation(
        from_=source,
        to=destination,
        traffic=str(traffic),
        verdict=Action.ALLOW if all(each.verdict is Action.ALLOW for each in answers) else Action.DENY,
        agrees=all(each.agrees for each in answers),
        answers=answers,
    )


def _answer(
    site: Site, ports: PortRange | None, talk: Conversation, checks: tuple[SwitchCheck, ...]
) -> Answer:
    cause = Advice(talk.layer, talk.cause, talk.fix) if talk.layer else _limit(site, checks)
    return Answer(
        ports=str(ports) if ports else None,
        verdict=talk.verdict,
        expected=talk.expected,
        layer=cause.layer,
        cause=cause.cause or None,
        fix=cause.fix or None,
        source_address=str(talk.source_address) if talk.source_address else None,
        destination_address=str(talk.destination_address) if talk.destination_address else None,
        decided_by=_decision(talk.decided_by) if talk.decided_by else None,
        rules=tuple(map(RuleShown.of, talk.rules)),
        assumptions=tuple(each.value for each in sorted(talk.assumptions, key=lambda each: each.number)),
        mirrored=tuple(
            MirrorCopies(
                each.adapter.id, f"{each.adapter.host}/{each.adapter.switch}", each.copies, each.stopped_by
            )
            for each in mirrored(site, talk)
        ),
        legs=tuple(map(_leg, talk.legs)),
        open_vswitch=tuple(map(_traced, checks)),
        agrees=all(check.agrees for check in checks),
    )


def _checks(lab: TracedLab, conversation: Conversation) -> tuple[SwitchCheck, ...]:
    # Without a lab neither the compiler nor Open vSwitch's client is loaded.
    from vswitch.diagnose.tracing import check_conversation

    return tuple(check_conversation(lab, conversation))


def _limit(site: Site, checks: Iterable[SwitchCheck]) -> Advice:
    """What to tell about the StormLimit that has dropped most; nothing if none has dropped any.

    MaximumBandwidth drops some of any large transfer: TCP is meant to notice.
    """
    limits = [
        seen
        for check in checks
        for seen in check.limits
        if seen.packets and seen.flow.reason == DropReason.STORM_LIMIT
    ]
    if not limits:
        return Advice()
    from vswitch.diagnose.limit_drops import limited_by

    most = max(limits, key=lambda seen: seen.packets)
    return limited_by(site, most.flow, most.packets, now=False)


def _decision(decided: Decision) -> DecisionShown:
    return DecisionShown(
        rule=RuleShown.of(decided.drop.rule) if decided.drop.rule else None,
        reason=decided.drop.reason,
        leg=decided.leg,
        hop=decided.hop,
        place=decided.place,
        adapter=decided.adapter.id if decided.adapter else None,
        direction=decided.direction,
    )


def _leg(leg: Leg) -> LegShown:
    return LegShown(
        name=leg.name,
        kind=leg.kind,
        arrived=leg.arrived,
        hops=tuple(map(_hop, leg.hops)),
        translations=tuple(map(_translation, leg.translations)),
    )


def _hop(hop: Hop) -> HopShown:
    return HopShown(
        kind=hop.kind,
        frame=hop.frame.summary,
        from_=hop.source.guest,
        to=hop.target.guest if hop.target else None,
        arrived=hop.arrived,
        passages=tuple(map(_passage, hop.result.passages)),
    )


def _passage(passage: Passage) -> PassageShown:
    return PassageShown(
        place=passage.place,
        steps=tuple(
            StepShown(
                port=step.port,
                stage=step.stage,
                direction=step.direction,
                text=step.text,
                rule=RuleShown.of(step.rule) if step.rule else None,
                passed=step.passed,
            )
            for step in passage.steps
        ),
    )


def _translation(step: Translation) -> TranslationShown:
    return TranslationShown(
        hop=step.hop,
        host=step.host,
        nat=step.nat,
        how=step.how,
        before=step.before.summary,
        after=step.after.summary,
        mapping=str(step.mapping) if step.mapping else None,
        where=str(step.mapping.origin) if step.mapping else None,
    )


def _traced(check: SwitchCheck) -> TracedFrame:
    return TracedFrame(
        switch=check.switch,
        frame=check.frame,
        agrees=check.agrees,
        skipped=check.skipped or None,
        flows=tuple(map(_met, check.flows)),
        limits=tuple(f"{seen.flow.reason} of {seen.flow.adapter}, {seen.flow.note}" for seen in check.limits),
        delivered_to=check.traced,
        reference_delivered_to=check.reference,
        trace=check.text if not check.agrees else None,
    )


def _met(seen: FlowSeen) -> FlowMet:
    rule = seen.flow.rule
    return FlowMet(
        switch=seen.switch,
        table=seen.flow.table.name.lower(),
        cookie=f"{seen.flow.cookie:#x}",
        flow=seen.flow.text,
        packets=seen.packets,
        rule=rule.name if rule else None,
        where=str(rule.origin) if rule else None,
        reason=seen.flow.reason or None,
    )
