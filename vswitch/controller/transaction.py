"""Changes of what the switches hold: all of it or nothing, confirmed before they are reported.

An apply compiles first and records what it is about to do, then sends each switch the difference in one
atomic bundle together with the new program's mark, waits until the datapath has dropped every cached
verdict of the old policy, and ends the live flows of rules that are no longer there. If one switch refuses,
every switch is compared with the old policy and put back to it. A switch that does not even answer that is
tried again until it does.

A controller that comes back and finds the record of an apply goes by the marks: if every switch concerned
carries the new one, the new policy is in force; else all are put back to the old policy.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from vswitch.compiled import CompiledPolicy
from vswitch.controller.bridge_steps import BridgeStep, end_sessions, reason_of
from vswitch.errors import (
    BusyError,
    InForceUnknown,
    LabError,
    NotInForce,
    SessionsLeft,
    SwitchError,
    SwitchTimeout,
)
from vswitch.inforce import Attempt, Record, held_mark
from vswitch.lab_answers import ApplyReport, ControllerStatus, Holding, SwitchChange
from vswitch.model.resolving.memo import Memo
from vswitch.model.resolving.sources import Sources
from vswitch.model.site import Switch
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import (
    LEARNED_COOKIE,
    MARK_COOKIE,
    Compiler,
    FlowChange,
    HostProgram,
    difference,
    mark_of,
    mark_text,
    meter_difference,
)

__all__ = ["Transactions"]

_LOG = logging.getLogger(__name__)

#: Seconds a second apply waits for the one under way before it is refused.
_PATIENCE = 10.0

#: Seconds between two tries to put a switch right that does not answer.
_PAUSE = 1.0
#: Seconds until a switch that fell silent is looked at a second time: what it had received by then, from a
#: process that has ended since, it has carried out by now.
_SECOND_LOOK = 1.0


class Transactions:
    """The one place that writes to the lab's switches.

    `rundir` is the lab's run folder: the record of what is in force (see `vswitch.inforce`) and
    `hosts/<index>/` with each host's Open vSwitch.
    """

    workers = 4

    def __init__(self, rundir: Path) -> None:
        self._record = Record(rundir)
        self._compiler = Compiler()
        self._lock = threading.Lock()
        self._memo = Memo()
        self._take(*self._compile(self._record.settled()))
        site = self._in_force[1].site
        self._clients = {
            host.name: SwitchClient(rundir / "hosts" / str(index)) for index, host in enumerate(site.hosts)
        }
        self._place = {
            switch.datapath_id: (host.name, switch.bridge) for host in site.hosts for switch in host.switches
        }
        self._host_locks = {host.name: threading.Lock() for host in site.hosts}
        self._confirmed: set[int] = set()
        self._doubtful: set[int] = set()
        self._undoing = False  # the record of an apply goes once no switch is in doubt
        self._trying = False
        self._changed = threading.Condition()
        self.reconciled_flows = 0
        if attempt := self._record.attempt():
            self._take_up(attempt)

    # What is in force

    def _compile(self, sources: Sources) -> tuple[Sources, CompiledPolicy]:
        """These files with what they mean. Raises InputErrors; one thread at a time."""
        site = sources.site(self._memo)
        return sources, CompiledPolicy(site, self._compiler.compile(site))

    def _take(self, sources: Sources, compiled: CompiledPolicy) -> None:
        """Note that this is what the switches are to hold."""
        self._in_force = sources, compiled
        self._programs = compiled.programs

    def compiled(self, digest: str) -> CompiledPolicy | None:
        """What the policy in force means, if its files are those with this digest (see `Sources.digest`)."""
        sources, compiled = self._in_force
        return compiled if sources.digest() == digest else None

    # An apply that the last controller did not finish

    def _take_up(self, attempt: Attempt) -> None:
        """Decide by the switches' marks what is in force; all of them are made to hold it as they connect."""
        held = self._holding(attempt)
        if not attempt.undoing and attempt.in_force(held) != "new":
            time.sleep(_SECOND_LOOK)
            held = self._holding(attempt)
        said = ", ".join(f"{switch}: {what}" for switch, what in held.items()) or "no flow differs"
        names = ", ".join(attempt.sources.policies or ())
        if not attempt.undoing and attempt.in_force(held) == "new":
            self._take(*self._compile(attempt.sources))
            for host in {host for host, _ in self._place.values()}:
                self._forget_verdicts(host)
            self._record.commit()
            _LOG.warning("an apply of %s was cut short; it is in force (%s)", names, said)
            return
        if not attempt.undoing:
            self._record.undo()
        self._undoing = True
        self._doubtful = {
            datapath_id for datapath_id in self._place if self._switch_id(datapath_id) in attempt.marks
        }
        _LOG.warning("an apply of %s was cut short; it is taken back (%s)", names, said)

    def _holding(self, attempt: Attempt) -> dict[str, Holding]:
        found: dict[str, Holding] = {}
        for datapath_id, (host, bridge) in self._place.items():
            switch = self._switch_id(datapath_id)
            if switch not in attempt.marks:
                continue
            try:
                found[switch] = attempt.holding(switch, held_mark(self._clients[host], bridge))
            except SwitchError as error:
                _LOG.error("%s: %s", switch, error)
                found[switch] = "unknown"
        return found

    def _forget_verdicts(self, host: str) -> None:
        try:
            self._clients[host].settle()
        except SwitchError as error:  # the datapath comes to it by itself within a second
            _LOG.error("%s: %s", host, error)

    # Sessions with the switches

    def connected(self, datapath_id: int) -> None:
        """A switch has connected: make it hold its program, touching nothing that is right."""
        if datapath_id not in self._place:
            raise LabError(f"switch {datapath_id:#x} is not one of this lab's")
        self._make_right(datapath_id)
        with self._changed:
            self._confirmed.add(datapath_id)
            self._changed.notify_all()

    def _make_right(self, datapath_id: int) -> None:
        """Compare a switch with its program; one in doubt twice, and then it no longer is."""
        for look in range(2 if datapath_id in self._doubtful else 1):
            if look:
                time.sleep(_SECOND_LOOK)
            host, bridge = self._place[datapath_id]
            with self._host_locks[host]:
                change = self._compare(host, bridge)
            with self._changed:
                self.reconciled_flows += change.changed
        with self._changed:
            self._doubtful.discard(datapath_id)
            if self._undoing and not self._doubtful:
                self._undoing = False
                self._record.undone()
                _LOG.warning("the policy in force is the one from before that apply, on every switch")

    def _compare(self, host: str, bridge: str) -> FlowChange:
        """Make a switch hold its program of the policy in force; what had to be changed.

        The caller has the host's lock.
        """
        program, client = self._programs[host], self._clients[host]
        client.match_fragments(bridge)
        client.set_zone_timeouts(program.zones)
        held = client.counters(bridge).keys() - {LEARNED_COOKIE, MARK_COOKIE}
        wanted = program.switches[bridge]
        change = difference(held, wanted.flows)
        mark = mark_of(wanted.flows)
        meters = meter_difference(client.meters(bridge), wanted.meters)
        client.change_meters(bridge, meters.before)
        if change:
            client.bundle(bridge, change.text + mark_text(mark))
            client.settle()
        elif held_mark(client, bridge) != mark:
            client.bundle(bridge, mark_text(mark))
        client.change_meters(bridge, meters.after)
        end_sessions(client, program)
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

    def status(self) -> ControllerStatus:
        """Connected switches, flows wanted, flows written since the start by comparing."""
        with self._changed:
            return ControllerStatus(
                missing=tuple(self._missing()),
                flows=self._flow_count(self._programs),
                reconciled_flows=self.reconciled_flows,
                threads=threading.active_count(),
                policies=self._in_force[1].site.files[1:],
            )

    # Applies

    def apply(self, policies: Sequence[str], texts: Mapping[str, str]) -> ApplyReport:
        """Put `policies` (paths, with their texts) in the place of those in force.

        Raises InputErrors (nothing was sent), BusyError (another apply is under way), NotInForce (the old
        policy is in force), InForceUnknown (a switch does not say what it holds), SessionsLeft (the new
        policy is in force).
        """
        started = time.monotonic()
        if not self._lock.acquire(timeout=_PATIENCE):
            raise BusyError("another apply is still under way", hint="Try again when it has finished.")
        try:
            sources = self._in_force[0].with_policies(policies, texts)
            return self._replace(*self._compile(sources), started)
        finally:
            self._lock.release()

    def _replace(self, sources: Sources, compiled: CompiledPolicy, started: float) -> ApplyReport:
        programs = compiled.programs
        with self._changed:
            missing = self._missing()
        if missing:
            raise NotInForce(
                f"nothing was changed: not connected: {', '.join(missing)}",
                hint="Wait a moment: switches connect again by themselves.",
            )
        self._settle_doubts()
        steps = [
            BridgeStep(host, held, program, change)
            for host, new in programs.items()
            for bridge, program in new.switches.items()
            if (change := difference((held := self._programs[host].switches[bridge]).flows, program.flows))
        ]
        touched = sorted(host for host, new in programs.items() if new != self._programs[host])
        with ExitStack() as locks:
            for host in touched:
                locks.enter_context(self._host_locks[host])
            try:
                self._record.begin(sources, {step.program.switch.id: step.marks for step in steps})
            except OSError as error:
                raise NotInForce(f"nothing was changed: the apply cannot be recorded: {error}") from None
            try:
                self._send(touched, steps, programs)
                self._record.commit()
            except Exception as error:  # whatever it is, some switches hold the new policy
                self._put_back(touched, error)
            before = self._programs
            self._take(sources, compiled)
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
            warnings=compiled.site.warnings,
        )

    def _settle_doubts(self) -> None:
        """Compare the switches that an earlier failure left in doubt."""
        for datapath_id in sorted(self._doubtful):
            try:
                self._make_right(datapath_id)
            except SwitchError as error:
                name = self._switch_id(datapath_id)
                raise NotInForce(
                    f"nothing was changed: {name} does not answer: {error.message}", hint=error.hint
                ) from None

    def _switch_id(self, datapath_id: int) -> str:
        host, bridge = self._place[datapath_id]
        return self._programs[host].switches[bridge].switch.id

    @staticmethod
    def _flow_count(programs: Mapping[str, HostProgram]) -> int:
        return sum(len(p.flows) for program in programs.values() for p in program.switches.values())

    def _send(
        self, touched: Sequence[str], steps: Sequence[BridgeStep], programs: Mapping[str, HostProgram]
    ) -> None:
        """Change the switches; returns when none of them goes by an old flow any more."""
        for host in touched:
            self._clients[host].set_zone_timeouts({**self._programs[host].zones, **programs[host].zones})

        def send(step: BridgeStep) -> None:
            self._clients[step.host].bundle(step.program.switch.bridge, step.text)

        def confirm(host: str) -> None:
            self._clients[host].settle()

        with ThreadPoolExecutor(self.workers) as pool:
            # Every bundle has to have ended before any is put back: hence the lists.
            outcomes = [pool.submit(send, step) for step in steps]
            wait(outcomes)
            for outcome in outcomes:
                outcome.result()
            list(pool.map(confirm, touched))

    def _put_back(self, touched: Sequence[str], error: Exception) -> NoReturn:
        """After a failed change: compare every switch touched with the old policy, then raise."""
        why = reason_of(error)
        self._record.undo()
        doubts = self._compare_all(touched)
        if isinstance(error, SwitchTimeout) and not doubts:
            time.sleep(_SECOND_LOOK)
            doubts = self._compare_all(touched)
        if not doubts:
            self._record.undone()
            raise NotInForce(f"the old policy is still in force everywhere: {why}") from None
        self._doubt(doubts, undoing=True)
        names = ", ".join(switch.id for switch in doubts)
        raise InForceUnknown(
            f"the old policy is still in force, except perhaps on {names}: {why}",
            hint="A switch that does not answer is put back as soon as it does.",
        ) from None

    def _compare_all(self, hosts: Sequence[str]) -> list[Switch]:
        """Make all switches of these hosts hold the policy in force; those that could not be made to."""
        doubts: list[Switch] = []
        for host in hosts:
            for bridge, program in self._programs[host].switches.items():
                try:
                    self._compare(host, bridge)
                except (SwitchError, OSError) as reason:
                    _LOG.error("%s could not be put back: %s", program.switch.id, reason)
                    doubts.append(program.switch)
        return doubts

    def _doubt(self, switches: Sequence[Switch], *, undoing: bool) -> None:
        """Keep trying to put these switches right until it is done."""
        with self._changed:
            self._doubtful.update(switch.datapath_id for switch in switches)
            self._undoing = self._undoing or undoing
            if not self._trying:
                self._trying = True
                threading.Thread(target=self._keep_trying, name="doubts", daemon=True).start()

    def _keep_trying(self) -> None:
        while True:
            time.sleep(_PAUSE)
            with self._changed:
                doubts = sorted(self._doubtful)
                if not doubts:
                    self._trying = False
                    return
            for datapath_id in doubts:
                try:
                    self._make_right(datapath_id)
                except (SwitchError, OSError) as error:
                    _LOG.error("%s: %s", self._switch_id(datapath_id), error)

    def _end_gone(self, touched: Sequence[str], before: Mapping[str, HostProgram]) -> int:
        """End the live sessions of rules that are no longer there; how many there were."""

        def end(host: str) -> int:
            client, program = self._clients[host], self._programs[host]
            ended = end_sessions(client, program) if before[host].marks - program.marks else 0
            client.set_zone_timeouts(program.zones)
            return ended

        try:
            with ThreadPoolExecutor(self.workers) as pool:
                return sum(pool.map(end, touched))
        except Exception as error:  # whatever it is, the new policy is in force
            hosts = [self._programs[host] for host in touched]
            self._doubt([p.switch for host in hosts for p in host.switches.values()], undoing=False)
            raise SessionsLeft(
                f"the new policy is in force, but sessions of rules now gone may live on: {reason_of(error)}",
                hint="They are ended as soon as the switch answers.",
            ) from None
