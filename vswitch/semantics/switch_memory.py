"""What one virtual switch remembers between frames, as an immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from vswitch.model.site import ExtendedAcl, Site, Switch
from vswitch.model.types import TCP, UDP, Action, Direction, Network, PortRange
from vswitch.semantics.frame import Address, Fragment, Frame
from vswitch.semantics.storm import Bucket

__all__ = ["EntryIdentity", "FlowKey", "FlowState", "Learned", "SwitchState", "entry_identity", "flow_key"]


class FlowKey(NamedTuple):
    """A TCP or UDP flow without its direction: the two ends in a fixed order."""

    protocol: int
    low: tuple[Address, int]
    high: tuple[Address, int]


class FlowState(NamedTuple):
    """Live until `idle_session_timeout` seconds of the rule pass without a packet (§4.4)."""

    rule: ExtendedAcl
    last_seen: float


class Learned(NamedTuple):
    """A learned forwarding entry: the OpenFlow port, and when the MAC was last a source."""

    port: int
    last_seen: float


def _nothing() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SwitchState:
    """Learned MACs by (MAC, VLAN), flow states by (adapter's port, flow), StormLimit counts by port.

    Entries whose time is over may still be present; `port_of` and `flow` know.
    """

    learned: Mapping[tuple[str, int], Learned] = field(default_factory=_nothing)
    flows: Mapping[tuple[int, FlowKey], FlowState] = field(default_factory=_nothing)
    storms: Mapping[int, Bucket] = field(default_factory=_nothing)

    @classmethod
    def of(
        cls,
        learned: Mapping[tuple[str, int], Learned],
        flows: Mapping[tuple[int, FlowKey], FlowState],
    ) -> SwitchState:
        """A state of its own from tables that may still change."""
        return cls(MappingProxyType(dict(learned)), MappingProxyType(dict(flows)))

    def port_of(self, switch: Switch, mac: str, vlan: int, now: float) -> int | None:
        """The port behind which a MAC was learned, unless the entry is too old (§1.2)."""
        entry = self.learned.get((mac, vlan))
        return entry.port if entry and _young(entry, switch, now) else None

    def flow(self, port: int, key: FlowKey | None, now: float) -> FlowState | None:
        """The live state of a flow at one adapter."""
        if key is None:
            return None
        found = self.flows.get((port, key))
        return found if found and _live(found, now) else None

    def learn(self, switch: Switch, mac: str, vlans: frozenset[int], port: int, now: float) -> SwitchState:
        """Remember `mac` behind `port` in each VLAN; a full table takes nothing new (§1.2)."""
        learned = {key: entry for key, entry in self.learned.items() if _young(entry, switch, now)}
        for vlan in sorted(vlans):
            if (mac, vlan) in learned or len(learned) < switch.max_mac_addresses:
                learned[mac, vlan] = Learned(port, now)
        return replace(self, learned=MappingProxyType(learned))

    def see(self, port: int, key: FlowKey, rule: ExtendedAcl, now: float) -> SwitchState:
        """Create or refresh the state of a flow."""
        flows = {old: flow for old, flow in self.flows.items() if _live(flow, now)}
        flows[port, key] = FlowState(rule, now)
        return replace(self, flows=MappingProxyType(flows))

    def with_storm(self, port: int, bucket: Bucket) -> SwitchState:
        """The same, after an adapter with a StormLimit has sent a frame that counts."""
        return replace(self, storms=MappingProxyType({**self.storms, port: bucket}))

    def for_site_change(self, site: Site, switch: Switch) -> SwitchState:
        """What is left of this state when `site`, with this `switch`, becomes the one in force.

        A flow lives on only while the very entry that made it exists on the same port; an entry
        with any field changed is another entry, its policy name and place in the file are not
        part of it (Hyper-V stores neither). Learned addresses stay where they may be learned.
        """
        adapters = {adapter.number: adapter for adapter in site.adapters_of(switch)}
        static = {adapter.mac for adapter in adapters.values()}
        entries = {
            number: {entry_identity(rule) for rule in adapter.extended_acls}
            for number, adapter in adapters.items()
        }
        flows = {
            key: flow
            for key, flow in self.flows.items()
            if entry_identity(flow.rule) in entries.get(key[0], ())
        }

        def may_stay(mac: str, vlan: int, port: int) -> bool:
            if mac in static:
                return False
            if port == switch.uplink and port:
                return True
            adapter = adapters.get(port)
            return adapter is not None and adapter.mac_address_spoofing and vlan in adapter.vlan.receives

        learned = {
            (mac, vlan): entry
            for (mac, vlan), entry in self.learned.items()
            if may_stay(mac, vlan, entry.port)
        }
        return SwitchState(MappingProxyType(learned), MappingProxyType(flows), self.storms)


def _young(entry: Learned, switch: Switch, now: float) -> bool:
    return now - entry.last_seen < switch.aging_time


def _live(flow: FlowState, now: float) -> bool:
    return now - flow.last_seen < flow.rule.idle_session_timeout


#: The fields of an extended entry that Hyper-V holds, in the order of `ExtendedAcl`.
EntryIdentity: TypeAlias = tuple[
    Action,
    Direction,
    int,
    Network | None,
    Network | None,
    PortRange | None,
    PortRange | None,
    int | None,
    bool,
    int,
    int,
]


def entry_identity(rule: ExtendedAcl) -> EntryIdentity:
    """The fields Hyper-V holds: two rules with the same ones are the same entry."""
    return (
        rule.action,
        rule.direction,
        rule.weight,
        rule.local_ip_address,
        rule.remote_ip_address,
        rule.local_port,
        rule.remote_port,
        rule.protocol,
        rule.stateful,
        rule.idle_session_timeout,
        rule.isolation_id,
    )


def flow_key(frame: Frame) -> FlowKey | None:
    """The flow a frame belongs to; None for all that is not a whole TCP or UDP packet (§4.4, U5)."""
    if frame.protocol not in (TCP, UDP) or frame.fragment is not Fragment.NONE:
        return None
    if frame.src is None or frame.dst is None or frame.src_port is None or frame.dst_port is None:
        return None
    source, destination = (frame.src, frame.src_port), (frame.dst, frame.dst_port)
    swap = (int(frame.src), frame.src_port) > (int(frame.dst), frame.dst_port)
    low, high = (destination, source) if swap else (source, destination)
    return FlowKey(frame.protocol, low, high)
