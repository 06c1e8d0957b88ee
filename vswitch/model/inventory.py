"""The adapters a policy can name, and its groups.

A pattern is a glob on VM names, with `/` and a glob on adapter names behind it if it is to narrow
them (`web*`, `web01/Network Adapter 2`). ManagementOS adapters are only reached by `host:` before
the pattern, so that `*` never locks a host out. A group is a name for patterns, addresses,
prefixes and other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_network

from vswitch.errors import Origin
from vswitch.model.addresses import prefix
from vswitch.model.problems import FieldError, Report, did_you_mean, listing, shorten
from vswitch.model.site import Adapter
from vswitch.model.types import Network

__all__ = ["Inventory", "Targets"]

_HOST = "host:"


class Targets:
    """A set of adapters, by their index in the site; one object for each distinct set."""

    __slots__ = ("indexes",)

    def __init__(self, indexes: frozenset[int]) -> None:
        self.indexes = indexes


class Inventory:
    """Resolves patterns and addresses of one policy file against the adapters of a site."""

    def __init__(self, adapters: Sequence[Adapter], targets: dict[frozenset[int], Targets]) -> None:
        self._adapters = adapters
        self._targets = targets
        self._by_guest: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
        for index, adapter in enumerate(adapters):
            self._by_guest[adapter.is_management_os].setdefault(adapter.guest, []).append(index)
        self._groups: dict[str, tuple[frozenset[int], tuple[Network, ...]]] = {}
        self._patterns: dict[str, frozenset[int]] = {}
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
            self._resolve(name, groups, locate, report, ())

    def _resolve(
        self,
        name: str,
        groups: Mapping[str, Sequence[str]],
        locate: Callable[[tuple[object, ...]], Origin],
        report: Report,
        above: tuple[str, ...],
    ) -> tuple[frozenset[int], tuple[Network, ...]]:
        if name in self._groups:
            return self._groups[name]
        indexes: set[int] = set()
        networks: dict[Network, None] = {}
        for position, member in enumerate(groups[name]):
            try:
                if member in groups:
                    if member in (*above, name):
                        circle = " > ".join([*above, name, member])
                        raise FieldError(
                            f"the group {member!r} contains itself ({circle})", "remove this member"
                        )
                    inner, addresses = self._resolve(member, groups, locate, report, (*above, name))
                    indexes |= inner
                    networks.update(dict.fromkeys(addresses))
                elif _is_address(member):
                    networks[prefix(member)] = None
                else:
                    indexes |= self._match(member, groups)
            except FieldError as error:
                report.add(locate((name, position)), error.message, error.hint)
        self._groups[name] = frozenset(indexes), tuple(networks)
        return self._groups[name]

    def adapters(self, pattern: str) -> frozenset[int]:
        """The adapters a pattern or group means. Raises FieldError if there are none."""
        known = self._patterns.get(pattern)
        if known is None:
            known = self._patterns[pattern] = self._find(pattern)
        return known

    def _find(self, pattern: str) -> frozenset[int]:
        if pattern not in self._groups:
            if _is_address(pattern):
                raise FieldError(
                    f"{shorten(pattern)} is an address, not an adapter", "name VMs, such as web*"
                )
            return self._match(pattern, self._groups)
        indexes, networks = self._groups[pattern]
        if networks:
            raise FieldError(
                f"the group {pattern!r} holds addresses and cannot name adapters", f"such as {networks[0]}"
            )
        return indexes

    def networks(self, text: str) -> Iterator[Network]:
        """The prefixes an address, prefix or group means. Raises FieldError."""
        known = self._addresses.get(text)
        if known is None:
            known = self._addresses[text] = self._prefixes(text)
        return iter(known)

    def _prefixes(self, text: str) -> tuple[Network, ...]:
        if text in self._groups:
            indexes, networks = self._groups[text]
            found = dict.fromkeys(networks)
            for index in sorted(indexes):
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

    def _match(self, pattern: str, groups: Iterable[str]) -> frozenset[int]:
        management = pattern.lower().startswith(_HOST)
        guest, _, adapter_name = pattern[len(_HOST) * management :].partition("/")
        by_guest = self._by_guest[management]
        candidates = [
            (index, self._adapters[index]) for name in _matching(guest, by_guest) for index in by_guest[name]
        ]
        found = frozenset(
            index
            for index, adapter in candidates
            if not adapter_name or fnmatchcase(adapter.name, adapter_name)
        )
        if found:
            return found
        if candidates:
            names = [adapter.name for _, adapter in candidates]
            raise FieldError(
                f"no adapter of {shorten(guest)} matches {shorten(adapter_name)}",
                f"{did_you_mean(adapter_name, names)} its adapters: {listing(dict.fromkeys(names))}".strip(),
            )
        guests = list(by_guest)
        other = _matching(guest, self._by_guest[not management])
        if other and not management:
            hint = f'{other[0]!r} is a host; its ManagementOS adapters are written "host:{other[0]}"'
        else:
            guess = did_you_mean(guest, [*guests, *groups])
            hint = f"{guess} {'hosts' if management else 'VMs'}: {listing(guests)}".strip()
        raise FieldError(f"{shorten(pattern)} matches no adapter", hint)


def _matching(pattern: str, names: Collection[str]) -> list[str]:
    """The names a glob matches."""
    if any(character in pattern for character in "*?["):
        return [name for name in names if fnmatchcase(name, pattern)]
    return [pattern] if pattern in names else []


def _is_address(text: str) -> bool:
    """Whether a word can only be meant as an address or prefix."""
    head = text.partition("/")[0]
    if head.count(".") == 3 and head.replace(".", "").isdecimal():
        return True
    return head.count(":") >= 2 and all(character in "0123456789abcdefABCDEF:." for character in head)
