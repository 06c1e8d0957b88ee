"""The overview is written down so that no command is loaded for it: here it is held to the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from vswitch.cli.main import app, app_for
from vswitch.cli.overview import COMMANDS, OPTIONS

ROOT = Path(__file__).resolve().parents[2]


def test_it_has_every_command_with_its_first_sentences() -> None:
    program = typer.main.get_command(app)
    found = {
        name: " ".join((command.help or "").split("\n\n")[0].split())
        for name, command in program.commands.items()  # type: ignore[attr-defined]
    }
    assert {name: entry.help for name, entry in COMMANDS.items()} == found


def test_it_names_the_module_of_every_command() -> None:
    for name, entry in COMMANDS.items():
        if entry.module:
            own = typer.Typer()
            import_module(f"vswitch.cli.{entry.module}").register(own)
            own.callback()(lambda: None)
            assert name in typer.main.get_command(own).commands, name  # type: ignore[attr-defined]


def test_it_has_every_option_of_the_program() -> None:
    program = typer.main.get_command(app)
    context = typer.main.get_command(app).make_context("vswitch", ["ps"], resilient_parsing=True)
    found = {", ".join(sorted(each.opts)): getattr(each, "help", "") for each in program.get_params(context)}
    assert found == OPTIONS


def loaded_by(*words: str, **environment: str) -> set[str]:
    """The modules that a call of `vswitch` has loaded."""
    code = (
        "import sys, atexit; from vswitch.cli.entry import main;"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules))); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout
    return set(done.stderr.split())


LAB = {
    "vswitch.openvswitch",
    "vswitch.pipeline",
    "vswitch.lab",
    "vswitch.hyperv",
    "winrm",
    "requests",
    "rich",
}


@pytest.mark.parametrize(
    ("words", "environment", "unwanted"),
    [
        (["--help"], {}, {"typer", "pydantic", "yaml", "rich"}),
        (
            [],
            {"_VSWITCH_COMPLETE": "lines", "_VSWITCH_LINE": "vswitch ex"},
            {"typer", "pydantic", "yaml", "rich"},
        ),
        (["explain", "client", "web01", "http", "-f", "topologies/two-hosts.yaml"], {}, LAB),
    ],
    ids=["help", "completion", "explain"],
)
def test_nothing_heavy_is_loaded_in_vain(
    words: list[str], environment: dict[str, str], unwanted: set[str]
) -> None:
    assert not unwanted & loaded_by(*words, **environment)


def test_a_command_brings_its_own_module_only() -> None:
    commands = typer.main.get_command(app_for(["explain", "a", "b", "http"])).commands  # type: ignore[attr-defined]
    assert set(commands) == {"explain", "probe", "help"}
