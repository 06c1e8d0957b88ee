"""Reading what Open vSwitch prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vswitch.errors import SwitchError
from vswitch.openvswitch import database
from vswitch.openvswitch.conntrack import parse_connections
from vswitch.openvswitch.database import BridgeSpec, PortSpec
from vswitch.openvswitch.flows import parse_flows, sum_counters
from vswitch.openvswitch.trace import parse_ports, parse_trace

FLOWS = """\
OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0x11, duration=0.018s, table=0, n_packets=3, n_bytes=180, idle_age=7, priority=100,tcp,in_port=1 actions=ct(table=1,zone=5)
 cookie=0x12, duration=3.2s, table=0, n_packets=1, n_bytes=60, idle_age=0, priority=0 actions=drop
 cookie=0x15, duration=9s, table=2, n_packets=0, n_bytes=0, idle_timeout=300, send_flow_rem idle_age=1, hard_age=4, priority=5 actions=output:2,output:3
 cookie=0x15, duration=9s, table=2, n_packets=2, n_bytes=120, hard_timeout=9, send_flow_rem idle_age=0, actions=learn(table=3,idle_timeout=300,load:0->NXM_OF_IN_PORT[])
 cookie=0x0, duration=9s, table=2, n_packets=0, n_bytes=0, send_flow_rem reset_counts actions=drop
"""  # noqa: E501

TRACE = """\
Flow: tcp,in_port=1

bridge("br0")
-------------
 0. tcp,in_port=1, priority 100, cookie 0x11
    ct(table=1,zone=5)
    drop
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 1.

Final flow: unchanged
Megaflow: recirc_id=0,eth,tcp,in_port=1,nw_frag=no
Datapath actions: ct(zone=5),recirc(0x1)

===============================================================================
recirc(0x1) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

Flow: recirc_id=0x1

bridge("br0")
-------------
    thaw
        Resuming from table 1
 1. ct_state=+new+trk,tcp, priority 10, cookie 0x13
    resubmit(,2)
     2. priority 32768
        output:2
 3. No match.
    drop

Final flow: recirc_id=0x1
Megaflow: recirc_id=0x1
Datapath actions: ct(commit,zone=5,mark=0x77/0xffffffff),3,clone(push_vlan(vid=10,pcp=0),4),9
"""


def test_flows_are_read_with_and_without_options() -> None:
    flows = parse_flows(FLOWS)
    assert [(flow.table, flow.priority, flow.match) for flow in flows] == [
        (0, 100, "tcp,in_port=1"),
        (0, 0, ""),
        (2, 5, ""),
        (2, 32768, ""),
        (2, 32768, ""),
    ]
    assert flows[0].actions == "ct(table=1,zone=5)"
    assert (flows[0].n_packets, flows[0].n_bytes, flows[0].idle_age) == (3, 180, 7)
    assert (flows[2].idle_timeout, flows[2].hard_age, flows[2].duration) == (300, 4, 9.0)
    assert (flows[3].hard_timeout, flows[3].idle_timeout) == (9, 0)
    assert flows[3].actions.startswith("learn(table=3,")
    assert flows[1].raw.startswith("cookie=0x12, ")


def test_counters_of_one_cookie_are_summed() -> None:
    assert sum_counters(FLOWS) == {0x11: (3, 180), 0x12: (1, 60), 0x15: (2, 120), 0: (0, 0)}


@pytest.mark.parametrize("read", [parse_flows, sum_counters])
def test_a_line_that_is_no_flow_is_an_error(read: Callable[[str], object]) -> None:
    with pytest.raises(SwitchError, match="not understood: surprise"):
        read(FLOWS + " surprise\n")


def test_a_trace_is_read_through_recirculation_and_clones() -> None:
    trace = parse_trace(TRACE, {3: "p2", 4: "p3"})
    assert [(flow.bridge, flow.table, flow.cookie, flow.priority, flow.match) for flow in trace.flows] == [
        ("br0", 0, 0x11, 100, "tcp,in_port=1"),
        ("br0", 1, 0x13, 10, "ct_state=+new+trk,tcp"),
        ("br0", 2, 0, 32768, ""),
    ]
    assert trace.outputs == ("p2", "p3", "9")
    assert trace.actions[0] == "ct(zone=5),recirc(0x1)"


def test_port_numbers_are_read_from_the_datapath_listing() -> None:
    text = "netdev@ovs-netdev: hit:2 missed:4\n  br0:\n    br0 65534/1: (tap)\n    p1 1/2: (system)\n"
    assert parse_ports(text + "    link 5/none: (patch: peer=other)\n") == {1: "br0", 2: "p1"}


def test_connections_are_read() -> None:
    tcp, icmp = parse_connections(
        "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,"
        "dport=1000),zone=5,mark=119,timeout=9,protoinfo=(state=ESTABLISHED)\n"
        "icmpv6,orig=(src=fe80::1,dst=fe80::2,id=7,type=128,code=0),reply=(src=fe80::2,dst=fe80::1,id=7,"
        "type=129,code=0),zone=6\n"
    )
    assert (tcp.zone, tcp.mark, tcp.timeout, tcp.state) == (5, 119, 9, "ESTABLISHED")
    assert (tcp.source, tcp.source_port) == ("10.0.0.1", 1000)
    assert (tcp.destination, tcp.destination_port) == ("10.0.0.2", 80)
    assert tcp.tuple_text == "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=6,ct_tp_src=1000,ct_tp_dst=80"
    assert (icmp.mark, icmp.source_port, icmp.state) == (0, 0, "")
    assert icmp.tuple_text == (
        "ct_ipv6_src=fe80::1,ct_ipv6_dst=fe80::2,ct_nw_proto=58,icmp_id=7,icmp_type=128,icmp_code=0"
    )


def test_a_refused_transaction_says_what_it_was_for() -> None:
    reply = [{}, {"error": "constraint violation", "details": "no such column"}]
    with pytest.raises(SwitchError, match="refused adding bridges: no such column"):
        database.results(reply, "adding bridges")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"name": "p1", "ofport": -1, "error": "no such device"},
            "interface p1 on bridge br0: no such device",
        ),
        ({"name": "p1", "ofport": 7, "error": ["set", []]}, "asked for OpenFlow port 3 and got 7"),
        (
            {"name": "p1", "ofport": ["set", []], "error": ["set", []]},
            "asked for OpenFlow port 3 and got none",
        ),
        ({"name": "p2", "ofport": 3, "error": ["set", []]}, "interface p1 is missing"),
    ],
)
def test_ports_not_taken_as_asked_are_errors(row: dict[str, Any], message: str) -> None:
    with pytest.raises(SwitchError, match=message):
        database.check_ports([BridgeSpec("br0", 1, ports=(PortSpec("p1", 3),))], [row])
