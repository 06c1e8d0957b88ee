"""A real Open vSwitch: life cycle, bridges, bundles, counters, traces, conntrack."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.switch_rig import Rig, Space
from vswitch.errors import EnvironmentError_, SwitchError
from vswitch.openvswitch import BridgeSpec, Instance, PortSpec, start_all, stop_all
from vswitch.openvswitch import instance as instance_module

pytestmark = pytest.mark.ovs

FORWARD = """\
add table=0,priority=100,cookie=0x11,in_port=1,udp actions=ct(table=1,zone=5)
add table=0,priority=100,cookie=0x12,in_port=2,udp actions=ct(table=1,zone=5)
add table=0,priority=10,cookie=0x13,arp actions=normal
add table=0,priority=0,cookie=0x14 actions=drop
add table=1,priority=20,cookie=0x15,ct_state=+est+trk,udp actions=normal
add table=1,priority=10,cookie=0x16,ct_state=+new+trk,udp,in_port=1,tp_dst=53 \
actions=ct(commit,zone=5,exec(set_field:0x77->ct_mark)),normal
add table=1,priority=10,cookie=0x17,ct_state=+new+trk,udp,in_port=1,tp_dst=54 \
actions=ct(commit,zone=5,exec(set_field:0x78->ct_mark)),normal
add table=1,priority=0,cookie=0x18 actions=drop
"""


def ask(rig: Rig, port: int) -> None:
    """A datagram from guest 1 to guest 2 at `port`, and the answer back."""
    with rig.guests[1].udp("10.0.0.2", port) as server, rig.guests[0].udp("10.0.0.1", 4000) as client:
        client.sendto(b"question", ("10.0.0.2", port))
        assert server.recvfrom(100)[0] == b"question"
        server.sendto(b"answer", ("10.0.0.1", 4000))
        assert client.recv(100) == b"answer"


def answer_passes(rig: Rig, port: int) -> bool:
    """Whether guest 2 may still answer the flow that `ask` made."""
    with rig.guests[1].udp("10.0.0.2", port) as server, rig.guests[0].udp("10.0.0.1", 4000) as client:
        client.settimeout(0.4)
        server.sendto(b"late answer", ("10.0.0.1", 4000))
        try:
            return bool(client.recv(100) == b"late answer")
        except TimeoutError:
            return False


def test_processes_start_answer_and_end(folder: Path, new_space: Callable[[], Space]) -> None:
    instance = Instance("one", folder, netns=new_space().path)
    assert not instance.alive()
    instance.start()
    try:
        assert instance.alive()
        assert len(instance.pids) == 2
        assert "commands" in instance.appctl("list-commands")
        os.kill(instance.pids[1], signal.SIGKILL)
        instance.processes["ovs-vswitchd"].wait()
        assert not instance.alive()
        with pytest.raises(SwitchError, match="cannot talk to Open vSwitch"):
            instance.appctl("list-commands")
    finally:
        instance.stop()
    assert all(process.returncode is not None for process in instance.processes.values())


def test_several_instances_start_side_by_side(tmp_path: Path, new_space: Callable[[], Space]) -> None:
    instances = [Instance(f"i{n}", tmp_path / str(n), netns=new_space().path) for n in range(3)]
    start_all(instances)
    try:
        for instance in instances:
            instance.add_bridges([BridgeSpec("br0", 1), BridgeSpec("br1", 2)])
        assert all(instance.alive() for instance in instances)
    finally:
        stop_all(instances)


def test_a_missing_program_names_the_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_module, "_PATH", "/nonexistent")
    with pytest.raises(EnvironmentError_, match="not installed") as caught:
        Instance("one", folder).start()
    assert "openvswitch-switch" in caught.value.hint


def test_a_process_that_ends_at_once_is_reported_with_its_last_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_module, "_fresh_database", lambda folder: b"no database")
    with pytest.raises(SwitchError, match=r"ovsdb-server of one ended at once: .*conf.db"):
        Instance("one", folder).start()


def test_a_missing_interface_is_named(rig: Rig) -> None:
    with pytest.raises(SwitchError, match=r"interface missing1 on bridge br7: .*No such device"):
        rig.instance.add_bridges([BridgeSpec("br7", 7, ports=(PortSpec("missing1", 4),))])


def test_an_openflow_port_that_is_taken_is_named(rig: Rig) -> None:
    for name in ("p8", "p9"):
        rig.space.ip("link", "add", name, "up", "type", "veth", "peer", "name", f"{name}x")
    twice = BridgeSpec("br8", 8, ports=(PortSpec("p8", 4), PortSpec("p9", 4)))
    with pytest.raises(SwitchError, match=r"interface p[89] on bridge br8 asked for OpenFlow port 4"):
        rig.instance.add_bridges([twice])


def test_a_bundle_is_applied_whole_or_not_at_all(empty: Rig) -> None:
    bridge = empty.instance
    bridge.bundle("br0", FORWARD)
    assert len(bridge.dump_flows("br0")) == 8
    with pytest.raises(SwitchError, match=r"nonsense in the flow `add nonsense=1 actions=drop`"):
        bridge.bundle("br0", "delete\nadd nonsense=1 actions=drop")
    with pytest.raises(SwitchError, match=r"refused the flow .*group:8.*OFPBAC_BAD_OUT_GROUP"):
        bridge.bundle("br0", "delete\nadd priority=7 actions=group:8")
    assert len(bridge.dump_flows("br0")) == 8
    bridge.bundle("br0", "delete cookie=0x15/-1\ndelete_strict table=0,priority=0")
    assert [flow.cookie for flow in bridge.dump_flows("br0", table=0)] == [0x11, 0x12, 0x13]
    assert {flow.cookie for flow in bridge.dump_flows("br0", table=1)} == {0x16, 0x17, 0x18}


def test_flow_counters_follow_the_packets(empty: Rig) -> None:
    empty.instance.bundle("br0", FORWARD)
    ask(empty, 53)
    empty.instance.settle()
    counters = empty.instance.counters("br0")
    assert counters[0x16] == (1, 50)
    assert counters[0x12] == (1, 48)
    assert counters[0x17] == (0, 0)


def test_a_trace_follows_recirculation(empty: Rig) -> None:
    empty.instance.bundle("br0", FORWARD)
    frame = "in_port=1,udp,dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_src=4000,udp_dst=53"
    fresh = empty.instance.trace("br0", frame)
    assert fresh.cookies == (0x11, 0x16)
    assert [flow.table for flow in fresh.flows] == [0, 1]
    assert set(fresh.outputs) == {"br0", "p2", "p3"}
    known = empty.instance.trace("br0", frame, ct_next=["trk,est"])
    assert known.cookies == (0x11, 0x15)
    denied = empty.instance.trace("br0", "in_port=3,tcp")
    assert (denied.cookies, denied.outputs) == ((0x14,), ())
    with pytest.raises(SwitchError, match="unknown field nonsense"):
        empty.instance.trace("br0", "in_port=1,nonsense")


def test_connections_are_listed_and_ended_by_mark(empty: Rig) -> None:
    empty.instance.bundle("br0", FORWARD)
    ask(empty, 53)
    ask(empty, 54)
    found = {entry.mark: entry for entry in empty.instance.connections(zone=5)}
    assert set(found) == {0x77, 0x78}
    entry = found[0x77]
    assert (entry.zone, entry.protocol, entry.source_port, entry.destination_port) == (5, "udp", 4000, 53)
    assert (entry.source, entry.destination) == ("10.0.0.1", "10.0.0.2")
    assert empty.instance.connections(zone=6) == []
    assert empty.instance.flush_connections(5, 0x77) == 1
    assert [entry.mark for entry in empty.instance.connections()] == [0x78]
    assert not answer_passes(empty, 53)
    assert answer_passes(empty, 54)
    assert empty.instance.flush_connections(5, lambda entry: entry.destination_port == 53) == 0
    assert empty.instance.flush_connections(5) == 1
    assert empty.instance.connections() == []


def test_a_zones_idle_timeout_ends_its_connections(empty: Rig) -> None:
    empty.instance.set_zone_timeouts({5: 2, 6: 30})
    empty.instance.bundle("br0", FORWARD)
    ask(empty, 53)
    assert [entry.timeout <= 2 for entry in empty.instance.connections(5)] == [True]
    time.sleep(1.2)
    assert answer_passes(empty, 53)  # and starts the two seconds anew
    time.sleep(1.2)
    assert answer_passes(empty, 53)
    time.sleep(2.5)
    assert not answer_passes(empty, 53)


def test_zone_timeouts_are_replaced_not_piled_up(empty: Rig) -> None:
    numbers: list[object] = []

    def current() -> dict[int, int]:
        rows = empty.instance.transact(
            {"op": "select", "table": "Datapath", "where": []},
            {"op": "select", "table": "CT_Zone", "where": []},
            {"op": "select", "table": "CT_Timeout_Policy", "where": []},
            {"op": "select", "table": "Open_vSwitch", "where": []},
        )
        datapath, zones, policies, root = (result["rows"] for result in rows)
        assert len(datapath) == 1
        seconds = {row["_uuid"][1]: dict(row["timeouts"][1]) for row in policies}
        policy = {row["_uuid"][1]: seconds[row["timeout_policy"][1]] for row in zones}
        found = {zone: set(policy[uuid].values()) for zone, (_, uuid) in datapath[0]["ct_zones"][1]}
        assert all(len(values) == 1 for values in found.values())
        numbers.append(root[0]["next_cfg"])
        return {zone: values.pop() for zone, values in found.items()}

    empty.instance.set_zone_timeouts({5: 10, 6: 20, 7: 10})
    assert current() == {5: 10, 6: 20, 7: 10}
    empty.instance.set_zone_timeouts({7: 10, 6: 20, 5: 10})
    assert current() == {5: 10, 6: 20, 7: 10}
    assert numbers[0] == numbers[1]
    empty.instance.set_zone_timeouts({5: 10, 7: 30})
    assert current() == {5: 10, 7: 30}
    empty.instance.set_zone_timeouts({})
    assert current() == {}


def test_port_statistics_name_every_port(rig: Rig) -> None:
    assert {"br0", "p1", "p2", "p3"} <= set(rig.instance.ports())
