"""Changes of what the switches hold: all of it or nothing, confirmed before they are reported.

An apply compiles first, then sends each switch the difference in one atomic bundle, waits until the
datapath has dropped every cached verdict of the old policy, and ends the live flows of rules that
are no longer there. If one switch refuses, those already changed are changed back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from controllers.state import Sources
from vswitch.errors import BusyError, LabError, SwitchError
from vswitch.model.site import Site
from vswitch.openvswitch import Connection, SwitchClient
from vswitch.pipeline import LEARNED_COOKIE, Change, Compiler, HostProgram, SwitchProgram, difference

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
    """One bundle: where, what, and what puts it back."""

    client: SwitchClient
    program: SwitchProgram
    change: Change
    undo: Change


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
        self._programs = self._compiler.compile(site)
        self._clients = {
            host.name: SwitchClient(rundir / "hosts" / str(index)) for index, host in enumerate(site.hosts)
        }
        self._place = {
            switch.datapath_id: (host.name, switch.bridge) for host in site.hosts for switch in host.switches
        }
        self._host_locks = {host.name: threading.Lock() for host in site.hosts}
        self._confirmed: set[int] = set()
        self._changed = threading.Condition()
        self.reconciled_flows = 0

    # Sessions with the switches

    def connected(self, datapath_id: int) -> None:
        """A switch has connected: make it hold its program, touching nothing that is right."""
        place = self._place.get(datapath_id)
        if place is None:
            raise LabError(f"switch {datapath_id:#x} is not one of this lab's")
        host, bridge = place
        with self._host_locks[host]:
            program = self._programs[host]
            client = self._clients[host]
            client.set_zone_timeouts(program.zones)
            held = client.counters(bridge).keys() - {LEARNED_COOKIE}
            change = difference(held, program.switches[bridge].flows)
            if change:
                client.bundle(bridge, change.text)
                client.wait_revalidated()
            _end_sessions(client, program)
        with self._changed:
            self.reconciled_flows += change.changed
            self._confirmed.add(datapath_id)
            self._changed.notify_all()

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
                "policies": list(self._sources.policies or self._sources.site().files[1:]),
            }

    # Applies

    def apply(self, policies: Sequence[str], texts: Mapping[str, str]) -> ApplyReport:
        """Put `policies` (paths, with their texts) in the place of those in force.

        Raises InputErrors (nothing was sent), BusyError (another apply is under way), SwitchError
        (every switch is back at the old policy).
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
        steps = [
            _Step(self._clients[host], program, change, difference(program.flows, before.flows))
            for host, new in programs.items()
            for bridge, program in new.switches.items()
            if (change := difference((before := self._programs[host].switches[bridge]).flows, program.flows))
        ]
        touched = {host for host, new in programs.items() if new != self._programs[host]}
        for lock in (self._host_locks[host] for host in sorted(touched)):
            lock.acquire()
        try:
            for host in touched:
                both = {**self._programs[host].zones, **programs[host].zones}
                self._clients[host].set_zone_timeouts(both)
            self._send(steps)
            ended = self._settle(touched, programs)
            sources.save(self._state_file)
            self._sources, self._programs = sources, programs
        finally:
            for host in touched:
                self._host_locks[host].release()
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

    @staticmethod
    def _flow_count(programs: dict[str, HostProgram]) -> int:
        return sum(len(p.flows) for program in programs.values() for p in program.switches.values())

    def _send(self, steps: Sequence[_Step]) -> None:
        def send(step: _Step) -> SwitchError | None:
            try:
                step.client.bundle(step.program.switch.bridge, step.change.text)
            except SwitchError as error:
                return error
            return None

        with ThreadPoolExecutor(self.workers) as pool:
            outcomes = list(pool.map(send, steps))
        failed = [error for error in outcomes if error is not None]
        if not failed:
            return
        for step, error in zip(steps, outcomes, strict=True):
            if error is None:
                step.client.bundle(step.program.switch.bridge, step.undo.text)
                step.client.wait_revalidated()
        raise SwitchError(
            f"the old policy is still in force everywhere: a switch refused the new one: {failed[0].message}",
            hint=failed[0].hint,
        )

    def _settle(self, touched: set[str], programs: dict[str, HostProgram]) -> int:
        def settle(host: str) -> int:
            client = self._clients[host]
            client.wait_revalidated()
            gone = self._programs[host].marks - programs[host].marks
            ended = _end_sessions(client, programs[host]) if gone else 0
            client.set_zone_timeouts(programs[host].zones)
            return ended

        with ThreadPoolExecutor(self.workers) as pool:
            return sum(pool.map(settle, sorted(touched)))


def _end_sessions(client: SwitchClient, program: HostProgram) -> int:
    """End live flow states whose rule is not in force; how many there were."""

    def stale(connection: Connection) -> bool:
        return bool(connection.mark) and connection.mark not in program.marks

    zones = {connection.zone for connection in client.connections() if stale(connection)}
    return sum(client.flush_connections(zone, stale) for zone in sorted(zones))
