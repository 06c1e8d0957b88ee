"""The adapters a policy can name, and its groups.

A pattern is a glob on VM names, with `/` and a glob on adapter names behind it if it is to narrow
them (`web*`, `web01/Network Adapter 2`); case does not matter, as in PowerShell. ManagementOS adapters
are only reached by `host:` before the pattern, so that `*` never locks a host out. A group is a name for
patterns, addresses, prefixes and other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from vswitch.errors import Origin
from vswitch.model.files.address_fields import prefix
from vswitch.model.files.file_limits import MOST_ENTRIES, MOST_GROUP_DEPTH, Budget
from vswitch.model.names import is_pattern, matched_by, matching
from vswitch.model.problems import FieldError, Report, did_you_mean, listing, shorten
from vswitch.model.site import Adapter
from vswitch.model.types import Network

__all__ = ["AdapterNames", "Targets"]

_HOST = "host:"


class Targets:
    """A set of adapters, by their index in the site; one object for each distinct set."""

    __slots__ = ("indexes",)

    def __init__(self, indexes: frozenset[int]) -> None:
        self.indexes = indexes


@dataclass(frozen=True, slots=True)
class _Group:
    """A group resolved: adapters, prefixes, and how deep groups stand in it (1: none do)."""

    indexes: frozenset[int]
    networks: tuple[Network, ...]
    depth: int


class AdapterNames:
    """Resolves patterns and addresses of one policy file against the adapters of a site."""

    def __init__(self, adapters: Sequence[Adapter], targets: dict[frozenset[int], Targets]) -> None:
        self._adapters = adapters
        self._targets = targets
        self._by_guest: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
        for index, adapter in enumerate(adapters):
            self._by_guest[adapter.is_management_os].setdefault(adapter.guest, []).append(index)
        self._groups: dict[str, _Group] = {}
        self._spelling: dict[str, str] = {}  # of groups, by their names in lower case
        self._members = Budget()
        self._patterns: dict[str, frozenset[int]] = {}
        self._kept = Budget()  # indexes in `_patterns`
        self._addresses: dict[str, tuple[Network, ...]] = {}

    def targets(self, indexes: frozenset[int]) -> Targets:
        """The one object for a set of adapters."""
        return self._targets.setdefault(indexes, Targets(indexes))

    def define(
        self,
        groups: Mapping[str, Sequence[str]],
        locate: Callable[[tuple[object, ...]], Origin],
        report: Report,
    ) -> None:
        """Take the groups of a file; mistakes go to `report`."""
        for name, members in groups.items():
            if not members:
                report.add(
                    locate((name,)), f"the group {name!r} is empty", "name adapters, addresses or groups"
                )
            other = self._spelling.setdefault(name.lower(), name)
            if other != name:
                report.add(
                    locate((name,)), f"the groups {other!r} and {name!r} differ only in case", "rename one"
                )
            if is_pattern(name) and (meant := self._guests_like(name)):
                others = listing(map(repr, meant), 5)
                report.add(
                    locate((name,)),
                    f"the group {name!r} is called like a pattern that matches {others}",
                    "rename the group: what is written for the one would be read as the other",
                )
        for name in groups:
            self._resolve(name, groups, locate, report, ())

    def _resolve(
        self,
        name: str,
        groups: Mapping[str, Sequence[str]],
        locate: Callable[[tuple[object, ...]], Origin],
        report: Report,
        above: tuple[str, ...],
    ) -> _Group:
        if name in self._groups:
            return self._groups[name]
        indexes: set[int] = set()
        networks: dict[Network, None] = {}
        depth = 1
        for position, member in enumerate(groups[name]):
            if self._members.exceeded:
                break
            try:
                named = member if member in groups else self._spelling.get(member.lower())
                if named is not None:
                    inner = self._inner(named, groups, locate, report, (*above, name))
                    self._count(len(inner.indexes) + len(inner.networks))
                    depth = max(depth, inner.depth + 1)
                    indexes |= inner.indexes
                    networks.update(dict.fromkeys(inner.networks))
                elif _is_address(member):
                    self._count(1)
                    networks[prefix(member)] = None
                else:
                    found = self._match(member, groups)
                    self._count(len(found))
                    indexes |= found
            except FieldError as error:
                report.add(locate((name, position)), error.message, error.hint)
        group = self._groups[name] = _Group(frozenset(indexes), tuple(networks), depth)
        return group

    def _inner(
        self,
        name: str,
        groups: Mapping[str, Sequence[str]],
        locate: Callable[[tuple[object, ...]], Origin],
        report: Report,
        above: tuple[str, ...],
    ) -> _Group:
        """A group that stands in those `above`. Raises FieldError if it cannot."""
        if name in above:
            circle = " > ".join([*above, name])
            raise FieldError(f"the group {name!r} contains itself ({circle})", "remove this member")
        known = self._groups.get(name)
        if len(above) < MOST_GROUP_DEPTH and known is None:
            known = self._resolve(name, groups, locate, report, above)
        if known is None or known.depth >= MOST_GROUP_DEPTH:
            raise FieldError(
                f"the group {name!r} makes groups more than {MOST_GROUP_DEPTH} deep here",
                "name what is meant in fewer steps",
            )
        return known

    def _count(self, members: int) -> None:
        if not self._members.take(members):
            raise FieldError(
                f"the groups of this file hold more than {MOST_ENTRIES:,} adapters and addresses up to here",
                "a member of a group counts in each group around it as well; write prefixes for addresses",
            )

    def adapters(self, pattern: str) -> frozenset[int]:
        """The adapters a pattern or group means. Raises FieldError if there are none."""
        known = self._patterns.get(pattern)
        if known is None:
            known = self._find(pattern)
            if not self._kept.take(len(known)):
                self._patterns.clear()
                self._kept = Budget(used=len(known))
            self._patterns[pattern] = known
        return known

    def _find(self, pattern: str) -> frozenset[int]:
        group = self._group(pattern)
        if group is None:
            if _is_address(pattern):
                raise FieldError(
                    f"{shorten(pattern)} is an address, not an adapter", "name VMs, such as web*"
                )
            return self._match(pattern, self._groups)
        if group.networks:
            raise FieldError(
                f"the group {pattern!r} holds addresses and cannot name adapters",
                f"such as {group.networks[0]}",
            )
        return group.indexes

    def _group(self, text: str) -> _Group | None:
        return self._groups.get(text) or self._groups.get(self._spelling.get(text.lower(), ""))

    def networks(self, text: str) -> Iterator[Network]:
        """The prefixes an address, prefix or group means. Raises FieldError."""
        known = self._addresses.get(text)
        if known is None:
            known = self._addresses[text] = self._prefixes(text)
        return iter(known)

    def _prefixes(self, text: str) -> tuple[Network, ...]:
        group = self._group(text)
        if group is not None:
            found = dict.fromkeys(group.networks)
            for index in sorted(group.indexes):
                adapter = self._adapters[index]
                for address in (
                    *adapter.addresses,
                    *(a for _, tagged in adapter.tagged_addresses for a in tagged),
                ):
                    found[ip_network(address.ip)] = None
            if not found:
                raise FieldError(f"no adapter of the group {text!r} has an address")
            return tuple(found)
        try:
            return (prefix(text),)
        except FieldError as error:
            guess = did_you_mean(text, self._groups)
            if _is_address(text) or not guess:
                groups = f"; groups of this file: {listing(self._groups)}" if self._groups else ""
                raise FieldError(error.message, error.hint + groups) from None
            raise FieldError(f"there is no group {shorten(text)}", guess) from None

    def _guests_like(self, pattern: str) -> list[str]:
        """The guests whose adapters a pattern without a `/` means."""
        management = pattern.lower().startswith(_HOST)
        return matched_by(pattern[len(_HOST) * management :], self._by_guest[management])

    def _match(self, pattern: str, groups: Iterable[str]) -> frozenset[int]:
        management = pattern.lower().startswith(_HOST)
        guest, _, adapter_name = pattern[len(_HOST) * management :].partition("/")
        by_guest = self._by_guest[management]
        candidates = [
            (index, self._adapters[index]) for name in matching(guest, by_guest) for index in by_guest[name]
        ]
        names = {adapter.name for _, adapter in candidates}
        wanted = set(matching(adapter_name, names)) if adapter_name else names
        found = frozenset(index for index, adapter in candidates if adapter.name in wanted)
        if found:
            return found
        if candidates:
            there = list(dict.fromkeys(adapter.name for _, adapter in candidates))
            raise FieldError(
                f"no adapter of {shorten(guest)} matches {shorten(adapter_name)}",
                f"{did_you_mean(adapter_name, there)} its adapters: {listing(there)}".strip(),
            )
        guests = list(by_guest)
        other = matched_by(guest, self._by_guest[not management])
        if other and not management:
            hint = f'{other[0]!r} is a host; its ManagementOS adapters are written "host:{other[0]}"'
        else:
            guess = did_you_mean(guest, [*guests, *groups])
            hint = f"{guess} {'hosts' if management else 'VMs'}: {listing(guests)}".strip()
        raise FieldError(f"{shorten(pattern)} matches no adapter", hint)


def _is_address(text: str) -> bool:
    """Whether a word can only be meant as an address or prefix."""
    head = text.partition("/")[0]
    if head.count(".") == 3 and head.replace(".", "").isdecimal():
        return True
    return head.count(":") >= 2 and all(character in "0123456789abcdefABCDEF:." for character in head)
