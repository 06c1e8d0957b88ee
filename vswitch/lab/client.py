"""Labs as seen from outside: start one, find those that run, ask them, run commands in their guests.

A lab is known by an abstract Unix socket, `@vswitch/<uid>/<name>`, in the network namespace it was
started in; the kernel forgets it with the lab's last process. Nothing is kept on disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, unquote

from vswitch.errors import LabError, NoSuchLab, VswitchError
from vswitch.lab import cells, control_groups, isolation
from vswitch.wire import NoAnswer, ask, ask_descriptors, peer_is_us

__all__ = ["call", "capture_in_guest", "down", "exec_in_guest", "guest_command", "running", "start"]

_LISTENING = "00010000"
_LONGEST_NAME = 100
_DOWN_PATIENCE = 5.0

#: Held open for as long as this process lives: their closing ends the labs attached to it.
_attached: list[socket.socket] = []


def _prefix() -> str:
    return f"vswitch/{os.getuid()}/"


def _address(name: str) -> str:
    address = _prefix() + quote(name, safe="")
    if len(address) > _LONGEST_NAME:
        raise LabError(f"the lab name {name!r} is too long", hint="Choose a shorter one with --name.")
    return address


def start(
    name: str,
    sources: Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None = None,
    extensions: Sequence[str] = (),
    log_file: Path | None = None,
    attached: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Start the lab `name` from `sources` (see `lab.load_sources`) and wait until it is up.

    `options` are `Lab`'s `switching` and `datapath`. `extensions` are modules that add operations to
    those the lab knows by itself (see `operations.operation`). `log_file` takes what the lab's processes
    write; without one the lab keeps it in memory. If this process ends before the lab is up, the lab
    does too; an `attached` lab ends with this process in any case. Returns the lab's status. Raises
    EnvironmentError_ for what this machine lacks, LabError if a lab of that name runs, and whatever else
    keeps it from coming up; nothing is left behind then.
    """
    address = _address(name)
    isolation.check()
    if options and options.get("datapath") == "system":
        isolation.check_kernel_datapath()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            listener.bind("\0" + address)
        except OSError:
            raise LabError(
                f"a lab named {name!r} runs already",
                hint=f"Take it down with `vswitch down {name}`, or start this one under another name.",
            ) from None
        listener.listen(64)
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        log = stack.enter_context(_log(log_file))
        argv = [
            sys.executable, "-m", "vswitch.lab.supervisor",
            "--listener", str(listener.fileno()), "--starter", str(theirs.fileno()),
            *(["--attached"] if attached else []), *extensions,
        ]  # fmt: skip
        process = subprocess.Popen(
            isolation.command(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(listener.fileno(), theirs.fileno()),
            env=isolation.environment(),
            start_new_session=True,
            cwd="/",
        )
        try:
            theirs.close()
            args = {"sources": dict(sources), "name": name, "folder": str(Path.cwd()), **(options or {})}
            status = dict(ask(ours.dup(), "up", args, progress))
            if attached:
                _attached.append(ours.dup())
            return status
        except BaseException as error:
            process.kill()
            process.wait()
            listener.close()
            _wait_gone(address)
            if isinstance(error, NoAnswer):
                raise _why_it_ended(os.pread(log, 1 << 20, 0).decode(errors="replace")) from None
            raise


@contextlib.contextmanager
def _log(path: Path | None) -> Iterator[int]:
    if path is None:
        descriptor = os.memfd_create("vswitch-log")
    else:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise LabError(f"cannot write the log file {path}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _why_it_ended(words: str) -> VswitchError:
    """The error for a lab that ended while it was starting, after having written `words`."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    said = lines[-1] if lines else "it said nothing"
    return isolation.explain_failure(words) or LabError(
        f"the lab ended while it was starting: {said}", hint="--log-file FILE keeps all it says."
    )


def running() -> list[str]:
    """The names of this user's labs that run, sorted."""
    return sorted(_listeners())


def _listeners() -> dict[str, int]:
    """Lab name to the inode of its listening socket."""
    prefix = "@" + _prefix()
    found: dict[str, int] = {}
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[3] == _LISTENING and fields[7].startswith(prefix):
            found[unquote(fields[7].removeprefix(prefix))] = int(fields[6])
    return found


def _connect(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect("\0" + _address(name))
    except OSError:
        sock.close()
        others = running()
        hint = f"Labs that run: {', '.join(others)}" if others else "Start one with `vswitch up LAYOUT`."
        raise NoSuchLab(f"no lab named {name!r} runs", hint=hint) from None
    if not peer_is_us(sock):
        sock.close()
        raise LabError(f"the lab {name!r} belongs to another user")
    return sock


def call(
    name: str,
    op: str,
    *,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    **args: Any,
) -> Any:
    """Ask the lab `name` to carry out an operation (see `operations`); returns its result.

    `timeout` is in seconds without any answer. Raises NoSuchLab, LabError, and what the operation raises.
    """
    sock = _connect(name)
    sock.settimeout(timeout)
    try:
        return ask(sock, op, args, progress)
    except TimeoutError:
        raise LabError(f"the lab {name!r} did not answer {op!r} within {timeout:g} s") from None


def down(name: str) -> None:
    """Take the lab down; returns when its last process has gone. Raises NoSuchLab."""
    sock = _connect(name)
    sock.settimeout(_DOWN_PATIENCE)
    try:
        ask(sock, "down", {})
    except NoAnswer:  # ending is the answer
        if _wait_gone(_address(name)):
            return
    except TimeoutError:
        pass
    for pid in _holders(name):  # it hangs: end the processes that hold it, and the kernel does the rest
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    ended = _wait_gone(_address(name))
    control_groups.sweep()
    if not ended:
        raise LabError(f"the lab {name!r} does not end", hint="Its processes are stuck in the kernel.")


def _wait_gone(address: str) -> bool:
    deadline = monotonic() + _DOWN_PATIENCE
    name = unquote(address.removeprefix(_prefix()))
    while name in _listeners():
        if monotonic() > deadline:
            return False
        sleep(0.005)
    return True


def _holders(name: str) -> list[int]:
    """The processes, ours all of them, that hold the lab's listening socket."""
    inode = _listeners().get(name)
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if any(os.readlink(entry) == f"socket:[{inode}]" for entry in (process / "fd").iterdir()):
                    found.append(int(process.name))
    return found


def guest_command(
    name: str, guest: str | None, argv: Sequence[str], *, timeout: float | None = None
) -> tuple[list[str], list[int]]:
    """The command line that runs `argv` in a guest of the lab, and the descriptors it must inherit.

    Without a guest it runs among the lab's own processes and files, which no guest sees.

    Close the descriptors afterwards. With `timeout` the command is ended after so many seconds, with exit
    status 124. Raises NoSuchLab, and LabError for an unknown guest.
    """
    answer, descriptors = ask_descriptors(_connect(name), "namespaces", {"guest": guest})
    places = ",".join(f"{kind}={number}" for kind, number in zip(answer["kinds"], descriptors, strict=True))
    seconds = "" if timeout is None else str(timeout)
    return cells.enter_command(
        guest or name, places, answer["limits"], _working_folder(), seconds, argv
    ), descriptors


def _working_folder() -> str:
    """Where we are, unless the lab has something else there."""
    here = Path.cwd()
    return "/" if here.is_relative_to("/run") or here.is_relative_to("/proc") else str(here)


def exec_in_guest(name: str, guest: str, argv: Sequence[str], *, timeout: float | None = None) -> int:
    """Run `argv` in a guest with this process's terminal; returns its exit status (128 + signal number).

    Raises LabError if it runs longer than `timeout` seconds, and as `guest_command`.
    """
    with _process_in_guest(name, guest, argv, timeout, {}) as process:
        return _exit_status(_wait(process), guest, argv, timeout)


def capture_in_guest(
    name: str, guest: str, argv: Sequence[str], *, timeout: float | None = None
) -> tuple[int, str, str]:
    """As `exec_in_guest`, without the terminal: exit status, standard output, standard error."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with _process_in_guest(name, guest, argv, timeout, pipes) as process:
        output, errors = process.communicate()
        status = _exit_status(process.returncode, guest, argv, timeout)
        return status, output.decode(errors="replace"), errors.decode(errors="replace")


@contextlib.contextmanager
def _process_in_guest(
    name: str, guest: str, argv: Sequence[str], timeout: float | None, pipes: Mapping[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    command, descriptors = guest_command(name, guest, argv, timeout=timeout)
    environment = {**isolation.passed_on(), "PATH": isolation.search_path(), "VSWITCH_GUEST": guest}
    try:
        process = subprocess.Popen(command, pass_fds=descriptors, env=environment, **pipes)
    except FileNotFoundError:
        raise LabError("nsenter is not installed", hint="It is in the package util-linux.") from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    yield process


def _exit_status(status: int, guest: str, argv: Sequence[str], timeout: float | None) -> int:
    if timeout is not None and status == 124:
        raise LabError(f"{argv[0]} in {guest} did not end within {timeout:g} s")
    return status if status >= 0 else 128 - status


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the command too: what follows is its decision
            continue
