"""Which lab a command means."""

from __future__ import annotations

from typing import Annotated

import typer

from vswitch.errors import InputError, NoSuchLab
from vswitch.lab import client

__all__ = ["LabOption", "choose_lab"]

LabOption = Annotated[
    str | None,
    typer.Option("--lab", "-l", help="The lab's name; not needed while only one runs.", envvar="VSWITCH_LAB"),
]


def choose_lab(name: str | None) -> str:
    """The lab named, or the only one that runs. Raises NoSuchLab or InputError."""
    names = client.running()
    if name is not None:
        return name
    if not names:
        raise NoSuchLab("no lab runs", hint="Start one with `vswitch up LAYOUT`.")
    if len(names) > 1:
        raise InputError("several labs run", hint=f"Name one with --lab: {', '.join(names)}")
    return names[0]
