"""Where the `vswitch` command begins: so little is loaded here that Ctrl-C finds nothing to break."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with exit status 130 at any time."""
    try:
        try:
            from vswitch.cli.main import main as run
        except Exception as error:
            sys.stderr.write(f"error: vswitch cannot be loaded: {type(error).__name__}: {error}\n")
            sys.exit(70)  # as errors.Fault, which may be what cannot be loaded
        run()
    except KeyboardInterrupt:
        sys.exit(130)
