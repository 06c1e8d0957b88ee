"""Where the `vswitch` command begins: so little is loaded here that Ctrl-C finds nothing to break."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with exit status 130 at any time."""
    # Most of what is made while modules load stays to the end: looking through it for garbage again and
    # again, as the default thresholds do, takes a fifth of the time of a short command.
    gc.set_threshold(500_000, 10, 10)
    # To look for plugins pydantic reads the metadata of every package there is; none is meant for us.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    try:
        _open_what_is_closed()
        try:
            from vswitch.cli.main import prepared

            run = prepared()
        except Exception as error:
            from vswitch.exhausted import exhausted_by

            if exhausted := exhausted_by(error):
                sys.stderr.write(f"error: {exhausted}\n")
                sys.exit(exhausted.exit_status)
            sys.stderr.write(f"error: vswitch cannot be loaded: {type(error).__name__}: {error}\n")
            sys.exit(70)  # as errors.Fault, which may be what cannot be loaded
        run()
    except KeyboardInterrupt:
        sys.exit(130)


def _open_what_is_closed() -> None:
    """Give each standard stream that the caller has closed the null device.

    The next file or socket to be opened would get its number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
