"""Work inside another network namespace, named by a path.

A path is anything that opens as a namespace: a bind mount such as `/run/netns/web01`, or
`/proc/<pid>/ns/net`. `setns(2)` changes the calling thread only, so each call uses a thread of its
own that ends with it; the rest of the process never leaves its namespace. What such a thread
creates keeps its namespace: sockets, netlink answers, children started by `subprocess`. Files under
`/proc/sys/net` and `/proc/thread-self/net` are those of the namespace too (`/proc/net` is not: it
is the first thread's), so a sysctl is written by
`in_netns(path, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from vswitch.errors import EnvironmentError_, LabError

__all__ = ["in_netns"]

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h

# os.setns exists from Python 3.12 on; one way for both versions.
_libc = ctypes.CDLL(None, use_errno=True)


def in_netns(path: str | os.PathLike[str], work: Callable[[], T]) -> T:
    """Run `work` in a thread inside the network namespace at `path`; return what it returns.

    What `work` raises is raised here. Raises LabError where `path` is no network namespace,
    EnvironmentError_ where this process may not enter it.
    """
    name = os.fspath(path)
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            _enter(name)
            outcome.set_result(work())
        except BaseException as error:  # the caller's to handle, whatever it is
            outcome.set_exception(error)

    # A daemon: an interrupted caller must not wait for the work at the end of the process.
    threading.Thread(target=run, name=f"netns {name}", daemon=True).start()
    return outcome.result()


def _enter(path: str) -> None:
    """Move the calling thread into the network namespace at `path`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(
            f"there is no network namespace at {path}: {error.strerror}",
            hint="The guest or its whole lab may have ended; `vswitch ps` lists the labs that run.",
        ) from error
    try:
        if _libc.setns(fd, CLONE_NEWNET) == 0:
            return
        code = ctypes.get_errno()
    finally:
        os.close(fd)
    if code == errno.EPERM:
        raise EnvironmentError_(
            f"this process may not enter the network namespace at {path}",
            hint="It needs CAP_SYS_ADMIN in the user namespace owning it: be root, or work inside the lab.",
        )
    if code == errno.EINVAL:
        raise LabError(f"{path} is not a network namespace")
    raise LabError(f"entering the network namespace at {path} failed: {os.strerror(code)}")
