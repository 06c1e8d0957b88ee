"""The option that names a lab."""

from __future__ import annotations

from typing import Annotated

import typer

from vswitch.cli import completion

__all__ = ["LabOption"]


LabOption = Annotated[
    str | None,
    typer.Option(
        "--lab",
        "-l",
        help="The lab's name; not needed while only one runs.",
        envvar="VSWITCH_LAB",
        autocompletion=completion.lab_names,
    ),
]
