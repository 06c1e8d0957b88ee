"""Short cuts for tests that run scripts against a WinrmEndpoint."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.winrm.endpoint import ShellOutput, WinrmEndpoint, answer, split_input
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import Credentials, Secret
from vswitch.hyperv.winrm.transport import PywinrmTransport, ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import WinrmError

EXPORT = ScriptRequest("export", {"of": "Büro Ω 'a'; Stop-VM *"})
#: Each authentication, with TLS and without.
METHODS = [
    ("ntlm", False),
    ("ntlm", True),
    ("credssp", False),
    ("credssp", True),
    ("certificate", True),
    ("basic", True),
]
PASSWORD = "S3cret-pass"
MODULE = b"function Invoke-VswitchOperation { }\n"


@dataclass
class Recorder:
    """A handler that says what it was asked, and counts how often."""

    reply_size: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    modules: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, stdin: bytes) -> ShellOutput:
        module, request = split_input(stdin)
        with self.lock:
            self.modules.append(module)
            self.requests.append(request)
        return answer({"schema": 1, "ok": True, "result": {"asked": request, "fill": "x" * self.reply_size}})


def transport_to(
    endpoint: WinrmEndpoint,
    *,
    method: str = "ntlm",
    name: str = "hv01",
    password: str = PASSWORD,
    username: str = "admin",
    client: tuple[Path, Path] | None = None,
    authority: Path | None = None,
    module: bytes = MODULE,
    **options: Any,
) -> PywinrmTransport:
    """A transport to an endpoint, with short time limits unless `options` says otherwise."""
    limits: dict[str, Any] = {"timeout": 20.0, "operation_timeout": 1, "connect_timeout": 5.0}
    connection = HostConnection(
        name=name,
        address=str(options.pop("address", endpoint.address)),
        port=int(options.pop("port", endpoint.port)),
        https=bool(options.pop("https", endpoint.tls is not None)),
        authentication=Authentication(method),
        username=username,
        certificate=str(client[0]) if client else None,
        certificate_key=str(client[1]) if client else None,
        ca_file=str(authority) if authority else None,
        **(limits | options),
    )
    return PywinrmTransport(
        connection,
        credentials=Credentials(username, Secret(password)),
        module=module,
        retry_delay=0.01,
    )


def refused(transport: PywinrmTransport, request: ScriptRequest = EXPORT) -> WinrmError:
    """The error of a run that must fail, checked for what every error has."""
    with pytest.raises(WinrmError) as caught:
        transport.run(request)
    assert str(caught.value).startswith("hv01: ")
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value
