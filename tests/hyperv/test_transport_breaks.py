"""Connections that break at any message: nothing is executed twice, and the caller knows where it stands."""

from __future__ import annotations

import time

import pytest

from tests.support.winrm.endpoint import Hang, HostDied, Limits, ShellFault, ShellOutput, WinrmEndpoint
from tests.support.winrm.runs import Recorder, transport_to
from vswitch.hyperv.winrm import transport
from vswitch.hyperv.winrm.transport import CHUNK, ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause, OutcomeUnknown, WinrmError

BREAKS = ("before", "after", "quiet", "half")
APPLY = ScriptRequest("apply", {"plan": {"steps": []}})
EXPORT = ScriptRequest("export")
TWO_PIECES = b"#" * (CHUNK + 1000)


def run(method: str, fault: ShellFault, request: ScriptRequest) -> tuple[object, Recorder, WinrmEndpoint]:
    """A run over two Sends and two Receives with one fault."""
    recorder = Recorder(reply_size=40_000)
    outcome: object
    with WinrmEndpoint(recorder, methods=[method], faults=[fault]) as endpoint:
        try:
            outcome = transport_to(endpoint, method=method, module=TWO_PIECES).run(request)
        except WinrmError as error:
            outcome = error
    assert not endpoint.defects
    return outcome, recorder, endpoint


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("number", range(1, 8))
def test_a_break_at_any_message_never_executes_twice(number: int, kind: str) -> None:
    outcome, recorder, endpoint = run("ntlm", ShellFault("*", kind, nth=number), APPLY)
    assert len(recorder.requests) <= 1
    if isinstance(outcome, dict):
        assert len(recorder.requests) == 1
        assert outcome["result"]["fill"] == "x" * 40_000
    else:
        # Only a lost piece of the answer leaves the outcome open, and then the script has ended.
        assert isinstance(outcome, OutcomeUnknown)
        assert endpoint.log[number - 1] == "Receive"
        assert kind in ("after", "half")
        assert not outcome.may_still_run
        assert outcome.cause is HostCause.BROKEN
    # A shell whose Create was answered into a broken connection cannot be closed by anybody.
    orphans = 1 if endpoint.log[number - 1] == "Create" and kind in ("after", "half") else 0
    assert len(endpoint.shells) == orphans


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("message", ["Create", "Command", "Send", "Receive", "Delete"])
def test_a_reading_operation_survives_any_single_break(message: str, kind: str) -> None:
    outcome, recorder, _ = run("ntlm", ShellFault(message, kind), EXPORT)
    assert isinstance(outcome, dict)
    assert outcome["result"]["asked"]["operation"] == "export"
    assert len(recorder.requests) <= 2


@pytest.mark.parametrize("kind", BREAKS)
def test_credssp_and_a_break_of_the_last_input(kind: str) -> None:
    outcome, recorder, _ = run("credssp", ShellFault("Send", kind, nth=2), APPLY)
    assert isinstance(outcome, dict)
    assert len(recorder.requests) == 1


def test_a_host_that_breaks_every_connection_is_given_up() -> None:
    faults = [ShellFault("Create", "before", nth=number) for number in (1, 2, 3)]
    with WinrmEndpoint(Recorder(), faults=faults) as endpoint, pytest.raises(WinrmError) as caught:
        transport_to(endpoint).run(APPLY)
    assert caught.value.cause is HostCause.BROKEN
    assert endpoint.log == ["Create", "Create"]


def test_a_host_that_dies_in_the_middle_leaves_the_outcome_open() -> None:
    def die(_: bytes) -> ShellOutput:
        raise HostDied

    with WinrmEndpoint(die) as endpoint, pytest.raises(OutcomeUnknown) as caught:
        transport_to(endpoint).run(APPLY)
    assert caught.value.may_still_run
    assert "hv01" in str(caught.value)
    assert "read the host again" in caught.value.hint


def test_a_host_that_dies_and_restarts_has_no_shell_of_ours() -> None:
    endpoint: WinrmEndpoint

    def restart(_: bytes) -> ShellOutput:
        endpoint.revive()
        with endpoint.lock:
            endpoint.shells.clear()
        raise Hang

    with WinrmEndpoint(restart, limits=Limits(operation_seconds=0.1)) as endpoint:
        with pytest.raises(OutcomeUnknown) as caught:
            transport_to(endpoint).run(APPLY)
        assert not caught.value.may_still_run
        assert caught.value.cause is HostCause.BROKEN


def test_a_hanging_operation_ends_at_the_time_limit_and_is_stopped() -> None:
    def hang(_: bytes) -> ShellOutput:
        raise Hang

    with WinrmEndpoint(hang) as endpoint:
        with pytest.raises(OutcomeUnknown) as caught:
            transport_to(endpoint).run(APPLY, timeout=1.5)
        assert endpoint.log[-2:] == ["Signal", "Delete"]
        assert not endpoint.shells
    assert caught.value.cause is HostCause.TIMEOUT
    assert not caught.value.may_still_run
    assert "1.5 seconds" in caught.value.message


def test_a_hanging_reading_operation_is_an_ordinary_timeout() -> None:
    def hang(_: bytes) -> ShellOutput:
        raise Hang

    with WinrmEndpoint(hang) as endpoint, pytest.raises(WinrmError) as caught:
        transport_to(endpoint).run(EXPORT, timeout=1.2)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.cause is HostCause.TIMEOUT


def test_a_host_that_stops_answering_http_ends_at_the_time_limit() -> None:
    with (
        WinrmEndpoint(Recorder(), faults=[ShellFault("Command", "delay", seconds=8)]) as endpoint,
        pytest.raises(WinrmError) as caught,
    ):
        transport_to(endpoint).run(APPLY, timeout=1)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.cause is HostCause.TIMEOUT


def test_operation_timeouts_while_receiving_are_waited_out() -> None:
    def slow(stdin: bytes) -> ShellOutput:
        while endpoint.count("Receive") < 4:
            time.sleep(0.01)
        return Recorder()(stdin)

    with WinrmEndpoint(slow, limits=Limits(operation_seconds=0.05)) as endpoint:
        document = transport_to(endpoint).run(APPLY)
        assert endpoint.count("Receive") >= 4
    assert document["ok"]


def test_a_process_that_ends_before_the_operation_has_changed_nothing() -> None:
    ended = ShellOutput(stderr=b"Cannot invoke method in this language mode.", exit_code=1)
    with WinrmEndpoint(Recorder(), program_ends=ended) as endpoint, pytest.raises(WinrmError) as caught:
        transport_to(endpoint).run(APPLY)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.cause is HostCause.SCRIPT
    assert "constrained language mode" in caught.value.message


def test_a_process_that_ends_within_the_operation_leaves_the_outcome_open() -> None:
    def crash(_: bytes) -> ShellOutput:
        return ShellOutput(stderr=b"out of memory", exit_code=3)

    with WinrmEndpoint(crash) as endpoint, pytest.raises(OutcomeUnknown) as caught:
        transport_to(endpoint).run(APPLY)
    assert not caught.value.may_still_run
    assert "status 3" in caught.value.message
    assert "out of memory" in caught.value.message


def test_an_interrupted_run_closes_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transport._Run, "_receive", interrupt)
    with WinrmEndpoint(Recorder()) as endpoint:
        with pytest.raises(KeyboardInterrupt):
            transport_to(endpoint).run(APPLY)
        assert not endpoint.shells
        assert endpoint.log[-1] == "Delete"
