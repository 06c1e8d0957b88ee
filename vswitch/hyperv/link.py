"""One pywinrm Protocol for one run, made safe: what is trusted, what is sent, to whom."""

from __future__ import annotations

import logging
import os
import ssl
from typing import Any

import requests
from winrm.exceptions import WSManFaultError
from winrm.protocol import Protocol as WinrmProtocol

from vswitch.hyperv.connection import Authentication, Connection
from vswitch.hyperv.credentials import Credentials

__all__ = ["RECEIVE_MARGIN", "new_link", "offered_methods"]

#: Seconds to wait for an answer beyond the time the host itself may take.
RECEIVE_MARGIN = 10

_PROBE_SECONDS = 5.0

# These write authentication tokens into their debug output, and tracebacks for what becomes a sentence here.
for _name in ("spnego", "requests_credssp", "requests_ntlm", "requests_kerberos", "winrm"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def _trusted(connection: Connection) -> str | bool:
    """What `verify` of requests takes: authorities' file or folder, or False to verify nothing."""
    if not connection.verify_tls:
        return False
    if connection.ca_file:
        return connection.ca_file
    paths = ssl.get_default_verify_paths()
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or paths.cafile or paths.capath or True


def new_link(connection: Connection, credentials: Credentials) -> Any:
    """A Protocol of pywinrm that has sent nothing yet. For one thread and one run."""
    trusted = _trusted(connection)
    method = connection.authentication
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
        message_encryption="auto" if connection.https else "always",
        operation_timeout_sec=connection.operation_timeout,
        read_timeout_sec=connection.operation_timeout + RECEIVE_MARGIN,
        proxy=None,
    )
    transport = protocol.transport
    send = transport._send_message_request

    def send_here(session: requests.Session, request: requests.PreparedRequest) -> Any:
        # Else requests would follow a redirect, with NTLM or CredSSP to whomever it names, without TLS too.
        session.max_redirects = 0
        return send(session, request)

    transport._send_message_request = send_here
    if method is Authentication.CERTIFICATE:
        # Else requests would send what a .netrc file says about the host, in place of the certificate.
        protocol.transport.build_session().trust_env = False
    return protocol


def offered_methods(connection: Connection, error: Exception) -> tuple[str, ...] | None:
    """The authentication methods the host names, if the error was about that; asked without credentials."""
    if isinstance(error, requests.RequestException | WSManFaultError):
        return None
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                connection.url,
                timeout=(connection.connect_timeout, _PROBE_SECONDS),
                verify=_trusted(connection),
                allow_redirects=False,
            )
    except (OSError, ValueError):
        return None
    named = answer.headers.get("WWW-Authenticate", "")
    methods = tuple(dict.fromkeys(part.split()[0] for part in named.split(",") if part.split()))
    return methods if answer.status_code == 401 and methods else None
