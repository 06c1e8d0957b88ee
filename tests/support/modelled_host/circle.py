"""A modelled host beside what was imported from it: the same frames to both, verdicts side by side.

The host's verdict is the reference's on the records as the host holds them (`hyperv_site`). The other
one is Open vSwitch's, with the flows compiled from the imported layout and policy. What the two sides
share is nothing but the MAC addresses by which adapters are told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from tests.support.modelled_host import random_states as hyperv_generate
from tests.support.modelled_host.as_site import site_of
from tests.support.modelled_host.values import Document
from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl, Site, Switch
from vswitch.model.types import TCP, UDP, AnyAddress, VlanMode
from vswitch.semantics import process
from vswitch.semantics.frame import ARP, Frame
from vswitch.semantics.switch_memory import SwitchState, entry_identity
from vswitch.semantics.verdict import Drop, Result, Stage

__all__ = ["Circle", "CircleDisagreement", "Verdict", "meaning", "record_of"]

Record = tuple[object, ...]


def record_of(rule: ExtendedAcl | BasicAcl) -> Record:
    """The fields of an entry that a host holds. A basic ANY is what it means for each IP version."""
    if isinstance(rule, ExtendedAcl):
        return tuple(map(str, entry_identity(rule)))
    address = str(rule.address)
    whole = rule.address is AnyAddress.IP or address in ("0.0.0.0/0", "::/0")
    return (rule.action, rule.direction, rule.side, "everything" if whole else address)


@dataclass(frozen=True)
class Verdict:
    """Where a frame left, by MAC and tag, and why its other copies ended: at which adapters, by what."""

    outputs: frozenset[tuple[str, int | None]]
    drops: frozenset[tuple[frozenset[str], Record, int]]

    @classmethod
    def of(cls, site: Site, switch: Switch, result: Result) -> Verdict:
        """The verdict of `result`, without the numbers and names of one side."""
        macs = {adapter.number: adapter.mac for adapter in site.adapters_of(switch)}
        drops = Counter(
            (frozenset(macs.get(port, "uplink") for port in drop.ports), _why(drop)) for drop in result.drops
        )
        return cls(
            frozenset((macs.get(port, "uplink"), out.vlan) for port, out in result.outputs.items()),
            frozenset((places, why, count) for (places, why), count in drops.items()),
        )

    def __str__(self) -> str:
        outputs = sorted(f"{mac}.{tag}" if tag else mac for mac, tag in self.outputs)
        drops = sorted(f"{sorted(places)} {' '.join(map(str, why))}" for places, why, _ in self.drops)
        return f"to {outputs}, dropped {drops}"


def _why(drop: Drop) -> Record:
    return record_of(drop.rule) if drop.rule else (str(drop.reason),)


def adapter_meaning(site: Site, adapter: Adapter) -> Record:
    """Everything of an adapter that decides about frames, and how its switch is connected."""
    switch = site.switch[f"{adapter.host}/{adapter.switch}"]
    entries = [*map(record_of, adapter.extended_acls), *map(record_of, adapter.acls)]
    vlan = adapter.vlan
    return (
        vlan.mode if vlan.is_private else vlan.mode is VlanMode.TRUNK and vlan.receives != {vlan.send},
        (vlan.send, vlan.receives),
        (adapter.mac_address_spoofing, adapter.dhcp_guard, adapter.router_guard, adapter.allow_teaming),
        (adapter.is_management_os, switch.type, switch.allow_management_os),
        frozenset(map(str, entries)),
    )


def meaning(site: Site) -> Mapping[str, Record]:
    """`adapter_meaning` by MAC address."""
    return {adapter.mac: adapter_meaning(site, adapter) for adapter in site.adapters}


class CircleEngine(Protocol):
    """What puts frames through the lab's switches."""

    now: float
    texts: list[str]

    def start(self, site: Site) -> object: ...
    def apply(self, site: Site, policy: str) -> object: ...
    def wait(self, seconds: float) -> object: ...
    def process(self, site: Site, switch: Switch, port: int, frame: Frame) -> Result: ...


class CircleDisagreement(AssertionError):
    """The two sides do not do the same with a frame."""


@dataclass
class Circle:
    """A host's state and a lab's switches, each with its own memory; frames go to both.

    `state` is the host's, `site` what the lab runs, `engine` its switches. `seen` counts frames by what
    became of them on the host.
    """

    engine: CircleEngine
    state: Document
    site: Site
    memory: dict[str, SwitchState] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.host = site_of(self.state)
        self._join()
        self.engine.start(self.site)
        self._answers: list[tuple[Switch, int, Frame]] = []

    def _join(self) -> None:
        """The lab's counterpart of every adapter and of every switch that has adapters."""
        there = {adapter.mac: adapter for adapter in self.site.adapters}
        self.ports: dict[str, dict[int, int]] = {}
        self.switches: dict[str, Switch] = {}
        for switch in self.host.switch.values():
            pairs = [(one, there[one.mac]) for one in self.host.adapters_of(switch)]
            if not pairs:
                continue
            (name,) = {f"{other.host}/{other.switch}" for _, other in pairs}
            found = self.switches[switch.id] = self.site.switch[name]
            assert (found.type, bool(found.uplink)) == (switch.type, bool(switch.uplink))
            self.ports[switch.id] = {one.number: other.number for one, other in pairs}
            self.ports[switch.id][switch.uplink] = found.uplink

    def change(self, state: Document, site: Site) -> None:
        """The host is in `state` from now on, and `site` is what the lab runs."""
        self.host = site_of(state)
        self.memory = {
            name: known.for_site_change(self.host, self.host.switch[name])
            for name, known in self.memory.items()
        }
        self.state, self.site = state, site
        self._join()
        self.engine.apply(site, "")

    def wait(self, seconds: float) -> None:
        """Let time pass on both sides."""
        self.engine.wait(seconds)

    def run(self, random: Random, frames: int) -> None:
        """Send generated frames, and answers to those that arrived, each to both sides."""
        for _ in range(frames):
            if self._answers and random.random() < 0.5:
                switch, port, frame = random.choice(self._answers)
            else:
                switch = random.choice([self.host.switch[name] for name in self.switches])
                port, frame = hyperv_generate.frame(random, self.host, switch)
            if frame.src_mac == frame.dst_mac:
                continue  # the reference learns the source before it forwards, Open vSwitch with it
            self._remember(switch, self.ask(switch, port, frame))

    def ask(self, switch: Switch, port: int, frame: Frame) -> Result:
        """What the host does with a frame; Disagreement if the lab does not do the same."""
        known = self.memory.get(switch.id)
        expected = process(self.host, switch, port, frame, known, self.engine.now)
        self.memory[switch.id] = expected.state
        other = self.switches[switch.id]
        self.engine.texts.clear()
        seen = self.engine.process(self.site, other, self.ports[switch.id][port], frame)
        told = Verdict.of(self.host, switch, expected), Verdict.of(self.site, other, seen)
        self.seen["sent"] += 1
        self.seen["delivered"] += bool(expected.outputs)
        self.seen["denied"] += any(drop.rule for drop in expected.drops)
        self.seen["live"] += any(
            step.stage is Stage.STATE and step.rule is not None for step in expected.steps
        )
        if told[0] != told[1]:
            steps = "\n  ".join(f"{step.port}: {step.stage}: {step.text}" for step in expected.steps)
            raise CircleDisagreement(
                f"{frame}, in at port {port} of {switch.id}:\n  host {told[0]}\n  lab  {told[1]}\n"
                f"the host's stages:\n  {steps}\nthe lab's trace:\n{self.engine.texts[-1]}"
            )
        return expected

    def _remember(self, switch: Switch, result: Result) -> None:
        """Keep the answers to a frame that arrived, for a while."""
        by_number = {adapter.number: adapter for adapter in self.host.adapters_of(switch)}
        answers: Iterable[tuple[Switch, int, Frame]] = (
            (switch, number, out.reply(by_number[number].mac if number in by_number else None))
            for number, out in result.outputs.items()
            if out.ethertype == ARP or out.protocol in (TCP, UDP)
        )
        self._answers = [*self._answers[-8:], *answers]
