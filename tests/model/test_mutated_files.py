"""Damaged files: the loader either returns a site or says what is wrong; nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_files import LAYOUT, POLICY, reader
from vswitch.errors import InputErrors
from vswitch.model import load_site

TOPOLOGIES = Path(__file__).resolve().parents[2] / "topologies"


def shipped() -> list[tuple[str, str]]:
    """(layout, policy) texts: the tests' own and those the project ships."""
    found = [(LAYOUT, POLICY)]
    for path in sorted(TOPOLOGIES.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "\nhosts:" in text:
            policies = [
                other for other in sorted(TOPOLOGIES.glob("*.yaml")) if other != path and other.name in text
            ]
            found.append((text, policies[0].read_text(encoding="utf-8") if policies else POLICY))
    return found


TEXTS = shipped()
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "&a ",
                "*a",
                "<<: *a",
                "!!int ",
                "!x ",
                "? ",
                "- ",
                ": ",
                "---\n",
                "...\n",
                "%TAG ! x\n",
                "|\n",
                ">-\n",
            ),
            *(
                "{",
                "}",
                "[",
                "]",
                "'",
                '"',
                "#",
                ",",
                "\n",
                "\t",
                "\r\n",
                "\0",
                "\x85",
                "\u2028",
                "\ufeff",
                "\ud800",
            ),
            *(
                "null",
                "~",
                "true",
                "On",
                "4095",
                "-1",
                "1e999",
                "0x10",
                "10:20",
                "9" * 400,
                "10.0.0.1/33",
                "::/0",
            ),
            *(
                "00-15-5D-01-0A-01",
                "ANY",
                "web*",
                "host:*",
                "lan",
                "hv01",
                "http",
                "0-65535",
                "none",
                "untagged",
            ),
        ]
    ),
    st.text(max_size=6),
)
MUTATION = st.tuples(
    st.sampled_from(["delete", "duplicate", "replace", "insert", "line", "swap", "words"]),
    st.integers(0, 1 << 16),
    st.integers(0, 1 << 16),
    PIECES,
)


def mutate(text: str, mutation: tuple[str, int, int, str]) -> str:
    kind, first, second, piece = mutation
    if not text:
        return piece
    place, length = first % len(text), second % 12
    match kind:
        case "delete":
            return text[:place] + text[place + length :]
        case "duplicate":
            return text[:place] + text[place : place + length] + text[place:]
        case "replace":
            return text[:place] + piece + text[place + length :]
        case "insert":
            return text[:place] + piece + text[place:]
        case "line":
            lines = text.splitlines(keepends=True)
            return "".join(
                [*lines[: first % len(lines)], lines[second % len(lines)], *lines[first % len(lines) + 1 :]]
            )
        case "swap":
            lines = text.splitlines(keepends=True)
            a, b = first % len(lines), second % len(lines)
            lines[a], lines[b] = lines[b], lines[a]
            return "".join(lines)
        case _:
            words = text.split(" ")
            words[first % len(words)] = words[second % len(words)]
            return " ".join(words)


@given(st.sampled_from(TEXTS), st.lists(MUTATION, max_size=3), st.lists(MUTATION, max_size=3))
def test_damaged_files_never_give_a_traceback(
    texts: tuple[str, str],
    layout_damage: list[tuple[str, int, int, str]],
    policy_damage: list[tuple[str, int, int, str]],
) -> None:
    layout, policy = texts
    for mutation in layout_damage:
        layout = mutate(layout, mutation)
    for mutation in policy_damage:
        policy = mutate(policy, mutation)
    try:
        load_site("l.yaml", ["p.yaml"], read=reader(layout=layout, policy=policy))
    except InputErrors as errors:
        for error in errors.errors:
            assert error.message
            assert error.where is not None
            assert error.where.file in ("l.yaml", "p.yaml")
            text = layout if error.where.file == "l.yaml" else policy
            assert (
                error.where.line
                <= text.count("\n")
                + text.count("\r")
                + text.count("\x85")
                + text.count("\u2028")
                + text.count("\u2029")
                + 2
            )
            assert str(error).isprintable() or "\n" in str(error)


@pytest.mark.parametrize("texts", TEXTS)
def test_undamaged_files_load(texts: tuple[str, str]) -> None:
    policies = ["p.yaml"] if texts[1] != POLICY or texts[0] == LAYOUT else []
    load_site("l.yaml", policies, read=reader(layout=texts[0], policy=texts[1]))
