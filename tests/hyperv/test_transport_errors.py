"""What goes wrong between here and the host becomes one sentence with a cause and a remedy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.winrm.certificates import Authority
from tests.support.winrm.endpoint import ShellFault, WinrmEndpoint
from tests.support.winrm.runs import EXPORT, MODULE, Recorder, refused, transport_to
from vswitch.errors import InputError
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.transport import PywinrmTransport
from vswitch.hyperv.winrm.winrm_errors import HostCause


def test_a_missing_right() -> None:
    with WinrmEndpoint(Recorder(), without_right=["admin"]) as endpoint:
        error = refused(transport_to(endpoint))
    assert error.cause is HostCause.RIGHT
    assert "Remote Management Users" in error.hint
    assert "Hyper-V Administrators" in error.hint


def test_tls_untrusted(tmp_path: Path, server: tuple[Path, Path]) -> None:
    other = Authority(tmp_path, "another authority")
    with WinrmEndpoint(Recorder(), methods=["basic"], certificate=server) as endpoint:
        error = refused(transport_to(endpoint, method="basic", authority=other.file))
        assert endpoint.raw == []
    assert error.cause is HostCause.TLS
    assert "ca_file" in error.hint


def test_tls_untrusted_by_default(server: tuple[Path, Path]) -> None:
    with WinrmEndpoint(Recorder(), methods=["basic"], certificate=server) as endpoint:
        assert refused(transport_to(endpoint, method="basic")).cause is HostCause.TLS


def test_tls_unverified_when_the_user_says_so(server: tuple[Path, Path]) -> None:
    with WinrmEndpoint(Recorder(), methods=["basic"], certificate=server) as endpoint:
        assert transport_to(endpoint, method="basic", verify_tls=False).run(EXPORT)["ok"]


class _Elsewhere(BaseHTTPRequestHandler):
    """Answers every request with a redirect to `target`, or asks for NTLM; counts what comes."""

    target = ""
    requests = 0

    def do_POST(self) -> None:
        type(self).requests += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(307 if self.target else 401)
        self.send_header(*(("Location", self.target) if self.target else ("WWW-Authenticate", "NTLM")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_CONNECT = do_POST

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _web_server(target: str = "") -> Iterator[tuple[int, type[_Elsewhere]]]:
    handler = type("Handler", (_Elsewhere,), {"target": target})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield web.server_port, handler
        finally:
            web.shutdown()
            thread.join()


@pytest.mark.parametrize("method", ["ntlm", "credssp"])
def test_a_redirect_is_not_followed(method: str) -> None:
    """Else the host's answer would decide to whom we log on, and whether over TLS."""
    with (
        _web_server() as (port, elsewhere),
        _web_server(f"http://127.0.0.1:{port}/wsman") as (asked, _),
        WinrmEndpoint(Recorder()) as endpoint,
    ):
        error = refused(transport_to(endpoint, method=method, port=asked, https=False))
    assert error.cause is HostCause.LISTENER
    assert "redirect" in error.message
    assert elsewhere.requests == 0


@pytest.mark.parametrize(("method", "tls"), [("ntlm", False), ("basic", True)])
def test_no_proxy_of_the_environment_is_asked(
    method: str, tls: bool, authority: Authority, server: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _web_server() as (port, proxy),
        WinrmEndpoint(Recorder(), methods=[method], certificate=server if tls else None) as endpoint,
    ):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{port}")
        assert transport_to(endpoint, method=method, authority=authority.file).run(EXPORT)["ok"]
    assert proxy.requests == 0


def test_tls_wrong_name(authority: Authority) -> None:
    certificate = authority.issue("hv02.corp.example")
    with WinrmEndpoint(Recorder(), methods=["basic"], certificate=certificate) as endpoint:
        error = refused(transport_to(endpoint, method="basic", authority=authority.file))
    assert error.cause is HostCause.TLS
    assert "not made out for 127.0.0.1" in error.message


def test_tls_expired(authority: Authority) -> None:
    certificate = authority.issue("127.0.0.1", days=-2)
    with WinrmEndpoint(Recorder(), methods=["basic"], certificate=certificate) as endpoint:
        error = refused(transport_to(endpoint, method="basic", authority=authority.file))
    assert error.cause is HostCause.TLS
    assert "expired" in error.message


def test_tls_to_a_port_without(authority: Authority) -> None:
    with WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, method="basic", https=True, authority=authority.file))
    assert error.cause in (HostCause.TLS, HostCause.BROKEN)


def test_an_encrypted_client_key(authority: Authority, server: tuple[Path, Path]) -> None:
    locked = authority.issue("locked", password=b"x")
    with WinrmEndpoint(
        Recorder(), methods=["certificate"], certificate=server, client_authority=authority.file
    ) as endpoint:
        error = refused(transport_to(endpoint, method="certificate", client=locked, authority=authority.file))
    assert "encrypted" in error.message


@pytest.mark.parametrize("option", ["certificate", "certificate_key", "ca_file"])
def test_missing_files_are_named(option: str, server: tuple[Path, Path], tmp_path: Path) -> None:
    files = {"certificate": str(server[0]), "certificate_key": str(server[1]), "ca_file": str(server[0])}
    connection = HostConnection(
        name="hv01",
        address="127.0.0.1",
        authentication=Authentication.CERTIFICATE,
        **files | {option: str(tmp_path / "gone.pem")},  # type: ignore[arg-type]
    )
    with pytest.raises(InputError, match=rf"hv01: the file .*gone\.pem, named as `{option}`"):
        PywinrmTransport(connection, module=MODULE).run(EXPORT)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, port=port))
    assert error.cause is HostCause.REFUSED
    assert f"127.0.0.1:{port}" in error.message


def test_an_unknown_name() -> None:
    with WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, address="no-such-host.invalid"))
    assert error.cause is HostCause.NAME


def test_a_host_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, port=silent.getsockname()[1], timeout=0.5))
    assert error.cause is HostCause.TIMEOUT


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (ShellFault("Create", "status", code=404), HostCause.LISTENER),
        (ShellFault("Create", "status", code=413), HostCause.SIZE),
        (ShellFault("Create", "status", code=503), HostCause.LISTENER),
        (ShellFault("Create", "status", code=418), HostCause.UNSEALED),
        (ShellFault("Create", "fault", code=5), HostCause.RIGHT),
        (ShellFault("Create", "fault", code=2150859180), HostCause.LISTENER),
        (ShellFault("Command", "fault", code=2150859174), HostCause.QUOTA),
        (ShellFault("Create", "fault", code=2150858793), HostCause.TIMEOUT),
        (ShellFault("Send", "fault", code=1, text="something\nelse"), HostCause.ANSWER),
    ],
)
def test_answers_of_winrm(fault: ShellFault, cause: HostCause) -> None:
    with WinrmEndpoint(Recorder(), faults=[fault]) as endpoint:
        error = refused(transport_to(endpoint))
        assert not endpoint.shells
    assert error.cause is cause
    assert error.as_dict()["host"] == "hv01"


def test_kerberos_says_what_is_missing() -> None:
    pytest.importorskip("winrm")
    from winrm.transport import HAVE_KERBEROS

    if HAVE_KERBEROS:
        pytest.skip("the Kerberos package is installed")
    with WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, method="kerberos"))
    assert error.cause is HostCause.PACKAGE
    assert "vswitch[kerberos]" in error.hint
