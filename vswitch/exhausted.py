"""A machine that has run out of something: told by what Python raised, or by what a program printed."""

from __future__ import annotations

import errno
import os

from vswitch.errors import OutOfResources, VswitchError

__all__ = ["exhausted_by", "exhausted_in"]

_PROCESSES = ("processes or threads", "End other programs, or raise the limit: ulimit -u")
_MEMORY = ("memory", "End other programs, or raise the limit: ulimit -v")
_FILES = ("open files", "End other programs, or raise the limit: ulimit -n")
_DISK = ("space on a disk", "Make room on it: df shows which one is full.")

#: The C library says of a thread whose stack finds no room what fork(2) says of one process too many.
_EITHER = (
    "processes, threads or memory",
    "End other programs, or raise the limits: ulimit -u, ulimit -v",
)

_BY_NUMBER = {
    errno.EAGAIN: _PROCESSES,
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
}
_BY_WORDS = {
    "can't start new thread": _PROCESSES,
    "MemoryError": _MEMORY,
    "failed to map segment": _MEMORY,  # the dynamic linker
    **{os.strerror(number): what for number, what in _BY_NUMBER.items()},
}


def exhausted_by(error: BaseException) -> OutOfResources | None:
    """The error for what this machine ran out of, if that is behind `error`; else None.

    Behind it is also what was being handled when it was raised.
    """
    if isinstance(error, OutOfResources):
        return error
    seen: BaseException | None = error
    while seen is not None:
        if found := _exhausted(seen):
            what, hint = _told_apart(found)
            doing = f": {error.message}" if isinstance(error, VswitchError) else ""
            return OutOfResources(f"this machine has run out of {what}{doing}", hint=hint)
        seen = seen.__cause__ or seen.__context__
    return None


def exhausted_in(words: str) -> OutOfResources | None:
    """The error for what this machine ran out of, if `words`, a program's last ones, say so; else None."""
    for phrase, found in _BY_WORDS.items():
        if phrase in words:
            what, hint = _told_apart(found)
            return OutOfResources(f"this machine has run out of {what} ({words.strip()})", hint=hint)
    return None


def _exhausted(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError):
        return _BY_NUMBER.get(error.errno or 0)
    if isinstance(error, (RuntimeError, ImportError)):
        return next((what for phrase, what in _BY_WORDS.items() if phrase in str(error)), None)
    return None


def _told_apart(found: tuple[str, str]) -> tuple[str, str]:
    """`found`, or what else it can have been by the limits that are set for this process and its children."""
    if found is not _PROCESSES:
        return found
    import resource  # not where such errors cannot come from: Windows has none

    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return found
    # Root is not held to a number of processes.
    unlimited = resource.getrlimit(resource.RLIMIT_NPROC)[0] == resource.RLIM_INFINITY or os.getuid() == 0
    return _MEMORY if unlimited else _EITHER
