"""`vswitch hyperv`, from the command line to a modelled host over WinRM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.hyperv_host import HypervHost
from tests.support.hyperv_states import sample_state
from tests.support.winrm_endpoint import WinrmEndpoint, host_handler
from tests.support.winrm_runs import PASSWORD
from vswitch.cli.main import app
from vswitch.errors import VswitchError


class Shop:
    """A folder with a host's exported state, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = sample_state()
        (folder / "hv01.json").write_text(json.dumps(self.state), encoding="utf-8")

    def attempt(self, *words: str) -> Result:
        """Run a command; errors that are no defects stay in the result."""
        result = CliRunner().invoke(app, ["hyperv", *words], catch_exceptions=True)
        assert isinstance(result.exception, VswitchError | SystemExit | None), repr(result.exception)
        return result

    def run(self, *words: str, status: int = 0) -> Result:
        result = self.attempt(*words)
        found = result.exit_code
        if isinstance(result.exception, VswitchError):
            found = result.exception.exit_status
        assert found == status, f"{result.output}\n{result.exception!r}"
        return result

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--output", "json", status=status).stdout)

    def edit(self, before: str, after: str) -> None:
        path = self.folder / "policy.yaml"
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSWITCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VSWITCH_HYPERV_PASSWORD", PASSWORD)
    monkeypatch.delenv("VSWITCH_INVENTORY", raising=False)
    return Shop(tmp_path)


def test_import_plan_drift_and_export_from_a_file(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml", status=2)
    shop.run("plan", "layout.yaml", "--from-file", "hv01.json")
    shop.run("drift", "layout.yaml", "--from-file", "hv01.json")
    shop.edit(
        "extended_acls:",
        "extended_acls:\n  - {name: new, adapters: web01, direction: Inbound, action: Deny, weight: 600,"
        " protocol: TCP, local_port: 443}",
    )
    data = shop.json("plan", "layout.yaml", "--from-file", "hv01.json", status=1)
    (plan,) = [each["result"] for each in data["hosts"]]
    (changed,) = [each for each in plan["adapters"] if each["added"]]
    assert [each["rule"] for each in changed["added"]] == ["new"]
    assert changed["effects"][0]["changes"] == {
        "newly denied": [{"version": "IP", "protocol": "TCP", "local_port": "443"}]
    }
    assert changed["shadowing"][0]["wholly"]
    assert "1 missing" in shop.run("drift", "layout.yaml", "--from-file", "hv01.json", status=1).output
    assert "Weight = 600" in shop.run("export", "layout.yaml").output
    shop.run("verify", "layout.yaml", "--from-file", "nothing.json", status=2)


def test_the_whole_way_over_winrm(shop: Shop) -> None:
    host = HypervHost(shop.state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        Path("fleet.yaml").write_text(
            "hosts:\n"
            f"  hv01: {{address: {endpoint.address}, port: {endpoint.port}, https: Off, authentication: ntlm,"
            " user: admin, operation_timeout: 1}\n",
            encoding="utf-8",
        )
        over = ("-i", "fleet.yaml")
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        assert endpoint.count("Create") == 1
        shop.run("apply", "layout.yaml", "--adopt", "--yes", *over)
        shop.run("verify", "layout.yaml", *over)
        shop.edit("local_port: 443", "local_port: 443-444")

        # A saved plan is applied in one round trip, and refused once the host has changed.
        shop.run("plan", "layout.yaml", "--save", "change.json", *over, status=1)
        trips = endpoint.count("Create")
        shop.run("apply", "--plan", "change.json", *over, status=2)  # nobody said --yes
        assert endpoint.count("Create") == trips
        shop.run("apply", "--plan", "change.json", "--yes", "--confirm-within", "600", *over)
        assert endpoint.count("Create") == trips + 1
        shop.run("confirm", "hv01", *over)
        shop.run("drift", "layout.yaml", *over)
        assert "confirmed" in shop.run("backups", "hv01", *over).output
        shop.run("rollback", "hv01", "--yes", *over)
        shop.run("drift", "layout.yaml", *over, status=1)
        data = shop.json("apply", "layout.yaml", "--yes", *over)
        assert data["hosts"][0]["result"]["steps"] > 0
        shop.run("apply", "layout.yaml", "--yes", *over)
        shop.run("drift", "layout.yaml", *over)


def test_a_host_that_does_not_answer_is_status_2(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    Path("fleet.yaml").write_text(
        "hosts: {hv01: {address: 127.0.0.1, port: 9, https: Off, authentication: ntlm, user: admin,"
        " connect_timeout: 1}}",
        encoding="utf-8",
    )
    result = shop.run("drift", "layout.yaml", "-i", "fleet.yaml", status=2)
    assert PASSWORD not in result.output
