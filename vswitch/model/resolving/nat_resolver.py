"""A host's NAT network as the site has it: its entry in the layout, checked against the host (§6)."""

from __future__ import annotations

from ipaddress import IPv4Address

from vswitch.errors import Origin
from vswitch.model.files.nat_file import NAT_PROTOCOLS, NatEntry, StaticMappingEntry
from vswitch.model.problems import listing
from vswitch.model.resolving.claims import Claims, Path
from vswitch.model.site import Guest, Nat, StaticMapping
from vswitch.model.types import TCP

__all__ = ["resolve_nat"]


def resolve_nat(entry: NatEntry, guest: Guest, host: Path, claims: Claims) -> Nat:
    """The NAT of a host whose management OS is `guest`; `host` is the path of the host's own keys.

    Mistakes are put into the claims' report.
    """
    path: Path = (*host, "nat")
    internal, wanted = entry.internal_ip_interface_address_prefix, entry.external_ip_interface_address_prefix
    own = [each.ip for each in guest.addresses if isinstance(each.ip, IPv4Address)]
    outside = [address for address in own if address not in internal]
    external = tuple(address for address in outside if wanted is None or address in wanted)
    if len(outside) == len(own):
        claims.wrong(
            (*path, "internal_ip_interface_address_prefix"),
            f"no address of the management OS of {guest.name!r} is in {internal}",
            f"give its adapter on the Internal switch the guests' gateway, such as {internal[1]}"
            f"/{internal.prefixlen}; it has {listing(own)}"
            if internal.num_addresses > 2
            else f"it has {listing(own)}",
        )
    if wanted is not None and not external:
        claims.wrong(
            (*path, "external_ip_interface_address_prefix"),
            f"no address of the management OS of {guest.name!r} outside of {internal} is in {wanted}",
            f"its addresses outside: {listing(outside)}",
        )
    if guest.forwarding:
        claims.wrong(
            (*host, "management_os", "forwarding"),
            f"{guest.name!r} has a NAT, and a host that routes besides is not emulated",
            "leave out `forwarding` (the NAT needs none) or `nat`",
        )
    nat = Nat(
        name=entry.name,
        origin=claims.at_key(path),
        internal=internal,
        external=external,
        mappings=tuple(
            _mapping(each, claims.at((*path, "static_mappings", index)))
            for index, each in enumerate(entry.static_mappings)
        ),
        tcp_filtering=entry.tcp_filtering_behavior,
        udp_filtering=entry.udp_filtering_behavior,
        icmp_query_timeout=entry.icmp_query_timeout,
        tcp_established_connection_timeout=entry.tcp_established_connection_timeout,
        tcp_transient_connection_timeout=entry.tcp_transient_connection_timeout,
        udp_idle_session_timeout=entry.udp_idle_session_timeout,
    )
    for index, mapping in enumerate(nat.mappings if len(outside) < len(own) else ()):
        _check(mapping, nat, index, guest, (*path, "static_mappings", index), claims)
    return nat


def _mapping(entry: StaticMappingEntry, origin: Origin) -> StaticMapping:
    return StaticMapping(
        origin,
        NAT_PROTOCOLS[entry.protocol],
        entry.external_ip_address,
        entry.external_port,
        entry.internal_ip_address,
        entry.internal_port or entry.external_port,
        entry.remote_external_ip_address_prefix,
    )


def _check(mapping: StaticMapping, nat: Nat, index: int, guest: Guest, path: Path, claims: Claims) -> None:
    """A mapping's addresses are the NAT's, and its port is nobody else's."""
    address, port = mapping.external_address, mapping.external_port
    if address is not None and address not in nat.external:
        claims.wrong(
            (*path, "external_ip_address"),
            f"{address} is not an external address of the NAT {nat.name!r}",
            f"it has {listing(nat.external)}; leave it out for all of them",
        )
    if mapping.internal_address not in nat.internal:
        claims.wrong(
            (*path, "internal_ip_address"),
            f"{mapping.internal_address} is not behind the NAT {nat.name!r}",
            f"its internal prefix is {nat.internal}",
        )
    name = "tcp" if mapping.protocol == TCP else "udp"
    if any(each.protocol == mapping.protocol and each.port == port for each in guest.services):
        claims.wrong(
            (*path, "external_port"),
            f"{name}/{port} is taken: {guest.name!r} itself listens there",
            "choose another external port, or remove the host's own service",
        )
    for other in nat.mappings[:index]:
        if (other.protocol, other.external_port, other.remote) == (
            mapping.protocol,
            port,
            mapping.remote,
        ) and (address is None or other.external_address in (None, address)):
            claims.wrong(
                (*path, "external_port"),
                f"{name}/{port} is mapped twice",
                f"see {other.origin}; one external port leads to one machine",
            )
            break
