"""Every citation of a fact about Hyper-V leads to a place in the documentation.

A section is cited by the section sign and its number, or several with two signs ("1.1, 2 and 4.1-4.3"); an
open question by U and its number; a symptom of section 9 by the word and its number; one of the twelve
rules of section 0 by `rule:` in a scenario.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "docs/reference/hyper-v-facts.md"
PAGES = [INDEX, *sorted(INDEX.with_suffix("").glob("*.md"))]
ASSUMPTIONS = ROOT / "docs/reference/assumptions.md"
FOLDERS = ("vswitch", "controllers", "topologies", "tests", "docs", "powershell", "benchmarks")
SUFFIXES = {".py", ".md", ".yaml", ".ps1", ".psm1", ".psd1"}

SIGN = chr(0xA7)
NUMBER = r"\d+(?:\.\d+)?(?![\d.]*\d)"
RANGE = rf"{NUMBER}(?:-{NUMBER})?"
APART = r"(?:,|\s(?:and|or))[\s#]+"  # a comment may go on in its next line
SECTIONS = re.compile(rf"{SIGN}{SIGN}\s?({RANGE}(?:{APART}{RANGE})*)|{SIGN}\s?({RANGE})")
QUESTION = re.compile(r"(?<![\w\\])U\d{1,3}\b")
SYMPTOMS = re.compile(rf"\b[Ss]ymptoms? (\d+(?:{APART}\d+)*)\b")
RULES = re.compile(r"^ +rule: (\d+|\[[\d, ]+\])$", re.MULTILINE)


def citable() -> Counter[str]:
    """What can be cited, each with the number of places that have it."""
    known: Counter[str] = Counter()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        known.update(SIGN + each for each in re.findall(r"^#{2,3} (\d+(?:\.\d+)?) ", text, re.MULTILINE))
        known.update(f"symptom {each}" for each in re.findall(r"^\| (\d+) \|", text, re.MULTILINE))
    rules = INDEX.read_text(encoding="utf-8").partition("\n## 0 ")[2].partition("\n## ")[0]
    known.update(f"rule {each}" for each in re.findall(r"^(\d+)\. ", rules, re.MULTILINE))
    known.update(re.findall(r"^## (U\d+)$", ASSUMPTIONS.read_text(encoding="utf-8"), re.MULTILINE))
    return known


def sections(listed: str) -> Iterator[str]:
    """The sections of "1.1, 2-4 and 4.1-4.3", with all of a range; its ends as they are if it is none."""
    for first, last in re.findall(rf"({NUMBER})(?:-({NUMBER}))?", listed):
        chapter, _, begin = first.rpartition(".")
        same, _, end = (last or first).rpartition(".")
        if chapter == same and int(begin) <= int(end):
            head = f"{chapter}." if chapter else ""
            yield from (f"{SIGN}{head}{number}" for number in range(int(begin), int(end) + 1))
        else:
            yield f"{SIGN}{first}-{last}"


def citations(text: str, *, scenario: bool = False) -> Iterator[tuple[int, str]]:
    """(line, what is cited) of each citation in a text. In a scenario, `rule:` cites as well."""

    def line(found: re.Match[str]) -> int:
        return text.count("\n", 0, found.start()) + 1

    for found in SECTIONS.finditer(text):
        yield from ((line(found), section) for section in sections(found[1] or found[2]))
    for sign in re.finditer(rf"{SIGN}(?!{SIGN}?\s?\d)", text):
        yield line(sign), f"{SIGN} without a number"
    for found in QUESTION.finditer(text):
        yield line(found), found[0]
    for found in SYMPTOMS.finditer(text):
        yield from ((line(found), f"symptom {each}") for each in re.findall(r"\d+", found[1]))
    for found in RULES.finditer(text) if scenario else ():
        yield from ((line(found), f"rule {each}") for each in re.findall(r"\d+", found[1]))


def cited() -> Iterator[tuple[str, str]]:
    """(place, what is cited) of every citation in the repository."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and path != Path(__file__):
                scenario = path.parent == ROOT / "tests/scenarios"
                for line, what in citations(path.read_text(encoding="utf-8"), scenario=scenario):
                    yield f"{path.relative_to(ROOT)}:{line}", what


def test_every_citation_leads_somewhere() -> None:
    known, found = citable(), list(cited())
    dead = [f"{place}: {what}" for place, what in found if what not in known]
    assert not dead, "\n".join(["nothing in the documentation has", *dead])
    assert len(found) > 500, "the finder has gone blind"


def test_a_fact_has_one_place() -> None:
    known = citable()
    assert [what for what, places in known.items() if places > 1] == []
    assert {f"rule {number}" for number in range(1, 13)} <= known.keys()
    assert {f"symptom {number}" for number in range(1, 59)} <= known.keys()


def test_every_section_says_how_sure_it_is() -> None:
    unmarked = [
        section.splitlines()[0]
        for page in PAGES
        if page != INDEX
        for section in re.split(r"^#{2,3} (?=\d)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        if section.count("\n") > 4 and not re.search(r"\[[DOI]\]", section)
    ]
    assert not unmarked, unmarked


def test_every_scenario_cites_a_fact() -> None:
    without = []
    for path in sorted((ROOT / "tests/scenarios").glob("*.yaml")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.match(r" +cites:", line) and not list(citations(line)):
                without.append(f"{path.name}:{number}")
    assert not without, without


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(@4.3) and @2, U19.", ["@4.3", "@2", "U19"]),
        ("@@1.2-1.4, 2 and\n# 2.1; where", ["@1.2", "@1.3", "@1.4", "@2", "@2.1"]),
        ("@@2-4; @1.6.", ["@2", "@3", "@4", "@1.6"]),
        ("@4.3, 2 entries", ["@4.3"]),
        ("symptoms 23 and 35; Symptom 48 of @9", ["@9", "symptom 23", "symptom 35", "symptom 48"]),
        ("    rule: [1, 12]\n    rule: 3", ["rule 1", "rule 12", "rule 3"]),
        ("\\U00010000, U+0020, RU5, U300", ["U300"]),
        ("@@4.3-4.1", ["@4.3-4.1"]),  # as it is not a range
        ("@@1.2-2", ["@1.2-2"]),
        ("@ 4.3, @x", ["@4.3", "@ without a number"]),
    ],
)
def test_the_finder(text: str, expected: list[str]) -> None:
    found = [what for _, what in citations(text.replace("@", SIGN), scenario=True)]
    assert found == [each.replace("@", SIGN) for each in expected]


@pytest.mark.parametrize(
    "text",
    ["@4.9", "@12", "@@1.1-1.9", "U20", "U0", "symptom 59", "    rule: 13", "@@4.3-4.1", "@1.10", "@x"],
)
def test_a_wrong_citation_is_caught(text: str) -> None:
    found = [what for _, what in citations(text.replace("@", SIGN), scenario=True)]
    assert set(found) - citable().keys()
