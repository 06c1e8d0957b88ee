"""Plain network namespaces for tests of what happens inside guests."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.namespaces import Namespace


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
