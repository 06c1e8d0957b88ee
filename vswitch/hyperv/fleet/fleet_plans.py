"""Plans for several hosts, and what is decided about them together before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vswitch.errors import InputError, Origin
from vswitch.hyperv.applying.outcomes import Applied
from vswitch.hyperv.applying.saved_plans import read_plan_file
from vswitch.hyperv.fleet.fleet_run import FleetResult, HostOutcome, Status
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.model.problems import listing

__all__ = ["FleetPlans", "saved_for"]


@dataclass(frozen=True)
class FleetPlans:
    """What planning came to on each host, fresh or from a file. `canary`: names of hosts that go first."""

    result: FleetResult[HostPlan]
    canary: tuple[str, ...] = ()

    @property
    def plans(self) -> Mapping[str, HostPlan]:
        """The plans there are, by the hosts' names."""
        return {each.host.name: each.value for each in self.result.outcomes if each.value is not None}

    @property
    def saved(self) -> bool:
        """Whether they come from a file."""
        return any(plan.saved is not None for plan in self.plans.values())

    def why_none_counts(self, *, go_on: bool = False) -> str:
        """Which host without a plan keeps the others from being written; "" if none does.

        That is a canary, and without `go_on` any host: nobody would see that it is missing.
        """
        failed = [each.host.name for each in self.result.outcomes if each.status is not Status.DONE]
        if canaries := [name for name in failed if name in self.canary]:
            return f"the canary {canaries[0]} could not be planned"
        if failed and not go_on:
            return f"{listing(failed, 4)} could not be planned; --continue goes on with the others"
        return ""

    def to_send(self) -> dict[str, HostPlan]:
        """The plans that have something to write, or to note. Raises InputError.

        One host under two names would be written by two plans at once: that is refused.
        """
        found = {name: plan for name, plan in self.plans.items() if plan.to_send}
        seen: dict[tuple[str, str], str] = {}
        for name, plan in found.items():
            for adapter in plan.adapters:
                first = seen.setdefault((plan.computer.lower(), adapter.adapter.id), name)
                if first != name:
                    raise InputError(
                        f"{first} and {name} are the same host, {plan.computer}",
                        hint="name it once; nothing was written",
                    )
        return found

    def exit_status(self, *, drifted: bool = False) -> int:
        """That of the worst error; else 1 if a host is not as wanted (or `drifted`), else 0."""
        if not self.result.ok:
            return self.result.exit_status
        return int(any(each.drifted if drifted else each.changes for each in self.plans.values()))

    def with_applied(self, done: FleetResult[Applied]) -> FleetResult[Applied]:
        """What became of each host, of those too on which nothing was to be done, or that were not read."""
        at_work = {each.host.name: each for each in done.outcomes}
        outcomes = (at_work.get(each.host.name) or _without_work(each) for each in self.result.outcomes)
        return FleetResult(tuple(outcomes), done.interrupted)


def _without_work(planned: HostOutcome[HostPlan]) -> HostOutcome[Applied]:
    nothing = None if planned.value is None else Applied(planned.value.plan_id, 0, note="nothing to do")
    return HostOutcome(planned.host, planned.status, nothing, planned.error, planned.seconds)


def saved_for(path: str | os.PathLike[str], names: Sequence[str] = ()) -> list[HostPlan]:
    """The plans of a file that touch something, for hosts of these names or for all. Raises InputError."""
    found = {each.host: each for each in read_plan_file(path)}
    if unknown := [name for name in names if name not in found]:
        raise InputError(
            f"the saved plan is not for {unknown[0]}",
            where=Origin(os.fspath(path)),
            hint=f"it is for: {', '.join(found)}",
        )
    return [each for name, each in found.items() if (not names or name in names) and each.to_send]
