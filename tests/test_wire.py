"""Requests between processes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vswitch import wire
from vswitch.errors import (
    BusyError,
    EnvironmentError_,
    InputError,
    InputErrors,
    LabError,
    NoSuchLab,
    Origin,
    OutOfResources,
    SwitchError,
    VswitchError,
)
from vswitch.patience import Patience


def handle(op: str, args: dict[str, Any], progress: Callable[[str], None]) -> Any:
    if op == "echo":
        progress("one")
        progress("two")
        return args
    if op == "descriptor":
        read, write = os.pipe()
        os.write(write, b"through the pipe")
        os.close(write)
        return wire.WithDescriptors("a pipe", (read,))
    if op == "slow":
        time.sleep(1)
        return "at last"
    if op == "slow descriptor":
        time.sleep(1)
        return handle("descriptor", args, progress)
    if op == "exhaust":
        raise OSError(args["number"], os.strerror(args["number"])) if args["number"] else MemoryError
    if op == "fail":
        raise SwitchError("it broke", hint="mend it")
    raise ZeroDivisionError("surprise")


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], socket.socket]]:
    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=wire.serve, args=(listener, handle), daemon=True).start()

    def connected() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(path)
        return sock

    yield connected
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_results_and_progress_arrive_in_order(connect: Callable[[], socket.socket]) -> None:
    said: list[str] = []
    assert wire.ask(connect(), "echo", {"a": [1, "ü\n"]}, said.append) == {"a": [1, "ü\n"]}
    assert said == ["one", "two"]


def test_errors_arrive_with_type_and_hint(connect: Callable[[], socket.socket]) -> None:
    with pytest.raises(SwitchError, match="it broke") as caught:
        wire.ask(connect(), "fail", {})
    assert caught.value.hint == "mend it"


def test_a_fault_in_the_other_process_is_an_error_too(
    connect: Callable[[], socket.socket], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LabError, match="'other' failed: ZeroDivisionError: surprise") as caught:
        wire.ask(connect(), "other", {})
    assert caught.value.exit_status == 70
    assert "Traceback" in capfd.readouterr().err


def test_descriptors_arrive(connect: Callable[[], socket.socket]) -> None:
    result, (descriptor,) = wire.ask_descriptors(connect(), "descriptor", {})
    assert result == "a pipe"
    assert not os.get_inheritable(descriptor)
    with os.fdopen(descriptor) as pipe:
        assert pipe.read() == "through the pipe"
    with pytest.raises(SwitchError, match="it broke"):
        wire.ask_descriptors(connect(), "fail", {})


def test_what_is_no_request_is_refused(connect: Callable[[], socket.socket]) -> None:
    with connect() as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n")
        assert b"no request" in sock.recv(1000)


def test_an_end_without_an_answer_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(LabError, match="has ended before it answered 'ping'"):
        wire.ask(ours, "ping", {})


@pytest.mark.parametrize(
    "answer",
    [
        b"not json", b"\xff\xfe", b"[1]", b"null", b"3", b"[" * 100_000, b'{"result": null}',
        b'{"result": [], "version": null}', b'{"result": {}, "version": "0.0.0"}', b'{"error": {}}',
        b'{"error": null}', b'{"error": {"error": "InputErrors", "errors": [1]}}',
        b'{"error": {"errors": [{}]}}', b'{"error": {"error": "HostError", "message": "m"}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("ask", [wire.ask, wire.ask_descriptors])
def test_what_is_no_answer_of_this_version_is_said_to_be_none(ask: Callable[..., Any], answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b'{"alive": true}\n{"progress": {}}\n' + answer + b"\n")
        with pytest.raises(wire.NotUnderstood, match="the lab runs another version of vswitch"):
            ask(ours, "status", {}, who="the lab")


def test_an_answer_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LONGEST_LINE", 3 << 20)
    ours, theirs = socket.socketpair()

    def flood() -> None:
        with theirs, contextlib.suppress(OSError):
            while True:
                theirs.sendall(bytes(1 << 16))

    flooding = threading.Thread(target=flood)
    flooding.start()
    with pytest.raises(wire.NotUnderstood, match="the lab answers 'log' with more than 3 MiB"):
        wire.ask(ours, "log", {}, who="the lab")
    flooding.join()


def test_an_error_whose_parts_are_no_text_can_be_printed() -> None:
    error = wire.error_from_data({"error": "LabError", "message": 3, "hint": ["a"]})
    assert (error.message, error.hint) == ("3", "['a']")


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="'ping' reached nobody"):
        wire.ask_path(tmp_path / "none", "ping", {}, timeout=1)


def test_silence_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent"))
        listener.listen()
        with pytest.raises(LabError, match=r"has said nothing for 0\.1 s, asked for 'ping'"):
            wire.ask_path(tmp_path / "silent", "ping", {}, timeout=0.1)


def test_signs_of_life_are_enough(connect: Callable[[], socket.socket]) -> None:
    """An operation may take longer than the silence that whoever asks bears, but not than the whole."""
    assert wire.ask(connect(), "slow", {}, patience=Patience(1, 0.3, 20)) == "at last"
    result, (descriptor,) = wire.ask_descriptors(
        connect(), "slow descriptor", {}, patience=Patience(1, 0.3, 20)
    )
    os.close(descriptor)
    assert result == "a pipe"
    with pytest.raises(wire.TooSlow, match=r"the lab has not answered 'slow' within 0\.5 s") as caught:
        wire.ask(connect(), "slow", {}, patience=Patience(1, 0.3, 0.5), who="the lab")
    assert caught.value.limit == "whole"


def test_a_full_backlog_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "full"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(0)
        stack.enter_context(wire.connect(str(path), 0))
        with pytest.raises(TimeoutError):
            wire.connect(str(path), 0)
        with pytest.raises(wire.TooSlow, match=r"has taken no request for 0\.2 s"):
            wire.ask_path(path, "ping", {}, timeout=0.2)


@pytest.mark.parametrize("ask", [wire.ask, wire.ask_descriptors])
@pytest.mark.parametrize("read", [0, 1, 1 << 16])
def test_a_connection_that_ends_early_is_an_error(ask: Callable[..., Any], read: int) -> None:
    """With the request unread the kernel says that the connection was reset."""
    ours, theirs = socket.socketpair()

    def end() -> None:
        with theirs:
            if read:
                theirs.recv(read)

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(wire.NoAnswer, match="the lab has ended before it answered 'namespaces'"):
        ask(ours, "namespaces", {"guest": "web01"}, who="the lab")
    ending.join()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_who_asks_a_process_without_threads_is_told(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OutOfResources, match="this machine has run out of"):
            wire.ask(connect(), "echo", {})
    assert wire.ask(connect(), "echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "raised", [MemoryError(), OSError(errno.ENOSPC, "full"), BlockingIOError(errno.EAGAIN, "no")]
)
def test_what_an_operation_has_run_out_of_is_told(
    connect: Callable[[], socket.socket], raised: BaseException
) -> None:
    with pytest.raises(OutOfResources):
        wire.ask(connect(), "exhaust", {"number": getattr(raised, "errno", None)})


def test_the_peer_in_this_process_is_us() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert wire.peer_is_us(ours)


@pytest.mark.parametrize(
    "kind", [InputError, EnvironmentError_, LabError, NoSuchLab, SwitchError, BusyError, OutOfResources]
)
def test_every_error_survives_the_way(kind: type[VswitchError]) -> None:
    error = kind("what", where=Origin("a.yaml", 3, 5), hint="do this")
    back = wire.error_from_data(wire.error_as_data(error))
    assert type(back) is kind
    assert (back.message, back.where, back.hint) == (error.message, error.where, error.hint)


def test_several_input_errors_survive_the_way() -> None:
    error = InputErrors([InputError("one", where=Origin("a", 1, 2)), InputError("two", hint="h")])
    back = wire.error_from_data(wire.error_as_data(error))
    assert isinstance(back, InputErrors)
    assert [str(each) for each in back.errors] == [str(each) for each in error.errors]


def test_an_unknown_kind_of_error_is_still_one() -> None:
    assert isinstance(wire.error_from_data({"error": "Origin", "message": "m"}), VswitchError)
