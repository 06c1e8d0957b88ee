"""Baseline: the Open vSwitch that the lab uses, with a single NORMAL flow."""

from __future__ import annotations

from benchmarks import rig
from benchmarks.measure import Pings, first_ping, tcp_throughput


def throughput(seconds: float) -> float:
    """Gbit/s."""
    rig.lab_switch().bundle("br0", "add actions=NORMAL")
    return tcp_throughput(rig.place("b"), rig.place("a"), rig.ADDRESSES["b"], seconds) / 1e9


def pings() -> Pings:
    """The first ping and the steady median."""
    rig.lab_switch().bundle("br0", "add actions=NORMAL")
    return first_ping(rig.place("a"), rig.ADDRESSES["b"])
