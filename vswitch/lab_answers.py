"""What a lab and its controller answer about themselves, and about an apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vswitch.answer_data import AnswerData
from vswitch.model.site import GuestKind

__all__ = [
    "ApplyReport",
    "ControllerStatus",
    "GuestShown",
    "Holding",
    "LabStatus",
    "PoliciesInForce",
    "ServiceShown",
    "SwitchChange",
    "UnderWay",
]

#: What a switch holds in the middle of an apply: the old program, the new one, another one, not known.
Holding = Literal["old", "new", "other", "unknown"]


@dataclass(frozen=True, slots=True)
class SwitchChange(AnswerData):
    """What an apply changed on one switch: numbers of flows."""

    switch: str
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class ApplyReport(AnswerData):
    """What an apply that is in force did. `seconds` is from the request to the switches' confirmation.

    `flows` are all that the lab holds; `flows_changed` counts a flow that took the place of another once.
    `sessions_ended` are live flow states that ended because their rule is gone. These numbers are None
    where the controller that counted has died. `in_force` is "new": an apply that is not in force is an
    error.
    """

    SCHEMA: ClassVar[int | None] = 1

    switches: tuple[SwitchChange, ...]
    flows: int | None
    flows_changed: int | None
    sessions_ended: int | None
    seconds: float
    warnings: tuple[str, ...]
    in_force: Holding = "new"


@dataclass(frozen=True, slots=True)
class UnderWay(AnswerData):
    """An apply that has not ended: what each switch it concerns holds, by the switch's id."""

    policies: tuple[str, ...]
    taken_back: bool
    switches: Mapping[str, Holding]


@dataclass(frozen=True, slots=True)
class PoliciesInForce(AnswerData):
    """The policy files in force (None while the switches hold two policies), and the apply under way.

    `in_force` says of the policies that were asked about whether they are in force ("new"), others are
    ("old"), or that is "unknown"; None if none were named.
    """

    SCHEMA: ClassVar[int | None] = 1

    policies: tuple[str, ...] | None
    apply: UnderWay | None
    in_force: Holding | None = None

    def _as_inner(self) -> dict[str, Any]:
        """As the base does, without `in_force` where no policies were asked about."""
        found = AnswerData._as_inner(self)
        if self.in_force is None:
            del found["in_force"]
        return found


@dataclass(frozen=True, slots=True)
class ServiceShown(AnswerData):
    """A service of a guest: IP protocol (6 or 17), port, name or ""."""

    protocol: int
    port: int
    name: str


@dataclass(frozen=True, slots=True)
class GuestShown(AnswerData):
    """A guest: its host's name ("" for one on a physical network), its addresses with prefix lengths."""

    name: str
    kind: GuestKind
    host: str
    addresses: tuple[str, ...]
    services: tuple[ServiceShown, ...]


@dataclass(frozen=True, slots=True)
class LabStatus(AnswerData):
    """What runs, since when (ISO 8601) and started in which folder, and what is in force.

    `site` is the layout's name; `hosts` to `adapters` count. `restarts` are those of the processes that are
    started again, `processes` ids in the lab's own numbering, both by name.
    """

    SCHEMA: ClassVar[int | None] = 1

    site: str
    since: str
    folder: str
    files: tuple[str, ...]
    in_force: PoliciesInForce
    hosts: int
    switches: int
    guests: int
    adapters: int
    switching: str
    restarts: Mapping[str, int]
    processes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ControllerStatus(AnswerData):
    """The controller's view: switches that do not hold their program yet, and the number of flows wanted.

    `reconciled_flows` were written since it started because a switch did not hold them.
    """

    missing: tuple[str, ...]
    flows: int
    reconciled_flows: int
    threads: int
    policies: tuple[str, ...]
