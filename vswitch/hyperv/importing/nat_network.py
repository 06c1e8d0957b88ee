"""A host's NAT network, as Get-NetNat and Get-NetNatStaticMapping tell it, for a layout (§6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_address, ip_network

from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.hyperv.host.nat_settings import HostMapping, HostNat
from vswitch.model.files.nat_file import MOST_SECONDS, NatEntry
from vswitch.model.types import Interface, Network

__all__ = ["ImportedNat", "Untold", "first_nat"]

_PROTOCOLS = {"TCP": "TCP", "6": "TCP", "UDP": "UDP", "17": "UDP"}
_TIMES = {
    "IcmpQueryTimeout": "icmp_query_timeout",
    "TcpEstablishedConnectionTimeout": "tcp_established_connection_timeout",
    "TcpTransientConnectionTimeout": "tcp_transient_connection_timeout",
    "UdpIdleSessionTimeout": "udp_idle_session_timeout",
}
_FILTERING = {
    "TcpFilteringBehavior": "tcp_filtering_behavior",
    "UdpFilteringBehavior": "udp_filtering_behavior",
}

#: The start of a line of the layout, and the value that ends it ("" for none).
Line = tuple[str, str]
#: What a layout cannot have, and why.
Untold = tuple[str, str]


def first_nat(nats: Sequence[HostNat]) -> tuple[ImportedNat | None, list[Untold]]:
    """The NAT that goes into the layout, and what becomes of the others."""
    found: ImportedNat | None = None
    untold: list[Untold] = []
    for nat in nats:
        prefix = _prefix(nat.internal)
        if found is not None:
            why = "left out: Windows leaves a host with several NAT networks in an undefined state"
            untold.append((f"NAT {nat}", why))
        elif isinstance(prefix, IPv4Network):
            found = ImportedNat(nat, prefix)
        else:
            why = f"left out: its internal prefix {nat.internal or '(none)'} is no IPv4 prefix"
            untold.append((f"NAT {nat}", why))
    return found, untold


@dataclass(slots=True)
class ImportedNat:
    """One NAT network under import. `gateways` are the host's addresses in it, by switch id."""

    nat: HostNat
    prefix: IPv4Network
    gateways: dict[str, IPv4Interface] = field(default_factory=dict)

    def with_inside(
        self, own: list[HostAdapter], internal: Sequence[HostAdapter], every: Iterable[HostAdapter]
    ) -> tuple[list[HostAdapter], list[Untold]]:
        """The host's adapters `own`, one of them with an address behind the NAT.

        A host does not always tell its own addresses. Then the prefix's first is assumed, of the
        adapters on Internal switches at the one whose switch has guests behind the NAT.
        """
        behind = [each for each in every if any(map(self._has, each.addresses))]
        if any(each.is_management_os for each in behind):
            return own, []
        first = str(self.prefix[min(1, self.prefix.num_addresses - 1)])
        switches = {each.switch_id for each in behind}
        chosen = min(internal, key=lambda each: each.switch_id not in switches, default=None)
        if chosen is None or any(first in each.addresses for each in behind):
            return own, []
        changed = replace(chosen, addresses=(*chosen.addresses, first))
        why = f"the host's address there is not told; {first} on {chosen.name} is assumed"
        return [changed if each is chosen else each for each in own], [(f"NAT {self.nat.name}", why)]

    def _has(self, text: str) -> bool:
        address = _address(text)
        return address is not None and address in self.prefix

    def interface(self, address: IPv4Address | IPv6Address | None, switch: str) -> Interface | None:
        """An address with the prefix length of the host's own on that switch, or else the NAT's.

        None if it is not one of an interface there.
        """
        gateway = self.gateways.get(switch)
        network = gateway.network if gateway and address in gateway.network else self.prefix
        if not isinstance(address, IPv4Address) or address not in network:
            return None
        if network.num_addresses > 2 and address in (network[0], network[-1]):
            return None
        return IPv4Interface(f"{address}/{network.prefixlen}")

    def gateway_of(self, written: Sequence[tuple[str, Interface]]) -> str:
        """The gateway of a guest with these addresses (each with its switch's id); "" if not this host."""
        for switch, own in written:
            gateway = self.gateways.get(switch)
            if gateway is not None and own.ip in self.prefix and own.network == gateway.network:
                return str(gateway.ip) if own.ip != gateway.ip else ""
        return ""

    def written(self, own: Sequence[tuple[str, Interface]]) -> tuple[list[Line], list[tuple[str, str]]]:
        """The lines of `nat:`, and what it cannot have with the reason; `own` are the host's addresses."""
        nat, untold = self.nat, list[tuple[str, str]]()
        ours = [(switch, each) for switch, each in own if isinstance(each, IPv4Interface)]
        for switch, each in ours:
            if each.ip in self.prefix:
                self.gateways.setdefault(switch, each)
        if not self.gateways:
            return [], [(f"NAT {nat}", f"left out: the host has no address in {self.prefix}")]
        lines: list[Line] = [
            ("    nat:", ""),
            ("      name: ", _name(nat.name)),
            ("      internal_ip_interface_address_prefix: ", str(self.prefix)),
        ]
        outside = [each.ip for _, each in ours if each.ip not in self.prefix]
        leaving = _prefix(nat.external)
        if leaving is not None and not leaving.prefixlen:  # every address
            leaving = None
        elif isinstance(leaving, IPv4Network) and any(each in leaving for each in outside):
            lines.append(("      external_ip_interface_address_prefix: ", str(leaving)))
            outside = [each for each in outside if each in leaving]
        elif nat.external:
            untold.append((f"NAT {nat.name}", f"no known address of the host is in {nat.external}"))
        if not outside:
            untold.append((f"NAT {nat.name}", "the host has no known IPv4 address outside: nothing gets out"))
        lines += self._settings()
        mappings: list[Line] = []
        taken: list[_Key] = []
        for mapping in nat.mappings:
            key = _key(mapping)
            why = _unfit(mapping, key, self.prefix, outside)
            same = [other[3] for other in taken if other[:3] == key[:3]]
            if not why and same and (key[3] is None or key[3] in same or None in same):
                why = "another mapping has its port"
            if why:
                untold.append((f"NAT {nat.name}, static mapping {mapping}", f"left out: {why}"))
                continue
            taken.append(key)
            mappings.append((f"        - {{{', '.join(_parts(mapping, key))}}}", ""))
        if mappings:
            lines += [("      static_mappings:", ""), *mappings]
        return lines, untold

    def _settings(self) -> Iterator[Line]:
        """What differs from the defaults."""
        for name, key in _FILTERING.items():
            if "endpoint" in self.nat.settings.get(name, "").lower():
                yield f"      {key}: ", "EndpointIndependentFiltering"
        for name, key in _TIMES.items():
            text = self.nat.settings.get(name, "")
            default = NatEntry.model_fields[key].default
            if text.isdecimal() and 0 < int(text) <= MOST_SECONDS and int(text) != default:
                yield f"      {key}: ", str(int(text))


#: Protocol, external port, whose packets it is for (None: everybody's), external address (None: all).
_Key = tuple[str, int, Network | None, IPv4Address | None]


def _key(mapping: HostMapping) -> _Key:
    """What sets a mapping apart from others."""
    external, remote = _address(mapping.external_address), _prefix(mapping.remote)
    return (
        _PROTOCOLS.get(mapping.protocol.upper(), ""),
        mapping.external_port,
        remote if remote is not None and remote.prefixlen else None,
        None if external is None or external.is_unspecified else external,
    )


def _unfit(mapping: HostMapping, key: _Key, prefix: IPv4Network, outside: Sequence[IPv4Address]) -> str:
    """Why a mapping cannot be written; "" if it can."""
    protocol, port, _, external = key
    internal = _address(mapping.internal_address)
    if not protocol or not 0 < port < 65536 or not 0 <= mapping.internal_port < 65536:
        return "only TCP and UDP ports can be mapped"
    if internal is None or internal not in prefix:
        return f"{mapping.internal_address} is not behind the NAT"
    if external is not None and external not in outside:
        return f"{external} is no known address of the host"
    if mapping.remote and not isinstance(_prefix(mapping.remote), IPv4Network):
        return f"{mapping.remote} is no IPv4 prefix"
    return ""


def _parts(mapping: HostMapping, key: _Key) -> Iterator[str]:
    """The keys of a mapping in a layout."""
    protocol, port, remote, external = key
    yield f"protocol: {protocol}"
    if external is not None:
        yield f"external_ip_address: {external}"
    yield f"external_port: {port}"
    yield f"internal_ip_address: {_address(mapping.internal_address)}"
    if mapping.internal_port not in (0, port):
        yield f"internal_port: {mapping.internal_port}"
    if remote is not None:
        yield f"remote_external_ip_address_prefix: {remote}"


def _address(text: str) -> IPv4Address | None:
    """An IPv4 address, which Windows may tell with a prefix length."""
    try:
        address = ip_address(text.partition("/")[0])
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else None


def _name(text: str) -> str:
    """A name the layout can hold, as close to `text` as can be."""
    plain = "".join(each if each.isprintable() and each != "/" else "-" for each in text)
    return plain.strip()[:90].strip() or "nat"


def _prefix(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False) if text else None
    except ValueError:
        return None
