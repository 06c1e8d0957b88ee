"""How a write on a host can end, and what is said of each end.

A write is verified by what was read back from the host and compared with what the plan wants. Anything
short of that is NotVerified, which says what was sent, what may be in force, how to see it and how to
undo it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vswitch.errors import HostError, Origin
from vswitch.hyperv.planning.script import literal
from vswitch.json_values import Json

__all__ = ["AdapterResult", "Applied", "ApplyError", "NotVerified", "Standing", "WaysOut", "ways_out"]


class Standing(StrEnum):
    """Which state an adapter is in."""

    OLD = "as before"
    NEW = "as planned"
    OTHER = "neither as before nor as planned"
    GONE = "no longer there"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class AdapterResult:
    """One adapter after an apply or undo. `details` names the differences from the state before."""

    id: str
    label: str
    standing: Standing
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """A plan that was carried out and verified by reading back."""

    plan_id: str
    steps: int
    adapters: tuple[AdapterResult, ...] = ()
    armed_until: str | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Json]:
        """Plain data."""
        return {
            "plan_id": self.plan_id,
            "steps": self.steps,
            "armed_until": self.armed_until,
            "adapters": [{"adapter": each.label, "state": str(each.standing)} for each in self.adapters],
            "note": self.note,
        }


class ApplyError(HostError):
    """A plan was not carried out. `standing` and `adapters` say which state the host is in."""

    def __init__(
        self,
        message: str,
        *,
        host: str,
        standing: Standing,
        adapters: Sequence[AdapterResult] = (),
        hint: str = "",
        where: Origin | None = None,
    ) -> None:
        super().__init__(message, host=host, where=where, hint=hint)
        self.standing = standing
        self.adapters = tuple(adapters)

    def as_dict(self) -> dict[str, Json]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {
            "state": str(self.standing),
            "adapters": [
                {"adapter": each.label, "state": str(each.standing), "details": list(each.details)}
                for each in self.adapters
            ],
        }


@dataclass(frozen=True, slots=True)
class WaysOut:
    """What can be done after a write whose end is not known: commands to see and to undo what is in force.

    `see` and `undo` are commands of this program, `on_host` is one of PowerShell for the host itself.
    `itself` says what the host does by itself; "" if nothing.
    """

    see: str
    on_host: str
    undo: tuple[str, ...]
    itself: str = ""

    def __str__(self) -> str:
        see = f"see what is in force: `{self.see}`, or on the host: `{self.on_host}`"
        commands = ", then ".join(f"`{command}`" for command in self.undo)
        return f"{see}; undo it: {f'{self.itself}; sooner: ' if self.itself else ''}{commands}"


#: Adapters that a command for the host names; of more, it shows all there are.
_MOST_NAMED = 3


def ways_out(host: str, plan_id: str, adapters: Sequence[str], itself: str = "") -> WaysOut:
    """The ways out for a plan on the adapters of these ids. `itself`: the host does something by itself."""
    command = ["vswitch", "hyperv"]
    back = shlex.join([*command, "rollback", host, "--to", plan_id])
    chosen = f" | Where-Object {{ {', '.join(map(literal, adapters))} -contains $_.Id }}"
    return WaysOut(
        shlex.join([*command, "backups", host]),
        f"Get-VMNetworkAdapter -All{chosen if 0 < len(adapters) <= _MOST_NAMED else ''} | ForEach-Object {{"
        " Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $_; Get-VMNetworkAdapterAcl -VMNetworkAdapter $_"
        " }",
        # As long as a plan waits to be confirmed, the host takes no other, and so no rollback.
        (*([shlex.join([*command, "confirm", host, "--plan-id", plan_id])] if itself else []), back),
        itself,
    )


class NotVerified(ApplyError):
    """Something was sent, and nothing that was read back says what is in force now.

    `plan_id` is the plan, `sent` says what was asked of the host, `possible` what may be in force.
    """

    outcome = "not verified"

    def __init__(
        self,
        why: str,
        *,
        host: str,
        plan_id: str,
        sent: str,
        possible: str,
        ways: WaysOut,
        adapters: Sequence[AdapterResult] = (),
    ) -> None:
        super().__init__(
            f"not verified: {why}; sent was {sent}; in force may be {possible}",
            host=host,
            standing=Standing.UNKNOWN,
            adapters=adapters,
            hint=str(ways),
        )
        self.plan_id, self.sent, self.possible, self.ways = plan_id, sent, possible, ways

    def as_dict(self) -> dict[str, Json]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {
            "plan_id": self.plan_id,
            "sent": self.sent,
            "possible": self.possible,
            "see": [self.ways.see, self.ways.on_host],
            "undo": list(self.ways.undo),
            "undone_by_itself": self.ways.itself or None,
        }
