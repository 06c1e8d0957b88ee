"""Questions to a running lab that only diagnosing asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.running_lab import RunningLab, running_lab

pytestmark = pytest.mark.lab

LAYOUT = """
name: diagnose
networks: {lan: {vlans: [10, 20]}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan, allow_management_os: false}}
    vms:
      a: {adapters: [{switch: vs, vlan: {access: 10}, addresses: [10.0.0.1/24, "2001:db8::1/64"]}]}
      b:
        adapters: [{switch: vs, vlan: {access: 20}, addresses: [10.0.0.2/24, "2001:db8::2/64"]}]
        services: [http, {udp: 53}]
      c: {adapters: [{switch: vs, vlan: {access: 20}, addresses: [10.0.0.3/24]}]}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT) as lab:
        yield lab


def itself(lab: RunningLab, traffic: str, **options: Any) -> list[str]:
    question = {"source": "a", "destination": "b", "traffic": traffic, **options}
    (results,) = lab.call("probe_destinations", questions=[question])
    return [result["outcome"] for result in results]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("traffic", "outcomes"),
    [
        ("http", ["open"]),
        ("tcp/81", ["refused"]),
        ("udp/53", ["open"]),
        ("udp/54", ["refused"]),
        ("icmp", ["open"]),
        ("ip/47", ["delivered"]),
        ("tcp/79-81", ["refused"]),  # one answer for all of them: the first is asked
    ],
)
def test_a_destination_that_nobody_reaches_answers_itself(
    lab: RunningLab, traffic: str, outcomes: list[str], version: int
) -> None:
    assert itself(lab, traffic, version=version) == outcomes


def test_a_destination_that_is_dead_does_not(lab: RunningLab) -> None:
    with lab.python(
        "b", "import subprocess; print(subprocess.call(['ip', 'link', 'set', 'lo', 'down']))"
    ) as it:
        assert it.hear() == "0"
    try:
        (outcome,) = itself(lab, "http", patience=0.3)
        assert outcome in ("filtered", "unreachable")
    finally:
        with lab.python(
            "b", "import subprocess; print(subprocess.call(['ip', 'link', 'set', 'lo', 'up']))"
        ) as it:
            assert it.hear() == "0"
    assert itself(lab, "http") == ["open"]


def test_a_drop_of_a_neighbours_question_is_counted_each_time(lab: RunningLab) -> None:
    for _ in range(4):  # left alone, the guest would not ask for the same neighbour every time
        (report,) = lab.call("probe", source="a", destination="b", traffic="icmp", patience=0.3)["reports"]
        assert any(move["after"] > move["before"] for move in report["counters"])


def test_learned_and_own_macs(lab: RunningLab) -> None:
    table = lab.call("mac_table")
    assert {entry["where"] for entry in table if entry["status"] == "Self"} >= {
        f"{guest}/Network Adapter" for guest in "abc"
    }
    assert all(entry["age"] is None for entry in table if entry["status"] == "Self")


def test_counters_name_the_drop(lab: RunningLab) -> None:
    assert lab.probe("a", "b", "icmp", patience=0.3) in ("filtered", "unreachable")
    moved = {entry["name"] for entry in lab.call("rule_counters") if entry["packets"]}
    assert "FilteredVLAN" in moved


def test_forget_empties_neighbours_and_flow_states(lab: RunningLab) -> None:
    assert lab.probe("c", "b", "http") == "open"
    lab.call("forget")
    assert lab.call("connections") == {"hv01": []}
