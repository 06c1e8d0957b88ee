"""Lines and tables on a terminal: coloured, folded between words to its width. Uses rich."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

__all__ = ["Terminal", "terminal_of"]

_HANG = 2
_GAP = "  "  # as between the columns of a `Page` without a terminal


def terminal_of(stream: TextIO) -> Terminal | None:
    """The terminal that `stream` leads to, None for a file or a pipe."""
    console = Console(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=True)
    return Terminal(console) if console.is_terminal else None


class Terminal:
    """A terminal as `Page` uses it. Texts given are safe to print."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.width = console.width

    def line(self, parts: Iterable[tuple[str, str]], hang: int | None) -> None:
        """Print one line of texts with their styles; if folded, what follows begins after `hang` blanks."""
        text = Text.assemble(*parts)
        if hang is None:
            hang = len(text.plain) - len(text.plain.lstrip()) + _HANG
        for index, each in enumerate(_folded(text, self.width, hang)):
            self._console.print(Text(" " * hang if index else "").append_text(each))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]) -> None:
        """Print a table, columns of `numbers` to the right; a paragraph for each row if it is too wide."""
        cells = [[Text(cell) for cell in row] for row in rows]
        grid = [[Text(heading, style="bold") for heading in headings], *cells]
        widths = _widths(grid, self.width)
        if widths is None:
            for row in rows:
                pairs = zip(headings, row, strict=True)
                parts = [
                    part
                    for name, cell in pairs
                    if cell
                    for part in ((name, "bold"), (f" {cell}", ""), (_GAP, ""))
                ]
                self.line(parts[:-1], None)
            return
        for line in grid:
            columns = [_folded(cell, width, 0) for cell, width in zip(line, widths, strict=True)]
            for several in zip_longest(*columns, fillvalue=Text()):
                joined = Text()
                for cell, width, number in zip(several, widths, numbers, strict=True):
                    blanks = " " * (width - cell_len(cell.plain))
                    joined.append(blanks if number else "").append_text(cell)
                    joined.append("" if number else blanks).append(_GAP)
                joined.rstrip()
                self._console.print(joined)


def _words(text: str, width: int) -> Iterator[int]:
    """Where a line may be broken: in front of each word, and behind commas in those wider than a line."""
    for word in re.finditer(r"\S+", text):
        if cell_len(word[0]) <= width:
            yield word.start()
        else:
            yield from (word.start() + part.start() for part in re.finditer(r"[^,]+,*|,+", word[0]))


def _folded(text: Text, width: int, hang: int) -> list[Text]:
    """The lines of a text: at most `width` cells each, those after the first with `hang` cells less.

    A word wider than that stays in one piece.
    """
    plain = text.plain
    if cell_len(plain) <= width:
        return [text]
    room = max(1, width - hang)
    breaks: list[int] = []
    begin, limit, last = 0, width, 0
    for place in [*_words(plain, room), len(plain)]:
        if cell_len(plain[begin:place].rstrip()) > limit and plain[begin:last].strip():
            breaks.append(last)
            begin, limit = last, room
        last = place
    pieces = list(text.divide(breaks))
    for piece in pieces:
        piece.rstrip()
    return pieces


def _widths(grid: Sequence[Sequence[Text]], width: int) -> list[int] | None:
    """How wide each column of a table gets, so that no word is cut; None if that is not to be had."""
    columns = list(zip(*grid, strict=True))
    natural = [max(cell_len(cell.plain) for cell in column) for column in columns]
    excess = sum(natural) + len(_GAP) * (len(natural) - 1) - width
    least = [
        max((cell_len(word) for cell in column for word in cell.plain.split()), default=0)
        for column in columns
    ]
    for index in sorted(range(len(natural)), key=lambda index: least[index] - natural[index]):
        if excess <= 0:
            break
        taken = min(excess, natural[index] - least[index])
        natural[index] -= taken
        excess -= taken
    return natural if excess <= 0 else None
