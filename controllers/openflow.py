"""OpenFlow connections over a Unix socket, for OS-Ken.

The switches live in network namespaces of their own, so they are reached through the file system
and not over TCP. OS-Ken's own listener assumes TCP, and its connections leave two threads behind
whenever a switch disconnects (the sender waits for ever on an empty queue); both are put right here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import Any

from os_ken.controller import controller, ofp_handler
from os_ken.lib import hub

__all__ = ["OpenFlowService", "SwitchConnection", "listen"]

_LOG = logging.getLogger(__name__)


class _UnixStream(socket.socket):
    """A Unix stream socket that shrugs at the TCP options OS-Ken sets on every connection."""

    def setsockopt(self, level: int, *args: Any) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *args)


class SwitchConnection(controller.Datapath):
    """One switch's connection; when the switch goes, its threads and its socket go too."""

    def serve(self) -> None:
        """Talk to the switch until it disconnects. Blocks."""
        sender = hub.spawn(self._send_loop)
        self.send_msg(self.ofproto_parser.OFPHello(self))
        try:
            self._recv_loop()
        finally:
            self.send(b"", close_socket=True)
            hub.joinall([sender])
            self.is_active = False


def listen(path: Path) -> socket.socket:
    """A listening Unix stream socket at `path`, in place of a stale one."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(os.fspath(path))
    server.listen(128)
    return server


class OpenFlowService(ofp_handler.OFPHandler):
    """OS-Ken's OpenFlow service (hello, features, echo) behind a Unix socket.

    `path` is where switches connect. Takes the place of OS-Ken's own handler in its manager.
    """

    path: Path

    def start(self) -> Any:
        """Begin to accept switches once the applications are in place."""
        # The base class would open TCP listeners; its own base only starts the event loop.
        super(ofp_handler.OFPHandler, self).start()
        return hub.spawn(self._accept, listen(self.path))

    def _accept(self, server: socket.socket) -> None:
        while True:
            accepted, _ = server.accept()
            stream = _UnixStream(fileno=accepted.detach())
            hub.spawn(_serve, stream)


def _serve(stream: socket.socket) -> None:
    try:
        with contextlib.closing(SwitchConnection(stream, ("unix", 0))) as connection:
            connection.serve()
    except (OSError, ValueError):
        _LOG.exception("a switch's connection failed")
    finally:
        stream.close()
