"""Where the `vswitch` command begins: so little is loaded here that Ctrl-C finds nothing to break."""

from __future__ import annotations

import os
import sys

from vswitch.exhausted import exhausted_by

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with exit status 130 at any time."""
    try:
        _open_what_is_closed()
        try:
            from vswitch.cli.main import main as run
        except Exception as error:
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
