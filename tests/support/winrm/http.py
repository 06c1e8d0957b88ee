"""The HTTP side of the WinRM endpoint for tests: connections, authentication, message encryption."""

from __future__ import annotations

import base64
import contextlib
import re
import select
import socket
import ssl
import struct
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol

import spnego

from tests.support.winrm.messages import MESSAGES, WsmanFault, envelope_of, fault_body, text_of
from tests.support.winrm.shells import Limits, ShellFault


class ServedHost(Protocol):
    """The endpoint as its connections see it."""

    address: str
    methods: tuple[str, ...]
    limits: Limits
    tls: ssl.SSLContext | None
    dead: bool
    cuts_log_on: bool
    user_agents: set[str]
    largest_envelope: int
    raw: list[bytes]

    def opened(self, connection: socket.socket) -> None: ...
    def wrapped(self, plain: socket.socket, tls: ssl.SSLSocket) -> None: ...
    def closed(self, connection: socket.socket) -> None: ...
    def context(self, method: str) -> spnego.ContextProxy: ...
    def user_file(self) -> contextlib.AbstractContextManager[None]: ...
    def basic_user(self, token: str) -> str | None: ...
    def fault_at(self, message: str) -> ShellFault | None: ...
    def act(self, message: str, envelope: ET.Element, user: str) -> str: ...


def server_tls(certificate: tuple[Path, Path], client_authority: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _Break(Exception):
    """The connection is to be broken now."""


def closed_by_client(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP)
    except (OSError, ValueError):  # closed on this side
        return True
    return bool(poll.poll(0))


def pour(sink: BufferedIOBase, pieces: Iterator[bytes]) -> None:
    """Write pieces as they come, until there is no more or nobody takes them."""
    with contextlib.suppress(OSError, ValueError):
        for piece in pieces:
            sink.write(piece)
            sink.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, endpoint: ServedHost) -> None:
        self.endpoint = endpoint
        if ":" in endpoint.address:
            self.address_family = socket.AF_INET6
        super().__init__((endpoint.address, 0), EndpointConnection)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.endpoint.opened(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.endpoint.closed(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what these tests are about; nothing to print."""


class EndpointConnection(BaseHTTPRequestHandler):
    """One connection; authentication holds for it as a whole, as in Windows."""

    protocol_version = "HTTP/1.1"
    server: Server
    timeout = 60
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.endpoint = self.server.endpoint
        self.plain = self.request
        self.context: spnego.ContextProxy | None = None
        self.method = ""
        self.last_token: str | None = None
        self.user: str | None = None
        self.steps = 0
        if self.endpoint.dead:
            raise ConnectionAbortedError
        if self.endpoint.tls is not None:
            self.request.settimeout(self.timeout)
            self.request = self.endpoint.tls.wrap_socket(self.plain, server_side=True)
            self.endpoint.wrapped(self.plain, self.request)
        super().setup()

    def handle(self) -> None:
        with contextlib.suppress(_Break, OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.endpoint.closed(self.request)
        with contextlib.suppress(OSError):
            self.request.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.endpoint.dead:
            raise _Break
        self.endpoint.user_agents.add(self.headers.get("User-Agent", ""))
        if self.path != "/wsman":
            self.reply(404, b"")
        elif self.authenticate():
            self.serve(body)

    # authentication

    def authenticate(self) -> bool:
        """True if the message may be acted upon; otherwise an answer has been sent."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        offered = self.endpoint.methods
        match scheme.lower():
            case "basic" if "basic" in offered and self.endpoint.tls is not None:
                self.user = self.endpoint.basic_user(token)
                if self.user is not None:
                    return True
            case "negotiate":
                method = "ntlm" if base64.b64decode(token).startswith(b"NTLMSSP") else "kerberos"
                if method in offered:
                    return self.step(method, scheme, token)
            case "credssp" if "credssp" in offered:
                return self.step("credssp", scheme, token)
            case word if word.endswith("secprofile/https/mutual") and "certificate" in offered:
                peer = self.request.getpeercert() if self.endpoint.tls is not None else None
                if peer:
                    self.user = dict(pair[0] for pair in peer["subject"])["commonName"]
                    return True
            case "" if self.user is not None and self.context is not None:
                return True
        self.unauthorized()
        return False

    def step(self, method: str, scheme: str, token: str) -> bool:
        """One leg of NTLM, Kerberos or CredSSP."""
        if self.context is None or self.user is not None or self.method != method:
            self.method, self.user = method, None
            with self.endpoint.user_file():
                self.context = self.endpoint.context(method)
        if self.endpoint.cuts_log_on and self.steps == 2:
            self.context.unwrap(base64.b64decode(token))  # read, and left without an answer
            self.user = "admin"
            return True
        self.steps += 1
        try:
            with self.endpoint.user_file():
                out = self.context.step(base64.b64decode(token))
        except (spnego.exceptions.SpnegoError, ValueError):
            self.context = None
            self.unauthorized()
            return False
        if self.context.complete:
            if method == "kerberos" and out:  # the host proves who it is with its first answer
                self.last_token = f"{scheme} {base64.b64encode(out).decode()}"
            principal = self.context.client_principal or "\\"
            self.user = principal.rpartition("\\")[2]
            return True
        if out is None:
            self.context = None
        self.unauthorized(f"{scheme} {base64.b64encode(out or b'').decode()}" if out else None)
        return False

    def unauthorized(self, challenge: str | None = None) -> None:
        if challenge is None:
            self.user = None
        names = {
            "ntlm": ["Negotiate"],
            "kerberos": ["Negotiate", "Kerberos"],
            "credssp": ["CredSSP"],
            "basic": ['Basic realm="WSMAN"'],
        }
        offers = dict.fromkeys(name for method in self.endpoint.methods for name in names.get(method, []))
        self.reply(401, b"", [("WWW-Authenticate", item) for item in ([challenge] if challenge else offers)])

    # messages

    def serve(self, body: bytes) -> None:
        if not body:
            self.reply(200, b"")
            return
        encrypted = "encrypted" in self.headers.get("Content-Type", "")
        if self.endpoint.tls is None and not encrypted:
            self.reply(401, b"")
            return
        if encrypted:
            try:
                body = self.decrypt(body)
            except (spnego.exceptions.SpnegoError, ValueError, IndexError):
                self.close_connection = True
                self.reply(400, b"")
                return
        self.endpoint.largest_envelope = max(self.endpoint.largest_envelope, len(body))
        if len(body) > self.endpoint.limits.envelope:
            self.reply(413, b"")
            return
        self.endpoint.raw.append(body)
        envelope = ET.fromstring(body)
        message = MESSAGES.get(text_of(envelope, "Action"), "unknown")
        fault = self.endpoint.fault_at(message)
        kind = fault.kind if fault else ""
        if kind == "before":
            self.hang_up()
        if fault and kind == "delay":
            time.sleep(fault.seconds)
        if fault and kind == "status":
            self.reply(fault.code, b"")
            return
        if fault and kind == "raw":
            pour(self.wfile, fault.raw())
            self.hang_up()
        status, answer_body = 200, ""
        try:
            if fault and kind == "fault":
                raise WsmanFault(fault.code, fault.text)
            answer_body = self.endpoint.act(message, envelope, self.user or "")
        except WsmanFault as error:
            status, answer_body = error.status, fault_body(error)
        if kind == "after" or self.endpoint.dead:
            self.hang_up()
        text = envelope_of(envelope, message, answer_body)
        if fault and kind in ("change", "clear"):
            text = fault.change(text)
        if fault and kind == "clear":
            status, encrypted = fault.code, False
        tamper = fault.change if fault and kind == "tamper" else bytes
        self.answer(status, text, encrypted, half=kind == "half", tamper=tamper)
        if kind == "quiet":
            self.hang_up()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.request.shutdown(socket.SHUT_RDWR)
        raise _Break

    def answer(
        self,
        status: int,
        body: bytes,
        encrypted: bool,
        *,
        half: bool,
        tamper: Callable[[bytes], bytes] = bytes,
    ) -> None:
        kind = "application/soap+xml;charset=UTF-8"
        if encrypted:
            body, kind = self.encrypt(body)
            body = tamper(body)
        self.reply(status, body, [("Content-Type", kind)], half=half)

    def reply(
        self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = (), *, half: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.last_token is not None and status != 401:
            self.send_header("WWW-Authenticate", self.last_token)
            self.last_token = None
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.wfile.flush()
        if half:
            self.hang_up()

    # message encryption (MS-WSMV 2.2.9.1)

    def decrypt(self, body: bytes) -> bytes:
        if self.context is None or not (self.context.complete or self.endpoint.cuts_log_on):
            raise ValueError("not authenticated")
        parts = [part for part in body.split(b"--Encrypted Boundary") if part.strip(b"-\r\n")]
        result = b""
        for head, data in zip(parts[::2], parts[1::2], strict=True):
            length = int(re.search(rb"Length=(\d+)", head)[1])  # type: ignore[index]
            payload = data.split(b"application/octet-stream\r\n", 1)[1]
            size = struct.unpack("<i", payload[:4])[0]
            sealed = payload[4:]
            plain = (
                self.context.unwrap(sealed).data
                if self.method == "credssp"
                else self.context.unwrap_winrm(sealed[:size], sealed[size:])
            )
            if len(plain) != length:
                raise ValueError("wrong length")
            result += plain
        return result

    def encrypt(self, body: bytes) -> tuple[bytes, str]:
        assert self.context is not None
        name = "CredSSP" if self.method == "credssp" else "SPNEGO"
        protocol = f"application/HTTP-{name}-session-encrypted"
        size = 16384 if self.method == "credssp" else max(len(body), 1)
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        result = b""
        for piece in pieces:
            wrapped = self.context.wrap_winrm(piece)
            result += (
                b"--Encrypted Boundary\r\n"
                + f"\tContent-Type: {protocol}\r\n".encode()
                + b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n" % len(piece)
                + b"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
                + struct.pack("<i", len(wrapped.header))
                + wrapped.header
                + wrapped.data
            )
        result += b"--Encrypted Boundary--\r\n"
        kind = "x-multi-encrypted" if len(pieces) > 1 else "encrypted"
        return result, f'multipart/{kind};protocol="{protocol}";boundary="Encrypted Boundary"'
