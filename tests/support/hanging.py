"""Commands as processes of their own, and labs whose supervisor hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vswitch.lab.process import finding

ROOT = Path(__file__).resolve().parents[2]


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from vswitch.cli.entry import main; main()", *words]


def start(*words: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`vswitch` with these words, in a session of its own."""
    return subprocess.Popen(
        command(*words), text=True, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )  # fmt: skip


def ended(process: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
    """Exit status and all that was printed by a command that has to end within so many seconds."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"still running: {process.args!r}") from None
    said = out + err
    assert "Traceback" not in said, said
    assert "fault of vswitch" not in said, said
    return process.returncode, said


def supervisor_of(name: str) -> int | None:
    """The process id of the lab's supervisor, as soon as there is one."""
    for pid in finding.holders(name):
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] == [
            b"-m",
            finding.SUPERVISOR.encode(),
        ]:
            return pid
    return None


@contextmanager
def hung(name: str) -> Iterator[int]:
    """The lab's supervisor stopped for as long as the block lasts."""
    pid = supervisor_of(name)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def is_asking(process: subprocess.Popen[str]) -> bool:
    """Whether a command has a socket open, which is to the lab."""
    try:
        entries = list(Path(f"/proc/{process.pid}/fd").iterdir())
        return any(os.readlink(entry).startswith("socket:") for entry in entries)
    except OSError:
        return False


@contextmanager
def full_backlog(name: str) -> Iterator[int]:
    """As many connections to a lab that takes none as the kernel keeps; how many."""
    with ExitStack() as stack:
        for count in range(10_000):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            try:
                sock.connect("\0" + finding.address_of(name))
            except BlockingIOError:
                yield count
                return
        raise AssertionError("the backlog has no end")
