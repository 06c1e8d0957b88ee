"""A real Open vSwitch with two guests' worth of network namespaces on it."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass

from vswitch.lab.isolation.netns import in_netns
from vswitch.openvswitch import Instance


@dataclass(frozen=True)
class Space:
    """A network namespace that ends with this process."""

    path: str

    def ip(self, *words: str) -> None:
        in_netns(self.path, lambda: subprocess.run(["ip", *words], check=True, timeout=20))

    def udp(self, address: str, port: int) -> socket.socket:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))
            sock.settimeout(2)
            return sock

        return in_netns(self.path, make)


@dataclass(frozen=True)
class Rig:
    """An instance with bridge br0 (ports p1, p2, p3) and guests 10.0.0.1 and 10.0.0.2 behind p1 and p2."""

    instance: Instance
    space: Space
    guests: tuple[Space, Space]
