"""ACL entries as a Hyper-V host holds them, in one canonical spelling.

An entry read from a host and one made from a policy are equal exactly when Hyper-V would call them
the same entry: no origin, no name, `/32` dropped, `TCP` for 6, `ANY` for every wildcard
(hyper-v-facts §§3.1, 4.1, 5.1, 5.2). A basic ANY for IP is two entries, one for each IP version,
since hosts show it as one or as two. Everything is text and numbers, so that entries hash fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple, TypeVar

from vswitch.json_values import Json
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import (
    TCP,
    UDP,
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Network,
    PortRange,
    Side,
    normalise_mac,
)

__all__ = [
    "Acls",
    "ANY",
    "ANY_MAC",
    "BasicEntry",
    "Entry",
    "EntryKey",
    "ExtendedEntry",
    "basic_from_host",
    "basic_from_model",
    "describe",
    "enum_value",
    "extended_from_host",
    "extended_from_model",
    "sort_key",
    "to_host",
]

ANY = "ANY"
ANY_MAC = "ANY MAC"

_PROTOCOLS = {"TCP": "TCP", "6": "TCP", "UDP": "UDP", "17": "UDP", "ICMP": "1", "ICMPV4": "1", "ICMPV6": "58"}
_DIRECTIONS = {Direction.INBOUND: 1, Direction.OUTBOUND: 2}
_ACTIONS = {Action.ALLOW: 1, Action.DENY: 2}
_BASIC_ACTIONS = {BasicAction.ALLOW: 1, BasicAction.DENY: 2, BasicAction.METER: 3}
# AclType: Mac 1, IPv4 2, IPv6 3, WildcardIPv4 4, WildcardIPv6 5, WildcardBoth 6, WildcardMac 7.
_ACL_TYPES = ("", "Mac", "IPv4", "IPv6", "WildcardIPv4", "WildcardIPv6", "WildcardBoth", "WildcardMac")

_EVERYTHING = ("0.0.0.0/0", "::/0")
_WILDCARDS = {4: ("0.0.0.0/0",), 5: ("::/0",), 6: _EVERYTHING, 7: (ANY_MAC,)}

# What both Python and PowerShell take for the same whole number, unlike "5_00", "\u0665" or 500.6.
_DECIMAL = re.compile("[0-9]{1,18}")

E = TypeVar("E", bound=StrEnum)
#: Direction and weight of an extended entry; direction, side, address and whether it meters of a basic one.
EntryKey = tuple[Direction, int] | tuple[Direction, Side, str, bool]


class ExtendedEntry(NamedTuple):
    """An extended port ACL entry; addresses, ports and protocol as Hyper-V reads them back."""

    direction: Direction
    weight: int
    action: Action
    protocol: str = ANY  # TCP, UDP, ANY or an IP protocol number
    local: str = ANY
    remote: str = ANY
    local_port: str = ANY
    remote_port: str = ANY
    stateful: bool = False
    timeout: int = 0  # seconds; 0 for a stateless entry
    isolation: int = 0

    @property
    def key(self) -> EntryKey:
        """What Hyper-V lets only one entry have (§4.3, U4)."""
        return (self.direction, self.weight)


class BasicEntry(NamedTuple):
    """A basic port ACL entry; `address` is a prefix, a MAC or ANY_MAC."""

    direction: Direction
    action: BasicAction
    side: Side
    address: str

    @property
    def key(self) -> EntryKey:
        """What Hyper-V lets only one entry have (§3.3); Meter entries stand apart (U14)."""
        return (self.direction, self.side, self.address, self.action is BasicAction.METER)

    @property
    def is_mac(self) -> bool:
        """Whether it looks at MAC addresses."""
        return self.address == ANY_MAC or (len(self.address) == 17 and self.address[2] == "-")


Entry = ExtendedEntry | BasicEntry


def enum_value(value: Json, names: Mapping[str, int] | tuple[str, ...], what: str) -> int:
    """An enumeration member as its number, from the number, its decimal text or its name (§5.4).

    Raises ValueError for anything else.
    """
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r} is not {what}")
    if isinstance(value, int):
        return value
    text = str(value).strip()
    if _DECIMAL.fullmatch(text.removeprefix("-")):
        return int(text)
    table = names if isinstance(names, Mapping) else {name: number for number, name in enumerate(names)}
    for name, number in table.items():
        if name and name.lower() == text.lower():
            return number
    raise ValueError(f"{text!r} is not {what}")


def _member(value: Json, table: Mapping[E, int], what: str) -> E:
    number = enum_value(value, {str(member): each for member, each in table.items()}, what)
    for member, each in table.items():
        if each == number:
            return member
    raise ValueError(f"{value!r} is not {what}")


# --- reading -------------------------------------------------------------------------------------


def _address(text: str) -> str:
    if text in {"", "*"} or text.upper() == ANY:
        return ANY
    if "%" in text:  # a zone may be any text, and no ACL has one
        raise ValueError(f"{text!r} is not an address of an ACL")
    return _spell(ip_network(text, strict=False))


def _spell(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _port(text: str) -> str:
    if text in {"", "*"} or text.upper() == ANY:
        return ANY
    first, dash, last = text.partition("-")
    numbers = _whole(first, "a port"), _whole(last if dash else first, "a port")
    if not 0 <= numbers[0] <= numbers[1] <= 65535:
        raise ValueError(f"{text!r} is not a port or a range of ports")
    return str(PortRange(*numbers))


def _protocol(text: str) -> str:
    word = text.strip().upper()
    if word in ("", "*", ANY):
        return ANY
    if word in _PROTOCOLS:
        return _PROTOCOLS[word]
    number = _whole(word, "a protocol")
    if number > 255:
        raise ValueError(f"{text!r} is not a protocol")
    return str(number)


def extended_from_host(raw: Mapping[str, Json]) -> ExtendedEntry:
    """An item of `extendedAcls`. Raises ValueError if it cannot be understood."""
    get = raw.get
    return _extended(
        get("Direction"),
        get("Action"),
        get("LocalIPAddress"),
        get("RemoteIPAddress"),
        get("LocalPort"),
        get("RemotePort"),
        get("Protocol"),
        get("Weight"),
        get("Stateful"),
        get("IdleSessionTimeout"),
        get("IsolationID"),
    )


# By type as well: to a cache without it, 1, 1.0 and True are one.
@lru_cache(maxsize=1 << 17, typed=True)
def _extended(
    direction: Json,
    action: Json,
    local: Json,
    remote: Json,
    local_port: Json,
    remote_port: Json,
    protocol: Json,
    weight: Json,
    stateful: Json,
    timeout: Json,
    isolation: Json,
) -> ExtendedEntry:
    if not isinstance(stateful, bool):
        raise ValueError(f"{stateful!r} does not say whether it is stateful")
    return ExtendedEntry(
        _member(direction, _DIRECTIONS, "a direction"),
        _whole(weight, "a weight"),
        _member(action, _ACTIONS, "an action"),
        _protocol(_text(protocol)),
        _address(_text(local)),
        _address(_text(remote)),
        _port(_text(local_port)),
        _port(_text(remote_port)),
        stateful,
        _whole(0 if timeout is None else timeout, "a time limit") if stateful else 0,
        _whole(0 if isolation is None else isolation, "an isolation id"),
    )


def _whole(value: Json, what: str) -> int:
    """A whole number that is not negative, from the number or its decimal digits. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return int(value)
    raise ValueError(f"{value!r} is not {what}")


def _text(value: Json) -> str:
    return "" if value is None else str(value).strip()


def basic_from_host(raw: Mapping[str, Json]) -> tuple[BasicEntry, ...]:
    """An item of `acls`: two entries for ANY. Raises ValueError if it cannot be understood."""
    sides = []
    for side in Side:
        kind = raw.get(f"{side}AddressType")
        text = _text(raw.get(f"{side}Address"))
        number = enum_value(kind, _ACL_TYPES, "an address type") if kind is not None else int(bool(text)) * 2
        if not 0 <= number < len(_ACL_TYPES):
            raise ValueError(f"{kind!r} is not an address type")
        if number:
            sides.append((side, number, text))
    if len(sides) != 1:
        raise ValueError("it names no endpoint" if not sides else "it names two endpoints")
    side, number, text = sides[0]
    addresses = _WILDCARDS.get(number) or (normalise_mac(text) if number == 1 else _address(text),)
    direction = _member(raw.get("Direction"), _DIRECTIONS, "a direction")
    action = _member(raw.get("Action"), _BASIC_ACTIONS, "an action")
    return tuple(
        BasicEntry(direction, action, side, each)
        for address in addresses
        for each in (_EVERYTHING if address == ANY else (address,))
    )


def extended_from_model(acl: ExtendedAcl) -> ExtendedEntry:
    """A policy's entry as the host would hold it."""
    protocol = {None: ANY, TCP: "TCP", UDP: "UDP"}.get(acl.protocol, str(acl.protocol))
    return ExtendedEntry(
        acl.direction,
        acl.weight,
        acl.action,
        protocol,
        _spell(acl.local_ip_address) if acl.local_ip_address else ANY,
        _spell(acl.remote_ip_address) if acl.remote_ip_address else ANY,
        str(acl.local_port) if acl.local_port else ANY,
        str(acl.remote_port) if acl.remote_port else ANY,
        acl.stateful,
        acl.idle_session_timeout if acl.stateful else 0,
        acl.isolation_id,
    )


def basic_from_model(acl: BasicAcl) -> tuple[BasicEntry, ...]:
    """A policy's entry as the host would hold it: two entries for ANY."""
    address = acl.address
    texts: tuple[str, ...]
    if address is AnyAddress.IP:
        texts = _EVERYTHING
    elif address is AnyAddress.MAC:
        texts = (ANY_MAC,)
    else:
        texts = (address if isinstance(address, str) else _spell(address),)
    return tuple(BasicEntry(acl.direction, acl.action, acl.side, text) for text in texts)


# --- writing -------------------------------------------------------------------------------------


def to_host(entry: Entry) -> dict[str, Json]:
    """The entry with the property names and value types of the host's own objects (§5.2)."""
    if isinstance(entry, ExtendedEntry):
        return {
            "Direction": _DIRECTIONS[entry.direction],
            "Action": _ACTIONS[entry.action],
            "LocalIPAddress": entry.local,
            "RemoteIPAddress": entry.remote,
            "LocalPort": entry.local_port,
            "RemotePort": entry.remote_port,
            "Protocol": entry.protocol,
            "Weight": entry.weight,
            "Stateful": entry.stateful,
            "IdleSessionTimeout": entry.timeout,
            "IsolationID": entry.isolation,
        }
    raw: dict[str, Json] = {
        "Direction": _DIRECTIONS[entry.direction],
        "Action": _BASIC_ACTIONS[entry.action],
    }
    for side in Side:
        mine = side is entry.side
        raw[f"{side}Address"] = (ANY if entry.address == ANY_MAC else entry.address) if mine else ""
        raw[f"{side}AddressType"] = _acl_type(entry) if mine else 0
    return raw


def _acl_type(entry: BasicEntry) -> int:
    if entry.is_mac:
        return 7 if entry.address == ANY_MAC else 1
    return {"0.0.0.0/0": 4, "::/0": 5}.get(entry.address, 3 if ":" in entry.address else 2)


def describe(entry: Entry) -> str:
    """One line for people: `Inbound 500 Allow TCP local port 80 from 10.0.0.0/8 stateful 300 s`."""
    if isinstance(entry, BasicEntry):
        return f"{entry.direction} {entry.action} {entry.side.lower()} {entry.address}"
    parts = [entry.direction, str(entry.weight), entry.action, entry.protocol]
    if entry.local != ANY:
        parts.append(f"local {entry.local}")
    if entry.local_port != ANY:
        parts.append(f"local port {entry.local_port}")
    if entry.remote != ANY:
        parts.append(f"remote {entry.remote}")
    if entry.remote_port != ANY:
        parts.append(f"remote port {entry.remote_port}")
    if entry.stateful:
        parts.append(f"stateful {entry.timeout} s")
    if entry.isolation:
        parts.append(f"isolation id {entry.isolation}")
    return " ".join(parts)


def sort_key(entry: Entry) -> tuple[int, str, int, tuple[str, ...]]:
    """Order for people: extended before basic, by direction, then as the switch evaluates."""
    if isinstance(entry, ExtendedEntry):
        return (0, str(entry.direction), -entry.weight, tuple(map(str, entry)))
    return (1, str(entry.direction), 0, tuple(map(str, entry)))


class Acls(NamedTuple):
    """All entries of one adapter. Hashable, so that equal adapters are worked out once."""

    extended: frozenset[ExtendedEntry] = frozenset()
    basic: frozenset[BasicEntry] = frozenset()

    @staticmethod
    def of(entries: Iterable[ExtendedEntry | BasicEntry]) -> Acls:
        """The entries sorted into the two kinds."""
        found = list(entries)
        return Acls(
            frozenset(entry for entry in found if isinstance(entry, ExtendedEntry)),
            frozenset(entry for entry in found if isinstance(entry, BasicEntry)),
        )
