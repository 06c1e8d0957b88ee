"""The module runs in PowerShell against a mock of Hyper-V and gives the answers of the model.

These need `pwsh`. They say nothing about Windows PowerShell 5.1's own JSON, Hyper-V's real cmdlets,
folder permissions or scheduled tasks: docs/reference/powershell.md lists that.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.modelled_host.host import CmdletFault, HypervHost, blank_state, shipped_module
from tests.support.modelled_host.states import basic, extended, plan, sample_state, step
from tests.support.powershell.tree import Script, walk

ROOT = Path(__file__).resolve().parents[2]
MOCKS = Path(__file__).parent / "mock"
MODULE = ROOT / "powershell" / "Vswitch" / "Vswitch.psm1"
# What differs from run to run, or from machine to machine.
UNSTABLE = {"time", "os", "computer", "createdAt", "host", "armedUntil"}

SSH = extended(
    "Allow", "Inbound", 600, Protocol="TCP", LocalPort="22", RemoteIPAddress="10.0.0.0/8",
    Stateful=True, IdleSessionTimeout=300,
)  # fmt: skip
DENY_OUT = extended("Deny", "Outbound", 1)
ANY_IN = basic("Deny", "Inbound", "Remote", 6, "ANY")
MAC_IN = basic("Allow", "Inbound", "Remote", 1, "00-15-5D-01-02-03")


@pytest.mark.parametrize("path", sorted(MOCKS.rglob("*.ps*1")), ids=lambda path: path.name)
def test_mock_can_be_read(path: Path) -> None:
    source = path.read_bytes()
    assert source.isascii()
    nodes = list(walk(Script(path.name, source).root))
    assert not [node for node in nodes if node.type == "ERROR" or node.is_missing]


def stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: stable(one) for name, one in value.items() if name not in UNSTABLE and name != "plan"}
    return [stable(one) for one in value] if isinstance(value, list) else value


def performed(
    folder: Path,
    state: dict[str, Any],
    requests: list[dict[str, Any]],
    fail: str = "",
    held: dict[str, str] | None = None,
) -> tuple[list[Any], list[list[str]]]:
    """The answers of the module in `pwsh`, and the calls of each request. `held`: files it finds."""
    for name, content in (held or {}).items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    files = {name: folder / name for name in ("state.json", "requests.jsonl", "calls.log")}
    files["state.json"].write_text(json.dumps(state), encoding="utf-8")
    text = "".join(json.dumps(request) + "\n" for request in requests)
    files["requests.jsonl"].write_text(text, encoding="utf-8")
    variables = {
        "VSWITCH_MOCK_STATE": str(files["state.json"]),
        "VSWITCH_MOCK_LOG": str(files["calls.log"]),
        "VSWITCH_MOCK_FAIL": fail,
        "ProgramData": str(folder / "data"),
        "SystemRoot": str(folder / "windows"),
    }
    command = ["pwsh", "-NoProfile", "-NonInteractive", "-File", str(MOCKS / "run.ps1")]
    command += ["-Module", str(MODULE), "-Requests", str(files["requests.jsonl"]), "-Mocks", str(MOCKS)]
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, check=False, timeout=120, encoding="ascii"
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    calls = files["calls.log"].read_text(encoding="utf-8").split("--\n")[1:]
    return answers, [part.split() for part in calls]


def modelled(
    state: dict[str, Any], requests: list[dict[str, Any]], faults: list[CmdletFault]
) -> tuple[list[Any], list[list[str]]]:
    """The same by the model."""
    host = HypervHost(state, faults=faults)
    answers, calls = [], []
    for request in requests:
        answers.append(host.execute(shipped_module(), request))
        calls.append([name for name in host.log if not name.startswith(("write", "Import-Module"))])
    return answers, calls


def apply(document: dict[str, Any]) -> dict[str, Any]:
    return {"operation": "apply", "arguments": {"plan": document | {"host": ""}}}  # whichever it runs on


def scenario(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    state = sample_state()
    ids = [one["Id"] for one in state["adapters"]]
    export: dict[str, Any] = {"operation": "export", "arguments": {}}
    undo = {"operation": "undo", "arguments": {"planId": "plan-1"}}
    backups = {"operation": "backups", "arguments": {}}
    steps = [
        step("addExtended", ids[0], SSH),
        step("removeExtended", ids[0], state["adapters"][0]["extendedAcls"][1]),
        step("addBasic", ids[1], ANY_IN),
        step("addBasic", ids[2], MAC_IN),
    ]
    record = {"adapter": ids[0], "policy": "web", "entries": [{"kind": "extended", **SSH}]}
    whole = plan(state, steps, records=[record])
    match name:
        case "empty":
            return blank_state(), [export, backups]
        case "export":
            return state, [export]
        case "apply and undo":
            return state, [apply(whole), export, apply(whole), backups, undo, export, undo]
        case "armed":
            armed = whole | {"confirmWithin": 600}
            return state, [apply(armed), {"operation": "confirm", "arguments": {"planId": "plan-1"}}, backups]
        case "later plan":
            later = plan(state, [step("addBasic", ids[1], ANY_IN)], planId="plan-2")
            back = {"operation": "undo", "arguments": {"planId": "plan-2"}}
            confirm = {"operation": "confirm", "arguments": {"planId": "plan-1"}}
            first = plan(state, steps[:1])
            other = plan(state, [step("addExtended", ids[0], DENY_OUT)], planId="plan-2")
            other["adapters"][0]["expectedExtendedAcls"] = [*state["adapters"][0]["extendedAcls"], SSH]
            return state, [apply(first), apply(other), undo, back, undo, confirm, apply(later), backups]
        case "malformed":
            wrong = [
                whole | {"confirmWithin": 5},
                whole | {"steps": [step("addExtended", ids[0], SSH | {"Direction": 3})]},
                whole | {"steps": [step("addBasic", ids[0], SSH)]},
            ]
            return state, [*map(apply, wrong), backups]
        case "refused":
            stale = json.loads(json.dumps(whole))
            stale["adapters"][0]["expectedExtendedAcls"].pop()
            given_back = whole | {"expectedRecords": [record]}
            return state, [
                apply(stale),
                apply(given_back),
                apply(whole | {"planId": "a b"}),
                {"operation": "none"},
                undo,
            ]
        case _:
            one = plan(state, steps[:1])
            return state, [apply(one), export]


@pytest.mark.pwsh
@pytest.mark.parametrize(
    "name",
    ["empty", "export", "apply and undo", "armed", "later plan", "malformed", "refused", "single"],
)
def test_module_answers_as_the_model(tmp_path: Path, name: str) -> None:
    state, requests = scenario(name)
    answers, calls = performed(tmp_path, state, requests)
    expected, expected_calls = modelled(state, requests, [])
    assert calls == expected_calls
    assert stable(answers) == stable(expected)


@pytest.mark.pwsh
def test_failing_step_is_undone_as_in_the_model(tmp_path: Path) -> None:
    state, requests = scenario("apply and undo")
    names = HypervHost(state).steps_of(requests[0])
    fault = CmdletFault(names.index("Add-VMNetworkAdapterAcl") + 1)
    answers, _ = performed(tmp_path, state, requests[:1], fail="Add-VMNetworkAdapterAcl 1")
    expected, _ = modelled(state, requests[:1], [fault])
    assert stable(answers[0]["result"]) == stable(expected[0]["result"])
    for name in ("hresult", "target"):
        assert answers[0]["error"][name] == expected[0]["error"][name]


@pytest.mark.pwsh
def test_names_are_never_commands(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    state = sample_state()
    state["vms"][1]["Name"] = f"$(Set-Content -LiteralPath '{trace}' -Value 1)'; Set-Content '{trace}' 1 #"
    state["adapters"][1]["VMName"] = state["vms"][1]["Name"]
    state["adapters"][1]["Name"] = f"`$(New-Item '{trace}')*[a-z]?"
    one = plan(state, [step("addExtended", state["adapters"][1]["Id"], SSH)])
    answers, _ = performed(tmp_path, state, [{"operation": "export", "arguments": {}}, apply(one)])
    assert [answer["ok"] for answer in answers] == [True, True]
    assert answers[0]["result"]["adapters"][1]["Name"] == state["adapters"][1]["Name"]
    assert not trace.exists()


@pytest.mark.pwsh
def test_damaged_and_half_replaced_files_are_met_as_in_the_model(tmp_path: Path) -> None:
    state, requests = scenario("apply and undo")
    records = {"schema": 1, "records": [{"adapter": "gone", "policy": "web", "entries": []}]}
    held = {
        "vswitch/backups/plan-0.json": "{",
        "vswitch/backups/plan-9.json.new": "{",
        "vswitch/owned.json.new": json.dumps(records),
    }
    answers, _ = performed(tmp_path, state, requests, held=held)
    host = HypervHost(state)
    host.cmdlets.files |= held
    expected = [host.execute(shipped_module(), request) for request in requests]
    assert stable(answers) == stable(expected)
