"""What users name as files: read if it is a text of reasonable size, refused with a sentence if not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vswitch import textfiles
from vswitch.errors import InputError
from vswitch.textfiles import JSON_LIMIT, YAML_LIMIT, read_json, read_text

TEXT = "name: übung\nhosts: {}\n"
ENCODINGS = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with a mark": TEXT.encode("utf-8-sig"),
    "Out-File of Windows PowerShell": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "UTF-16, big end first": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "UTF-16, big end first, without a mark": TEXT.encode("utf-16-be"),
    "UTF-32": b"\xff\xfe\x00\x00" + TEXT.encode("utf-32-le"),
}


@pytest.mark.parametrize("content", ENCODINGS.values(), ids=ENCODINGS)
def test_what_windows_writes_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "layout.yaml"
    path.write_bytes(content)
    assert read_text(path) == TEXT


def refusal(path: Path | str) -> InputError:
    with pytest.raises(InputError) as caught:
        read_text(path)
    return caught.value


def test_windows_1252_is_named_with_what_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "my layout.yaml"
    path.write_bytes("name: x\n# übung\n".encode("cp1252"))
    error = refusal(path)
    assert str(error.where) == f"{path}:2:3"
    command = re.search(r"iconv .*", error.hint)
    assert command is not None
    done = subprocess.run(
        ["sh", "-c", command[0].replace("NEW", "new")], cwd=tmp_path, capture_output=True, check=True
    )
    assert not done.stderr
    assert read_text(tmp_path / "new") == "name: x\n# übung\n"


@pytest.mark.parametrize("content", [b"\xff\xfea", b"\xff\xfe\x00\xd8", b"a\x00" * 40 + b"\x00\xd8"])
def test_half_a_utf_16_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l.yaml"
    path.write_bytes(content)
    assert "begins like UTF-16" in refusal(path).message


def test_nothing_but_a_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "to-zero").symlink_to("/dev/zero")
    for name, kind in {
        "fifo": "a pipe",
        "socket": "a socket",
        "to-zero": "a device",
        "/dev/urandom": "a device",
        ".": "a folder",
    }.items():
        path = tmp_path / name
        assert refusal(path).message == f"this is {kind}, not a file"
        assert refusal(path).exit_status == 2
    assert "cannot be read: no such file" in refusal(tmp_path / "missing").message
    assert "is not a file name" in refusal("a\0b").message


def test_a_pipe_on_standard_input_is_refused_at_once() -> None:
    code = "from vswitch.textfiles import read_text; read_text('/dev/stdin')"
    asked = subprocess.Popen(  # its standard input stays open and says nothing
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert b"this is a pipe" in asked.communicate(timeout=30)[1]
    finally:
        asked.kill()
        asked.wait()


def test_a_file_of_the_limit_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    path.write_bytes(b"#" * YAML_LIMIT)
    assert len(read_text(path)) == YAML_LIMIT
    path.write_bytes(b"#" * (YAML_LIMIT + 1))
    assert refusal(path).message == "this file is larger than 16 MiB"
    with path.open("r+b") as file:
        file.truncate(JSON_LIMIT + 1)
    with pytest.raises(InputError, match="larger than 64 MiB"):
        read_json(path, "a saved plan")


def test_a_file_that_says_nothing_of_its_size_is_counted(tmp_path: Path) -> None:
    """Files of /proc have the size 0 and may go on for ever."""
    assert os.stat("/proc/self/maps").st_size == 0
    with pytest.raises(InputError, match="larger than"):
        read_text("/proc/self/maps", limit=100)


def test_what_is_too_large_costs_no_more_than_twice_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    code = """
import sys
from pathlib import Path
from vswitch.textfiles import YAML_LIMIT, read_text
from vswitch.errors import InputError
def most():  # of this program: what getrusage says may be of the one that started it
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = most()
try:
    read_text(sys.argv[1])
except InputError:
    print((most() - before) * 1024 <= 2 * YAML_LIMIT)
"""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"a": NaN}', "[-Infinity]", "9" * 5000, '{"a": 1}}', "\0"]
)
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="this is not a saved plan"):
        read_json(path, "a saved plan")


def test_json_of_too_many_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfiles, "_MOST_PARTS", 1000)
    path = tmp_path / "plan.json"
    path.write_text(f"[{'{},' * 999}0]", encoding="utf-8")
    found = read_json(path, "a saved plan")
    assert isinstance(found, list)
    assert len(found) == 1000
    path.write_text(f"[{'{},' * 1000}0]", encoding="utf-8")
    with pytest.raises(InputError, match="more than 1,000 lists and objects"):
        read_json(path, "a saved plan")


def test_json_of_too_many_parts_costs_no_more_than_twice_the_limit(tmp_path: Path) -> None:
    """Also with a character in it that makes four bytes of each: it is counted before it becomes text."""
    path = tmp_path / "plan.json"
    path.write_text('["\U0001f600' + "x" * 47_000_000 + '",' + "[]," * 5_000_000 + "0]", encoding="utf-8")
    code = """
import sys
from pathlib import Path
from vswitch.textfiles import JSON_LIMIT, read_json
from vswitch.errors import InputError
def most():  # of this program: what getrusage says may be of the one that started it
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = most()
try:
    read_json(sys.argv[1], "a saved plan")
except InputError as error:
    print(error.message, (most() - before) * 1024 <= 2 * JSON_LIMIT)
"""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert "more than 4,000,000 lists and objects True" in done.stdout, (done.stdout, done.stderr)
