"""Baseline: the first ping through an ordinary reactive learning switch written on OS-Ken."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import rig
from benchmarks.measure import Pings, first_ping
from benchmarks.reactive_switch import PORT


def pings() -> Pings:
    """The first ping and the steady median, on the same Open vSwitch as the `ovs-normal` baseline."""
    instance = rig.lab_switch()
    controller = subprocess.Popen([sys.executable, "-m", "benchmarks.reactive_switch"])
    try:
        database = f"--db=unix:{instance.database_socket}"
        rig.call("ovs-vsctl", database, "set-controller", "br0", f"tcp:127.0.0.1:{PORT}")
        end = time.monotonic() + 20
        # The application's first flow shows that it is ready, so its start is not counted.
        while "CONTROLLER" not in instance.dump_text("br0"):
            if time.monotonic() > end:
                raise RuntimeError("the switch and the controller did not find each other within 20 s")
            time.sleep(0.05)
        return first_ping(rig.place("a"), rig.ADDRESSES["b"])
    finally:
        controller.kill()
        controller.wait()
