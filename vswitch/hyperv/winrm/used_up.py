"""What this machine has run out of, read from the error of whichever library met it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from vswitch.errors import OutOfResources

__all__ = ["chain", "resources_problem"]


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was made from."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        found = waiting.pop(0)
        if any(found is other for other in seen):
            continue
        seen.append(found)
        yield found
        inner = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        waiting += [item for item in inner if isinstance(item, BaseException)]


_USED_UP = {
    errno.EMFILE: "open files (of this process)",
    errno.ENFILE: "open files (of all processes)",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory for connections",
}


def resources_problem(error: BaseException) -> OutOfResources | None:
    """What this machine has run out of, if that is what an error is about."""
    for each in chain(error):
        if isinstance(each, OutOfResources):
            return each
        used_up = None
        if isinstance(each, MemoryError):
            used_up = "memory"
        elif isinstance(each, OSError):
            used_up = _USED_UP.get(each.errno or 0)
        elif isinstance(each, RuntimeError) and "can't start new thread" in str(each):
            used_up = "processes"
        if used_up is not None:
            return OutOfResources(
                f"this machine has run out of {used_up}",
                hint="raise the limit (ulimit), or work on fewer hosts at a time (--limit)",
            )
    return None
