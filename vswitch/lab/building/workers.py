"""The lab's own Python processes: the controller, and the one that serves the guests' services."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from vswitch.errors import LabError
from vswitch.lab.building import guest_services as services
from vswitch.lab.building.guest_services import ServicesReply, plan_line
from vswitch.lab.building.lab_plan import CONTROLLER_SOCKET, OPENFLOW_SOCKET, GuestPlan
from vswitch.lab.building.namespaces import path_of
from vswitch.model.types import TCP

__all__ = ["Controller", "ServiceServer", "Worker"]

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_STEADY = 10.0  # seconds after which a process counts as having worked


class Worker:
    """A process the lab starts again whenever it ends. `name` is for messages."""

    name = "worker"
    argv: Sequence[str] = ()
    inherited: Sequence[int] = ()  # descriptors
    piped = False

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self._started = 0.0
        self._pause = _SHORTEST_PAUSE

    def start(self) -> None:
        """Start the process."""
        pipe = subprocess.PIPE if self.piped else subprocess.DEVNULL
        self._started = monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.argv],
            stdin=pipe,
            stdout=pipe,
            pass_fds=self.inherited,
            start_new_session=True,
        )

    def ended(self) -> float:
        """The process has ended: seconds to wait before it is started again.

        What it had started ends with it: the next one must not be surprised by it.
        """
        if self.process:
            if self.process.returncode is None:  # not waited for yet: its number is nobody else's
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self._close_pipes(self.process)
        lived = monotonic() - self._started
        self._pause = _SHORTEST_PAUSE if lived > _STEADY else min(self._pause * 2, _LONGEST_PAUSE)
        self.restarts += 1
        return self._pause

    def stop(self) -> None:
        """End the process and wait for its end."""
        if self.process:
            if self.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self._close_pipes(self.process)

    @staticmethod
    def _close_pipes(process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


class Controller(Worker):
    """The OpenFlow controller of the lab whose run folder is `rundir`.

    The sockets it listens on are the lab's: switches and requests that come before it has started, or
    while it is being started again, find them and wait.
    """

    name = "controller"

    def __init__(self, rundir: Path) -> None:
        super().__init__()
        self._rundir = rundir
        self._listeners: tuple[socket.socket, ...] = ()

    def start(self) -> None:
        """Start the process."""
        if not self._listeners:
            self._rundir.mkdir(parents=True, exist_ok=True)
            names = (OPENFLOW_SOCKET, CONTROLLER_SOCKET)
            self._listeners = tuple(_listen(self._rundir / name) for name in names)
            self.inherited = tuple(listener.fileno() for listener in self._listeners)
            openflow, requests = map(str, self.inherited)
            self.argv = (
                "vswitch.controller", "--rundir", str(self._rundir),
                "--openflow", openflow, "--requests", requests,
            )  # fmt: skip
        super().start()

    def stop(self) -> None:
        """End the process and wait for its end."""
        super().stop()
        for listener in self._listeners:
            listener.close()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(256)
    return listener


class ServiceServer(Worker):
    """What listens in the guests."""

    name = "services"
    argv = (services.__name__,)
    piped = True

    def __init__(self, guests: Sequence[GuestPlan]) -> None:
        super().__init__()
        self._plan = plan_line(
            services.GuestService(
                guest=plan.guest.name,
                netns=path_of(plan.namespace),
                protocol="tcp" if service.protocol == TCP else "udp",
                port=service.port,
                name=service.name,
            )
            for plan in guests
            for service in plan.guest.services
        )

    def serve(self, timeout: float) -> ServicesReply:
        """Open all services; returns when they listen. Raises LabError if that takes over `timeout` s."""
        process = self.process
        if not process or not process.stdin or not process.stdout:
            raise LabError("the process that serves the guests' services does not run")
        try:
            process.stdin.write(self._plan)
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], timeout)
            if not ready:
                raise LabError(f"the guests' services are not up after {timeout:g} s")
            return ServicesReply.parse(process.stdout.readline())
        except OSError as error:
            raise LabError(
                f"the guests' services cannot be started: {os.strerror(error.errno or 0)}"
            ) from None
