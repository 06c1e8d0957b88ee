"""Phrases that read as if translated do not come back into the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

STUMBLES = {
    "is no": "say what is not: `X is not a Y`, `nothing does X`",
    "is none": "say what is not: `X is not one`, `there is nothing`",
    "tells": "say, show, name, report",
    "untold": "left out, not said",
    "stands? for": "means, is one of",
    "hangs? on": "depends on",
}
QUOTED = re.compile(r"^( *)```.*?^\1```$|(`+)[^`].*?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)


def stumbles(text: str) -> Iterator[tuple[int, str]]:
    """(line, phrase) of each outside of code and quoted output, also where it goes on in the next line."""
    plain = QUOTED.sub(lambda quoted: re.sub(r"[^\n]", "`", quoted[0]), text)
    for phrase in STUMBLES:
        for found in re.finditer(rf"\b{phrase}\b".replace(" ", r"\s+"), plain, re.IGNORECASE):
            yield plain.count("\n", 0, found.start()) + 1, phrase


def test_the_documentation_reads_as_english() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {phrase!r}; better: {STUMBLES[phrase]}"
        for path in PAGES
        for line, phrase in stumbles(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nThere is no way.", [(2, "is no")]),
        ("what it hangs\non", [(1, "hangs? on")]),
        (
            "Untold: it tells, stands for, is none",
            [(1, "untold"), (1, "tells"), (1, "stands? for"), (1, "is none")],
        ),
        ("is not; is now; is nowhere; told", []),
        ("`is no` and ``tells ` us``, but it\ntells", [(2, "tells")]),
        ("```console\n$ x\nthere is no\n```\nis no", [(5, "is no")]),
        ("- a\n  ```\n  is none\n  ```\n", []),
    ],
)
def test_the_finder(text: str, expected: list[tuple[int, str]]) -> None:
    assert sorted(stumbles(text)) == sorted(expected)
