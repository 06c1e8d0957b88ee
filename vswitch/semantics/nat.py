"""A host's NAT network: what it makes of one packet, and the sessions it remembers (§6).

Outward it puts an external address in the place of the sender's. Inward it lets answers back, what has
a static mapping, and what its filtering behavior admits to an open session. Everything else it leaves
as it is, and the host does not pass on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address

from vswitch.model.site import Nat, NatFiltering, StaticMapping
from vswitch.model.types import ICMPV4, TCP, UDP
from vswitch.semantics.endpoints import Nic
from vswitch.semantics.frame import ECHO_REPLY, ECHO_REQUEST, Frame

__all__ = ["How", "Session", "Translated", "inward", "mapping_for", "outward"]

#: Address and port; no port for echoes.
Socket = tuple[IPv4Address, int | None]


class How(StrEnum):
    """Why a packet was translated."""

    SOURCE = "source translation"
    MAPPING = "static mapping"
    FILTERING = "an open session admits it"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Session:
    """One row of Get-NetNatSession. `seen` is the time in seconds from which it idles.

    `inbound` says that it was opened from outside.
    """

    protocol: int
    internal: Socket
    external: Socket
    remote: Socket
    seen: float
    inbound: bool = False


@dataclass(frozen=True, slots=True)
class Translated:
    """A packet behind the NAT, and the sessions from then on."""

    packet: Frame
    sessions: tuple[Session, ...]
    how: How
    mapping: StaticMapping | None = None


def outward(nat: Nat, packet: Frame, nic: Nic, sessions: Iterable[Session], now: float) -> Translated | None:
    """`packet` as it leaves the host by `nic`; None where this NAT does not touch it."""
    if (
        not nat.has_inside(packet.src)
        or nat.has_inside(packet.dst)
        or not isinstance(packet.dst, IPv4Address)
    ):
        return None
    live = _live(nat, sessions, now)
    inside, remote = _ends(packet)
    for session in live:
        fits = session.protocol == packet.protocol and (session.internal, session.remote) == (inside, remote)
        if fits or (_is_error(packet) and (session.internal[0], session.remote[0]) == (inside[0], remote[0])):
            return Translated(_from(packet, session.external), _touch(live, session, now), How.SESSION)
    address = next((own.ip for own in nic.addresses if own.ip in nat.external), None)
    echo = packet.protocol == ICMPV4 and packet.icmp_type == ECHO_REQUEST[4]
    if not isinstance(address, IPv4Address) or not (echo or packet.protocol in (TCP, UDP)):
        return None
    external: Socket = (address, inside[1])
    while external[1] and any(
        (each.protocol, each.external, each.remote) == (packet.protocol, external, remote) for each in live
    ):
        external = (address, external[1] % 65535 + 1)
    session = Session(packet.protocol or 0, inside, external, remote, now)
    return Translated(_from(packet, external), (session, *live), How.SOURCE)


def inward(nat: Nat, packet: Frame, sessions: Iterable[Session], now: float) -> Translated | None:
    """`packet`, come in from the wire, with the address behind the NAT it is meant for; None if none."""
    if nat.has_inside(packet.src) or packet.dst not in nat.external or not packet.is_ip:
        return None
    live = _live(nat, sessions, now)
    remote, outside = _ends(packet)
    for session in live:
        fits = session.protocol == packet.protocol and (session.external, session.remote) == (outside, remote)
        if fits or (_is_error(packet) and session.external[0] == outside[0]):
            touched = live if session.protocol == UDP else _touch(live, session, now)  # UdpInboundRefresh
            return Translated(_to(packet, session.internal), touched, How.SESSION)
    mapping = mapping_for(nat, packet)
    if mapping is not None:
        internal: Socket = (mapping.internal_address, mapping.internal_port)
        session = Session(mapping.protocol, internal, outside, remote, now, inbound=True)
        return Translated(_to(packet, internal), (session, *live), How.MAPPING, mapping)
    if packet.protocol not in (TCP, UDP):
        return None
    filtering = nat.tcp_filtering if packet.protocol == TCP else nat.udp_filtering
    for session in live:
        if session.inbound or (session.protocol, session.external) != (packet.protocol, outside):
            continue
        if filtering is NatFiltering.ENDPOINT_INDEPENDENT or session.remote[0] == remote[0]:
            another = replace(session, remote=remote, seen=now, inbound=True)
            return Translated(_to(packet, session.internal), (another, *live), How.FILTERING)
    return None


def mapping_for(nat: Nat, packet: Frame) -> StaticMapping | None:
    """The static mapping for a packet from outside."""
    for mapping in nat.mappings:
        if (mapping.protocol, mapping.external_port) != (packet.protocol, packet.dst_port):
            continue
        here = (
            packet.dst == mapping.external_address if mapping.external_address else packet.dst in nat.external
        )
        if here and (mapping.remote is None or packet.src in mapping.remote):
            return mapping
    return None


def _live(nat: Nat, sessions: Iterable[Session], now: float) -> tuple[Session, ...]:
    limits = {
        TCP: nat.tcp_established_connection_timeout,
        UDP: nat.udp_idle_session_timeout,
        ICMPV4: nat.icmp_query_timeout,
    }
    return tuple(each for each in sessions if now - each.seen < limits[each.protocol])


def _touch(sessions: tuple[Session, ...], session: Session, now: float) -> tuple[Session, ...]:
    return (replace(session, seen=now), *(each for each in sessions if each is not session))


def _is_error(packet: Frame) -> bool:
    """An ICMP error belongs to the latest session between its addresses: what it quotes is not kept."""
    echoes = (ECHO_REQUEST[4], ECHO_REPLY[4])
    return packet.protocol == ICMPV4 and packet.icmp_type not in echoes


def _ends(packet: Frame) -> tuple[Socket, Socket]:
    assert isinstance(packet.src, IPv4Address)
    assert isinstance(packet.dst, IPv4Address)
    return (packet.src, packet.src_port), (packet.dst, packet.dst_port)


def _from(packet: Frame, external: Socket) -> Frame:
    return replace(packet, src=external[0], src_port=external[1] if packet.src_port else None)


def _to(packet: Frame, internal: Socket) -> Frame:
    return replace(packet, dst=internal[0], dst_port=internal[1] if packet.dst_port else None)
