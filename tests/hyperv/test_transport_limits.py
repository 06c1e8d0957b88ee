"""Hosts that never end: every wait has an end, every answer a size, and neither costs memory."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.winrm.certificates import Authority
from tests.support.winrm.endpoint import ShellFault, ShellOutput, WinrmEndpoint, answer
from tests.support.winrm.hostile import OK, POISONS, SLOW, Hostile, slowly
from tests.support.winrm.http import server_tls
from tests.support.winrm.runs import EXPORT, Recorder, refused, transport_to
from vswitch.errors import OutOfResources
from vswitch.hyperv.winrm import framing, guard, transport
from vswitch.hyperv.winrm.connection import HostConnection
from vswitch.hyperv.winrm.guard import Guard
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause, OutcomeUnknown

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
#: What a time limit may be passed by on a busy machine.
SLACK = 10.0


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the shell takes less time."""
    monkeypatch.setattr(transport, "_CLOSING_SECONDS", 0.5)


@pytest.mark.parametrize("method", ["ntlm", "credssp", "basic"])
@pytest.mark.parametrize("how", SLOW)
def test_the_time_limit_holds_before_log_on(
    how: str, method: str, authority: Authority, server: tuple[Path, Path]
) -> None:
    tls = server_tls(server, None) if method == "basic" else None
    with Hostile(SLOW[how], tls=tls) as hostile, WinrmEndpoint(Recorder()) as endpoint:
        started = time.monotonic()
        error = refused(
            transport_to(
                endpoint,
                method=method,
                port=hostile.port,
                https=tls is not None,
                authority=authority.file,
                timeout=0.8,
            )
        )
        assert time.monotonic() - started < 0.8 + SLACK
        assert hostile.met.is_set()
    assert error.cause is HostCause.TIMEOUT
    assert "no answer within 0.8 seconds" in error.message


@pytest.mark.parametrize("message", ["Create", "Send", "Receive", "Delete"])
@pytest.mark.usefixtures("soon")
def test_the_time_limit_holds_after_log_on(message: str) -> None:
    fault = ShellFault(message, "raw", raw=lambda: slowly(OK))
    with WinrmEndpoint(Recorder(), faults=[fault]) as endpoint:
        run = transport_to(endpoint, timeout=1.0)
        started = time.monotonic()
        if message == "Delete":  # the answer is here; closing is best effort
            assert run.run(EXPORT)["ok"]
        else:
            error = refused(run, ScriptRequest("apply"))
            assert error.cause is HostCause.TIMEOUT
            assert isinstance(error, OutcomeUnknown) is (message != "Create")
        assert time.monotonic() - started < 1.5 + SLACK


def test_a_slow_tls_handshake_ends() -> None:
    with (
        Hostile(lambda: slowly(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")) as hostile,
        WinrmEndpoint(Recorder()) as endpoint,
    ):
        started = time.monotonic()
        run = transport_to(endpoint, method="basic", port=hostile.port, https=True, connect_timeout=0.5)
        assert refused(run).cause in (HostCause.TIMEOUT, HostCause.UNREACHABLE)
        assert time.monotonic() - started < 0.5 + SLACK


def test_a_host_that_takes_nothing_ends() -> None:
    """The module does not fit into what the network holds for a host that does not read."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        limits = Guard(connect=5.0, silence=5.0, deadline=time.monotonic() + 0.5)
        pool = guard._pools(limits)["http"]("127.0.0.1", deaf.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(guard.TimeIsUp):
            pool.urlopen("POST", "/wsman", body=bytes(64 << 20), retries=False)
        assert time.monotonic() - started < 0.5 + SLACK
        pool.close()


def test_silence_has_a_limit_of_its_own() -> None:
    with Hostile(SLOW["silence"]) as hostile, WinrmEndpoint(Recorder()) as endpoint:
        started = time.monotonic()
        error = refused(transport_to(endpoint, port=hostile.port, silence_timeout=0.3))
        assert time.monotonic() - started < 0.3 + SLACK
    assert error.cause is HostCause.TIMEOUT
    assert "silence_timeout" in error.hint


def test_a_name_that_is_not_answered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def slow(host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> object:
        if not flags:
            time.sleep(30)
        return real(host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with WinrmEndpoint(Recorder()) as endpoint:
        started = time.monotonic()
        error = refused(transport_to(endpoint, address="slow.invalid", connect_timeout=0.3))
        assert time.monotonic() - started < 0.3 + SLACK
    assert error.cause is HostCause.UNREACHABLE


def test_all_addresses_of_a_host_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that does not answer leaves time for the next."""
    with WinrmEndpoint(Recorder()) as endpoint, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        held = []
        for _ in range(3):  # the queue is full then, and the next waits
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(full.getsockname())
            held.append(each)
        ports = [full.getsockname()[1], endpoint.port]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(guard, "_addresses", lambda *_: found)
        assert transport_to(endpoint, connect_timeout=2.0).run(EXPORT)["ok"]
        for each in held:
            each.close()


@pytest.mark.parametrize(
    ("options", "silence", "operation"),
    [
        ({}, 30, 20),
        ({"operation_timeout": 40}, 50, 33),
        ({"silence_timeout": 6}, 6, 4),
        ({"operation_timeout": 1}, 30, 1),
        ({"silence_timeout": 1}, 1, 1),
    ],
)
def test_the_host_is_asked_to_answer_before_it_is_silent_for_too_long(
    options: dict[str, int], silence: float, operation: int
) -> None:
    connection = HostConnection(name="h", address="h", **options)  # type: ignore[arg-type]
    assert (connection.silence, connection.operation(300.0)) == (silence, operation)
    assert connection.operation(0.2) == 1


RUN = """
import json, resource, sys
from tests.support.winrm.runs import EXPORT, MODULE
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import Credentials, Secret
from vswitch.hyperv.winrm.transport import PywinrmTransport
port, timeout = int(sys.argv[1]), float(sys.argv[2])
connection = HostConnection(name="hv01", address="127.0.0.1", port=port, https=False, timeout=timeout,
                        authentication=Authentication.NTLM, username="admin")
credentials = Credentials("admin", Secret("S3cret-pass"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spent = sys.argv[3] == "True"
for last in (False, True) if spent else (True,):
    if last and spent:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    said = None
    try:
        PywinrmTransport(connection, credentials=credentials, module=MODULE, retry_delay=0.01).run(EXPORT)
    except Exception as error:
        said = [type(error).__name__, str(getattr(error, "cause", "")), str(error)]
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024]))
"""


def measured(port: int, *, timeout: float = 20.0, spent: bool = False) -> tuple[list[str] | None, int]:
    """The error of a run in a process of its own, and the bytes of memory that it took at most."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(port), str(timeout), str(spent)],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    said, used = json.loads(done.stdout)
    return said, used


def test_before_log_on_next_to_nothing_is_read() -> None:
    for how, poison in POISONS.items():
        with Hostile(poison) as hostile, WinrmEndpoint(Recorder()) as endpoint:
            started = time.monotonic()
            error = refused(transport_to(endpoint, port=hostile.port))
            assert time.monotonic() - started < SLACK, how
            assert error.cause in (HostCause.SIZE, HostCause.BROKEN, HostCause.ANSWER), (how, error)
            # What is on its way through the sockets' buffers counts as sent.
            assert hostile.sent < 32 << 20, how


@pytest.mark.parametrize("how", ["body", "gzip", "size of a chunk"])
def test_what_is_refused_before_log_on_costs_no_memory(how: str) -> None:
    with Hostile(POISONS[how]) as hostile:
        said, used = measured(hostile.port)
    assert said is not None
    assert said[1] in ("size", "answer")
    assert used < 16 << 20  # what the libraries take when they are used first


@pytest.mark.parametrize("read_only", [True, False])
def test_a_document_is_limited(read_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "LARGEST_REPLY", 1 << 20)
    with WinrmEndpoint(lambda _: ShellOutput(stdout=bytes(2 << 20))) as endpoint:
        error = refused(transport_to(endpoint), EXPORT if read_only else ScriptRequest("apply"))
        assert not endpoint.shells
    assert error.cause is HostCause.SIZE
    assert "sends more than the 1 MiB that are taken of it" in error.message
    assert isinstance(error, OutcomeUnknown) is not read_only


REPLY = """
import resource, sys
from vswitch.hyperv.winrm import framing
from vswitch.hyperv.winrm.guard import TooLarge
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
piece, end = eval(sys.argv[1]), "accepted"
reply = framing.FramedReply()
size = framing.LARGEST_REPLY - 64 if sys.argv[2] == "accept" else framing.LARGEST_REPLY
count = (size - 20) // len(piece)
reply.add(b'{"documentBytes":%d}\\n{"x":[' % (count * len(piece) + 9), b"")
try:
    for _ in range(count // 1000):
        reply.add(piece * 1000, b"")
    reply.add(piece * (count % 1000) + b"0]}", b"")
    assert len(reply.document()["x"]) == count + 1
except TooLarge:
    end = "refused"
print(end, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize(
    ("piece", "size", "end", "most"),
    [
        (b'"some text",', "accept", "accepted", 2048),
        ('"\U0001f600",'.encode(), "accept", "accepted", 2048),
        (b"[],", "accept", "refused", 128),
        (b'"some text",', "refuse", "refused", 128),
    ],
)
def test_what_a_document_costs_in_memory(piece: bytes, size: str, end: str, most: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPLY, repr(piece), size],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    ended, used = done.stdout.split()
    assert ended == end
    assert int(used) <= most


def test_a_document_that_is_announced_as_too_large_is_not_waited_for() -> None:
    announced = ShellOutput(stdout=b'{"documentBytes":%d}\n' % (framing.LARGEST_REPLY + 1))
    with WinrmEndpoint(lambda _: announced) as endpoint:
        error = refused(transport_to(endpoint))
    assert error.cause is HostCause.SIZE


def test_one_answer_is_limited_after_log_on() -> None:
    body = OK + b"Content-Length: 3000000000\r\n\r\n"
    fault = ShellFault("Receive", "raw", raw=lambda: itertools.chain([body], itertools.repeat(bytes(65536))))
    with WinrmEndpoint(Recorder(), faults=[fault]) as endpoint:
        error = refused(transport_to(endpoint))
    assert error.cause is HostCause.SIZE
    assert "1 MiB" in error.message


def test_a_document_of_some_size_is_read_whole() -> None:
    text = "x" * (3 << 20)
    with WinrmEndpoint(lambda _: answer({"ok": True, "result": text})) as endpoint:
        assert transport_to(endpoint, timeout=60).run(EXPORT)["result"] == text


def test_a_process_without_open_files_left_says_so() -> None:
    """None can be opened any more once all is loaded and a first run has ended."""
    with WinrmEndpoint(Recorder()) as endpoint:
        said, _ = measured(endpoint.port, spent=True)
    assert said is not None
    assert said[0] == "OutOfResources"
    assert "run out of open files" in said[2]


def test_an_exhausted_machine_is_no_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    with WinrmEndpoint(Recorder()) as endpoint:
        monkeypatch.setattr(guard._Plain, "connect", none_left)
        with pytest.raises(OutOfResources, match="run out of memory") as caught:
            transport_to(endpoint).run(ScriptRequest("apply"))
    assert caught.value.exit_status == 3
    assert caught.value.__context__ is None
