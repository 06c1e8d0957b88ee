"""What is imported from a host runs as a lab, whose switches decide as the host does."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.support.hyperv_host import blank_state
from tests.support.hyperv_states import EXTERNAL, adapter, basic, extended, switch, vm
from tests.support.running_lab import running_lab
from vswitch.hyperv.importing import import_hosts
from vswitch.hyperv.state import read_state

pytestmark = pytest.mark.lab

# web01 takes in nothing but new flows to 443; web02 sends nothing to db01, no answers either; db01
# sends no UDP.
ALLOWED = {("web02", "web01", "tcp/443"), ("db01", "web01", "tcp/443")}


def test_lab_and_host_agree() -> None:
    state = blank_state("HV01")
    state["switches"] = [switch("vs-ext", EXTERNAL)]
    state["vms"] = [vm("web01"), vm("web02"), vm("db01")]
    rules = [
        extended("Deny", "Inbound", 1),
        extended(
            "Allow", "Inbound", 500, Protocol="TCP", LocalPort="443", Stateful=True, IdleSessionTimeout=60
        ),
    ]
    state["adapters"] = [
        adapter("web01", "vs-ext", 1, "10.0.0.11", rules=rules, StormLimit=1000),
        adapter(
            "web02", "vs-ext", 2, "10.0.0.12", acls=[basic("Deny", "Outbound", "Remote", 2, "10.0.0.13")]
        ),
        adapter(
            "db01",
            "vs-ext",
            3,
            "10.0.0.13",
            rules=[extended("Deny", "Outbound", 7, Protocol="UDP")],
            BandwidthSetting={"MaximumBandwidth": 10**9, "MinimumBandwidthWeight": 5},
        ),
    ]
    imported = import_hosts([("hv01", read_state(state))], layout_file="lab.yaml", policy_file="policy.yaml")

    with running_lab(imported.layout, {"policy.yaml": imported.policy}) as lab:
        meters = lab.ofctl(0, "dump-meters")
        assert "rate=1000 burst_size=1000" in meters
        assert "rate=1000000 burst_size=250000" in meters
        for one, other in permutations(("web01", "web02", "db01"), 2):
            for traffic in ("tcp/443", "tcp/80", "udp/53", "icmp"):
                told = lab.call("explain", source=one, destination=other, traffic=traffic, version=None)
                assert told["agrees"], told
                assert (told["verdict"] == "Allow") == ((one, other, traffic) in ALLOWED), told
