"""The answer to "does the layout do what it promises?" as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from vswitch.answer_data import AnswerData
from vswitch.diagnose.probed import PortsProbed
from vswitch.lab.probing.probe_evidence import Evidence

__all__ = ["Proof", "ProvenLayout", "ExpectedVerdict"]


class ExpectedVerdict(StrEnum):
    """What an expectation demands: a service answers, nothing listens, or the traffic is denied."""

    ALLOW = "Allow"
    REFUSED = "Refused"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Proof(AnswerData):
    """The outcome of one expectation.

    `where` is the expectation's place in its file, `message` why it is not proven or "", `outcome` those of
    its ports, joined. `control` shows that a Deny proves something: the same traffic without policies, or
    what the destination answers itself; None for other expectations.
    """

    layout: str
    name: str
    where: str
    passed: bool
    message: str
    expected: ExpectedVerdict
    outcome: str
    evidence: tuple[PortsProbed, ...]
    control: tuple[PortsProbed | Evidence, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProvenLayout(AnswerData):
    """All expectations of a layout. `failure` is what kept its lab from running.

    `seconds` is the time it took; `phases` has how much of it, by phase.
    """

    SCHEMA: ClassVar[int | None] = 1

    layout: str
    passed: bool
    failure: str | None
    seconds: float
    phases: Mapping[str, float]
    proofs: tuple[Proof, ...]
