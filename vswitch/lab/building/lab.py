"""A lab in this process's own private world: built from a site, watched, taken down.

For use inside `isolation` only: it makes namespaces under /run and mounts over /etc/hosts, which must
be nobody else's. `supervisor` runs one for the command line, `network.LabNet` for Python and Mininet.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from vswitch.compiled import CompiledPolicy
from vswitch.errors import LabError, OutOfResources, SwitchError
from vswitch.exhausted import exhausted_in
from vswitch.json_values import Json
from vswitch.lab import isolation
from vswitch.lab.building import namespaces
from vswitch.lab.building.lab_plan import CONTROLLER_SOCKET, OPENFLOW_SOCKET, InstancePlan, make_plan
from vswitch.lab.building.netlink import link_up
from vswitch.lab.building.policy_in_force import PolicyInForce
from vswitch.lab.building.workers import Controller, ServiceServer, Worker
from vswitch.lab.isolation.cells import Cells, Way, open_way
from vswitch.model.name_lookup import find_guest
from vswitch.model.resolving.sources import Sources
from vswitch.model.site import Guest, Site
from vswitch.openvswitch import Instance, SwitchClient, start_all, stop_all
from vswitch.patience import Patience
from vswitch.pipeline import check_lookups
from vswitch.wire import ask_descriptors, ask_path, connect
from vswitch.wording import counted

__all__ = ["RUNDIR", "Lab"]

RUNDIR = Path("/run/vswitch")

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_HOSTS = Path("/etc/hosts")
_SHORT_PATIENCE = 2.0  # seconds
_PATIENCE = 30.0  # seconds for what shows signs of life
_NORMAL = "add priority=0 actions=NORMAL"


class Lab:
    """One running site.

    `sources` are the site's files; the controller works from them. `site` is the site as it was started
    with: an apply changes nothing of it but ACLs, and `policy` has those in force.
    `switching` "hyper-v" has the controller fill the switches; "normal" makes each an ordinary learning
    switch with VLANs, without a controller, ACLs and private VLANs. `datapath` is "netdev" (userspace)
    or "system" (the kernel's module).
    `failed` is called, with a sentence, when Open vSwitch has died under the lab. `name` is the lab's,
    `folder` where it was started.
    """

    def __init__(
        self,
        site: Site,
        sources: Sources | None = None,
        *,
        switching: Literal["hyper-v", "normal"] = "hyper-v",
        datapath: Literal["netdev", "system"] = "netdev",
        failed: Callable[[str], None] | None = None,
        name: str = "",
        folder: str = "",
    ) -> None:
        self.name = name or site.name
        self.folder = folder
        self.since = datetime.now(UTC)
        self._cells = Cells(self.name)
        self.rundir = RUNDIR
        self.site = site
        self.policy = PolicyInForce(site, sources, RUNDIR, self._impatient_client, self._compiled)
        self.plan = make_plan(site, RUNDIR, controller=switching == "hyper-v")
        self.switching = switching
        self._failed = failed or (lambda reason: print(reason, file=sys.stderr))
        self._instances = {
            plan.namespace: Instance(
                plan.name,
                RUNDIR / plan.rundir,
                netns=namespaces.path_of(plan.namespace),
                datapath=datapath,
            )
            for plan in self.plan.instances
        }
        self.controller = Controller(RUNDIR) if switching == "hyper-v" else None
        self.services = ServiceServer(self.plan.guests)
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        self._starting = threading.Lock()  # held while a worker is being started again
        self._watcher: threading.Thread | None = None
        self._wake_read, self._wake_write = os.pipe()

    # -- finding one's way ---------------------------------------------------------------------

    def instance(self, host: str) -> Instance:
        """The Open vSwitch of a Hyper-V host. Raises LabError for an unknown name."""
        for plan in self.plan.hosts:
            if plan.name == host:
                return self._instances[plan.namespace]
        raise LabError(f"there is no host {host!r} in this lab")

    def guest(self, name: str) -> Guest:
        """The guest that a user calls `name`. Raises InputError, as `find_guest`."""
        return find_guest(self.site, name)

    def guest_netns(self, name: str) -> str:
        """The path of a guest's network namespace. Raises InputError, as `find_guest`."""
        guest = self.guest(name)
        return self._guest_paths[guest.name]

    def way_into(self, name: str | None) -> Way:
        """The way into a guest for a program; without a name, to the lab's own processes and files.

        Raises InputError for an unknown name, LabError, OutOfResources.
        """
        if name is None:
            kinds = ("user", "mnt", "pid", "net")
            return open_way((kind, Path(f"/proc/self/ns/{kind}")) for kind in kinds)
        return self._cells.way(self.guest_netns(name), name)

    @cached_property
    def _guest_paths(self) -> dict[str, str]:
        return {plan.guest.name: namespaces.path_of(plan.namespace) for plan in self.plan.guests}

    def processes(self) -> dict[str, int]:
        """Process ids, in the lab's own numbering, of all that keeps the lab going."""
        found = {"supervisor": os.getpid()}
        for worker in self.workers:
            if worker.process:
                found[worker.name] = worker.process.pid
        for plan in self.plan.instances:
            for program, process in self._instances[plan.namespace].processes.items():
                found[f"{program} of {plan.name}"] = process.pid
        return found

    # -- coming up -----------------------------------------------------------------------------

    def up(self, progress: Callable[[str], None] = lambda text: None, timeout: float = 60.0) -> None:
        """Build everything; returns when every switch forwards by its flows and every service listens.

        Raises EnvironmentError_, LabError, SwitchError, or InputError for a policy that the switches
        cannot carry out; call `down` then.
        """
        if not isolation.inside():
            raise LabError(
                "a lab is built in a private world only, and this process is not in one",
                hint="Call vswitch.lab.isolation.enter() first thing in the script.",
            )
        if self.controller:
            check_lookups(self.site)
        self._write_sources()
        for worker in self.workers:  # they load while the rest is built
            worker.start()
        self._build_namespaces(progress)
        progress("connecting adapters")
        namespaces.each(self._add_bridges, self.plan.instances)
        self._start_services(timeout)
        if self.controller:
            progress("installing flows")
            self._await_controller(timeout)
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    @property
    def workers(self) -> list[Worker]:
        """The processes that are started again when they end."""
        return [self.controller, self.services] if self.controller else [self.services]

    def _write_sources(self) -> None:
        self.rundir.mkdir(parents=True, exist_ok=True)
        self.policy.start()
        names = self.rundir / "names"
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for guest in self.site.guests:
            if _HOST_NAME.fullmatch(guest.name):
                lines += [f"{address.ip} {guest.name}" for address in guest.addresses]
        names.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if _HOSTS.is_file():
            namespaces.bind(names, _HOSTS)

    def _build_namespaces(self, progress: Callable[[str], None]) -> None:
        progress(
            f"starting {counted(len(self.plan.instances), 'switch', 'switches')}"
            f" and {counted(len(self.plan.guests), 'guest')}"
        )
        namespaces.each(
            lambda plan: namespaces.build_switch_namespace(plan.namespace, plan.cables), self.plan.instances
        )
        outcome: list[BaseException] = []

        def build() -> None:
            try:
                self._build_guests()
            except BaseException as error:  # raised below, in the caller's thread
                outcome.append(error)

        guests = threading.Thread(target=build, name="guests")
        guests.start()
        try:
            start_all(self._instances.values())
        finally:
            guests.join()
        if outcome:
            raise outcome[0]

    def _build_guests(self) -> None:
        with ExitStack() as stack:
            switches = {
                plan.namespace: stack.enter_context(namespaces.netlink_of(plan.namespace))
                for plan in self.plan.instances
            }
            namespaces.each(lambda uplink: namespaces.join(*uplink), self.plan.uplinks)
            maker = stack.enter_context(namespaces.Maker())
            namespaces.each(lambda guest: namespaces.build_guest(guest, switches, maker), self.plan.guests)
            for plan in self.plan.instances:  # the ends of uplinks, and of cables within
                names = (port.name for bridge in plan.bridges for port in bridge.ports)
                switches[plan.namespace].send(link_up(name) for name in names)

    def _add_bridges(self, plan: InstancePlan) -> None:
        instance = self._instances[plan.namespace]
        (instance.rundir / OPENFLOW_SOCKET).symlink_to(self.rundir / OPENFLOW_SOCKET)
        try:
            instance.add_bridges(plan.bridges)
            for bridge, lines in plan.flows:
                instance.bundle(bridge, lines)
            if self.switching == "normal" and plan in self.plan.hosts:
                for spec in plan.bridges:
                    if spec.name not in dict(plan.flows):
                        instance.bundle(spec.name, _NORMAL)
        except SwitchError as error:
            raise SwitchError(f"{plan.name}: {error.message}", hint=error.hint) from None

    def _start_services(self, timeout: float) -> None:
        reply = self.services.serve(timeout)
        if reply.failed:
            first = reply.failed[0]
            kind = OutOfResources if exhausted_in(first.reason) else LabError
            raise kind(
                f"{counted(len(reply.failed), 'service')} cannot be started, the first is "
                f"{first.protocol}/{first.port} of {first.guest}: {first.reason}",
                hint="If it says that too many files are open, raise the limit: ulimit -n 100000",
            )

    def _await_controller(self, timeout: float) -> None:
        """Return when every switch holds its flows; raise when the controller ends before."""
        outcome: list[BaseException] = []

        def wait() -> None:
            try:
                self.ask_controller("wait_ready", timeout=timeout)
            except BaseException as error:  # raised below, in the caller's thread
                outcome.append(error)

        waiting = threading.Thread(target=wait, name="ready", daemon=True)
        waiting.start()
        process = self.controller.process if self.controller else None
        while waiting.is_alive():
            waiting.join(0.05)
            if process and process.poll() is not None:
                raise LabError("the controller ended at once", hint="The lab's log says why.")
        if outcome:
            raise outcome[0]

    # -- running -------------------------------------------------------------------------------

    def ask_controller(self, op: str, *, timeout: float = 60.0, **args: Json) -> Json:
        """A request to the controller. Raises what it answers, LabError if it does not run."""
        if not self.controller:
            raise LabError("this lab has no controller: its switches are ordinary learning switches")
        answer: Json = ask_path(
            self.rundir / CONTROLLER_SOCKET, op, args, timeout=timeout, who="the lab's controller"
        )
        return answer

    def _compiled(self, digest: str) -> CompiledPolicy | None:
        """What the controller has made of the files with this digest; None if it does not say, or at once."""
        if not self.controller:
            return None
        patience = Patience(_SHORT_PATIENCE, _SHORT_PATIENCE, _PATIENCE)
        try:
            sock = connect(str(self.rundir / CONTROLLER_SOCKET), patience.connecting)
            _, descriptors = ask_descriptors(sock, "compiled", {"digest": digest}, patience=patience)
            with ExitStack() as files:
                opened = [files.enter_context(os.fdopen(each, "rb")) for each in descriptors]
                return CompiledPolicy.from_file(opened[0]) if opened else None
        except (OSError, ValueError, LabError) as error:
            print(f"the controller does not say what is in force: {error}", file=sys.stderr)
            return None

    def _impatient_client(self, host: str) -> SwitchClient:
        """A host's Open vSwitch for questions that must not wait long for it."""
        return SwitchClient(self.instance(host).rundir, timeout=_SHORT_PATIENCE)

    def _watch(self) -> None:
        """Start workers again when they end; report the end of an Open vSwitch. Runs in a thread."""
        for plan in self.plan.instances:
            for program, process in self._instances[plan.namespace].processes.items():
                self._watch_pid(process.pid, f"{program} of {plan.name}")
        for worker in self.workers:
            if worker.process:
                self._watch_pid(worker.process.pid, worker)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if self._ending.is_set():
                    return
                self._selector.unregister(key.fileobj)
                os.close(key.fd)
                if isinstance(key.data, Worker):
                    restart = partial(self._restart, key.data)
                    try:
                        threading.Thread(target=restart, daemon=True).start()
                    except RuntimeError:  # no more threads: the others wait their turn
                        restart()
                else:
                    self._failed(f"{key.data} has ended: without it the lab cannot go on")

    def _watch_pid(self, pid: int, data: object) -> None:
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, data)

    def _restart(self, worker: Worker) -> None:
        """Start a worker that has ended again; keep trying where the machine has run out of something."""
        while not self._ending.is_set():
            try:
                self._start_again(worker)
                return
            except (OSError, RuntimeError, MemoryError) as error:
                print(f"{worker.name} cannot be started again now: {error}", file=sys.stderr)

    def _start_again(self, worker: Worker) -> None:
        pause = worker.ended()
        print(f"{worker.name} has ended; starting it again in {pause:g} s", file=sys.stderr)
        self._ending.wait(pause)
        with self._starting:
            if self._ending.is_set():
                return
            worker.start()
        if isinstance(worker, ServiceServer):
            try:
                worker.serve(60.0)
            except LabError as error:  # it is down again: the next round starts another
                print(error, file=sys.stderr)
        with self._starting:
            if worker.process and not self._ending.is_set():
                self._watch_pid(worker.process.pid, worker)

    # -- going down ----------------------------------------------------------------------------

    def end_guests(self) -> None:
        """End what runs in guests, and what limits it: the one thing that the kernel does not clear away."""
        self._cells.close()

    def down(self) -> None:
        """End all processes the lab started and let its namespaces go. Harmless if it is down."""
        with self._starting:  # no worker comes back after this
            self._ending.set()
        os.write(self._wake_write, b".")
        if self._watcher:
            self._watcher.join()
            self._watcher = None
        self.end_guests()
        for worker in self.workers:
            worker.stop()
        stop_all(self._instances.values())
        namespaces.remove(plan.namespace for plan in self.plan.guests)
        namespaces.remove(plan.namespace for plan in self.plan.instances)
        if isolation.inside():
            namespaces.unbind(_HOSTS)
            shutil.rmtree(self.rundir, ignore_errors=True)
