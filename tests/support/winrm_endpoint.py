"""A WinRM endpoint on a real loopback socket, for tests: what a Windows host answers, without one.

It speaks HTTP/1.1 and WS-Management as the shell `windows/shell/cmd` does (Create, Command, Send,
Receive, Signal, Delete), authenticates as a Windows host would, enforces its limits, and can go
wrong at any message. Behind it stands a handler that turns standard input into standard output.

What it refuses: a command line above 8,191 characters (as cmd.exe does: on stderr, status 1), a
message above 150 KB (HTTP 413), more shells than the quota (fault 2150859173), messages without
encryption where it is required, Send after the end of input, shells and commands it does not know.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, Self
from xml.sax.saxutils import escape

import spnego
import spnego.tls

from vswitch.hyperv import framing

OPERATION_TIMEOUT = 2150858793
INVALID_SHELL = 2150858843
TOO_MANY_SHELLS = 2150859173
ACCESS_DENIED = 5
PIPE_CLOSED = 232
BAD_COMMAND = 2150859079

Handler = Callable[[bytes], "bytes | Output"]


class HostDied(Exception):
    """Raised by a handler: the host goes down with this operation."""


class Hang(Exception):
    """Raised by a handler: the script never answers."""


@dataclass(frozen=True)
class Output:
    """What a process leaves behind."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


@dataclass(frozen=True)
class Limits:
    """The limits of a Windows host (hyperv-semantics §7)."""

    command_line: int = 8191
    envelope: int = 150 * 1024
    shells_per_user: int = 30
    operation_seconds: float = 60.0
    output_piece: int = 32 * 1024


@dataclass
class Fault:
    """Something goes wrong at the `nth` message (from 1) of one kind, or of any kind ("*").

    kind      what happens
    before    the connection breaks before the message is acted upon
    after     the connection breaks after that, before the answer
    quiet     the answer is sent, then the connection breaks
    half      half of the answer is sent, then the connection breaks
    delay     `seconds` pass before the message is acted upon
    status    HTTP status `code` in place of an answer
    fault     WS-Man fault `code` in place of an answer
    """

    message: str
    kind: str
    nth: int = 1
    code: int = 0
    seconds: float = 0.0
    text: str = "injected"


class _Executes(Protocol):
    def execute(self, module_text: str, request: dict[str, Any]) -> dict[str, Any]: ...


def host_handler(host: _Executes) -> Handler:
    """A handler that gives each request to a modelled Hyper-V host."""

    def handle(stdin: bytes) -> Output:
        module, request = split_input(stdin)
        document = host.execute(module.decode(), request)
        return answer(document)

    return handle


def split_input(stdin: bytes) -> tuple[bytes, dict[str, Any]]:
    """Module text and input document in what the bootstrap reads."""
    line, _, rest = stdin.partition(b"\n")
    header = json.loads(line)
    script, text = rest[: header["scriptBytes"]], rest[header["scriptBytes"] :]
    return script, json.loads(text[: header["inputBytes"]])


def answer(document: dict[str, Any]) -> Output:
    """What the bootstrap writes for a document."""
    text = json.dumps(document, ensure_ascii=False).encode()
    return Output(b'{"documentBytes":%d}\n' % len(text) + text, framing.STARTED + b"\r\n")


# --- shells and their processes ------------------------------------------------------------------


class _Process:
    """A command in a shell: collects input, runs the handler when it is complete, keeps output."""

    def __init__(self, endpoint: WinrmEndpoint, command_line: str) -> None:
        self.endpoint = endpoint
        self.input = b""
        self.input_ended = False
        self.started = False
        self.stdout = b""
        self.stderr = b""
        self.exit_code: int | None = None
        self.changed = threading.Condition()
        if len(command_line) > endpoint.limits.command_line:
            self.finish(Output(stderr=b"The command line is too long.\r\n", exit_code=1))
        elif endpoint.program_ends is not None:
            self.finish(endpoint.program_ends)

    def send(self, data: bytes, end: bool) -> bool:
        """Take input; False if nothing reads it any more."""
        with self.changed:
            if self.exit_code is not None or self.input_ended:
                return False
            self.input += data
            self.input_ended = end
            if not self.started and _is_whole(self.input):
                self.started = True
                threading.Thread(target=self.work, daemon=True).start()
            elif end and not self.started:
                self.finish(Output(stderr=b"the input ended early", exit_code=1))
            return True

    def work(self) -> None:
        try:
            result = self.endpoint.handler(self.input)
        except HostDied:
            self.endpoint.die()
        except Hang:
            pass
        except Exception as error:  # a defect in the model must not look like a silent host
            self.endpoint.defects.append(error)
            self.finish(Output(stderr=repr(error).encode(), exit_code=1))
        else:
            self.finish(result if isinstance(result, Output) else Output(result))

    def finish(self, output: Output) -> None:
        with self.changed:
            self.stdout += output.stdout
            self.stderr += output.stderr
            self.exit_code = output.exit_code
            self.changed.notify_all()

    def receive(self, seconds: float, size: int) -> tuple[bytes, bytes, int | None] | None:
        """The next piece of output and, with the last one, the exit code; None if there is nothing yet."""
        with self.changed:
            ready = self.changed.wait_for(
                lambda: self.stdout or self.stderr or self.exit_code is not None, timeout=seconds
            )
            if not ready:
                return None
            out, self.stdout = self.stdout[:size], self.stdout[size:]
            err, self.stderr = self.stderr[:size], self.stderr[size:]
            return out, err, None if self.stdout or self.stderr else self.exit_code


def _is_whole(stdin: bytes) -> bool:
    line, found, rest = stdin.partition(b"\n")
    if not found:
        return False
    header = json.loads(line)
    return len(rest) >= int(header["scriptBytes"]) + int(header["inputBytes"])


@dataclass
class _Shell:
    user: str
    codepage: str
    processes: dict[str, _Process] = field(default_factory=dict)


class _WsmanFault(Exception):
    def __init__(self, code: int, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


class _Break(Exception):
    """The connection is to be broken now."""


# --- the endpoint --------------------------------------------------------------------------------


class WinrmEndpoint:
    """A context manager: the endpoint listens while it is entered.

    `accounts` are (domain, user, password); `methods` are what it offers, of "basic", "ntlm",
    "credssp", "certificate", "kerberos". With `certificate` (certificate and key file) it speaks
    HTTPS; clients' certificates must be issued by `client_authority`. Without TLS, messages must be
    encrypted (as AllowUnencrypted = false). `without_right` are users who may log on but not use WinRM.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        methods: Sequence[str] = ("ntlm",),
        accounts: Sequence[tuple[str, str, str]] = (("", "admin", "S3cret-pass"),),
        certificate: tuple[Path, Path] | None = None,
        client_authority: Path | None = None,
        limits: Limits | None = None,
        without_right: Sequence[str] = (),
        faults: Sequence[Fault] = (),
        program_ends: Output | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.handler = handler
        self.methods = tuple(methods)
        self.accounts = tuple(accounts)
        self.limits = limits or Limits()
        self.without_right = tuple(without_right)
        self.faults = list(faults)
        self.program_ends = program_ends
        self.address = address
        self.defects: list[Exception] = []
        self.log: list[str] = []
        self.user_agents: set[str] = set()
        self.shells: dict[str, _Shell] = {}
        self.peak_connections = 0
        self.total_connections = 0
        self.largest_envelope = 0
        self.raw: list[bytes] = []
        self.lock = threading.RLock()
        self.dead = False
        self.tls = _server_tls(certificate, client_authority) if certificate else None
        self._sockets: set[socket.socket] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="winrm-endpoint-")
        self._user_file = Path(self._folder.name) / "users"
        self._user_file.write_text("".join(f"{d}:{u}:{p}\n" for d, u, p in self.accounts))
        self._credssp_tls: spnego.tls.CredSSPTLSContext | None = None
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._break_all()
        self._folder.cleanup()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    def count(self, message: str) -> int:
        """How many messages of this kind have arrived."""
        return self.log.count(message)

    def die(self) -> None:
        """Break all connections, forget all shells, refuse everything until `revive`."""
        with self.lock:
            self.dead = True
            self.shells.clear()
        self._break_all()

    def revive(self) -> None:
        """Answer again, as after a restart."""
        with self.lock:
            self.dead = False

    def _break_all(self) -> None:
        with self.lock:
            open_sockets = list(self._sockets)
        for item in open_sockets:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)

    # connections, called by the server's threads

    def opened(self, connection: socket.socket) -> None:
        with self.lock:
            self._sockets.add(connection)
            self.total_connections += 1
            # A connection that its client has closed may still have a thread here.
            alive = sum(not _closed_by_client(item) for item in self._sockets)
            self.peak_connections = max(self.peak_connections, alive)

    def closed(self, connection: socket.socket) -> None:
        with self.lock:
            self._sockets.discard(connection)

    # authentication

    def context(self, method: str) -> spnego.ContextProxy:
        """A server's side of NTLM, Kerberos or CredSSP for one connection."""
        if method == "credssp":
            return spnego.server(protocol="credssp", credssp_tls_context=self._credssp_context())
        return spnego.server(protocol=method)

    def _credssp_context(self) -> spnego.tls.CredSSPTLSContext:
        with self.lock:
            if self._credssp_tls is None:
                certificate, key, public = spnego.tls.generate_tls_certificate()
                tls = spnego.tls.default_tls_context(usage="accept")
                tls.context.maximum_version = ssl.TLSVersion.TLSv1_2
                tls.public_key = public
                file = Path(self._folder.name) / "credssp.pem"
                file.write_bytes(certificate + key)
                tls.context.load_cert_chain(file)
                self._credssp_tls = tls
            return self._credssp_tls

    @contextlib.contextmanager
    def user_file(self) -> Iterator[None]:
        """pyspnego finds the accounts through the environment, which all endpoints share."""
        with _environment:
            before = os.environ.get("NTLM_USER_FILE")
            os.environ["NTLM_USER_FILE"] = str(self._user_file)
            try:
                yield
            finally:
                if before is None:
                    del os.environ["NTLM_USER_FILE"]
                else:
                    os.environ["NTLM_USER_FILE"] = before

    def basic_user(self, token: str) -> str | None:
        name, _, password = base64.b64decode(token).decode().partition(":")
        for domain, user, right in self.accounts:
            spellings = {user.lower(), f"{domain}\\{user}".lower(), f".\\{user}".lower()}
            if name.lower() in spellings and password == right:
                return user
        return None

    # messages

    def fault_at(self, message: str) -> Fault | None:
        """Note the message; the fault planned for it, if there is one."""
        with self.lock:
            self.log.append(message)
            for item in self.faults:
                seen = len(self.log) if item.message == "*" else self.log.count(message)
                if item.message in ("*", message) and seen == item.nth:
                    return item
        return None

    def act(self, message: str, envelope: ET.Element, user: str) -> str:
        """The body of the answer to a message. Raises _WsmanFault."""
        if user in self.without_right:
            raise _WsmanFault(ACCESS_DENIED, "Access is denied. ")
        if message == "Create":
            return self.create(envelope, user)
        shell_id = _selector(envelope)
        with self.lock:
            shell = self.shells.get(shell_id)
        if shell is None or shell.user != user:
            raise _WsmanFault(
                INVALID_SHELL,
                "The WS-Management service cannot process the request because the request contained "
                "invalid selectors for the resource. ",
            )
        match message:
            case "Command":
                return self.command(envelope, shell)
            case "Send":
                return self.send(envelope, shell)
            case "Receive":
                return self.receive(envelope, shell)
            case "Signal":
                self.signal(envelope, shell)
                return f'<rsp:SignalResponse xmlns:rsp="{_RSP}"/>'
            case "Delete":
                with self.lock:
                    self.shells.pop(shell_id, None)
                return ""
        raise _WsmanFault(2150858817, f"unknown action {message}")

    def create(self, envelope: ET.Element, user: str) -> str:
        shell_id = str(uuid.uuid4()).upper()
        options = {item.get("Name"): item.text or "" for item in envelope.iter() if _tag(item) == "Option"}
        with self.lock:
            if sum(shell.user == user for shell in self.shells.values()) >= self.limits.shells_per_user:
                raise _WsmanFault(
                    TOO_MANY_SHELLS,
                    "The WS-Management service cannot process the request. This user is allowed a maximum "
                    f"number of {self.limits.shells_per_user} concurrent shells, which has been exceeded. ",
                )
            self.shells[shell_id] = _Shell(user, options.get("WINRS_CODEPAGE", "437"))
        return (
            f'<x:ResourceCreated xmlns:x="{_TRANSFER}"><a:ReferenceParameters xmlns:w="{_WSMAN}">'
            f'<w:SelectorSet><w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet>'
            "</a:ReferenceParameters></x:ResourceCreated>"
        )

    def command(self, envelope: ET.Element, shell: _Shell) -> str:
        words = [item.text or "" for item in envelope.iter() if _tag(item) in ("Command", "Arguments")]
        options = {item.get("Name"): item.text for item in envelope.iter() if _tag(item) == "Option"}
        if options.get("WINRS_CONSOLEMODE_STDIN") != "FALSE" or shell.codepage != "65001":
            raise _WsmanFault(BAD_COMMAND, "standard input is a console here, or not UTF-8")
        command_id = str(uuid.uuid4()).upper()
        shell.processes[command_id] = _Process(self, " ".join(words))
        return (
            f'<rsp:CommandResponse xmlns:rsp="{_RSP}"><rsp:CommandId>{command_id}</rsp:CommandId>'
            "</rsp:CommandResponse>"
        )

    def send(self, envelope: ET.Element, shell: _Shell) -> str:
        stream = next(item for item in envelope.iter() if _tag(item) == "Stream")
        data = base64.b64decode(stream.text or "", validate=True)
        process = _process(shell, stream.get("CommandId"))
        if not process.send(data, stream.get("End") == "true"):
            raise _WsmanFault(PIPE_CLOSED, "The pipe is being closed. ")
        return f'<rsp:SendResponse xmlns:rsp="{_RSP}"/>'

    def receive(self, envelope: ET.Element, shell: _Shell) -> str:
        stream = next(item for item in envelope.iter() if _tag(item) == "DesiredStream")
        process = _process(shell, stream.get("CommandId"))
        seconds = min(self.limits.operation_seconds, _operation_seconds(envelope))
        output = process.receive(seconds, self.limits.output_piece)
        if output is None:
            raise _WsmanFault(
                OPERATION_TIMEOUT,
                "The WS-Management service cannot complete the operation within the time specified in "
                "OperationTimeout. ",
            )
        out, err, exit_code = output
        identifier = escape(stream.get("CommandId") or "")
        parts = [f'<rsp:ReceiveResponse xmlns:rsp="{_RSP}">']
        for name, data in (("stdout", out), ("stderr", err)):
            end = ' End="true"' if exit_code is not None else ""
            if data or end:
                text = base64.b64encode(data).decode()
                parts.append(f'<rsp:Stream Name="{name}" CommandId="{identifier}"{end}>{text}</rsp:Stream>')
        state = "Done" if exit_code is not None else "Running"
        code = f"<rsp:ExitCode>{exit_code}</rsp:ExitCode>" if exit_code is not None else ""
        parts.append(
            f'<rsp:CommandState CommandId="{identifier}" State="{_RSP}/CommandState/{state}">{code}'
            "</rsp:CommandState></rsp:ReceiveResponse>"
        )
        return "".join(parts)

    def signal(self, envelope: ET.Element, shell: _Shell) -> None:
        signal = next(item for item in envelope.iter() if _tag(item) == "Signal")
        process = _process(shell, signal.get("CommandId"))
        if process.exit_code is None:
            process.finish(Output(exit_code=1))


def _closed_by_client(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


_environment = threading.RLock()

_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
_FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
_RSP = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
_MESSAGES = {
    f"{_TRANSFER}/Create": "Create",
    f"{_TRANSFER}/Delete": "Delete",
    **{f"{_RSP}/{name}": name for name in ("Command", "Send", "Receive", "Signal")},
}


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(envelope: ET.Element, tag: str) -> str:
    return next((item.text or "" for item in envelope.iter() if _tag(item) == tag), "")


def _selector(envelope: ET.Element) -> str:
    return next((i.text or "" for i in envelope.iter() if i.get("Name") == "ShellId"), "")


def _process(shell: _Shell, command_id: str | None) -> _Process:
    process = shell.processes.get(command_id or "")
    if process is None:
        raise _WsmanFault(INVALID_SHELL, "there is no such command")
    return process


def _operation_seconds(envelope: ET.Element) -> float:
    found = re.fullmatch(r"PT([\d.]+)S", _text(envelope, "OperationTimeout"))
    return float(found[1]) if found else 60.0


def _server_tls(certificate: tuple[Path, Path], client_authority: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


# --- HTTP ----------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, endpoint: WinrmEndpoint) -> None:
        self.endpoint = endpoint
        if ":" in endpoint.address:
            self.address_family = socket.AF_INET6
        super().__init__((endpoint.address, 0), _Connection)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.endpoint.opened(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.endpoint.closed(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what these tests are about; nothing to print."""


class _Connection(BaseHTTPRequestHandler):
    """One connection; authentication holds for it as a whole, as in Windows."""

    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.endpoint = self.server.endpoint
        self.plain = self.request
        self.context: spnego.ContextProxy | None = None
        self.method = ""
        self.user: str | None = None
        if self.endpoint.dead:
            raise ConnectionAbortedError
        if self.endpoint.tls is not None:
            self.request.settimeout(self.timeout)
            self.request = self.endpoint.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        with contextlib.suppress(_Break, OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

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
            case "negotiate" | "ntlm" | "kerberos" if {"ntlm", "kerberos"} & set(offered):
                return self.step("kerberos" if scheme.lower() == "kerberos" else "ntlm", scheme, token)
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
        try:
            with self.endpoint.user_file():
                out = self.context.step(base64.b64decode(token))
        except (spnego.exceptions.SpnegoError, ValueError):
            self.context = None
            self.unauthorized()
            return False
        if self.context.complete:
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
            "ntlm": "Negotiate",
            "kerberos": "Kerberos",
            "credssp": "CredSSP",
            "basic": 'Basic realm="WSMAN"',
        }
        offers = [names[method] for method in self.endpoint.methods if method in names]
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
        message = _MESSAGES.get(_text(envelope, "Action"), "unknown")
        fault = self.endpoint.fault_at(message)
        kind = fault.kind if fault else ""
        if kind == "before":
            self.hang_up()
        if fault and kind == "delay":
            time.sleep(fault.seconds)
        if fault and kind == "status":
            self.reply(fault.code, b"")
            return
        status, answer_body = 200, ""
        try:
            if fault and kind == "fault":
                raise _WsmanFault(fault.code, fault.text)
            answer_body = self.endpoint.act(message, envelope, self.user or "")
        except _WsmanFault as error:
            status, answer_body = error.status, _fault_body(error)
        if kind == "after" or self.endpoint.dead:
            self.hang_up()
        self.answer(status, _envelope(envelope, message, answer_body), encrypted, half=kind == "half")
        if kind == "quiet":
            self.hang_up()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.plain.shutdown(socket.SHUT_RDWR)
        raise _Break

    def answer(self, status: int, body: bytes, encrypted: bool, *, half: bool) -> None:
        kind = "application/soap+xml;charset=UTF-8"
        if encrypted:
            body, kind = self.encrypt(body)
        self.reply(status, body, [("Content-Type", kind)], half=half)

    def reply(
        self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = (), *, half: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.wfile.flush()
        if half:
            self.hang_up()

    # message encryption (MS-WSMV 2.2.9.1)

    def decrypt(self, body: bytes) -> bytes:
        if self.context is None or not self.context.complete:
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


def _envelope(request: ET.Element, message: str, body: str) -> bytes:
    return (
        f'<s:Envelope xmlns:s="{_SOAP}" xmlns:a="{_ADDRESSING}"><s:Header>'
        f"<a:Action>{message}Response</a:Action><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
        f"<a:RelatesTo>{escape(_text(request, 'MessageID'))}</a:RelatesTo>"
        f"</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def _fault_body(error: _WsmanFault) -> str:
    text = escape(error.text)
    return (
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:InternalError</s:Value>"
        f'</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="{_FAULT}" Code="{error.code}" Machine="endpoint"><f:Message>{text}'
        "</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
