"""Tab: what is offered, in real shells too, and that nothing goes wrong where nothing can be offered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT, POLICY
from tests.support.running_lab import RunningLab
from tests.support.terminal import Terminal, terminal
from vswitch.cli.completion import offers
from vswitch.cli.main import app

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = "hosts: {hv01: {groups: [prod]}, hv02: {}}\ngroups: {prod: {}}\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a layout, its policy and an inventory; the current one. No lab is named."""
    folder = tmp_path / "site"
    (folder / "folder").mkdir(parents=True)
    (folder / "office.yaml").write_text(LAYOUT + "policies: [policy.yaml]\n")
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "fleet.yml").write_text(INVENTORY)
    (folder / "notes.txt").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VSWITCH_LAB", raising=False)
    monkeypatch.delenv("VSWITCH_INVENTORY", raising=False)
    return folder


def offered(line: str) -> list[str]:
    return [value for value, _ in offers(app, line)]


GUESTS = ["hv01", "web01", "web02"]
EXPLAIN = "vswitch explain -f office.yaml "


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vswitch pro", ["probe"]),
        ("vswitch -o json pro", ["probe"]),
        ("vswitch hyperv ro", ["rollback"]),
        ("vswitch help exp", ["explain"]),
        ("vswitch hyperv help roll", ["rollback"]),
        ("vswitch help hyperv roll", ["rollback"]),
        ("vswitch probe --tim", ["--timeout"]),
        ("vswitch probe -o j", ["json"]),
        ("vswitch -o ", ["text", "json"]),
        ("vswitch schema ", ["layout", "policy"]),
        (EXPLAIN + "web", ["web01", "web02"]),
        (EXPLAIN + "web01 web02/", ["web02/Network Adapter"]),
        (EXPLAIN + r"web01 web02/Network\ A", ["web02/Network Adapter"]),
        (EXPLAIN + 'web01 "web02/Netw', ["web02/Network Adapter"]),
        (EXPLAIN + "web02 web01 ", ["icmp", "http", "tcp/", "udp/", "ip/"]),
        (EXPLAIN + "web02 web01 rd", ["rdp"]),
        (EXPLAIN + "web02 web01 tcp/rd", ["tcp/rdp"]),
        ("vswitch flows --table mac", []),
        ("vswitch flows --table outbound_e", ["outbound_established", "outbound_extended"]),
        ("vswitch hyperv plan office.yaml ", ["hv01"]),
        ("vswitch hyperv export office.yaml --host ", ["hv01"]),
        ("vswitch hyperv rollback -i fleet.yml ", ["hv01", "hv02", "prod"]),
        ("vswitch hyperv backups --inventory=fleet.yml p", ["prod"]),
    ],
)
def test_what_is_offered_without_a_lab(files: Path, line: str, words: list[str]) -> None:
    found = offered(line)
    assert found == words or (line.endswith("rd") and words[0] in found)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("vswitch up of", "<yaml>"),
        ("vswitch apply ", "<yaml>"),
        ("vswitch explain -f of", "<yaml>"),
        ("vswitch test office.yaml --junit r", "<file>"),
        ("vswitch exec web01 -- /bin/l", "<file>"),
        ("vswitch hyperv import -o lay", "<yaml>"),
        ("vswitch hyperv apply --plan ch", "<file>"),
    ],
)
def test_files_are_left_to_the_shell(files: Path, line: str, kind: str) -> None:
    assert list(offers(app, line)) == [(line.rpartition(" ")[2], kind)]


@pytest.mark.lab
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vswitch probe {} ", GUESTS),
        ("vswitch -l {lab} exec we", ["web01", "web02"]),
        ("vswitch probe {} web01/", ["web01/Network Adapter"]),
        ("vswitch probe {} web02 web01 ht", ["http"]),
        ("vswitch shell {} hv", ["hv01"]),
        ("vswitch flows {} -s ", ["hv01/vs"]),
        ("vswitch counters {} --switch=hv", ["--switch=hv01/vs"]),
        ("vswitch down {lab}", ["{lab}"]),
        ("vswitch -l {lab}", ["{lab}"]),
    ],
)
def test_what_a_running_lab_offers(lab: RunningLab, files: Path, line: str, words: list[str]) -> None:
    found = offered(line.format(f"--lab {lab.name}", lab=lab.name))
    wanted = [word.format(lab=lab.name) for word in words]
    assert found == wanted or ("ht" in line[-3:] and wanted[0] in found)


HOSTILE = ["x$(touch pwned)", "x`touch pwned`", "x;touch pwned", "x'a\"b"]


def test_no_name_is_an_order_to_a_shell_or_a_terminal(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vswitch.cli import completion

    names = [*HOSTILE, "x\\$(touch pwned)", "x\x1b[31m", "x\u202ey", "x\ny", "x"]
    monkeypatch.setattr(completion, "_known", lambda ctx: {"guests": {name: {} for name in names}})
    assert offered("vswitch shell x") == [*HOSTILE, "x"]


# ------------------------------------------------------------------ nothing to offer


def ask(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask as a shell does, in a process of its own."""
    variables = {"_VSWITCH_COMPLETE": "lines", "_VSWITCH_LINE": line, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", "from vswitch.cli.entry import main; main()"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def hung() -> Iterator[str]:
    """The name of a lab that never answers."""
    name = f"hung-{uuid.uuid4().hex[:8]}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0vswitch/{os.getuid()}/{name}")
        listener.listen(64)
        yield name


@pytest.fixture
def full(hung: str) -> Iterator[str]:
    """The name of a lab at which no more than one can wait."""
    name = f"full-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"\0vswitch/{os.getuid()}/{name}")
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(f"\0vswitch/{os.getuid()}/{name}")
            except BlockingIOError:
                break
        yield name


@pytest.mark.parametrize("lab", ["gone", "hung", "full"])
def test_a_lab_that_does_not_answer_offers_nothing(
    files: Path, lab: str, request: pytest.FixtureRequest
) -> None:
    name = "surely-not-there" if lab == "gone" else request.getfixturevalue(lab)
    began = time.monotonic()
    assert offered(f"vswitch probe -l {name} web") == []
    assert time.monotonic() - began < 20, "it should have taken a second"


def test_a_layout_that_cannot_be_read_offers_nothing(files: Path) -> None:
    os.mkfifo(files / "fifo.yaml")
    (files / "wrong.yaml").write_text("hosts: [")
    for layout in ("fifo.yaml", "wrong.yaml", "missing.yaml", "folder", "policy.yaml"):
        assert offered(f"vswitch explain -f {layout} web") == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "vswitch",
        "vswitch ' ",
        "vswitch nonsense ",
        "vswitch probe -l never ",
        "vswitch -x ",
        "vswitch -- ",
    ],
)
def test_a_shell_is_told_nothing_but_words(files: Path, line: str) -> None:
    done = ask(line)
    assert done.stderr == ""
    assert all("\t" in each for each in done.stdout.splitlines())


@pytest.mark.parametrize(
    "environment",
    [
        {"_VSWITCH_COMPLETE": "complete_bash", "COMP_WORDS": "vswitch pro", "COMP_CWORD": "1"},
        {"_VSWITCH_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "vswitch pro"},
        {"_VSWITCH_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": "vswitch pro",
         "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        {"_VSWITCH_COMPLETE": "complete_powershell", "_TYPER_COMPLETE_ARGS": "vswitch pro",
         "_TYPER_COMPLETE_WORD_TO_COMPLETE": "pro"},
    ],
    ids=lambda environment: environment["_VSWITCH_COMPLETE"],
)  # fmt: skip
def test_scripts_that_were_installed_before_go_on_working(files: Path, environment: dict[str, str]) -> None:
    done = ask("", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "probe" in done.stdout


@pytest.mark.parametrize("instruction", ["complete_bash", "complete_nosuch", "nonsense"])
def test_a_wrong_question_is_answered_with_silence(files: Path, instruction: str) -> None:
    done = ask("", _VSWITCH_COMPLETE=instruction)
    assert (done.stdout, done.stderr) == ("", "")


# ------------------------------------------------------------------ real shells

# Shows the arguments it is given where the last one is @; the same goes for the real one else.
STAND_IN = """#!/bin/sh
for last; do :; done
if [ "$last" = @ ] && [ -z "$_VSWITCH_COMPLETE" ]; then printf '<%s>' "$@"; echo; exit; fi
exec {real} "$@"
"""
SHELLS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], 'eval "$(vswitch --show-completion)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit; compinit -D -u; eval "$(vswitch --show-completion)"',
    ),
    "fish": (["fish", "--private"], "vswitch --show-completion | source"),
}
# On a busy machine a second may not be enough for an offer.
ATTEMPTS = 4
# What is typed, with Tab where it says so, and the arguments that come of it.
TYPED = [
    ("pro\tclient", "probe", "client"),
    ("probe hv\tweb01/\tht", "probe", "hv01", "web01/Network Adapter", "ht"),
    ("probe web02/Network\\ A\tweb01", "probe", "web02/Network Adapter", "web01"),
    ("flows -s hv\t", "flows", "-s", "hv01/vs"),
    ("up off\t", "up", "office.yaml"),
    ("up fol\toff", "up", "folder/off"),
    ("hyperv rollback -i fl\tpr\t", "hyperv", "rollback", "-i", "fleet.yml", "prod"),
    ("explain -f office.yaml web02 web01 icm\t", "explain", "-f", "office.yaml", "web02", "web01", "icmp"),
    ("explain -f missing.yaml web\t", "explain", "-f", "missing.yaml", "web"),
    ("explain -f hostile.yaml ev\t", "explain", "-f", "hostile.yaml", "evil$(touch pwned)"),
]
# The same where no letter of the word is typed, in a folder with one file.
TYPED_WITH_NOTHING_BEGUN = [
    ("up \t", "up", "only.yaml"),
    ("hyperv plan \t", "hyperv", "plan", "only.yaml"),
    ("hyperv apply --plan \t", "hyperv", "apply", "--plan", "only.yaml"),
    ("exec web01 -- cat \t", "exec", "web01", "--", "cat", "only.yaml"),
    ("flows -s \t", "flows", "-s", "hv01/vs"),
    ("hyperv plan only.yaml \t", "hyperv", "plan", "only.yaml", "hv01"),
    ("explain -f only.yaml web01 web02/\t", "explain", "-f", "only.yaml", "web01", "web02/Network Adapter"),
    ("probe \t", "probe"),
    ("explain web01 web02 \t", "explain", "web01", "web02"),
    ("flows --table \t", "flows", "--table"),
]


def press(screen: Terminal, typed: str, words: list[str]) -> None:
    """Type a command and see that these are its arguments."""
    wanted = "".join(f"<{word}>" for word in (*words, "@"))
    for _ in range(ATTEMPTS):
        screen.type(f"vswitch {typed} @\r")
        if (got := screen.wait_for(r"<[^\n]*><@>")) == wanted:
            break
    assert got == wanted


@pytest.mark.lab
@pytest.mark.parametrize("shell", [pytest.param(name, marks=pytest.mark.requires(name)) for name in SHELLS])
def test_tab_in_a_real_shell(lab: RunningLab, files: Path, tmp_path: Path, shell: str) -> None:
    (files / "hostile.yaml").write_text(LAYOUT.replace("web02:", "'evil$(touch pwned)':"))
    (files / "single").mkdir()
    (files / "single/only.yaml").write_text(LAYOUT)
    (tmp_path / "bin").mkdir()
    (tmp_path / "data/fish/generated_completions").mkdir(parents=True)  # else fish reads every manual page
    script = tmp_path / "bin" / "vswitch"
    script.write_text(STAND_IN.format(real=Path(sys.executable).with_name("vswitch")))
    script.chmod(0o755)
    argv, setting_up = SHELLS[shell]
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "TERM": "xterm",
        "VSWITCH_LAB": lab.name,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    with terminal(argv, files, environment) as screen:
        screen.type(f"{setting_up}\r")
        screen.type("echo re''ady\r")
        screen.wait_for("ready")
        for typed, *words in TYPED:
            press(screen, typed, words)
        screen.type("cd single\r")
        for typed, *words in TYPED_WITH_NOTHING_BEGUN:
            press(screen, typed, words)
        for typed, said in (
            ("", "Usage"),
            ("--", "Usage"),
            ("--version", "vswitch 0"),
            ("pzobe a", "'probe'"),
        ):
            screen.type(f"vswitch {typed}\r")
            screen.wait_for(said)
    assert not (files / "pwned").exists()
