"""One IP packet from guest to guest: routing, neighbour resolution, and each hop's frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from vswitch.model.site import Adapter, Guest, Site, StaticMapping
from vswitch.model.types import Direction
from vswitch.semantics.assumptions import Assumption
from vswitch.semantics.endpoints import Nic, nics_of, owners, route
from vswitch.semantics.frame import Address, Frame, arp_request, neighbour_solicitation
from vswitch.semantics.nat import How, Translated, inward, outward
from vswitch.semantics.network import (
    NetworkPassage,
    Passage,
    SiteResult,
    SiteState,
    SwitchPassage,
    send,
)
from vswitch.semantics.verdict import Drop, DropReason, Stage

__all__ = ["Decision", "Failure", "FailureKind", "Hop", "Leg", "LegKind", "Translation", "Traveller"]

HOP_LIMIT = 64


class LegKind(StrEnum):
    """What a frame is for. Neighbour resolution belongs to a request or a reply."""

    NEIGHBOUR = "neighbour resolution"
    REQUEST = "request"
    REPLY = "reply"


class FailureKind(StrEnum):
    """Why a packet did not arrive."""

    NO_COMMON_VERSION = "no address of the same IP version"
    NO_ROUTE = "no route"
    NO_OWNER = "nobody has the address"
    NOT_DELIVERED = "a frame did not arrive"
    WRONG_MACHINE = "another machine has the address"
    NOT_FORWARDING = "not a router"
    HOP_LIMIT = "hop limit"


@dataclass(frozen=True, slots=True)
class Hop:
    """One frame of a leg, from `source` to `target` (None: it was for anybody)."""

    kind: LegKind
    source: Nic
    target: Nic | None
    result: SiteResult
    arrived: bool

    @property
    def frame(self) -> Frame:
        """The frame as its sender put it on the wire."""
        return self.result.frame

    @property
    def assumptions(self) -> frozenset[Assumption]:
        """The open questions on which this hop hangs: at its two ends, not at bystanders' ports."""
        found: frozenset[Assumption] = frozenset()
        for passage in self.result.passages:
            if not isinstance(passage, SwitchPassage):
                continue
            at_end = self.target is not None and _at_end(passage, self.target)
            if at_end or passage is self.result.passages[0]:
                found |= passage.result.flags.get(passage.ingress, frozenset())
            if at_end and self.target is not None and isinstance(self.target.end, Adapter):
                found |= passage.result.flags.get(self.target.end.number, frozenset())
        return found


@dataclass(frozen=True, slots=True)
class Decision:
    """The drop that decided: `hop` counts the frames of its leg from 0.

    `leg` is "neighbour resolution", "request" or "reply"; `place` is `host/switch` or a physical
    network; `adapter` is the one at which the frame ended, if it was one.
    """

    leg: LegKind
    hop: int
    place: str
    drop: Drop
    adapter: Adapter | None = None

    @property
    def direction(self) -> Direction | None:
        """Outbound or Inbound, from the adapter's guest's viewpoint."""
        return self.drop.direction


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a leg ended early. `guest` is the one that got stuck, `address` what it could not reach.

    For a frame that did not arrive, `source` and `target` are its two ends.
    """

    kind: FailureKind
    guest: str
    address: Address | None = None
    source: Nic | None = None
    target: Nic | None = None
    frame: Frame | None = None
    result: SiteResult | None = None
    decision: Decision | None = None

    @property
    def resolving(self) -> bool:
        """Whether it was ARP or neighbour discovery that failed, not the packet itself."""
        return self.frame is not None and (not self.frame.is_ip or self.frame.is_neighbour_discovery)


@dataclass(frozen=True, slots=True)
class Translation:
    """A packet that the NAT of `host` changed, before frame number `hop` (from 0) of its leg.

    `mapping` is the static mapping that led it inward, if one did.
    """

    hop: int
    host: str
    nat: str
    how: How
    before: Frame
    after: Frame
    mapping: StaticMapping | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """One packet's way: `name` is what travels ("SYN", "SYN-ACK", "echo", ...).

    `kind` is request or reply; `hops` are all its frames, neighbour resolution included. `packet` is
    the packet at its end, or where it got stuck, `end` the guest there; NATs on the way may have
    changed its addresses. None and "" for a packet that never was.
    """

    name: str
    kind: LegKind
    hops: tuple[Hop, ...]
    failure: Failure | None = None
    packet: Frame | None = None
    end: str = ""
    translations: tuple[Translation, ...] = ()

    @property
    def arrived(self) -> bool:
        """Whether the packet reached the owner of its destination address."""
        return self.failure is None

    @property
    def packets(self) -> tuple[Hop, ...]:
        """The hops that carried the packet itself."""
        return tuple(hop for hop in self.hops if hop.kind is not LegKind.NEIGHBOUR)


class _Stuck(Exception):
    """Ends a leg; never leaves this module."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind)
        self.failure = failure


@dataclass(slots=True)
class _Way:
    """A leg under way: the packet as it is now, the guest that has it, and what led there."""

    kind: LegKind
    packet: Frame
    here: str
    hops: list[Hop] = field(default_factory=list)
    translations: list[Translation] = field(default_factory=list)


class Traveller:
    """Carries packets one after the other; remembers switches' state and resolved neighbours."""

    def __init__(self, site: Site, state: SiteState, now: float) -> None:
        self.site = site
        self.state = state
        self.now = now
        self.neighbours: dict[tuple[str, str, Address], Nic] = {}

    def carry(
        self, name: str, kind: LegKind, start: str, packet: Frame, goal: str, preferred: tuple[Nic, ...] = ()
    ) -> Leg:
        """The leg of `packet` (its MAC addresses are filled in hop by hop) from guest `start`.

        `goal` is the guest that is meant; `preferred` are interfaces to leave by, if routes allow.
        """
        way = _Way(kind, packet, start)
        failure = None
        try:
            self._carry(way, goal, preferred)
        except _Stuck as stuck:
            failure = stuck.failure
        return Leg(name, kind, tuple(way.hops), failure, way.packet, way.here, tuple(way.translations))

    def _carry(self, way: _Way, goal: str, preferred: tuple[Nic, ...]) -> None:
        start = way.here
        for _ in range(HOP_LIMIT):
            guest, arrived, count = self.site.guest[way.here], way.here != start, len(way.translations)
            if guest.nat and arrived:
                sessions = self.state.nats.get(guest.name, ())
                self._translate(way, guest, inward(guest.nat, way.packet, sessions, self.now))
                if way.translations[count:] and goal == guest.name:
                    goal = ""  # it was meant for whoever has the address behind the NAT
            address = way.packet.dst
            assert address is not None
            if any(nic.owns(address) for nic in nics_of(guest)):
                if way.here != goal and goal:
                    raise _Stuck(Failure(FailureKind.WRONG_MACHINE, way.here, address))
                return
            if arrived and not guest.forwarding and not guest.nat:
                raise _Stuck(Failure(FailureKind.NOT_FORWARDING, way.here, address))
            found = route(guest, address, () if arrived else preferred)
            if found is None:
                raise _Stuck(Failure(FailureKind.NO_ROUTE, way.here, address))
            if guest.nat:
                sessions = self.state.nats.get(guest.name, ())
                self._translate(way, guest, outward(guest.nat, way.packet, found.nic, sessions, self.now))
                if arrived and len(way.translations) == count:  # a host passes on only what it translates
                    raise _Stuck(Failure(FailureKind.NOT_FORWARDING, way.here, address))
            wanted = goal if found.next_hop == address else ""
            neighbour = self._resolve(found.nic, found.source, found.next_hop, wanted, way.hops)
            frame = replace(way.packet, src_mac=found.nic.mac, dst_mac=neighbour.mac, vlan=None)
            self._hop(way.kind, found.nic, neighbour, frame, found.next_hop, way.hops, way.here)
            way.here = neighbour.guest
        raise _Stuck(Failure(FailureKind.HOP_LIMIT, way.here, way.packet.dst))

    def _translate(self, way: _Way, guest: Guest, done: Translated | None) -> None:
        """Go on with what a guest's NAT has made of the packet, if anything."""
        if done is None or guest.nat is None:
            return
        self.state = self.state.with_nat(guest.name, done.sessions)
        way.translations.append(
            Translation(
                len(way.hops), guest.name, guest.nat.name, done.how, way.packet, done.packet, done.mapping
            )
        )
        way.packet = done.packet

    def _resolve(self, nic: Nic, source: Address, wanted: Address, goal: str, hops: list[Hop]) -> Nic:
        """The interface that answers for `wanted`, by ARP or neighbour discovery."""
        known = self.neighbours.get((nic.guest, nic.interface, wanted))
        if known is not None:
            return known
        if isinstance(wanted, IPv4Address):
            assert isinstance(source, IPv4Address)
            request = arp_request(nic.mac, source, wanted)
        else:
            assert isinstance(source, IPv6Address)
            request = neighbour_solicitation(nic.mac, source, wanted)
        candidates = owners(self.site, wanted)
        result = self._send(nic, request)
        reached = [each for each in candidates if result.reached(each.guest, each.interface)]
        if not reached:
            meant = [each for each in candidates if each.guest == goal] or candidates
            target = meant[0] if meant else None
            hop = Hop(LegKind.NEIGHBOUR, nic, target, result, False)
            hops.append(hop)
            kind = FailureKind.NOT_DELIVERED if target else FailureKind.NO_OWNER
            raise _Stuck(_failure(kind, nic.guest, hop, wanted, len(hops) - 1, self.site))
        answering = reached[0]
        hops.append(Hop(LegKind.NEIGHBOUR, nic, answering, result, True))
        self.neighbours[answering.guest, answering.interface, source] = nic
        answer = result.frame.reply(answering.mac)
        self._hop(LegKind.NEIGHBOUR, answering, nic, answer, wanted, hops, nic.guest)
        self.neighbours[nic.guest, nic.interface, wanted] = answering
        return answering

    def _hop(
        self,
        kind: LegKind,
        source: Nic,
        target: Nic,
        frame: Frame,
        address: Address,
        hops: list[Hop],
        stuck: str,
    ) -> None:
        """Send one frame; `stuck` is the guest that waits in vain if it does not arrive."""
        result = self._send(source, frame)
        hop = Hop(kind, source, target, result, result.reached(target.guest, target.interface) is not None)
        hops.append(hop)
        if not hop.arrived:
            why = FailureKind.NOT_DELIVERED
            raise _Stuck(_failure(why, stuck, hop, address, len(hops) - 1, self.site))

    def _send(self, nic: Nic, frame: Frame) -> SiteResult:
        result = send(self.site, nic.guest, nic.interface, frame.tagged(None), self.state, self.now)
        # A guest whose question is lost asks again a second later: a conversation uses no limit up.
        self.state = result.state.with_storms_of(self.state)
        return result


def _failure(kind: FailureKind, guest: str, hop: Hop, address: Address, number: int, site: Site) -> Failure:
    decision = _decision(hop, number, site) if hop.target is not None else None
    return Failure(kind, guest, address, hop.source, hop.target, hop.frame, hop.result, decision)


def _decision(hop: Hop, number: int, site: Site) -> Decision | None:
    """The drop that kept a frame from its target; a broadcast also meets drops that do not matter."""
    target = hop.target
    assert target is not None
    found: list[tuple[int, Passage, Drop]] = []
    for passage in hop.result.passages:
        drops = passage.drops
        if isinstance(passage, NetworkPassage) and f"{target.guest}/{target.interface}" in passage.missed:
            drops += (Drop((0,), Stage.PHYSICAL_NETWORK, DropReason.PHYSICAL_VLAN, vlan=passage.vlan),)
        for drop in drops:
            rank = _rank(passage, drop, target, passage is hop.result.passages[0])
            if rank is not None:
                found.append((rank, passage, drop))
    if not found:
        return None
    _, passage, drop = min(found, key=lambda each: each[0])
    return Decision(hop.kind, number, passage.place, drop, _adapter_at(site, passage, target, drop))


def _rank(passage: Passage, drop: Drop, target: Nic, first: bool) -> int | None:
    """How surely a drop is the one: at the sender, at the target, between them, else not at all."""
    if isinstance(passage, NetworkPassage):
        return 2
    if first and drop.port == passage.ingress:
        return 0
    if _at_end(passage, target):
        end = target.end
        if isinstance(end, Adapter) and end.number in drop.ports:
            return 1
        if drop.port == passage.ingress:
            return 3
    return 4 if first and drop.stage is Stage.FORWARDING else None


def _at_end(passage: Passage, nic: Nic) -> bool:
    end = nic.end
    return (
        isinstance(passage, SwitchPassage)
        and isinstance(end, Adapter)
        and passage.place == f"{end.host}/{end.switch}"
    )


def _adapter_at(site: Site, passage: Passage, target: Nic, drop: Drop) -> Adapter | None:
    if not isinstance(passage, SwitchPassage):
        return None
    end = target.end
    if _at_end(passage, target) and isinstance(end, Adapter) and end.number in drop.ports:
        return end
    for adapter in site.adapters_of(passage.switch):
        if adapter.number == drop.port:
            return adapter
    return None
