"""What the lab may ask the controller, over its Unix socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vswitch.controller.transaction import Transactions
from vswitch.errors import LabError
from vswitch.wire import Handler

__all__ = ["handler"]


def handler(transactions: Transactions) -> Handler:
    """The operations as `vswitch.wire.serve` takes them.

    apply {policies: [path], texts: {path: text}}: put these policies in force; an ApplyReport.
    status {}: connected switches and flow counts. wait_ready {seconds: 60}: every switch is right.
    """

    def apply(args: dict[str, Any], progress: Callable[[str], None]) -> dict[str, object]:
        progress("comparing with what is in force")
        return transactions.apply(args["policies"], args["texts"]).as_dict()

    def wait_ready(args: dict[str, Any], _: Callable[[str], None]) -> None:
        transactions.wait_ready(float(args.get("seconds", 60)))

    def status(_: dict[str, Any], __: Callable[[str], None]) -> dict[str, object]:
        return transactions.status()

    operations = {"apply": apply, "status": status, "wait_ready": wait_ready}

    def handle(op: str, args: dict[str, Any], progress: Callable[[str], None]) -> Any:
        operation = operations.get(op)
        if operation is None:
            raise LabError(f"the controller knows no operation {op!r}")
        return operation(args, progress)

    return handle
