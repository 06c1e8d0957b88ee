"""Whether a change on an adapter of the management OS cuts the way by which the host is managed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import lru_cache

from vswitch.acl_entries import Acls, ExtendedEntry
from vswitch.compare.acl_diff import transient
from vswitch.compare.regions import FIELDS, Region
from vswitch.model.types import TCP, UDP, Action, Direction

__all__ = ["winrm_lost"]

_PORTS = (5985, 5986)
_MOST = 5000


def winrm_lost(old: Acls, new: Acls, port: int = 0) -> list[Region]:
    """WinRM traffic that `old` lets pass and `new` does not; `port` stands beside the usual ones."""
    ports = tuple(sorted({*_PORTS, port or _PORTS[0]}))
    # All else is let pass on both sides, so that a list of limited length holds what is looked for.
    sides = [Acls(acls.extended | _all_but(ports), acls.basic) for acls in (old, new)]
    found: list[Region] = []
    for direction in Direction:
        # On its way from the old to the old entries the new ones stand in between: what they cut.
        for region in transient(sides[0], sides[1], sides[0], direction, limit=_MOST).cuts:
            protocols, local = region.fields[0], region.fields[FIELDS.index("local_port")]
            if _holds(protocols, (TCP,)) and _holds(local, ports):
                found.append(region)
    return found


def _holds(intervals: Iterable[tuple[int, int]], values: Iterable[int]) -> bool:
    return any(low <= value <= high for low, high in intervals for value in values)


@lru_cache(maxsize=16)
def _all_but(ports: tuple[int, ...]) -> frozenset[ExtendedEntry]:
    """Entries that decide before all others, and let everything pass but TCP to these ports."""
    weight = itertools.count(1 << 16)
    found: list[ExtendedEntry] = []
    for direction in Direction:
        for protocol in range(256):
            name = "UDP" if protocol == UDP else str(protocol)
            if protocol != TCP:
                found.append(ExtendedEntry(direction, next(weight), Action.ALLOW, name))
        for low, high in itertools.pairwise((-1, *ports, 1 << 16)):
            if low + 1 < high:
                span = f"{low + 1}-{high - 1}"
                found.append(ExtendedEntry(direction, next(weight), Action.ALLOW, "TCP", local_port=span))
    return frozenset(found)
