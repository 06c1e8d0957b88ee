"""The least change that turns what a switch holds into what it is to hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vswitch.pipeline.flow import Flow

__all__ = ["FlowChange", "difference"]

_ALL_COOKIE_BITS = "-1"


@dataclass(frozen=True, slots=True)
class FlowChange:
    """Flows to add and cookies of flows to remove. Order: removals first, in one bundle."""

    add: tuple[Flow, ...] = ()
    remove: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)

    @property
    def text(self) -> str:
        """The change as `ovs-ofctl --bundle add-flows` reads it.

        Removal goes by cookie and not by match: a flow whose actions changed has the match of the
        one it replaces.
        """
        lines = [f"delete cookie={cookie:#x}/{_ALL_COOKIE_BITS}" for cookie in self.remove]
        lines += [f"add {flow.text}" for flow in self.add]
        return "\n".join(lines) + "\n"

    @property
    def changed(self) -> int:
        """How many flows differ: a flow replaced by another of the same place counts once."""
        return max(len(self.add), len(self.remove))


def difference(held: Collection[int], wanted: Mapping[int, Flow]) -> FlowChange:
    """From the cookies a switch holds to the flows it is to hold. Deterministic order."""
    present = held if isinstance(held, (set, frozenset, dict)) else set(held)
    add = tuple(flow for cookie, flow in wanted.items() if cookie not in present)
    remove = tuple(sorted(cookie for cookie in present if cookie not in wanted))
    return FlowChange(add, remove)
