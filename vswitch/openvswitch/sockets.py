"""Larger receive buffers for the packet sockets of a running ovs-vswitchd.

Open vSwitch reads each port through a packet socket with the kernel's default buffer. With segments
coalesced by offloads that buffer holds three or four frames, and TCP loses the rest. The default itself
belongs to the whole machine (`net.core.rmem_default`), so only the sockets are changed: they are
borrowed with pidfd_getfd(2), which the process's owner may do.
"""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import closing, suppress
from pathlib import Path

__all__ = ["widen_receive_buffers"]

_BUFFER = 32 * 1024 * 1024
_PIDFD_GETFD = 438  # the same number on every architecture
_SO_RCVBUFFORCE = 33

_libc = ctypes.CDLL(None, use_errno=True)


def widen_receive_buffers(pid: int, size: int = _BUFFER) -> int:
    """Give each packet socket of process `pid` a receive buffer of `size` bytes, or of what is allowed.

    Without privileges over the whole machine the limit is `net.core.rmem_max`. Returns the number of
    sockets changed; 0 where the kernel does not let sockets be borrowed (the switch then works, slower).
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        return sum(_widen(pidfd, number, size) for number in _sockets(pid))
    finally:
        os.close(pidfd)


def _sockets(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if Path(entry.path).readlink().name.startswith("socket:"):
                    found.append(int(entry.name))
    return found


def _widen(pidfd: int, number: int, size: int) -> bool:
    borrowed = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if borrowed < 0:
        return False
    with closing(socket.socket(fileno=borrowed)) as sock:
        if sock.family != socket.AF_PACKET:
            return False
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return True
