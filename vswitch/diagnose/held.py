"""What the switches of a lab hold, as data: flows, counters by rule, forwarding entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vswitch.answer_data import AnswerData

__all__ = ["FlowHeld", "MacEntry", "RuleCount"]


@dataclass(frozen=True, slots=True)
class FlowHeld(AnswerData):
    """A flow, with what it is there for and its counter; the same in one line of text as `flow`."""

    SCHEMA: ClassVar[int | None] = 1

    table: str
    priority: int
    cookie: str
    flow: str
    means: str
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RuleCount(AnswerData):
    """Packets and bytes that met a rule, or were dropped for a reason, at one adapter ("": the switch).

    `where` is the rule's place in its file, "" for a reason.
    """

    SCHEMA: ClassVar[int | None] = 1

    switch: str
    adapter: str
    name: str
    where: str
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class MacEntry(AnswerData):
    """A forwarding entry: an adapter's fixed one ("Self"), or a learned one with its age in seconds.

    `where` is the adapter's id, "uplink", or "" for a port that is gone.
    """

    SCHEMA: ClassVar[int | None] = 1

    switch: str
    mac: str
    vlan: int
    port: int
    where: str
    status: Literal["Self", "Learned"]
    age: int | None
