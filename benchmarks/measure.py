"""The measurements themselves, between any two places that can run a command.

A place is the beginning of a command line that runs what follows it there: `("nsenter",
"--net=/run/netns/a")`, `("mnexec", "-a", "4711")` or `("vswitch", "exec", "web01", "--")`.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

Place = Sequence[str]


def tcp_throughput(server: Place, client: Place, address: str, seconds: float) -> float:
    """Bits per second of one TCP stream from `client` to `server`, which has `address`.

    The first second, in which TCP is still finding its pace, is not counted.
    """
    listening = subprocess.Popen(
        [*server, "iperf3", "--server", "--one-off", "--forceflush"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert listening.stdout is not None
        while "listening" not in (line := listening.stdout.readline()):
            if not line:
                raise RuntimeError("iperf3 did not start to listen")
        done = subprocess.run(
            [*client, "iperf3", "--client", address, "--time", f"{seconds:.0f}", "--omit", "1", "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 30,
        )
        result = json.loads(done.stdout)
        if "error" in result:
            raise RuntimeError(f"iperf3: {result['error']}")
        return float(result["end"]["sum_received"]["bits_per_second"])
    finally:
        listening.kill()
        listening.communicate()


@dataclass(frozen=True)
class Pings:
    """Round trips in milliseconds: the very first, and the median once everything is learned."""

    first: float
    steady: float

    @property
    def over_steady(self) -> float:
        return self.first / self.steady


def first_ping(client: Place, address: str, steady: int = 50) -> Pings:
    """The first ping after start, address resolution included, and `steady` more after a pause."""
    first = _pings(client, address, "-c", "1", "-W", "5")
    later = _pings(client, address, "-c", str(steady + 5), "-i", "0.02")
    return Pings(first[0], statistics.median(later[5:]))


def _pings(client: Place, address: str, *options: str) -> list[float]:
    done = subprocess.run(
        [*client, "ping", "-n", *options, address], capture_output=True, text=True, check=False, timeout=60
    )
    times = [float(found) for found in re.findall(r"time=([\d.]+) ms", done.stdout)]
    if not times:
        raise RuntimeError(f"no answer from {address}:\n{done.stdout}{done.stderr}")
    return times
