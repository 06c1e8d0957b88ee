"""One Open vSwitch for the module, with two guests' worth of network namespaces on it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.switch_rig import Rig, Space
from vswitch.lab.isolation.netns import in_netns
from vswitch.openvswitch import BridgeSpec, Instance, PortSpec


@pytest.fixture(scope="session")
def new_space() -> Iterator[Callable[[], Space]]:
    """A maker of empty network namespaces."""
    descriptors: list[int] = []

    def unshare() -> None:
        if ctypes.CDLL(None).unshare(0x40000000) == 0:  # CLONE_NEWNET
            descriptors.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    def make() -> Space:
        before = len(descriptors)
        thread = threading.Thread(target=unshare)
        thread.start()
        thread.join()
        if len(descriptors) == before:
            pytest.skip("network namespaces need root here")
        return Space(f"/proc/{os.getpid()}/fd/{descriptors[-1]}")

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture(scope="module")
def rig(new_space: Callable[[], Space], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    space, guests = new_space(), (new_space(), new_space())
    for number, guest in enumerate(guests, 1):
        _veth(space, guest, f"p{number}", f"10.0.0.{number}/24")
    space.ip("link", "add", "p3", "up", "type", "veth", "peer", "name", "q3")
    instance = Instance("test", tmp_path_factory.mktemp("ovs"), netns=space.path)
    try:
        instance.start()
        ports = tuple(PortSpec(f"p{number}", number) for number in (1, 2, 3))
        instance.add_bridges([BridgeSpec("br0", 0x42, ports=ports)])
        yield Rig(instance, space, guests)
    finally:
        instance.stop()


@pytest.fixture
def empty(rig: Rig) -> Iterator[Rig]:
    """The rig without flows, connections and timeouts, before and after."""

    def clear() -> None:
        rig.instance.bundle("br0", "delete")
        rig.instance.appctl("dpctl/flush-conntrack")
        rig.instance.set_zone_timeouts({})

    clear()
    yield rig
    clear()


def _veth(space: Space, guest: Space, name: str, address: str) -> None:
    """`name` in `space`, eth0 with `address` in `guest`."""
    holder = in_netns(guest.path, lambda: subprocess.Popen(["sleep", "60"]))
    try:
        peer = ("peer", "name", "eth0", "netns", str(holder.pid))
        space.ip("link", "add", name, "up", "type", "veth", *peer)
    finally:
        holder.kill()
        holder.wait()
    guest.ip("link", "set", "eth0", "up")
    guest.ip("address", "add", address, "dev", "eth0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "instance"
