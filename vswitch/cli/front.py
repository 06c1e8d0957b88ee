"""What people type first: `help` in every form, options in front of a command, words of other programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vswitch import __version__
from vswitch.cli.output import verbatim
from vswitch.cli.overview import OVERVIEW_WORDS, print_overview
from vswitch.cli.words import GROUPS, arranged, split_global
from vswitch.errors import InputError
from vswitch.model.names import find_name
from vswitch.model.problems import did_you_mean, listing

__all__ = ["GROUPS", "Commands", "add_help", "arranged", "split_global", "top"]

_OTHER_WORDS = {
    "check": "validate", "destroy": "down", "lint": "validate", "list": "ps", "ls": "ps", "ping": "probe",
    "restart": "down, then vswitch up LAYOUT", "run": "exec", "ssh": "shell", "start": "up", "status": "ps",
    "stop": "down", "version": "--version", "why": "explain",
}  # fmt: skip


class Commands(TyperGroup):
    """A group of commands that says what is wrong with the words in front of, and for, a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's; raises InputError for an option that belongs behind a command."""
        known = {option for each in self.get_params(ctx) for option in each.opts}
        first = args[0].partition("=")[0] if args else ""
        if first.startswith("-") and first not in known and not ctx.resilient_parsing:
            raise InputError(
                f"{ctx.command_path} itself has no option {first}",
                hint=f"{did_you_mean(first, known)} Options follow their command: ".lstrip()
                + f"{ctx.command_path} COMMAND {first} ...; "
                f"`{ctx.command_path} help COMMAND` lists a command's options.",
            )
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As click's, without regard to case; raises InputError that names the nearest command."""
        word = args[0]
        names = [name for name, command in self.commands.items() if not command.hidden]
        name = find_name(word, names)
        if name is None and not ctx.resilient_parsing:
            raise InputError(f"{ctx.command_path} has no command {word!r}", hint=self._hint(ctx, word, names))
        return super().resolve_command(ctx, [name or word, *args[1:]])

    def _hint(self, ctx: Any, word: str, names: list[str]) -> str:
        if word.endswith((".yaml", ".yml")):
            return f"`vswitch up {word}` starts it as a lab, `vswitch validate {word}` checks it."
        other = "" if ctx.parent else _OTHER_WORDS.get(word.lower(), "")
        guess = f"did you mean `{ctx.command_path} {other}`?" if other else did_you_mean(word, names)
        return f"{guess} commands: {listing(names, limit=len(names))}".strip()


def _show_version(wanted: bool) -> None:
    if wanted:
        verbatim(f"vswitch {__version__}\n")
        raise typer.Exit


def top(
    _version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of the program itself, as Typer's callback."""


def _commands(ctx: typer.Context) -> list[str]:
    """The commands that `help` knows: below the command group that it belongs to."""
    group: Any = ctx.parent.command if ctx.parent else None
    for word in ctx.params.get("command") or ():
        group = getattr(group, "commands", {}).get(word)
    return [name for name, command in getattr(group, "commands", {}).items() if not command.hidden]


def add_help(app: typer.Typer, run: Callable[[list[str]], object], *path: str) -> None:
    """Give `app`, which is `path` below the program, the command `help`; `run` runs the program on words."""
    example = " ".join(("vswitch", *path, "help"))

    @app.command(
        "help",
        epilog=f"Example: [bold]{example} COMMAND[/]",
        context_settings={"ignore_unknown_options": True},
    )
    def show(
        command: Annotated[
            list[str] | None, typer.Argument(help="The command; all if not named.", autocompletion=_commands)
        ] = None,
    ) -> None:
        """Say what a command does and which options it has: the same as --help behind it."""
        words = arranged([*path, *(command or ()), "--help"])
        if words == OVERVIEW_WORDS:
            print_overview()
        else:
            run(words)
