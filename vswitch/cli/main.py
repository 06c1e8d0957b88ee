"""The `vswitch` command."""

from __future__ import annotations

import sys

import typer

from vswitch.cli import asking, inspecting, labs, policies, testing
from vswitch.cli.output import print_error
from vswitch.errors import VswitchError

__all__ = ["app", "main"]

app = typer.Typer(
    name="vswitch",
    help="A Hyper-V virtual switch with its port ACLs, in a lab of real packets.",
    epilog="Exit status: 0 yes, 1 no or failed, 2 wrong usage or input.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (policies, labs, asking, inspecting, testing):
    module.register(app)


def main() -> None:
    """Run the command line; no traceback reaches the user."""
    as_json = any(
        word in ("--output=json", "-ojson") or (word in ("--output", "-o") and following == "json")
        for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True)
    )
    try:
        app()
    except VswitchError as error:
        print_error(error, as_json=as_json)
        sys.exit(error.exit_status)
