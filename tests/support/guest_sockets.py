"""Sockets of a guest, held by the test."""

from __future__ import annotations

import os
import socket

from vswitch.lab.isolation.netns import in_netns


def socket_in(
    path: str | os.PathLike[str],
    family: int = socket.AF_INET,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
) -> socket.socket:
    """A new socket of the network namespace at `path`, for use from any thread."""
    return in_netns(path, lambda: socket.socket(family, type, proto))
