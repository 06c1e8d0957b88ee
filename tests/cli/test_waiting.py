"""Waiting for a lab has an end, and one Ctrl-C ends it before: real processes, real signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT, POLICY, Run
from tests.support.hanging import ROOT, command, ended, full_backlog, hung, is_asking, start, supervisor_of
from tests.support.running_lab import RunningLab, running_lab, wait_until
from vswitch.errors import InputError
from vswitch.lab.process import client, finding
from vswitch.patience import Patience

pytestmark = pytest.mark.lab

# Each of these waits for the lab to say something.
ASKING = [
    ("ps",),
    ("probe", "web02", "web01", "http"),
    ("explain", "web02", "web01", "http"),
    ("apply", "policy.yaml"),
    ("flows",),
    ("counters",),
    ("mac-table",),
    ("log",),
    ("exec", "web01", "--", "true"),
    ("exec", "--timeout", "60", "web01", "--", "true"),
    ("exec", "-o", "json", "web01", "--", "true"),
    ("shell", "web01"),
]
SOON = 10.0  # seconds: a loaded machine's one, and far from the 30 that a silent lab is waited for


@pytest.fixture(autouse=True)
def _lab_chosen(lab: RunningLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VSWITCH_LAB", lab.name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "layout.yaml").write_text(
        LAYOUT
        + "policies: [policy.yaml]\nexpect: [{from: web02, to: web01, traffic: http, verdict: Allow}]\n"
    )


def _named(words: tuple[str, ...], lab: RunningLab) -> list[str]:
    """`ps` alone would ask every lab of this machine."""
    return [*words, "--lab", lab.name] if words == ("ps",) else list(words)


def test_each_command_gives_a_hung_lab_up(run: Run, lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWITCH_SILENCE_TIMEOUT", "0.2")
    with hung(lab.name):
        for words in ASKING:
            ran = run(*_named(words, lab))
            said = ran.out + ran.err
            # Of an apply it is not known then what came of it.
            assert ran.status == (3 if words[0] == "apply" else 1), said
            assert "has said nothing for 0.2 s" in said, (words, said)
            assert "VSWITCH_SILENCE_TIMEOUT" in said, (words, said)
            assert f"vswitch down {lab.name}" in said, (words, said)
    assert lab.call("ping") == "pong"


def test_one_ctrl_c_ends_each_command_that_waits_for_a_hung_lab(lab: RunningLab) -> None:
    with hung(lab.name):
        asking = [start(*_named(words, lab)) for words in ASKING]
        wait_until(lambda: all(map(is_asking, asking)), "they ask", 60)
        for process in asking:
            process.send_signal(signal.SIGINT)
        done = [ended(process, SOON) for process in asking]
    assert {status for status, _ in done} == {130}, done
    assert lab.call("ping") == "pong"


def test_one_ctrl_c_ends_a_question_at_work(lab: RunningLab) -> None:
    asking = start("probe", "web02", "web01", "tcp/445", "--timeout", "60")
    wait_until(lambda: is_asking(asking), "it asks", 60)
    asking.send_signal(signal.SIGINT)
    assert ended(asking, SOON)[0] == 130
    assert lab.call("ping") == "pong"


@pytest.mark.parametrize("words", [(), ("-o", "json")], ids=["text", "json"])
def test_exec_passes_ctrl_c_on(words: tuple[str, ...], tmp_path: Path) -> None:
    """Sent to `vswitch` alone, as `kill -INT` does; what follows is for the command to decide."""
    ready = tmp_path / "ready"
    script = f"trap 'sleep 0.3; echo caught; exit 7' INT; touch {ready}; while :; do sleep 0.05; done"
    process = start("exec", *words, "web01", "--", "sh", "-c", script)
    wait_until(ready.exists, "the command runs", 60)
    process.send_signal(signal.SIGINT)
    status, said = ended(process, SOON)
    assert (status, json.loads(said)["stdout"] if words else said) == (7, "caught\n")


def test_ctrl_c_at_a_terminal_leaves_a_command_its_last_words() -> None:
    """The terminal sends it to all in the foreground; nsenter must not end before its command does."""
    script = (
        "import signal, sys, time\n"
        "def last(*_):\n"
        "    time.sleep(0.5); print('last', 'words', flush=True); sys.exit(7)\n"
        "signal.signal(signal.SIGINT, last); print('rea' + 'dy', flush=True); time.sleep(60)"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(ROOT)
        words = command("exec", "web01", "--", sys.executable, "-c", script)
        os.execv(words[0], words)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    with suppress(OSError):  # as a terminal says that nobody is there any more
        while data := os.read(terminal, 1000):
            shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert shown.count(b"last words") == 1
    os.close(terminal)


def test_exec_does_not_wait_for_what_its_command_leaves_behind(tmp_path: Path) -> None:
    script = f"(sleep 60; :) & echo $! >{tmp_path}/pid; echo out; echo err >&2; exit 3"
    status, said = ended(start("exec", "-o", "json", "web01", "--", "sh", "-c", script), 20)
    data = json.loads(said)
    assert (status, data["stdout"], data["stderr"]) == (3, "out\n", "err\n")
    many = "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 3_000_000)"
    _, said = ended(start("exec", "-o", "json", "web01", "--", sys.executable, "-c", many), 20)
    data = json.loads(said)
    assert (len(data["stdout"]), len(data["stderr"])) == (3_000_000, 3_000_000)
    left = (tmp_path / "pid").read_text().strip()
    ended(start("exec", "web01", "--", "sh", "-c", f"pkill -P {left}; kill {left}"), 20)


def test_a_lab_whose_backlog_is_full_is_seen_and_taken_down() -> None:
    """64 who gave up fill the queue of a hung lab; connecting to it would block for ever."""
    with running_lab(LAYOUT) as lab, hung(lab.name), full_backlog(lab.name) as waiting:
        assert waiting > 60
        assert lab.name in client.running()
        gone = start("ps", "--lab", lab.name, environment={"VSWITCH_CONNECT_TIMEOUT": "0.5"})
        status, said = ended(gone, 20)
        assert (status, "has taken no request for 0.5 s" in said) == (1, True), said
        given_up = start("down", lab.name)
        with pytest.raises(subprocess.TimeoutExpired):  # it has 5 s to be taken in
            given_up.wait(2)
        given_up.send_signal(signal.SIGINT)
        assert ended(given_up, SOON)[0] == 130
        down = ended(start("down", lab.name), 60)
        assert down == (0, f"down: {lab.name}\n")
        assert lab.name not in client.running()


@pytest.mark.parametrize(
    "words", [("up", "layout.yaml", "--name"), ("test", "layout.yaml")], ids=["up", "test"]
)
@pytest.mark.parametrize("hangs", [False, True], ids=["at work", "hung"])
def test_one_ctrl_c_ends_what_starts_a_lab_and_leaves_nothing(words: tuple[str, ...], hangs: bool) -> None:
    layout = f"ctrl-c-{uuid.uuid4().hex[:8]}"
    Path("layout.yaml").write_text(Path("layout.yaml").read_text().replace("name: office", f"name: {layout}"))
    process = start(*words, *([layout] if words[0] == "up" else []))
    name = layout if words[0] == "up" else f"{layout}.test.{process.pid}"
    wait_until(lambda: supervisor_of(name) is not None, "its supervisor runs", 60)
    stack = ExitStack()
    with stack:
        if hangs:
            stack.enter_context(hung(name))
        process.send_signal(signal.SIGINT)
        assert ended(process, SOON)[0] == 130
    wait_until(lambda: not finding.sockets(name), "its lab has gone")


def test_ctrl_c_while_test_proves_leaves_nothing() -> None:
    layout = f"ctrl-c-{uuid.uuid4().hex[:8]}"
    text = Path("layout.yaml").read_text().replace("name: office", f"name: {layout}")
    deny = "{from: web02, to: web01, traffic: tcp/445, verdict: Deny}"
    Path("layout.yaml").write_text(text.replace("verdict: Allow}", f"verdict: Allow}}, {deny}"))
    process = start("test", "layout.yaml")
    name = f"{layout}.test.{process.pid}"
    wait_until(lambda: name in client.running(), "its lab is there", 60)
    client.call(name, "ping")  # waits until it is up
    with hung(name):
        process.send_signal(signal.SIGINT)
        assert ended(process, SOON)[0] == 130
    wait_until(lambda: not finding.sockets(name), "its lab has gone")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "1e300"])
def test_what_is_no_time_to_wait_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="VSWITCH_TIMEOUT") as caught:
        Patience.from_environment({"VSWITCH_TIMEOUT": text})
    assert "unset VSWITCH_TIMEOUT" in caught.value.hint


def test_the_user_sets_how_long_to_wait() -> None:
    assert Patience.from_environment({}) == Patience(10, 30, 300)
    variables = {"VSWITCH_CONNECT_TIMEOUT": "1", "VSWITCH_SILENCE_TIMEOUT": "2.5", "VSWITCH_TIMEOUT": "3"}
    assert Patience.from_environment(variables) == Patience(1, 2.5, 3)


def test_a_wrong_time_to_wait_is_said_before_anything_is_done(lab: RunningLab) -> None:
    for words in (("log",), ("up", "layout.yaml", "--name", f"never-{os.getpid()}")):
        status, said = ended(start(*words, environment={"VSWITCH_TIMEOUT": "soon"}), 20)
        assert (status, "VSWITCH_TIMEOUT=soon" in said) == (2, True), said
    assert lab.call("ping") == "pong"
