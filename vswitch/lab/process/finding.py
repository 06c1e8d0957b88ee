"""This user's labs among all that runs on the machine: their names, a connection, the processes behind.

A lab is known by an abstract Unix socket, `@vswitch/<uid>/<name>`, in the network namespace it was
started in; the kernel forgets it with the lab's last process. Nothing is kept on disk. Anybody can bind
such a name, so what another user holds is looked at by its owner, never by its name.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote, unquote

from vswitch.errors import EnvironmentError_, LabError, NoSuchLab
from vswitch.wire import TooSlow, connect, peer_is_us

__all__ = ["SUPERVISOR", "address_of", "connected", "holders", "running", "sockets", "taken", "wait_gone"]

#: The module that a lab's first process runs; `--lab ADDRESS` follows it on its command line.
SUPERVISOR = "vswitch.lab.process.supervisor"

_SOCKETS = Path("/proc/net/unix")
_LISTENING, _STREAM = "00010000", "0001"
_LONGEST_NAME = 100
_PAUSE = 0.005  # seconds
_FOREIGN = "another user of this machine holds that name"


def address_of(name: str) -> str:
    """The abstract address of the lab `name`, without its leading NUL.

    Raises LabError for a long name, EnvironmentError_ on a system that has no such addresses.
    """
    if not (hasattr(os, "getuid") and hasattr(socket, "AF_UNIX") and _SOCKETS.exists()):
        raise EnvironmentError_(
            "labs need Linux",
            hint="On Windows use WSL2. Without a lab these run here too: validate, explain --layout, hyperv.",
        )
    address = f"vswitch/{os.getuid()}/{_quoted(name)}"
    if len(address) > _LONGEST_NAME:
        raise LabError(f"the lab name {name!r} is too long", hint="Choose a shorter one with --name.")
    return address


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")  # from the environment comes what is not text, too


def running() -> list[str]:
    """The names of this user's labs that run, sorted."""
    return sorted(name for name in _listening() if _is_ours(name))


def _listening() -> dict[str, set[str]]:
    """Lab name to the inodes of sockets that listen under it, be they ours or not.

    Whoever binds a socket can put anything into its name, a line that looks like another socket included.
    """
    prefix = "@" + address_of("")
    found: dict[str, set[str]] = {}
    for line in _SOCKETS.read_text(errors="replace").split("\n")[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[3] == _LISTENING and fields[4] == _STREAM:
            name = unquote(fields[7].removeprefix(prefix))
            if fields[7] == prefix + _quoted(name):
                found.setdefault(name, set()).add(fields[6])
    return found


def _is_ours(name: str) -> bool:
    try:
        with connect("\0" + address_of(name), 0) as sock:
            return peer_is_us(sock)
    except TimeoutError:  # nobody is taken in there: then by the processes
        return bool(holders(name))
    except (OSError, LabError):
        return False


def holders(name: str) -> list[int]:
    """The processes, all of them ours and this lab's, that hold the lab's listening socket."""
    wanted = {f"socket:[{inode}]" for inode in _listening().get(name, ())}
    arguments = f"\0{SUPERVISOR}\0--lab\0{address_of(name)}\0".encode()
    found = []
    for process in Path("/proc").iterdir() if wanted else ():
        if process.name.isdigit():
            with suppress(OSError):  # it has ended, or is another user's
                if (
                    process.stat().st_uid == os.getuid()
                    and arguments in (process / "cmdline").read_bytes()
                    and any(os.readlink(entry) in wanted for entry in (process / "fd").iterdir())
                ):
                    found.append(int(process.name))
    return found


def connected(name: str, seconds: float) -> socket.socket:
    """A connection to the lab `name`.

    Raises NoSuchLab if no lab of that name runs that is ours, TooSlow if it takes nobody in for `seconds`.
    """
    address = "\0" + address_of(name)
    for wait in (0.0, seconds):
        try:
            sock = connect(address, wait)
            break
        except TimeoutError:
            if not holders(name):
                raise NoSuchLab(f"no lab of yours named {name!r} runs: {_FOREIGN}") from None
        except (ConnectionRefusedError, PermissionError):
            others = running()
            hint = f"Labs that run: {', '.join(others)}" if others else "Start one with `vswitch up LAYOUT`."
            raise NoSuchLab(f"no lab named {name!r} runs", hint=hint) from None
    else:
        raise TooSlow(f"the lab {name!r} has taken no request for {seconds:g} s", limit="connecting")
    if not peer_is_us(sock):
        sock.close()
        raise NoSuchLab(f"no lab of yours named {name!r} runs: {_FOREIGN}")
    return sock


def taken(name: str) -> LabError:
    """The error for a name that cannot be bound because somebody has."""
    if _is_ours(name):
        return LabError(
            f"a lab named {name!r} runs already",
            hint=f"Take it down with `vswitch down {name}`, or start this one under another name.",
        )
    return LabError(
        f"no lab can be named {name!r}: {_FOREIGN}", hint="Start this one under another name with --name."
    )


def sockets(name: str) -> set[str]:
    """The inodes of what listens under the lab's name; for `wait_gone`."""
    return _listening().get(name, set())


def wait_gone(inodes: set[str], seconds: float) -> bool:
    """Whether these sockets have gone, each with the last process that held it, within so many seconds."""
    deadline = monotonic() + seconds
    while any(inodes & each for each in _listening().values()):
        if monotonic() > deadline:
            return False
        sleep(_PAUSE)
    return True
