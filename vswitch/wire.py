"""Requests between this project's processes: JSON lines over a stream socket, one request a connection.

    -> {"op": "apply", "args": {"policies": ["web.yaml"]}}
    <- {"progress": "compiling"}            any number of them
    <- {"result": ...}  or  {"error": ...}  the last line

Errors travel as `VswitchError.as_dict` and are raised again on the asking side with their type.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vswitch import errors
from vswitch.errors import InputError, InputErrors, LabError, LabFault, Origin, VswitchError

__all__ = [
    "Handler",
    "NoAnswer",
    "WithDescriptors",
    "ask",
    "ask_descriptors",
    "ask_path",
    "error_as_data",
    "error_from_data",
    "peer_is_us",
    "serve",
    "serve_connection",
]

_PAUSE = 0.05  # seconds

#: Called with the operation's name, its arguments and a function that reports progress.
Handler = Callable[[str, dict[str, Any], Callable[[str], None]], Any]

_MOST_DESCRIPTORS = 16


class NoAnswer(LabError):
    """The other side ended before it answered."""


@dataclass(frozen=True, slots=True)
class WithDescriptors:
    """A handler's result that carries open file descriptors with it; they are closed once sent."""

    result: Any
    descriptors: tuple[int, ...]


def ask(
    sock: socket.socket, op: str, args: dict[str, Any], progress: Callable[[str], None] | None = None
) -> Any:
    """Send one request over the connected `sock` and return the result; closes the socket.

    `progress` gets each progress text. Raises the VswitchError the other side answered, NoAnswer if the
    connection ends without an answer, TimeoutError as the socket's timeout says.
    """
    with sock, sock.makefile("r", encoding="utf-8") as lines:
        try:
            sock.sendall(_line({"op": op, "args": args}))
            for line in lines:
                answer = json.loads(line)
                if "progress" in answer:
                    if progress:
                        progress(answer["progress"])
                elif "error" in answer:
                    raise error_from_data(answer["error"])
                else:
                    return answer["result"]
        except ConnectionError:
            pass
    raise NoAnswer(
        f"no answer to {op!r}: the other side has ended", hint="`vswitch ps` lists the labs that run."
    )


def ask_descriptors(sock: socket.socket, op: str, args: dict[str, Any]) -> tuple[Any, list[int]]:
    """As `ask`, for an operation whose result carries descriptors: the result and them (not inherited)."""
    with sock:
        sock.sendall(_line({"op": op, "args": args}))
        data, descriptors, _, _ = socket.recv_fds(sock, 1 << 16, _MOST_DESCRIPTORS)
        while not data.endswith(b"\n"):
            more = sock.recv(1 << 16)
            if not more:
                raise NoAnswer(f"no answer to {op!r}: the other side has ended")
            data += more
    answer = json.loads(data)
    if "error" in answer:
        raise error_from_data(answer["error"])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return answer["result"], descriptors


def ask_path(
    path: Path,
    op: str,
    args: dict[str, Any],
    *,
    timeout: float,
    progress: Callable[[str], None] | None = None,
) -> Any:
    """As `ask`, to the server listening on the Unix socket `path`, within `timeout` seconds of silence.

    Raises LabError if nothing listens there or nothing is said for so long.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(str(path))
        return ask(sock, op, args, progress)
    except TimeoutError:
        raise LabError(f"no answer to {op!r} within {timeout:g} s") from None
    except OSError as error:
        raise LabError(f"{op!r} reached nobody at {path}: {error.strerror or error}") from None
    finally:
        sock.close()


def serve(listener: socket.socket, handler: Handler) -> None:
    """Answer requests on a listening socket, each in a thread of its own, until the socket is closed."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            if listener.fileno() < 0:
                return
            time.sleep(_PAUSE)  # out of descriptors, most likely: others will close theirs
            continue
        threading.Thread(target=serve_connection, args=(sock, handler), daemon=True).start()


def serve_connection(sock: socket.socket, handler: Handler) -> None:
    """Answer the one request of an accepted connection and close it. Never raises."""
    # A peer that has gone needs no answer; the operation itself has been done or not by then.
    with suppress(OSError), sock, sock.makefile("r", encoding="utf-8") as lines:
        try:
            request = json.loads(lines.readline())
            op, args = str(request["op"]), dict(request["args"])
        except (ValueError, KeyError, TypeError):
            sock.sendall(_line({"error": error_as_data(LabError("this is no request"))}))
            return
        try:
            result = handler(op, args, lambda text: sock.sendall(_line({"progress": text})))
            if isinstance(result, WithDescriptors):
                _send_descriptors(sock, result)
                return
            answer = {"result": result}
        except VswitchError as error:
            answer = {"error": error_as_data(error)}
        except ConnectionError:
            return
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            unexpected = LabFault(
                f"{op!r} failed: {type(error).__name__}: {error}",
                hint="This is a fault of vswitch; the lab's log holds the details.",
            )
            answer = {"error": error_as_data(unexpected)}
        sock.sendall(_line(answer))


def _send_descriptors(sock: socket.socket, answer: WithDescriptors) -> None:
    try:
        socket.send_fds(sock, [_line({"result": answer.result})], answer.descriptors)
    finally:
        for descriptor in answer.descriptors:
            os.close(descriptor)


def peer_is_us(sock: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket runs under our user id."""
    size = struct.calcsize("3i")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())


def error_as_data(error: VswitchError) -> dict[str, Any]:
    """An error as JSON data; `errors` lists those of an InputErrors."""
    data = dict(error.as_dict())
    if isinstance(error, InputErrors):
        data["errors"] = [single.as_dict() for single in error.errors]
    return data


def error_from_data(data: dict[str, Any]) -> VswitchError:
    """The error `error_as_data` made the data from; LabError for a type unknown here."""
    if data.get("errors"):
        singles = [error_from_data(single) for single in data["errors"]]
        return InputErrors([single for single in singles if isinstance(single, InputError)])
    name = str(data["error"])
    kind = getattr(errors, name, None) or getattr(errors, f"{name}_", None)
    if not (isinstance(kind, type) and issubclass(kind, VswitchError)) or kind is InputErrors:
        kind = LabError
    file = data.get("file")
    where = Origin(file, data.get("line") or 0, data.get("column") or 0) if file else None
    return kind(data["message"], where=where, hint=data.get("hint") or "")


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, default=str).encode() + b"\n"
