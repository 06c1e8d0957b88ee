"""`shell`, `ps` and `down` as somebody at a terminal meets them: where one is, which lab it is."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT, POLICY, Run
from tests.support.running_lab import PATIENCE, RunningLab, running_lab, wait_until
from tests.support.shown_answers import STATUS
from vswitch.cli import labs
from vswitch.lab.process import client
from vswitch.lab.shells import shell_command

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-c", "from vswitch.cli.main import main; main()"]


class Terminal:
    """`vswitch` at a terminal of its own."""

    def __init__(self, *words: str, cwd: Path, **environment: str) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(PROGRAM[0], [*PROGRAM, *words], {**os.environ, "PYTHONPATH": str(ROOT), **environment})
        self.said = ""

    def hear(self, pattern: str) -> str:
        """Wait until something new matches; all that was said up to it."""
        end = time.monotonic() + PATIENCE * 2
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < end, f"{pattern!r} is not in {self.said!r}"
            if select.select([self.descriptor], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self.descriptor, 4096).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it ended after {self.said!r}") from None
        heard, self.said = self.said[: found.end()], self.said[found.end() :]
        return heard

    def say(self, words: str) -> None:
        os.write(self.descriptor, words.encode())

    def end(self) -> int:
        """Wait for the end; the exit status."""
        ended: list[int] = []

        def has_ended() -> bool:
            if select.select([self.descriptor], [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    self.said += os.read(self.descriptor, 4096).decode(errors="replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            ended.extend([status] * (pid != 0))
            return pid != 0

        wait_until(has_ended, "vswitch has ended")
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(ended[0])


@pytest.fixture
def elsewhere(lab: RunningLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Only one lab runs, as far as the command line knows, and it was started in another folder."""
    monkeypatch.delenv("VSWITCH_LAB", raising=False)
    monkeypatch.setattr(client, "running", lambda: [lab.name])
    monkeypatch.chdir(tmp_path)
    return lab.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "sh"])
def test_a_shell_says_where_one_is_and_reads_the_users_files(
    lab: RunningLab, tmp_path: Path, shell: str
) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / ".bashrc").write_text("PS1='mine> '\nanswer() { echo 4$1; }\n")
    (tmp_path / ".zshrc").write_text("PROMPT='mine> '\nanswer() { echo 4$1; }\n")
    (tmp_path / "shrc").write_text("PS1='mine> '\nanswer() { echo 4$1; }\n")
    home = {"HOME": str(tmp_path), "ENV": str(tmp_path / "shrc"), "SHELL": path, "TERM": "dumb"}
    terminal = Terminal("shell", "--lab", lab.name, "web01", cwd=tmp_path, **home)
    terminal.hear(r"\(web01\) mine> ")
    terminal.say("answer 2; hostname\r")
    terminal.hear(r"\n42\r\nweb01\r\n")
    terminal.hear(r"\(web01\) mine> ")
    terminal.say("sleep 60\r")
    time.sleep(0.5)
    terminal.say("\x03")  # ends sleep, and not the shell
    terminal.hear(r"\(web01\) mine> ")
    terminal.say("exit 5\r")
    assert terminal.end() == 5


@pytest.mark.requires("fish")
def test_fish_says_where_one_is() -> None:
    os.environ["SHELL"], before = "/usr/bin/fish", os.environ.get("SHELL", "")
    try:
        command = shell_command("web01")
    finally:
        os.environ["SHELL"] = before
    assert command[:2] == ["env", "VSWITCH_PROMPT=(web01) "]
    assert command[2].endswith("/fish")


@pytest.mark.parametrize("guest", ["$(reboot)", "`reboot`", "a\\nb", "%n", "a b"])
def test_a_guests_name_is_no_program_for_the_prompt(guest: str) -> None:
    (prompt,) = (word for word in shell_command(guest) if word.startswith("VSWITCH_PROMPT="))
    assert not set("$`\\%!") & set(prompt)


def test_ps_says_how_old_a_lab_is_and_where_it_was_started(run: Run, lab: RunningLab) -> None:
    (entry,) = run("ps", "--lab", lab.name, "-o", "json").json
    age = datetime.now(UTC) - datetime.fromisoformat(entry["since"])
    assert timedelta(seconds=-2) < age < timedelta(hours=1)
    assert entry["folder"]
    first = run("ps", "--lab", lab.name).out.splitlines()[0]
    assert re.search(r"up \d+ (second|minute)s?", first)
    assert entry["folder"] in first


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7300, "2 hours"), (90000, "1 day")],
)
def test_ages_are_in_one_unit(seconds: int, said: str) -> None:
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    assert labs._since(replace(STATUS, since=began.isoformat())) == f"up {said}"


def test_down_without_a_name_asks_nobody_where_nobody_can_answer(run: Run, elsewhere: str) -> None:
    for words in (("down",), ("down", "-o", "json")):
        ran = run(*words)
        assert ran.status == 2
        assert elsewhere in ran.out + ran.err
        assert "another folder" in ran.out + ran.err
        assert f"vswitch down {elsewhere}" in ran.out + ran.err
    assert client.call(elsewhere, "ping") == "pong"


def test_down_asks_at_a_terminal_and_takes_no_for_an_answer(tmp_path: Path) -> None:
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    (tmp_path / "policy.yaml").write_text(POLICY)
    other = tmp_path / "other"
    other.mkdir()
    name = f"asked-{uuid.uuid4().hex[:8]}"
    up = Terminal("up", "layout.yaml", "-n", name, cwd=tmp_path, VSWITCH_LAB="")
    try:
        assert up.end() == 0
        # Other tests' labs run as well: this program sees but the one.
        only = f"from vswitch.lab.process import client; client.running = lambda: [{name!r}]; "
        PROGRAM[2], whole = only + PROGRAM[2], PROGRAM[2]
        try:
            for answer, status in (("n", 1), ("y", 0)):
                terminal = Terminal("down", cwd=other)
                asked = terminal.hear(r"Take it down\? \[y/N\]: ")
                assert name in asked
                assert str(tmp_path) in asked.replace("\r\n", "")
                terminal.say(f"{answer}\r")
                assert terminal.end() == status
                assert (name in client.running()) is (answer == "n")
        finally:
            PROGRAM[2] = whole
    finally:
        if name in client.running():
            client.down(name)


def test_down_in_the_labs_own_folder_does_not_ask(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VSWITCH_LAB", raising=False)
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    name = f"own-{uuid.uuid4().hex[:8]}"
    assert run("up", "layout.yaml", "-n", name).status == 0
    monkeypatch.setattr(client, "running", lambda: [name])
    ran = run("down")
    assert ran.status == 0
    assert re.fullmatch(rf"down: {name}, up \d+ (second|minute)s?\n", ran.out)


@pytest.mark.parametrize("output", [(), ("-o", "json")], ids=["text", "json"])
def test_what_ends_with_its_lab_says_so(tmp_path: Path, output: tuple[str, ...]) -> None:
    mark = f"1000.{uuid.uuid4().int % 10**8}"
    with running_lab(LAYOUT) as lab:
        words = [*PROGRAM, "exec", "--lab", lab.name, *output, "web01", "--"]
        killed = subprocess.run(
            [*words, "sh", "-c", "kill -9 $$"], capture_output=True, check=False, timeout=60
        )
        assert (killed.returncode, killed.stderr) == (137, b"")
        process = subprocess.Popen(
            [*words, "sleep", mark], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_until(lambda: mark in lab.inside("ps", "ax"), "it runs")
        client.down(lab.name)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"the lab {lab.name!r} has ended" in said
