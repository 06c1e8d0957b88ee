"""What a call of `vswitch` costs beside the start of the interpreter that runs it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = "topologies/two-hosts.yaml"
PROGRAM = [sys.executable, "-c", "from vswitch.cli.entry import main; main()"]


def interpreter(_: float) -> float:
    return _cpu([sys.executable, "-c", "pass"])


def overview(_: float) -> float:
    return _cpu([*PROGRAM, "--help"])


def completion(_: float) -> float:
    return _completing("vswitch ex")


def completion_of_a_guest(_: float) -> float:
    return _completing(f"vswitch explain -f {LAYOUT} cl")


def explain(_: float) -> float:
    return _cpu([*PROGRAM, "explain", "client", "web01", "tcp/445", "-f", LAYOUT])


def _completing(line: str) -> float:
    return _cpu(PROGRAM, _VSWITCH_COMPLETE="lines", _VSWITCH_LINE=line)


def _cpu(command: list[str], **environment: str) -> float:
    """Milliseconds of processor time, user and system, of one call; the modules are compiled already."""
    variables = {**os.environ, **environment}
    subprocess.run([sys.executable, "-m", "compileall", "-q", "vswitch"], cwd=ROOT, check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
