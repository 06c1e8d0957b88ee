"""The answer to "can A reach B?": verdict, layer, deciding rule, and every step, as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vswitch.diagnose.mirrored import Mirrored, mirrored
from vswitch.model.site import Site
from vswitch.model.traffic import Traffic
from vswitch.model.types import Action, DropReason, PortRange
from vswitch.semantics.cause import Advice
from vswitch.semantics.conversation import Conversation, converse_range
from vswitch.semantics.journey import Leg
from vswitch.semantics.network import Passage, SwitchPassage
from vswitch.semantics.verdict import Rule

if TYPE_CHECKING:
    from vswitch.diagnose.tracing import SwitchCheck, TracedLab

__all__ = ["Answer", "Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for some of the ports asked about, with Open vSwitch's opinion where a lab runs.

    `limit` is about a StormLimit that such frames count against and that has dropped some.
    """

    ports: PortRange | None
    conversation: Conversation
    checks: tuple[SwitchCheck, ...]
    limit: Advice
    mirrored: tuple[Mirrored, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether Open vSwitch, where it was asked, does what the reference says."""
        return all(check.agrees for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """As plain data. A StormLimit that has dropped such frames is the cause where there is no other."""
        talk = self.conversation
        decided = talk.decided_by
        told = talk if talk.layer else self.limit
        return {
            "ports": str(self.ports) if self.ports else None,
            "verdict": str(talk.verdict),
            "expected": str(talk.expected),
            "layer": str(told.layer) if told.layer else None,
            "cause": told.cause or None,
            "fix": told.fix or None,
            "source_address": str(talk.source_address) if talk.source_address else None,
            "destination_address": str(talk.destination_address) if talk.destination_address else None,
            "decided_by": {
                "rule": rule_as_dict(decided.drop.rule) if decided.drop.rule else None,
                "reason": str(decided.drop.reason),
                "leg": str(decided.leg),
                "hop": decided.hop,
                "place": decided.place,
                "adapter": decided.adapter.id if decided.adapter else None,
                "direction": str(decided.direction) if decided.direction else None,
            }
            if decided
            else None,
            "rules": [rule_as_dict(rule) for rule in talk.rules],
            "assumptions": sorted(talk.assumptions, key=lambda name: int(name[1:])),
            "mirrored": [each.as_dict() for each in self.mirrored],
            "legs": [_leg(leg) for leg in talk.legs],
            "open_vswitch": [
                {
                    "switch": check.switch,
                    "frame": check.frame,
                    "agrees": check.agrees,
                    "skipped": check.skipped or None,
                    "flows": [seen.as_dict() for seen in check.flows],
                    "limits": [
                        f"{seen.flow.reason} of {seen.flow.adapter}, {seen.flow.note}"
                        for seen in check.limits
                    ],
                    "delivered_to": list(check.traced),
                    "reference_delivered_to": list(check.reference),
                    "trace": check.text if not check.agrees else None,
                }
                for check in self.checks
            ],
            "agrees": self.agrees,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """All answers to one question, in the order of ports."""

    source: str
    destination: str
    traffic: Traffic
    answers: tuple[Answer, ...]

    @property
    def allowed(self) -> bool:
        """Whether all of the traffic asked about passes."""
        return all(answer.conversation.verdict is Action.ALLOW for answer in self.answers)

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "from": self.source,
            "to": self.destination,
            "traffic": str(self.traffic),
            "verdict": str(Action.ALLOW if self.allowed else Action.DENY),
            "agrees": all(answer.agrees for answer in self.answers),
            "answers": [answer.as_dict() for answer in self.answers],
        }


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
    answers = []
    for ports, conversation in converse_range(site, source, destination, traffic, version=version):
        checks = _checks(lab, conversation) if lab else ()
        answers.append(
            Answer(
                ports if traffic.ports else None,
                conversation,
                checks,
                _limit(site, checks),
                mirrored(site, conversation),
            )
        )
    return Explanation(source, destination, traffic, tuple(answers))


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


def rule_as_dict(rule: Rule) -> dict[str, object]:
    """An ACL entry as users know it."""
    return {
        "name": rule.name,
        "action": str(rule.action),
        "direction": str(rule.direction),
        "file": rule.origin.file,
        "line": rule.origin.line,
        "where": str(rule.origin),
    }


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "name": leg.name,
        "kind": str(leg.kind),
        "arrived": leg.arrived,
        "hops": [
            {
                "kind": str(hop.kind),
                "frame": hop.frame.summary,
                "from": hop.source.guest,
                "to": hop.target.guest if hop.target else None,
                "arrived": hop.arrived,
                "passages": [_passage(passage) for passage in hop.result.passages],
            }
            for hop in leg.hops
        ],
        "translations": [
            {
                "hop": step.hop,
                "host": step.host,
                "nat": step.nat,
                "how": str(step.how),
                "before": step.before.summary,
                "after": step.after.summary,
                "mapping": str(step.mapping) if step.mapping else None,
                "where": str(step.mapping.origin) if step.mapping else None,
            }
            for step in leg.translations
        ],
    }


def _passage(passage: Passage) -> dict[str, Any]:
    names: dict[int, str] = {}
    if isinstance(passage, SwitchPassage):
        names[passage.switch.uplink] = "uplink"
    return {
        "place": passage.place,
        "steps": [
            {
                "port": step.port,
                "stage": str(step.stage),
                "direction": str(step.direction) if step.direction else None,
                "text": step.text,
                "rule": rule_as_dict(step.rule) if step.rule else None,
                "passed": step.passed,
            }
            for step in passage.steps
        ],
    }


def disagreements(answers: Sequence[Answer]) -> list[SwitchCheck]:
    """What Open vSwitch does differently from the reference."""
    return [check for answer in answers for check in answer.checks if not check.agrees]
