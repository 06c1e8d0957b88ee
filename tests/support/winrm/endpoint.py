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
import os
import socket
import ssl
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from xml.sax.saxutils import escape

import spnego
import spnego.tls

from tests.support.winrm.http import Server, closed_by_client, server_tls
from tests.support.winrm.messages import (
    ACCESS_DENIED,
    BAD_COMMAND,
    INVALID_SHELL,
    OPERATION_TIMEOUT,
    PIPE_CLOSED,
    RSP,
    TOO_MANY_SHELLS,
    TRANSFER,
    WSMAN,
    WsmanFault,
    operation_seconds,
    selector,
    tag,
)
from tests.support.winrm.shells import (
    Handler,
    Hang,
    HostDied,
    Limits,
    Process,
    Shell,
    ShellFault,
    ShellOutput,
    answer,
    host_handler,
    process_of,
    split_input,
)

__all__ = [
    "ShellFault",
    "Handler",
    "Hang",
    "HostDied",
    "Limits",
    "ShellOutput",
    "WinrmEndpoint",
    "answer",
    "host_handler",
    "split_input",
]

#: The environment is one for all endpoints of a process.
_environment = threading.RLock()


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
        faults: Sequence[ShellFault] = (),
        program_ends: ShellOutput | None = None,
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
        self.shells: dict[str, Shell] = {}
        self.peak_connections = 0
        self.total_connections = 0
        self.largest_envelope = 0
        self.raw: list[bytes] = []
        self.lock = threading.RLock()
        self.dead = False
        #: As somebody in between could: end the log-on of CredSSP early with a 200, knowing no password.
        self.cuts_log_on = False
        self.tls = server_tls(certificate, client_authority) if certificate else None
        self._sockets: set[socket.socket] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="winrm-endpoint-")
        self._user_file = Path(self._folder.name) / "users"
        self._user_file.write_text("".join(f"{d}:{u}:{p}\n" for d, u, p in self.accounts))
        self._credssp_tls: spnego.tls.CredSSPTLSContext | None = None
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self._server = Server(self)
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
            alive = sum(not closed_by_client(item) for item in self._sockets)
            self.peak_connections = max(self.peak_connections, alive)

    def wrapped(self, plain: socket.socket, tls: ssl.SSLSocket) -> None:
        with self.lock:
            self._sockets.discard(plain)
            self._sockets.add(tls)

    def closed(self, connection: socket.socket) -> None:
        with self.lock:
            self._sockets.discard(connection)

    # authentication

    def context(self, method: str) -> spnego.ContextProxy:
        """A server's side of NTLM, Kerberos or CredSSP for one connection."""
        if method == "credssp":
            return spnego.server(protocol="credssp", credssp_tls_context=self._credssp_context())
        return spnego.server(hostname="localhost", service="HTTP", protocol=method)

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

    def fault_at(self, message: str) -> ShellFault | None:
        """Note the message; the fault planned for it, if there is one."""
        with self.lock:
            self.log.append(message)
            for item in self.faults:
                seen = len(self.log) if item.message == "*" else self.log.count(message)
                if item.message in ("*", message) and seen == item.nth:
                    return item
        return None

    def act(self, message: str, envelope: ET.Element, user: str) -> str:
        """The body of the answer to a message. Raises WsmanFault."""
        if user in self.without_right:
            raise WsmanFault(ACCESS_DENIED, "Access is denied. ")
        if message == "Create":
            return self.create(envelope, user)
        shell_id = selector(envelope)
        with self.lock:
            shell = self.shells.get(shell_id)
        if shell is None or shell.user != user:
            raise WsmanFault(
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
                return f'<rsp:SignalResponse xmlns:rsp="{RSP}"/>'
            case "Delete":
                with self.lock:
                    self.shells.pop(shell_id, None)
                return ""
        raise WsmanFault(2150858817, f"unknown action {message}")

    def create(self, envelope: ET.Element, user: str) -> str:
        shell_id = str(uuid.uuid4()).upper()
        options = {item.get("Name"): item.text or "" for item in envelope.iter() if tag(item) == "Option"}
        with self.lock:
            if sum(shell.user == user for shell in self.shells.values()) >= self.limits.shells_per_user:
                raise WsmanFault(
                    TOO_MANY_SHELLS,
                    "The WS-Management service cannot process the request. This user is allowed a maximum "
                    f"number of {self.limits.shells_per_user} concurrent shells, which has been exceeded. ",
                )
            self.shells[shell_id] = Shell(user, options.get("WINRS_CODEPAGE", "437"))
        return (
            f'<x:ResourceCreated xmlns:x="{TRANSFER}"><a:ReferenceParameters xmlns:w="{WSMAN}">'
            f'<w:SelectorSet><w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet>'
            "</a:ReferenceParameters></x:ResourceCreated>"
        )

    def command(self, envelope: ET.Element, shell: Shell) -> str:
        words = [item.text or "" for item in envelope.iter() if tag(item) in ("Command", "Arguments")]
        options = {item.get("Name"): item.text for item in envelope.iter() if tag(item) == "Option"}
        if options.get("WINRS_CONSOLEMODE_STDIN") != "FALSE" or shell.codepage != "65001":
            raise WsmanFault(BAD_COMMAND, "standard input is a console here, or not UTF-8")
        command_id = str(uuid.uuid4()).upper()
        shell.processes[command_id] = Process(self, " ".join(words))
        return (
            f'<rsp:CommandResponse xmlns:rsp="{RSP}"><rsp:CommandId>{command_id}</rsp:CommandId>'
            "</rsp:CommandResponse>"
        )

    def send(self, envelope: ET.Element, shell: Shell) -> str:
        stream = next(item for item in envelope.iter() if tag(item) == "Stream")
        data = base64.b64decode(stream.text or "", validate=True)
        process = process_of(shell, stream.get("CommandId"))
        if not process.send(data, stream.get("End") == "true"):
            raise WsmanFault(PIPE_CLOSED, "The pipe is being closed. ")
        return f'<rsp:SendResponse xmlns:rsp="{RSP}"/>'

    def receive(self, envelope: ET.Element, shell: Shell) -> str:
        stream = next(item for item in envelope.iter() if tag(item) == "DesiredStream")
        process = process_of(shell, stream.get("CommandId"))
        seconds = min(self.limits.operation_seconds, operation_seconds(envelope))
        output = process.receive(seconds, self.limits.output_piece)
        if output is None:
            raise WsmanFault(
                OPERATION_TIMEOUT,
                "The WS-Management service cannot complete the operation within the time specified in "
                "OperationTimeout. ",
            )
        out, err, exit_code = output
        identifier = escape(stream.get("CommandId") or "")
        parts = [f'<rsp:ReceiveResponse xmlns:rsp="{RSP}">']
        for name, data in (("stdout", out), ("stderr", err)):
            end = ' End="true"' if exit_code is not None else ""
            if data or end:
                text = base64.b64encode(data).decode()
                parts.append(f'<rsp:Stream Name="{name}" CommandId="{identifier}"{end}>{text}</rsp:Stream>')
        state = "Done" if exit_code is not None else "Running"
        code = f"<rsp:ExitCode>{exit_code}</rsp:ExitCode>" if exit_code is not None else ""
        parts.append(
            f'<rsp:CommandState CommandId="{identifier}" State="{RSP}/CommandState/{state}">{code}'
            "</rsp:CommandState></rsp:ReceiveResponse>"
        )
        return "".join(parts)

    def signal(self, envelope: ET.Element, shell: Shell) -> None:
        signal = next(item for item in envelope.iter() if tag(item) == "Signal")
        process = process_of(shell, signal.get("CommandId"))
        if process.exit_code is None:
            process.finish(ShellOutput(exit_code=1))
