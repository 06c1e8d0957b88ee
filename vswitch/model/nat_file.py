"""`nat:` of a host: what users may write, and the NAT network it becomes.

Keys are the parameters of New-NetNat, Set-NetNat and Add-NetNatStaticMapping in snake_case (§6).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema

from vswitch.errors import Origin
from vswitch.model.addresses import prefix
from vswitch.model.claims import Claims, Path
from vswitch.model.fields import EMPTY_LIST, FileModel, Name, integer, one_of, scalar
from vswitch.model.problems import FieldError, listing, shorten
from vswitch.model.site import Guest, Nat, NatFiltering, StaticMapping
from vswitch.model.traffic import port_range_of
from vswitch.model.types import TCP, UDP

__all__ = ["MOST_SECONDS", "NatEntry", "one_nat", "resolve_nat"]

_PROTOCOLS = {"TCP": TCP, "UDP": UDP}


def one_nat(value: Any) -> Any:
    """The one NAT network of a host (§6). Raises FieldError for a list of them."""
    if not isinstance(value, list):
        return value
    if len(value) < 2:
        raise FieldError("found a list where the one NAT network is expected", "leave out the brackets")
    raise FieldError(
        f"a host has one NAT network, found {len(value)}",
        "Windows leaves a host with several undefined; let one prefix cover all its Internal switches",
        (1,),
    )


# --- values --------------------------------------------------------------------------------------


def _ipv4_prefix(value: Any) -> IPv4Network:
    text = scalar(value, "an IPv4 prefix (172.20.0.0/24)")
    network = prefix(value)
    if not isinstance(network, IPv4Network):
        raise FieldError(f"{shorten(text)} is not IPv4", "WinNAT is emulated for IPv4 only")
    return network


def _ipv4(value: Any) -> IPv4Address:
    text = scalar(value, "an IPv4 address").strip()
    try:
        address = ip_address(text)
    except ValueError:
        raise FieldError(f"{shorten(text)} is not an IP address", "allowed: such as 172.20.0.11") from None
    if not isinstance(address, IPv4Address):
        raise FieldError(f"{shorten(text)} is not IPv4", "WinNAT is emulated for IPv4 only")
    return address


def _external_address(value: Any) -> IPv4Address | None:
    """An address, or None for 0.0.0.0, which administrators write with any prefix length."""
    address, slash, length = scalar(value, "an IPv4 address").strip().partition("/")
    if address == "0.0.0.0" and (not slash or length.isdecimal()):
        return None
    return _ipv4(value)


def _port(value: Any, info: ValidationInfo) -> int:
    name = info.data.get("protocol", "TCP")
    ports = port_range_of(scalar(value, "a port or service name"), _PROTOCOLS[name])
    if not ports.first or ports.first != ports.last:
        raise FieldError(f"{shorten(str(ports))} is not one port", "a mapping has one: 1 to 65535, or a name")
    return ports.first


_TEXT = WithJsonSchema({"type": "string"})
_Ipv4Prefix = Annotated[IPv4Network, PlainValidator(_ipv4_prefix), _TEXT]
_Ipv4Address = Annotated[IPv4Address, PlainValidator(_ipv4), _TEXT]
_ExternalAddress = Annotated[IPv4Address | None, PlainValidator(_external_address), _TEXT]
_Port = Annotated[
    int,
    PlainValidator(_port),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}),
]


# --- the file ------------------------------------------------------------------------------------


class StaticMappingEntry(FileModel):
    """A static mapping of a NAT network: Add-NetNatStaticMapping."""

    protocol: Annotated[str, *one_of(tuple(_PROTOCOLS), "a protocol of a mapping")] = Field(
        description="TCP or UDP."
    )
    external_ip_address: _ExternalAddress = Field(
        default=None, description="The host's external address; 0.0.0.0 for every one."
    )
    external_port: _Port = Field(description="Port that machines outside ask for.")
    internal_ip_address: _Ipv4Address = Field(description="The machine behind the NAT.")
    internal_port: _Port | None = Field(
        default=None, description="Its port; the external one if not written."
    )
    remote_external_ip_address_prefix: _Ipv4Prefix | None = Field(
        default=None, description="Whose packets it is for; everybody's if not written."
    )


#: The longest time a file can name.
MOST_SECONDS = 100_000_000
_SECONDS = (1, MOST_SECONDS, "a time in seconds")


class NatEntry(FileModel):
    """The NAT network of a host: New-NetNat, Set-NetNat."""

    name: Name = Field(description="Name of the NAT network.")
    internal_ip_interface_address_prefix: _Ipv4Prefix = Field(
        description="Prefix of the machines behind it, and of the host's address there."
    )
    external_ip_interface_address_prefix: _Ipv4Prefix | None = Field(
        default=None,
        description="Which of the host's addresses it leaves by; all outside if not written.",
    )
    static_mappings: Annotated[tuple[StaticMappingEntry, ...], *EMPTY_LIST] = Field(
        default=(), description="Ports that lead from outside to a machine behind it."
    )
    tcp_filtering_behavior: Annotated[NatFiltering, *one_of(NatFiltering, "a filtering behavior")] = Field(
        default=NatFiltering.ADDRESS_DEPENDENT, description="Whom a TCP session admits."
    )
    udp_filtering_behavior: Annotated[NatFiltering, *one_of(NatFiltering, "a filtering behavior")] = Field(
        default=NatFiltering.ADDRESS_DEPENDENT, description="Whom a UDP session admits."
    )
    icmp_query_timeout: Annotated[int, *integer(*_SECONDS)] = Field(
        default=30, description="Seconds after which an echo's session ends."
    )
    tcp_established_connection_timeout: Annotated[int, *integer(*_SECONDS)] = Field(
        default=1800, description="Seconds of silence that end a TCP session."
    )
    tcp_transient_connection_timeout: Annotated[int, *integer(*_SECONDS)] = Field(
        default=120, description="The same while it opens or closes."
    )
    udp_idle_session_timeout: Annotated[int, *integer(*_SECONDS)] = Field(
        default=120, description="Seconds of silence that end a UDP session."
    )


# --- resolved ------------------------------------------------------------------------------------


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
        _PROTOCOLS[entry.protocol],
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
