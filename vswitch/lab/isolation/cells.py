"""The cells that guests' programs run in: made with the first program, and limited.

A guest has no process of its own until something is run in it. Then the lab starts its cell (see `cell`)
and hands out the way in. Everything in a cell shares limits of processes and memory: control groups
where we may make them (as root), else RLIMIT_NPROC, which counts the guest's processes because they
belong to its user namespace. For root's own processes the kernel does not count; without control groups
its guests are limited by the process ids of their PID namespace, from Linux 6.14 on.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from vswitch.errors import LabError, OutOfResources
from vswitch.lab.isolation import control_groups

__all__ = ["MOST_PROCESSES", "PROGRAM", "Cells", "Way", "enter_command", "most_memory", "open_way"]

#: Processes and threads of one guest.
MOST_PROCESSES = 512
_LEAST_MEMORY = 1 << 30

#: The program whose roles make, hold and enter cells.
PROGRAM = str(Path(__file__).with_name("cell.py"))
_PATIENCE = 20.0
_CLOSING = 2.0  # seconds that dying processes get
_OWN_PROCESS_IDS = (6, 14)  # the Linux version from which kernel.pid_max is each PID namespace's own


def most_memory() -> int:
    """Bytes of memory that one guest may use: half of what this machine has, and 1 GiB at least."""
    return max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2, _LEAST_MEMORY)


def enter_command(
    who: str, places: str, limits: Sequence[int], folder: str, limit: str, argv: Sequence[str]
) -> list[str]:
    """The command line that enters a cell; its arguments are those of `cell.enter`."""
    return [
        sys.executable,
        "-I",
        "-S",
        PROGRAM,
        "enter",
        who,
        places,
        *map(str, limits),
        folder,
        limit,
        *argv,
    ]


@dataclass(frozen=True, slots=True)
class Way:
    """The way into a cell: descriptors by kind, in order, to be closed by whoever gets them, and limits.

    `processes` and `memory` are 0 for none. `idle` lets a program have only the processor time that
    others leave: without a control group a guest's many processes would starve the lab's few.
    """

    kinds: tuple[str, ...]
    descriptors: tuple[int, ...]
    processes: int = 0
    memory: int = 0
    idle: bool = False


@dataclass(frozen=True, slots=True)
class _Cell:
    pid: int
    alive: int  # a pidfd
    groups: tuple[Path, ...]


class Cells:
    """The cells of one lab, by the guests' network namespaces. `lab` is its name."""

    def __init__(self, lab: str) -> None:
        self._lab = lab
        self._cells: dict[str, _Cell] = {}
        self._lock = threading.Lock()

    def way(self, netns: str, host_name: str) -> Way:
        """The way into the cell of the guest with this network namespace; starts it if need be.

        Raises LabError, and OutOfResources where no process can be started.
        """
        with self._lock:
            cell = self._cells.get(netns)
            if cell is None or select.select([cell.alive], [], [], 0)[0]:
                if cell:
                    os.close(cell.alive)
                cell = self._cells[netns] = self._start(netns, host_name)
        places = [("user", Path("/proc/self/ns/user"))]
        places += [
            (kind, Path(f"/proc/{cell.pid}/ns/{kind}")) for kind in ("pid", "uts", "user", "mnt", "net")
        ]
        groups = [("group", group / control_groups.MEMBERS) for group in cell.groups]
        memory = 0 if control_groups.limits_memory(cell.groups) else most_memory()
        idle = not control_groups.shares_processors(cell.groups)
        return open_way([*places, *groups], MOST_PROCESSES, memory, idle)

    def close(self) -> None:
        """End everything that runs in the cells, and their control groups."""
        with self._lock:
            cells = list(self._cells.values())
            self._cells.clear()
        for cell in cells:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(cell.alive, signal.SIGKILL)
        deadline = monotonic() + _CLOSING
        for cell in cells:
            select.select([cell.alive], [], [], max(0.0, deadline - monotonic()))
            os.close(cell.alive)
        control_groups.remove(group for cell in cells for group in cell.groups)

    def _start(self, netns: str, host_name: str) -> _Cell:
        with control_groups.being_made():
            return self._start_in_groups(netns, host_name)

    def _start_in_groups(self, netns: str, host_name: str) -> _Cell:
        groups = control_groups.make(
            f"{quote(self._lab, safe='')}-{Path(netns).name}", MOST_PROCESSES, most_memory()
        )
        by_ids = not groups and _is_uncounted() and _has_own_process_ids()
        command = [
            sys.executable,
            "-I",
            "-S",
            PROGRAM,
            "hold",
            host_name,
            netns,
            str(by_ids * MOST_PROCESSES),
        ]
        try:
            process = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"guest {host_name} cannot be entered within {_PATIENCE:g} s") from None
        except BlockingIOError:
            raise OutOfResources(
                f"guest {host_name} cannot be entered: this machine starts no more processes",
                hint="Raise the limit with `ulimit -u`, or end other programs.",
            ) from None
        if process.returncode:
            words = process.stderr.decode(errors="replace").strip()
            raise LabError(f"guest {host_name} cannot be entered: {words}")
        pid = int(process.stdout)
        for group in groups:
            with suppress(OSError):  # whoever comes in is limited all the same
                (group / control_groups.MEMBERS).write_text(str(pid))
        return _Cell(pid, os.pidfd_open(pid), groups)


def _is_uncounted() -> bool:
    """Whether our processes are the machine's root's, which RLIMIT_NPROC does not hold back."""
    return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]


def _has_own_process_ids() -> bool:
    """Whether kernel.pid_max is each PID namespace's own: before, it was the whole machine's."""
    major, minor = os.uname().release.split(".")[:2]
    digits = "".join(takewhile(str.isdigit, minor))
    return (int(major), int(digits or 0)) >= (6, 14)


def open_way(
    places: Iterable[tuple[str, Path]], processes: int = 0, memory: int = 0, idle: bool = False
) -> Way:
    """The way by these files, each with its kind. Raises LabError."""
    opened: list[tuple[str, int]] = []
    try:
        for kind, path in places:
            opened.append(
                (kind, os.open(path, (os.O_WRONLY if kind == "group" else os.O_RDONLY) | os.O_CLOEXEC))
            )
    except OSError as error:
        for _, descriptor in opened:
            os.close(descriptor)
        raise LabError(f"the guest cannot be entered: {error.strerror}") from None
    return Way(
        tuple(kind for kind, _ in opened), tuple(number for _, number in opened), processes, memory, idle
    )
