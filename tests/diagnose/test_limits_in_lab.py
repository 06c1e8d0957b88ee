"""StormLimit and MaximumBandwidth in a running lab: what is dropped, counted, told, and put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest

from tests.support.running_lab import RunningLab, running_lab, wait_until
from vswitch.cli import render
from vswitch.cli.output import Page
from vswitch.diagnose.explained import Explanation
from vswitch.diagnose.probed import Probed

pytestmark = pytest.mark.lab

LAYOUT = """
name: limits
hosts:
  hv01:
    switches: {vs: {type: Private}}
    vms:
      storm: {adapters: [{switch: vs, addresses: [10.0.0.1/24], storm_limit: 10}]}
      slow: {adapters: [{switch: vs, addresses: [10.0.0.2/24], maximum_bandwidth: 10000000}]}
      fast: {adapters: [{switch: vs, addresses: [10.0.0.3/24]}]}
      server: {adapters: [{switch: vs, addresses: [10.0.0.4/24]}], services: [http]}
"""
FLOOD = """
import socket, time
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(("eth0", 0))
frame = b"\\xff" * 6 + sock.getsockname()[4] + b"\\x88\\xb5" + bytes(50)
print("ready")
while True:
    for _ in range(40):
        sock.send(frame)
    time.sleep(0.002)
"""
LISTEN = """
import socket, sys, threading
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.0.0.4", 5300))
got = [0]
def listen():
    while True:
        got[0] += len(sock.recv(2000))
threading.Thread(target=listen, daemon=True).start()
print("ready")
for line in sys.stdin:
    print(got[0])
    got[0] = 0
"""
SEND = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("10.0.0.4", 5300))
began = time.monotonic()
while time.monotonic() < began + 1:
    for _ in range(20):
        sock.send(bytes(1000))
    time.sleep(0.002)
print(time.monotonic() - began)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT) as lab:
        yield lab


def drops(lab: RunningLab, name: str) -> int:
    return sum(each["packets"] for each in lab.call("rule_counters") if each["name"] == name)


def shown(how: Callable[..., None], data: Any, **options: Any) -> str:
    """What a user would read."""
    text = StringIO()
    how(Page(text), data, **options)
    return text.getvalue()


def test_a_storm_that_cuts_arp_is_named_as_the_cause(lab: RunningLab) -> None:
    assert lab.probe("storm", "server", "http") == "open"
    assert drops(lab, "StormLimit") == 0
    (answer,) = lab.call("explain", source="storm", destination="server", traffic="http")["answers"]
    assert (answer["verdict"], answer["layer"], answer["agrees"]) == ("Allow", None, True)
    limit = "StormLimit of storm/Network Adapter, at most 10 frames a second"
    assert [limit] in [check["limits"] for check in answer["open_vswitch"]]

    with lab.python("storm", FLOOD) as flood:
        assert flood.hear() == "ready"
        wait_until(lambda: drops(lab, "StormLimit") > 100, "the storm is cut")
        for _ in range(5):  # a question that comes while the flood pauses may get through
            lab.call("forget")
            found = lab.call("probe", source="storm", destination="server", traffic="http", patience=0.5)
            if found["reports"][0]["outcome"] == "unreachable":
                break
        # What the others send, and what the storm's guest sends to an address that is known, passes.
        assert lab.probe("fast", "server", "http") == "open"
        assert lab.probe("server", "storm", "icmp") == "open"
    (report,) = found["reports"]
    assert report["outcome"] == "unreachable"
    assert (report["expected"], report["agrees"], report["layer"]) == ("open", False, "limit")
    assert "storm/Network Adapter sends more broadcast, multicast and unknown unicast" in report["cause"]
    assert "Set-VMNetworkAdapter -VMName 'storm' -Name 'Network Adapter' -StormLimit 0" in report["fix"]
    assert "storm_limit at lab.yaml:7:26" in report["fix"]
    (move,) = report["other_drops"]
    assert (move["reason"], move["adapter"]) == ("StormLimit", "storm/Network Adapter")
    assert move["moved"] == move["after"] - move["before"] > 0
    told = shown(render.probe_reports, Probed.from_dict(found))
    assert "layer      limit" in told
    assert "dropped    StormLimit at storm/Network Adapter on hv01/vs: " in told
    assert "DISAGREEMENT" not in told

    lab.call("forget")
    wait_until(lambda: lab.probe("storm", "server", "http") == "open", "the limit has recovered")
    found = lab.call("explain", source="storm", destination="server", traffic="http")
    (answer,) = found["answers"]
    assert (answer["verdict"], answer["layer"], answer["agrees"]) == ("Allow", "limit", True)
    assert f"not traced {limit}: a trace measures no rates" in shown(
        render.explanation, Explanation.from_dict(found), steps=False
    )
    assert answer["cause"].startswith("storm/Network Adapter has sent more broadcast, multicast")
    assert answer["cause"].endswith(f"and ARP was cut with it: {drops(lab, 'StormLimit')} dropped so far")


CROWD = """
name: crowd
hosts:
  hv01:
    switches: {{vs: {{type: Private}}}}
    vms:
      asker: {{adapters: [{{switch: vs, addresses: [10.0.0.100/24], storm_limit: 3}}]}}
{vms}
"""


def test_questions_that_are_a_storm_themselves_are_asked_again() -> None:
    names = [f"vm{number}" for number in range(1, 7)]
    vms = "\n".join(
        f"      {name}: {{adapters: [{{switch: vs, addresses: [10.0.0.{number}/24]}}]}}"
        for number, name in enumerate(names, 1)
    )
    with running_lab(CROWD.format(vms=vms)) as lab:
        time.sleep(1)  # what guests send when they start
        asked = [
            {"source": "asker", "destination": name, "traffic": "icmp", "patience": 0.5} for name in names
        ]
        answers = lab.call("probe_all", questions=asked)
        assert [report["outcome"] for (report,) in answers] == ["open"] * len(names)
        assert drops(lab, "StormLimit") > 0, "there was no storm: this test shows nothing"


def test_bandwidth_is_capped_at_the_sender(lab: RunningLab) -> None:
    got: dict[str, int] = {}
    took: dict[str, float] = {}
    with lab.python("server", LISTEN) as server:
        assert server.hear() == "ready"
        for guest in ("slow", "fast"):
            assert lab.probe(guest, "server", "icmp") == "open"
            with lab.python(guest, SEND) as sender:
                took[guest] = float(sender.hear())
            time.sleep(0.1)
            got[guest] = int(server.say("how much?"))
    most = (10_000_000 * took["slow"] + 2_500_000) / 8  # a quarter second's worth may go at once
    assert most / 4 < got["slow"] < most
    assert got["fast"] > 2 * got["slow"]
    assert drops(lab, "Qos") > 100
    # That is what the limit is for: nothing is wrong.
    (answer,) = lab.call("explain", source="slow", destination="server", traffic="http")["answers"]
    assert (answer["verdict"], answer["layer"], answer["agrees"]) == ("Allow", None, True)


def test_a_controller_that_comes_back_leaves_meters_alone_and_puts_back_what_is_missing(
    lab: RunningLab,
) -> None:
    before, counted = lab.flows(), drops(lab, "Qos")
    meters = lab.ofctl(0, "dump-meters").partition("\n")[2]
    lab.restart_controller()
    assert drops(lab, "Qos") == counted > 0, "a meter was written anew"
    assert lab.call("controller_status")["reconciled_flows"] == 0

    lab.ofctl(0, "del-meter", "meter=1")  # takes the flow that names it along
    lab.ofctl(0, "mod-meter", "meter=65538,kbps,burst,band=type=drop,rate=5,burst_size=9")
    lab.ofctl(0, "add-meter", "meter=77,pktps,burst,band=type=drop,rate=5,burst_size=5")
    assert lab.flows() != before
    lab.restart_controller()
    assert lab.call("controller_status")["reconciled_flows"] == 1
    assert lab.flows() == before
    assert lab.ofctl(0, "dump-meters").partition("\n")[2] == meters
