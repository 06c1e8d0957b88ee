"""Baseline: two guests on a bare veth pair, the most that this machine's TCP can do."""

from __future__ import annotations

from benchmarks import rig
from benchmarks.measure import tcp_throughput


def throughput(seconds: float) -> float:
    """Gbit/s."""
    rig.guests_on_one_wire()
    return tcp_throughput(rig.place("b"), rig.place("a"), rig.ADDRESSES["b"], seconds) / 1e9
