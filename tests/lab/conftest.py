"""Plain network namespaces for tests of what happens inside guests."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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


def _new_namespace() -> Namespace | str:
    """A namespace, or why there is none."""
    made: list[Namespace | str] = []

    def make() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
            made.append(os.strerror(ctypes.get_errno()))
        else:
            made.append(Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture(scope="module")
def new_namespace() -> Iterator[Callable[[], Namespace]]:
    """A maker of empty namespaces (only `lo`, up); they end with the module."""
    made: list[Namespace] = []

    def make() -> Namespace:
        namespace = _new_namespace()
        if isinstance(namespace, str):
            pytest.skip(f"no network namespace can be made here (run as root): {namespace}")
        made.append(namespace)
        namespace.run("ip", "link", "set", "lo", "up")
        return namespace

    yield make
    for namespace in made:
        os.close(namespace.fd)
