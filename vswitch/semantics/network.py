"""One frame across the whole site: switch, uplink, physical network, other hosts' switches.

The physical network is a VLAN-aware learning switch. It carries its `vlans` and untagged frames
(VLAN 0) on every uplink; clients and gateways sit on access ports of one VLAN each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from vswitch.model.site import Adapter, PhysicalPort, Site, Switch
from vswitch.semantics.assumptions import Assumption
from vswitch.semantics.forwarding import ports_of
from vswitch.semantics.frame import Frame, is_multicast
from vswitch.semantics.nat import Session
from vswitch.semantics.switch_memory import SwitchState
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import Drop, DropReason, Result, Stage, Step
from vswitch.wording import counted

__all__ = [
    "Delivery",
    "NetworkPassage",
    "Passage",
    "SiteResult",
    "SiteState",
    "SwitchPassage",
    "send",
]

#: Seconds after which a physical switch forgets an address, the usual default.
PHYSICAL_AGING_TIME = 300
#: 01-80-C2-00-00-00 to -0F.
_NEXT_SWITCH_ONLY = "01-80-C2-00-00-0"


class PhysicalEntry(NamedTuple):
    """An address a physical network has learned: its port (see NetworkPassage), and when last seen."""

    port: str
    last_seen: float


@dataclass(frozen=True, slots=True)
class SiteState:
    """What all switches remember: by `host/switch`, and by physical network, there by (MAC, VLAN).

    `nats` are the sessions of hosts' NAT networks, by host.
    """

    switches: Mapping[str, SwitchState] = field(default_factory=lambda: MappingProxyType({}))
    networks: Mapping[str, Mapping[tuple[str, int], PhysicalEntry]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    nats: Mapping[str, tuple[Session, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def with_nat(self, host: str, sessions: tuple[Session, ...]) -> SiteState:
        """The same, after a host's NAT has translated something."""
        return replace(self, nats=MappingProxyType({**self.nats, host: sessions}))

    def with_switch(self, switch: Switch, state: SwitchState) -> SiteState:
        """The same, after one switch has seen something."""
        return replace(self, switches=MappingProxyType({**self.switches, switch.id: state}))

    def with_learned(self, network: str, mac: str, vlan: int, entry: PhysicalEntry) -> SiteState:
        """The same, after a physical network has learned an address."""
        table = {**self.networks.get(network, {}), (mac, vlan): entry}
        return replace(self, networks=MappingProxyType({**self.networks, network: MappingProxyType(table)}))

    def with_storms_of(self, other: SiteState) -> SiteState:
        """The same, with what `other` has counted against StormLimits."""
        restored = {
            name: replace(state, storms=other.switches.get(name, SwitchState()).storms)
            for name, state in self.switches.items()
            if state.storms
        }
        if not restored:
            return self
        return replace(self, switches=MappingProxyType({**self.switches, **restored}))

    def for_site_change(self, site: Site) -> SiteState:
        """What is left when `site` becomes the one in force. See SwitchState.for_site_change."""
        kept = {
            name: state.for_site_change(site, site.switch[name])
            for name, state in self.switches.items()
            if name in site.switch
        }
        return replace(self, switches=MappingProxyType(kept))


@dataclass(frozen=True, slots=True)
class SwitchPassage:
    """A frame through one virtual switch. `frame` is as it came in at OpenFlow port `ingress`."""

    switch: Switch
    ingress: int
    frame: Frame
    result: Result

    @property
    def place(self) -> str:
        """`hv01/vs-lan`."""
        return self.switch.id

    @property
    def drops(self) -> tuple[Drop, ...]:
        """The drops of this switch."""
        return self.result.drops

    @property
    def steps(self) -> tuple[Step, ...]:
        """The stages of this switch."""
        return self.result.steps


@dataclass(frozen=True, slots=True)
class NetworkPassage:
    """A frame through one physical network.

    `ingress` and `outputs` name its ports: `host/switch` for an uplink, a guest's name and
    interface (`client/eth0`) for an access port. `missed` are the access ports of other VLANs that
    a flooded frame passed by.
    """

    network: str
    ingress: str
    frame: Frame
    vlan: int
    outputs: tuple[str, ...]
    missed: tuple[str, ...]
    drops: tuple[Drop, ...]
    steps: tuple[Step, ...]

    @property
    def place(self) -> str:
        """The network's name."""
        return self.network


Passage = SwitchPassage | NetworkPassage


@dataclass(frozen=True, slots=True)
class Delivery:
    """A frame that reached a guest. `interface` is `eth0`, or `eth0.10` for a tag on a trunk.

    `end` is the adapter or physical port, `frame` what is on its wire.
    """

    guest: str
    interface: str
    frame: Frame
    end: Adapter | PhysicalPort


@dataclass(frozen=True, slots=True)
class SiteResult:
    """Every passage of one frame in order, and where it arrived."""

    frame: Frame
    passages: tuple[Passage, ...]
    deliveries: tuple[Delivery, ...]
    state: SiteState

    @property
    def drops(self) -> tuple[tuple[Passage, Drop], ...]:
        """All drops with the passage in which they happened."""
        return tuple((passage, drop) for passage in self.passages for drop in passage.drops)

    @property
    def assumptions(self) -> frozenset[Assumption]:
        """The open questions on which any part of this hangs."""
        found: frozenset[Assumption] = frozenset()
        for passage in self.passages:
            if isinstance(passage, SwitchPassage):
                found |= passage.result.assumptions
        return found

    def reached(self, guest: str, interface: str) -> Delivery | None:
        """The delivery to one interface of a guest, if there is one."""
        for delivery in self.deliveries:
            if delivery.guest == guest and delivery.interface == interface:
                return delivery
        return None


def send(
    site: Site,
    guest: str,
    interface: str,
    frame: Frame,
    state: SiteState | None = None,
    now: float = 0.0,
) -> SiteResult:
    """Where a frame that leaves `guest` by `interface` (`eth0`, `eth0.10`) arrives.

    A sub-interface's frame is tagged with its VLAN. `state` stays as it is; `now` is in seconds.
    Raises ValueError when the guest has no such interface.
    """
    base, _, tag = interface.partition(".")
    if tag:
        frame = frame.tagged(int(tag))
    walk = _Walk(site, state or SiteState(), now)
    machine = site.guest[guest]
    for adapter in machine.adapters:
        if adapter.interface == base:
            walk.at_switch(site.switch[f"{adapter.host}/{adapter.switch}"], adapter.number, frame)
            return walk.result(frame)
    for port in machine.ports:
        if port.interface == base:
            walk.at_network(port.network, port, frame)
            return walk.result(frame)
    raise ValueError(f"{guest} has no interface {interface}")


class _Walk:
    """The working memory of one call of `send`."""

    def __init__(self, site: Site, state: SiteState, now: float) -> None:
        self.site = site
        self.state = state
        self.now = now
        self.passages: list[Passage] = []
        self.deliveries: list[Delivery] = []
        self.waiting: deque[tuple[Switch, int, Frame] | tuple[str, Switch | PhysicalPort, Frame]] = deque()

    def result(self, frame: Frame) -> SiteResult:
        while self.waiting:
            place, port, going = self.waiting.popleft()
            if isinstance(place, Switch):
                assert isinstance(port, int)
                self.at_switch(place, port, going)
            else:
                assert not isinstance(port, int)
                self.at_network(place, port, going)
        return SiteResult(frame, tuple(self.passages), tuple(self.deliveries), self.state)

    def at_switch(self, switch: Switch, ingress: int, frame: Frame) -> None:
        known = self.state.switches.get(switch.id)
        result = process(self.site, switch, ingress, frame, known, self.now)
        self.state = self.state.with_switch(switch, result.state)
        self.passages.append(SwitchPassage(switch, ingress, frame, result))
        ports = ports_of(self.site.adapters_of(switch))
        for number, out in result.outputs.items():
            adapter = ports.by_number.get(number)
            if adapter is None:
                self.waiting.append((switch.network, switch, out))
                continue
            suffix = f".{out.vlan}" if out.vlan else ""
            self.deliveries.append(Delivery(adapter.guest, adapter.interface + suffix, out, adapter))

    def at_network(self, name: str, ingress: Switch | PhysicalPort, frame: Frame) -> None:
        carried = {0, *next(network.vlans for network in self.site.networks if network.name == name)}
        access = isinstance(ingress, PhysicalPort)
        vlan = ingress.vlan if isinstance(ingress, PhysicalPort) else frame.vlan or 0
        if vlan not in carried or (access and frame.vlan):
            why = f"VLAN {frame.vlan or vlan} is not carried here: dropped, {DropReason.PHYSICAL_VLAN}"
            drop = Drop((0,), Stage.PHYSICAL_NETWORK, DropReason.PHYSICAL_VLAN, vlan=frame.vlan or vlan)
            step = Step(0, Stage.PHYSICAL_NETWORK, why, passed=False)
            self.passages.append(
                NetworkPassage(name, _port_name(ingress), frame, vlan, (), (), (drop,), (step,))
            )
            return
        if not is_multicast(frame.src_mac):
            self.state = self.state.with_learned(
                name, frame.src_mac, vlan, PhysicalEntry(_port_name(ingress), self.now)
            )
        chosen = self._choose(name, ingress, frame, vlan)
        outputs = [member for member in chosen if _carries(member, vlan)]
        missed = [member for member in chosen if not _carries(member, vlan)]
        self.passages.append(
            NetworkPassage(
                name,
                _port_name(ingress),
                frame,
                vlan,
                tuple(map(_port_name, outputs)),
                tuple(map(_port_name, missed)),
                (),
                (
                    Step(
                        0,
                        Stage.PHYSICAL_NETWORK,
                        f"carried in VLAN {vlan} to {counted(len(outputs), 'port')}",
                    ),
                ),
            )
        )
        for member in outputs:
            if isinstance(member, Switch):
                self.waiting.append((member, member.uplink, frame.tagged(vlan or None)))
            else:
                self.deliveries.append(Delivery(member.guest, member.interface, frame.tagged(None), member))

    def _choose(
        self, name: str, ingress: Switch | PhysicalPort, frame: Frame, vlan: int
    ) -> list[Switch | PhysicalPort]:
        """The one port behind which the destination was learned, else all others.

        Group addresses that are meant for the next switch (STP, LLDP; IEEE 802.1Q) go no further.
        """
        if frame.dst_mac.startswith(_NEXT_SWITCH_ONLY):
            return []
        others = [member for member in _members(self.site, name) if member != ingress]
        if is_multicast(frame.dst_mac):
            return others
        known = self.state.networks.get(name, {}).get((frame.dst_mac, vlan))
        if known is None or self.now - known.last_seen >= PHYSICAL_AGING_TIME:
            return others
        return [member for member in others if _port_name(member) == known.port]


def _members(site: Site, network: str) -> Iterator[Any]:
    """The ports of a physical network, always in the same order: uplinks, then access ports."""
    for switch in site.switch.values():
        if switch.uplink and switch.network == network:
            yield switch
    yield from site.physical_ports(network)


def _carries(member: Switch | PhysicalPort, vlan: int) -> bool:
    return isinstance(member, Switch) or member.vlan == vlan


def _port_name(member: Switch | PhysicalPort) -> str:
    return member.id if isinstance(member, Switch) else f"{member.guest}/{member.interface}"
