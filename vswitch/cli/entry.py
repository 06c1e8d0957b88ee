"""Where the `vswitch` command begins: so little is loaded here that Ctrl-C finds nothing to break."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with exit status 130 at any time."""
    try:
        from vswitch.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
