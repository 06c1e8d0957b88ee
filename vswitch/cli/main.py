"""The `vswitch` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from vswitch.cli.arguments import check_arguments, own_words
from vswitch.cli.ending import end_with
from vswitch.cli.overview import COMMANDS, EPILOG, HELP, answer_at_once
from vswitch.cli.words import COMPLETE, LINE, OURS, arranged, completion_is_asked, split_global, split_line

if TYPE_CHECKING:
    import typer

    app: typer.Typer

__all__ = ["app", "app_for", "main", "prepared"]


def __getattr__(name: str) -> Any:
    """`app`: the whole program as a Typer application; loaded when it is asked for."""
    if name == "app":
        return _app(None)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def app_for(words: list[str]) -> typer.Typer:
    """The program as far as this command line needs it: with the command it names, else with all of them."""
    path, _, rest = split_global(words)
    named = [*path, *rest][1:2] if path == ("help",) else path[:1]
    module = COMMANDS[named[0]].module if named and named[0] in COMMANDS else ""
    return _app(module or None)


@cache
def _app(only: str | None) -> typer.Typer:
    """The program with the commands of one module, or with all."""
    import typer

    from vswitch.cli import completion
    from vswitch.cli.front import Commands, add_help, top

    completion.use_own_scripts()
    made = typer.Typer(
        name="vswitch",
        help=HELP,
        epilog=EPILOG,
        cls=Commands,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in dict.fromkeys(entry.module for entry in COMMANDS.values() if entry.module):
        if only in (name, None):
            import_module(f"vswitch.cli.{name}").register(made)
    if only in ("hyperv", None):
        _add_hyperv_help()
    made.callback(help=HELP)(top)
    add_help(made, _run)
    return made


@cache
def _add_hyperv_help() -> None:
    from vswitch.cli import hyperv
    from vswitch.cli.front import add_help

    add_help(hyperv.app, _run, "hyperv")


def _run(words: list[str]) -> Any:
    return app_for(words)(words, prog_name="vswitch", standalone_mode=False)


def prepared() -> Callable[[], None]:
    """What this process is asked for, loaded and ready to run.

    Raises whatever an installation raises of which parts are missing or broken.
    """
    if answer := answer_at_once(sys.argv[1:]):
        return partial(_end, lambda: answer() and None, as_json=False)
    if completion_is_asked():
        from vswitch.cli import completion

        words = split_line(os.environ.get(LINE, ""))[0][1:] if os.environ[COMPLETE] == OURS else []
        return lambda: sys.exit(completion.answer(app_for(words)))
    words = arranged(sys.argv[1:])
    app_for(words)

    def run() -> Any:
        check_arguments(words)
        return _run(words)

    return partial(_end, run, as_json=_wants_json(words))


def main() -> None:
    """Run the command line; no traceback reaches the user. With a shell's question, answer that."""
    prepared()()


def _end(run: Callable[[], Any], *, as_json: bool) -> NoReturn:
    """Run, say what has gone wrong if anything has, and exit."""
    try:
        try:
            # By itself click prints its usage errors in a style of its own.
            status = run()
        finally:
            sys.stdout.flush()  # here, where it can still be said that the disk is full
    except Exception as error:
        sys.exit(_usage_status(error, as_json) or end_with(error, as_json=as_json))
    sys.exit(status)


def _usage_status(error: Exception, as_json: bool) -> int | None:
    """Print what click has to say about a command line; the exit status. None for all other errors."""
    if "typer" not in sys.modules:
        return None
    import typer

    from vswitch.cli.output import print_error, usage_error
    from vswitch.errors import VswitchError

    # Typer may bring its own copy of click; its usage errors are reached through the one it offers by name.
    kind: Any = typer.BadParameter.__mro__[1]
    if isinstance(error, kind):
        if error.format_message():  # else the help was printed in its place
            print_error(usage_error(error), as_json=as_json)
        return int(error.exit_code)
    if isinstance(error, typer.Abort):  # somebody was asked, and said no
        print_error(VswitchError("aborted"), as_json=as_json)
        return VswitchError.exit_status
    return None


def _wants_json(words: list[str]) -> bool:
    """Whether these arguments ask for JSON."""
    return any(
        word in ("--output=json", "-ojson") or (word in ("--output", "-o") and following == "json")
        for word, following in pairwise([*own_words(words), ""])
    )
