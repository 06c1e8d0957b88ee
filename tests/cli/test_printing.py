"""What is printed: other people's words as they are, each to be seen, none of them able to act."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.command_line import LAYOUT, POLICY, Run
from tests.support.shown_answers import EXPLANATION, LAB, PROBED, free_texts, hostile, put
from vswitch.answer_data import AnswerData, as_json
from vswitch.cli import render
from vswitch.cli.output import Page, print_error
from vswitch.errors import InputError, InputErrors, Origin
from vswitch.lab.process import client
from vswitch.wording import counted, visible

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "a\x1b[2K\x1b]0;t\x07\u202eb\u2066\u200b\u2028\u2029\x85\r\nFORGED: 0 writes [red]:a: \ufe0f\t\x7f"
SPEAKING = [
    "fd00:0:0:a::50",
    "00:15:5d:ab:01:02",
    "file.yaml:100:5",
    "deny:x:all",
    "[bold]web[/] [01]",
    "[/]",
    ":smile: :a: :100:",
    "\\[red]",
    "C:\\new\\table",
]
VALUES = st.one_of(
    st.text(max_size=60),
    st.sampled_from([HOSTILE, *SPEAKING]),
    st.lists(st.sampled_from(["a", ":", "[", "]", "/", "\\", "red", "\n", "\x1b[0m", " "]), max_size=12).map(
        "".join
    ),
)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def safe(text: str) -> None:
    """Fail if something in `text` acts, or if a foreign word begins a line."""
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not re.match(r"\W*FORGED", line), repr(line)


# ------------------------------------------------------------------ the border


@given(VALUES)
def test_a_value_is_printed_character_by_character(value: str) -> None:
    stream = io.StringIO()
    page = Page(stream)
    page.line("before ", value, (value, "bold red"), " after")
    page.item("cause", value)
    page.table(["one", "two"], [[value, 7], ["x", 8]])
    page.warnings([value])
    shown = visible(value)
    lines = stream.getvalue().split("\n")
    assert lines[0] == f"before {shown}{shown} after"
    assert lines[1] == f"  cause      {shown}"
    assert lines[3].startswith(shown)
    assert lines[5:] == [f"  warning: {shown}", ""]
    safe(stream.getvalue())


@given(VALUES)
def test_what_can_be_seen_stays_and_the_rest_is_written_out(value: str) -> None:
    shown = visible(value)
    assert visible(shown) == shown
    assert shown.isprintable()
    at = 0
    for character in value:
        if character.isprintable() and shown.startswith(character, at):
            at += 1
        else:
            written = character.encode("unicode_escape").decode()
            assert shown.startswith(written, at)
            at += len(written)
    assert at == len(shown)


@pytest.mark.parametrize("value", SPEAKING)
def test_what_can_be_seen_is_left_alone(value: str) -> None:
    assert visible(value) == value


@pytest.mark.parametrize("character", "\u200d\u3164\u034f\ufe0f\u115f\xad\ufeff\U000e0041\u061c\xa0")
def test_what_has_no_shape_gets_one(character: str) -> None:
    assert visible(f"a{character}b") == f"a{character.encode('unicode_escape').decode()}b"


@given(st.lists(VALUES, min_size=1, max_size=6).map(" ".join), st.integers(20, 100))
def test_on_a_terminal_no_word_is_cut(value: str, width: int) -> None:
    stream = Terminal()
    page = Page(stream)
    assert page._terminal is not None
    page._terminal.width = width
    page.item("cause", value)
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in stream.getvalue().split("\n")[:-1]]
    safe("\n".join(lines))
    room = width - 13
    words = [word for word in visible(value).split(" ") if cell_len(word) <= room]
    assert all(any(word in line for line in lines) for word in words)
    assert all(
        cell_len(line) <= width for line in lines if cell_len(max(line.split() or [""], key=cell_len)) < room
    )
    assert "".join("".join(lines).split()) == "cause" + "".join(visible(value).split())


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=4), st.integers(30, 100))
def test_a_table_cuts_no_word_either(rows: list[list[str]], width: int) -> None:
    stream = Terminal()
    page = Page(stream)
    assert page._terminal is not None
    page._terminal.width = width
    page.table(["guest", "place", "rule"], rows)
    text = re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue())
    safe(text)
    for row in rows:
        for word in (
            word for cell in row for word in visible(cell).split(" ") if cell_len(word) <= width - 4
        ):
            assert word in text


def test_a_stream_without_the_letters_gets_them_written_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Page(stream).line("Störnetz 試験")
    stream.flush()
    assert raw.getvalue() == b"St\\xf6rnetz \\u8a66\\u9a13\n"


def test_one_style_of_errors() -> None:
    stream = io.StringIO()
    first = InputError("wrong", where=Origin(f"{HOSTILE}.yaml", 100, 5), hint=HOSTILE)
    print_error(InputErrors([first, InputError(HOSTILE)]), as_json=False, page=Page(stream), indent=2)
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"  error: {visible(HOSTILE)}.yaml:100:5: wrong"
    assert lines[1] == f"    {visible(HOSTILE)}"
    assert lines[2:] == [f"  error: {visible(HOSTILE)}"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "error: vswitch has no command 'nonsense'\n"),
        (["up"], "error: missing argument 'layout'\n  Usage: vswitch up "),
        (["flows", "--bogus"], "error: no such option: --bogus\n  Usage: vswitch flows "),
        (["schema", "all"], "error: invalid value for 'kind': 'all' is not one of 'layout', 'policy'\n"),
        (["ps", f"--{HOSTILE}"], f"error: no such option: --{visible(HOSTILE)[:5]}"),
    ],
)
def test_errors_of_usage_have_the_style_of_all_others(run: Run, words: list[str], said: str) -> None:
    ran = run(*words)
    assert ran.status == 2
    assert not ran.out
    assert ran.err.lower().startswith(said.lower())
    safe(ran.err)


def test_help_interprets_nothing(run: Run) -> None:
    for words in ([], ["probe"], ["hyperv", "apply"], ["exec"], ["flows"], ["explain"]):
        text = run(*words, "--help").out
        assert set(filter(lambda each: not each.isascii(), text)) <= set("╭─╮│╰╯")


def test_nothing_is_printed_past_the_border() -> None:
    """What a command prints goes through `vswitch.cli.output` and its pages: no foreign word can act."""
    past = re.compile(r"(?<![\w.])print\(|typer\.(echo|secho|confirm|prompt)|\brich\.|sys\.stdout\.write")
    folder = ROOT / "vswitch/cli"
    wrong = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted(folder.glob("*.py"))
        if path.name not in ("output.py", "page.py", "terminal.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if past.search(line)
    ]
    assert not wrong, wrong


# ------------------------------------------------------------------ every command that prints text


COMMANDS = [
    ("ps", "-l", "x"),
    ("probe", "a", "b", "http"),
    ("explain", "a", "b", "http", "--steps"),
    ("flows",),
    ("counters", "--all"),
    ("mac-table",),
    ("apply", "policy.yaml"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_nothing_that_a_lab_says_can_act(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """What is hostile takes as many lines as what is harmless, and is all there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY)
    said: list[str] = []
    harmless = {op: as_json(answer) for op, answer in LAB.items()}
    # A time is read, and these have lines of their own.
    own = frozenset({"since", "trace"})
    harmful = {op: hostile(answer, HOSTILE, own) for op, answer in LAB.items()}
    for data in (harmless, harmful):
        monkeypatch.setattr(client, "call", lambda _, op, data=data, **__: data[op])
        monkeypatch.setattr(client, "running", lambda: ["x"])
        ran = run(*words)
        assert not ran.err
        said.append(ran.out)
    safe(said[1])
    assert visible(HOSTILE) in said[1]
    assert said[1].count("\n") == said[0].count("\n")


def test_labels_stand_in_one_column_and_short_headings_on_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "call", lambda _, op, **__: as_json(LAB[op]))
    monkeypatch.setattr(client, "running", lambda: ["x"])
    for words in (("probe", "a", "b", "http"), ("explain", "a", "b", "http")):
        (line,) = {line.partition("T ")[0] for line in run(*words).out.split("\n") if "DISAGREE" in line}
        assert line == "  DISAGREEMEN"
    assert run("mac-table").out.split("\n")[0].split() == [
        "switch", "MAC", "VLAN", "port", "where", "status", "age"
    ]  # fmt: skip


def test_the_lines_of_a_log_are_the_log_s_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "running", lambda: ["x"])
    monkeypatch.setattr(client, "call", lambda *_, **__: "one\x1b[2J\r\n\ttwo\u2028three\n")
    assert run("log").out == "one\\x1b[2J\n        two\\u2028three\n"


@pytest.mark.parametrize(
    ("show", "answer", "places"),
    [
        (
            lambda page, answer: render.explanation(page, answer, steps=True),
            EXPLANATION,
            free_texts(EXPLANATION),
        ),
        (render.probe_reports, PROBED, free_texts(PROBED)),
    ],
    ids=["explain", "probe"],
)
@given(value=VALUES, random=st.randoms(use_true_random=False))
def test_any_text_in_an_answer_is_printed_as_it_is(
    show: Callable[[Page, Any], None],
    answer: AnswerData,
    places: list[tuple[Any, ...]],
    value: str,
    random: Any,
) -> None:
    place = random.choice([each for each in places if each[-1] != "trace"])
    printed = []
    for text in ("MARK", value):
        changed = answer.to_dict()
        put(changed, place, text)
        stream = io.StringIO()
        show(Page(stream), type(answer).from_dict(changed))
        printed.append(stream.getvalue())
    safe(printed[1])
    if value and "MARK" in printed[0]:  # else it is not for people
        assert visible(value) in printed[1]


def test_labels_do_not_break_their_column() -> None:
    stream = io.StringIO()
    render.explanation(Page(stream), EXPLANATION, steps=False)
    render.probe_reports(Page(stream), PROBED)
    labelled = [line for line in stream.getvalue().splitlines() if re.match(r"  [a-zN]", line)]
    assert len(labelled) > 15
    assert all(line[12] == " " != line[13] for line in labelled), labelled


# ------------------------------------------------------------------ 80 columns


def on_a_terminal(*words: str, columns: int = 80) -> str:
    """What a command prints on a real terminal of this width, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", "from vswitch.cli.entry import main; main()", *words],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    printed = b""
    try:
        while data := os.read(ours, 65536):
            printed += data
    except OSError:  # the other side is closed
        pass
    process.wait(60)
    os.close(ours)
    return re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", printed.decode()).replace("\r\n", "\n")


def test_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a-folder-with-a-name"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    layout = f"{folder.name}/layout.yaml"
    (folder / "layout.yaml").write_text(LAYOUT + "policies: [policy.yaml]\n")
    (folder / "policy.yaml").write_text(POLICY)
    said = on_a_terminal("explain", "web02", "web01", "tcp/445", "--layout", layout)
    assert all(len(line) <= 80 for line in said.split("\n"))
    for word in (f"({folder.name}/policy.yaml:5:5):", "10.0.10.2:50000", "web01/Network", "no-more"):
        assert word in said
    (folder / "layout.yaml").write_text(LAYOUT + "polices: [policy.yaml]\n")
    said = on_a_terminal("validate", layout)
    assert f"{layout}:{LAYOUT.count(chr(10)) + 1}:1:" in said
    assert all(len(line) <= 80 for line in said.split("\n"))


# ------------------------------------------------------------------ numbers


def test_one_thing_and_several() -> None:
    assert [counted(number, "reply", "replies") for number in (0, 1, 2)] == [
        "0 replies",
        "1 reply",
        "2 replies",
    ]
    assert [counted(number, "second") for number in (1.0, 1.5)] == ["1 second", "1.5 seconds"]
