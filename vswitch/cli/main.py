"""The `vswitch` command."""

from __future__ import annotations

import sys
from typing import Any

import typer

from vswitch.cli import asking, hyperv, inspecting, labs, policies, testing
from vswitch.cli.ending import end_with
from vswitch.cli.output import print_error
from vswitch.errors import InputError, VswitchError

__all__ = ["app", "main"]

app = typer.Typer(
    name="vswitch",
    help="A Hyper-V virtual switch with its port ACLs, in a lab of real packets.",
    epilog="Exit status: 0 yes, 1 no or failed, 2 wrong usage or input, 3 out of resources,"
    " 70 a defect of vswitch.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (policies, labs, asking, inspecting, testing):
    module.register(app)
app.add_typer(hyperv.app)

# Typer may bring its own copy of click; its usage errors are reached through the one it offers by name.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; no traceback reaches the user."""
    as_json = _wants_json(sys.argv[1:])
    try:
        try:
            # By itself click prints its usage errors as text.
            status = app(standalone_mode=not as_json)
        finally:
            sys.stdout.flush()  # here, where it can still be said that the disk is full
    except _UsageError as error:
        print_error(InputError(error.format_message(), hint="--help says how."), as_json=True)
        sys.exit(error.exit_code)
    except typer.Abort:  # somebody was asked, and said no
        print_error(VswitchError("aborted"), as_json=True)
        sys.exit(VswitchError.exit_status)
    except Exception as error:
        sys.exit(end_with(error, as_json=as_json))
    sys.exit(status)


def _wants_json(words: list[str]) -> bool:
    """Whether these arguments ask for JSON; what follows `--` belongs to a guest's command."""
    own = words[: words.index("--")] if "--" in words else words
    return any(
        word in ("--output=json", "-ojson") or (word in ("--output", "-o") and following == "json")
        for word, following in zip(own, [*own[1:], ""], strict=True)
    )
