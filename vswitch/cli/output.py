"""How commands print: text for people, JSON for programs, errors as three short lines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from vswitch.errors import InputError, InputErrors, VswitchError
from vswitch.wire import error_as_data

__all__ = ["Output", "OutputOption", "check_seconds", "emit", "escape", "print_error", "progress"]


class Output(StrEnum):
    """What a command prints its result as."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Print the result as text or JSON.")]

# Into a file or a pipe nothing is folded.
_console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 1000)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def emit(data: Any, text: Callable[[Console], None], output: Output) -> None:
    """Print a result: `data` as JSON, or what `text` writes to the console it is given."""
    if output is Output.JSON:
        json.dump(data, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        text(_console)


def print_error(error: VswitchError, *, as_json: bool) -> None:
    """Print an error: where, what, and what to do about it. Several from one load, one after the other."""
    if as_json:
        json.dump(error_as_data(error), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    for single in error.errors if isinstance(error, InputErrors) else [error]:
        place = f"{single.where}: " if single.where else ""
        _errors.print(f"[bold red]error:[/] {escape(place)}{escape(single.message)}")
        if single.hint:
            _errors.print(f"  {escape(single.hint)}")


def check_seconds(timeout: float) -> None:
    """Raise InputError for what is no time to wait."""
    if not 0 < timeout < math.inf:
        raise InputError("the timeout must be a number of seconds, more than 0")


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is going on; yields a function that says what is being done now."""
    if not _errors.is_terminal:
        yield lambda _: None
        return
    with _errors.status(escape(title)) as status:
        yield lambda text: status.update(f"{escape(title)}: {escape(text)}")
