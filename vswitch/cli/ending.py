"""How a command ends when something has stood in its way: a sentence and an exit status."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["DEBUG", "end_with"]

#: With this variable in the environment a fault of vswitch is shown with its traceback.
DEBUG = "VSWITCH_DEBUG"


def end_with(error: Exception, *, as_json: bool) -> int:
    """Print what has happened, as far as somebody takes it; the exit status for it."""
    from vswitch.cli.output import print_error
    from vswitch.errors import Fault, VswitchError
    from vswitch.exhausted import exhausted_by

    if isinstance(error, BrokenPipeError):  # whoever read has seen enough
        _drop_output()
        return VswitchError.exit_status
    known = exhausted_by(error) or (error if isinstance(error, VswitchError) else None)
    if known is None and os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
        return Fault.exit_status
    told = known or Fault(
        f"this is a fault of vswitch: {type(error).__name__}: {error}",
        hint=f"Please report it; with {DEBUG}=1 in the environment it says where.",
    )
    try:
        print_error(told, as_json=as_json)
        sys.stdout.flush()
    except OSError:
        _drop_output()
        with suppress(OSError):
            print_error(told, as_json=False)
    return told.exit_status


def _drop_output() -> None:
    """Let go of standard output: it takes nothing more, and Python would try once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
