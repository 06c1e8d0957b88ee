"""Every PowerShell file keeps the rules, and the rules catch planted defects.

A syntax check and a table of cmdlets are not a Windows host: docs/reference/powershell.md says what
they cannot show.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.powershell.rules import Checker, Finding, module_findings
from tests.support.powershell.tree import Script, text_of, walk

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in (ROOT / "powershell").rglob("*") if path.suffix in (".ps1", ".psm1", ".psd1"))
TABLE = yaml.safe_load((Path(__file__).parent / "cmdlets.yaml").read_text(encoding="utf-8"))


def script(name: str) -> Script:
    return Script(name, (ROOT / "powershell" / name).read_bytes())


MODULE, MANIFEST = script("Vswitch/Vswitch.psm1"), script("Vswitch/Vswitch.psd1")
MEMBERS = yaml.safe_load((Path(__file__).parent / "members.yaml").read_text(encoding="utf-8"))
CHECKER = Checker(TABLE, MODULE.functions, MEMBERS)


def listing(findings: list[Finding]) -> str:
    return "\n".join(str(finding) for finding in findings)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_keeps_the_rules(path: Path) -> None:
    findings = CHECKER.check(Script(str(path.relative_to(ROOT)), path.read_bytes()))
    assert not findings, listing(findings)


def test_module_as_a_whole() -> None:
    findings = module_findings(MODULE, MANIFEST)
    assert not findings, listing(findings)


def test_every_cmdlet_of_the_table_is_used() -> None:
    scripts = [Script(path.name, path.read_bytes()) for path in FILES]
    used = {command.name for one in scripts for command in one.top.commands}
    assert set(TABLE["cmdlets"]) == used & set(TABLE["cmdlets"])


DEFECTS = yaml.safe_load((Path(__file__).parent / "defects.yaml").read_text(encoding="utf-8"))


def plant(defect: dict[str, str]) -> tuple[Script, int]:
    """The module with the defect in it, and the line it is at."""
    source, before = MODULE.source.decode("ascii"), defect["before"]
    at = source.index(before)
    damaged = source[:at] + defect["after"] + source[at + len(before) :]
    return Script("damaged", damaged.encode("utf-8")), source.count("\n", 0, at) + 1


@pytest.mark.slow  # each of seventy reads the whole module again
@pytest.mark.parametrize("defect", DEFECTS["in_a_function"], ids=lambda defect: defect["name"])
def test_planted_defect_is_caught(defect: dict[str, str]) -> None:
    damaged, line = plant(defect)
    findings = CHECKER.check(damaged)
    caught = [finding for finding in findings if finding.rule == defect["rule"]]
    assert caught, f"not caught; found: {listing(findings) or 'nothing'}"
    if defect["rule"] != "grammar":  # an unbalanced brace shows where the file ends
        # A splatted table is judged at the call, some lines below.
        assert any(abs(finding.line - line) <= 40 for finding in caught), listing(caught)


@pytest.mark.parametrize("defect", DEFECTS["in_the_module"], ids=lambda defect: defect["name"])
def test_planted_defect_of_the_whole_module_is_caught(defect: dict[str, str]) -> None:
    findings = module_findings(plant(defect)[0], MANIFEST)
    assert defect["rule"] in {finding.rule for finding in findings}


def test_enough_defects_are_planted() -> None:
    assert sum(len(part) for part in DEFECTS.values()) >= 60


def test_script_of_the_automatic_undo_keeps_the_rules() -> None:
    """It is text in the module: only what loads the module from its file may look like code from data."""
    node = MODULE.functions["Get-VswitchUndoScript"].node
    (text,) = (text_of(part) for part in walk(node) if part.type == "verbatim_here_string_characters")
    undo = Script("undo.ps1", text.removeprefix("@'").removesuffix("'@").strip().encode("ascii"))
    found = [each for each in CHECKER.check(undo) if "$folder is never set" not in each.message]
    assert [finding.rule for finding in found] == ["command", "code", "member"], listing(found)
    calls = [command.name for command in undo.top.commands]
    assert calls == ["Join-Path", "New-Module", "Undo-VswitchPlan", "Start-Sleep"]


def test_every_member_of_the_table_is_used() -> None:
    text = MODULE.source.decode("ascii")
    named = [f"[{kind}]::{member}" for kind, members in MEMBERS["static"].items() for member in members]
    named += [f".{member}(" for member in (*MEMBERS["void"], *MEMBERS["value"])]
    named += [f"'{kind}'" for kind in MEMBERS["new"]]
    assert [name for name in named if name not in text] == []


def test_the_task_runs_that_script_as_text() -> None:
    """`-File` would leave it to a group policy whether the undo comes."""
    text = text_of(MODULE.functions["Register-VswitchUndo"].node)
    assert "-Command " in text
    assert " -File " not in text
    assert "'undo.ps1'" in text_of(MODULE.functions["Save-VswitchUndo"].node)


MOCKS = [
    Script(path.name, path.read_bytes()) for path in sorted((Path(__file__).parent / "mock").rglob("*.psm1"))
]


def test_the_mock_takes_every_parameter_the_module_gives() -> None:
    """The mock only runs where `pwsh` is: what it lacks would show there alone."""
    mocked = {name: function for mock in MOCKS for name, function in mock.functions.items()}
    common = {*TABLE["common"], "Confirm"}
    for function in MODULE.functions.values():
        for command in function.commands:
            if command.name in mocked:
                given = {argument.name for argument in command.arguments if argument.name}
                for variable in command.splats:
                    given |= set(function.table(variable) or {})
                assert given - common <= mocked[command.name].parameters.keys(), command.name
