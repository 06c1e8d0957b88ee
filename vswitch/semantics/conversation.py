"""What a person asks: can this machine talk to that one, and if not, which layer decides and why?

Hosts are played as they behave: addresses are chosen, routes followed, neighbours resolved, and
the answer has to find its way back. A conversation is open only when all of its packets arrive and
something listens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from vswitch.errors import InputError
from vswitch.model.site import ExtendedAcl, Guest, Site
from vswitch.model.traffic import Traffic
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, Action, PortRange
from vswitch.semantics.advice import advise
from vswitch.semantics.assumptions import Assumption
from vswitch.semantics.bypass import bypassing, not_denied, without_virtual_functions
from vswitch.semantics.cause import Advice, Layer
from vswitch.semantics.endpoints import Endpoint, choose_addresses, endpoint
from vswitch.semantics.frame import Address, Frame, icmp, icmp_echo, ip, port_unreachable, tcp, udp
from vswitch.semantics.journey import Decision, Failure, FailureKind, Leg, LegKind, Traveller
from vswitch.semantics.nat import How, mapping_for
from vswitch.semantics.network import SiteState
from vswitch.semantics.verdict import Rule, Stage

__all__ = ["EPHEMERAL_PORT", "Conversation", "Expected", "converse", "converse_range"]

#: Source port where the traffic names none: ephemeral on Windows and on Linux alike.
EPHEMERAL_PORT = 50000

# Ports whose senders a guard looks at; ranges are split there.
_GUARDED_PORTS = (67, 547)
# ICMP "host unreachable" (type, code), which a router sends when a neighbour does not answer.
_HOST_UNREACHABLE = {4: (3, 1), 6: (1, 3)}
_REQUEST_NAMES = {TCP: "SYN", UDP: "datagram", ICMPV4: "echo", ICMPV6: "echo"}
_NO_MAC = "00-00-00-00-00-00"


class Expected(StrEnum):
    """What a client sees: connected, refused at once, silence, or no way there."""

    OPEN = "open"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Conversation:
    """The answer to one question.

    `verdict` is Allow when every packet arrives, the refusal of a closed port included; `expected`
    tells open from refused. `decided_by` is the drop behind a Deny, None when no switch dropped
    anything (no route, not connected). `layer`, `cause` and `fix` are for the administrator, empty
    when all is well; a Deny that SR-IOV skips is a cause as well. `assumptions` are the open questions
    on which the answer hangs. `port` is the destination port asked about, None without ports.
    """

    source: str
    destination: str
    traffic: Traffic
    port: int | None
    source_address: Address | None
    destination_address: Address | None
    legs: tuple[Leg, ...]
    verdict: Action
    expected: Expected
    decided_by: Decision | None
    layer: Layer | None
    cause: str
    fix: str
    assumptions: frozenset[Assumption]
    state: SiteState

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The ACL entries that matched this conversation's packets, in the order met; not mirror copies."""
        found: dict[int, Rule] = {}
        for leg in self.legs:
            for hop in leg.packets:
                for passage in hop.result.passages:
                    copies = {step.port for step in passage.steps if step.stage is Stage.MIRRORING}
                    for step in passage.steps:
                        if step.rule is not None and step.port not in copies:
                            found.setdefault(id(step.rule), step.rule)
        return tuple(found.values())


def converse(
    site: Site,
    source: str,
    destination: str,
    traffic: Traffic,
    state: SiteState | None = None,
    *,
    version: int | None = None,
    now: float = 0.0,
) -> Conversation:
    """Whether `source` can talk `traffic` to `destination`.

    Ends are `guest`, `guest/adapter` or `guest/address`; of a range of ports only the first is
    asked about (see converse_range). `version` 4 or 6 forces the IP version; otherwise a pair of
    addresses in one subnet is preferred, IPv4 first. `state` is what the switches knew before.
    Raises InputError for an end that is not there, or for a machine talking to itself.
    """
    ends = (endpoint(site, source), endpoint(site, destination))
    if ends[0].guest.name == ends[1].guest.name:
        raise InputError(
            f"{source} and {destination} are one machine", hint="its traffic to itself never meets a switch"
        )
    talk = _Exchange(site, ends[0], ends[1], traffic, state or SiteState(), now).run(version)
    skipped = bypassing(talk.legs) if talk.verdict is Action.ALLOW else None
    if not skipped:
        return talk
    plain = without_virtual_functions(site)
    again = (endpoint(plain, source), endpoint(plain, destination))
    decided = _Exchange(plain, again[0], again[1], traffic, state or SiteState(), now).run(version).decided_by
    advice = not_denied(decided, skipped) if decided else Advice()
    if advice.layer is None:
        return talk
    cause = f"{advice.cause}; besides, {talk.cause}" if talk.cause else advice.cause
    return replace(talk, layer=advice.layer, cause=cause, fix=advice.fix)


def converse_range(
    site: Site,
    source: str,
    destination: str,
    traffic: Traffic,
    state: SiteState | None = None,
    *,
    version: int | None = None,
    now: float = 0.0,
) -> list[tuple[PortRange, Conversation]]:
    """The answers for every destination port of `traffic`, as sub-ranges that share one answer.

    Exact: the range is split wherever a rule or a service begins or ends, each part is asked about
    once, and neighbours with the same verdict for the same reason are joined again. Every part
    starts from the same `state`. Traffic without ports gives one answer, for ports 0-65535.
    """
    if traffic.ports is None:
        answer = converse(site, source, destination, traffic, state, version=version, now=now)
        return [(PortRange(0, 65535), answer)]
    answers: list[tuple[PortRange, Conversation]] = []
    ends = endpoint(site, source), endpoint(site, destination)
    nats = [guest.nat for guest in site.guests if guest.nat]
    passed = [
        ends[0].guest,
        ends[1].guest,
        *(guest for guest in site.guests if guest.forwarding or guest.nat),
    ]
    chosen = choose_addresses(*ends, version)
    pairs = [chosen[1:], *((each, chosen[2]) for nat in nats for each in nat.external)] if chosen else []
    for part in _split(passed, traffic.ports, traffic.protocol, pairs):
        asked = replace(traffic, ports=part)
        answer = converse(site, source, destination, asked, state, version=version, now=now)
        if answers and _same_answer(answers[-1][1], answer):
            answers[-1] = (PortRange(answers[-1][0].first, part.last), answers[-1][1])
        else:
            answers.append((part, answer))
    return [(part, _said_of(part, answer)) for part, answer in answers]


def _split(
    guests: list[Guest], ports: PortRange, protocol: int, pairs: Sequence[tuple[Address, Address]]
) -> Iterator[PortRange]:
    """The parts of a range within which no rule for these addresses, no service and no static mapping
    begins or ends. `pairs` are the two ends as they are, and as NATs make them.
    """
    ranges = [PortRange(port, port) for port in _GUARDED_PORTS]
    for guest in guests:
        ranges += [PortRange(s.port, s.port) for s in guest.services if s.protocol == protocol]
        if guest.nat:
            mapped = [each.external_port for each in guest.nat.mappings if each.protocol == protocol]
            ranges += [PortRange(port, port) for port in mapped]
        for adapter in guest.adapters:
            for rule in adapter.extended_acls:
                if rule.protocol in (None, protocol) and any(_concerns(rule, *pair) for pair in pairs):
                    ranges += [each for each in (rule.local_port, rule.remote_port) if each is not None]
    starts = {ports.first}
    for each in ranges:
        starts |= {start for start in (each.first, each.last + 1) if start in ports}
    ordered = sorted(starts)
    for first, following in zip(ordered, [*ordered[1:], ports.last + 1], strict=True):
        yield PortRange(first, following - 1)


def _concerns(rule: ExtendedAcl, one: Address, other: Address) -> bool:
    """Whether a rule can match packets between two addresses, in either direction."""
    local, remote = rule.local_ip_address, rule.remote_ip_address
    return any(
        (local is None or mine in local) and (remote is None or theirs in remote)
        for mine, theirs in ((one, other), (other, one))
    )


def _same_answer(one: Conversation, other: Conversation) -> bool:
    def reason(answer: Conversation) -> tuple[object, ...]:
        decided = answer.decided_by
        why = (decided.leg, decided.place, decided.drop) if decided else ()
        # What is to be done may differ where the same rule decides; the port it is said for may not.
        words = re.sub(_spoken(answer), "PORT", f"{answer.cause} {answer.fix}")
        return (answer.verdict, answer.expected, answer.layer, why, answer.rules, answer.assumptions, words)

    return reason(one) == reason(other)


def _spoken(answer: Conversation) -> str:
    """A regular expression for the port of an answer where its words speak of it."""
    port = rf"{answer.port}\b"
    return rf"(?<=:){answer.port}(?= )|(?<=[Pp]ort ){port}|(?<=port: ){port}|(?<=/){port}"


def _said_of(ports: PortRange, answer: Conversation) -> Conversation:
    """An answer whose words speak of all ports that it is for, not of the one that was asked about."""
    if ports.first == ports.last:
        return answer
    cause, fix = (re.sub(_spoken(answer), str(ports), words) for words in (answer.cause, answer.fix))
    return replace(answer, cause=cause, fix=fix)


class _Exchange:
    """The packets of one conversation, in order."""

    def __init__(
        self,
        site: Site,
        source: Endpoint,
        destination: Endpoint,
        traffic: Traffic,
        state: SiteState,
        now: float,
    ) -> None:
        self.site = site
        self.source = source
        self.destination = destination
        self.traffic = traffic
        self.port = traffic.ports.first if traffic.ports else None
        self.travel = Traveller(site, state, now)
        self.legs: list[Leg] = []
        self.addresses: tuple[Address, Address] | None = None
        self.answering = destination.guest  # behind a NAT it may be another

    def run(self, version: int | None) -> Conversation:
        chosen = choose_addresses(self.source, self.destination, version)
        if chosen is None:
            failure = Failure(FailureKind.NO_COMMON_VERSION, self.source.guest.name)
            self.legs.append(Leg("request", LegKind.REQUEST, (), failure))
            return self._answer(Action.DENY, Expected.UNREACHABLE, failure)
        _, source, destination = chosen
        self.addresses = (source, destination)
        packet = self._request(source, destination)
        request = self._carry(_REQUEST_NAMES.get(packet.protocol or 0, "packet"), LegKind.REQUEST, packet)
        if request.failure is not None:
            return self._answer(Action.DENY, self._silence(request.failure), request.failure)
        self.answering = self.site.guest[request.end]
        assert request.packet is not None
        listens = self._listens(request.packet)
        for name, kind, following in self._rest(packet, request.packet, listens):
            leg = self._carry(name, kind, following)
            if leg.failure is not None:
                return self._answer(Action.DENY, Expected.FILTERED, leg.failure)
        return self._answer(Action.ALLOW, Expected.OPEN if listens else Expected.REFUSED, None)

    def _request(self, source: Address, destination: Address) -> Frame:
        protocol = self.traffic.protocol_for(source.version)
        if self.port is not None:
            make = tcp if protocol == TCP else udp
            from_port = self.traffic.source_port or EPHEMERAL_PORT
            return make(_NO_MAC, _NO_MAC, source, destination, from_port, self.port)
        if protocol in (ICMPV4, ICMPV6):
            return icmp_echo(_NO_MAC, _NO_MAC, source, destination)
        return ip(_NO_MAC, _NO_MAC, source, destination, protocol)

    def _rest(self, sent: Frame, packet: Frame, listens: bool) -> Iterator[tuple[str, LegKind, Frame]]:
        """What follows a request that was `sent` and arrived as `packet`."""
        assert packet.src is not None
        assert packet.dst is not None
        answer = packet.reply()
        if packet.protocol in (ICMPV4, ICMPV6):
            yield "echo reply", LegKind.REPLY, answer
        elif packet.protocol == TCP and listens:
            yield "SYN-ACK", LegKind.REPLY, answer
            yield "ACK", LegKind.REQUEST, replace(sent, tcp_flags="A")
        elif packet.protocol == TCP:
            yield "RST", LegKind.REPLY, replace(answer, tcp_flags="R")
        elif self.port is not None and listens:
            yield "reply", LegKind.REPLY, answer
        elif self.port is not None:
            unreachable = port_unreachable(_NO_MAC, _NO_MAC, packet.dst, packet.src)
            yield "port unreachable", LegKind.REPLY, unreachable

    def _listens(self, packet: Frame) -> bool:
        """Whether a packet that arrived is answered: a service for TCP and UDP, always for anything else."""
        return self.port is None or any(
            service.protocol == packet.protocol and service.port == packet.dst_port
            for service in self.answering.services
        )

    def _carry(self, name: str, kind: LegKind, packet: Frame) -> Leg:
        source, nics = self.source.guest, self.source.nics
        goal = self.answering
        if kind is LegKind.REPLY:
            source, goal = self.answering, source
            nics = self.destination.nics if source is self.destination.guest else ()
        leg = self.travel.carry(name, kind, source.name, packet, goal.name, nics)
        self.legs.append(leg)
        return leg

    def _silence(self, failure: Failure) -> Expected:
        """What the source sees of a request that did not arrive.

        A host that finds no route or no neighbour knows at once; a router on the way says so, if
        its message gets back. A NAT says nothing.
        """
        packet = self.legs[-1].packet
        if failure.kind in (FailureKind.NOT_FORWARDING, FailureKind.WRONG_MACHINE):
            return Expected.FILTERED
        if failure.frame is not None and not failure.resolving:
            return Expected.FILTERED
        if failure.guest == self.source.guest.name:
            return Expected.UNREACHABLE
        router = self.site.guest[failure.guest]
        assert packet is not None
        assert packet.src is not None
        if router.nat:
            return Expected.FILTERED
        own = next((a.ip for a in router.addresses if a.version == packet.version), None)
        if own is None:
            return Expected.FILTERED
        message = icmp(_NO_MAC, _NO_MAC, own, packet.src, *_HOST_UNREACHABLE[own.version])
        leg = self.travel.carry(
            "host unreachable", LegKind.REPLY, router.name, message, self.source.guest.name
        )
        self.legs.append(leg)
        return Expected.UNREACHABLE if leg.arrived else Expected.FILTERED

    def _answer(self, verdict: Action, expected: Expected, failure: Failure | None) -> Conversation:
        advice = advise(
            self.site,
            self.source.guest,
            self.answering,
            self.traffic,
            self.port,
            tuple(self.legs),
            failure,
            refused=expected is Expected.REFUSED,
        )
        return Conversation(
            self.source.guest.name,
            self.destination.guest.name,
            self.traffic,
            self.port,
            self.addresses[0] if self.addresses else None,
            self.addresses[1] if self.addresses else None,
            tuple(self.legs),
            verdict,
            expected,
            failure.decision if failure else None,
            advice.layer,
            advice.cause,
            advice.fix,
            self._assumptions(failure),
            self.travel.state,
        )

    def _assumptions(self, failure: Failure | None) -> frozenset[Assumption]:
        """A Deny hangs on what is assumed about the frame that ended; whatever passed before by an
        assumption could only have ended the conversation earlier.
        """
        hops = [hop for leg in self.legs for hop in leg.hops]
        if failure is not None:
            hops = [hop for leg in self.legs if leg.failure is failure for hop in leg.hops[-1:]]
        found = frozenset[Assumption]().union(*(hop.assumptions for hop in hops))
        if self._unrelated_error(failure):
            found |= {Assumption.STATEFUL}
        if self._disputed_nat():
            found |= {Assumption.NAT}
        return found

    def _disputed_nat(self) -> bool:
        """Whether a NAT let something in by its filtering behavior, or was asked for a hairpin."""
        if any(step.how is How.FILTERING for leg in self.legs for step in leg.translations):
            return True
        packet, nat = self.legs[0].packet, self.destination.guest.nat
        if nat is None or packet is None or not nat.has_inside(packet.src):
            return False
        return mapping_for(nat, packet) is not None

    def _unrelated_error(self, failure: Failure | None) -> bool:
        """Whether an ICMP error was denied at an adapter that holds live state of some flow.

        Whether Hyper-V admits such an error as part of the flow is not known.
        """
        decision = failure.decision if failure is not None else None
        if decision is None or decision.adapter is None or self.legs[-1].name != "port unreachable":
            return False
        flows = self.travel.state.switches[decision.place].flows
        return isinstance(decision.drop.rule, ExtendedAcl) and any(
            port == decision.adapter.number for port, _ in flows
        )
