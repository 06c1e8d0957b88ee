"""Changes of what the switches hold: all of it or nothing, confirmed before they are reported.

An apply compiles first, then sends each switch the difference in one atomic bundle, waits until the
datapath has dropped every cached verdict of the old policy, and ends the live flows of rules that
are no longer there. If one switch refuses, every switch is compared with the old policy and put back
to it. A switch that does not even answer that is remembered, and compared again before the next apply.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from controllers.state import Sources
from vswitch.errors import BusyError, LabError, SwitchError
from vswitch.model.site import Site, Switch
from vswitch.openvswitch import Connection, SwitchClient
from vswitch.pipeline import (
    LEARNED_COOKIE,
    Change,
    Compiler,
    HostProgram,
    SwitchProgram,
    difference,
    meter_difference,
)

__all__ = ["ApplyReport", "SwitchChange", "Transactions"]

_LOG = logging.getLogger(__name__)

#: Seconds a second apply waits for the one under way before it is refused.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class SwitchChange:
    """What an apply changed on one switch: numbers of flows."""

    switch: str
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did. `seconds` is from the request to the switches' confirmation.

    `flows_changed` counts a flow that took the place of another once. `sessions_ended` are live
    flow states that ended because their rule is gone.
    """

    switches: tuple[SwitchChange, ...]
    flows: int
    flows_changed: int
    sessions_ended: int
    seconds: float
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Step:
    """One bundle: where and what."""

    host: str
    program: SwitchProgram
    change: Change


class Transactions:
    """The one place that writes to the lab's switches.

    `rundir` is the lab's run folder: `site.json` with the files in force and `hosts/<index>/` with
    each host's Open vSwitch.
    """

    workers = 4

    def __init__(self, rundir: Path) -> None:
        self._state_file = rundir / "site.json"
        self._compiler = Compiler()
        self._lock = threading.Lock()
        self._sources = Sources.load(self._state_file)
        site = self._sources.site()
        self._policies = site.files[1:]
        self._programs = self._compiler.compile(site)
        self._clients = {
            host.name: SwitchClient(rundir / "hosts" / str(index)) for index, host in enumerate(site.hosts)
        }
        self._place = {
            switch.datapath_id: (host.name, switch.bridge) for host in site.hosts for switch in host.switches
        }
        self._host_locks = {host.name: threading.Lock() for host in site.hosts}
        self._confirmed: set[int] = set()
        self._doubtful: set[int] = set()
        self._changed = threading.Condition()
        self.reconciled_flows = 0

    # Sessions with the switches

    def connected(self, datapath_id: int) -> None:
        """A switch has connected: make it hold its program, touching nothing that is right."""
        place = self._place.get(datapath_id)
        if place is None:
            raise LabError(f"switch {datapath_id:#x} is not one of this lab's")
        with self._host_locks[place[0]]:
            change = self._compare(*place)
        with self._changed:
            self.reconciled_flows += change.changed
            self._confirmed.add(datapath_id)
            self._doubtful.discard(datapath_id)
            self._changed.notify_all()

    def _compare(self, host: str, bridge: str) -> Change:
        """Make a switch hold its program of the policy in force; what had to be changed.

        The caller has the host's lock.
        """
        program, client = self._programs[host], self._clients[host]
        client.match_fragments(bridge)
        client.set_zone_timeouts(program.zones)
        held = client.counters(bridge).keys() - {LEARNED_COOKIE}
        wanted = program.switches[bridge]
        change = difference(held, wanted.flows)
        meters = meter_difference(client.meters(bridge), wanted.meters)
        client.change_meters(bridge, meters.before)
        if change:
            client.bundle(bridge, change.text)
            client.settle()
        client.change_meters(bridge, meters.after)
        _end_sessions(client, program)
        return change

    def disconnected(self, datapath_id: int) -> None:
        """A switch has gone; it keeps its flows."""
        with self._changed:
            self._confirmed.discard(datapath_id)

    def wait_ready(self, timeout: float) -> None:
        """Return when every switch is connected and holds its program.

        `timeout` in seconds. Raises SwitchError naming those that do not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._missing(), timeout):
                names = ", ".join(self._missing())
                raise SwitchError(
                    f"these switches did not take their flows within {timeout:g} s: {names}",
                    hint="The lab's log (`vswitch log`) says what Open vSwitch answered.",
                )

    def _missing(self) -> list[str]:
        return [
            self._programs[host].switches[bridge].switch.id
            for datapath_id, (host, bridge) in self._place.items()
            if datapath_id not in self._confirmed
        ]

    def status(self) -> dict[str, object]:
        """Connected switches, flows wanted, flows written since the start by comparing."""
        with self._changed:
            return {
                "missing": self._missing(),
                "flows": self._flow_count(self._programs),
                "reconciled_flows": self.reconciled_flows,
                "threads": threading.active_count(),
                "policies": list(self._policies),
            }

    # Applies

    def apply(self, policies: Sequence[str], texts: Mapping[str, str]) -> ApplyReport:
        """Put `policies` (paths, with their texts) in the place of those in force.

        Raises InputErrors (nothing was sent), BusyError (another apply is under way), SwitchError
        (its message says what is in force: the old policy, unless the switches had confirmed the new one).
        """
        started = time.monotonic()
        if not self._lock.acquire(timeout=_PATIENCE):
            raise BusyError("another apply is still under way", hint="Try again when it has finished.")
        try:
            sources = self._sources.with_policies(policies, texts)
            site = sources.site()
            programs = self._compiler.compile(site)
            return self._replace(sources, site, programs, started)
        finally:
            self._lock.release()

    def _replace(
        self, sources: Sources, site: Site, programs: dict[str, HostProgram], started: float
    ) -> ApplyReport:
        with self._changed:
            missing = self._missing()
        if missing:
            raise SwitchError(
                f"nothing was changed: not connected: {', '.join(missing)}",
                hint="Wait a moment: switches connect again by themselves.",
            )
        self._settle_doubts()
        steps = [
            _Step(host, program, change)
            for host, new in programs.items()
            for bridge, program in new.switches.items()
            if (change := difference(self._programs[host].switches[bridge].flows, program.flows))
        ]
        touched = sorted(host for host, new in programs.items() if new != self._programs[host])
        with ExitStack() as locks:
            for host in touched:
                locks.enter_context(self._host_locks[host])
            try:
                self._send(touched, steps, programs)
                sources.save(self._state_file)
            except (SwitchError, OSError) as error:
                self._put_back(touched, error)
            before, self._programs = self._programs, programs
            self._sources, self._policies = sources, site.files[1:]
            ended = self._end_gone(touched, before)
        return ApplyReport(
            switches=tuple(
                SwitchChange(step.program.switch.id, len(step.change.add), len(step.change.remove))
                for step in steps
            ),
            flows=self._flow_count(programs),
            flows_changed=sum(step.change.changed for step in steps),
            sessions_ended=ended,
            seconds=time.monotonic() - started,
            warnings=site.warnings,
        )

    def _settle_doubts(self) -> None:
        """Compare the switches that an earlier failure left in doubt."""
        for datapath_id in sorted(self._doubtful):
            try:
                self.connected(datapath_id)
            except SwitchError as error:
                name = self._switch_id(datapath_id)
                raise SwitchError(
                    f"nothing was changed: {name} does not answer: {error.message}", hint=error.hint
                ) from None

    def _switch_id(self, datapath_id: int) -> str:
        host, bridge = self._place[datapath_id]
        return self._programs[host].switches[bridge].switch.id

    @staticmethod
    def _flow_count(programs: dict[str, HostProgram]) -> int:
        return sum(len(p.flows) for program in programs.values() for p in program.switches.values())

    def _send(self, touched: Sequence[str], steps: Sequence[_Step], programs: dict[str, HostProgram]) -> None:
        """Change the switches; returns when none of them goes by an old flow any more."""
        for host in touched:
            self._clients[host].set_zone_timeouts({**self._programs[host].zones, **programs[host].zones})

        def send(step: _Step) -> None:
            self._clients[step.host].bundle(step.program.switch.bridge, step.change.text)

        def confirm(host: str) -> None:
            self._clients[host].settle()

        with ThreadPoolExecutor(self.workers) as pool:
            # Every bundle has to have ended before any is put back: hence the lists.
            outcomes = [pool.submit(send, step) for step in steps]
            wait(outcomes)
            for outcome in outcomes:
                outcome.result()
            list(pool.map(confirm, touched))

    def _put_back(self, touched: Sequence[str], error: SwitchError | OSError) -> NoReturn:
        """After a failed change: compare every switch touched with the old policy, then raise."""
        doubts: list[Switch] = []
        for host in touched:
            for bridge, program in self._programs[host].switches.items():
                try:
                    self._compare(host, bridge)
                except SwitchError as reason:
                    _LOG.error("%s could not be put back: %s", program.switch.id, reason)
                    doubts.append(program.switch)
        with self._changed:
            self._doubtful.update(switch.datapath_id for switch in doubts)
        why = error.message if isinstance(error, SwitchError) else str(error)
        if not doubts:
            raise SwitchError(f"the old policy is still in force everywhere: {why}") from None
        raise SwitchError(
            f"the old policy is still in force, except perhaps on {', '.join(s.id for s in doubts)}: {why}",
            hint="What does not answer is put right before the next apply, or when it connects again.",
        ) from None

    def _end_gone(self, touched: Sequence[str], before: dict[str, HostProgram]) -> int:
        """End the live sessions of rules that are no longer there; how many there were."""

        def end(host: str) -> int:
            client, program = self._clients[host], self._programs[host]
            ended = _end_sessions(client, program) if before[host].marks - program.marks else 0
            client.set_zone_timeouts(program.zones)
            return ended

        try:
            with ThreadPoolExecutor(self.workers) as pool:
                return sum(pool.map(end, touched))
        except SwitchError as error:
            with self._changed:
                self._doubtful.update(dpid for dpid, (host, _) in self._place.items() if host in touched)
            raise SwitchError(
                f"the new policy is in force, but sessions of rules now gone may live on: {error.message}",
                hint="Apply it again: that ends them.",
            ) from None


def _end_sessions(client: SwitchClient, program: HostProgram) -> int:
    """End live flow states whose rule is not in force in their zone; how many there were."""

    def stale(connection: Connection) -> bool:
        return bool(connection.mark) and (connection.zone, connection.mark) not in program.marks

    zones = {connection.zone for connection in client.connections() if stale(connection)}
    return sum(client.flush_connections(zone, stale) for zone in sorted(zones))
