"""Requests between this project's processes: JSON lines over a stream socket, one request a connection.

    -> {"op": "apply", "args": {"policies": ["web.yaml"]}, "beat": 10}
    <- {"progress": "compiling"}            any number of them
    <- {"alive": true}                      every `beat` seconds, for as long as it takes
    <- {"result": ..., "version": "1.2"}  or  {"error": ...}    the last line

Errors travel as `VswitchError.as_dict` and are raised again on the asking side with their type. What answers
may be of another version of this project, or something else: what is not such an answer is NotUnderstood.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vswitch import __version__, errors
from vswitch.errors import InputError, InputErrors, LabError, LabFault, Origin, VswitchError
from vswitch.exhausted import exhausted_by
from vswitch.patience import Patience

__all__ = [
    "Handler",
    "NoAnswer",
    "NotUnderstood",
    "TooSlow",
    "WithDescriptors",
    "ask",
    "ask_descriptors",
    "ask_path",
    "connect",
    "error_as_data",
    "error_from_data",
    "peer_is_us",
    "peer_uid",
    "serve",
    "serve_connection",
]

_PAUSE = 0.05  # seconds
_PEER_PATIENCE = 300.0  # seconds for a peer to say what it wants, or to take its answer
_REFUSING = 1.0  # seconds
_SHORTEST_BEAT, _LONGEST_BEAT = 0.05, 10.0
_BEATS = 3  # in the time of silence that whoever asks bears

#: Called with the operation's name, its arguments and a function that reports progress.
Handler = Callable[[str, dict[str, Any], Callable[[str], None]], Any]

T = TypeVar("T")

_MOST_DESCRIPTORS = 16
_CHUNK = 1 << 16
_LONGEST_LINE = 64 << 20  # bytes


class NoAnswer(LabError):
    """No answer has come: the other side has ended before it could, or did not in time."""


class TooSlow(NoAnswer):
    """The time set for the other side is over. `limit` is the field of `Patience` that was reached."""

    def __init__(self, message: str, *, limit: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class NotUnderstood(NoAnswer):
    """What has come is no answer of this version of vswitch."""


@dataclass(frozen=True, slots=True)
class WithDescriptors:
    """A handler's result that carries open file descriptors with it; they are closed once sent."""

    result: Any
    descriptors: tuple[int, ...]


# ------------------------------------------------------------------ asking


def ask(
    sock: socket.socket,
    op: str,
    args: dict[str, Any],
    progress: Callable[[str], None] | None = None,
    *,
    patience: Patience | None = None,
    who: str = "the other side",
) -> Any:
    """Send one request over the connected `sock` and return the result; closes the socket.

    `progress` gets each progress text; `who` is the other side's name in messages. Raises the VswitchError
    the other side answered, NoAnswer if the connection ends without an answer, NotUnderstood for what is
    none of this version's, TooSlow as `patience` says.
    """
    result, descriptors = _Question(sock, op, patience or Patience(), who).put(args, progress)
    for descriptor in descriptors:
        os.close(descriptor)
    return result


def ask_descriptors(
    sock: socket.socket,
    op: str,
    args: dict[str, Any],
    *,
    patience: Patience | None = None,
    who: str = "the other side",
) -> tuple[Any, list[int]]:
    """As `ask`, for an operation whose result carries descriptors: the result and them (not inherited)."""
    return _Question(sock, op, patience or Patience(), who).put(args, None)


class _Question:
    """One request on its way."""

    def __init__(self, sock: socket.socket, op: str, patience: Patience, who: str) -> None:
        self._sock = sock
        self._op = op
        self._patience = patience
        self._who = who
        self._end = time.monotonic() + patience.whole
        self._descriptors: list[int] = []

    def put(self, args: dict[str, Any], progress: Callable[[str], None] | None) -> tuple[Any, list[int]]:
        """The answer: its result and the descriptors that came with it."""
        answered = False
        try:
            with self._sock:
                request = {"op": self._op, "args": args, "beat": self._patience.silence / _BEATS}
                with suppress(BrokenPipeError):  # whoever refuses us says why before it goes
                    self._within_time(lambda: self._sock.sendall(_line(request)))
                for line in self._lines():
                    if "progress" in line:
                        if progress:
                            progress(str(line["progress"]))
                    elif "error" in line:
                        raise self._error(line["error"])
                    elif "result" in line:
                        if line.get("version") != __version__:
                            raise self._not_understood()
                        answered = True
                        return line["result"], self._descriptors
        finally:
            if not answered:
                for descriptor in self._descriptors:
                    os.close(descriptor)
        raise NoAnswer(
            f"{self._who} has ended before it answered {self._op!r}",
            hint="`vswitch ps` lists the labs that run.",
        )

    def _lines(self) -> Iterator[dict[str, Any]]:
        unread = bytearray()
        while data := self._within_time(self._receive):
            unread += data
            if b"\n" in data:
                *lines, unread = unread.split(b"\n")
                yield from map(self._object, lines)
            if len(unread) > _LONGEST_LINE:
                raise NotUnderstood(
                    f"{self._who} answers {self._op!r} with more than {_LONGEST_LINE >> 20} MiB",
                    hint="Ask for less at a time.",
                )

    def _object(self, line: bytearray) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._not_understood()
        return found

    def _error(self, data: Any) -> VswitchError:
        try:
            return error_from_data(data)
        except (LookupError, TypeError, ValueError, AttributeError):
            return self._not_understood()

    def _not_understood(self) -> NotUnderstood:
        return NotUnderstood(
            f"{self._who} runs another version of vswitch: its answer to {self._op!r} is not one of this"
            f" version's ({__version__})",
        )

    def _receive(self) -> bytes:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, _CHUNK, _MOST_DESCRIPTORS)
        except ConnectionError:
            return b""
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        return data

    def _within_time(self, step: Callable[[], T]) -> T:
        left = self._end - time.monotonic()
        if left > 0:
            self._sock.settimeout(min(left, self._patience.silence))
            try:
                return step()
            except TimeoutError:
                pass
        whole, silence = self._patience.whole, self._patience.silence
        if time.monotonic() >= self._end:
            said, limit = f"has not answered {self._op!r} within {whole:g} s", "whole"
        else:
            said, limit = f"has said nothing for {silence:g} s, asked for {self._op!r}", "silence"
        raise TooSlow(f"{self._who} {said}", limit=limit)


def connect(address: str, seconds: float) -> socket.socket:
    """A socket connected to the stream socket at this Unix address, an abstract one with its leading NUL.

    Raises TimeoutError if it takes nobody in for so many seconds (its backlog is full: the kernel would
    keep us waiting for ever), and OSError as connect(2) does.
    """
    end = time.monotonic() + seconds
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(address)
            return sock
        except BlockingIOError:
            sock.close()
        except BaseException:
            sock.close()
            raise
        if time.monotonic() >= end:
            raise TimeoutError
        time.sleep(_PAUSE)


def ask_path(
    path: Path,
    op: str,
    args: dict[str, Any],
    *,
    timeout: float,
    whole: float = 3600.0,
    progress: Callable[[str], None] | None = None,
    who: str = "the other side",
) -> Any:
    """As `ask`, to the server listening on the Unix socket `path`.

    `timeout` is in seconds without a sign of life, `whole` in all. Raises LabError if nothing listens
    there, TooSlow if it takes nobody in for so long, and as `ask` does.
    """
    sock = None
    try:
        sock = connect(str(path), timeout)
    except TimeoutError:
        pass
    except OSError as error:
        raise LabError(f"{op!r} reached nobody at {path}: {error.strerror or error}") from None
    if sock is None:
        raise TooSlow(f"{who} has taken no request for {timeout:g} s, asked for {op!r}", limit="connecting")
    return ask(sock, op, args, progress, patience=Patience(timeout, timeout, whole), who=who)


# ------------------------------------------------------------------ answering


def serve(
    listener: socket.socket, handler: Handler, *, admit: Callable[[socket.socket], bool] = lambda _: True
) -> None:
    """Answer requests on a listening socket, each in a thread of its own, until the socket is closed.

    Connections that `admit` says no to are closed without a word. Where this process has run out of
    open files or threads, those who ask are told so.
    """
    spare = _spare()
    while True:
        try:
            sock, _ = listener.accept()
        except (OSError, MemoryError) as error:
            if listener.fileno() < 0:
                return
            if spare is not None and exhausted_by(error):
                os.close(spare)  # to be able to say no
                _turn_away(listener, error)
                spare = None
            else:
                time.sleep(_PAUSE)
            spare = spare or _spare()
            continue
        try:
            if admit(sock):
                threading.Thread(target=serve_connection, args=(sock, handler), daemon=True).start()
            else:
                sock.close()
        except (OSError, RuntimeError, MemoryError) as error:  # no thread to be had, most likely
            _refuse(sock, error)


def _spare() -> int | None:
    """A descriptor to give up when there are no more."""
    with suppress(OSError):
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _turn_away(listener: socket.socket, error: BaseException) -> None:
    with suppress(OSError, MemoryError):
        try:
            listener.settimeout(_PAUSE)
            sock, _ = listener.accept()
        finally:
            listener.settimeout(None)
        _refuse(sock, error)


def _refuse(sock: socket.socket, error: BaseException) -> None:
    """Answer a request, without having read it, with what this process has run out of; closes the socket."""
    with suppress(OSError, MemoryError), sock:
        sock.settimeout(_REFUSING)
        sock.sendall(_line({"error": error_as_data(_as_answer("a request", error))}))


def serve_connection(sock: socket.socket, handler: Handler) -> None:
    """Answer the one request of an accepted connection and close it. Never raises."""
    # A peer that has gone needs no answer; the operation itself has been done or not by then.
    with suppress(OSError), sock, sock.makefile("r", encoding="utf-8") as lines:
        sock.settimeout(_PEER_PATIENCE)
        try:
            request = json.loads(lines.readline())
            op, args, beat = str(request["op"]), dict(request["args"]), float(request.get("beat", 0))
        except (ValueError, KeyError, TypeError):
            sock.sendall(_line({"error": error_as_data(LabError("this is no request"))}))
            return
        voice = _Voice(sock)
        try:
            with voice.beating(beat):
                result = handler(op, args, lambda text: voice.say({"progress": text}))
            if isinstance(result, WithDescriptors):
                _send_descriptors(sock, result)
                return
            answer = _line(_answer(result))
        except ConnectionError:
            return
        except Exception as error:
            answer = _line({"error": error_as_data(_as_answer(repr(op), error))})
        sock.sendall(answer)


class _Voice:
    """What is said on one connection, by several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._speaking = threading.Lock()

    def say(self, data: dict[str, Any]) -> None:
        """Send one line."""
        with self._speaking:
            self._sock.sendall(_line(data))

    @contextmanager
    def beating(self, every: float) -> Iterator[None]:
        """Send signs of life about `every` so many seconds; none if that is 0, as nobody waits for them."""
        if not every > 0:
            yield
            return
        done = threading.Event()
        pause = min(max(every, _SHORTEST_BEAT), _LONGEST_BEAT)

        def beat() -> None:
            with suppress(OSError):
                while not done.wait(pause):
                    self.say({"alive": True})

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _as_answer(what: str, error: BaseException) -> VswitchError:
    """The error to answer with when `what` has met this one."""
    if exhausted := exhausted_by(error):
        return exhausted
    if isinstance(error, VswitchError):
        return error
    traceback.print_exc(file=sys.stderr)
    return LabFault(
        f"{what} failed: {type(error).__name__}: {error}",
        hint="This is a fault of vswitch; the lab's log holds the details.",
    )


def _send_descriptors(sock: socket.socket, answer: WithDescriptors) -> None:
    try:
        socket.send_fds(sock, [_line(_answer(answer.result))], answer.descriptors)
    finally:
        for descriptor in answer.descriptors:
            os.close(descriptor)


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end of a connected Unix socket."""
    size = struct.calcsize("3i")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def peer_is_us(sock: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket runs under our user id."""
    return peer_uid(sock) == os.getuid()


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
    return kind(str(data["message"]), where=where, hint=str(data.get("hint") or ""))


def _answer(result: Any) -> dict[str, Any]:
    return {"result": result, "version": __version__}


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, default=str).encode() + b"\n"
