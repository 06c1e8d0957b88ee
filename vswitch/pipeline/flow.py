"""One OpenFlow flow as text, and what it stands for.

A flow's cookie is a digest of its table, priority, match and actions: equal cookies mean equal
flows, so a switch's contents can be compared with the wanted program by cookie alone, and the same
program always has the same cookies whatever the rules are called or wherever they are written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.pipeline.tables import Table

__all__ = ["Flow", "Purpose", "digest"]


def digest(text: str, bits: int) -> int:
    """A number of that many bits made from `text`: the same on every run, never 0 or all ones."""
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    return 1 + number % ((1 << bits) - 2)


class Purpose(StrEnum):
    """Why a flow exists."""

    RULE = "rule"  # an ACL entry; Flow.rule
    DROP = "drop"  # a built-in check; Flow.reason in pktmon's words
    STATE = "state"  # lets the packets of a live stateful flow pass
    LIMIT = "limit"  # hands on what a meter lets pass; Flow.reason is that of the meter's drops
    FORWARD = "forward"  # moves the frame along


@dataclass(frozen=True, slots=True)
class Flow:
    """An OpenFlow flow in the notation of ovs-ofctl, with what it stands for.

    `rule` is the ACL entry it implements, `reason` the drop reason, `adapter` the adapter it
    belongs to (its id, or ""), `meter` the number of the meter its actions begin with (0: none),
    `note` a few words for people.
    """

    table: Table
    priority: int
    match: str
    actions: str
    purpose: Purpose = field(default=Purpose.FORWARD, compare=False)
    rule: ExtendedAcl | BasicAcl | None = field(default=None, compare=False)
    reason: str = field(default="", compare=False)
    adapter: str = field(default="", compare=False)
    meter: int = field(default=0, compare=False)
    note: str = field(default="", compare=False)
    cookie: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        text = f"{self.table:d},{self.priority},{self.match} {self.actions}"
        object.__setattr__(self, "cookie", digest(text, 64))

    @property
    def text(self) -> str:
        """The flow as ovs-ofctl reads it."""
        match = f",{self.match}" if self.match else ""
        return (
            f"cookie={self.cookie:#x},table={self.table:d},priority={self.priority}{match} "
            f"actions={self.actions}"
        )

    @property
    def is_drop(self) -> bool:
        """Whether a frame that meets this flow ends here."""
        return self.actions == "drop"
