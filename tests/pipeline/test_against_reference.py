"""The compiled flows and the reference agree on every frame: deliveries, tags, deciding rule or reason.

Thousands of comparisons a run; `--hypothesis-profile=thorough` for more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.support import generate
from tests.support.tracer import Tracer
from vswitch.model.site import Site
from vswitch.semantics.frame import Frame
from vswitch.semantics.switch_memory import FlowState, Learned, SwitchState, flow_key
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import DropReason, Result, Stage

pytestmark = pytest.mark.ovs
FRAMES_PER_SITE = 40


@pytest.fixture(scope="module")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    folder: Path = tmp_path_factory.mktemp("ovs")
    with Tracer(folder) as running:
        yield running


def _said_by_reference(result: Result) -> Counter[str]:
    return Counter(drop.rule.name if drop.rule else str(drop.reason) for drop in result.drops)


def _compare(
    tracer: Tracer, site: Site, frame: Frame, port: int, state: SwitchState, live: bool = False
) -> None:
    switch = site.hosts[0].switches[0]
    expected = process(site, switch, port, frame, state)
    traced = tracer.trace(frame, port, live=live)
    wanted = {number: (out.vlan, out.priority) for number, out in expected.outputs.items()}
    said = Counter(flow.rule.name if flow.rule else flow.reason for flow in traced.drops)
    # A switch never sends back where a frame came from; the reference does not even try in a flood.
    said.pop(DropReason.OWN_PORT, None)
    reference = _said_by_reference(expected)
    reference.pop(DropReason.OWN_PORT, None)
    if wanted != dict(traced.outputs) or said != reference:
        note(f"frame {frame} in at port {port}")
        note("\n".join(str(step) for step in expected.steps))
        note(traced.trace.text)
        for adapter in site.adapters:
            note(str(adapter))
    assert dict(traced.outputs) == wanted
    assert said == reference
    assert traced.limits == tuple(_counted(site, port, expected))


def _counted(site: Site, port: int, result: Result) -> Iterator[str]:
    """The limits a frame counts against: of all that is forwarded, and of all that is flooded."""
    stages = {step.stage for step in result.steps if step.passed}
    sender = next((adapter for adapter in site.adapters if adapter.number == port), None)
    passes_by = sender and sender.virtual_function
    if sender and sender.maximum_bandwidth and not passes_by and Stage.VLAN_INGRESS in stages:
        yield DropReason.QOS
    if Stage.STORM_LIMIT in stages:
        yield DropReason.STORM_LIMIT


@given(st.integers(0, 2**32))
def test_flows_agree_with_the_reference(tracer: Tracer, seed: int) -> None:
    random = Random(seed)
    site = generate.site(random)
    learned = {}
    for _ in range(3):
        candidates = [a for a in site.adapters if a.mac_address_spoofing]
        if candidates:
            owner = random.choice(candidates)
            vlan = random.choice(sorted(owner.vlan.receives))
            learned[generate.stranger(random.randint(1, 2)), vlan] = Learned(owner.number, 0.0)
    state = SwitchState.of(learned, {})
    tracer.load(site, state=state)
    for _ in range(FRAMES_PER_SITE):
        port, frame = generate.frame(random, site)
        if any(mac == frame.src_mac for mac, _ in learned) or frame.src_mac == frame.dst_mac:
            # The reference learns the source before it forwards; a trace never learns.
            continue
        _compare(tracer, site, frame, port, state)


@given(st.integers(0, 2**32))
def test_flows_agree_with_the_reference_on_live_sessions(tracer: Tracer, seed: int) -> None:
    """Every TCP and UDP packet belongs to a live flow at every adapter that has Stateful rules."""
    random = Random(seed)
    site = generate.site(random)
    tracer.load(site)
    for _ in range(FRAMES_PER_SITE // 4):
        port, frame = generate.frame(random, site)
        key = flow_key(frame)
        if key is None or frame.src_mac == frame.dst_mac:
            continue
        flows = {
            (adapter.number, key): FlowState(rules[0], 0.0)
            for adapter in site.adapters
            if (rules := [rule for rule in adapter.extended_acls if rule.stateful])
        }
        _compare(tracer, site, frame, port, SwitchState.of({}, flows), live=True)
