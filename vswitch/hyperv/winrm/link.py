"""One pywinrm Protocol for one run, made safe: what is trusted, what is sent, to whom, what is believed."""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import requests
from winrm.exceptions import WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol as WinrmProtocol

from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import Credentials
from vswitch.hyperv.winrm.guard import Guard, GuardedAdapter, GuardError
from vswitch.hyperv.winrm.sealed import Foreign, SoapTransport, check_answer, check_log_on, parse, unseal

__all__ = ["Link", "new_link", "offered_methods"]

_PROBE_SECONDS = 5.0

# These write authentication tokens into their debug output, and tracebacks for what becomes a sentence here.
for _name in ("spnego", "requests_credssp", "requests_ntlm", "requests_kerberos", "winrm"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Link(Protocol):
    """A Protocol of pywinrm under a guard, as far as it is used here. Times are whole seconds.

    A shell or command of None is one that was never opened: asking for it is refused by the host.
    """

    guard: Guard
    transport: SoapTransport
    operation_timeout_sec: int

    def open_shell(self, *, codepage: int) -> str:
        """Open a shell, and return its id."""

    def run_command(
        self, shell_id: str | None, command: str, arguments: Sequence[str], *, console_mode_stdin: bool
    ) -> str:
        """Start a program in a shell, and return the command's id."""

    def send_command_input(
        self, shell_id: str | None, command_id: str | None, stdin_input: bytes, *, end: bool
    ) -> None:
        """Send a piece of input; `end` closes it."""

    def get_command_output_raw(
        self, shell_id: str | None, command_id: str | None
    ) -> tuple[bytes, bytes, int, bool]:
        """What has come since: output, error output, exit status, and whether the program has ended."""

    def cleanup_command(self, shell_id: str | None, command_id: str | None) -> None:
        """End a command."""

    def close_shell(self, shell_id: str | None) -> None:
        """Close a shell, which ends whatever runs in it."""


def _trusted(connection: HostConnection) -> str | bool:
    """What `verify` of requests takes: authorities' file or folder, or False to verify nothing."""
    if not connection.verify_tls:
        return False
    if connection.ca_file:
        return connection.ca_file
    paths = ssl.get_default_verify_paths()
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or paths.cafile or paths.capath or True


def _mount(session: requests.Session, connection: HostConnection, guard: Guard, *, sealed: bool) -> None:
    adapter = GuardedAdapter(guard, sealed=sealed, verify=connection.verify_tls)
    session.mount("https://", adapter)
    session.mount("http://", adapter)


def new_link(connection: HostConnection, credentials: Credentials, guard: Guard) -> Link:
    """A Protocol of pywinrm that has sent nothing yet, under `guard`. For one thread and one run.

    Besides pywinrm's errors, what it does raises GuardError.
    """
    trusted = _trusted(connection)
    method = connection.authentication
    sealed = not connection.https
    password: str | bytes | None = credentials.password.reveal() if credentials.password else None
    if method is Authentication.BASIC and isinstance(password, str):
        password = password.encode()  # requests would take it for Latin-1
    protocol = WinrmProtocol(
        connection.url,
        transport=str(method),
        username=credentials.username,
        password=password,
        ca_trust_path=trusted if isinstance(trusted, str) else None,
        server_cert_validation="ignore" if trusted is False else "validate",
        cert_pem=connection.certificate,
        cert_key_pem=connection.certificate_key,
        kerberos_delegation=connection.kerberos_delegation,
        kerberos_hostname_override=connection.kerberos_hostname,
        message_encryption="always" if sealed else "auto",
        operation_timeout_sec=connection.operation_timeout,
        read_timeout_sec=connection.operation_timeout + 1,  # the guard has the last word
        # Without TLS there is no channel to bind to, and each answer is read before they look for one.
        send_cbt=not sealed,
        proxy=None,
    )
    transport = protocol.transport
    send, send_message = transport._send_message_request, transport.send_message

    def send_here(session: requests.Session, request: requests.PreparedRequest) -> requests.Response:
        if not isinstance(session.get_adapter(connection.url), GuardedAdapter):
            _mount(session, connection, guard, sealed=sealed)
        # Else requests would follow a redirect, with NTLM or CredSSP to whomever it names.
        session.max_redirects = 0
        answer: requests.Response = send(session, request)
        return answer

    def ask(message: str) -> bytes:
        if sealed:
            transport.build_session()
            check_log_on(transport)
        try:
            answer: bytes = send_message(message)
        except WinRMTransportError as error:
            try:
                parse(error.response_text)
            except Foreign:
                # No SOAP: pywinrm is not to read it either.
                raise WinRMTransportError("http", error.code, "") from None
            check_answer(message, error.response_text, fault=True)
            raise
        check_answer(message, answer)
        return answer

    transport._send_message_request = send_here
    transport.send_message = ask
    if sealed:
        # It is called once a message was sent; what comes in the log-on is empty or refused.
        transport._get_message_response_text = partial(unseal, transport)
    if method is Authentication.CERTIFICATE:
        # Else requests would send what a .netrc file says about the host, in place of the certificate.
        protocol.transport.build_session().trust_env = False
    protocol.guard = guard
    link: Link = protocol
    return link


def offered_methods(connection: HostConnection, error: Exception, seconds: float) -> tuple[str, ...] | None:
    """The authentication methods the host names, if the error was about that; asked without credentials.

    For words to the user only: without TLS anybody can have named them. Takes `seconds` at most.
    """
    if isinstance(error, requests.RequestException | WSManFaultError | GuardError):
        return None
    seconds = min(seconds, _PROBE_SECONDS)
    guard = Guard(connection.connect_timeout, seconds, time.monotonic() + seconds)
    try:
        with requests.Session() as session:
            session.trust_env = False
            _mount(session, connection, guard, sealed=False)
            answer = session.post(
                connection.url,
                timeout=(connection.connect_timeout, seconds),
                verify=_trusted(connection),
                allow_redirects=False,
            )
    except (OSError, ValueError, GuardError):
        return None
    named = answer.headers.get("WWW-Authenticate", "")
    methods = tuple(dict.fromkeys(part.split()[0] for part in named.split(",") if part.split()))
    return methods if answer.status_code == 401 and methods else None
