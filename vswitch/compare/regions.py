"""Sets of packets, for people and programs: what the semantic diff answers with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import product

from vswitch.compare.diagram import Box, Interval
from vswitch.json_values import Json
from vswitch.model.types import TCP, UDP

__all__ = ["FIELDS", "Region", "boxes_within", "ip_traffic", "tops", "unite", "whole"]

#: The fields of a packet, from the adapter's viewpoint, in the order they are compared: those in
#: which rules differ least come first, which keeps the diagrams small.
FIELDS = (
    "protocol",
    "isolation_id",
    "local_port",
    "remote_port",
    "local_ip_address",
    "remote_ip_address",
    "local_mac_address",
    "remote_mac_address",
)
_ADDRESSES = (4, 5)
_MAC_TOP = (1 << 48) - 1


def tops(version: int) -> tuple[int, ...]:
    """The largest value of each field for IP version 4 or 6; 0 stands for frames that are not IP."""
    if version == 0:
        return (0, 0, 0, 0, 0, 0, _MAC_TOP, _MAC_TOP)
    address = (1 << (32 if version == 4 else 128)) - 1
    return (255, (1 << 24) - 1, 65535, 65535, address, address, _MAC_TOP, _MAC_TOP)


def whole(version: int) -> Box:
    """All values of each field for IP version 4 or 6, or 0."""
    return tuple((0, top) for top in tops(version))


@dataclass(frozen=True, slots=True)
class Region:
    """Packets of one IP version (0: not IP; None: 4 and 6 alike): a product of sets of values.

    `fields` has the intervals of each of FIELDS; local is the adapter's own side.
    """

    version: int | None
    fields: tuple[tuple[Interval, ...], ...]

    def __contains__(self, packet: tuple[int, ...]) -> bool:
        """Whether a packet, as the version and the values of FIELDS, is among them."""
        version, *values = packet
        if version != self.version and (self.version is not None or version == 0):
            return False
        return all(
            any(low <= value <= high for low, high in intervals)
            or (self.version is None and index in _ADDRESSES)
            for index, (value, intervals) in enumerate(zip(values, self.fields, strict=True))
        )

    def is_whole(self, field: int) -> bool:
        """Whether all values of a field are among them."""
        return self.fields[field] == ((0, tops(4 if self.version is None else self.version)[field]),)

    def narrowed(self) -> list[tuple[str, str]]:
        """The fields that are not whole, with their values as text."""
        return [
            (name, _values(name, self.version or 4, self.fields[index]))
            for index, name in enumerate(FIELDS)
            if not self.is_whole(index)
        ]

    def as_dict(self) -> dict[str, Json]:
        """Plain data; a field that is not there is not restricted."""
        kind = {None: "IP", 0: "non-IP", 4: "IPv4", 6: "IPv6"}[self.version]
        return {"version": kind, **dict(self.narrowed())}

    def __str__(self) -> str:
        kind = {None: "IP", 0: "frames that are not IP", 4: "IPv4", 6: "IPv6"}[self.version]
        words = {
            "protocol": "",
            "isolation_id": "isolation id ",
            "local_ip_address": "local ",
            "remote_ip_address": "remote ",
            "local_port": "local port ",
            "remote_port": "remote port ",
            "local_mac_address": "local MAC ",
            "remote_mac_address": "remote MAC ",
        }
        parts = [f"{words[name]}{text}" for name, text in self.narrowed()]
        return ", ".join([kind, *parts]) if parts else f"all {kind}"


def ip_traffic(
    *, protocol: Sequence[Interval] | None = None, local_port: Sequence[Interval] | None = None
) -> Region:
    """The IP packets of both versions with these protocols and local ports; None means all."""
    given = {"protocol": protocol, "local_port": local_port}
    fields = (given.get(name) or [(0, top)] for name, top in zip(FIELDS, tops(4), strict=True))
    return Region(None, tuple(map(tuple, fields)))


def boxes_within(region: Region, version: int) -> Iterator[Box]:
    """The packets of one IP version (0: not IP) in a region, as boxes that do not overlap."""
    if version != region.version and (region.version is not None or version == 0):
        return
    both = region.version is None
    yield from product(
        *(
            [span] if both and field in _ADDRESSES else region.fields[field]
            for field, span in enumerate(whole(version))
        )
    )


def unite(regions: Iterable[Region]) -> list[Region]:
    """The same packets in fewer regions: those that differ in one field only become one.

    So do regions of IPv4 and of IPv6 that differ in nothing else. Regions must be disjoint.
    """
    of_version: dict[int | None, list[tuple[tuple[Interval, ...], ...]]] = {}
    for region in regions:
        of_version.setdefault(region.version, []).append(region.fields)
    found = [Region(version, fields) for version, each in of_version.items() for fields in _united(each)]
    result: list[Region] = []
    seen: dict[tuple[tuple[Interval, ...], ...], int] = {}
    for region in found:
        if region.version in (4, 6) and all(map(region.is_whole, _ADDRESSES)):
            key = (*region.fields[:4], *region.fields[6:])
            other = seen.get(key)
            if other is not None:
                result[other] = Region(None, (*region.fields[:4], *_WHOLE_4, *region.fields[6:]))
                continue
            seen[key] = len(result)
        result.append(region)
    return result


def _united(
    regions: Iterable[tuple[tuple[Interval, ...], ...]],
) -> Iterator[tuple[tuple[Interval, ...], ...]]:
    """The same in fewer products: those that differ in one field only become one."""
    numbers: dict[tuple[Interval, ...], int] = {}  # sets of values as numbers, which are compared fast
    keys = [tuple([numbers.setdefault(each, len(numbers)) for each in fields]) for fields in regions]
    sets = list(numbers)
    count = len(keys) + 1
    while len(keys) < count:
        count = len(keys)
        for field in range(len(FIELDS)):
            groups: dict[tuple[int, ...], list[int]] = {}
            for key in keys:
                groups.setdefault((*key[:field], *key[field + 1 :]), []).append(key[field])
            if len(groups) == len(keys):
                continue
            keys = []
            for others, group in groups.items():
                number = group[0]
                if len(group) > 1:
                    union = _joined(sets[each] for each in group)
                    number = numbers.setdefault(union, len(sets))
                    if number == len(sets):
                        sets.append(union)
                keys.append((*others[:field], number, *others[field:]))
    return (tuple([sets[number] for number in key]) for key in keys)


def _joined(sets: Iterable[tuple[Interval, ...]]) -> tuple[Interval, ...]:
    """The union of disjoint sets of intervals."""
    found: list[Interval] = []
    for low, high in sorted(interval for intervals in sets for interval in intervals):
        if found and found[-1][1] == low - 1:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return tuple(found)


_WHOLE_4 = (((0, tops(4)[4]),), ((0, tops(4)[5]),))


# --- text ----------------------------------------------------------------------------------------


def _values(name: str, version: int, intervals: tuple[Interval, ...]) -> str:
    top = tops(version)[FIELDS.index(name)]
    texts = _texts(name, version, intervals)
    if len(intervals) > 1 or intervals[0][0] == 0 or intervals[0][1] == top:
        rest = _texts(name, version, _complement(intervals, top))
        if 0 < len(rest) < len(texts):
            return f"all but {', '.join(rest)}"
    return ", ".join(texts)


def _complement(intervals: Sequence[Interval], top: int) -> tuple[Interval, ...]:
    found: list[Interval] = []
    position = 0
    for low, high in sorted(intervals):
        if low > position:
            found.append((position, low - 1))
        position = high + 1
    if position <= top:
        found.append((position, top))
    return tuple(found)


@lru_cache(maxsize=4096)
def _texts(name: str, version: int, intervals: tuple[Interval, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for low, high in intervals:
        if name.endswith("ip_address"):
            found += _prefixes(version, low, high)
        elif name == "protocol":
            found += _protocols(low, high)
        elif name.endswith("mac_address"):
            found.append(_mac(low) if low == high else f"{_mac(low)} to {_mac(high)}")
        else:
            found.append(str(low) if low == high else f"{low}-{high}")
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def _prefixes(version: int, low: int, high: int) -> tuple[str, ...]:
    """The addresses as up to three prefixes, or as first and last."""
    bits, address = (32, IPv4Address) if version == 4 else (128, IPv6Address)
    found: list[str] = []
    first = low
    while first <= high:
        if len(found) == 3:
            return (f"{address(low)} to {address(high)}",)
        size = min(first & -first or 1 << bits, 1 << ((high - first + 1).bit_length() - 1))
        length = bits + 1 - size.bit_length()
        found.append(f"{address(first)}" if length == bits else f"{address(first)}/{length}")
        first += size
    return tuple(found)


def _protocols(low: int, high: int) -> list[str]:
    names = {1: "ICMP", TCP: "TCP", UDP: "UDP", 58: "ICMPv6"}
    if high - low > 2:
        return [f"protocols {low}-{high}"]
    return [names.get(number, f"protocol {number}") for number in range(low, high + 1)]


def _mac(number: int) -> str:
    digits = f"{number:012X}"
    return "-".join(digits[index : index + 2] for index in range(0, 12, 2))
