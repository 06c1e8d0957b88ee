"""The default, Kerberos over HTTP: what is sealed is believed, what is not is refused."""

from __future__ import annotations

import pytest

from tests.support.winrm import kerberos_stand_in
from tests.support.winrm.endpoint import ShellFault
from tests.support.winrm.hostile import OK, Hostile
from tests.support.winrm.kerberos_stand_in import KerberosEndpoint
from tests.support.winrm.runs import EXPORT, Recorder, refused, transport_to
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause


@pytest.fixture(autouse=True)
def _kerberos(monkeypatch: pytest.MonkeyPatch) -> None:
    kerberos_stand_in.install(monkeypatch)


def test_a_run() -> None:
    recorder = Recorder(reply_size=100_000)
    with KerberosEndpoint(recorder, methods=["kerberos"]) as endpoint:
        assert transport_to(endpoint, method="kerberos", module=b"#" * 200_000).run(EXPORT)["ok"]
        assert not endpoint.shells
    assert recorder.requests[0]["arguments"] == EXPORT.arguments


@pytest.mark.parametrize("kind", ["before", "after", "quiet", "half"])
def test_a_break(kind: str) -> None:
    recorder = Recorder()
    with KerberosEndpoint(recorder, methods=["kerberos"], faults=[ShellFault("Send", kind)]) as endpoint:
        assert transport_to(endpoint, method="kerberos").run(ScriptRequest("apply"))["ok"]
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("message", ["Create", "Command", "Send", "Receive"])
@pytest.mark.parametrize("code", [200, 500])
def test_an_answer_in_the_clear_is_not_believed(message: str, code: int) -> None:
    faults = [ShellFault(message, "clear", code=code)]
    with KerberosEndpoint(Recorder(), methods=["kerberos"], faults=faults) as endpoint:
        error = refused(transport_to(endpoint, method="kerberos"))
    assert error.cause is HostCause.UNSEALED


def test_what_was_changed_on_its_way_is_not_believed() -> None:
    faults = [ShellFault("Command", "tamper", change=lambda body: body[:-40] + b"x" + body[-39:])]
    with KerberosEndpoint(Recorder(), methods=["kerberos"], faults=faults) as endpoint:
        assert refused(transport_to(endpoint, method="kerberos")).cause is HostCause.UNSEALED


@pytest.mark.parametrize("token", [b"", b"WWW-Authenticate: Negotiate Zm9yZ2Vk\r\n"])
def test_a_host_that_does_not_prove_itself_is_told_nothing(token: bytes) -> None:
    poison = [OK + token + b"Content-Length: 0\r\n\r\n"]
    with (
        Hostile(lambda: iter(poison)) as hostile,
        KerberosEndpoint(Recorder(), methods=["kerberos"]) as endpoint,
    ):
        error = refused(transport_to(endpoint, method="kerberos", port=hostile.port))
        assert len(hostile.connections) == 1
    assert error.cause in (HostCause.UNSEALED, HostCause.CREDENTIALS)
