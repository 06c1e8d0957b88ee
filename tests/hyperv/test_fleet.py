"""Inventory files, and work on many hosts side by side."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.winrm.endpoint import ShellOutput, WinrmEndpoint
from tests.support.winrm.runs import Recorder, transport_to
from vswitch.errors import Fault, HostError, InputError, InputErrors, OutOfResources
from vswitch.hyperv.fleet.fleet_run import Progress, Status, run_fleet
from vswitch.hyperv.fleet.inventory import Inventory, InventoryHost, host_from_word, load_inventory
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause, WinrmError

FILE = "sites/hosts.yaml"
GOOD = r"""
defaults: {authentication: ntlm, user: 'CORP\netadmin', ca_file: corp.pem, timeout: 60}
groups:
  edge: {authentication: certificate, certificate: me.pem, certificate_key: /keys/me.key}
  slow: {operation_timeout: 40, silence_timeout: 60, timeout: 600}
hosts:
  hv01: {address: hv01.corp.example, groups: [edge, slow]}
  HV02:
  hv03: {groups: slow, server_cert_validation: ignore, timeout: 30, port: 443, password_variable: HV3}
  kerb: {authentication: Kerberos, user: me@CORP.EXAMPLE}
canary: [HV02, edge]
"""


def load(text: str) -> Inventory:
    return load_inventory(FILE, read=lambda _: text)


def connection(inventory: Inventory, name: str) -> HostConnection:
    return next(host.connection for host in inventory.hosts if host.name == name)


# --- inventory -----------------------------------------------------------------------------------


def test_options_come_from_host_then_groups_then_defaults() -> None:
    inventory = load(GOOD)
    assert connection(inventory, "hv01") == HostConnection(
        name="hv01",
        address="hv01.corp.example",
        authentication=Authentication.CERTIFICATE,
        username="CORP\\netadmin",
        certificate="sites/me.pem",
        certificate_key="/keys/me.key",
        ca_file="sites/corp.pem",
        operation_timeout=40,
        silence_timeout=60,
        timeout=600,
    )
    second = connection(inventory, "HV02")
    assert (second.address, second.authentication, second.https, second.port, second.timeout) == (
        "HV02",
        Authentication.NTLM,
        True,
        5986,
        60,
    )
    third = connection(inventory, "hv03")
    assert (third.verify_tls, third.timeout, third.operation_timeout, third.port) == (False, 30, 40, 443)
    assert third.password_variable == "HV3"
    assert connection(inventory, "kerb").port == 5985
    assert inventory.canary == ("HV02", "edge")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["hv01", "HV02", "hv03", "kerb"]),
        (["kerb", "hv01"], ["hv01", "kerb"]),
        (["slow"], ["hv01", "hv03"]),
        (["hv*"], ["hv01", "HV02", "hv03"]),
        (["EDGE", "hv02"], ["hv01", "HV02"]),
    ],
)
def test_selecting(words: list[str], names: list[str]) -> None:
    assert [host.name for host in load(GOOD).select(words)] == names


def test_selecting_what_is_not_there() -> None:
    with pytest.raises(InputError, match="no host or group 'hv1'") as caught:
        load(GOOD).select(["hv1"])
    assert "did you mean 'hv01'?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("hosts:\n  hv01: {pasword_variable: X}", "2:10", "unknown key 'pasword_variable'"),
        ("hosts:\n  hv01: {password: hunter2}", "2:20", "passwords are not written into files"),
        ("hosts:\n  hv01: {password_variable: hunt-er2}", "2:29", "not the name of an environment variable"),
        ("hosts:\n  hv01: {address: 'admin:hunter2@hv01'}", "2:19", "holds no user name or password"),
        ("hosts:\n  hv01: {address: 'http://hv01/'}", "2:19", "is not a DNS name or IP address"),
        (r'hosts: {a: {user: "CORP\netadmin"}}', "1:19", "write single quotes, as in 'CORP\\netadmin'"),
        (r'hosts: {a: {user: "CORP\x7fme"}}', "1:19", "a user name holds no control character"),
        ("hosts:\n  hv 01:", "2:3", "is not a DNS name or IP address"),
        ("hosts:\n  hv01: {authentication: digest}", "2:26", "'digest' is not an authentication"),
        ("hosts:\n  hv01: {groups: edg}\ngroups: {edge: }", "2:18", "unknown group 'edg'"),
        ("hosts:\n  hv01:\n  HV01:", "3:3", "is named twice"),
        ("hosts: {a: , b: }\ngroups: {b: }", "1:14", "names a host and a group"),
        ("hosts: {a: {authentication: basic, https: Off}}", "1:9", "would send the password in clear"),
        ("hosts: {a: {authentication: certificate}}", "1:9", "needs `certificate`"),
        ("hosts: {a: {port: 70000}}", "1:19", "out of range"),
        ("hosts: {a: }\ncanary: [a, c]", "2:13", "no host or group 'c'"),
        ("groups: {}", "1:1", "the key 'hosts' is missing here"),
        ("hosts: [a]", "1:8", "hosts must be a mapping"),
        ("hosts: {a: ", "", "not YAML"),
    ],
)
def test_mistakes_have_a_place_and_give_nothing_away(text: str, place: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text)
    assert f"{FILE}:{place}" in str(caught.value)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunt-er2" not in str(caught.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(InputErrors) as caught:
        load("hosts:\n  a: {port: x}\n  b: {https: maybe}\n")
    assert len(caught.value.errors) == 2


def test_an_empty_inventory() -> None:
    with pytest.raises(InputError, match="the file is empty"):
        load("# nothing\n")


def test_a_host_named_on_the_command_line() -> None:
    host = host_from_word("hv01.corp.example")
    assert host.connection.authentication is Authentication.KERBEROS
    with pytest.raises(InputError, match="no user name"):
        host_from_word("admin@hv01")


# --- fleets --------------------------------------------------------------------------------------


def hosts(count: int) -> list[InventoryHost]:
    return [
        InventoryHost(f"hv{n:02}", HostConnection(name=f"hv{n:02}", address=f"hv{n:02}"))
        for n in range(1, count + 1)
    ]


def failing(*names: str) -> Callable[[InventoryHost], str]:
    def work(host: InventoryHost) -> str:
        if host.name in names:
            raise HostError("no", host=host.name, hint="do")
        return host.name.upper()

    return work


def test_results_keep_the_order_of_the_hosts() -> None:
    gate = threading.Barrier(4)

    def work(host: InventoryHost) -> str:
        gate.wait(10)
        time.sleep(0.02 * (9 - int(host.name[2:])))
        return host.name.upper()

    result = run_fleet(hosts(4), work, limit=4)
    assert [outcome.value for outcome in result.outcomes] == ["HV01", "HV02", "HV03", "HV04"]
    assert result.ok


def test_stop_after_a_failure() -> None:
    result = run_fleet(hosts(6), failing("hv02"), limit=1)
    states = [outcome.status for outcome in result.outcomes]
    assert states == [Status.DONE, Status.FAILED, *[Status.NOT_STARTED] * 4]
    assert not result.ok


def test_continue_after_a_failure() -> None:
    result = run_fleet(hosts(6), failing("hv02", "hv05"), limit=2, on_failure="continue")
    assert [outcome.host.name for outcome in result.with_status(Status.FAILED)] == ["hv02", "hv05"]
    assert len(result.with_status(Status.DONE)) == 4


def test_canaries_go_first_and_alone() -> None:
    order: list[str] = []
    working = 0
    lock = threading.Lock()

    def work(host: InventoryHost) -> None:
        nonlocal working
        with lock:
            order.append(host.name)
            working += 1
            if host.name in ("hv05", "hv03"):
                assert working == 1
        time.sleep(0.01)
        with lock:
            working -= 1

    assert run_fleet(hosts(6), work, canary=["hv05", "hv03"]).ok
    assert order[:2] == ["hv05", "hv03"]


def test_a_failed_canary_stops_everything() -> None:
    result = run_fleet(hosts(4), failing("hv03"), canary=["hv03"], on_failure="continue")
    assert [outcome.status for outcome in result.outcomes] == [
        Status.NOT_STARTED,
        Status.NOT_STARTED,
        Status.FAILED,
        Status.NOT_STARTED,
    ]
    assert "  hv01, hv02, hv04: not started: the canary hv03 failed" in result.summary()


def test_an_unknown_canary() -> None:
    with pytest.raises(InputError, match="canary 'hv09'"):
        run_fleet(hosts(2), failing(), canary=["hv09"])


def test_no_hosts() -> None:
    result = run_fleet([], failing())
    assert result.ok
    assert result.summary() == "0 hosts: nothing to do"


@pytest.mark.parametrize("kind", [ZeroDivisionError, AssertionError, SystemExit, StopIteration])
def test_a_defect_is_a_fault_for_its_host_and_the_others_go_on(kind: type[BaseException]) -> None:
    def work(host: InventoryHost) -> str:
        if host.name == "hv02":
            raise kind("oops")
        return host.name

    result = run_fleet(hosts(3), work, on_failure="continue")
    assert [each.status for each in result.outcomes] == [Status.DONE, Status.FAILED, Status.DONE]
    error = result.outcomes[1].error
    assert isinstance(error, Fault)
    assert f"hv02: this is a fault of vswitch: {kind.__name__}: oops" in str(error)
    assert error.as_dict()["host"] == "hv02"
    assert isinstance(error.__cause__, kind)
    assert result.exit_status == 70


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.EMFILE, "Too many open files"), "open files"),
        (OSError(errno.ENFILE, "Too many open files in system"), "open files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (RuntimeError("can't start new thread"), "processes"),
    ],
)
def test_what_this_machine_has_run_out_of_is_no_defect(error: Exception, what: str) -> None:
    def work(_: InventoryHost) -> None:
        raise ValueError("made from it") from error

    result = run_fleet(hosts(1), work)
    found = result.outcomes[0].error
    assert isinstance(found, OutOfResources)
    assert f"run out of {what}" in found.message
    assert result.exit_status == 3


def test_a_thread_that_cannot_be_started_is_one_host_s_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    started = 0
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        nonlocal started
        started += thread.name.startswith("hv")
        if started == 3 and thread.name == "hv03":
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    result = run_fleet(hosts(4), failing(), limit=2, on_failure="continue")
    assert [each.host.name for each in result.with_status(Status.FAILED)] == ["hv03"]
    assert len(result.with_status(Status.DONE)) == 3
    assert result.exit_status == 3


def test_the_exit_status_is_that_of_the_worst() -> None:
    assert run_fleet(hosts(2), failing()).exit_status == 0
    assert run_fleet(hosts(2), failing("hv02")).exit_status == 2
    worst = {"hv01": HostError("no", host="hv01"), "hv02": MemoryError(), "hv03": KeyError("x")}

    def work(host: InventoryHost) -> None:
        raise worst[host.name]

    assert run_fleet(hosts(2), work, on_failure="continue").exit_status == 3
    assert run_fleet(hosts(3), work, on_failure="continue").exit_status == 70


def test_progress_counts_every_host() -> None:
    seen: list[Progress] = []
    run_fleet(hosts(10), failing("hv04"), limit=3, on_failure="continue", progress=seen.append)
    for moment in seen:
        assert moment.done + moment.failed + moment.waiting + len(moment.running) == moment.total == 10
        assert len(moment.running) <= 3
    assert (seen[-1].done, seen[-1].failed, seen[-1].waiting) == (9, 1, 0)


def test_an_interrupt_waits_for_nobody() -> None:
    ended = threading.Event()

    def work(host: InventoryHost) -> str:
        if host.name != "hv01":
            ended.wait(60)
        return host.name

    def interrupt(now: Progress) -> None:
        if now.done and len(now.running) == 2:
            raise KeyboardInterrupt

    result = run_fleet(hosts(40), work, limit=2, progress=interrupt)
    ended.set()
    assert result.interrupted
    assert [each.host.name for each in result.with_status(Status.DONE)] == ["hv01"]
    assert [each.host.name for each in result.with_status(Status.AT_WORK)] == ["hv02", "hv03"]
    assert len(result.with_status(Status.NOT_STARTED)) == 37
    assert "  hv02, hv03: still at work: interrupted" in result.summary()


def _with(user: str, *names: str) -> list[InventoryHost]:
    return [
        InventoryHost(
            name, HostConnection(name=name, address=name, authentication=Authentication.NTLM, username=user)
        )
        for name in names
    ]


def _refuses(*users: str, away: Sequence[str] = ()) -> tuple[list[str], Callable[[InventoryHost], str]]:
    """Work that asks hosts with a password; hosts that are `away` are never told it."""
    told: list[str] = []

    def work(host: InventoryHost) -> str:
        if host.name in away:
            raise WinrmError("does not answer", host=host.name, cause=HostCause.UNREACHABLE)
        told.append(host.name)
        if host.connection.username in users:
            raise WinrmError("wrong password", host=host.name, cause=HostCause.CREDENTIALS)
        return "yes"

    return told, work


def test_a_wrong_password_is_tried_on_one_host_only() -> None:
    told, work = _refuses("typo")
    fleet = [*_with("typo", *(f"a{n}" for n in range(16))), *_with("right", "b1", "b2")]
    result = run_fleet(fleet, work, on_failure="continue")
    assert sorted(told) == ["a0", "b1", "b2"]
    assert len(result.with_status(Status.NOT_STARTED)) == 15
    assert not result.ok


def test_a_host_that_is_away_says_nothing_about_the_password() -> None:
    names = [f"a{n}" for n in range(16)]
    told, work = _refuses("typo", away=names[:1])
    run_fleet(_with("typo", *names), work, on_failure="continue")
    assert told == ["a1"] or sorted(told) == ["a1", "a2"]
    told, work = _refuses(away=names[:5])
    result = run_fleet(_with("right", *names), work, on_failure="continue")
    assert len(result.with_status(Status.DONE)) == 11


def test_an_account_that_was_accepted_needs_no_care() -> None:
    proven: set[tuple[str, str]] = set()
    run_fleet(_with("me", "a1"), _refuses()[1], proven=proven)
    gate = threading.Barrier(2)
    assert run_fleet(_with("me", "a1", "a2"), lambda _: gate.wait(10), proven=proven).ok


def test_a_summary_fits_a_screen() -> None:
    def work(host: InventoryHost) -> str:
        number = int(host.name[2:])
        if number % 3 == 0:
            raise HostError("the same for all of them", host=host.name)
        if number % 3 == 1:
            raise HostError(f"something {'long ' * 40}{number}", host=host.name)
        return "3 added"

    result = run_fleet(hosts(90), work, on_failure="continue")
    text = result.summary(lambda value: value)
    lines = text.splitlines()
    assert lines[0] == "90 hosts: 30 done, 60 failed"
    assert len(lines) <= 20
    assert f"something {'long ' * 40}" in text
    assert "... (30 in all): the same for all of them" in text
    short = run_fleet(hosts(3), failing("hv02"), limit=1).summary()
    assert short.splitlines() == [
        "3 hosts: 1 done, 1 failed, 1 not started",
        "  hv02: no",
        "  hv03: not started: hv02 failed",
    ]


def test_fifty_hosts_sixteen_at_a_time() -> None:
    recorder = Recorder()

    def slow(stdin: bytes) -> ShellOutput:
        time.sleep(0.05)
        return recorder(stdin)

    with WinrmEndpoint(slow) as endpoint:

        def work(host: InventoryHost) -> object:
            transport = transport_to(endpoint, name=host.name)
            document: dict[str, Any] = transport.run(ScriptRequest("export", {"host": host.name}))
            found: object = document["result"]["asked"]["arguments"]
            return found

        result = run_fleet(hosts(50), work)
        assert endpoint.peak_connections <= 16
        assert endpoint.total_connections == 50
        assert not endpoint.shells
    assert [outcome.value for outcome in result.outcomes] == [{"host": f"hv{n:02}"} for n in range(1, 51)]
