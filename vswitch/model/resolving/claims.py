"""What must be unique in a site, and where in the layout each thing stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vswitch.errors import Origin
from vswitch.model.files.address_fields import Address
from vswitch.model.files.yaml_text import Node
from vswitch.model.problems import Report, did_you_mean, listing, shorten
from vswitch.model.types import Interface

__all__ = ["Claims", "Path", "Segment"]

#: Keys and indexes from the top of the file to a value.
Path = tuple[object, ...]
#: A broadcast domain: a network's name or `host/switch`, and a VLAN (0: untagged).
Segment = tuple[str, int]


class Claims:
    """Names, MAC and IP addresses taken so far, and positions of values in one layout."""

    def __init__(self, root: Node, file: str, report: Report) -> None:
        self.root = root
        self.file = file
        self.report = report
        self._names: dict[str, tuple[str, Origin]] = {}  # by the name in lower case
        self._macs: dict[str, Origin] = {}
        self._addresses: dict[tuple[Segment, Address], tuple[str, Origin]] = {}

    def at(self, path: Path) -> Origin:
        """Where the value at `path` stands."""
        node = self.root.find(path)
        return Origin(self.file, node.line, node.column)

    def at_key(self, path: Path) -> Origin:
        """Where the last key of `path` stands."""
        node = self.root.find_key(path)
        return Origin(self.file, node.line, node.column)

    def wrong(self, path: Path, message: str, hint: str = "") -> None:
        """Report a mistake in the value at `path`."""
        self.report.add(self.at(path), message, hint)

    def unknown(self, path: Path, what: str, name: str, known: Iterable[str]) -> None:
        """Report a name that nothing has."""
        known = list(known)
        guess = did_you_mean(name, known)
        self.wrong(
            path,
            f"there is no {what} {shorten(name)}",
            f"{guess}{' ' if guess else ''}known: {listing(known)}",
        )

    def name(self, name: str, path: Path, what: str) -> None:
        """Take a guest's name; its key is at `path`."""
        where = self.at_key(path)
        other, first = self._names.setdefault(name.lower(), (name, where))
        if first is not where:
            taken = "is taken" if other == name else f"differs from {other!r} only in case"
            self.report.add(
                where,
                f"the name {name!r} of {what} {taken}",
                f"VMs, hosts, clients and routers (<network>-gateway) share one name space; see {first}",
            )

    def mac(self, mac: str, where: Origin, hint: str = "") -> None:
        """Take a MAC address."""
        first = self._macs.setdefault(mac, where)
        if first is not where:
            self.report.add(where, f"the MAC address {mac} is taken", hint or f"see {first}")

    def free_mac(self, candidates: Iterator[str], where: Origin) -> str:
        """Take the first free one of some MAC addresses."""
        mac = next(candidate for candidate in candidates if candidate not in self._macs)
        self._macs[mac] = where
        return mac

    def addresses(self, guest: str, segment: Segment, addresses: Iterable[Interface], path: Path) -> None:
        """Take a guest's addresses on one broadcast domain; their list is at `path`."""
        for index, address in enumerate(addresses):
            where = self.at((*path, index))
            owner, first = self._addresses.setdefault((segment, address.ip), (guest, where))
            if first is not where:
                place = f"VLAN {segment[1]} of {segment[0]!r}" if segment[1] else f"{segment[0]!r}, untagged"
                self.report.add(
                    where, f"the address {address.ip} is taken on {place}", f"{owner!r} has it; see {first}"
                )
