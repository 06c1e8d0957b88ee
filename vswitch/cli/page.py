"""Text for people on a stream: lines, items, tables.

Names, records and packets are other people's words. Nothing in them is interpreted: no markup, no emoji,
no escape sequence; `Page.line` prints one line whatever its parts hold (see `vswitch.wording.visible`).
Text of several lines is composed of several calls, so that no foreign word can begin a line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from vswitch.wording import visible

if TYPE_CHECKING:
    from vswitch.cli.terminal import Terminal

__all__ = ["GAP", "Page", "Part", "cells", "may_be_terminal", "verbatim"]

#: What lines are made of: plain text, or text and a style of rich's, such as `("Deny", "bold red")`.
Part = str | tuple[str, str]

#: Between the columns of a table, and in front of what stands under a heading.
GAP = "  "

_LABEL = 10  # the widest label of `Page.item`
#: With one of these in the environment rich may take a pipe for a terminal.
_FORCING = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class Page:
    """Text for people on a stream.

    On a terminal lines are folded between words, never inside: places, addresses and names stay whole.
    Into a file or a pipe nothing is folded or coloured.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._terminal = _terminal(stream)

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None for a file or a pipe."""
        return self._terminal.width if self._terminal else None

    def line(self, *parts: Part, hang: int | None = None) -> None:
        """Print one line; if it is folded, what follows begins after `hang` blanks."""
        if self._terminal is None:
            self._write("".join(self._safe(part if isinstance(part, str) else part[0]) for part in parts))
            return
        safe = [
            (self._safe(part), "") if isinstance(part, str) else (self._safe(part[0]), part[1])
            for part in parts
        ]
        self._terminal.line(safe, hang)

    def item(self, label: str, *parts: Part) -> None:
        """Print a line under a heading: a label of at most ten letters, and what there is to say."""
        assert len(label) <= _LABEL, label
        start = f"{GAP}{label:<{_LABEL}} "
        self.line((start, "bold"), *parts, hang=len(start))

    def lines(self, text: str, indent: int = 0) -> None:
        """Print text that has lines of its own, such as a log, each after `indent` blanks."""
        for each in text.expandtabs().split("\n"):
            self.line(" " * indent, each.rstrip("\r"))

    def warnings(self, warnings: Iterable[str], word: str = "warning") -> None:
        """Print warnings, or notes, under a result."""
        for each in warnings:
            self.line(GAP, (f"{word}:", "yellow"), f" {each}")

    def table(self, headings: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
        """Print a table without frames, numbers to the right; a paragraph for each row if it is too wide."""
        values = [list(row) for row in rows]
        lines = [[self._safe("" if cell is None else str(cell)) for cell in row] for row in values]
        numbers = [
            bool(values) and all(isinstance(row[index], int | float) for row in values)
            for index in range(len(headings))
        ]
        if self._terminal is not None:
            self._terminal.table(headings, lines, numbers)
            return
        grid = [list(headings), *lines]
        widths = [max(map(cells, column)) for column in zip(*grid, strict=True)]
        for row in grid:
            padded = []
            for cell, width, number in zip(row, widths, numbers, strict=True):
                blanks = " " * (width - cells(cell))
                padded.append(blanks + cell if number else cell + blanks)
            self._write(GAP.join(padded).rstrip())

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()  # what goes to the other standard stream keeps its place

    def _safe(self, text: str) -> str:
        """`text` in characters that can be seen, and that the stream has."""
        return visible(text).encode(self._encoding, "backslashreplace").decode(self._encoding)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def verbatim(text: str) -> None:
    """Print a document that a program will read, such as a script, without a change."""
    sys.stdout.write(text)


def may_be_terminal(stream: TextIO) -> bool:
    """Whether rich, which takes its time to load, has to be asked if `stream` is a terminal."""
    return stream.isatty() or any(os.environ.get(name) for name in _FORCING)


def _terminal(stream: TextIO) -> Terminal | None:
    if not may_be_terminal(stream):
        return None
    from vswitch.cli.terminal import terminal_of

    return terminal_of(stream)
