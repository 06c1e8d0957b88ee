"""The controller dies, stops, comes back; switches come and go: verdicts and flows stay."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.running_lab import RunningLab, wait_until
from vswitch.pipeline import compile_site

pytestmark = pytest.mark.lab

POLICY = """
extended_acls:
  - {name: http-only, adapters: [b, c], direction: Inbound, action: Allow, protocol: TCP, local_port: 80,
     remote_ip_address: 10.0.0.1, weight: 10, stateful: true}
  - {name: no-more, adapters: b, direction: Inbound, action: Deny, weight: 1}
"""


@pytest.fixture(autouse=True)
def _policy(lab: RunningLab) -> Iterator[None]:
    if not lab.policies:
        lab.apply(POLICY)
    yield
    assert lab.cookies() == lab.fresh_cookies()


def verdicts(lab: RunningLab) -> tuple[str, str]:
    with ThreadPoolExecutor(2) as pool:
        web = pool.submit(lab.probe, "a", "b", "http")
        dns = pool.submit(lab.probe, "a", "b", "udp/5300", patience=0.4)
        return web.result(), dns.result()


def test_a_controller_that_hangs_or_dies_changes_no_verdict(lab: RunningLab) -> None:
    assert verdicts(lab) == ("open", "filtered")
    lab.signal_controller("STOP")
    try:
        lab.call("forget")  # no neighbour and no live flow that could help
        assert verdicts(lab) == ("open", "filtered")
    finally:
        lab.signal_controller("CONT")
    before = lab.flows()
    lab.restart_controller()
    assert verdicts(lab) == ("open", "filtered")
    assert lab.flows() == before


def test_a_controller_that_comes_back_rewrites_nothing(lab: RunningLab) -> None:
    def ages() -> dict[int, float]:
        return {f["cookie"]: f["duration"] for f in lab.call("flows")["hv02/vs"]}

    before = ages()
    lab.restart_controller()
    status = lab.call("controller_status")
    assert status["reconciled_flows"] == 0
    assert status["policies"] == ["policy0.yaml"]
    assert all(ages()[cookie] >= age for cookie, age in before.items()), "a flow was written anew"


def test_a_controller_that_comes_back_restores_what_is_missing_and_removes_what_is_foreign(
    lab: RunningLab,
) -> None:
    before = lab.flows()
    flows = compile_site(lab.site())["hv02"].switches["br0"].flows.values()
    deny = next(flow for flow in flows if flow.rule and flow.rule.name == "no-more")
    lab.delete_flow(1, deny.cookie)
    lab.ofctl(0, "add-flow", "cookie=0xbad,table=0,priority=60000,actions=drop")
    assert lab.flows() != before
    lab.restart_controller()
    assert lab.call("controller_status")["reconciled_flows"] == 2
    assert lab.flows() == before


def test_an_apply_after_the_return_goes_on_from_there(lab: RunningLab) -> None:
    lab.restart_controller()
    assert lab.apply(POLICY)["flows_changed"] == 0
    assert lab.apply(POLICY.replace("10.0.0.1,", "10.0.0.3,"))["flows_changed"] == 2
    lab.apply(POLICY)


RECONNECT = """
folder=/run/vswitch/hosts/$1
ln -s /run/vswitch/openflow.sock $folder/again.sock
# Another name of the same socket makes the switch hang up and connect again.
for number in $(seq "$2"); do
    ovs-vsctl --db=unix:$folder/db.sock set-controller br0 unix:$folder/again.sock
    ovs-vsctl --db=unix:$folder/db.sock set-controller br0 unix:$folder/openflow.sock
done
"""


def test_a_hundred_reconnects_leave_no_thread_and_no_descriptor(lab: RunningLab) -> None:
    def used() -> tuple[int, int]:
        threads = lab.call("controller_status")["threads"]
        return threads, len(lab.inside("ls", f"/proc/{lab.controller()}/fd").split())

    lab.restart_controller()
    before = used()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda host: lab.inside("bash", "-ec", RECONNECT, "_", host, "25"), ["0", "1"]))
    lab.wait_ready()
    wait_until(lambda: used() == before, f"threads and descriptors are {before} again, not {used()}")
    assert lab.call("controller_status")["reconciled_flows"] == 0
    assert verdicts(lab) == ("open", "filtered")
