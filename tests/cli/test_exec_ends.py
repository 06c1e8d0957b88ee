"""How commands in guests end: by themselves, after their time, and with whoever asked for them."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command_line import Run
from tests.support.hanging import ended, start
from tests.support.running_lab import RunningLab, wait_until
from vswitch.lab.process import client, lab_operations

pytestmark = pytest.mark.lab

STUBBORN = (
    "import signal, time; signal.signal(signal.{}, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
)
FORMS = pytest.mark.parametrize("form", [(), ("-o", "json")], ids=["text", "json"])


@pytest.fixture(autouse=True)
def _lab_chosen(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWITCH_LAB", lab.name)


@pytest.fixture
def mark() -> str:
    """An argument by which a process of a test is known."""
    return f"mark-{uuid.uuid4().hex}"


def running(mark: str) -> int:
    """How many processes have `mark` as an argument, without those that start and watch them."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            found += mark.encode() in words and b"exec" not in words and b"enter" not in words
    return found


@FORMS
def test_a_commands_own_124_is_no_timeout(run: Run, form: tuple[str, ...]) -> None:
    ran = run("exec", *form, "--timeout", "30", "web01", "--", "sh", "-c", "exit 124")
    assert (ran.status, "did not end" in ran.out + ran.err) == (124, False)


@FORMS
def test_a_command_that_ignores_its_end_is_ended_for_time(run: Run, form: tuple[str, ...], mark: str) -> None:
    script = (sys.executable, "-c", STUBBORN.format("SIGTERM"), mark)
    ran = run("exec", *form, "--timeout", "0.5", "web01", "--", *script)
    assert (ran.status, "in web01 did not end within 0.5 s" in ran.out + ran.err) == (1, True)
    wait_until(lambda: not running(mark), "it has ended")


@FORMS
def test_what_a_late_command_has_started_is_ended_too(run: Run, form: tuple[str, ...], mark: str) -> None:
    child = f"{sys.executable} -c 'import time; time.sleep(600)' {mark}; true"
    assert run("exec", *form, "--timeout", "1", "web01", "--", "sh", "-c", child).status == 1
    wait_until(lambda: not running(mark), "it has ended")


@FORMS
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_with_whoever_asked(form: tuple[str, ...], number: signal.Signals, mark: str) -> None:
    ignored = "SIGHUP" if number is signal.SIGKILL else "SIGUSR2"
    process = start("exec", *form, "web01", "--", sys.executable, "-c", STUBBORN.format(ignored), mark)
    wait_until(lambda: running(mark) == 1, "it runs", 60)
    process.send_signal(number)
    status, _ = ended(process, 20)
    assert status in (-number, 128 + number)
    wait_until(lambda: not running(mark), "it has ended")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_exec_passes_signals_on(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    name = number.name.removeprefix("SIG")
    script = f"trap 'sleep 0.3; echo caught; exit 7' {name}; touch {ready}; while :; do sleep 0.05; done"
    process = start("exec", "web01", "--", "sh", "-c", script)
    wait_until(ready.exists, "the command runs", 60)
    process.send_signal(number)
    assert ended(process, 20) == (7, "caught\n")


def test_a_command_survives_a_hang_up_that_is_ignored(tmp_path: Path) -> None:
    """As `nohup vswitch exec` has it."""
    ready, go = tmp_path / "ready", tmp_path / "go"
    script = f"touch {ready}; while [ ! -e {go} ]; do sleep 0.05; done; exit 5"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("exec", "web01", "--", "sh", "-c", script)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(ready.exists, "the command runs", 60)
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.3)
    go.touch()
    assert ended(process, 20)[0] == 5


def test_what_prints_without_end_is_ended(run: Run, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_PRINTED", 3 << 20)
    endless = "import os\nwhile True: os.write({}, bytes(65536))"
    for stream in (1, 2):
        words = ("exec", "-o", "json", "web01", "--", sys.executable, "-c", endless.format(stream), mark)
        ran = run(*words)
        assert ran.status == 1
        assert "in web01 has printed more than 3 MiB, and was ended" in ran.json["message"]
        wait_until(lambda: not running(mark), "it has ended")


def test_of_a_long_log_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("wb+") as file:
        monkeypatch.setattr(lab_operations, "_LOG_FILE", file.fileno())
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe end\n")
        file.flush()
        said = lab_operations.log(None)  # type: ignore[arg-type]
        assert len(said) < 9 << 20
        assert said.startswith("the first 10995")
        assert said.endswith("\nthe end\n")
        file.truncate(100)
        assert lab_operations.log(None) == "\0" * 100  # type: ignore[arg-type]
