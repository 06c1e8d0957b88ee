"""The one border at which text leaves `vswitch`: results, errors, notes, questions, progress.

What people read goes to a `vswitch.cli.page.Page`. What programs read leaves byte by byte: JSON (which is
ASCII), files, a script (`verbatim`), and what a command says that `exec` or `shell` runs inside a guest.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from vswitch.answer_data import AnswerData
from vswitch.cli.page import GAP, Page, Part, may_be_terminal, verbatim
from vswitch.errors import InputError, InputErrors, VswitchError
from vswitch.wording import counted, visible

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

# Mistakes that differ only in this, and those of one kind that are shown: nobody reads more of them.
_DIFFERING = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]+")
_MOST_ALIKE = 20


class Output(StrEnum):
    """What a command prints its result as."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", case_sensitive=False, help="Print the result as text or JSON."),
]


def emit(data: Any, text: Callable[[Page], None], output: Output) -> None:
    """Print a result: `data` (answers, plain data) as JSON, or what `text` writes to the page it is given."""
    if output is Output.JSON:
        json.dump(data, sys.stdout, indent=2, default=_plain)
        sys.stdout.write("\n")
    else:
        text(Page(sys.stdout))


def _plain(value: object) -> Any:
    return value.to_dict() if isinstance(value, AnswerData) else str(value)


def note(*parts: Part) -> None:
    """Print a line beside the result, to the standard error."""
    Page(sys.stderr).line(*parts)


def ask(question: str) -> None:
    """Ask the person at the terminal; raises typer.Abort for anything but yes."""
    typer.confirm(visible(question), abort=True, err=True)


def print_error(error: VswitchError, *, as_json: bool, page: Page | None = None, indent: int = 0) -> None:
    """Print an error: where, what, and what to do about it. Several from one load, one after the other.

    As text to the standard error, or to `page` after `indent` blanks; of many that differ only in numbers and
    in what they quote, the first ones. JSON has all.
    """
    if as_json:
        from vswitch.wire import error_as_data

        json.dump(error_as_data(error), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    page = page or Page(sys.stderr)
    margin = " " * indent
    alike: Counter[str] = Counter()
    for single in error.errors if isinstance(error, InputErrors) else [error]:
        kind = _DIFFERING.sub("", single.message)
        alike[kind] += 1
        if alike[kind] > _MOST_ALIKE:
            continue
        place = f"{single.where}: " if single.where else ""
        page.line(margin, ("error:", "bold red"), f" {place}{single.sentence}")
        if single.hint:
            page.line(margin, GAP, single.hint)
    if more := sum(max(0, count - _MOST_ALIKE) for count in alike.values()):
        page.line(margin, f"and {counted(more, 'more mistake', 'more mistakes')} like those above")


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
    if not may_be_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return

    def line(text: str) -> Text:
        return Text(visible(text), no_wrap=True, overflow="ellipsis")

    with console.status(line(title)) as status:
        yield lambda text: status.update(line(f"{title}: {text}"))
