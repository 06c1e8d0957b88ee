"""The page of working assumptions says what the enumeration says, of each."""

from __future__ import annotations

import re
from pathlib import Path

from vswitch.semantics.assumptions import Assumption

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/assumptions.md"
ROW = re.compile(r"^\| \[(U\d+)\]\(#u(\d+)\) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_the_page_has_each_with_its_sentence_in_order() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [(number, f"U{anchor}", text) for number, anchor, text, _ in rows] == [
        (each.value, each.value, each.text) for each in Assumption
    ]
    assert [each.number for each in Assumption] == list(range(1, len(Assumption) + 1))


def test_the_pages_that_count_them_count_right() -> None:
    said = f"U1 to {list(Assumption)[-1]}"
    for page in ("docs/index.md", "docs/reference/hyper-v-facts.md"):
        assert said in (ROOT / page).read_text(encoding="utf-8"), page


def test_each_has_a_section_of_its_own() -> None:
    sections = re.findall(r"^## (U\d+)\n\n\*[A-Z0-9].*?[.]\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [each.value for each in Assumption]


def test_what_explain_is_said_to_show_is_flagged_by_the_reference() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "vswitch/semantics").rglob("*.py"))
    flagged = {Assumption[name].value for name in re.findall(r"\bAssumption\.([A-Z_]+)", code)}
    shown = {number for number, _, _, how in ROW.findall(PAGE.read_text("utf-8")) if how.startswith("yes")}
    assert shown <= flagged
    # Mirror copies are flagged where they arrive, which is never where a question ends.
    assert flagged - shown == {Assumption.MIRRORING}
