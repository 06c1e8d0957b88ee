"""The answer to "can A reach B?" as data: verdict, layer, deciding rule, every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vswitch.answer_data import AnswerData
from vswitch.model.types import Action, BasicAction, Direction, DropReason
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Expected
from vswitch.semantics.journey import LegKind
from vswitch.semantics.nat import How
from vswitch.semantics.verdict import Rule, Stage

__all__ = [
    "Answer",
    "DecisionShown",
    "Explanation",
    "FlowMet",
    "HopShown",
    "LegShown",
    "MirrorCopies",
    "PassageShown",
    "RuleShown",
    "StepShown",
    "TracedFrame",
    "TranslationShown",
]


@dataclass(frozen=True, slots=True)
class RuleShown(AnswerData):
    """An ACL entry as users know it. `where` is `file:line:column`."""

    name: str
    action: BasicAction
    direction: Direction
    file: str
    line: int
    where: str

    @classmethod
    def of(cls, rule: Rule) -> RuleShown:
        """What users get to see of an entry."""
        return cls(
            name=rule.name,
            action=BasicAction(str(rule.action)),
            direction=rule.direction,
            file=rule.origin.file,
            line=rule.origin.line,
            where=str(rule.origin),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.where})"


@dataclass(frozen=True, slots=True)
class DecisionShown(AnswerData):
    """The drop behind a Deny: of which part of the conversation, at which of its frames (from 0), where.

    `place` is `host/switch` or a physical network, `adapter` the id of the adapter the frame ended at.
    """

    rule: RuleShown | None
    reason: DropReason
    leg: LegKind
    hop: int
    place: str
    adapter: str | None
    direction: Direction | None


@dataclass(frozen=True, slots=True)
class StepShown(AnswerData):
    """One stage of a switch, at one OpenFlow port; not `passed` if the frame ended there."""

    port: int
    stage: Stage
    direction: Direction | None
    text: str
    rule: RuleShown | None
    passed: bool


@dataclass(frozen=True, slots=True)
class PassageShown(AnswerData):
    """A frame at one switch or physical network."""

    place: str
    steps: tuple[StepShown, ...]


@dataclass(frozen=True, slots=True)
class HopShown(AnswerData):
    """One frame from guest to guest (None: it was for anybody), and what it met."""

    kind: LegKind
    frame: str
    from_: str
    to: str | None
    arrived: bool
    passages: tuple[PassageShown, ...]


@dataclass(frozen=True, slots=True)
class TranslationShown(AnswerData):
    """What a host's NAT made of a packet, in front of the frame with the number `hop`.

    `mapping` is the static mapping it went by, and `where` that is written.
    """

    hop: int
    host: str
    nat: str
    how: How
    before: str
    after: str
    mapping: str | None
    where: str | None


@dataclass(frozen=True, slots=True)
class LegShown(AnswerData):
    """One packet from end to end, such as the SYN."""

    name: str
    kind: LegKind
    arrived: bool
    hops: tuple[HopShown, ...]
    translations: tuple[TranslationShown, ...]


@dataclass(frozen=True, slots=True)
class FlowMet(AnswerData):
    """A flow that a traced frame met, and its packet counter; `rule` and `where` if it is an entry's."""

    switch: str
    table: str
    cookie: str
    flow: str
    packets: int
    rule: str | None
    where: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class TracedFrame(AnswerData):
    """One frame at one switch, by Open vSwitch and by the reference, as OpenFlow ports.

    `skipped` says why Open vSwitch could not be asked; `limits` are those the frame counts against;
    `trace` is Open vSwitch's text where the two differ.
    """

    switch: str
    frame: str
    agrees: bool
    skipped: str | None
    flows: tuple[FlowMet, ...]
    limits: tuple[str, ...]
    delivered_to: tuple[int, ...]
    reference_delivered_to: tuple[int, ...]
    trace: str | None


@dataclass(frozen=True, slots=True)
class MirrorCopies(AnswerData):
    """How many of the packets are copied to a mirroring Destination, and what ends others."""

    adapter: str
    switch: str
    copies: int
    stopped_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer(AnswerData):
    """The answer for some of the ports asked about (None: traffic without ports).

    `layer`, `cause` and `fix` are for the administrator, None when all is well. A StormLimit that has
    dropped such frames is the cause where there is no other. `assumptions` are numbers of
    docs/reference/assumptions.md. `open_vswitch` is empty where no lab was asked; `agrees` says whether it
    does what the reference says.
    """

    ports: str | None
    verdict: Action
    expected: Expected
    layer: Layer | None
    cause: str | None
    fix: str | None
    source_address: str | None
    destination_address: str | None
    decided_by: DecisionShown | None
    rules: tuple[RuleShown, ...]
    assumptions: tuple[str, ...]
    mirrored: tuple[MirrorCopies, ...]
    legs: tuple[LegShown, ...]
    open_vswitch: tuple[TracedFrame, ...]
    agrees: bool


@dataclass(frozen=True, slots=True)
class Explanation(AnswerData):
    """All answers to one question, in the order of ports. `from_` and `to` are the ends as asked about."""

    SCHEMA: ClassVar[int | None] = 1

    from_: str
    to: str
    traffic: str
    verdict: Action
    agrees: bool
    answers: tuple[Answer, ...]

    @property
    def allowed(self) -> bool:
        """Whether all of the traffic asked about passes."""
        return self.verdict is Action.ALLOW
