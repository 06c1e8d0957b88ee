"""What Hyper-V and the module refuse becomes one sentence with host, adapter, rule and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.modelled_host.host import shipped_module
from vswitch.errors import Origin
from vswitch.hyperv.winrm.winrm_errors import hyperv_problem, script_problem
from vswitch.json_values import Json

CATEGORIES = sorted(set(re.findall(r"-Category '(\w+)'", shipped_module())))
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "powershell.md"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"hresult": 0x800700B7 - (1 << 32)}, "already has an entry of the same direction and weight"),
        ({"hresult": 0x80070057, "message": "Invalid parameter"}, "does not accept rule allow-http"),
        ({"hresult": 0x80070005 - (1 << 32)}, "denies access"),
        ({"message": "You do not have the required permission to do this."}, "denies access"),
        ({"hresult": 0x80070490}, "adapter web01 / lan is not there any more"),
        (
            {"category": "ObjectNotFound", "message": "Hyper-V was unable to find a virtual machine"},
            "the VM is",
        ),
        ({"fullyQualifiedErrorId": "CommandNotFoundException"}, "PowerShell module is missing"),
        ({"hresult": 0x800713CE - (1 << 32)}, "in maintenance"),
        ({"hresult": 0x800706BA - (1 << 32), "message": "RPC"}, "management service does not run"),
        ({"hresult": 0x8007139F - (1 << 32), "message": "wrong state"}, "is busy on adapter web01 / lan"),
        ({"category": "Bootstrap", "message": "no"}, "could not be started: no"),
        ({"hresult": 0x80041001, "message": "Generic failure"}, "(0x80041001): Generic failure"),
        (
            {
                "category": "StateChanged",
                "fullyQualifiedErrorId": "Vswitch.StateChanged",
                "message": "The entries have changed since the plan was made",
            },
            "The entries have changed since the plan was made on adapter web01 / lan",
        ),
        ({}, "Hyper-V refused rule allow-http on adapter web01 / lan"),
    ],
)
def test_refusals(error: dict[str, Json], expected: str) -> None:
    where = Origin("web.yaml", 3, 5)
    problem = hyperv_problem(error, host="hv01", adapter="web01 / lan", rule="allow-http", where=where)
    assert problem.host == "hv01"
    assert problem.sentence == f"hv01: {problem.message}"
    assert expected in problem.message
    assert "\n" not in problem.message
    assert problem.hint
    assert problem.where == where
    assert problem.host == "hv01"


def test_a_message_of_many_lines_stays_one_sentence() -> None:
    problem = hyperv_problem({"message": "first\r\nsecond " + "x" * 500}, host="hv01")
    assert "first second" in problem.message
    assert len(problem.message) < 320


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (b"Method invocation is supported only on core types in this language mode.", "constrained language"),
        (b"'powershell.exe' is not recognized as an internal or external command,", "is not found"),
        (b"The command line is too long.", "shorter command lines"),
        (b"\r\nsomething else\r\nand more", "with status 1 and without an answer: something else"),
        (b"\xff\xfe", "without an answer"),
        (b"", "without an answer"),
    ],
)
def test_scripts_that_end_without_an_answer(stderr: bytes, expected: str) -> None:
    problem = script_problem("hv01", 1, stderr)
    assert expected in problem.message
    assert problem.hint


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_of_the_module_has_a_remedy_and_is_in_the_reference(category: str) -> None:
    error = {"message": "It is so.", "category": category, "fullyQualifiedErrorId": f"Vswitch.{category}"}
    assert "docs/reference" not in hyperv_problem(error, host="hv01").hint
    assert re.search(rf"^\|.*`{category}`.*\|.*\|$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_categories_are_found_in_the_module() -> None:
    assert {"UnreadableEntry", "BadPlan"} <= set(CATEGORIES)
    assert shipped_module().count("New-VswitchError -Category '") == shipped_module().count(
        "New-VswitchError -Category"
    )
