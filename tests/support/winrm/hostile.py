"""Endpoints that do not speak WinRM but harm: each connection gets the bytes of a generator."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Self

from tests.support.winrm.http import pour

Poison = Callable[[], Iterator[bytes]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n"
ASKS = b"HTTP/1.1 401 \r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: CredSSP\r\n"


class Hostile:
    """A context manager that listens on loopback. `sent` counts the bytes it could get rid of."""

    def __init__(self, poison: Poison, *, tls: ssl.SSLContext | None = None, reads: bool = True) -> None:
        self.poison = poison
        self.tls = tls
        self.reads = reads
        self.sent = 0
        self.met = threading.Event()
        self.connections: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.listener, *self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self.connections.append(connection)
            if self.reads:
                connection.recv(65536)
            self.met.set()
            pour(connection.makefile("wb"), self._counted())

    def _counted(self) -> Iterator[bytes]:
        for piece in self.poison():
            yield piece
            self.sent += len(piece)


def slowly(text: bytes, *, seconds: float = 0.05) -> Iterator[bytes]:
    """A byte at a time; the last one again and again."""
    for byte in itertools.chain(text, itertools.repeat(text[-1])):
        time.sleep(seconds)
        yield bytes([byte])


def silence() -> Iterator[bytes]:
    """Nothing, for ever."""
    yield b""
    time.sleep(600)


def without_end(head: bytes, again: bytes) -> Iterator[bytes]:
    """`head`, then the same again and again."""
    yield head
    many = again * max(1, 65536 // len(again))
    while True:
        yield many


def bomb(head: bytes) -> Iterator[bytes]:
    """A body of 200 KB that unpacks to 200 MB."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    yield head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


POISONS: dict[str, Poison] = {
    "body": lambda: without_end(OK + b"Content-Length: 3000000000\r\n\r\n", b"x"),
    "body of a 401": lambda: without_end(ASKS + b"Content-Length: 3000000000\r\n\r\n", b"x"),
    "body of a 500": lambda: without_end(b"HTTP/1.1 500 \r\n\r\n", b"<"),
    "chunks": lambda: without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n"),
    "size of a chunk": lambda: without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "headers": lambda: without_end(OK, b"X: y\r\n"),
    "one header": lambda: without_end(OK + b"X: ", b"y"),
    "status line": lambda: without_end(b"HTTP/1.1 200 ", b"y"),
    "continue": lambda: without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "gzip": lambda: bomb(OK),
    "gzip of a 401": lambda: bomb(ASKS),
}
SLOW: dict[str, Poison] = {
    "silence": silence,
    "head": lambda: slowly(OK),
    "head of a 401": lambda: slowly(ASKS),
    "body": lambda: itertools.chain([OK + b"Content-Length: 9000\r\n\r\n"], slowly(b"x")),
    "chunk": lambda: itertools.chain([OK + b"Transfer-Encoding: chunked\r\n\r\n"], slowly(b"0")),
}
