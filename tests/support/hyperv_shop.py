"""`vswitch hyperv` in a folder of its own, and a fleet of modelled hosts for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from tests.support.modelled_host.states import sample_state
from tests.support.winrm.endpoint import WinrmEndpoint
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


def fleet_of(*endpoints: WinrmEndpoint, more: str = "") -> tuple[str, str]:
    """The options that name an inventory of hv01, hv02 ... at these endpoints."""
    lines = [
        f"  hv{number:02}: {{address: {each.address}, port: {each.port}, https: Off, authentication: ntlm,"
        " user: admin, operation_timeout: 1}\n"
        for number, each in enumerate(endpoints, start=1)
    ]
    Path("fleet.yaml").write_text("".join(["hosts:\n", *lines, more]), encoding="utf-8")
    return ("-i", "fleet.yaml")
