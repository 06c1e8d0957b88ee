"""OpenFlow connections over a Unix socket, for OS-Ken.

The switches live in network namespaces of their own, so they are reached through the file system
and not over TCP. OS-Ken's own listener assumes TCP, and its connections leave two threads behind
whenever a switch disconnects (the sender waits for ever on an empty queue); both are put right here.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any

import os_ken.base.app_manager  # noqa: F401 - os_ken.controller can only be imported after it
from os_ken.controller import controller, ofp_handler
from os_ken.lib import hub

__all__ = ["OpenFlowService", "SwitchConnection"]

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
        waiting = self.send_q
        sender = hub.spawn(self._send_loop)
        self.send_msg(self.ofproto_parser.OFPHello(self))
        try:
            self._recv_loop()
        finally:
            # A sender that waits for something to send gets it, and ends. One with a full queue is about
            # to see by itself that the switch has gone; `send` could block, or meet it half ended.
            if self._send_q_sem.acquire(blocking=False):
                waiting.put((b"", True))
            hub.joinall([sender])
            self.is_active = False


class OpenFlowService(ofp_handler.OFPHandler):
    """OS-Ken's OpenFlow service (hello, features, echo) behind a Unix socket.

    `listener` is where switches connect. Takes the place of OS-Ken's own handler in its manager.
    """

    listener: socket.socket

    def start(self) -> Any:
        """Begin to accept switches once the applications are in place."""
        # The base class would open TCP listeners; its own base only starts the event loop.
        super(ofp_handler.OFPHandler, self).start()
        return hub.spawn(self._accept, self.listener)

    def _accept(self, server: socket.socket) -> None:
        while True:
            accepted, _ = server.accept()
            stream = _UnixStream(fileno=accepted.detach())
            hub.spawn(_serve, stream)


def _serve(stream: socket.socket) -> None:
    try:
        with contextlib.closing(SwitchConnection(stream, ("unix", 0))) as connection:
            connection.serve()
    except Exception:  # whatever a message made of it: only this switch's connection ends
        _LOG.exception("a switch's connection failed")
    finally:
        stream.close()
