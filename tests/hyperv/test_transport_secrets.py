"""No password shows anywhere: not in errors, tracebacks, logs or on the screen."""

from __future__ import annotations

import base64
import io
import logging
import pickle
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from rich.console import Console
from rich.traceback import Traceback

from tests.support.winrm.certificates import Authority
from tests.support.winrm.endpoint import ShellFault, WinrmEndpoint
from tests.support.winrm.runs import EXPORT, METHODS, MODULE, PASSWORD, Recorder, transport_to
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import CredentialFinder, Credentials
from vswitch.hyperv.winrm.transport import PywinrmTransport, ScriptRequest, find_credentials
from vswitch.hyperv.winrm.winrm_errors import WinrmError


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


SCENES = {
    "success": ([], PASSWORD),
    "wrong password": ([], "Wr0ng-pass"),
    "broken": ([ShellFault("Send", "before")], PASSWORD),
    "lost": ([ShellFault("Receive", "after")], PASSWORD),
    "fault": ([ShellFault("Create", "fault", code=1, text=f"never say {PASSWORD}")], PASSWORD),
    "status": ([ShellFault("Command", "status", code=500)], PASSWORD),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("method", "tls"), METHODS)
def test_no_secret_is_shown(
    method: str,
    tls: bool,
    scene: str,
    logged: io.StringIO,
    authority: Authority,
    server: tuple[Path, Path],
    client: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    faults, password = SCENES[scene]
    shown = [""]
    with WinrmEndpoint(
        Recorder(),
        methods=[method],
        certificate=server if tls else None,
        client_authority=authority.file,
        faults=faults,
    ) as endpoint:
        transport = transport_to(
            endpoint, method=method, password=password, client=client, authority=authority.file
        )
        error: WinrmError | None = None
        try:
            transport.run(ScriptRequest("apply"))
        except WinrmError as raised:
            error = raised
        if error is not None:
            assert error.__context__ is None
            assert error.__cause__ is None
            page = io.StringIO()
            Console(file=page, width=200).print(
                Traceback.from_exception(
                    type(error), error, _below(error), show_locals=True, locals_max_string=10**6
                )
            )
            shown += [page.getvalue(), str(error), repr(error), repr(error.as_dict()), *_all_locals(error)]
        shown += [repr(transport), repr(transport.connection), repr(vars(transport))]
    text = "\n".join([*shown, logged.getvalue(), *capfd.readouterr()])
    for secret in (password, *_spellings(password)):
        assert secret not in text
    assert "NTLMSSP" not in text
    assert "TlRMTVNTUA" not in text  # the same in base64
    assert not re.search(r"Authorization", text)


def _spellings(password: str) -> list[str]:
    return [
        base64.b64encode(password.encode()).decode(),
        base64.b64encode(f"admin:{password}".encode()).decode(),
        password.encode("utf-16-le").hex(),
    ]


def _all_locals(error: BaseException) -> list[str]:
    """The local variables of all frames of the program, as a careless traceback would print them."""
    frames = [frame for frame, _ in traceback.walk_tb(_below(error))]
    assert all("site-packages" not in frame.f_code.co_filename for frame in frames)
    return [repr(frame.f_locals) for frame in frames]


def _below(error: BaseException) -> TracebackType | None:
    """The traceback without the test's own frame, which holds the password."""
    assert error.__traceback__ is not None
    return error.__traceback__.tb_next


def test_credentials_come_from_the_finder_at_the_first_run() -> None:
    asked: list[str] = []

    def prompt(text: str) -> str:
        asked.append(text)
        return PASSWORD

    finder = CredentialFinder(environment={}, keyring=None, prompt=prompt)
    with WinrmEndpoint(Recorder()) as endpoint:
        connection = transport_to(endpoint).connection
        transport = PywinrmTransport(connection, finder=finder, module=MODULE)
        transport.run(EXPORT)
        PywinrmTransport(connection, finder=finder, module=MODULE).run(EXPORT)
    assert asked == ["Password of admin on hv01: "]


def test_no_password_is_asked_for_where_none_is_needed() -> None:
    finder = CredentialFinder(environment={}, keyring=None, prompt=lambda _: pytest.fail("asked"))
    kerberos = HostConnection(name="h", address="h")
    certificate = HostConnection(
        name="h",
        address="h",
        authentication=Authentication.CERTIFICATE,
        certificate="a.pem",
        certificate_key="a.key",
    )
    assert find_credentials(kerberos, finder) == Credentials()
    assert find_credentials(certificate, finder) == Credentials()


def test_secrets_cannot_be_stored() -> None:
    with WinrmEndpoint(Recorder()) as endpoint:
        transport = transport_to(endpoint)
    with pytest.raises(TypeError, match="not stored"):
        pickle.dumps(transport)
