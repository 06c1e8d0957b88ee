"""Parts to build contenders from: namespaces, veths, and an Open vSwitch in the private world."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from vswitch.openvswitch import BridgeSpec, Instance, PortSpec

PLAIN_BUILD = "/usr/lib/openvswitch-switch/ovs-vswitchd"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
ADDRESSES = {"a": "10.9.0.1", "b": "10.9.0.2"}


def call(*command: str, given: str | None = None) -> str:
    """Run a command that must succeed; its standard output."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def place(namespace: str) -> tuple[str, ...]:
    """The command prefix that runs something in a named namespace."""
    return ("nsenter", f"--net=/run/netns/{namespace}")


def guests_on_one_wire() -> None:
    """Namespaces a and b, joined by a bare veth pair."""
    _namespaces()
    call("ip", "link", "add", "eth0", "netns", "a", "type", "veth", "peer", "name", "eth0", "netns", "b")
    _addresses()


def guests_on_switch_ports() -> None:
    """Namespaces a and b, each with a veth whose other end (port-a, port-b) is out here."""
    _namespaces()
    for name in ADDRESSES:
        call("ip", "link", "add", f"port-{name}", "up", "type", "veth", "peer", "name", "eth0", "netns", name)
    _addresses()


def _namespaces() -> None:
    for name in ADDRESSES:
        call("ip", "netns", "add", name)


def _addresses() -> None:
    for name, address in ADDRESSES.items():
        call("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        call("ip", "-n", name, "link", "set", "eth0", "up")


def lab_switch() -> Instance:
    """The Open vSwitch a lab would start, with guests a and b on ports 1 and 2 of br0 and no flows.

    It is the project's own `Instance`, so that ratios to it show what flows cost and nothing else.
    """
    guests_on_switch_ports()
    instance = Instance("benchmark", Path("/run/lab-switch"))
    instance.start()
    ports = tuple(PortSpec(f"port-{name}", number) for number, name in enumerate(ADDRESSES, 1))
    instance.add_bridges([BridgeSpec("br0", 1, ports=ports)])
    return instance


def start_plain_open_vswitch() -> None:
    """Open vSwitch as a distribution starts it, at its standard paths, which are private in here."""
    folder = Path("/run/openvswitch")
    folder.mkdir()
    database = f"unix:{folder}/db.sock"
    call("ovsdb-tool", "create", f"{folder}/conf.db", SCHEMA)
    subprocess.Popen(["ovsdb-server", f"{folder}/conf.db", f"--remote=p{database}", "-vconsole:off"])
    _wait_for(folder / "db.sock")
    call("ovs-vsctl", "--no-wait", "init")
    subprocess.Popen([PLAIN_BUILD, database, "--unixctl", f"{folder}/vswitchd.ctl", "-vconsole:off"])
    _wait_for(folder / "vswitchd.ctl")


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"{path} did not appear within 10 s")
        time.sleep(0.01)
