"""Ask a running lab's Open vSwitch about the frames of an explanation, and compare with the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from vswitch.diagnose.flowtext import flow_text
from vswitch.diagnose.limit_drops import count_packets
from vswitch.model.site import ExtendedAcl, Site, Switch
from vswitch.model.types import DropReason
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import Flow, HostProgram, Purpose, Table
from vswitch.semantics.conversation import Conversation
from vswitch.semantics.network import SwitchPassage
from vswitch.semantics.switch_memory import FlowState, Learned, SwitchState, flow_key
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import Stage

__all__ = ["FlowSeen", "TracedLab", "SwitchCheck", "check_conversation", "deciding_flows"]

#: A mark no conntrack entry is given by chance: the traced packet belongs to a live flow.
_LIVE = ",ct_mark=1"


class TracedLab(Protocol):
    """What the running lab offers to whoever diagnoses it."""

    @property
    def site(self) -> Site:
        """The site in force."""

    @property
    def programs(self) -> Mapping[str, HostProgram]:
        """The flow programs in force, by host."""

    def client(self, host: str) -> SwitchClient:
        """The Open vSwitch of one Hyper-V host."""

    def netns(self, guest: str) -> str:
        """The path of a guest's network namespace."""

    def learned(self, switch: Switch) -> Mapping[tuple[str, int], Learned]:
        """What a switch has learned: (MAC, VLAN) to OpenFlow port and age in seconds."""


@dataclass(frozen=True, slots=True)
class FlowSeen:
    """A flow that a traced frame met, and its packet counter at that moment.

    Of a flow with a meter, `packets` are those the meter has dropped so far.
    """

    switch: str
    flow: Flow
    packets: int


@dataclass(frozen=True, slots=True)
class SwitchCheck:
    """One frame at one switch: what the reference says and what Open vSwitch says.

    Ports are OpenFlow ports. `skipped` says why Open vSwitch could not be asked, or is "".
    """

    switch: str
    frame: str
    reference: tuple[int, ...]
    traced: tuple[int, ...]
    reference_drops: tuple[str, ...]
    traced_drops: tuple[str, ...]
    flows: tuple[FlowSeen, ...]
    text: str
    skipped: str = ""

    @property
    def limits(self) -> tuple[FlowSeen, ...]:
        """The limits the frame counts against: a trace does not measure, it lets every frame pass."""
        return tuple(seen for seen in self.flows if seen.flow.meter)

    @property
    def agrees(self) -> bool:
        """Whether both give the same deliveries for the same reasons."""
        same = (self.reference, self.reference_drops) == (self.traced, self.traced_drops)
        return bool(self.skipped) or same


def check_conversation(lab: TracedLab, conversation: Conversation) -> list[SwitchCheck]:
    """Trace every frame of a conversation through every switch it meets, in order."""
    passages = [
        passage
        for leg in conversation.legs
        for hop in leg.hops
        for passage in hop.result.passages
        if isinstance(passage, SwitchPassage)
    ]
    switches = {passage.switch.id: passage.switch for passage in passages}
    known = {name: _Known(lab, switch) for name, switch in switches.items()}
    return [known[passage.switch.id].check(passage) for passage in passages]


class _Known:
    """One switch as it is now: its program, counters and learned addresses, read once."""

    def __init__(self, lab: TracedLab, switch: Switch) -> None:
        self._site = lab.site
        self._switch = switch
        self._client = lab.client(switch.host)
        program = lab.programs[switch.host].switches[switch.bridge]
        self._program = program.flows
        self._counters = count_packets(self._client, program)
        self._learned = lab.learned(switch)

    def check(self, passage: SwitchPassage) -> SwitchCheck:
        """What becomes of one frame, by the reference and by Open vSwitch.

        Both start from the addresses the switch has really learned: a conversation is imagined,
        and so is what it would teach.
        """
        live = _live_states(self._site, passage)
        flows = {
            (step.port, key): FlowState(step.rule, 0.0)
            for step in passage.result.steps
            if step.stage is Stage.STATE
            and isinstance(step.rule, ExtendedAcl)
            and (key := flow_key(passage.frame))
        }
        state = SwitchState.of(self._learned, flows)
        result = process(self._site, self._switch, passage.ingress, passage.frame, state)
        wanted = tuple(sorted(result.outputs))
        said = tuple(
            sorted(
                drop.rule.name if drop.rule else str(drop.reason)
                for drop in result.drops
                if drop.reason is not DropReason.OWN_PORT
            )
        )
        frame = str(passage.frame)
        if live is None:
            why = "it belongs to a live flow at one adapter and not at another, which no trace can express"
            return SwitchCheck(self._switch.id, frame, wanted, (), said, (), (), "", why)
        text = flow_text(passage.frame, passage.ingress) + (_LIVE if live else "")
        trace = self._client.trace(self._switch.bridge, text)
        met = [self._program[cookie] for cookie in trace.cookies if cookie in self._program]
        outputs = {int(flow.actions.rpartition("output:")[2]) for flow in met if flow.table is Table.OUTPUT}
        seen = tuple(
            FlowSeen(self._switch.id, flow, self._counters.get(flow.cookie, (0, 0))[0])
            for flow in met
            if flow.purpose is not Purpose.FORWARD or flow.table is Table.OUTPUT
        )
        return SwitchCheck(
            self._switch.id,
            frame,
            wanted,
            tuple(sorted(outputs)),
            said,
            tuple(sorted(_drop_names(met))),
            seen,
            trace.text,
        )


def _drop_names(flows: Iterable[Flow]) -> Iterable[str]:
    for flow in flows:
        # A copy for the port a flood came from ends there; the reference makes no such copy.
        if flow.is_drop and flow.purpose is not Purpose.FORWARD and flow.reason != DropReason.OWN_PORT:
            yield flow.rule.name if flow.rule else flow.reason


def _live_states(site: Site, passage: SwitchPassage) -> bool | None:
    """Whether the adapters that look this frame's flow up find it live: all, none, or (None) some."""
    if flow_key(passage.frame) is None:
        return False
    stateful = {
        adapter.number
        for adapter in site.adapters_of(passage.switch)
        if any(rule.stateful for rule in adapter.extended_acls)
    }
    found = {
        step.rule is not None
        for step in passage.result.steps
        if step.stage is Stage.STATE and step.port in stateful
    }
    if len(found) > 1:
        return None
    return True in found


def deciding_flows(lab: TracedLab, conversation: Conversation) -> list[tuple[Switch, Flow]]:
    """The flows whose counters move when this conversation is really held.

    For a Deny, the flow that drops; for an Allow, those of the ACL entries that let it pass.
    """
    decision = conversation.decided_by
    if decision is None:
        return [
            (switch, flow)
            for switch in lab.site.switch.values()
            for flow in lab.programs[switch.host].switches[switch.bridge].flows.values()
            if flow.purpose is Purpose.RULE and any(flow.rule is rule for rule in conversation.rules)
        ]
    switch_or_none = lab.site.switch.get(decision.place)
    if switch_or_none is None:
        return []
    owner = decision.adapter.id if decision.adapter else ""
    found = []
    for flow in lab.programs[switch_or_none.host].switches[switch_or_none.bridge].flows.values():
        if not flow.is_drop or flow.purpose is Purpose.FORWARD:
            continue
        if decision.drop.rule is not None:
            matches = flow.rule is not None and flow.adapter == owner
            matches = matches and flow.rule is not None and flow.rule.origin == decision.drop.rule.origin
        else:
            matches = flow.reason == str(decision.drop.reason) and flow.adapter in ("", owner)
        if matches:
            found.append((switch_or_none, flow))
    return found
