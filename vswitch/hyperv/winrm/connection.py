"""How one Hyper-V host is reached: address, TLS, authentication, time limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from vswitch.errors import InputError

__all__ = ["Authentication", "HostConnection"]

_HTTP, _HTTPS = 5985, 5986
_SILENCE = 30.0
#: Seconds to wait for an answer beyond the time the host itself may take.
_MARGIN = 10


class Authentication(StrEnum):
    """The ways to log on to WinRM (hyper-v-facts §7)."""

    KERBEROS = "kerberos"
    NTLM = "ntlm"
    CREDSSP = "credssp"
    CERTIFICATE = "certificate"
    BASIC = "basic"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConnection:
    """How one host is reached. Holds no password.

    `name` is what users call the host, `address` its DNS name or IP address. `https` and `port` have
    defaults that follow from each other and from the authentication: Kerberos goes to 5985 with
    encrypted messages (the ticket proves who the host is), all others to 5986 over TLS. Without
    TLS, messages are always encrypted. Time limits are in seconds: `connect_timeout` for one
    connection (name, TCP and TLS), `silence_timeout` for the wait for the next bytes (None: 30, or
    more where `operation_timeout` needs it), `operation_timeout` for one WS-Man request at the host,
    `timeout` for a whole run.
    Raises InputError for what cannot be safe.
    """

    name: str
    address: str
    https: bool | None = None
    port: int = 0
    authentication: Authentication = Authentication.KERBEROS
    username: str | None = None
    password_variable: str | None = None
    certificate: str | None = None
    certificate_key: str | None = None
    ca_file: str | None = None
    verify_tls: bool = True
    kerberos_delegation: bool = False
    kerberos_hostname: str | None = None
    connect_timeout: float = 10.0
    operation_timeout: int = 20
    silence_timeout: float | None = None
    timeout: float = 300.0

    def __post_init__(self) -> None:
        method = self.authentication
        https = self.https
        if https is None:
            https = self.port != _HTTP and (self.port == _HTTPS or method is not Authentication.KERBEROS)
            object.__setattr__(self, "https", https)
        if not self.port:
            object.__setattr__(self, "port", _HTTPS if https else _HTTP)
        if not https and method in (Authentication.BASIC, Authentication.CERTIFICATE):
            why = "would send the password in clear" if method is Authentication.BASIC else "needs TLS"
            raise InputError(
                f"{self.name}: {method} authentication over HTTP {why}", hint="take out `https: Off`"
            )
        if method is Authentication.CERTIFICATE and not (self.certificate and self.certificate_key):
            raise InputError(
                f"{self.name}: certificate authentication needs `certificate` and `certificate_key`",
                hint="name two PEM files: the client certificate and its private key",
            )

    def check_files(self) -> None:
        """Raises InputError if a file that is named cannot be read."""
        for option in ("certificate", "certificate_key", "ca_file"):
            path = getattr(self, option)
            if path is not None and not os.access(path, os.R_OK):
                raise InputError(
                    f"{self.name}: the file {path}, named as `{option}`, cannot be read",
                    hint="check its name and its permissions",
                )

    @property
    def silence(self) -> float:
        """Seconds to wait for the next bytes from the host."""
        if self.silence_timeout is not None:
            return self.silence_timeout
        return max(_SILENCE, self.operation_timeout + _MARGIN)

    def operation(self, left: float) -> int:
        """Whole seconds that one WS-Man request may take at the host, where `left` are left of the run."""
        # The host is silent until then; the answer has to come before that is too long.
        return max(1, int(min(self.operation_timeout, self.silence * 2 / 3, left)))

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        address = self.address
        if ":" in address:
            address = f"[{address.replace('%', '%25')}]"
        return f"{'https' if self.https else 'http'}://{address}:{self.port}/wsman"
