"""The first process of a lab's private PID namespace: `python init.py COMMAND ARGUMENT...`.

Gives the namespace a loopback interface and an empty /run of its own in memory, runs COMMAND, reaps
orphans, and ends with COMMAND's exit status. When it ends, for whatever reason, the kernel ends every
process of the namespace; when the last one has gone, all its mounts, interfaces and files have too.

Stands alone, with the standard library only: it must start fast and with any interpreter.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_MS_NOSUID, _MS_NODEV = 0x2, 0x4


def _prepare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_NOSUID | _MS_NODEV
    if libc.mount(b"vswitch", b"/run", b"tmpfs", flags, b"mode=0755"):
        raise OSError(ctypes.get_errno(), f"mounting /run: {os.strerror(ctypes.get_errno())}")
    os.mkdir("/run/netns")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def _run(command: list[str]) -> int:
    """Run `command` as a child and reap whatever ends until it does; its exit status."""
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    # What the terminal sends is for the child. Ignored only now: a child would inherit it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Descriptors handed to the child would stay open here for as long as the lab runs.
    os.closerange(3, 4096)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Prepare the namespaces, then run the command."""
    try:
        _prepare()
    except OSError as error:
        sys.exit(f"vswitch: {error.strerror}")
    status = _run(sys.argv[1:])
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
