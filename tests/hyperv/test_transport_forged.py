"""Answers made or changed by somebody between here and the host are not believed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spnego._ntlm

from tests.support.winrm.certificates import Authority
from tests.support.winrm.endpoint import ShellFault, WinrmEndpoint
from tests.support.winrm.hostile import ASKS, OK, Hostile
from tests.support.winrm.runs import EXPORT, Recorder, refused, transport_to
from vswitch.hyperv.winrm.guard import Unsealed
from vswitch.hyperv.winrm.sealed import Foreign, check_answer, check_log_on, parse
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause, OutcomeUnknown

MESSAGES = ("Create", "Command", "Send", "Receive")
SIGN, SEAL, ESS, KEY_128 = 0x10, 0x20, 0x80000, 0x20000000
FAULT = b"<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code></s:Fault>"


def swapped(name: str) -> Callable[[bytes], bytes]:
    """Another identifier wherever the answer has one of that name."""
    other = str(uuid.uuid4()).upper().encode()
    pattern = rb"(%s(?:=\"|\">|>)(?:uuid:)?)[0-9A-Fa-f-]{36}" % name.encode()
    return lambda text: re.sub(pattern, lambda match: match[1] + other, text)


@pytest.mark.parametrize("method", ["ntlm", "credssp"])
@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("code", [200, 500])
def test_without_tls_an_answer_in_the_clear_is_not_believed(method: str, message: str, code: int) -> None:
    faults = [ShellFault(message, "clear", code=code)]
    with WinrmEndpoint(Recorder(), methods=[method], faults=faults) as endpoint:
        error = refused(transport_to(endpoint, method=method))
    assert error.cause is HostCause.UNSEALED
    assert f"(HTTP {code}) was not believed: it is not encrypted" in error.message
    assert "somebody between" in error.hint


@pytest.mark.parametrize("code", [200, 201, 307, 400, 401, 403, 407, 500, 503])
def test_without_tls_the_first_answer_is_not_believed_either(code: int) -> None:
    head = OK.replace(b"200", b"%d" % code) + b"Location: http://127.0.0.1/\r\n"
    body = b"<html>"
    poison = [head + b"Content-Length: %d\r\n\r\n" % len(body) + body]
    with Hostile(lambda: iter(poison)) as hostile, WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, port=hostile.port))
    assert error.cause in (HostCause.UNSEALED, HostCause.LISTENER)
    assert "redirect" in error.message if code == 307 else f"(HTTP {code}) was not believed" in error.message


def test_a_host_that_wants_no_log_on_is_no_host() -> None:
    poison = [OK + b"Content-Length: 0\r\n\r\n"]
    with Hostile(lambda: iter(poison)) as hostile, WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, port=hostile.port))
    assert error.cause is HostCause.UNSEALED
    assert "the log-on was cut short" in error.message


def test_credssp_that_is_cut_short_seals_nothing() -> None:
    """Its TLS proves nothing until the last round: whoever ends it before has the keys, and no password."""
    with WinrmEndpoint(Recorder(), methods=["credssp"], accounts=[("", "x", "unknown")]) as endpoint:
        endpoint.cuts_log_on = True
        error = refused(transport_to(endpoint, method="credssp"))
        assert endpoint.raw == []
    assert error.cause is HostCause.UNSEALED


@pytest.mark.parametrize("method", ["ntlm", "credssp"])
@pytest.mark.parametrize("flag", [SIGN, SIGN | SEAL, ESS, KEY_128])
def test_ntlm_that_was_weakened_seals_nothing(
    method: str, flag: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a host does not offer, keys that hold: somebody in between may have taken it out of the offer."""
    # What it stands in for is known by its name alone: pyspnego does not export it.
    real: Any = vars(spnego._ntlm)["Challenge"]

    class Weak(real):  # type: ignore[misc]
        def __init__(self, flags: int = 0, *values: object, **more: object) -> None:
            super().__init__(flags & ~flag, *values, **more)

    monkeypatch.setattr(spnego._ntlm, "Challenge", Weak)
    with WinrmEndpoint(Recorder(), methods=[method]) as endpoint:
        error = refused(transport_to(endpoint, method=method))
        assert endpoint.raw == []
    # Within CredSSP some of it ends the log-on by itself.
    assert error.cause in (
        (HostCause.UNSEALED,) if method == "ntlm" else (HostCause.UNSEALED, HostCause.CREDENTIALS)
    )


@pytest.mark.parametrize("done", [True, False])
def test_kerberos_has_to_prove_the_host(done: bool) -> None:
    session = SimpleNamespace(auth=SimpleNamespace(auth_done=done))
    transport = SimpleNamespace(
        session=session, auth_method="kerberos", encryption=object(), endpoint="http://h/"
    )
    if done:
        check_log_on(transport)
        transport.encryption = None
    with pytest.raises(Unsealed):
        check_log_on(transport)


BODY = re.compile(rb"--Encrypted Boundary--\r\n$")
TAMPERED: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda body: body[:-40] + bytes([body[-40] ^ 1]) + body[-39:],
    "the head of the seal": lambda body: re.sub(
        rb"(octet-stream\r\n.{4}).", lambda m: m[1] + b"\xff", body, flags=re.DOTALL
    ),
    "length": lambda body: re.sub(rb"Length=\d+", b"Length=5", body),
    "no length": lambda body: re.sub(rb"Length=\d+", b"", body),
    "text before": lambda body: b"<s:Envelope/>" + body,
    "text after": lambda body: body + b"<s:Envelope/>",
    "a clear part": lambda body: BODY.sub(
        b"--Encrypted Boundary\r\n<s:Envelope/>--Encrypted Boundary--", body
    ),
    "no end": lambda body: BODY.sub(b"", body),
    "nothing": lambda _: b"--Encrypted Boundary--\r\n",
    "in clear": lambda _: b"<s:Envelope/>",
    "empty": lambda _: b"",
    "twice": lambda body: BODY.sub(b"", body) + body,
    "garbage": lambda _: bytes(range(256)) * 20,
    "negative": lambda body: re.sub(
        rb"(octet-stream\r\n).{4}", lambda m: m[1] + b"\xff" * 4, body, flags=re.DOTALL
    ),
}


@pytest.mark.parametrize("method", ["ntlm", "credssp"])
@pytest.mark.parametrize("how", TAMPERED)
def test_what_is_sealed_in_part_or_was_changed_is_not_believed(method: str, how: str) -> None:
    faults = [ShellFault("Command", "tamper", change=TAMPERED[how])]
    with WinrmEndpoint(Recorder(), methods=[method], faults=faults) as endpoint:
        assert refused(transport_to(endpoint, method=method)).cause is HostCause.UNSEALED


def test_an_answer_of_before_is_not_believed() -> None:
    """Sealed by the very host, but sent again."""
    kept: list[bytes] = []

    def keep(body: bytes) -> bytes:
        kept.append(body)
        return body

    faults = [
        ShellFault("Command", "tamper", change=keep),
        ShellFault("Send", "tamper", change=lambda _: kept[0]),
    ]
    with WinrmEndpoint(Recorder(), faults=faults) as endpoint:
        assert refused(transport_to(endpoint)).cause is HostCause.UNSEALED


FOREIGN = [
    *((message, "RelatesTo") for message in MESSAGES),
    ("Receive", "CommandId"),
]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(("message", "name"), FOREIGN)
def test_an_answer_belongs_to_its_question(
    message: str, name: str, tls: bool, authority: Authority, server: tuple[Path, Path]
) -> None:
    faults = [ShellFault(message, "change", change=swapped(name))]
    with WinrmEndpoint(Recorder(), certificate=server if tls else None, faults=faults) as endpoint:
        error = refused(transport_to(endpoint, authority=authority.file))
    assert error.cause is HostCause.ANSWER
    assert f"{name} in it is not the" in error.message


def test_a_foreign_answer_leaves_the_outcome_of_a_write_open() -> None:
    faults = [ShellFault("Receive", "change", change=swapped("RelatesTo"))]
    with WinrmEndpoint(Recorder(), faults=faults) as endpoint:
        error = refused(transport_to(endpoint), ScriptRequest("apply"))
    assert isinstance(error, OutcomeUnknown)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_fault_is_no_result(message: str) -> None:
    faults = [
        ShellFault(
            message, "change", change=lambda text: re.sub(rb"(?<=<s:Body>).*(?=</s:Body>)", FAULT, text)
        )
    ]
    with WinrmEndpoint(Recorder(), faults=faults) as endpoint:
        assert refused(transport_to(endpoint)).cause is HostCause.ANSWER


ENVELOPE = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header><MessageID>uuid:A</MessageID>'
    "<RelatesTo>uuid:a</RelatesTo><Action>x/{action}</Action>{selector}</s:Header><s:Body>{body}</s:Body>"
    "</s:Envelope>"
)


def envelope(action: str = "Receive", body: str = "", shell: str = "") -> str:
    selector = f'<Selector Name="ShellId">{shell}</Selector>' if shell else ""
    return ENVELOPE.format(action=action, body=body, selector=selector)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (envelope("Create"), envelope()),
        (envelope("Create"), envelope(body="<ShellId/>")),
        (envelope("Create"), envelope(body="<ShellId>A</ShellId><ShellId>B</ShellId>")),
        (envelope("Command", shell="S"), envelope()),
        (envelope("Command", shell="S"), envelope(body="<CommandId>A</CommandId>", shell="T")),
        (envelope("Receive", '<R CommandId="C"/>'), envelope(body="<Stream Name='stdout'>eA==</Stream>")),
        (envelope("Receive", '<R CommandId="C"/>'), envelope(body="<CommandState State='x/Done'/>")),
        (envelope("Send"), envelope().replace("RelatesTo", "Other")),
        (envelope("Send"), "<html>no</html>"),
        (envelope("Send"), ""),
    ],
)
def test_what_an_answer_must_have(question: str, answer: str) -> None:
    check_answer(envelope("Send"), envelope())
    with pytest.raises(Foreign):
        check_answer(question, answer)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        f'<!DOCTYPE s [<!ENTITY l0 "ha">{LAUGHS}]><s>&l11;</s>',
        '<?xml version="1.0"?><!DOCTYPE s SYSTEM "file:///etc/hostname"><s/>',
        '<?xml version="1.0" encoding="utf-16"?><s/>'.encode("utf-16"),
        '<?xml version="1.0" encoding="cp037"?><s/>',
        "<a>" * 300_000,
        "<a>" * 40 + "</a>" * 40,
        b"\xff\xfe",
    ],
)
def test_xml_that_is_a_burden_is_not_read(text: str | bytes) -> None:
    with pytest.raises(Foreign):
        parse(text)


def test_a_401_in_between_ends_the_connection_and_nothing_else() -> None:
    """It is no log-on any more, whoever sent it; the run goes on over a new connection."""
    with WinrmEndpoint(Recorder(), faults=[ShellFault("Receive", "status", code=401)]) as endpoint:
        assert transport_to(endpoint).run(EXPORT)["ok"]


def test_methods_that_are_offered_without_proof_give_no_advice_to_log_on_weaker() -> None:
    offer = b'HTTP/1.1 401 \r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
    with Hostile(lambda: iter([offer])) as hostile, WinrmEndpoint(Recorder()) as endpoint:
        error = refused(transport_to(endpoint, port=hostile.port))
    assert error.cause is HostCause.METHOD
    assert "nothing proves who said so" in error.hint


def test_a_challenge_that_costs_without_end_is_not_read() -> None:
    """The pattern that Kerberos looks for takes years over such a header."""
    from vswitch.hyperv.winrm import guard

    assert guard._challenges("," * 60_000 + "x") == ""
    assert guard._challenges("a,b c,Negotiate dG9rZW4=, CredSSP") == "Negotiate dG9rZW4=, CredSSP"
    poison = [ASKS + b"WWW-Authenticate: " + b"," * 40_000 + b"x\r\nContent-Length: 0\r\n\r\n"]
    with Hostile(lambda: iter(poison)) as hostile, WinrmEndpoint(Recorder()) as endpoint:
        refused(transport_to(endpoint, port=hostile.port, timeout=1.0))
