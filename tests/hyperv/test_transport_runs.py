"""Runs over each authentication, and each limit of WinRM."""

from __future__ import annotations

import base64
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.winrm.certificates import Authority
from tests.support.winrm.endpoint import Limits, ShellOutput, WinrmEndpoint, answer
from tests.support.winrm.runs import EXPORT, METHODS, MODULE, PASSWORD, Recorder, refused, transport_to
from vswitch.errors import InputError
from vswitch.hyperv.winrm import framing
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.transport import CHUNK, ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause, OutcomeUnknown

# --- authentication ------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "tls"), METHODS)
def test_each_authentication(
    method: str, tls: bool, authority: Authority, server: tuple[Path, Path], client: tuple[Path, Path]
) -> None:
    recorder = Recorder(reply_size=50_000)
    with WinrmEndpoint(
        recorder,
        methods=[method],
        accounts=[("", "admin", "Pässwörd-€")],
        certificate=server if tls else None,
        client_authority=authority.file,
    ) as endpoint:
        transport = transport_to(
            endpoint, method=method, password="Pässwörd-€", client=client, authority=authority.file
        )
        document: dict[str, Any] = transport.run(EXPORT)
        assert not endpoint.shells
        assert not endpoint.defects
        assert endpoint.total_connections == 1
    assert document["result"]["asked"]["arguments"] == EXPORT.arguments
    assert recorder.modules == [MODULE]


@pytest.mark.parametrize(("method", "tls"), METHODS)
def test_a_wrong_password_is_tried_once(
    method: str, tls: bool, authority: Authority, server: tuple[Path, Path], client: tuple[Path, Path]
) -> None:
    with WinrmEndpoint(
        Recorder(),
        methods=[method],
        certificate=server if tls else None,
        client_authority=None if method == "certificate" else authority.file,
    ) as endpoint:
        transport = transport_to(
            endpoint, method=method, password="Wr0ng-pass", client=client, authority=authority.file
        )
        error = refused(transport)
        assert endpoint.log == []
        assert endpoint.total_connections <= 2  # the second asks for the methods, without credentials
    assert error.cause is HostCause.CREDENTIALS
    assert ("certificate" if method == "certificate" else "admin") in error.message
    assert "Wr0ng-pass" not in str(error)


@pytest.mark.parametrize("method", ["ntlm", "credssp", "basic"])
def test_a_method_that_the_host_does_not_offer(
    method: str, authority: Authority, server: tuple[Path, Path]
) -> None:
    others = [other for other in ("ntlm", "basic") if other != method][:1]
    with WinrmEndpoint(Recorder(), methods=others, certificate=server) as endpoint:
        error = refused(transport_to(endpoint, method=method, authority=authority.file))
    assert error.cause is HostCause.METHOD
    assert method in error.message


def test_ntlm_messages_are_encrypted_without_tls() -> None:
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    with WinrmEndpoint(Recorder()) as endpoint, listener:

        def relay(source: socket.socket, target: socket.socket) -> None:
            while data := source.recv(65536):
                seen.append(data)
                target.sendall(data)

        def accept() -> None:
            inner, _ = listener.accept()
            outer = socket.create_connection(("127.0.0.1", endpoint.port))
            with inner, outer:
                back = threading.Thread(target=relay, args=(outer, inner), daemon=True)
                back.start()
                relay(inner, outer)
                outer.shutdown(socket.SHUT_WR)
                back.join(5)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        transport_to(endpoint, port=listener.getsockname()[1]).run(EXPORT)
        thread.join(5)
    wire = b"".join(seen)
    assert b"HTTP-SPNEGO-session-encrypted" in wire
    for plain in (b"powershell", b"Invoke-Vswitch", b"Envelope", PASSWORD.encode()):
        assert plain not in wire


def test_ipv6() -> None:
    with WinrmEndpoint(Recorder(), address="::1") as endpoint:
        assert transport_to(endpoint).run(EXPORT)["ok"]


@pytest.mark.parametrize("method", ["basic", "certificate"])
def test_some_methods_need_tls(method: str) -> None:
    with pytest.raises(InputError, match="over HTTP"):
        HostConnection(
            name="hv01",
            address="hv01",
            https=False,
            authentication=Authentication(method),
            certificate="a",
            certificate_key="b",
        )


def test_ports_follow_from_the_authentication() -> None:
    def port(method: str, **options: object) -> tuple[bool | None, int]:
        found = HostConnection(name="h", address="h", authentication=Authentication(method), **options)  # type: ignore[arg-type]
        return found.https, found.port

    assert port("kerberos") == (False, 5985)
    assert port("kerberos", https=True) == (True, 5986)
    assert port("ntlm") == (True, 5986)
    assert port("ntlm", port=5985) == (False, 5985)
    assert HostConnection(name="h", address="fe80::1%eth0").url == "http://[fe80::1%25eth0]:5985/wsman"


# --- limits --------------------------------------------------------------------------------------


def test_a_script_beyond_every_limit_goes_through() -> None:
    recorder = Recorder(reply_size=700_000)
    module = ("# ünïcode Ω " * 60_000).encode()
    request = ScriptRequest("apply", {"text": "Ω" * 300_000})
    with WinrmEndpoint(recorder, limits=Limits(output_piece=50_000)) as endpoint:
        document: dict[str, Any] = transport_to(endpoint, module=module).run(request)
        assert endpoint.largest_envelope <= 150 * 1024
        assert endpoint.count("Send") > 8
        assert endpoint.count("Receive") > 20
    assert recorder.modules == [module]
    assert recorder.requests == [{"operation": "apply", "arguments": dict(request.arguments)}]
    assert len(document["result"]["fill"]) == 700_000


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_pieces_at_their_borders(size: int) -> None:
    around = len(framing.encode_request(b"x" * size, "export", {})) - size
    module = b"x" * (size - around)
    assert len(framing.encode_request(module, "export", {})) == size
    recorder = Recorder()
    with WinrmEndpoint(recorder) as endpoint:
        transport_to(endpoint, module=module).run(ScriptRequest("export"))
        assert endpoint.count("Send") == -(-size // CHUNK)
    assert recorder.modules == [module]


def test_the_command_line_is_short_and_always_the_same() -> None:
    program, arguments = framing.command_line()
    assert len(f"{program} {' '.join(arguments)}") < 8191
    assert base64.b64decode(arguments[-1]).decode("utf-16-le") == framing.BOOTSTRAP
    assert framing.BOOTSTRAP.isascii()


def test_the_endpoint_enforces_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "BOOTSTRAP", framing.BOOTSTRAP + "#" * 3000)
    with WinrmEndpoint(Recorder()) as endpoint:
        assert refused(transport_to(endpoint)).cause is HostCause.SIZE


def test_the_endpoint_enforces_the_envelope() -> None:
    with WinrmEndpoint(Recorder(), limits=Limits(envelope=32 * 1024)) as endpoint:
        error = refused(transport_to(endpoint, module=b"x" * 60_000))
    assert error.cause is HostCause.SIZE
    assert "MaxEnvelopeSizekb" in error.hint


def test_shells_per_user() -> None:
    with WinrmEndpoint(Recorder(), limits=Limits(shells_per_user=0)) as endpoint:
        error = refused(transport_to(endpoint))
    assert error.cause is HostCause.QUOTA
    assert "MaxShellsPerUser" in error.hint


def test_shells_are_given_back_after_every_run() -> None:
    with WinrmEndpoint(Recorder(), limits=Limits(shells_per_user=1)) as endpoint:
        transport = transport_to(endpoint)
        for _ in range(3):  # the second would be refused, were the first still there
            transport.run(EXPORT)
            assert endpoint.shells == {}
        assert endpoint.count("Create") == endpoint.count("Delete") == 3


def test_one_transport_in_many_threads() -> None:
    recorder = Recorder(reply_size=10_000)
    failures: list[BaseException] = []
    with WinrmEndpoint(recorder) as endpoint:
        transport = transport_to(endpoint)

        def work(number: int) -> None:
            try:
                document: dict[str, Any] = transport.run(ScriptRequest("export", {"number": number}))
                assert document["result"]["asked"]["arguments"] == {"number": number}
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(recorder.requests) == 12


def test_text_before_the_answer_is_passed_over() -> None:
    document = answer({"schema": 1, "ok": True, "result": {}})
    noisy = ShellOutput(b"Welcome to this host!\r\n" + document.stdout + b"\r\n")
    with WinrmEndpoint(lambda _: noisy) as endpoint:
        assert transport_to(endpoint).run(EXPORT) == {"schema": 1, "ok": True, "result": {}}


def test_a_refusal_of_the_module_is_an_answer() -> None:
    said = {"schema": 1, "ok": False, "error": {"message": "no", "category": "Busy"}, "result": {}}
    with WinrmEndpoint(lambda _: answer(said)) as endpoint:
        assert transport_to(endpoint).run(ScriptRequest("apply")) == said


@pytest.mark.parametrize("stdout", [b"", b"hello", b'{"documentBytes":9}\n{}', b'{"documentBytes":3}\nabc'])
def test_something_else_is_no_answer(stdout: bytes) -> None:
    with WinrmEndpoint(lambda _: ShellOutput(stdout)) as endpoint:
        with pytest.raises(OutcomeUnknown):
            transport_to(endpoint).run(ScriptRequest("apply"))
        assert not isinstance(refused(transport_to(endpoint)), OutcomeUnknown)
