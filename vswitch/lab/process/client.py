"""Labs as seen from outside: start one, ask it, take it down, run commands in its guests."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shlex
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vswitch.errors import InputError, LabError, VswitchError
from vswitch.json_values import Json
from vswitch.lab import isolation
from vswitch.lab.isolation import cells, control_groups
from vswitch.lab.process.finding import (
    SUPERVISOR,
    address_of,
    connected,
    holders,
    running,
    sockets,
    taken,
    wait_gone,
)
from vswitch.patience import VARIABLES, Patience
from vswitch.wire import NoAnswer, NotUnderstood, TooSlow, ask, ask_descriptors

if TYPE_CHECKING:
    from vswitch.lab_answers import LabStatus
    from vswitch.model.resolving.sources import Sources

__all__ = [
    "call",
    "capture_in_guest",
    "current_folder",
    "down",
    "exec_in_guest",
    "guest_command",
    "kill",
    "running",
    "start",
]

_DOWN_PATIENCE = 5.0  # seconds for each step
_GONE_AT_ONCE = 0.5  # seconds after a Ctrl-C
_MOST_PRINTED = 64 << 20  # bytes

#: Held open for as long as this process lives: their closing ends the labs attached to it.
_attached: list[socket.socket] = []


def start(
    name: str,
    sources: Sources,
    *,
    options: Mapping[str, str] | None = None,
    extensions: Sequence[str] = (),
    log_file: Path | None = None,
    attached: bool = False,
    progress: Callable[[str], None] | None = None,
) -> LabStatus:
    """Start the lab `name` from `sources` and wait until it is up.

    `options` are `Lab`'s `switching` and `datapath`. `extensions` are modules that add operations to
    those the lab knows by itself (see `operations.operation`). `log_file` takes what the lab's processes
    write; without one the lab keeps it in memory. If this process ends before the lab is up, the lab
    does too; an `attached` lab ends with this process in any case. Returns the lab's status. Raises
    EnvironmentError_ for what this machine lacks, InputError as `current_folder`, LabError if a lab of that
    name runs, and whatever else keeps it from coming up; nothing is left behind then.
    """
    from vswitch.lab_answers import LabStatus

    address = address_of(name)
    folder = current_folder()
    patience = Patience.from_environment()
    isolation.check()
    if options and options.get("datapath") == "system":
        isolation.check_kernel_datapath()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            listener.bind("\0" + address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise taken(name) from None
        listener.listen(64)
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        log = stack.enter_context(_log(log_file))
        begin = os.fstat(log).st_size
        argv = [
            sys.executable, "-m", SUPERVISOR, "--lab", address,
            "--listener", str(listener.fileno()), "--starter", str(theirs.fileno()),
            *(["--attached"] if attached else []), *extensions,
        ]  # fmt: skip
        process: subprocess.Popen[bytes] | None = None
        try:
            with _ctrl_c_later():  # inside Popen it would leave a process that nobody knows
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
            theirs.close()
            args = {"sources": sources.to_dict(), "name": name, "folder": folder, **(options or {})}
            status = LabStatus.from_dict(
                ask(ours.dup(), "up", args, progress, patience=patience, who=_who(name))
            )
            if attached:
                _attached.append(ours.dup())
            return status
        except BaseException as error:
            inodes = sockets(name)
            listener.close()
            if process is not None:
                process.kill()
                process.wait()
            wait_gone(inodes, _DOWN_PATIENCE if isinstance(error, Exception) else _GONE_AT_ONCE)
            if isinstance(error, NoAnswer) and not isinstance(error, TooSlow):
                raise _why_it_ended(os.pread(log, 1 << 20, begin).decode(errors="replace")) from None
            raise


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold a Ctrl-C back until the block is left. Outside of the main thread there is none."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _log(path: Path | None) -> Iterator[int]:
    if path is None:
        descriptor = os.memfd_create("vswitch-log")
    else:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise LabError(f"cannot write the log file {path}: {error.strerror}") from None
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISCHR(kind)):
            os.close(descriptor)
            raise LabError(
                f"cannot write the log file {path}: it is neither a file nor a device",
                hint="A lab would stop as soon as nobody reads what it says.",
            )
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


def call(
    name: str,
    op: str,
    *,
    progress: Callable[[str], None] | None = None,
    within: Patience | None = None,
    **args: Json,
) -> Json:
    """Ask the lab `name` to carry out an operation (see `operations`); returns its result.

    `within` is the user's patience, unless given. Raises NoSuchLab, NoAnswer if the lab ends meanwhile or is
    waited for in vain, and what the operation raises.
    """
    patience = within or Patience.from_environment()
    with _answering(name):
        sock = connected(name, patience.connecting)
        answer: Json = ask(sock, op, args, progress, patience=patience, who=_who(name))
        return answer


def _who(name: str) -> str:
    return f"the lab {name!r}"


@contextlib.contextmanager
def _answering(name: str) -> Iterator[None]:
    """Say of a lab that does not answer, or not as it should, what to do about it."""
    try:
        yield
    except NotUnderstood as error:
        again = f"Take it down and start it again: vswitch down {shlex.quote(name)}"
        raise NotUnderstood(error.message, hint=error.hint or again) from None
    except TooSlow as error:
        raise TooSlow(
            error.message,
            limit=error.limit,
            hint=f"It hangs, or has much to do: {VARIABLES[error.limit]} sets how many seconds to wait,"
            f" `vswitch down {name}` ends it all the same.",
        ) from None


def down(name: str) -> None:
    """Take the lab down, also one that hangs; returns when its last process has gone. Raises NoSuchLab."""
    inodes = sockets(name)
    patience = Patience.from_environment()
    try:
        sock = connected(name, min(patience.connecting, _DOWN_PATIENCE))
        ask(sock, "down", {}, patience=patience.at_most(_DOWN_PATIENCE))
    except TooSlow:
        pass
    except NoAnswer:  # ending is the answer
        if wait_gone(inodes, _DOWN_PATIENCE):
            return
    kill(name)
    ended = wait_gone(inodes, _DOWN_PATIENCE)
    control_groups.sweep()
    if not ended:
        raise LabError(f"the lab {name!r} does not end", hint="Its processes are stuck in the kernel.")


def kill(name: str) -> None:
    """End the processes that hold the lab, without asking it; the kernel does the rest."""
    for pid in holders(name):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def guest_command(
    name: str,
    guest: str | None,
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    report: int | None = None,
) -> tuple[list[str], list[int]]:
    """The command line that runs `argv` in a guest of the lab, and the descriptors it must inherit.

    Without a guest it runs among the lab's own processes and files, which no guest sees.

    Close the descriptors afterwards. With `timeout` the command is ended after so many seconds, with exit
    status 124; something is written to the descriptor `report` then, which it must inherit too. When the
    thread that starts it ends, the command is ended. Raises NoSuchLab, and InputError for an unknown guest
    and as `current_folder`.
    """
    patience = Patience.from_environment()
    folder = _working_folder()
    if timeout is not None:
        patience = patience.at_most(timeout)
    with _answering(name):
        answer, descriptors = ask_descriptors(
            connected(name, min(patience.connecting, patience.whole)),
            "namespaces",
            {"guest": guest},
            patience=patience,
            who=_who(name),
        )
    places = ",".join(f"{kind}={number}" for kind, number in zip(answer["kinds"], descriptors, strict=True))
    limit = "" if timeout is None else str(timeout) + ("" if report is None else f"={report}")
    return cells.enter_command(guest or name, places, answer["limits"], folder, limit, argv), descriptors


def _working_folder() -> str:
    """Where we are, unless the lab has something else there."""
    here = Path(current_folder())
    return "/" if here.is_relative_to("/run") or here.is_relative_to("/proc") else str(here)


def current_folder() -> str:
    """The folder this process is in. Raises InputError if it is in none any more, or may not know it."""
    try:
        return os.getcwd()
    except OSError as error:
        raise InputError(
            f"the folder you are in cannot be used: {error.strerror}",
            hint="It may have been deleted: change into another with `cd`.",
        ) from None


def exec_in_guest(name: str, guest: str, argv: Sequence[str], *, timeout: float | None = None) -> int:
    """Run `argv` in a guest with this process's terminal; returns its exit status (128 + signal number).

    Raises LabError if it runs longer than `timeout` seconds, and as `guest_command`.
    """
    with _process_in_guest(name, guest, argv, timeout, {}) as process:
        return _exit_status(_wait(process))


def capture_in_guest(
    name: str, guest: str, argv: Sequence[str], *, timeout: float | None = None
) -> tuple[int, str, str]:
    """As `exec_in_guest`, without the terminal: exit status, standard output, standard error.

    What it leaves running in the background is not waited for. Raises LabError also if it prints more
    than 64 MiB, by which it is ended.
    """
    pipes = {
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "process_group": 0
    }  # fmt: skip
    with _process_in_guest(name, guest, argv, timeout, pipes) as process:
        output, errors = _printed(process, f"{argv[0]} in {guest}")
        status = _exit_status(process.returncode)
        return status, output.decode(errors="replace"), errors.decode(errors="replace")


def _printed(process: subprocess.Popen[bytes], who: str) -> tuple[bytes, bytes]:
    """What `process` has written to its two pipes by its end, which this waits for.

    The pipes' ends would not do: children that it leaves behind keep them open. Ctrl-C is passed on.
    Raises LabError for too much, and ends it then.
    """
    printed = {pipe.fileno(): bytearray() for pipe in (process.stdout, process.stderr) if pipe}
    with os.fdopen(os.pidfd_open(process.pid)) as end, selectors.DefaultSelector() as selector:
        for descriptor in (end.fileno(), *printed):
            selector.register(descriptor, selectors.EVENT_READ)
        ended = False
        while not ended:
            try:
                ready = [key.fd for key, _ in selector.select()]
            except KeyboardInterrupt:
                _interrupt(process)
                continue
            if sum(map(len, printed.values())) > _MOST_PRINTED:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise LabError(
                    f"{who} has printed more than {_MOST_PRINTED >> 20} MiB, and was ended",
                    hint="As text, without --output json, all that it prints is passed on.",
                )
            ended = end.fileno() in ready
            for descriptor, so_far in printed.items():
                if ended or descriptor in ready:
                    data = os.read(descriptor, _waiting(descriptor))
                    so_far.extend(data)
                    if not data and descriptor in selector.get_map():
                        selector.unregister(descriptor)
    process.wait()
    output, errors = printed.values()
    return bytes(output), bytes(errors)


def _waiting(pipe: int) -> int:
    """The number of bytes that can be read from a pipe at once."""
    import fcntl  # where there is none, the command line must still load
    import termios

    (size,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(size)


@contextlib.contextmanager
def _process_in_guest(
    name: str, guest: str, argv: Sequence[str], timeout: float | None, pipes: Mapping[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process that enters the guest. Raises LabError at the end of the block if it was ended for time."""
    late, report = os.pipe()
    try:
        try:
            process = _start_in_guest(name, guest, argv, timeout, report, pipes)
        finally:
            os.close(report)
        yield process
        if os.read(late, 1):
            raise LabError(f"{argv[0]} in {guest} did not end within {timeout:g} s")
    finally:
        os.close(late)


def _start_in_guest(
    name: str, guest: str, argv: Sequence[str], timeout: float | None, report: int, pipes: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    command, descriptors = guest_command(name, guest, argv, timeout=timeout, report=report)
    environment = {**isolation.passed_on(), "PATH": isolation.search_path(), "VSWITCH_GUEST": guest}
    inherited = descriptors if timeout is None else [*descriptors, report]
    try:
        with _ctrl_c_ignored():
            return subprocess.Popen(command, pass_fds=inherited, env=environment, **pipes)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Have a process that is started meanwhile ignore Ctrl-C: it enters the guest, and passes that on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit_status(status: int) -> int:
    return status if status >= 0 else 128 - status


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a command in a guest; its status. What signals mean is the command's to decide."""
    if threading.current_thread() is not threading.main_thread():
        return process.wait()
    ours = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    awaited = {each for each in ours if signal.getsignal(each) != signal.SIG_IGN} | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        while process.poll() is None:
            came = signal.sigwaitinfo(awaited)
            if came.si_code > 0:  # a terminal's has reached the command by itself
                continue
            if came.si_signo == signal.SIGINT:
                _interrupt(process)
            elif came.si_signo != signal.SIGCHLD:
                process.send_signal(came.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process.wait()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Do as Ctrl-C at a terminal does to the command that `process` has started in a guest."""
    for child in _children(process.pid):
        with contextlib.suppress(OSError):
            group = os.getpgid(child)
            if group == os.getpgrp():  # ours as well
                os.kill(child, signal.SIGINT)
            else:
                os.killpg(group, signal.SIGINT)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
