"""One frame through one virtual switch: every stage in Hyper-V's order (§1.6).

Sender's side: flow state, extended Outbound, basic Outbound, guards, source MAC, VLAN ingress;
then learning, forwarding and StormLimit, to which mirroring adds destinations; then at each
destination: VLAN egress, flow state, extended Inbound, basic Inbound, delivery. A frame from one VM
to another is filtered twice. At an adapter with a virtual function (SR-IOV) only source MAC and VLAN
are checked.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from vswitch.model.site import Adapter, ExtendedAcl, Site, Switch
from vswitch.model.types import BasicAction, Direction
from vswitch.semantics.acl import (
    BasicVerdict,
    ExtendedVerdict,
    arp_hangs_on,
    evaluate_basic,
    evaluate_extended,
)
from vswitch.semantics.assumptions import Assumption
from vswitch.semantics.forwarding import Destinations, destinations, learn, ports_of, source_mac_drops
from vswitch.semantics.frame import Fragment, Frame, is_multicast
from vswitch.semantics.guards import guard_drops
from vswitch.semantics.mirroring import mirror_destinations
from vswitch.semantics.storm import count
from vswitch.semantics.switch_memory import FlowState, SwitchState, flow_key
from vswitch.semantics.verdict import Drop, DropReason, Result, Rule, Stage, Step, rule_text
from vswitch.semantics.vlan import from_guest, from_wire, to_guest, to_wire
from vswitch.wording import counted

__all__ = ["process"]


def process(
    site: Site,
    switch: Switch,
    ingress: int,
    frame: Frame,
    state: SwitchState | None = None,
    now: float = 0.0,
) -> Result:
    """What `switch` does with `frame` coming in at OpenFlow port `ingress`.

    `frame` is as it is on that port's wire. `state` is what the switch knew before (nothing, if
    None) and stays as it is; `now` is the time in seconds, on any clock that only moves forward.
    Raises ValueError when the switch has no such port.
    """
    return _Passage(site, switch, ingress, frame, state or SwitchState(), now).run()


class _Passage:
    """The working memory of one call of `process`."""

    def __init__(
        self, site: Site, switch: Switch, ingress: int, frame: Frame, state: SwitchState, now: float
    ) -> None:
        self.site = site
        self.switch = switch
        self.ingress = ingress
        self.frame = frame
        self.state = state
        self.now = now
        self.ports = ports_of(site.adapters_of(switch))
        self.sender = self.ports.by_number.get(ingress)
        if self.sender is None and (not switch.uplink or ingress != switch.uplink):
            raise ValueError(f"{switch.id} has no port {ingress}")
        self.outputs: dict[int, Frame] = {}
        self.drops: list[Drop] = []
        self.steps: list[Step] = []
        self.flags: dict[int, frozenset[Assumption]] = {}

    def run(self) -> Result:
        vlan = self._enter()
        if vlan is not None:
            self._forward(vlan)
        return Result(
            MappingProxyType(self.outputs),
            tuple(self.drops),
            tuple(self.steps),
            self.state,
            MappingProxyType(self.flags),
        )

    def _enter(self) -> int | None:
        """The way into the switch: the VLAN the frame travels on, or None when it was dropped."""
        sender, frame = self.sender, self.frame
        vlan = from_wire(frame) if sender is None else from_guest(sender, frame)
        if frame.vlan == 0:
            self._flag(self.ingress, Assumption.PRIORITY_TAG)
        if sender is not None and not (
            self._filter(sender, Direction.OUTBOUND, vlan) and self._guards(sender, vlan)
        ):
            return None
        direction = Direction.OUTBOUND if sender is not None else None
        refused = source_mac_drops(self.site, self.ports, sender, frame)
        if refused is not None:
            self._drop(self.ingress, Stage.SOURCE_MAC, refused, direction, vlan, f"source {frame.src_mac}")
            return None
        self._step(self.ingress, Stage.SOURCE_MAC, f"{frame.src_mac} may send here", direction)
        if vlan is None:
            text = f"tag {frame.vlan} is not permitted"
            self._drop(
                self.ingress, Stage.VLAN_INGRESS, DropReason.UNAUTHORIZED_VLAN, direction, frame.vlan, text
            )
            return None
        self._step(self.ingress, Stage.VLAN_INGRESS, f"travels on VLAN {vlan}", direction)
        if sender is not None and frame.priority:
            kept = sender.ieee_priority_tag
            text = f"On: {frame.priority} is kept" if kept else "Off: set to 0"
            self._step(self.ingress, Stage.PRIORITY, f"IeeePriorityTag is {text}", direction)
            self.frame = frame if kept else replace(frame, priority=0)
        return vlan

    def _guards(self, sender: Adapter, vlan: int | None) -> bool:
        if sender.virtual_function:
            return True
        reason = guard_drops(sender, self.frame)
        for stage, own, enabled in (
            (Stage.DHCP_GUARD, DropReason.DHCP_GUARD, sender.dhcp_guard),
            (Stage.ROUTER_GUARD, DropReason.ROUTER_GUARD, sender.router_guard),
        ):
            if reason is own:
                self._drop(
                    self.ingress, stage, own, Direction.OUTBOUND, vlan, "On, and this is what it stops"
                )
                return False
            text = "On, but this is not what it stops" if enabled else "Off"
            self._step(self.ingress, stage, text, Direction.OUTBOUND)
        return True

    def _forward(self, vlan: int) -> None:
        frame = self.frame
        self.state, text = learn(self.switch, self.ports, self.sender, frame, vlan, self.state, self.now)
        self._step(self.ingress, Stage.LEARNING, text)
        where = destinations(self.switch, self.ports, self.ingress, frame, vlan, self.state, self.now)
        if where.stormy and not self._within_storm_limit(vlan):
            if not is_multicast(frame.dst_mac):
                self._mirror(Destinations((), ""), vlan)  # it has been sent (U17)
            return
        self._flag(self.ingress, *where.assumptions)
        if where.reason is not None:
            owner = self.ports.by_number.get(where.dropped_at)
            direction = Direction.INBOUND if owner and where.dropped_at != self.ingress else None
            self._drop(where.dropped_at, Stage.FORWARDING, where.reason, direction, vlan, where.text)
        else:
            self._step(self.ingress, Stage.FORWARDING, where.text)
        if where.filtered:
            self._drop_filtered(where.filtered, vlan)
        for port in where.ports:
            self._deliver(port, vlan)
        self._mirror(where, vlan)

    def _mirror(self, where: Destinations, vlan: int) -> None:
        """Copies for mirroring Destinations, each of which then takes its way out of the switch (U17)."""
        for port, text in mirror_destinations(self.ports, self.ingress, where):
            self._step(port, Stage.MIRRORING, text, Direction.INBOUND)
            self._flag(port, Assumption.MIRRORING)
            self._deliver(port, vlan)

    def _within_storm_limit(self, vlan: int) -> bool:
        """Count a broadcast, multicast or unknown unicast frame against its sender's limit (§2, U11)."""
        sender = self.sender
        if sender is None or sender.virtual_function or not sender.storm_limit:
            return True
        bucket, within = count(sender.storm_limit, self.state.storms.get(self.ingress), self.now)
        self.state = self.state.with_storm(self.ingress, bucket)
        limit = f"{counted(sender.storm_limit, 'frame')} a second"
        if within:
            self._step(self.ingress, Stage.STORM_LIMIT, f"within {limit}", Direction.OUTBOUND)
            return True
        if not is_multicast(self.frame.dst_mac):
            self._flag(self.ingress, Assumption.STORM_LIMIT)
        stage, reason = Stage.STORM_LIMIT, DropReason.STORM_LIMIT
        self._drop(self.ingress, stage, reason, Direction.OUTBOUND, vlan, f"more than {limit}")
        return False

    def _drop_filtered(self, ports: tuple[int, ...], vlan: int) -> None:
        """A broadcast does not reach adapters of other VLANs: one drop for all of them."""
        self._flag_virtual_functions(*ports)
        self.drops.append(
            Drop(ports, Stage.VLAN_EGRESS, DropReason.FILTERED_VLAN, Direction.INBOUND, None, vlan)
        )
        for port in ports:
            self._step(
                port, Stage.VLAN_EGRESS, f"does not receive VLAN {vlan}", Direction.INBOUND, passed=False
            )

    def _deliver(self, port: int, vlan: int) -> None:
        adapter = self.ports.by_number.get(port)
        if adapter is None:
            self._step(port, Stage.DELIVERY, f"leaves on the uplink in VLAN {vlan}")
            self.outputs[port] = to_wire(self.frame, vlan)
            return
        if vlan not in adapter.vlan.receives:
            self._drop(
                port,
                Stage.VLAN_EGRESS,
                DropReason.FILTERED_VLAN,
                Direction.INBOUND,
                vlan,
                f"does not receive VLAN {vlan}",
            )
            return
        self._step(port, Stage.VLAN_EGRESS, f"receives VLAN {vlan}", Direction.INBOUND)
        if self._filter(adapter, Direction.INBOUND, vlan):
            self._step(port, Stage.DELIVERY, f"delivered to {adapter.id}", Direction.INBOUND)
            self.outputs[port] = to_guest(adapter, self.frame, vlan)

    def _filter(self, adapter: Adapter, direction: Direction, vlan: int | None) -> bool:
        """One adapter's port ACLs in one direction: whether the frame passes (§4.8)."""
        port, frame = adapter.number, self.frame
        if adapter.virtual_function:
            text = "the frame takes a virtual function: ACLs and guards are skipped"
            self._step(port, Stage.VIRTUAL_FUNCTION, text, direction)
            return True
        extended = ExtendedVerdict(None)
        flow: FlowState | None = None
        if frame.is_ip:
            flow = self._established(port, direction)
            if flow is None:
                extended = evaluate_extended(adapter.extended_acls, direction, frame, vlan)
                self._flag(port, *extended.assumptions)
        basic = evaluate_basic(adapter.acls, direction, frame)
        self._flag(port, *basic.assumptions)
        self._note_combination(port, extended, basic, flow)
        if arp_hangs_on(adapter.extended_acls, adapter.acls, direction, frame):
            self._flag(port, Assumption.ARP)
        if not frame.is_ip:
            self._step(port, Stage.EXTENDED_ACL, "not an IP frame: extended ACLs do not apply", direction)
        elif flow is None:
            if extended.denies:
                self._drop_by(port, Stage.EXTENDED_ACL, direction, vlan, extended.rule)
                return False
            self._step(
                port,
                Stage.EXTENDED_ACL,
                _passed_text(extended.rule, bool(adapter.extended_acls)),
                direction,
                extended.rule,
            )
            self._remember(port, extended.rule)
        if basic.denies:
            self._drop_by(port, Stage.BASIC_ACL, direction, vlan, basic.rule)
            return False
        self._step(port, Stage.BASIC_ACL, _passed_text(basic.rule, bool(adapter.acls)), direction, basic.rule)
        return True

    def _established(self, port: int, direction: Direction) -> FlowState | None:
        """The live flow state that lets this packet skip the extended entries, renewed (§4.4)."""
        key = flow_key(self.frame)
        flow = self.state.flow(port, key, self.now)
        if self.frame.fragment is not Fragment.NONE and any(kept == port for kept, _ in self.state.flows):
            self._flag(port, Assumption.FRAGMENTS)
        if key is None or flow is None:
            self._step(port, Stage.STATE, "no live flow state", direction)
            return None
        self.state = self.state.see(port, key, flow.rule, self.now)
        text = f"live flow state of {rule_text(flow.rule)}: extended ACLs are skipped"
        self._step(port, Stage.STATE, text, direction, flow.rule)
        return flow

    def _remember(self, port: int, rule: ExtendedAcl | None) -> None:
        """A packet that a Stateful entry has let pass opens its flow in both directions (§4.4)."""
        key = flow_key(self.frame)
        if key is None or rule is None or not rule.stateful:
            return
        if self.frame.tcp_flags not in ("", "S"):
            self._flag(port, Assumption.STATEFUL)
        self.state = self.state.see(port, key, rule, self.now)

    def _note_combination(
        self, port: int, extended: ExtendedVerdict, basic: BasicVerdict, flow: FlowState | None
    ) -> None:
        """Flag verdicts that hang on how basic and extended entries or state combine (U1, U6)."""
        if basic.rule is None:
            return
        if flow is not None:
            if basic.denies:
                self._flag(port, Assumption.STATEFUL)
        elif extended.rule is not None and extended.denies != (basic.rule.action is BasicAction.DENY):
            self._flag(port, Assumption.BOTH_KINDS_OF_ACL)

    def _flag(self, port: int, *questions: Assumption) -> None:
        if questions:
            self.flags[port] = self.flags.get(port, frozenset()) | frozenset(questions)

    def _flag_virtual_functions(self, *ports: int) -> None:
        """What ends at an adapter with a virtual function was ended by the NIC's own switch (U18)."""
        for port in ports:
            adapter = self.ports.by_number.get(port)
            if adapter is not None and adapter.virtual_function:
                self._flag(port, Assumption.VIRTUAL_FUNCTIONS)

    def _step(
        self,
        port: int,
        stage: Stage,
        text: str,
        direction: Direction | None = None,
        rule: Rule | None = None,
        *,
        passed: bool = True,
    ) -> None:
        self.steps.append(Step(port, stage, text, direction, rule, passed))

    def _drop(
        self,
        port: int,
        stage: Stage,
        reason: DropReason,
        direction: Direction | None,
        vlan: int | None,
        text: str,
        rule: Rule | None = None,
    ) -> None:
        self._flag_virtual_functions(port)
        self.drops.append(Drop((port,), stage, reason, direction, rule, vlan))
        self._step(port, stage, f"{text}: dropped, {reason}", direction, rule, passed=False)

    def _drop_by(
        self, port: int, stage: Stage, direction: Direction, vlan: int | None, rule: Rule | None
    ) -> None:
        assert rule is not None
        self._drop(port, stage, DropReason.ACL, direction, vlan, f"{rule_text(rule)} denies", rule)


def _passed_text(rule: Rule | None, any_entries: bool) -> str:
    if rule is not None:
        return f"{rule_text(rule)} allows"
    return "no entry matches: passes" if any_entries else "no entries: passes"
