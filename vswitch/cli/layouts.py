"""`layouts`: the layouts that ship with this program, to look at and to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vswitch.cli import completion
from vswitch.cli.output import Output, OutputOption, Page, emit
from vswitch.cli.shipped import shipped_folder, shipped_layouts
from vswitch.errors import InputError
from vswitch.model.problems import did_you_mean, listing

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: [bold]vswitch layouts two-hosts[/]")(layouts)


def layouts(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Copy these, with their policies; without any, list them.",
            autocompletion=completion.shipped_layouts,
        ),
    ] = None,
    into: Annotated[Path, typer.Option("--into", help="The folder to copy to.")] = Path(),
    output: OutputOption = Output.TEXT,
) -> None:
    """List the layouts that ship with vswitch, or copy some to begin with.

    No file that is there already is overwritten.
    """
    found = shipped_layouts()
    for name in names or ():
        if name not in found:
            known = listing(list(found), limit=len(found))
            hint = f"{did_you_mean(name, found)} layouts: {known}".strip()
            raise InputError(f"no shipped layout is called {name!r}", hint=hint)
    files = [file for name in names or () for file in (f"{name}.yaml", *found[name])]
    copied = _copy(list(dict.fromkeys(files)), into)

    def text_of(page: Page) -> None:
        for file in copied:
            page.line(("copied", "green"), f" {file}")
        if not names:
            page.table(("layout", "policies"), [[name, ", ".join(found[name])] for name in found])

    emit({"copied": copied} if names else {"layouts": found}, text_of, output)


def _copy(files: list[str], into: Path) -> list[str]:
    """Copy shipped files to a folder; their new paths. Raises InputError, and then has copied nothing."""
    targets = {file: into / file for file in files}
    if files and not into.is_dir():
        raise InputError(f"{into} is not a folder", hint="Make it first, or name another with --into.")
    for target in targets.values():
        if target.exists():
            raise InputError(f"{target} is there already", hint="Name another folder with --into.")
    for file, target in targets.items():
        data = (shipped_folder() / file).read_bytes()
        try:
            target.write_bytes(data)
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}") from None
    return [str(target) for target in targets.values()]
