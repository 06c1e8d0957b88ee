"""The process that owns a lab: `python -m vswitch.lab.process.supervisor`, started by `client.start`.

It gets two sockets from outside its private world: one that listens for requests, and one over which
the first request, `up`, has come. If whoever asked for `up` goes away before it is done, so does the
lab. It ends by itself when Open vSwitch dies; with it the kernel ends all that is in the lab.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from vswitch.answer_data import Reply, as_json
from vswitch.errors import LabError
from vswitch.json_values import Json
from vswitch.lab.building.lab import Lab
from vswitch.lab.isolation import raise_file_limit
from vswitch.lab.process.lab_operations import OPERATIONS, status
from vswitch.log import log_whatever_happens
from vswitch.model.resolving.sources import Sources
from vswitch.wire import WithDescriptors, peer_is_us, serve, serve_connection

__all__ = ["main"]


class Supervisor:
    """Answers requests about one lab."""

    def __init__(self) -> None:
        self.lab: Lab | None = None
        self.up = threading.Event()

    def first(self, op: str, args: dict[str, Json], progress: Callable[[str], None]) -> Json:
        """The request `up`: builds the lab. Arguments: sources, and those of `Lab`."""
        if op != "up":
            raise LabError(f"the first request to a lab is 'up', not {op!r}")
        self.lab = _lab(**args)
        self.lab.up(progress)
        return _reply(status(self.lab))

    def request(
        self, op: str, args: dict[str, Json], progress: Callable[[str], None]
    ) -> Json | WithDescriptors:
        """Any other request; all but `down` wait until the lab is up."""
        del progress
        if op == "down":
            self.up.clear()  # whoever asks from now on hears of the end, as guests' programs do
            if self.lab:
                self.lab.end_guests()
            os._exit(0)  # PID 1 follows, and with it every process and namespace
        self.up.wait()
        function = OPERATIONS.get(op)
        if function is None:
            raise LabError(f"this lab does not know {op!r}", hint="It may run another version of vswitch.")
        answer = function(self.lab, **args)
        return answer if isinstance(answer, WithDescriptors) else _reply(answer)


def _lab(*, sources: Any, **options: Any) -> Lab:
    """The lab of these files; `options` are those of `Lab`."""
    files = Sources.from_dict(sources)
    return Lab(files.site(), files, failed=_give_up, **options)


def _reply(answer: Reply) -> Json:
    plain: Json = as_json(answer)
    return plain


def _give_up(reason: str) -> NoReturn:
    print(f"the lab ends: {reason}", file=sys.stderr)
    os._exit(1)


def _end_with(starter: socket.socket, done: threading.Event) -> None:
    """End the lab if whoever starts it goes away before `done` is set. Runs in a thread."""
    poller = select.poll()
    poller.register(starter, select.POLLRDHUP | select.POLLHUP)
    while not done.is_set():
        if poller.poll(200) and not done.is_set():
            _give_up("whoever started it has gone away")


def main() -> None:
    """Build the lab, report, then answer requests until told to end."""
    parser = argparse.ArgumentParser(prog="vswitch.lab.process.supervisor")
    parser.add_argument("--lab", required=True, help="the lab's address; for those who look for its process")
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the listening socket")
    parser.add_argument("--starter", type=int, required=True, help="descriptor of the starter's socket")
    parser.add_argument("--attached", action="store_true", help="end with the starter, even when up")
    parser.add_argument("extensions", nargs="*", help="modules with more operations")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_whatever_happens()
    raise_file_limit()
    listener = socket.socket(fileno=arguments.listener)
    starter = socket.socket(fileno=arguments.starter)
    for module in arguments.extensions:
        import_module(module)
    for sock in (listener, starter):  # not for the lab's children
        sock.set_inheritable(False)

    supervisor = Supervisor()
    done = threading.Event()
    failure: list[Exception] = []

    def first(op: str, args: dict[str, Any], progress: Callable[[str], None]) -> Any:
        try:
            return supervisor.first(op, args, progress)
        except Exception as error:
            failure.append(error)
            raise
        finally:
            if not arguments.attached:
                done.set()

    threading.Thread(target=_end_with, args=(starter.dup(), done), daemon=True).start()
    answering = {"admit": peer_is_us}
    threading.Thread(target=serve, args=(listener, supervisor.request), kwargs=answering, daemon=True).start()
    serve_connection(starter, first)
    if failure or supervisor.lab is None:
        os._exit(1)
    supervisor.up.set()
    threading.Event().wait()


if __name__ == "__main__":
    main()
