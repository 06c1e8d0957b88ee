"""The answer to "what happens to real packets?" as data: outcome, expectation, counters, evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from vswitch.answer_data import AnswerData
from vswitch.diagnose.explained import RuleShown
from vswitch.lab.probing.evidence import Outcome
from vswitch.lab.probing.probe_evidence import Evidence
from vswitch.model.types import DropReason
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Expected

__all__ = ["REACHED", "CounterShown", "PortsProbed", "Probed", "ReasonShown"]

#: The outcomes of packets that got to the destination, be it open or not.
REACHED = frozenset({Outcome.OPEN, Outcome.REFUSED, Outcome.DELIVERED})


@dataclass(frozen=True, slots=True)
class ReasonShown(AnswerData):
    """What decided where no ACL entry did."""

    reason: DropReason


@dataclass(frozen=True, slots=True)
class CounterShown(AnswerData):
    """A flow's packet counter before and after; `moved` leaves out those that a limit dropped behind it.

    `rule` or `reason` is why the flow is there, `adapter` the id of the adapter it belongs to.
    """

    switch: str
    cookie: str
    flow: str
    rule: RuleShown | None
    reason: str | None
    adapter: str | None
    before: int
    after: int
    moved: int

    @property
    def name(self) -> str:
        """Why the flow is there, as users know it."""
        return str(self.rule) if self.rule else self.reason or ""

    @property
    def stood_still(self) -> bool:
        """Whether no packet met the flow."""
        return self.after == self.before


@dataclass(frozen=True, slots=True)
class PortsProbed(AnswerData):
    """What happened to the packets of some of the ports asked about (None: traffic without ports).

    `expected` is the reference's; `layer`, `cause` and `fix` are its too, or those of a limit that dropped
    frames. `counters` are those of the deciding flows, `other_drops` those that nobody expected. `evidence`
    is None where nothing could be sent: the ends have no address of one IP version.
    """

    ports: str | None
    outcome: Outcome
    expected: Expected
    agrees: bool
    detail: str
    layer: Layer | None
    cause: str | None
    fix: str | None
    decided_by: RuleShown | ReasonShown | None
    counters: tuple[CounterShown, ...]
    other_drops: tuple[CounterShown, ...]
    evidence: Evidence | None

    @property
    def passed(self) -> bool:
        """Whether what was asked for is there."""
        return self.outcome in (Outcome.OPEN, Outcome.DELIVERED)


@dataclass(frozen=True, slots=True)
class Probed(AnswerData):
    """What happened to the packets of one question, in the order of ports."""

    SCHEMA: ClassVar[int | None] = 1

    from_: str
    to: str
    traffic: str
    agrees: bool
    reports: tuple[PortsProbed, ...]

    @classmethod
    def of(cls, source: str, destination: str, traffic: str, reports: Iterable[PortsProbed]) -> Probed:
        """The reports about one question, whose ends and traffic are as the user wrote them."""
        found = tuple(reports)
        return cls(source, destination, traffic, all(report.agrees for report in found), found)

    @property
    def passed(self) -> bool:
        """Whether everything asked about is there, and the reference agrees."""
        return self.agrees and all(report.passed for report in self.reports)
