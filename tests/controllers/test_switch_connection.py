"""A switch's OpenFlow connection: what it leaves behind when it ends, however it ends."""

from __future__ import annotations

import os
import socket
import struct
import threading

import pytest

from vswitch.controller import openflow

HEADER = struct.Struct("!BBHI")
VERSION, HELLO, FEATURES_REPLY = 5, 0, 6  # OpenFlow 1.4


class Switch:
    """The switch's end of a connection that the controller serves in a thread of its own."""

    def __init__(self) -> None:
        self.socket, ours = socket.socketpair()
        self.socket.settimeout(10)
        stream = openflow._UnixStream(fileno=ours.detach())
        self.serving = threading.Thread(target=openflow._serve, args=(stream,))
        self.serving.start()

    def receive(self) -> tuple[int, bytes]:
        """Type and body of the next message."""
        _, kind, length, _ = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(length - HEADER.size)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the controller closed the connection"
            data += more
        return data

    def send(self, kind: int, body: bytes = b"") -> None:
        self.socket.sendall(HEADER.pack(VERSION, kind, HEADER.size + len(body), 1) + body)

    def gone(self) -> None:
        """The controller's side has to end by itself."""
        self.socket.close()
        self.serving.join(10)
        assert not self.serving.is_alive(), "the connection is served on without a switch"


def threads_and_files() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def test_says_hello_first() -> None:
    switch = Switch()
    kind, _ = switch.receive()
    switch.gone()
    assert kind == HELLO


def test_a_hundred_disconnects_leave_no_thread_and_no_descriptor() -> None:
    Switch().gone()
    before = threads_and_files()
    for number in range(100):
        switch = Switch()
        if number % 3:
            switch.receive()
        if number % 3 == 2:
            switch.send(HELLO)
        switch.gone()
    assert threads_and_files() == before


@pytest.mark.parametrize(
    "words",
    [
        b"\x00" * 64,
        b"\x05\x00\x00\x00\x00\x00\x00\x00",  # a message shorter than its own header
        HEADER.pack(VERSION, FEATURES_REPLY, HEADER.size + 2, 1) + b"xx",
        HEADER.pack(VERSION, HELLO, 4000, 1) + b"the rest never comes",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_ends_that_connection_only(words: bytes) -> None:
    before = threads_and_files()
    switch = Switch()
    switch.socket.sendall(words)
    switch.socket.shutdown(socket.SHUT_WR)
    switch.gone()
    assert threads_and_files() == before


def test_a_switch_that_takes_nothing_any_more_is_let_go() -> None:
    before = threads_and_files()
    switch = Switch()
    switch.receive()
    for number in range(200):  # echo requests whose answers nobody reads
        switch.send(2, struct.pack("!I", number))
    switch.gone()
    assert threads_and_files() == before
