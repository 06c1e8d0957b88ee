"""What we read of a switch's output, against Open vSwitch's own reader, `ovs.flow`: as exact, and slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vswitch.model import load_site
from vswitch.openvswitch import BridgeSpec, Instance, PortSpec
from vswitch.openvswitch.flows import parse_flows
from vswitch.openvswitch.trace import parse_ports, parse_trace
from vswitch.pipeline import compile_site

pytestmark = pytest.mark.ovs

LAYOUTS = Path(__file__).resolve().parents[2] / "topologies"
PORTS = {number: f"p{number}" for number in range(1, 10)}
CLONES = """\
add table=0,in_port=1,udp actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2,pop_vlan,output:3
add table=0,in_port=2,udp actions=check_pkt_larger(100)->reg0[0],resubmit(,1)
add table=1,reg0=0x1/0x1 actions=clone(push_vlan:0x8100,set_field:4116->vlan_vid,output:4),output:5
add table=1,reg0=0x0/0x1 actions=output:6
add table=0,in_port=3,udp actions=ct(commit,zone=5,exec(set_field:0x77->ct_mark)),output:7
"""

OPTIONS = """\
OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0x11, duration=0.018s, table=0, n_packets=3, n_bytes=180, idle_age=7, priority=100,tcp,in_port=1 actions=ct(table=1,zone=5)
 cookie=0x12, duration=3.2s, table=3, n_packets=1, n_bytes=60, idle_timeout=300, idle_age=9, hard_age=4, priority=0,udp actions=drop
 cookie=0x13, duration=9s, table=2, n_packets=2, n_bytes=120, hard_timeout=9, idle_age=1, arp actions=output:2,output:3
 cookie=0x14, duration=9s, table=2, n_packets=2, n_bytes=120, idle_age=5, reg0=0x5,ip,nw_src=10.0.0.0/8 actions=resubmit(,3)
"""  # noqa: E501


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    instance = Instance("read", tmp_path_factory.mktemp("ovs"), datapath="dummy")
    try:
        instance.start()
        ports = tuple(PortSpec(name, number, type="dummy") for number, name in PORTS.items())
        instance.add_bridges([BridgeSpec("br0", 1, ports=ports)])
        yield instance
    finally:
        instance.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["stateful", "private-vlan"])
def test_flows_are_read_alike(switch: Instance, name: str) -> None:
    files = str(LAYOUTS / f"{name}.yaml"), [str(LAYOUTS / f"{name}-policy.yaml")]
    site = load_site(*files, read=lambda path: Path(path).read_text(encoding="utf-8"))
    seen = 0
    for host in compile_site(site).values():
        for program in host.switches.values():
            changes = [f"add {flow.text}" for flow in program.flows.values()]
            switch.bundle("br0", "\n".join(["delete", *changes]))
            seen += read_alike(switch.dump_text("br0"))
    assert seen > 50


def test_options_are_read_alike() -> None:
    assert read_alike(OPTIONS) == 4


def read_alike(dump: str) -> int:
    """Compares how we read each flow of a dump with how `ovs.flow` does; the number of flows."""
    from ovs.flow.ofp import OFPFlow

    flows = parse_flows(dump)
    for flow in flows:
        other = OFPFlow(flow.raw)
        info, match = (
            {pair.key: pair.value for pair in other.section(part).data} for part in ("info", "match")
        )
        assert other.section("actions").string == flow.actions
        assert (info["cookie"], info["table"]) == (flow.cookie, flow.table)
        assert (info["n_packets"], info["n_bytes"]) == (flow.n_packets, flow.n_bytes)
        assert match.get("priority", 32768) == flow.priority
        for key in ("idle_age", "hard_age", "idle_timeout", "hard_timeout"):
            assert info.get(key, 0) == getattr(flow, key)
        words = other.section("match").string.split(",")
        assert ",".join(word for word in words if not word.startswith("priority=")) == flow.match
    return len(flows)


def outputs(actions: list[Any]) -> list[int]:
    """The ports in a list of actions as `ovs.flow` reads them, in order."""
    found: list[int] = []
    for action in actions:
        key, value = next(iter(action.items())) if isinstance(action, dict) else (action.key, action.value)
        if key == "output":
            found.append(value["port"])
        elif key == "clone":
            found += outputs(value)
        elif key == "check_pkt_len":
            found += outputs(value["gt"]) + outputs(value["le"])
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("port", "expected"), [(1, ["p2", "p3"]), (2, ["p4", "p5", "p6"]), (3, ["p7"]), (4, [])]
)
def test_the_ports_of_a_trace_are_read_alike(switch: Instance, port: int, expected: list[str]) -> None:
    from ovs.flow.odp import ODPFlow

    switch.bundle("br0", f"delete\n{CLONES}")
    names = parse_ports(switch.appctl("dpif/show"))
    trace = parse_trace(switch.appctl("ofproto/trace", "br0", f"in_port={port},udp"), names)
    read = [
        ODPFlow(f"in_port(1), packets:0, bytes:0, used:never, actions:{actions}").section("actions").data
        for actions in trace.actions
    ]
    assert [names[number] for actions in read for number in outputs(actions)] == list(trace.outputs)
    assert list(trace.outputs) == expected
