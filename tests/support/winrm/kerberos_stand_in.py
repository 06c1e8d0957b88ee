"""Kerberos as pywinrm and the endpoint for tests see it, without a realm: tokens and keys are made up here.

For how messages travel over HTTP with Kerberos, not for Kerberos itself (kerberos_realm.py has that).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import spnego.exceptions

from tests.support.winrm.endpoint import WinrmEndpoint

_ASKS, _PROVES = b"kerberos asks", b"kerberos proves"


def _seal(key: bytes, text: bytes) -> tuple[bytes, bytes]:
    sealed = bytes(byte ^ 0x5A for byte in text)
    return sealed, hmac.new(key, sealed, hashlib.sha256).digest()[:16]


def _open(key: bytes, sealed: bytes, header: bytes) -> bytes:
    if not hmac.compare_digest(_seal(key, bytes(byte ^ 0x5A for byte in sealed))[1], header):
        raise ValueError("not sealed with this key")
    return bytes(byte ^ 0x5A for byte in sealed)


@dataclass
class _Host:
    """The host's side of one connection, as the endpoint uses spnego."""

    key: bytes
    complete: bool = False
    client_principal: str = "REALM\\admin"

    def step(self, token: bytes) -> bytes:
        if token != _ASKS:
            raise spnego.exceptions.InvalidTokenError
        self.complete = True
        return _PROVES

    def wrap_winrm(self, text: bytes) -> SimpleNamespace:
        sealed, header = _seal(self.key, text)
        return SimpleNamespace(header=header, data=sealed)

    def unwrap_winrm(self, header: bytes, sealed: bytes) -> bytes:
        return _open(self.key, sealed, header)


class KerberosEndpoint(WinrmEndpoint):
    """An endpoint that takes the tokens of `install`, if it has the same key."""

    key = b"the session's"

    def context(self, method: str) -> object:  # type: ignore[override]
        return _Host(self.key) if method == "kerberos" else super().context(method)


def install(patch: pytest.MonkeyPatch, key: bytes = KerberosEndpoint.key) -> None:
    """Let pywinrm find a Kerberos library; skips the test where there is a real one."""
    import winrm.transport

    if winrm.transport.HAVE_KERBEROS:
        pytest.skip("a Kerberos package is installed")
    library = ModuleType("kerberos")

    class GSSError(Exception):
        pass

    def step(state: dict[str, bool], token: str, **_: object) -> int:
        if token and base64.b64decode(token) != _PROVES:
            raise GSSError
        return 1 if token else 0

    vars(library).update(
        GSSError=GSSError,
        GSS_C_MUTUAL_FLAG=2,
        GSS_C_SEQUENCE_FLAG=8,
        authGSSClientInit=lambda *_, **__: (1, {}),
        authGSSClientStep=step,
        authGSSClientResponse=lambda _: base64.b64encode(_ASKS).decode(),
        authGSSWinRMEncryptMessage=lambda _, text: _seal(key, text),
        authGSSWinRMDecryptMessage=lambda _, sealed, header: _open(key, sealed, header),
    )
    patch.setitem(sys.modules, "kerberos", library)
    for name in ("kerberos_", "exceptions", "compat"):
        patch.delitem(sys.modules, f"winrm.vendor.requests_kerberos.{name}", raising=False)
    patch.delitem(sys.modules, "winrm.vendor.requests_kerberos", raising=False)
    found = importlib.import_module("winrm.vendor.requests_kerberos")
    patch.setattr(winrm.transport, "HAVE_KERBEROS", True)
    patch.setattr(winrm.transport, "HTTPKerberosAuth", found.HTTPKerberosAuth, raising=False)
    patch.setattr(winrm.transport, "REQUIRED", found.REQUIRED, raising=False)
