"""What a probe asks, and what it found: plain data, and the reading of captured frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from vswitch.lab.probing.capture import Capture
from vswitch.lab.probing.captured_frames import Address, CapturedFrame, Packet
from vswitch.lab.probing.guest_stack import NextHop
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP

__all__ = [
    "Asked",
    "Cause",
    "IcmpError",
    "Outcome",
    "ProbeRequest",
    "ProbeResult",
    "Sighting",
    "WatchPoint",
    "describe",
    "sighting",
]

UNREACHABLE = {4: 3, 6: 1}  # the ICMP type "destination unreachable"
UNREACHABLE_CODES = {
    4: {
        0: "network unreachable",
        1: "host unreachable",
        2: "protocol unreachable",
        3: "port unreachable",
        9: "network prohibited",
        10: "host prohibited",
        13: "administratively prohibited",
    },
    6: {
        0: "no route",
        1: "administratively prohibited",
        3: "address unreachable",
        4: "port unreachable",
        5: "source address failed policy",
        6: "reject route",
    },
}
OTHER_TYPES = {
    4: {11: "time exceeded", 12: "parameter problem"},
    6: {3: "time exceeded", 4: "parameter problem"},
}
TOO_BIG = ((4, 3, 4), (6, 2, 0))  # IP version, type, code: these deny nothing


class Outcome(StrEnum):
    """How a question ended."""

    OPEN = "open"  # connected, or answered
    REFUSED = "refused"  # the destination itself said no: RST, or an ICMP error
    FILTERED = "filtered"  # nothing came back
    UNREACHABLE = "unreachable"  # no route, no neighbour, or a router said no
    DELIVERED = "delivered"  # protocols without an answer: seen at the destination


class Cause(StrEnum):
    """What an outcome rests on."""

    ANSWER = "answer"
    SEEN = "seen"  # at the destination's watch point
    RESET = "reset"  # TCP RST
    ICMP = "icmp"  # an ICMP error from the destination
    ROUTER = "router"  # an ICMP error from somebody else
    NEIGHBOUR = "neighbour"  # ARP or neighbour discovery got no answer: nothing was sent
    NO_ROUTE = "no-route"
    OWN_FIREWALL = "own-firewall"  # the source guest dropped its own packet
    NO_ANSWER = "no-answer"


@dataclass(frozen=True, slots=True)
class WatchPoint:
    """An interface to capture at during the probe, in the namespace at path `netns`.

    `at_destination` marks the destination guest's own interface. `source`, `destination` and `port`
    are those of the probe's packets there, where a NAT has changed them; None where it has not.
    `if_met` leaves it out of the evidence unless packets of the probe passed it.
    """

    label: str
    netns: str
    interface: str
    at_destination: bool = False
    source: Address | None = None
    destination: Address | None = None
    port: int | None = None
    if_met: bool = False


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """One question. `netns` is the path of the source guest's namespace.

    `protocol` is an IP protocol number; 1 stands for either ICMP. TCP and UDP need a destination
    `port`; without `source_port` the kernel picks one. `interface` binds the probe to an interface
    of the source guest, for guests with several. `attempts` packets are spread evenly over
    `timeout` seconds. Protocols other than TCP, UDP and ICMP need a watch point at the destination.
    """

    netns: str
    source: Address
    destination: Address
    protocol: int
    port: int | None = None
    source_port: int | None = None
    interface: str | None = None
    timeout: float = 1.0
    attempts: int = 2
    watch: tuple[WatchPoint, ...] = ()

    def __post_init__(self) -> None:
        if self.source.version != self.destination.version:
            raise ValueError("source and destination of a probe are of one IP version")
        if self.destination.is_multicast or self.destination.is_unspecified:
            raise ValueError(f"{self.destination} is not the address of one guest")
        if self.protocol in (TCP, UDP) and not self.port:
            raise ValueError("a TCP or UDP probe needs a destination port")
        if self.timeout <= 0 or self.attempts < 1:
            raise ValueError("a probe needs some time and at least one attempt")
        if not self.has_answers and not any(point.at_destination for point in self.watch):
            raise ValueError(f"ip/{self.protocol} has no answers: a watch point at the destination is needed")

    @property
    def version(self) -> int:
        """IP version, 4 or 6."""
        return self.destination.version

    @property
    def wire_protocol(self) -> int:
        """The IP protocol number in the packets."""
        return ICMPV6 if self.protocol == ICMPV4 and self.version == 6 else self.protocol

    @property
    def is_echo(self) -> bool:
        """Whether the question is an ICMP echo."""
        return self.wire_protocol == (ICMPV4 if self.version == 4 else ICMPV6)

    @property
    def has_answers(self) -> bool:
        """Whether a guest answers such packets at all."""
        return self.is_echo or self.protocol in (TCP, UDP)

    @property
    def device(self) -> str | None:
        """The interface to send from, if it is given: by itself or as the scope of the destination."""
        scope = self.destination.scope_id if isinstance(self.destination, IPv6Address) else None
        return self.interface or scope

    def seen_at(self, point: WatchPoint) -> ProbeRequest:
        """The same question in the words of the packets at a watch point."""
        return replace(
            self,
            source=point.source or self.source,
            destination=point.destination or self.destination,
            port=point.port or self.port,
        )

    def __str__(self) -> str:
        name = {TCP: "tcp", UDP: "udp"}.get(self.protocol)
        if name:
            return f"{name}/{self.port}"
        return "icmp" if self.is_echo else f"ip/{self.protocol}"


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about the probe, and who sent it."""

    sender: Address
    type: int
    code: int

    @classmethod
    def of(cls, packet: Packet) -> IcmpError:
        """The error in an ICMP packet."""
        return cls(packet.source, packet.icmp_type or 0, packet.icmp_code or 0)

    @property
    def text(self) -> str:
        """The error in words."""
        version = self.sender.version
        if self.type == UNREACHABLE[version]:
            return UNREACHABLE_CODES[version].get(self.code, "destination unreachable")
        return OTHER_TYPES[version].get(self.type, "error")

    def __str__(self) -> str:
        return f"{self.text} (ICMP type {self.type} code {self.code}) from {self.sender}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What passed a watch point during a probe, as numbers of frames.

    `requests` are the probe's own packets (of TCP the SYNs), `replies` all packets of the
    destination that answer it, `errors` ICMP errors about it. `asked` and `answered` count ARP or
    neighbour discovery for the source's next hop or the destination, `asked_back` and
    `answered_back` for the source. `lost` frames met a full buffer. `frames` are those counted.
    """

    label: str
    requests: int
    replies: int
    errors: int
    asked: int
    answered: int
    asked_back: int
    answered_back: int
    lost: int
    frames: tuple[CapturedFrame, ...]

    def __add__(self, other: Sighting) -> Sighting:
        """What passed in both probes, with the frames of this one."""
        counts = [name for name in self.__slots__ if name not in ("label", "frames")]
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in counts})


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The outcome and its evidence.

    `rtt` is the round-trip time in seconds of the attempt that was answered, of TCP the handshake's;
    for `delivered` the time until the packet was seen. `sent` counts the packets given to the
    guest's stack, which keeps them back while it looks for the neighbour. `error` is the errno name,
    `next_hop` the source's neighbour entry afterwards, `answer` the first line of what TCP or UDP
    answered, `detail` all of it in a sentence.
    """

    request: ProbeRequest
    outcome: Outcome
    cause: Cause
    rtt: float | None
    sent: int
    source_ports: tuple[int, ...]
    error: str
    icmp: IcmpError | None
    next_hop: NextHop | None
    sightings: tuple[Sighting, ...]
    answer: str
    detail: str = ""


@dataclass(slots=True)
class Asked:
    """What a probe has put on the wire so far: how its packets are known from others."""

    request: ProbeRequest
    token: bytes  # in the payload
    identifier: int  # of an ICMP echo
    ports: list[int] = field(default_factory=list)  # source ports
    sent: int = 0
    source: Address = field(init=False)  # without a scope, as packets have them
    destination: Address = field(init=False)

    def __post_init__(self) -> None:
        self.source, self.destination = _plain(self.request.source), _plain(self.request.destination)

    def is_request(self, frame: CapturedFrame) -> bool:
        """Whether a frame carries one of the probe's packets (of TCP only a SYN)."""
        packet = frame.packet
        if packet is None or not self._is_ours(packet):
            return False
        if self.request.wire_protocol == TCP:
            return packet.tcp_flags.strip("EC") == "S"
        return self.request.has_answers or self.token in frame.raw

    def is_reply(self, packet: Packet) -> bool:
        """Whether a packet answers the probe."""
        request = self.request
        if (packet.source, packet.destination) != (self.destination, self.source):
            return False
        if packet.protocol != request.wire_protocol:
            return False
        if request.is_echo:
            return packet.icmp_type in (0, 129) and packet.icmp_id == self.identifier
        return packet.source_port == request.port and packet.destination_port in self.ports

    def is_error(self, packet: Packet) -> bool:
        """Whether a packet is an ICMP error about the probe."""
        if packet.quoted is None or not self._is_ours(packet.quoted):
            return False
        return (self.request.version, packet.icmp_type, packet.icmp_code) not in TOO_BIG

    def _is_ours(self, packet: Packet) -> bool:
        request = self.request
        if (packet.source, packet.destination) != (self.source, self.destination):
            return False
        if packet.protocol != request.wire_protocol:
            return False
        if request.is_echo:
            return packet.icmp_type in (8, 128) and packet.icmp_id == self.identifier
        if request.has_answers:
            return packet.destination_port == request.port and packet.source_port in self.ports
        return True


def sighting(asked: Asked, point: WatchPoint, capture: Capture, hop: NextHop | None) -> Sighting:
    """What the capture at a watch point shows of a probe."""
    asked = replace(asked, request=asked.request.seen_at(point))
    there = {asked.destination} | ({hop.address} if hop else set())
    kinds = {name: 0 for name in Sighting.__slots__ if name not in ("label", "lost", "frames")}
    counted: list[CapturedFrame] = []
    for frame in capture.frames():
        packet = frame.packet
        for name, fits in (
            ("requests", asked.is_request(frame)),
            ("replies", packet is not None and asked.is_reply(packet)),
            ("errors", packet is not None and asked.is_error(packet)),
            ("asked", frame.asks in there),
            ("answered", frame.tells in there),
            ("asked_back", frame.asks == asked.source),
            ("answered_back", frame.tells == asked.source),
        ):
            if fits:
                kinds[name] += 1
                counted.append(frame)
                break
    return Sighting(label=point.label, lost=capture.lost, frames=tuple(counted), **kinds)


def describe(result: ProbeResult) -> str:
    """A result in one sentence."""
    request, hop = result.request, result.next_hop
    took = f" in {result.rtt * 1000:.1f} ms" if result.rtt is not None else ""
    match result.cause:
        case Cause.ANSWER:
            who = f": {result.answer}" if result.answer else ""
            return f"{request.destination} answered {request}{took}{who}"
        case Cause.SEEN:
            return f"{request} reached the guest of {request.destination}{took}"
        case Cause.RESET:
            return f"{request.destination} refused {request} with a TCP reset"
        case Cause.ICMP | Cause.ROUTER:
            return f"{request} met {result.icmp}"
        case Cause.NEIGHBOUR:
            neighbour = hop.address if hop else request.destination
            state = f" ({hop.state})" if hop else ""
            return f"{neighbour} did not answer ARP or neighbour discovery{state}: {request} was never sent"
        case Cause.NO_ROUTE:
            error = f" ({result.error})" if result.error else ""
            return f"the source guest has no route to {request.destination}{error}"
        case Cause.OWN_FIREWALL:
            return f"the source guest's own firewall dropped {request}"
        case Cause.NO_ANSWER:
            return (
                f"no answer to {request} in {request.timeout:g} s ({result.sent} sent){_whereabouts(result)}"
            )


def _whereabouts(result: ProbeResult) -> str:
    """Where unanswered requests, and replies that came to nothing, were seen."""
    parts: list[str] = []
    for what in ("requests", "replies"):
        seen = [each.label for each in result.sightings if getattr(each, what)]
        missing = [each.label for each in result.sightings if each.label not in seen]
        if missing and not seen and what == "requests":
            parts.append(f"requests not seen at {', '.join(missing)}")
        if seen:
            but = f", not at {', '.join(missing)}" if missing else ""
            parts.append(f"{what} seen at {', '.join(seen)}{but}")
    return "".join(f"; {part}" for part in parts)


def _plain(address: Address) -> Address:
    """The address without a scope."""
    return IPv4Address(int(address)) if address.version == 4 else IPv6Address(int(address))
