"""What the lab may ask the controller, over its Unix socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vswitch.controller.transaction import Transactions
from vswitch.errors import LabError
from vswitch.json_values import Json
from vswitch.wire import Handler, WithDescriptors

__all__ = ["handler"]


def handler(transactions: Transactions) -> Handler:
    """The operations as `vswitch.wire.serve` takes them.

    apply {policies: [path], texts: {path: text}}: put these policies in force; an ApplyReport.
    compiled {digest: text}: what the policy in force means, if its files are those with this digest, as a
    descriptor (see `CompiledPolicy`). status {}: a ControllerStatus. wait_ready {seconds: 60}: every switch
    is right.
    """

    def apply(args: dict[str, Any], progress: Callable[[str], None]) -> Json:
        progress("comparing with what is in force")
        return transactions.apply(args["policies"], args["texts"]).to_dict()

    def compiled(args: dict[str, Any], _: Callable[[str], None]) -> WithDescriptors:
        found = transactions.compiled(args["digest"])
        return WithDescriptors(None, (found.to_descriptor(),) if found else ())

    def wait_ready(args: dict[str, Any], _: Callable[[str], None]) -> None:
        transactions.wait_ready(float(args.get("seconds", 60)))

    def status(_: dict[str, Any], __: Callable[[str], None]) -> Json:
        return transactions.status().to_dict()

    operations: dict[str, Callable[[dict[str, Any], Callable[[str], None]], Json | WithDescriptors | None]]
    operations = {"apply": apply, "compiled": compiled, "status": status, "wait_ready": wait_ready}

    def handle(op: str, args: dict[str, Any], progress: Callable[[str], None]) -> Any:
        operation = operations.get(op)
        if operation is None:
            raise LabError(f"the controller knows no operation {op!r}")
        return operation(args, progress)

    return handle
