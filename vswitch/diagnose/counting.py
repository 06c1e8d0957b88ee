"""How the packet counters of switches move while packets are under way."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from vswitch.diagnose.explained import RuleShown
from vswitch.diagnose.limit_drops import count_packets
from vswitch.diagnose.probed import CounterShown
from vswitch.diagnose.tracing import TracedLab
from vswitch.model.site import Switch
from vswitch.pipeline import Flow

__all__ = ["CounterMove", "Moves", "count_all"]


@dataclass(frozen=True, slots=True)
class CounterMove:
    """A deciding flow's packet counter before and after the packets.

    Open vSwitch counts a packet at every flow on its way, those behind the meter that dropped it
    included: `cut` packets may be such ones.
    """

    switch: str
    flow: Flow
    before: int
    after: int
    cut: int = 0

    @property
    def moved(self) -> int:
        """How many packets met the flow meanwhile, at least."""
        return max(0, self.after - self.before - self.cut)

    def shown(self) -> CounterShown:
        """What users get to see of it."""
        rule = self.flow.rule
        return CounterShown(
            switch=self.switch,
            cookie=f"{self.flow.cookie:#x}",
            flow=self.flow.text,
            rule=RuleShown.of(rule) if rule else None,
            reason=self.flow.reason or None,
            adapter=self.flow.adapter or None,
            before=self.before,
            after=self.after,
            moved=self.moved,
        )


class Moves:
    """Counters before and after: cookie to packets, by switch."""

    def __init__(
        self, lab: TracedLab, before: dict[str, dict[int, int]], after: dict[str, dict[int, int]]
    ) -> None:
        self._before = before
        self._after = after
        self._limits: dict[str, list[Flow]] = {}
        for name in before:
            switch = lab.site.switch[name]
            program = lab.programs[switch.host].switches[switch.bridge]
            limits = [flow for flow in program.flows.values() if flow.meter] if program.meters else []
            self._limits[name] = limits

    def of(self, switch: Switch, flow: Flow, passed: Set[str]) -> CounterMove:
        """How a flow's counter moved; `passed` are the adapters on the packets' way, by id."""
        before, after = self._before[switch.id], self._after[switch.id]
        cut = sum(
            after[limit.cookie] - before[limit.cookie]
            for limit in self._limits[switch.id]
            if limit.adapter in passed and limit.table <= flow.table and not flow.meter
        )
        return CounterMove(switch.id, flow, before.get(flow.cookie, 0), after.get(flow.cookie, 0), cut)


def count_all(lab: TracedLab, switches: Iterable[Switch]) -> dict[str, dict[int, int]]:
    """The packets of every flow of these switches, by switch and cookie; see `count_packets`."""
    found = {}
    for switch in switches:
        program = lab.programs[switch.host].switches[switch.bridge]
        counted = count_packets(lab.client(switch.host), program)
        found[switch.id] = {cookie: packets for cookie, (packets, _) in counted.items()}
    return found
