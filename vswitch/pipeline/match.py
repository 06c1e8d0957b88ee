"""ACL entries as OpenFlow matches.

An entry becomes the product of its alternatives: address family, local port pieces, remote port
pieces. Where the product of several sets would be larger than their sum, it becomes a conjunction:
one flow for each element of each set, and one that acts when all sets have matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from vswitch.model.site import ExtendedAcl
from vswitch.model.types import TCP, UDP, Direction, Network, PortRange
from vswitch.pipeline.masks import split_range

__all__ = ["MatchSet", "address_match", "match_sets", "port_matches", "worth_conjunction"]

_NAMED = {(TCP, 4): "tcp", (UDP, 4): "udp", (TCP, 6): "tcp6", (UDP, 6): "udp6"}


def _family(version: int, protocol: int | None) -> str:
    if protocol is None:
        return "ip" if version == 4 else "ipv6"
    named = _NAMED.get((protocol, version))
    if named:
        return named
    return f"{'ip' if version == 4 else 'ipv6'},nw_proto={protocol}"


def address_match(field: str, network: Network) -> str:
    """`nw_src=10.0.0.0/8` and the like; `field` is "src" or "dst". A /0 needs no match at all."""
    if network.prefixlen == 0:
        return ""
    prefix = "nw" if network.version == 4 else "ipv6"
    host = network.prefixlen == network.max_prefixlen
    return f"{prefix}_{field}={network.network_address if host else network}"


def port_matches(field: str, ports: PortRange) -> list[str]:
    """`tp_dst=0x50/0xfff0` and the like for a range of ports."""
    return [
        f"tp_{field}={value}" if mask == 0xFFFF else f"tp_{field}={value:#x}/{mask:#x}" if mask else ""
        for value, mask in split_range(ports.first, ports.last)
    ]


def _alternatives(texts: Iterable[str]) -> tuple[str, ...]:
    """A set of alternatives without repetition; one that always matches makes the others idle."""
    found = tuple(dict.fromkeys(texts))
    return ("",) if "" in found else found


@dataclass(frozen=True, slots=True)
class MatchSet:
    """A common part that always matches, and sets of which each must match with one element.

    `products` are all combinations, where they are fewer flows than a conjunction; else empty.
    """

    common: str
    sets: tuple[tuple[str, ...], ...]
    products: tuple[str, ...]


def join(*parts: str) -> str:
    """Match fragments put together, empty ones left out."""
    return ",".join(part for part in parts if part)


def worth_conjunction(sets: Sequence[Sequence[str]]) -> bool:
    """Whether a conjunction takes fewer flows than the plain product of these sets."""
    large = [len(alternatives) for alternatives in sets if len(alternatives) > 1]
    return len(large) > 1 and prod(large) > sum(large) + 1


@lru_cache(maxsize=1 << 18)
def match_sets(entries: tuple[ExtendedAcl, ...]) -> tuple[MatchSet, ...]:
    """The matches of entries that differ in addresses and ports only and form a full product.

    One MatchSet for each address family (§4.1: a family is given by either address; with no
    address the entry covers both). The adapter's port is not in them: adapters share entries.
    """
    entry = entries[0]
    inbound = entry.direction is Direction.INBOUND
    local_field, remote_field = ("dst", "src") if inbound else ("src", "dst")
    locals_ = _distinct(e.local_ip_address for e in entries)
    remotes = _distinct(e.remote_ip_address for e in entries)
    local_ports = _distinct(e.local_port for e in entries)
    remote_ports = _distinct(e.remote_port for e in entries)
    versions = {a.version for a in (*locals_, *remotes) if a is not None} or {4, 6}
    port_sets = [
        _alternatives(text for ports in ranges for text in (port_matches(field, ports) if ports else [""]))
        for field, ranges in ((local_field, local_ports), (remote_field, remote_ports))
    ]
    has_ports = any(e.local_port or e.remote_port for e in entries)
    # Later fragments carry no ports. None opens a flow: conntrack would keep it back until it has
    # seen the others, which do not come this way (U5).
    fragments = "ip_frag=no" if entry.stateful else "ip_frag=not_later" if has_ports else ""
    found = []
    for version in sorted(versions):
        address_sets = [
            _alternatives(
                address_match(field, address) if address else ""
                for address in addresses
                if address is None or address.version == version
            )
            for field, addresses in ((local_field, locals_), (remote_field, remotes))
        ]
        common = join(
            _family(version, entry.protocol),
            f"reg2={entry.isolation_id}" if entry.isolation_id else "",
            fragments,
        )
        sets = (*address_sets, *port_sets)
        products = () if worth_conjunction(sets) else tuple(join(common, *each) for each in product(*sets))
        found.append(MatchSet(common, sets, products))
    return tuple(found)


def _distinct(values: Iterable[object]) -> list:  # type: ignore[type-arg]
    return list(dict.fromkeys(values))
