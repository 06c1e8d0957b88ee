"""Requests to a server that answers late, in pieces, badly or not at all."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from vswitch.errors import SwitchError
from vswitch.openvswitch.jsonrpc import call

Serve = Callable[[Callable[[socket.socket], None]], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A server that treats its one connection as told; its socket's path is longer than the kernel takes."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    path = folder / "server.sock"
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_PATH)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)
    listener.listen()
    listener.settimeout(10)

    def start(treat: Callable[[socket.socket], None]) -> Path:
        def run() -> None:
            with listener.accept()[0] as peer, suppress(OSError):
                peer.settimeout(10)
                peer.recv(1 << 16)
                treat(peer)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


def test_an_answer_may_come_in_any_pieces(serve: Serve) -> None:
    result = {"text": "}{ \u00e4\u20ac" * 2000, "inner": {"a": [{}]}}
    whole = json.dumps({"id": 0, "result": result, "error": None}, ensure_ascii=False).encode()

    def treat(peer: socket.socket) -> None:
        for start in range(0, len(whole), 1001):  # through the middle of characters, too
            peer.sendall(whole[start : start + 1001])

    assert call(serve(treat), "anything", [], 10.0) == result


def test_an_answer_that_never_ends_is_given_up(serve: Serve) -> None:
    def treat(peer: socket.socket) -> None:
        while True:
            peer.sendall(b" ")
            time.sleep(0.02)

    began = time.monotonic()
    with pytest.raises(SwitchError, match=r"did not answer 'anything' within 0\.4 s"):
        call(serve(treat), "anything", [], 0.4)
    assert time.monotonic() - began < 5


def test_no_answer(serve: Serve) -> None:
    with pytest.raises(SwitchError, match=r"did not answer 'anything' within 0\.2 s"):
        call(serve(lambda peer: time.sleep(0.5)), "anything", [], 0.2)


def test_an_answer_that_breaks_off(serve: Serve) -> None:
    with pytest.raises(SwitchError, match="closed in the middle of an answer"):
        call(serve(lambda peer: peer.sendall(b'{"id": 0, "result": {}')), "anything", [], 10.0)


def test_a_refusal_is_the_message(serve: Serve) -> None:
    with pytest.raises(SwitchError, match=r"^no such thing$"):
        call(
            serve(lambda peer: peer.sendall(b'{"id": 0, "error": "no such thing\\n"}')), "anything", [], 10.0
        )


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SwitchError, match="cannot talk to Open vSwitch at") as caught:
        call(tmp_path / "missing.sock", "anything", [], 10.0)
    assert "log" in caught.value.hint
