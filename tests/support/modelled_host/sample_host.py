"""A small modelled host, the shipped module run on it, and a plan for it."""

from __future__ import annotations

from typing import Any

from tests.support.modelled_host.host import (
    HypervHost,
    shipped_module,
)
from tests.support.modelled_host.states import basic, extended, plan, sample_state, step
from tests.support.modelled_host.values import keys_of

TEXT = shipped_module()
HTTPS = extended("Allow", "Inbound", 500, Protocol="TCP", LocalPort="443")
SSH = extended(
    "Allow", "Inbound", 600, Protocol="TCP", LocalPort="22", RemoteIPAddress="10.0.0.0/8",
    Stateful=True, IdleSessionTimeout=300,
)  # fmt: skip
DENY_OUT = extended("Deny", "Outbound", 1)
ANY_IN = basic("Deny", "Inbound", "Remote", 6, "ANY")
MAC_IN = basic("Allow", "Inbound", "Remote", 1, "00-15-5D-01-02-03")


def sample(**options: Any) -> tuple[HypervHost, list[str]]:
    state = sample_state()
    return HypervHost(state, **options), [one["Id"] for one in state["adapters"]]


def run(host: HypervHost, operation: str, **arguments: Any) -> dict[str, Any]:
    return host.execute(TEXT, {"operation": operation, "arguments": arguments})


def ok(host: HypervHost, operation: str, **arguments: Any) -> dict[str, Any]:
    answer = run(host, operation, **arguments)
    assert answer["ok"], answer["error"]
    result: dict[str, Any] = answer["result"]
    return result


def refused(host: HypervHost, operation: str, **arguments: Any) -> dict[str, Any]:
    answer = run(host, operation, **arguments)
    assert not answer["ok"]
    error: dict[str, Any] = answer["error"]
    return error


def sample_plan(host: HypervHost, ids: list[str], **fields: Any) -> dict[str, Any]:
    steps = [
        step("addExtended", ids[0], SSH),
        step("removeExtended", ids[0], HTTPS),
        step("addBasic", ids[1], ANY_IN),
        step("addBasic", ids[1], MAC_IN),
        step("addExtended", ids[2], DENY_OUT),
    ]
    record = {"adapter": ids[0], "policy": "web", "entries": [{"kind": "extended", **SSH}]}
    return plan(host.state(), steps, **{"records": [record], **fields})


def record_keys(record: dict[str, Any]) -> list[str]:
    return [key for entry in record["entries"] for key in keys_of(entry["kind"], entry)]
