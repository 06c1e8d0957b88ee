"""JSON-RPC over Unix sockets, as ovsdb-server (OVSDB) and ovs-vswitchd (unixctl) speak it.

By hand and not with the `ovs` library, which waits without a limit and takes a second of processor time
for a quarter of a megabyte: docs/decisions/0015 has the figures.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from time import monotonic
from typing import Any

from vswitch.errors import SwitchError

__all__ = ["call", "connect"]

_LONGEST_NAME = 100  # sun_path holds 108 bytes


def connect(path: Path, timeout: float) -> socket.socket:
    """A stream socket connected to the Unix socket `path`, every later step bounded by `timeout` seconds.

    Raises OSError as `socket.connect` does.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        if len(os.fsencode(path)) <= _LONGEST_NAME:
            sock.connect(str(path))
        else:  # too long for the kernel's structure: go through the folder's descriptor
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                sock.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
    except BaseException:
        sock.close()
        raise
    return sock


def call(path: Path, method: str, params: list[Any], timeout: float) -> Any:
    """Call `method` with `params` at the server behind the Unix socket `path`; returns its `result`.

    Raises SwitchError if the server cannot be reached, does not answer within `timeout` seconds, or
    answers with an error (the error's text is then the message).
    """
    request = json.dumps({"id": 0, "method": method, "params": params}).encode()
    deadline = monotonic() + timeout
    try:
        with connect(path, timeout) as sock:
            sock.sendall(request)
            reply = _read_object(sock, deadline)
    except TimeoutError:
        raise SwitchError(
            f"Open vSwitch did not answer {method!r} within {timeout:g} s",
            hint=f"Its log is beside the socket {path}.",
        ) from None
    except OSError as error:
        raise SwitchError(
            f"cannot talk to Open vSwitch at {path}: {error.strerror or error}",
            hint="The process has ended or is not up yet; its log is beside the socket.",
        ) from None
    if reply.get("error") is not None:
        error_text = reply["error"]
        raise SwitchError(error_text.strip() if isinstance(error_text, str) else json.dumps(error_text))
    return reply.get("result")


def _read_object(sock: socket.socket, deadline: float) -> dict[str, Any]:
    """The one JSON object the peer sends; it marks no end, so try whenever it could be complete."""
    chunks = bytearray()
    while True:
        left = deadline - monotonic()
        if left <= 0:  # piece by piece an answer could take for ever
            raise TimeoutError
        sock.settimeout(left)
        chunk = sock.recv(1 << 20)
        if not chunk:
            raise ConnectionError("connection closed in the middle of an answer")
        chunks += chunk
        if chunks.endswith((b"}", b"}\n")):
            try:
                reply = json.loads(chunks)
            except ValueError:
                continue
            if isinstance(reply, dict):
                return reply
