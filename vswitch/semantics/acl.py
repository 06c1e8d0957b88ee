"""Port ACLs: extended entries by weight, basic entries by longest prefix (§§3.2, 4.2-4.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import Action, AnyAddress, BasicAction, Direction, PortRange, Side
from vswitch.semantics._identity import cached_by_identity
from vswitch.semantics.assumptions import Assumption
from vswitch.semantics.frame import ARP, IPV6_FRAGMENT, Address, Fragment, Frame

__all__ = ["BasicVerdict", "ExtendedVerdict", "arp_hangs_on", "evaluate_basic", "evaluate_extended"]


@dataclass(frozen=True, slots=True)
class ExtendedVerdict:
    """The first entry that matches, by weight; None when none does, which lets the frame pass (§4.5)."""

    rule: ExtendedAcl | None
    assumptions: frozenset[Assumption] = frozenset()

    @property
    def denies(self) -> bool:
        """Whether the frame ends here."""
        return self.rule is not None and self.rule.action is Action.DENY


@dataclass(frozen=True, slots=True)
class BasicVerdict:
    """`rule` is the entry that denies, or else the first family's Allow, or None (no entry matches)."""

    rule: BasicAcl | None
    assumptions: frozenset[Assumption] = frozenset()

    @property
    def denies(self) -> bool:
        """Whether the frame ends here."""
        return self.rule is not None and self.rule.action is BasicAction.DENY


class _Entry(NamedTuple):
    """An extended entry for one IP version, addresses as integers so that matching is arithmetic."""

    protocol: int | None
    local_mask: int
    local: int
    remote_mask: int
    remote: int
    local_port: PortRange | None
    remote_port: PortRange | None
    isolation_id: int
    rule: ExtendedAcl


class _Prefix(NamedTuple):
    """A basic IP entry for one IP version. `length` is the prefix length, 0 for ANY."""

    length: int
    mask: int
    network: int
    rule: BasicAcl


_ExtendedTable = dict[tuple[Direction, int], tuple[_Entry, ...]]


@cached_by_identity
def _extended_table(rules: tuple[ExtendedAcl, ...]) -> _ExtendedTable:
    """The entries by direction and IP version, highest weight first."""
    ordered = sorted(rules, key=lambda rule: -rule.weight)
    return {
        (direction, version): tuple(
            _entry(rule) for rule in ordered if rule.direction is direction and _of_version(rule, version)
        )
        for direction in Direction
        for version in (4, 6)
    }


def _of_version(rule: ExtendedAcl, version: int) -> bool:
    networks = (rule.local_ip_address, rule.remote_ip_address)
    return all(network is None or network.version == version for network in networks)


def _entry(rule: ExtendedAcl) -> _Entry:
    local, remote = rule.local_ip_address, rule.remote_ip_address
    return _Entry(
        rule.protocol,
        int(local.netmask) if local else 0,
        int(local.network_address) if local else 0,
        int(remote.netmask) if remote else 0,
        int(remote.network_address) if remote else 0,
        rule.local_port,
        rule.remote_port,
        rule.isolation_id,
        rule,
    )


def _local_remote(frame: Frame, direction: Direction) -> tuple[Address, Address]:
    """The VM's own address and the other one: Inbound local is the destination (§4.2)."""
    assert frame.src is not None
    assert frame.dst is not None
    return (frame.dst, frame.src) if direction is Direction.INBOUND else (frame.src, frame.dst)


def evaluate_extended(
    rules: tuple[ExtendedAcl, ...],
    direction: Direction,
    frame: Frame,
    vlan: int | None,
    *,
    below_weight: int | None = None,
) -> ExtendedVerdict:
    """What the extended entries of one adapter say to an IP frame (§§4.2, 4.3, 4.5).

    `rules` is the adapter's own tuple (its compiled form is remembered by identity). `vlan` is the
    VLAN the frame travels on, None when it carries a tag its port may not use. An entry with ports
    does not match a later fragment, nor a Stateful one a first fragment, which could not open a
    flow alone; an IPv6 later fragment shows no protocol but its own header's; the verdict then hangs
    on U5. With `below_weight`, only entries of a smaller weight are asked.
    """
    if not rules:
        return ExtendedVerdict(None)
    version = frame.version
    assert version is not None
    local_address, remote_address = _local_remote(frame, direction)
    local, remote = int(local_address), int(remote_address)
    inbound = direction is Direction.INBOUND
    local_port, remote_port = (
        (frame.dst_port, frame.src_port) if inbound else (frame.src_port, frame.dst_port)
    )
    portless = frame.fragment is Fragment.LATER
    fragmented = frame.fragment is not Fragment.NONE
    protocol = IPV6_FRAGMENT if portless and version == 6 else frame.protocol
    assumptions: set[Assumption] = set()
    for entry in _extended_table(rules)[direction, version]:
        if entry.protocol not in (None, protocol, frame.protocol):
            continue
        if local & entry.local_mask != entry.local or remote & entry.remote_mask != entry.remote:
            continue
        if entry.isolation_id and entry.isolation_id != vlan:
            continue
        if below_weight is not None and entry.rule.weight >= below_weight:
            continue
        if entry.protocol not in (None, protocol):
            assumptions.add(Assumption.FRAGMENTS)
            continue
        has_ports = entry.local_port is not None or entry.remote_port is not None
        if has_ports and (portless or (fragmented and entry.rule.stateful)):
            assumptions.add(Assumption.FRAGMENTS)
            continue
        if entry.local_port is not None and local_port not in entry.local_port:
            continue
        if entry.remote_port is not None and remote_port not in entry.remote_port:
            continue
        if fragmented and entry.rule.stateful:
            assumptions.add(Assumption.FRAGMENTS)
        return ExtendedVerdict(entry.rule, frozenset(assumptions))
    return ExtendedVerdict(None, frozenset(assumptions))


@dataclass(frozen=True, slots=True)
class _BasicTable:
    """Basic entries by (direction, side); IP ones also by version, MAC ones by address."""

    prefixes: dict[tuple[Direction, Side, int], tuple[_Prefix, ...]]
    macs: dict[tuple[Direction, Side], tuple[BasicAcl, ...]]


@cached_by_identity
def _basic_table(rules: tuple[BasicAcl, ...]) -> _BasicTable:
    prefixes: dict[tuple[Direction, Side, int], list[_Prefix]] = {}
    macs: dict[tuple[Direction, Side], list[BasicAcl]] = {}
    for rule in rules:
        if rule.is_mac:
            macs.setdefault((rule.direction, rule.side), []).append(rule)
            continue
        for version in (4, 6):
            prefix = _prefix(rule, version)
            if prefix is not None:
                prefixes.setdefault((rule.direction, rule.side, version), []).append(prefix)
    return _BasicTable(
        {key: tuple(found) for key, found in prefixes.items()},
        {key: tuple(found) for key, found in macs.items()},
    )


def _prefix(rule: BasicAcl, version: int) -> _Prefix | None:
    if rule.address is AnyAddress.IP:
        return _Prefix(0, 0, 0, rule)
    assert not isinstance(rule.address, str)
    if rule.address.version != version:
        return None
    return _Prefix(rule.address.prefixlen, int(rule.address.netmask), int(rule.address.network_address), rule)


def evaluate_basic(rules: tuple[BasicAcl, ...], direction: Direction, frame: Frame) -> BasicVerdict:
    """What the basic entries of one adapter say to any frame (§3.2).

    Local IP, remote IP, local MAC and remote MAC are four families of their own; in each the
    longest prefix decides and Deny wins a tie; a single family that denies is enough (U2).
    """
    if not rules:
        return BasicVerdict(None)
    table = _basic_table(rules)
    assumptions: set[Assumption] = set()
    decisions = [rule for rule in _families(table, direction, frame, assumptions) if rule is not None]
    denials = [rule for rule in decisions if rule.action is BasicAction.DENY]
    if denials and len(denials) < len(decisions):
        assumptions.add(Assumption.BASIC_PRECEDENCE)
    deciding = denials or decisions
    return BasicVerdict(deciding[0] if deciding else None, frozenset(assumptions))


def _families(
    table: _BasicTable, direction: Direction, frame: Frame, assumptions: set[Assumption]
) -> Iterable[BasicAcl | None]:
    if frame.is_ip and table.prefixes:
        local, remote = _local_remote(frame, direction)
        for side, address in ((Side.LOCAL, local), (Side.REMOTE, remote)):
            number = int(address)
            matching = [
                (prefix.length, prefix.rule)
                for prefix in table.prefixes.get((direction, side, address.version), ())
                if number & prefix.mask == prefix.network
            ]
            yield _longest(matching, assumptions)
    inbound = direction is Direction.INBOUND
    local_mac, remote_mac = (frame.dst_mac, frame.src_mac) if inbound else (frame.src_mac, frame.dst_mac)
    for side, mac in ((Side.LOCAL, local_mac), (Side.REMOTE, remote_mac)):
        matching = [
            (0 if rule.address is AnyAddress.MAC else 48, rule)
            for rule in table.macs.get((direction, side), ())
            if rule.address is AnyAddress.MAC or rule.address == mac
        ]
        yield _longest(matching, assumptions)


def _longest(matching: list[tuple[int, BasicAcl]], assumptions: set[Assumption]) -> BasicAcl | None:
    """The entry that decides one family. Meter entries only count (§3.4, U14)."""
    deciding = [found for found in matching if found[1].action is not BasicAction.METER]
    if not deciding:
        return None
    length = max(found[0] for found in deciding)
    if any(found[0] > length for found in matching):
        assumptions.add(Assumption.METER)
    best = [rule for found, rule in deciding if found == length]
    denials = [rule for rule in best if rule.action is BasicAction.DENY]
    if denials and len(denials) < len(best):
        assumptions.add(Assumption.BASIC_PRECEDENCE)
    return (denials or best)[0]


def arp_hangs_on(
    extended: tuple[ExtendedAcl, ...], basic: tuple[BasicAcl, ...], direction: Direction, frame: Frame
) -> bool:
    """Whether a frame passes only because a deny of everything is taken not to mean ARP (U13)."""
    if frame.ethertype != ARP:
        return False
    return any(
        rule.direction is direction and rule.action is Action.DENY and _matches_everything(rule)
        for rule in extended
    ) or any(
        rule.direction is direction and rule.action is BasicAction.DENY and rule.address is AnyAddress.IP
        for rule in basic
    )


def _matches_everything(rule: ExtendedAcl) -> bool:
    return (
        rule.protocol is None
        and rule.local_ip_address is None
        and rule.remote_ip_address is None
        and rule.local_port is None
        and rule.remote_port is None
    )
