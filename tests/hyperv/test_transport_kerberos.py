"""Kerberos against a real KDC, wherever one is installed (krb5-kdc, and the Python packages it names)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.winrm import kerberos_realm
from tests.support.winrm.certificates import Authority
from tests.support.winrm.endpoint import ShellFault, WinrmEndpoint
from tests.support.winrm.runs import EXPORT, Recorder, refused, transport_to
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause

pytestmark = pytest.mark.skipif(
    bool(kerberos_realm.missing()), reason=f"not installed: {', '.join(kerberos_realm.missing())}"
)


@pytest.fixture(scope="module")
def in_realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    with (
        kerberos_realm.realm(tmp_path_factory.mktemp("realm")) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield patch


@pytest.mark.usefixtures("in_realm")
@pytest.mark.parametrize("tls", [False, True])
def test_kerberos(tls: bool, authority: Authority) -> None:
    certificate = authority.issue("localhost") if tls else None
    recorder = Recorder(reply_size=200_000)
    with WinrmEndpoint(recorder, methods=["kerberos"], certificate=certificate) as endpoint:
        transport = transport_to(
            endpoint,
            method="kerberos",
            address="localhost",
            username=kerberos_realm.USER,
            authority=authority.file,
            module=b"#" * 200_000,
        )
        assert transport.run(EXPORT)["ok"]
        assert not endpoint.shells
    assert recorder.requests[0]["arguments"] == EXPORT.arguments


@pytest.mark.usefixtures("in_realm")
@pytest.mark.parametrize("kind", ["before", "after", "quiet", "half"])
def test_kerberos_and_a_break(kind: str) -> None:
    recorder = Recorder()
    with WinrmEndpoint(recorder, methods=["kerberos"], faults=[ShellFault("Send", kind)]) as endpoint:
        transport = transport_to(
            endpoint, method="kerberos", address="localhost", username=kerberos_realm.USER
        )
        assert transport.run(ScriptRequest("apply"))["ok"]
    assert len(recorder.requests) == 1


def test_without_a_ticket(in_realm: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with in_realm.context() as patch, WinrmEndpoint(Recorder(), methods=["kerberos"]) as endpoint:
        patch.setenv("KRB5CCNAME", "FILE:/nonexistent/tickets")
        error = refused(
            transport_to(endpoint, method="kerberos", address="localhost", username=kerberos_realm.USER)
        )
    assert error.cause is HostCause.CREDENTIALS
    assert "kinit" in error.hint
    assert not any(capfd.readouterr())
