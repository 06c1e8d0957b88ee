"""Control groups for what runs in guests: version 2, or the pids, memory and cpu groups of version 1.

A group is a folder in the kernel's memory, and the one thing of a lab that the kernel does not clear
away by itself when the lab is killed: an empty one stays until the next lab makes one, or is taken down.

The members are one group further down. Whoever makes a control group namespace and mounts the hierarchy in
it may write the limits of the group it is in, but of none above.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["MEMBERS", "being_made", "limits_memory", "make", "remove", "shares_processors", "sweep"]

_INNER = "guest"
#: The file below a group that takes a process into it.
MEMBERS = f"{_INNER}/cgroup.procs"
_PREFIX = "vswitch-"
_NEEDED, _USEFUL = {"pids", "memory"}, {"cpu"}
_PROCESSES, _MEMORY = "pids.max", ("memory.max", "memory.limit_in_bytes")
_WEIGHT = ("cpu.weight", "cpu.shares")
_WITH_INNER = "memory.use_hierarchy"
_SWAP = ("memory.swap.max", "memory.memsw.limit_in_bytes")


@contextmanager
def being_made() -> Iterator[None]:
    """Keep other labs from removing empty groups meanwhile; those of killed labs are removed first."""
    sweep()
    with _locked(shared=True):
        yield


@contextmanager
def _locked(*, shared: bool) -> Iterator[None]:
    """Hold a lock of all labs on this machine. Raises BlockingIOError if it cannot be had alone at once."""
    import fcntl

    parents = _parents()
    if not parents:
        yield
        return
    folder = os.open(parents[0], os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


def make(name: str, processes: int, memory: int) -> tuple[Path, ...]:
    """The groups `name` that hold their members to so many processes and bytes of memory.

    Empty where this machine has none, or does not let us make them. To be called, and a process put into
    them, while `being_made` holds: another lab removes empty ones.
    """
    made: list[Path] = []
    for parent in _parents():
        group = parent / f"{_PREFIX}{name}"
        try:
            group.mkdir(exist_ok=True)
            made.append(group)
            limits = {_PROCESSES: processes, **dict.fromkeys(_MEMORY, memory)}
            present = {limit: value for limit, value in limits.items() if (group / limit).exists()}
            for limit, value in present.items():
                (group / limit).write_text(str(value))
            with suppress(OSError):  # what Linux before 5.11 can be told, and since does in any case
                (group / _WITH_INNER).write_text("1")
            (group / _INNER).mkdir(exist_ok=True)
        except OSError:
            present = {}
        if not present and not shares_processors((group,)):
            remove(made)
            return ()
        for swap in _SWAP:  # what does not fit must not fill the swap instead
            with suppress(OSError):
                if (group / swap).exists():
                    (group / swap).write_text("0" if swap == _SWAP[0] else str(memory))
    return tuple(made)


def limits_memory(groups: tuple[Path, ...]) -> bool:
    """Whether one of the groups limits memory."""
    return any((group / limit).exists() for group in groups for limit in _MEMORY)


def shares_processors(groups: tuple[Path, ...]) -> bool:
    """Whether one of the groups gives all its members together one process's share of the processors."""
    return any((group / weight).exists() for group in groups for weight in _WEIGHT)


def remove(groups: Iterable[Path]) -> None:
    """Remove these groups, with those that guests have made below them; those with processes stay."""
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)


def sweep() -> None:
    """Remove empty groups of labs that were killed, unless a lab is just making some."""
    with suppress(BlockingIOError), _locked(shared=False):
        for parent in _parents():
            remove(parent.glob(f"{_PREFIX}*"))


def _parents() -> list[Path]:
    """The folders to make groups in, one for each hierarchy that is needed; empty if one is missing."""
    try:
        mounts = [_mount(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        own = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    found: dict[str, Path] = {}
    for controllers, path in own:
        names = set(controllers.split(","))
        for folder, root, kind, options in mounts:
            if kind == "cgroup" and names & (_NEEDED | _USEFUL) and names <= options:
                found.update(dict.fromkeys(names & (_NEEDED | _USEFUL), _below(folder, root, path)))
            elif kind == "cgroup2" and not controllers:
                parent = _nearest(folder, _below(folder, root, path))
                if parent:
                    return [parent]
    return list(dict.fromkeys(found.values())) if found.keys() >= _NEEDED else []


def _mount(line: str) -> tuple[Path, str, str, set[str]]:
    """Mount point, root, type and options of a line of mountinfo."""
    before, _, after = line.partition(" - ")
    root, point = before.split(" ")[3:5]
    kind, _, options = after.split(" ")
    return Path(point), root, kind, set(options.split(","))


def _below(folder: Path, root: str, path: str) -> Path:
    """Where the group `path` is in a hierarchy whose part from `root` on is mounted at `folder`."""
    inner = path.removeprefix(root) if root != "/" else path
    found = folder / inner.lstrip("/")
    return found if found.is_dir() else folder


def _nearest(folder: Path, group: Path) -> Path | None:
    """The nearest group above whose children are given what we need: one with processes cannot."""
    for parent in (group, *group.parents):
        with suppress(OSError):
            if set((parent / "cgroup.subtree_control").read_text().split()) >= _NEEDED:
                return parent
        if parent == folder:
            return None
    return None
