"""A real shell at a real terminal, for tests of what happens between two keys."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Terminal", "terminal"]

PATIENCE = 90.0  # seconds that no sound machine needs
_CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|\(B|[=>])|\r")


@dataclass
class Terminal:
    """What is typed into a program, and what it shows."""

    descriptor: int
    shown: str = ""

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until a match of the pattern is shown, and take all up to its end off; returns the match."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < end, f"{pattern!r} never came; there is {self.shown!r}"
            assert "Traceback" not in self.shown
            if select.select([self.descriptor], [], [], 0.5)[0]:
                read = os.read(self.descriptor, 65536).decode(errors="replace")
                self.shown = _CONTROL.sub("", self.shown + read)
        self.shown = self.shown[found.end() :]
        return found[0]


@contextmanager
def terminal(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program in `folder` at a terminal of its own for as long as the block lasts."""
    pid, descriptor = pty.fork()
    if not pid:
        try:
            os.chdir(folder)
            os.execvpe(argv[0], list(argv), dict(environment))
        finally:
            os._exit(127)
    try:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", 200, 300, 0, 0))
        yield Terminal(descriptor)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)
