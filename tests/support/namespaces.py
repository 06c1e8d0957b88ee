"""Plain network namespaces for tests of what happens inside guests."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vswitch.lab.isolation.netns import in_netns


@dataclass(frozen=True)
class Namespace:
    """A namespace held open by a file descriptor: it ends with this process, whatever ends that."""

    fd: int

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def run(self, *command: str) -> str:
        done = in_netns(
            self.path,
            lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=20),
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def sysctl(self, name: str, value: str) -> None:
        in_netns(self.path, lambda: Path("/proc/sys/net", name).write_text(value))
