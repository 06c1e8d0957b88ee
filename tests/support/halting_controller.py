"""The controller, dying or waiting where `tests.support.halting` says.

Points: asked, begin, begun, bundle N, bundled N (N is the host's index), commit, sessions.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.support.halting import HELD, halt_file
from vswitch.controller import transaction
from vswitch.controller.__main__ import main
from vswitch.controller.transaction import Transactions
from vswitch.inforce import Record
from vswitch.openvswitch import SwitchClient

#: Seconds until a switch that says nothing is given up.
PATIENCE = 3.0


def reached(point: str) -> None:
    """Do what was ordered for this point, once."""
    orders = halt_file()
    if not orders.exists() or orders.read_text().partition(" ")[2] != point:
        return
    what = orders.read_text().partition(" ")[0]
    orders.unlink()
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    held = orders.with_name(HELD)
    held.touch()
    while held.exists():
        time.sleep(0.01)


def halting(owner: type, name: str, before: str, after: str = "") -> None:
    """Make a method stop before and after it does its work."""
    real: Callable[..., Any] = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        number = self.rundir.name if isinstance(self, SwitchClient) else ""
        reached(f"{before} {number}".strip())
        result = real(self, *args, **kwargs)
        reached(f"{after} {number}".strip())
        return result

    setattr(owner, name, wrapped)


class ImpatientClient(SwitchClient):
    """Gives up soon."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, timeout=PATIENCE)


if __name__ == "__main__":
    Transactions.workers = 1  # one switch after the other
    setattr(transaction, "SwitchClient", ImpatientClient)  # noqa: B010  another class of the same kind
    halting(Transactions, "apply", "asked")
    halting(Transactions, "_end_gone", "sessions")
    halting(Record, "begin", "begin", "begun")
    halting(Record, "commit", "commit")
    halting(ImpatientClient, "bundle", "bundle", "bundled")
    main()
