"""The mark of a program in the switch that holds it: one flow that no packet meets.

It goes in the same bundle as the flows it sums up, so a switch's mark changes with them or not at all,
and reading one flow says which program a switch holds. It belongs to no program: comparing, counting
and listing leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["MARK_COOKIE", "MARK_TABLE", "mark_of", "mark_text", "parse_mark"]

#: No flow leads to this table.
MARK_TABLE = 40
MARK_COOKIE = 0x3A2C

_BITS = 64
_ACTIONS = re.compile(r"write_metadata:(0x[0-9a-f]+|\d+)")


def mark_of(cookies: Iterable[int]) -> int:
    """The mark of the program with these cookies, in whatever order.

    A sum, because cookies are digests themselves: programs that differ in one flow differ in it.
    """
    return sum(cookies) % (1 << _BITS)


def mark_text(mark: int) -> str:
    """The line that gives a switch this mark in the place of the one it has, as ovs-ofctl reads it."""
    return f"add cookie={MARK_COOKIE:#x},table={MARK_TABLE},priority=0 actions=write_metadata:{mark:#x}\n"


def parse_mark(actions: str) -> int | None:
    """The mark in the actions of a flow of the mark's table as Open vSwitch prints them."""
    found = _ACTIONS.fullmatch(actions)
    return int(found[1], 0) if found else None
