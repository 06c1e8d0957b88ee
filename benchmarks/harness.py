"""How a benchmark runs: every sample in a world of its own, contenders in turn, medians and ratios.

A sample is a fresh process in a private world such as a lab's (see vswitch.lab.isolation). It starts
what it measures, measures, and ends; whatever happens, the namespaces take everything in them along, so
the machine is neither touched nor littered.

Absolute figures differ from machine to machine and from hour to hour. What counts are ratios to a peer
measured in the same run: A B A B, the median of each.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vswitch.lab import isolation

ROOT = Path(__file__).resolve().parent.parent
Sample = Callable[[float], float]


class BenchmarkError(Exception):
    """A sample failed; the message ends with what it printed."""


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    version = subprocess.run(["ovs-vsctl", "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "open_vswitch": version.split("\n", 1)[0].rpartition(" ")[2] or "none",
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Row:
    """One contender's samples, in the benchmark's unit."""

    name: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Report:
    """A finished benchmark. Each row's ratio is its median over the peer's."""

    name: str
    about: str
    unit: str
    peer: str
    rows: tuple[Row, ...]

    def ratio(self, row: Row) -> float | None:
        """`row`'s median over the peer's; None when the peer was left out."""
        peer = next((other for other in self.rows if other.name == self.peer), None)
        return row.median / peer.median if peer else None

    def as_dict(self) -> dict[str, object]:
        return {
            "benchmark": self.name,
            "unit": self.unit,
            "peer": self.peer,
            "machine": machine(),
            "rows": [
                {"name": row.name, "median": row.median, "ratio": self.ratio(row), "samples": row.samples}
                for row in self.rows
            ],
        }

    def as_table(self) -> str:
        """Markdown, so that a result can be pasted into docs/ as it is."""
        facts = ", ".join(f"{key} {value}" for key, value in machine().items())
        lines = [f"{self.name}: {self.about}, {self.unit}", f"({facts})", ""]
        lines.append(f"| {'':<24} | {'median':>9} | {'lowest':>9} | {'highest':>9} | x {self.peer} |")
        lines.append("|---|---:|---:|---:|---:|")
        for row in self.rows:
            ratio = self.ratio(row)
            lines.append(
                f"| {row.name:<24} | {row.median:>9,.2f} | {min(row.samples):>9,.2f} "
                f"| {max(row.samples):>9,.2f} | {'-' if ratio is None else format(ratio, '.2f')} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Benchmark:
    """A question put to several contenders.

    Each contender is a function that runs inside a private world, takes the seconds a sample may
    last and returns one figure in `unit`. `peer` names the contender the others are compared with.
    """

    name: str
    about: str
    unit: str
    peer: str
    contenders: dict[str, Sample]

    def run(self, runs: int, seconds: float, only: list[str] | None = None) -> Report:
        """Sample the contenders in turn, `runs` times each; progress goes to stderr."""
        unknown = set(only or ()) - set(self.contenders)
        if unknown:
            raise BenchmarkError(f"no contender {', '.join(unknown)}; there are {', '.join(self.contenders)}")
        names = [name for name in self.contenders if not only or name in only]
        samples: dict[str, list[float]] = {name: [] for name in names}
        for number in range(1, runs + 1):
            for name in names:
                print(f"{self.name}: round {number} of {runs}: {name}", file=sys.stderr)
                samples[name].append(self._sample(name, seconds))
        rows = tuple(Row(name, tuple(figures)) for name, figures in samples.items())
        return Report(self.name, self.about, self.unit, self.peer, rows)

    def sample_inside(self, contender: str, seconds: float) -> float:
        """One sample; the caller is already inside a private world."""
        os.environ["TMPDIR"] = "/run"
        return self.contenders[contender](seconds)

    def _sample(self, contender: str, seconds: float) -> float:
        command = [sys.executable, "-m", "benchmarks", self.name]
        command += ["--inside", contender, "--seconds", str(seconds)]
        done = subprocess.run(
            isolation.command(command),
            cwd=ROOT,
            env=isolation.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise BenchmarkError(f"{self.name}: {contender} failed:\n{done.stderr.strip()[-2000:]}")
        return float(json.loads(done.stdout.splitlines()[-1]))
