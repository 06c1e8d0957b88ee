"""Whatever stands in a file, `validate` ends with an answer: 0 or 2, sentences, soon, in little memory."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.command_line import LAYOUT, POLICY
from vswitch.cli.main import app
from vswitch.errors import VswitchError

# --- any text, in this process --------------------------------------------------------------------

KEYS = ["name", "networks", "lan", "vlans", "gateways", "clients", "hosts", "hv01", "switches", "vs", "type"]
KEYS += ["network", "vms", "web01", "adapters", "switch", "vlan", "trunk", "allowed", "access", "addresses"]
KEYS += ["services", "nat", "policies", "expect", "from", "to", "traffic", "verdict", "groups", "web", "acls"]
KEYS += [
    "extended_acls",
    "direction",
    "action",
    "protocol",
    "local_port",
    "remote_ip_address",
    "weight",
    "<<",
]
WORDS = [
    "External",
    "lan",
    "vs",
    "web01",
    "WEB*",
    "host:*",
    "1-4094",
    "0-65535",
    "99999999999999999999",
    "-1",
]
WORDS += [
    "http",
    "tcp/1-65535",
    "10.0.0.0/8",
    "::/0",
    "10.0.0.1/24",
    "Inbound",
    "Both",
    "Allow",
    "ANY",
    "web",
]
WORDS += [
    "p.yaml",
    "l.yaml",
    ".",
    "/dev/zero",
    "../../etc/shadow",
    "NULL",
    "*",
    "1e999",
    "0x7f",
    "$true",
    "~",
]
SCALARS = st.one_of(
    st.sampled_from(KEYS + WORDS),
    st.text(max_size=8),
    st.integers(),
    st.sampled_from(["\0", "\x1b[31m", "\u202e", "\ud800", "\U0001f600", "9" * 5000, "a" * 5000]),
)
LEAD = st.sampled_from(
    ["", "", "", "&a ", "!!int ", "!!python/object:os.system ", "!<x> ", "? ", "- ", "|\n  "]
)
PLAIN = st.sampled_from(["*a", "{", "}", "[", "]", "---", "...", "%YAML 1.2", "\t", "#", "'", '"', ": ", ""])


def node(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A flow collection of these values."""
    pairs = st.lists(st.tuples(st.sampled_from(KEYS), children), max_size=4)
    return st.one_of(
        st.lists(children, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        pairs.map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"),
    )


def written(lead: str, value: object) -> str:
    return f"{lead}{value}"


VALUES = st.recursive(
    st.one_of(st.builds(written, LEAD, SCALARS), PLAIN, st.sampled_from(["[" * 5000, "{a: " * 300])),
    node,
    max_leaves=20,
)
DOCUMENTS = st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=6).map(
    lambda lines: "".join(f"{key}: {value}\n" for key, value in lines)
)
BYTES = st.one_of(
    DOCUMENTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    DOCUMENTS.map(lambda text: b"\xff\xfe" + text.encode("utf-16-le", "surrogatepass")),
    st.binary(max_size=40),
)


def validate(*words: str) -> tuple[int, str]:
    """The exit status of `vswitch validate` in this process, and what it says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            app(["validate", *words], standalone_mode=False)
        except VswitchError as error:
            return error.exit_status, str(error)
    return 0, out.getvalue()


GOOD = LAYOUT.encode() + b"policies: p.yaml\n"


@given(st.one_of(st.just(GOOD), BYTES), BYTES)
@example(GOOD, POLICY.encode())
@example(b"name: &a [*a]\n", b"acls: [" * 50)
def test_any_text_gets_an_answer(layout: bytes, policy: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "l.yaml").write_bytes(layout)
        Path(folder, "p.yaml").write_bytes(policy)
        status, said = validate(f"{folder}/l.yaml", "-p", f"{folder}/p.yaml")
    assert status in (0, 2)
    assert said.strip()


# --- what is made to hurt, in a process of its own ---------------------------------------------------

MEMORY = 1 << 30  # bytes of address space


def _laughs() -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{each}: &a{each} [{', '.join([f'*a{each - 1}'] * 10)}]" for each in range(1, 12)]
    return "name: x\nhosts:\n  " + "\n  ".join(lines) + "\n"


def _rule(keys: str) -> str:
    return f"extended_acls:\n  - {{adapters: '*', direction: Both, action: Allow, {keys}}}\n"


def _many(first: int, count: int) -> str:
    return ", ".join(map(str, range(first, first + count)))


HOSTILE_POLICIES: dict[str, tuple[Callable[[], str], str]] = {
    "a rule of 100 million entries": (
        lambda: _rule(f"protocol: TCP, local_port: [{_many(1, 10000)}], remote_port: [{_many(1, 10000)}]"),
        "makes 400,000,000 entries",
    ),
    "groups a thousand deep": (
        lambda: "groups:\n" + "".join(f"  g{n}: [g{n + 1}]\n" for n in range(1200)) + "  g1200: [web01]\n",
        "more than 32 deep",
    ),
    "a group of every group": (
        lambda: (
            f"groups:\n  g: [{', '.join(f'10.{n >> 8}.{n & 255}.1' for n in range(2000))}]\n"
            + "".join(f"  g{n}: [g]\n" for n in range(2000))
        ),
        "hold more than 1,000,000",
    ),
    "brackets": (lambda: "acls: " + "[" * 1_000_000, "nested more than"),
    "dashes": (lambda: "acls:\n" + "- " * 500_000, "nested more than"),
    "one word of 15 MiB": (lambda: _rule(f"protocol: {'x' * (15 << 20)}"), "is not a protocol"),
    "one number of 15 MiB": (lambda: _rule(f"weight: {'9' * (15 << 20)}"), "out of range"),
    "a tag of Python's": (
        lambda: "acls: !!python/object/apply:os.system ['exit 1']\n",
        "a rule must be a mapping",
    ),
    "seventeen MiB": (lambda: "#" * (17 << 20), "larger than 16 MiB"),
}
HOSTILE_LAYOUTS: dict[str, tuple[Callable[[], str], str]] = {
    "laughs": (_laughs, "repeat more than"),
    "a key again and again": (lambda: "name: x\n" * 20_000, "written twice"),
    "every port of many VMs": (
        lambda: (
            "name: x\nhosts: {h: {switches: {vs: {type: Internal}}, vms: {"
            + ", ".join(f"v{n}: {{services: [tcp/1-65535]}}" for n in range(1000))
            + "}}}\n"
        ),
        "services of this layout hold more than",
    ),
    "every VLAN many times": (
        lambda: f"name: x\nnetworks: {{lan: {{vlans: [{', '.join(['1-4094'] * 100_000)}]}}}}\n",
        "VLAN lists of this layout hold more than",
    ),
}


def ended(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A run of `vswitch` in little memory; it must end with status 2 and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", "from vswitch.cli.entry import main; main()", *words],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(("make", "words"), HOSTILE_POLICIES.values(), ids=HOSTILE_POLICIES)
def test_a_hostile_policy_is_refused(tmp_path: Path, make: Callable[[], str], words: str) -> None:
    (tmp_path / "l.yaml").write_text(LAYOUT + "policies: [p.yaml]\n", encoding="utf-8")
    (tmp_path / "p.yaml").write_text(make(), encoding="utf-8")
    assert words in ended("validate", "l.yaml", folder=tmp_path).stderr


@pytest.mark.parametrize(("make", "words"), HOSTILE_LAYOUTS.values(), ids=HOSTILE_LAYOUTS)
def test_a_hostile_layout_is_refused(tmp_path: Path, make: Callable[[], str], words: str) -> None:
    (tmp_path / "l.yaml").write_text(make(), encoding="utf-8")
    assert words in ended("validate", "l.yaml", folder=tmp_path).stderr


def test_every_command_refuses_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "l.yaml").write_text(LAYOUT, encoding="utf-8")
    for words in (
        ("validate", "l.yaml", "-p", "/dev/zero"),
        ("up", "/dev/urandom"),
        ("hyperv", "plan", "l.yaml", "--from-file", "fifo"),
        ("hyperv", "plan", "l.yaml", "--inventory", "/dev/zero"),
        ("hyperv", "apply", "--plan", "fifo"),
    ):
        assert "not a file" in " ".join(ended(*words, folder=tmp_path).stderr.split()), words
