"""The `vswitch` command."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import typer

from vswitch.cli import asking, completion, hyperv, inspecting, labs, testing
from vswitch.cli import policy_commands as policies
from vswitch.cli.arguments import check_arguments, own_words
from vswitch.cli.ending import end_with
from vswitch.cli.front import Commands, add_help, arranged, top
from vswitch.cli.output import print_error, usage_error
from vswitch.errors import VswitchError

__all__ = ["app", "main"]

_HELP = "A Hyper-V virtual switch with its port ACLs, in a lab of real packets."

app = typer.Typer(
    name="vswitch",
    help=_HELP,
    epilog="Exit status: 0 yes, 1 no or failed, 2 wrong usage or input, 3 out of resources,"
    " 70 a defect of vswitch. --output and --lab may also come before the command.",
    cls=Commands,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (policies, labs, asking, inspecting, testing):
    module.register(app)
app.add_typer(hyperv.app)
app.callback(help=_HELP)(top)
add_help(app, app)
add_help(hyperv.app, app, "hyperv")

# Typer may bring its own copy of click; its usage errors are reached through the one it offers by name.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; no traceback reaches the user. With a shell's question, answer that."""
    if completion.is_asked():
        sys.exit(completion.answer(app))
    completion.use_own_scripts()
    words = arranged(sys.argv[1:])
    as_json = _wants_json(words)
    try:
        check_arguments(words)
        try:
            # By itself click prints its usage errors in a style of its own.
            status = app(words, prog_name="vswitch", standalone_mode=False)
        finally:
            sys.stdout.flush()  # here, where it can still be said that the disk is full
    except _UsageError as error:
        if error.format_message():  # else the help was printed in its place
            print_error(usage_error(error), as_json=as_json)
        sys.exit(error.exit_code)
    except typer.Abort:  # somebody was asked, and said no
        print_error(VswitchError("aborted"), as_json=as_json)
        sys.exit(VswitchError.exit_status)
    except Exception as error:
        sys.exit(end_with(error, as_json=as_json))
    sys.exit(status)


def _wants_json(words: list[str]) -> bool:
    """Whether these arguments ask for JSON."""
    return any(
        word in ("--output=json", "-ojson") or (word in ("--output", "-o") and following == "json")
        for word, following in pairwise([*own_words(words), ""])
    )
