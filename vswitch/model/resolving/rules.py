"""Rules as written, turned into the entries Hyper-V can hold: groups, names and lists expanded.

A rule is expanded without its weights: those depend on the other rules of an adapter (weights.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from vswitch.errors import Origin
from vswitch.model.files.address_fields import any_mac
from vswitch.model.files.file_limits import Budget
from vswitch.model.files.policy_file import ANY, BasicRule, ExtendedRule
from vswitch.model.problems import FieldError, Report, listing
from vswitch.model.resolving.adapter_names import AdapterNames, Targets
from vswitch.model.resolving.spans import Match, Span, span_of
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.traffic import port_range_of
from vswitch.model.types import (
    TCP,
    UDP,
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Side,
)
from vswitch.wording import counted

__all__ = ["Basic", "Extended", "Lane", "expand_basic", "expand_extended"]

#: Where a part of a rule stands, by its path inside the rule.
Locate = Callable[[tuple[object, ...]], Origin]

#: The adapters a rule is for and, if it is extended, its directions.
Lane = tuple[Targets, tuple[Direction, ...]]

# Sets of weights for which a rule keeps its entries.
_KEPT = 16

DEFAULT_IDLE_TIMEOUT = 255  # seconds; a working assumption (U9)


@dataclass(slots=True, eq=False)
class Extended:
    """An expanded extended rule; `len(matches)` entries for each direction."""

    name: str
    origin: Origin
    lane: Lane
    action: Action
    matches: tuple[Match, ...]
    weight: int | None
    stateful: bool
    idle_session_timeout: int
    isolation_id: int
    slots: int  # automatic weights it takes where there is room
    total: int  # entries it makes on all its adapters in all its directions
    spans: tuple[Span, ...]  # of each match
    _made: dict[tuple[Direction, int], tuple[ExtendedAcl, ...]] = field(default_factory=dict)

    def entries(self, direction: Direction, weights: Sequence[int]) -> tuple[ExtendedAcl, ...]:
        """Its entries for one direction; the same objects for the same weights."""
        first = weights[0]
        made = self._made.get((direction, first))
        if made is None or (len(made) > 1 and [entry.weight for entry in made] != list(weights)):
            if len(self._made) >= _KEPT:
                self._made.clear()
            made = self._made[direction, first] = tuple(
                ExtendedAcl(
                    self.name,
                    self.origin,
                    self.action,
                    direction,
                    weight,
                    *match,
                    self.stateful,
                    self.idle_session_timeout,
                    self.isolation_id,
                    self.weight is None,
                )
                for match, weight in zip(self.matches, weights, strict=False)
            )
        return made

    def known_entries(self, direction: Direction) -> list[tuple[ExtendedAcl, ...]]:
        """What `entries` made so far for one direction."""
        return [made for (each, _), made in self._made.items() if each is direction]

    def moved(self, name: str, origin: Origin) -> Extended:
        """The same rule written in another place."""
        return Extended(
            name,
            origin,
            self.lane,
            self.action,
            self.matches,
            self.weight,
            self.stateful,
            self.idle_session_timeout,
            self.isolation_id,
            self.slots,
            self.total,
            self.spans,
        )


@dataclass(slots=True, eq=False)
class Basic:
    """An expanded basic rule."""

    name: str
    origin: Origin
    lane: Lane
    entries: tuple[BasicAcl, ...]
    total: int  # entries it makes on all its adapters

    def moved(self, name: str, origin: Origin) -> Basic:
        """The same rule written in another place."""
        entries = tuple(
            BasicAcl(name, origin, entry.action, entry.direction, entry.side, entry.address)
            for entry in self.entries
        )
        return Basic(name, origin, self.lane, entries, self.total)


class _Reader:
    """Reads the parts of one rule, reporting each mistake where it stands."""

    def __init__(self, inventory: AdapterNames, locate: Locate, report: Report) -> None:
        self.inventory = inventory
        self.locate = locate
        self.report = report
        self.failed = False

    def wrong(self, path: tuple[object, ...], message: str, hint: str = "") -> None:
        self.failed = True
        self.report.add(self.locate(path), message, hint)

    def each(self, key: str, texts: Sequence[str], read: Callable[[str], Iterator[object]]) -> list[object]:
        """The distinct values of a list, in order; ANY must stand alone."""
        found: dict[object, None] = {}
        if not texts:
            self.wrong((key,), f"{key} is an empty list", "leave the key out for ANY")
        for index, text in enumerate(texts):
            if text.upper() == ANY:
                if len(texts) > 1:
                    self.wrong(
                        (key, index), "ANY stands among other values", "ANY covers them all; write it alone"
                    )
                found[None] = None
                continue
            try:
                found.update(dict.fromkeys(read(text)))
            except FieldError as error:
                self.wrong((key, index), error.message, error.hint)
        return list(found)

    def has_room(self, budget: Budget, name: str, factors: dict[str, int]) -> bool:
        """Whether the entries that these factors multiply to may be made; reports it the first time not."""
        if self.failed or budget.exceeded:
            return False
        total = prod(factors.values())
        if budget.take(total):
            return True
        before = f" and the rules before it {budget.used:,}" if budget.used else ""
        counted = " x ".join(f"{number:,} {what}" for what, number in factors.items() if number > 1)
        self.wrong(
            (),
            f"the rule {name!r} makes {total:,} entries{before}; all policies may make {budget.most:,}",
            f"it is {counted}; write prefixes and port ranges in place of lists, or name fewer adapters",
        )
        return False

    def targets(self, patterns: Sequence[str]) -> Targets:
        if not patterns:
            self.wrong(("adapters",), "the rule names no adapters", 'such as web* or "host:hv01"')
        indexes: set[int] = set()
        for index, pattern in enumerate(patterns):
            try:
                indexes.update(self.inventory.adapters(pattern))
            except FieldError as error:
                self.wrong(("adapters", index), error.message, error.hint)
        return self.inventory.targets(frozenset(indexes))


def expand_extended(
    rule: ExtendedRule, name: str, inventory: AdapterNames, locate: Locate, report: Report, budget: Budget
) -> Extended | None:
    """Expand one item of `extended_acls`; None if it has mistakes (put into `report`).

    Its entries are taken from `budget` before they are made. Once that is exceeded, nothing is read.
    """
    if budget.exceeded:
        return None
    reader = _Reader(inventory, locate, report)
    targets = reader.targets(rule.adapters)
    local = reader.each("local_ip_address", rule.local_ip_address, inventory.networks)
    remote = reader.each("remote_ip_address", rule.remote_ip_address, inventory.networks)
    timeout = _check_state(rule, reader)
    ports = {
        protocol: [_ports(key, getattr(rule, key), protocol, reader) for key in ("local_port", "remote_port")]
        for protocol in dict.fromkeys(rule.protocol)
    }
    pairs = _pairs(local, remote)
    with_ports = sum(len(one) * len(other) for one, other in ports.values())
    size = pairs * with_ports
    if not rule.protocol:
        reader.wrong(("protocol",), "protocol is an empty list", "leave the key out for ANY")
    elif not size and not reader.failed:
        reader.wrong(
            ("remote_ip_address",),
            "local and remote addresses are of different IP versions",
            "an entry holds either IPv4 or IPv6 addresses",
        )
    if rule.weight is not None and rule.weight < size:
        reader.wrong(
            ("weight",),
            f"weight {rule.weight} is too small for the rule's {counted(size, 'entry', 'entries')}",
            f"they take consecutive weights downward: write at least {size}",
        )
    directions = tuple(Direction) if rule.direction == "Both" else (Direction(rule.direction),)
    factors = {
        "pairs of addresses": pairs,
        "protocols and ports": with_ports,
        "directions": len(directions),
        "adapters": len(targets.indexes),
    }
    if not reader.has_room(budget, name, factors):
        return None
    matches: list[Match] = []
    for protocol, (local_ports, remote_ports) in ports.items():
        for match in product(local, remote, local_ports, remote_ports):
            if match[0] is None or match[1] is None or match[0].version == match[1].version:  # type: ignore[attr-defined]
                matches.append((*match, protocol))  # type: ignore[arg-type]
    return Extended(
        name,
        locate(()),
        (targets, directions),
        rule.action,
        tuple(matches),
        rule.weight,
        rule.stateful,
        timeout,
        rule.isolation_id,
        -(-size // 10) * 10,
        size * len(directions) * len(targets.indexes),
        tuple(span_of(match, rule.isolation_id) for match in matches),
    )


def _pairs(local: Sequence[object], remote: Sequence[object]) -> int:
    """How many pairs of a local and a remote address have one IP version; None has either."""
    versions = [None if address is None else address.version for address in remote]  # type: ignore[attr-defined]
    fitting = {version: versions.count(version) + versions.count(None) for version in (4, 6)}
    total = 0
    for address in local:
        version = None if address is None else address.version  # type: ignore[attr-defined]
        total += len(remote) if version is None else fitting[version]
    return total


def _check_state(rule: ExtendedRule, reader: _Reader) -> int:
    """The idle timeout of a rule, after checking what may be stateful (§4.4)."""
    timeout = rule.idle_session_timeout
    if not rule.stateful:
        if timeout:
            reader.wrong(
                ("idle_session_timeout",),
                "idle_session_timeout without stateful",
                "add stateful: true or remove it",
            )
        return 0
    if rule.action is Action.DENY:
        reader.wrong(("stateful",), "a Deny rule cannot be stateful", "Hyper-V refuses it with 0x80070057")
    elif not set(rule.protocol) <= {TCP, UDP}:
        reader.wrong(
            ("stateful",),
            "only TCP and UDP rules can be stateful",
            "Hyper-V refuses others with 0x80070057; ICMP needs one rule Inbound and one Outbound",
        )
    if timeout == 0:
        reader.wrong(
            ("idle_session_timeout",), "a stateful rule needs a timeout", "allowed: 1 to 65535 seconds"
        )
    return DEFAULT_IDLE_TIMEOUT if timeout is None else timeout


def _ports(key: str, texts: Sequence[str], protocol: int | None, reader: _Reader) -> list[object]:
    if protocol in (TCP, UDP):
        number = protocol
        return reader.each(key, texts, lambda text: iter((port_range_of(text, number),)))
    if any(text.upper() != ANY for text in texts):
        reader.wrong((key,), f"{key} needs protocol: TCP or UDP", "other protocols have no ports")
    return [None]


def expand_basic(
    rule: BasicRule, name: str, inventory: AdapterNames, locate: Locate, report: Report, budget: Budget
) -> Basic | None:
    """Expand one item of `acls`; None if it has mistakes (put into `report`). `budget`: as above."""
    if budget.exceeded:
        return None
    reader = _Reader(inventory, locate, report)
    targets = reader.targets(rule.adapters)
    keys = [f"{side}_{kind}_address" for kind in ("ip", "mac") for side in ("local", "remote")]
    written = [key for key in keys if getattr(rule, key) is not None]
    if len(written) != 1:
        found = f"has {listing(written)}" if written else "names no address"
        reader.wrong(
            (written[1],) if written else (), f"a basic ACL {found}", f"write exactly one of {listing(keys)}"
        )
        return None
    key = written[0]
    is_mac = "_mac_" in key
    if is_mac and rule.action is BasicAction.METER:
        reader.wrong(
            (key,), "a Meter entry needs an IP address", "write local_ip_address or remote_ip_address"
        )
    read = (lambda text: iter((any_mac(text),))) if is_mac else inventory.networks
    addresses = reader.each(key, getattr(rule, key), read)
    directions = tuple(Direction) if rule.direction == "Both" else (Direction(rule.direction),)
    factors = {
        "addresses": len(addresses),
        "directions": len(directions),
        "adapters": len(targets.indexes),
    }
    if not reader.has_room(budget, name, factors):
        return None
    side = Side.LOCAL if key.startswith("local") else Side.REMOTE
    anything = AnyAddress.MAC if is_mac else AnyAddress.IP
    origin = locate(())
    entries = tuple(
        BasicAcl(name, origin, rule.action, direction, side, anything if address is None else address)  # type: ignore[arg-type]
        for direction in directions
        for address in addresses
    )
    return Basic(name, origin, (targets, ()), entries, len(entries) * len(targets.indexes))
