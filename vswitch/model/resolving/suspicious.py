"""Legal but suspicious: what a policy's author probably did not mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vswitch.errors import Origin
from vswitch.model.resolving.spans import Span, covers
from vswitch.model.site import BasicAcl, ExtendedAcl, Guest
from vswitch.model.types import ICMPV6, Action, AnyAddress, BasicAction, Direction

__all__ = ["MANY_ENTRIES", "Note", "basic_notes", "denies_discovery", "extended_notes", "nat_notes"]

#: More entries than this on an adapter and direction are unusual; no limit is documented (U7).
MANY_ENTRIES = 300
# Pairs of entries compared at most when looking for shadowed ones, for each adapter and direction.
_COMPARISONS = 30_000


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """One warning and the place it is about; one of each kind is enough for a place."""

    origin: Origin
    sentence: str
    kind: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.origin}: {self.sentence}"


def extended_notes(entries: Sequence[ExtendedAcl], spans: Sequence[Span], direction: Direction) -> list[Note]:
    """Warnings about the extended entries of one adapter and direction.

    `entries` are by descending weight, `spans` what each of them matches.
    """
    return [*_shadowed(entries, spans), *_open_families(entries, direction)]


def nat_notes(guests: Sequence[Guest]) -> Iterator[Note]:
    """Warnings about the NAT networks of hosts; `guests` are all those of the site."""
    for host in guests:
        nat = host.nat
        if nat is None:
            continue
        there = {own.ip for guest in guests if guest.host == host.host for own in guest.addresses}
        if not nat.external:
            sentence = f"no address of {host.name!r} is outside of {nat.internal}: nothing gets out"
            yield Note(nat.origin, f"NAT {nat.name!r} has no external side: {sentence}")
        for mapping in nat.mappings:
            if mapping.internal_address not in there:
                who = f"nobody on {host.name!r} has the address {mapping.internal_address}"
                yield Note(mapping.origin, f"the static mapping {mapping} leads nowhere: {who}")


def _shadowed(entries: Sequence[ExtendedAcl], spans: Sequence[Span]) -> list[Note]:
    """Rules with an entry that one entry of larger weight and another action covers whole."""
    allows: list[int] = []
    denies: list[int] = []
    left = _COMPARISONS
    found: dict[str, Note] = {}
    for place, entry in enumerate(entries):
        own, others = (allows, denies) if entry.action is Action.ALLOW else (denies, allows)
        own.append(place)
        left -= len(others)
        if left < 0:
            break
        span = spans[place]
        for above in others:
            if spans[above][0] <= span[0] and covers(spans[above], span):
                if entry.name not in found:
                    found[entry.name] = _never_decides(entry, entries[above])
                break
    return list(found.values())


def _never_decides(entry: ExtendedAcl, other: ExtendedAcl) -> Note:
    return Note(
        entry.origin,
        f"{entry.name!r} ({entry.action}, weight {entry.weight}) has an entry that never decides:"
        f" {other.name!r} at {other.origin} ({other.action}, weight {other.weight}) covers it",
        "shadowed",
    )


def _open_families(entries: Sequence[ExtendedAcl], direction: Direction) -> list[Note]:
    """Denies of all IPv4 (0.0.0.0/0) where no entry denies IPv6 as a whole."""
    denies = [entry for entry in entries if entry.action is Action.DENY and entry.protocol is None]
    whole = [
        entry
        for entry in denies
        if (entry.local_ip_address is None) != (entry.remote_ip_address is None)
        and (entry.local_ip_address or entry.remote_ip_address).prefixlen == 0  # type: ignore[union-attr]
    ]
    everything = any(entry.local_ip_address is None and entry.remote_ip_address is None for entry in denies)
    versions = {(entry.local_ip_address or entry.remote_ip_address).version for entry in whole}  # type: ignore[union-attr]
    if everything or versions != {4}:
        return []
    entry = whole[0]
    return [
        Note(
            entry.origin,
            f"{entry.name!r} denies 0.0.0.0/0 {direction} and leaves IPv6 open; write ANY or add ::/0",
        )
    ]


def denies_discovery(entries: Sequence[ExtendedAcl]) -> ExtendedAcl | None:
    """The entry that denies IPv6 neighbour discovery as a whole, if none above it allows any of it.

    `entries` are those of one direction by descending weight (§4.6).
    """
    for entry in entries:
        if entry.protocol not in (None, ICMPV6):
            continue
        if entry.action is Action.ALLOW:
            return None
        if all(
            network is None or (network.version == 6 and network.prefixlen == 0)
            for network in (entry.local_ip_address, entry.remote_ip_address)
        ):
            return entry
    return None


def basic_notes(entries: Sequence[BasicAcl]) -> list[Note]:
    """Warnings about the basic entries of one adapter."""
    denied: dict[tuple[object, object], dict[str, BasicAcl]] = {}
    for entry in entries:
        if entry.action is not BasicAction.DENY or entry.is_mac:
            continue
        text = "ANY" if entry.address is AnyAddress.IP else str(entry.address)
        if text in ("ANY", "0.0.0.0/0", "::/0"):
            denied.setdefault((entry.direction, entry.side), {})[text] = entry
    return [
        Note(
            found["0.0.0.0/0"].origin,
            f"{found['0.0.0.0/0'].name!r} denies 0.0.0.0/0 {direction} and leaves IPv6 open;"
            " write ANY or add ::/0",
        )
        for (direction, _), found in denied.items()
        if set(found) == {"0.0.0.0/0"}
    ]
