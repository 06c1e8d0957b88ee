"""What a probe found, as data for those who asked."""

from __future__ import annotations

from dataclasses import dataclass

from vswitch.answer_data import AnswerData
from vswitch.lab.probing.evidence import Cause, Outcome, ProbeResult, Sighting

__all__ = ["Evidence", "NextHopShown", "SightingShown"]


@dataclass(frozen=True, slots=True)
class SightingShown(AnswerData):
    """What passed a watch point, as `Sighting` has it; `frames` as lines of text."""

    label: str
    requests: int
    replies: int
    errors: int
    asked: int
    answered: int
    asked_back: int
    answered_back: int
    lost: int
    frames: tuple[str, ...]

    @classmethod
    def of(cls, seen: Sighting) -> SightingShown:
        """What users get to see of it."""
        return cls(
            label=seen.label,
            requests=seen.requests,
            replies=seen.replies,
            errors=seen.errors,
            asked=seen.asked,
            answered=seen.answered,
            asked_back=seen.asked_back,
            answered_back=seen.answered_back,
            lost=seen.lost,
            frames=tuple(map(str, seen.frames)),
        )


@dataclass(frozen=True, slots=True)
class NextHopShown(AnswerData):
    """Where the source sent its packets: a neighbour, by which interface, and what it knew of it."""

    address: str
    interface: str
    state: str


@dataclass(frozen=True, slots=True)
class Evidence(AnswerData):
    """The outcome of one probe and what it rests on; see `ProbeResult`."""

    source: str
    destination: str
    traffic: str
    outcome: Outcome
    cause: Cause
    detail: str
    rtt: float | None
    sent: int
    source_ports: tuple[int, ...]
    error: str | None
    icmp: str | None
    next_hop: NextHopShown | None
    answer: str | None
    sightings: tuple[SightingShown, ...]

    @classmethod
    def of(cls, result: ProbeResult) -> Evidence:
        """What users get to see of a result."""
        hop = result.next_hop
        return cls(
            source=str(result.request.source),
            destination=str(result.request.destination),
            traffic=str(result.request),
            outcome=result.outcome,
            cause=result.cause,
            detail=result.detail,
            rtt=result.rtt,
            sent=result.sent,
            source_ports=result.source_ports,
            error=result.error or None,
            icmp=str(result.icmp) if result.icmp else None,
            next_hop=NextHopShown(str(hop.address), hop.interface, hop.state) if hop else None,
            answer=result.answer or None,
            sightings=tuple(map(SightingShown.of, result.sightings)),
        )
