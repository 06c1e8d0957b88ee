"""The compiled flows as an engine: Open vSwitch's tracer in the place of the reference's switches.

Hosts, routes and the physical network are the reference's; what a virtual switch does with a frame is
what `ofproto/trace` says. The traced switches have a memory of their own: learned addresses in Open vSwitch
itself, whose clock stands still and is moved by hand, and flow states as the compiled ct() actions
create them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

from tests.support.scenarios.engines import AnswerSeen, FrameSeen, Reference
from tests.support.scenarios.run import Disagreement
from tests.support.scenarios.scenario import Scenario, ScenarioQuestion, SentFrame
from vswitch.diagnose.flowtext import flow_text
from vswitch.model.site import Adapter, ExtendedAcl, Site, Switch
from vswitch.model.types import BasicAction, Direction
from vswitch.openvswitch import BridgeSpec, Instance, PortSpec
from vswitch.openvswitch.trace import Trace, parse_ports, parse_trace
from vswitch.pipeline import (
    Flow,
    HostProgram,
    Purpose,
    Table,
    compile_site,
    difference,
    meter_difference,
)
from vswitch.semantics import network
from vswitch.semantics.frame import Frame
from vswitch.semantics.switch_memory import FlowKey, SwitchState, flow_key
from vswitch.semantics.verdict import Drop, DropReason, Result, Stage, Step

__all__ = ["FlowTrace", "TracedSwitches"]

_BRIDGES, _PORTS = 4, 20
_ZONE = re.compile(r"ct\(zone=(\d+),table=")
_COMMIT = re.compile(r"ct\(commit,zone=(\d+),exec\(set_field:(\w+)->ct_mark\)\)")
_PORT_REGISTER = re.compile(r"reg[01]=(\d+)")
_LOOKUP = re.compile(r"reg3=(\d+)")
_STATE_TABLES = (Table.OUTBOUND_STATE, Table.INBOUND_STATE)
_STAGES = {
    "EXTENDED": Stage.EXTENDED_ACL,
    "BASIC": Stage.BASIC_ACL,
    "LOCAL": Stage.BASIC_ACL,
    "REMOTE": Stage.BASIC_ACL,
    "METER": Stage.BASIC_ACL,
}
_REASON_STAGES = {
    DropReason.DHCP_GUARD: Stage.DHCP_GUARD,
    DropReason.ROUTER_GUARD: Stage.ROUTER_GUARD,
    DropReason.INVALID_SOURCE_MAC: Stage.SOURCE_MAC,
    DropReason.MAC_SPOOFING: Stage.SOURCE_MAC,
    DropReason.UNAUTHORIZED_MAC: Stage.SOURCE_MAC,
    DropReason.UNAUTHORIZED_VLAN: Stage.VLAN_INGRESS,
}


class TracedSwitches:
    """One Open vSwitch with bridges whose ports lead nowhere, and a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.instance = Instance("scenarios", folder, datapath="dummy")

    def __enter__(self) -> TracedSwitches:
        self.instance.start()
        try:
            self.instance.add_bridges(
                BridgeSpec(
                    f"br{bridge}",
                    bridge + 1,
                    ports=tuple(PortSpec(f"t{bridge}p{n}", n, type="dummy") for n in range(1, _PORTS + 1)),
                )
                for bridge in range(_BRIDGES)
            )
            for bridge in range(_BRIDGES):
                self.instance.match_fragments(f"br{bridge}")
            self.ports = parse_ports(self.instance.appctl("dpif/show"))
            self.instance.appctl("time/stop")
        except BaseException:
            self.instance.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.instance.stop()

    def trace(self, bridge: str, flow: str) -> Trace:
        """A trace with the side effects of a real frame, that is, one that learns."""
        return parse_trace(self.instance.appctl("ofproto/trace", bridge, flow, "-generate"), self.ports)


class _Lookup(NamedTuple):
    """A look-up of flow state: where it is decided, for which port, as which of the port's zones."""

    established: Table
    port: int
    zone_index: int


class _Live(NamedTuple):
    """A flow state as conntrack holds it."""

    mark: int
    rule: ExtendedAcl
    last_seen: float


@dataclass
class _Program:
    """A switch's flows in force, and what the engine has to know of them."""

    switch: Switch
    bridge: str
    flows: Mapping[int, Flow]
    lookups: dict[_Lookup, int] = field(default_factory=dict)  # to the zone
    by_cookie: dict[int, _Lookup] = field(default_factory=dict)
    onward: dict[_Lookup, str] = field(default_factory=dict)  # what "no live flow state" does

    def __post_init__(self) -> None:
        for flow in self.flows.values():
            index = _LOOKUP.search(flow.match)
            if index is None:
                continue
            port = _PORT_REGISTER.search(flow.match)
            assert port
            if flow.table in _STATE_TABLES:
                zone = _ZONE.match(flow.actions)
                assert zone
                lookup = _Lookup(Table(flow.table + 1), int(port[1]), int(index[1]))
                self.lookups[lookup] = int(zone[1])
                self.by_cookie[flow.cookie] = lookup
            elif "ct_mark=0" in flow.match:
                self.onward[_Lookup(flow.table, int(port[1]), int(index[1]))] = flow.actions


class FlowTrace(Reference):
    """The reference's hosts and physical network, around switches that Open vSwitch traces.

    A trace says which limits a frame counts against, and lets it pass whatever was sent before.
    """

    name = "trace"

    def __init__(self, switches: TracedSwitches) -> None:
        self.switches = switches
        self.instance = switches.instance
        self.texts: list[str] = []
        self.limits: list[str] = []

    def begin(self, scenario: Scenario) -> None:
        super().begin(scenario)
        self.start(scenario.site)

    def start(self, site: Site) -> None:
        """Switches of `site` that know nothing yet, at any time of day."""
        self.site, self.state, self.now = site, network.SiteState(), 1000.0
        self.live: dict[tuple[str, int, FlowKey], _Live] = {}
        self.programs: dict[str, _Program] = {}
        self._install(site, fresh=True)

    def apply(self, site: Site, policy: str) -> None:
        self._install(site, fresh=False)
        self.site = site
        self.live = {
            key: state for key, state in self.live.items() if (key[1], state.mark) in self.hosts[key[0]].marks
        }

    def _install(self, site: Site, *, fresh: bool) -> None:
        """Give every switch its program: as at the start, or by the difference as an apply does."""
        self.hosts: dict[str, HostProgram] = compile_site(site)
        bridges = iter(range(_BRIDGES))
        for host in self.hosts.values():
            for program in host.switches.values():
                bridge, switch = f"br{next(bridges)}", program.switch
                held = () if fresh else self.programs[switch.id].flows
                change = difference(held, program.flows)
                meters = meter_difference(self.instance.meters(bridge), program.meters)
                self.instance.change_meters(bridge, meters.before)
                self.instance.bundle(bridge, ("delete\n" if fresh else "") + change.text)
                self.instance.change_meters(bridge, meters.after)
                self.programs[switch.id] = _Program(switch, bridge, program.flows)

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        # In steps, so that whatever runs once a second gets to run; and a second more than that takes.
        milliseconds = round(seconds * 1000) + 1000
        self.instance.appctl("time/warp", str(milliseconds), str(max(250, milliseconds // 40)))

    def ask(self, questions: list[ScenarioQuestion]) -> list[AnswerSeen]:
        with patch.object(network, "process", self.process):
            return super().ask(questions)

    def _ask(self, question: ScenarioQuestion) -> AnswerSeen:
        self.texts.clear()
        seen = super()._ask(question)
        # What the flows leave out, such as ACLs that SR-IOV skips, no trace can tell.
        return replace(seen, layer=seen.layer or None, assumptions=None, details="\n".join(self.texts))

    def send(self, sent: SentFrame) -> FrameSeen:
        if sent.times > 1:
            raise ValueError(f"{sent}: a trace measures no rates, leave this engine out")
        self.texts.clear()
        self.limits.clear()
        with patch.object(network, "process", self.process):
            seen = super().send(sent)
        limits = tuple(self.limits)
        return replace(seen, assumptions=None, limits=limits, details="\n".join(self.texts))

    def process(
        self, site: Site, switch: Switch, ingress: int, frame: Frame, state: Any = None, now: float = 0.0
    ) -> Result:
        """`vswitch.semantics.switching.process`, answered by Open vSwitch."""
        del state, now
        program, key = self.programs[switch.id], flow_key(frame)
        live = {
            lookup
            for lookup, zone in program.lookups.items()
            if key and self._state(switch.host, zone, key) is not None
        }
        trace = self._trace(program, flow_text(frame, ingress), live)
        self.texts.append(trace.text)
        met = [flow for cookie in trace.cookies if (flow := program.flows.get(cookie))]
        self.limits += [flow.reason for flow in met if flow.meter]
        steps = list(self._remember(site, program, met, key, live)) if key else []
        steps += [step for flow in met if (step := _rule_step(site, ingress, flow))]
        steps += [
            Step(_port_of(site, flow, ingress), Stage.MIRRORING, flow.text)
            for flow in met
            if flow.table is Table.MIRROR and flow.adapter
        ]
        if len(set(trace.outputs)) < len(trace.outputs):
            raise Disagreement(f"{frame} leaves {switch.id} by a port twice\n{trace.text}")
        names = (name.partition("p")[2] for name in trace.outputs)
        outputs = {
            int(name): replace(frame, vlan=tag, priority=priority)
            for name, tag, priority in zip(names, trace.tags, trace.priorities, strict=True)
        }
        return Result(
            MappingProxyType(outputs),
            tuple(_drops(site, switch, ingress, met)),
            tuple(steps),
            SwitchState(),
            MappingProxyType({}),
        )

    def _trace(self, program: _Program, text: str, live: set[_Lookup]) -> Trace:
        """A trace in which exactly the look-ups of `live` find a live flow.

        A traced frame has one mark at all look-ups. Where some find a live flow and others do not, the
        others get a flow for this one trace that does what the compiled one for mark 0 does.
        """
        if not live:
            return self.switches.trace(program.bridge, text)
        matches = [
            f"table={at.established:d},reg{int(at.established is Table.INBOUND_ESTABLISHED)}={at.port},"
            f"reg3={at.zone_index}"
            for at in program.lookups
            if at not in live
        ]
        onward = [program.onward[at] for at in program.lookups if at not in live]
        added = [f"add cookie=0x7,priority=100,{m} actions={a}" for m, a in zip(matches, onward, strict=True)]
        if added:
            self.instance.bundle(program.bridge, "\n".join(added))
        try:
            return self.switches.trace(program.bridge, text + ",ct_mark=1")
        finally:
            if added:
                self.instance.bundle(program.bridge, "delete cookie=0x7/-1")

    def _state(self, host: str, zone: int, key: FlowKey) -> _Live | None:
        found = self.live.get((host, zone, key))
        return found if found and self.now - found.last_seen < self.hosts[host].zones[zone] else None

    def _remember(
        self, site: Site, program: _Program, met: list[Flow], key: FlowKey, live: set[_Lookup]
    ) -> Iterator[Step]:
        """What conntrack does for the ct() actions the frame met: renew and create."""
        del site
        host = program.switch.host
        for flow in met:
            lookup = program.by_cookie.get(flow.cookie)
            if lookup in live and lookup is not None:
                zone = program.lookups[lookup]
                state = self.live[host, zone, key]
                self.live[host, zone, key] = state._replace(last_seen=self.now)
                yield Step(lookup.port, Stage.STATE, "live flow state", rule=state.rule)
            for zone_text, mark in _COMMIT.findall(flow.actions):
                assert isinstance(flow.rule, ExtendedAcl)
                self.live[host, int(zone_text), key] = _Live(int(mark, 0), flow.rule, self.now)


def _rule_step(site: Site, ingress: int, flow: Flow) -> Step | None:
    if flow.rule is None or flow.purpose is not Purpose.RULE or flow.rule.action is BasicAction.METER:
        return None
    port = _port_of(site, flow, ingress)
    return Step(port, _stage(flow), flow.text, _direction(flow), flow.rule, not flow.is_drop)


def _stage(flow: Flow) -> Stage:
    words = flow.table.name.split("_")
    if flow.rule is not None:
        return _STAGES[words[1]]
    if flow.table is Table.MIRROR:
        return Stage.VLAN_EGRESS
    return _REASON_STAGES.get(DropReason(flow.reason), Stage.FORWARDING)


def _direction(flow: Flow) -> Direction | None:
    if flow.table.name.startswith("INBOUND"):
        return Direction.INBOUND
    return Direction.OUTBOUND if flow.table < Table.LEARN else None


def _port_of(site: Site, flow: Flow, ingress: int) -> int:
    """Where a flow acted: at the port the frame came in by, or at the adapter it was meant for."""
    if _direction(flow) is Direction.OUTBOUND or not flow.adapter:
        return ingress
    return next(adapter.number for adapter in site.adapters if adapter.id == flow.adapter)


def _drops(site: Site, switch: Switch, ingress: int, met: list[Flow]) -> Iterator[Drop]:
    flooded = any(flow.table is Table.FLOOD and "clone" in flow.actions for flow in met)
    for flow in met:
        if not flow.is_drop or flow.purpose is Purpose.FORWARD:
            continue
        if flow.rule is not None:
            port = _port_of(site, flow, ingress)
            yield Drop((port,), _stage(flow), DropReason.ACL, _direction(flow), flow.rule)
        elif flow.table is Table.FILTERED_VLAN:
            others = _passed_by(site.adapters_of(switch), ingress, met)
            yield Drop(others, Stage.VLAN_EGRESS, DropReason.FILTERED_VLAN, Direction.INBOUND)
        elif not (flooded and flow.reason == DropReason.OWN_PORT):
            # The copy of a flood for the port it came from is not a drop anybody would speak of.
            port = _port_of(site, flow, ingress)
            yield Drop((port,), _stage(flow), DropReason(flow.reason), _direction(flow))


def _passed_by(adapters: tuple[Adapter, ...], ingress: int, met: list[Flow]) -> tuple[int, ...]:
    """The adapters a flood made no copy for."""
    copies = " ".join(flow.actions for flow in met if flow.table is Table.FLOOD)
    numbers = {int(number) for number in re.findall(r"set_field:(\d+)->reg1", copies)}
    return tuple(a.number for a in adapters if a.number not in numbers and a.number != ingress)
