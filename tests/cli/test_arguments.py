"""Arguments and folders as scripts hand them over by mistake: refused in a sentence, and nothing is done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT, Run
from tests.support.hanging import ROOT, command
from tests.support.running_lab import RunningLab
from vswitch.errors import InputError
from vswitch.lab.process import client

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def down(lab: RunningLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What would have been taken down. Only one lab runs, as far as the command line knows."""
    asked: list[str] = []
    monkeypatch.delenv("VSWITCH_LAB", raising=False)
    monkeypatch.setattr(client, "running", lambda: [lab.name])
    monkeypatch.setattr(client, "down", asked.append)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    return asked


@pytest.mark.parametrize(
    "words",
    [
        ("down", ""), ("down", "--lab", ""), ("down", "--lab="), ("down", "-l", "", "--yes"),
        ("--lab", "", "down"), ("", "down"), ("ps", "--lab", ""), ("up", "layout.yaml", "--name", ""),
        ("flows", "--switch="), ("hyperv", "rollback", "inventory.yaml", "--to", ""),
        ("exec", "", "--", "true"),
    ],
)  # fmt: skip
def test_an_empty_argument_is_a_mistake(run: Run, words: tuple[str, ...], down: list[str]) -> None:
    ran = run(*words)
    assert (ran.status, ran.out, down) == (2, "", [])
    assert "empty" in ran.err
    assert run("-o", "json", *words).json["error"] == "InputError"


def test_a_command_in_a_guest_may_have_empty_arguments(run: Run) -> None:
    ran = run("exec", "web01", "--", "printf", "%s|", "", "a=", "--b=")
    assert (ran.status, ran.out) == (0, "|a=|--b=|")


def test_a_lab_named_by_the_environment_is_asked_about(
    run: Run, lab: RunningLab, down: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWITCH_LAB", lab.name)
    ran = run("down")
    assert (ran.status, down) == (2, [])
    assert "was started in another folder" in ran.err
    assert run("down", "--lab", lab.name).status == 0
    assert run("--lab", lab.name, "down").status == 0
    assert run("down", lab.name).status == 0
    assert down == [lab.name] * 3


def vswitch(*words: str | bytes, environment: Mapping[bytes, bytes] | None = None) -> tuple[int, str]:
    """Status and words of `vswitch`, from a folder that has been deleted if DELETED is in the environment."""
    remove = 'if [ -n "$DELETED" ]; then mkdir gone && cd gone && rmdir ../gone; fi; exec "$@"'
    variables = {**os.environb, b"PYTHONPATH": os.fsencode(ROOT), **(environment or {})}
    done = subprocess.run(
        ["sh", "-c", remove, "sh", *command(), *words], capture_output=True, check=False, timeout=60,
        stdin=subprocess.DEVNULL, env=variables,
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode()
    assert "Traceback" not in said
    return done.returncode, said


@pytest.mark.parametrize(
    "words",
    [
        (b"-l", b"\xff", b"ps"), (b"down", b"\xff"), (b"up", b"layout.yaml", b"--name", b"\xff"),
        (b"validate", b"\xff.yaml"), (b"exec", b"\xff", b"--", b"true"),
    ],
)  # fmt: skip
def test_an_argument_that_is_not_text_is_a_mistake(words: tuple[bytes, ...]) -> None:
    status, said = vswitch(*words)
    assert (status, "is not UTF-8 text: '" in said) == (2, True), said


def test_a_command_in_a_guest_may_have_arguments_that_are_not_text(lab: RunningLab) -> None:
    status, said = vswitch(
        "exec", "--lab", lab.name, "web01", "--", "sh", "-c", 'printf %s "$1" | wc -c', b"", b"\xff"
    )
    assert (status, said.split()) == (0, ["1"]), said


def test_a_lab_in_the_environment_that_is_not_text_does_not_run() -> None:
    status, said = vswitch("flows", environment={b"VSWITCH_LAB": b"\xff"})
    assert (status, "runs" in said) == (2, True), said


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "web01", "--", "true"), ("exec", "-o", "json", "web01", "--", "true"), ("shell", "web01"),
        ("down",), ("up", "{}/layout.yaml", "--name", "nowhere"),
    ],
)  # fmt: skip
def test_a_folder_that_is_gone_is_said_to_be(words: tuple[str, ...], lab: RunningLab, tmp_path: Path) -> None:
    words = tuple(word.format(tmp_path) for word in words)
    environment = {b"DELETED": b"1", b"VSWITCH_LAB": lab.name.encode()}
    status, said = vswitch(*words, environment=environment)
    assert (status, "the folder you are in cannot be used: No such file or directory" in said) == (2, True), (
        said
    )


def test_no_descriptor_stays_open_when_the_folder_is_gone(lab: RunningLab, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(InputError, match="the folder you are in"):
        client.guest_command(lab.name, "web01", ["true"])
    assert os.listdir("/proc/self/fd") == before
