"""A policy's text cut into its rules, so that an unchanged rule need not be parsed again.

`split_policy` cuts where block style makes it certain that each item means alone what it means in
the file; where it is not certain it returns None and the file is parsed as a whole. Each piece must
still parse alone as exactly one item (rules with open quotes or brackets do not), which the caller
checks once for each text of a piece.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import accumulate

__all__ = ["Piece", "Section", "SplitPolicy", "split_policy"]

#: Text of one item behind its dash, and the line it starts on (from 1).
Piece = tuple[str, int]

_SECTIONS = ("groups", "extended_acls", "acls")
# Anchors reach across items; the rest are tabs and the line breaks that only YAML knows.
_UNSAFE = ("&", "\t", "\r", "\x85", "\u2028", "\u2029", "\ufeff", "\n---", "\n...")
_FILLER = re.compile(r"(?:[ ]*(?:#[^\n]*)?\n)*")
_HEADER = re.compile(r"[a-z_]+:(?:[ ]+#[^\n]*|[ ]*)\n")
_FIRST_ITEM = re.compile(r"([ ]*)- ")


@dataclass(frozen=True, slots=True)
class Section:
    """The items of one list.

    `lead` is what stands before each (indentation and dash), `texts` what stands behind it, `line`
    where the first one starts.
    """

    lead: str = ""
    texts: list[str] = field(default_factory=list)
    line: int = 0

    def line_of(self, place: int) -> int:
        """The line one item starts on."""
        return self.line + sum(text.count("\n") + 1 for text in self.texts[:place])

    def pieces(self) -> list[Piece]:
        """Each text with the line it starts on."""
        lines = accumulate([text.count("\n") + 1 for text in self.texts], initial=self.line)
        return list(zip(self.texts, lines, strict=False))


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """The parts of a policy. `groups` is its whole section's text and first line, or None."""

    groups: Piece | None
    extended_acls: Section
    acls: Section


def split_policy(text: str) -> SplitPolicy | None:
    """Cut a policy into rules, or None where that is not safe. Line breaks must be `\\n`."""
    if not text.endswith("\n"):
        text += "\n"
    start = 0
    if text.startswith("---"):
        start = text.index("\n") + 1
        if text[3:start].strip():
            return None
    if any(text.find(mark, max(start - 1, 0)) != -1 for mark in _UNSAFE):
        return None
    starts = _section_starts(text, start)
    filler = _FILLER.match(text, start)
    if not starts or filler is None or filler.end() != starts[0][0]:
        return None
    groups: Piece | None = None
    lists = {"extended_acls": Section(), "acls": Section()}
    ends = [begin for begin, _ in starts[1:]] + [len(text)]
    for (begin, key), end in zip(starts, ends, strict=True):
        line = text.count("\n", 0, begin) + 1
        if key == "groups":
            groups = (text[begin:end], line)
            continue
        section = _items(text[begin:end], line)
        if section is None:
            return None
        lists[key] = section
    return SplitPolicy(groups, lists["extended_acls"], lists["acls"])


def _section_starts(text: str, start: int) -> list[tuple[int, str]]:
    """Where the lines of the three top-level keys begin, in file order; [] if one comes twice."""
    found: list[tuple[int, str]] = []
    for key in _SECTIONS:
        begin = start if text.startswith(f"{key}:", start) else text.find(f"\n{key}:", max(start - 1, 0)) + 1
        if begin == 0 and not text.startswith(f"{key}:"):
            continue
        if text.find(f"\n{key}:", begin) != -1:
            return []
        found.append((begin, key))
    return sorted(found)


def _items(text: str, line: int) -> Section | None:
    """The items of one section, whose header is on `line`; None if they cannot be told apart."""
    header = _HEADER.match(text)
    if header is None:
        return None
    filler = _FILLER.match(text, header.end())
    first = filler.end() if filler else header.end()
    if first == len(text):
        return Section()
    item = _FIRST_ITEM.match(text, first)
    if item is None:
        return None
    lead = f"{item[1]}- "
    line += text.count("\n", 0, first)
    return Section(lead, text[item.end() :].split(f"\n{lead}"), line)
