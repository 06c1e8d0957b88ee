"""The one border at which text leaves `vswitch`: results, errors, notes, questions, progress.

Names, records and packets are other people's words. Nothing in them is interpreted: no markup, no emoji,
no escape sequence; `Page.line` prints one line whatever its parts hold (see `vswitch.wording.visible`).
Text of several lines is composed of several calls, so that no foreign word can begin a line.

What programs read leaves byte by byte: JSON (which is ASCII), files, a script (`verbatim`), and what a
command says that `exec` or `shell` runs inside a guest.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import zip_longest
from typing import Annotated, Any, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vswitch.errors import InputError, InputErrors, VswitchError
from vswitch.wire import error_as_data
from vswitch.wording import visible

__all__ = [
    "Output",
    "OutputOption",
    "Page",
    "Part",
    "ask",
    "check_seconds",
    "emit",
    "note",
    "print_error",
    "progress",
    "usage_error",
    "verbatim",
]

#: What lines are made of: plain text, or text and a style of rich's, such as `("Deny", "bold red")`.
Part = str | tuple[str, str]

_LABEL = 10  # the widest label of `Page.item`
_GAP = "  "
_HANG = 2


class Output(StrEnum):
    """What a command prints its result as."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", case_sensitive=False, help="Print the result as text or JSON."),
]


class Page:
    """Text for people on a stream.

    On a terminal lines are folded between words, never inside: places, addresses and names stay whole.
    Into a file or a pipe nothing is folded or coloured.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._width = self._console.width if self._console.is_terminal else None

    def line(self, *parts: Part, hang: int | None = None) -> None:
        """Print one line; if it is folded, what follows begins after `hang` blanks."""
        text = self._text(*parts)
        if hang is None:
            hang = len(text.plain) - len(text.plain.lstrip()) + _HANG
        for index, each in enumerate(_folded(text, self._width, hang)):
            self._console.print(Text(" " * hang if index else "").append_text(each))

    def item(self, label: str, *parts: Part) -> None:
        """Print a line under a heading: a label of at most ten letters, and what there is to say."""
        assert len(label) <= _LABEL, label
        start = f"{_GAP}{label:<{_LABEL}} "
        self.line((start, "bold"), *parts, hang=len(start))

    def lines(self, text: str, indent: int = 0) -> None:
        """Print text that has lines of its own, such as a log, each after `indent` blanks."""
        for each in text.expandtabs().split("\n"):
            self.line(" " * indent, each.rstrip("\r"))

    def warnings(self, warnings: Iterable[str], word: str = "warning") -> None:
        """Print warnings, or notes, under a result."""
        for each in warnings:
            self.line(_GAP, (f"{word}:", "yellow"), f" {each}")

    def table(self, headings: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
        """Print a table without frames, numbers to the right; a paragraph for each row if it is too wide."""
        lines = [list(row) for row in rows]
        cells = [[self._text("" if cell is None else str(cell)) for cell in line] for line in lines]
        numbers = [
            bool(lines) and all(isinstance(line[index], int | float) for line in lines)
            for index in range(len(headings))
        ]
        grid = [[Text(heading, style="bold") for heading in headings], *cells]
        widths = _widths(grid, self._width)
        if widths is None:
            for line in cells:
                pairs = [(heading, cell.plain) for heading, cell in zip(headings, line, strict=True)]
                parts = [
                    part for heading, cell in pairs if cell for part in ((heading, "bold"), f" {cell}", _GAP)
                ]
                self.line(*parts[:-1])
            return
        for row in grid:
            columns = [_folded(cell, width, 0) for cell, width in zip(row, widths, strict=True)]
            for several in zip_longest(*columns, fillvalue=Text()):
                joined = Text()
                for cell, width, number in zip(several, widths, numbers, strict=True):
                    blanks = " " * (width - cell_len(cell.plain))
                    joined.append(blanks if number else "").append_text(cell)
                    joined.append("" if number else blanks).append(_GAP)
                joined.rstrip()
                self._console.print(joined)

    def _text(self, *parts: Part) -> Text:
        return Text.assemble(
            *(self._safe(part) if isinstance(part, str) else (self._safe(part[0]), part[1]) for part in parts)
        )

    def _safe(self, text: str) -> str:
        """`text` in characters that can be seen, and that the stream has."""
        return visible(text).encode(self._encoding, "backslashreplace").decode(self._encoding)


def _words(text: str, width: int) -> Iterator[int]:
    """Where a line may be broken: in front of each word, and behind commas in those wider than a line."""
    for word in re.finditer(r"\S+", text):
        if cell_len(word[0]) <= width:
            yield word.start()
        else:
            yield from (word.start() + part.start() for part in re.finditer(r"[^,]+,*|,+", word[0]))


def _folded(text: Text, width: int | None, hang: int) -> list[Text]:
    """The lines of a text: at most `width` cells each, those after the first with `hang` cells less.

    A word wider than that stays in one piece.
    """
    plain = text.plain
    if width is None or cell_len(plain) <= width:
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


def _widths(grid: Sequence[Sequence[Text]], width: int | None) -> list[int] | None:
    """How wide each column of a table gets, so that no word is cut; None if that is not to be had."""
    columns = list(zip(*grid, strict=True))
    natural = [max(cell_len(cell.plain) for cell in column) for column in columns]
    if width is None:
        return natural
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


def emit(data: Any, text: Callable[[Page], None], output: Output) -> None:
    """Print a result: `data` as JSON, or what `text` writes to the page it is given."""
    if output is Output.JSON:
        json.dump(data, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        text(Page(sys.stdout))


def verbatim(text: str) -> None:
    """Print a document that a program will read, such as a script, without a change."""
    sys.stdout.write(text)


def note(*parts: Part) -> None:
    """Print a line beside the result, to the standard error."""
    Page(sys.stderr).line(*parts)


def ask(question: str) -> None:
    """Ask the person at the terminal; raises typer.Abort for anything but yes."""
    typer.confirm(visible(question), abort=True, err=True)


def print_error(error: VswitchError, *, as_json: bool, page: Page | None = None, indent: int = 0) -> None:
    """Print an error: where, what, and what to do about it. Several from one load, one after the other.

    As text to the standard error, or to `page` after `indent` blanks.
    """
    if as_json:
        json.dump(error_as_data(error), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    page = page or Page(sys.stderr)
    margin = " " * indent
    for single in error.errors if isinstance(error, InputErrors) else [error]:
        place = f"{single.where}: " if single.where else ""
        page.line(margin, ("error:", "bold red"), f" {place}{single.message}")
        if single.hint:
            page.line(margin, _GAP, single.hint)


def usage_error(error: Any) -> InputError:
    """An error of usage as click raises it, in the style of all others."""
    message = " ".join(error.format_message().split()).removesuffix(".").replace(": Value error, ", ": ")
    usage = f"{' '.join(error.ctx.get_usage().split())}; " if error.ctx else ""
    more = f"{error.ctx.command_path if error.ctx else 'vswitch'} --help says more"
    return InputError(message[:1].lower() + message[1:], hint=f"{usage}{more}")


def check_seconds(timeout: float) -> None:
    """Raise InputError for what is no time to wait."""
    if not 0 < timeout < math.inf:
        raise InputError("the timeout must be a number of seconds, more than 0")


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is going on; yields a function that says what is being done now."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return

    def line(text: str) -> Text:
        return Text(visible(text), no_wrap=True, overflow="ellipsis")

    with console.status(line(title)) as status:
        yield lambda text: status.update(line(f"{title}: {text}"))
