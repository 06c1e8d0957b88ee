"""The pages about `vswitch hyperv` have one shape, every option, and sentences that fit a narrow window."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import extended
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from tests.support.winrm.runs import PASSWORD
from vswitch.cli import hyperv
from vswitch.hyperv.winrm.interface import HostCause

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference" / "hyperv"
AT_NIGHT = [
    ROOT / "docs/reference/hyperv.md",
    ROOT / "docs/reference/glossary.md",
    ROOT / "docs/how-to/hyperv.md",
    ROOT / "docs/how-to/runbook.md",
    ROOT / "docs/how-to/remove-every-trace.md",
    *sorted(FOLDER.glob("*.md")),
]
WIDEST = 110
SHAPE = [
    "What it does",
    "Usage",
    "What it does to the host",
    "Options",
    "Examples",
    "Exit status",
    "How to undo",
]
GROUP: Any = typer.main.get_command(hyperv.app)
COMMANDS: dict[str, Any] = {name: command for name, command in GROUP.commands.items() if name != "help"}


def section(page: str, title: str) -> str:
    """The text below a heading of the second level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def without_code(page: str) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", page, flags=re.MULTILINE | re.DOTALL)


def test_each_command_has_a_page() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(COMMANDS)
    index = (ROOT / "docs/reference/hyperv.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(hyperv/([a-z]+)\.md\)", index)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_the_shape_of_all(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# `vswitch hyperv {name}`\n")
    assert re.findall(r"^## (.+)$", without_code(page), re.MULTILINE) == SHAPE
    assert all(section(page, title).strip() for title in SHAPE)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_and_no_other(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`-.*?`) \| ", section(page, "Options"), re.MULTILINE)
    listed = {option for cell in first_cells for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", cell)}
    there = {
        option
        for parameter in COMMANDS[name].params
        if parameter.param_type_name == "option"
        for option in parameter.opts
    }
    assert listed == there


@pytest.mark.parametrize("path", AT_NIGHT, ids=lambda path: path.stem)
def test_no_line_is_wider_than_a_window(path: Path) -> None:
    """Output in examples is as wide as it is."""
    lines = without_code(path.read_text(encoding="utf-8")).splitlines()
    assert not [line for line in lines if len(line) > WIDEST]


@pytest.mark.parametrize("path", AT_NIGHT, ids=lambda path: path.stem)
def test_commands_on_these_pages_exist_with_their_options(path: Path) -> None:
    for words in re.findall(r"vswitch hyperv ([a-z]+[^`\n|;#]*)", path.read_text(encoding="utf-8")):
        name, *rest = words.split()
        assert name in COMMANDS, words
        known = {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)}
        wrong = [word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in known]
        assert not wrong, words


def test_every_cause_is_listed_and_has_a_remedy() -> None:
    causes = {str(each) for each in HostCause}
    runbook = (ROOT / "docs/how-to/runbook.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`.*?) \|", section(runbook, "Host unreachable"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(table))) - {"cause"} == causes
    index = section((ROOT / "docs/reference/hyperv.md").read_text(encoding="utf-8"), "JSON")
    (listed,) = re.findall(r"has `cause`: (.*?)\.\n", index, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == causes


@pytest.mark.parametrize("way", ["as before", "none of ours"])
def test_the_ways_to_leave_no_entry_of_ours(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of `remove-every-trace.md` end with an empty record; one gives back what was adopted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSWITCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VSWITCH_HYPERV_PASSWORD", PASSWORD)
    monkeypatch.delenv("VSWITCH_INVENTORY", raising=False)
    shop = Shop(tmp_path)
    host = HypervHost(shop.state)
    (tmp_path / "none.yaml").write_text("extended_acls: []\n", encoding="utf-8")

    def entries() -> dict[str, int]:
        return {
            each["Id"]: len(each["extendedAcls"]) + len(each["acls"])
            for each in host.state()["adapters"]
            if each["extendedAcls"] or each["acls"]
        }

    (web,) = entries()
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "site.yaml", "policy.yaml", *over)
        shop.run("apply", "site.yaml", "--adopt", "--yes", *over)
        theirs = extended("Deny", "Inbound", 40000, Protocol="TCP", LocalPort="443")
        host.add_entry(web, "extended", theirs)
        shop.edit(
            "extended_acls:",
            "extended_acls:\n  - {adapters: web01, direction: Outbound, action: Deny, weight: 7}",
        )
        shop.run("apply", "site.yaml", "--yes", *over)
        assert entries() == {web: 5}
        if way == "as before":
            (listed,) = shop.json("backups", "hv01", *over)["hosts"]
            shop.run("rollback", "hv01", "--to", listed["result"][-1]["planId"], "--yes", *over)
        else:
            shop.run("apply", "site.yaml", "hv01", "--policy", "none.yaml", "--yes", *over)
        shop.run("verify", "site.yaml", "hv01", "--policy", "none.yaml", *over)
    assert entries() == {web: 4 if way == "as before" else 1}
    assert not any(each["entries"] for each in host.state()["records"])
