"""MAC and IP addresses in users' files: readers and JSON Schema, like fields.py."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv6Address,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from vswitch.model.files.fields import Schema, scalar
from vswitch.model.problems import FieldError, shorten
from vswitch.model.types import Interface, Network, normalise_mac

__all__ = ["Address", "InterfaceAddress", "Mac", "NextHop", "NextHops", "Prefix", "any_mac", "prefix"]

Address = IPv4Address | IPv6Address


def _mac(value: Any) -> str:
    text = scalar(value, "a MAC address")
    try:
        mac = normalise_mac(text)
    except ValueError:
        raise FieldError(
            f"{shorten(text)} is not a MAC address", "write twelve hexadecimal digits: 00-15-5D-01-0A-01"
        ) from None
    if mac == "00-00-00-00-00-00":
        raise FieldError(
            f"{mac} cannot be an adapter's address", "leave `mac` out for one from the host's pool"
        )
    if int(mac[:2], 16) & 1:
        raise FieldError(f"{mac} is a multicast address", "an adapter's first octet is even")
    return mac


def any_mac(value: Any) -> str:
    """A MAC address of an ACL: any 48 bits."""
    text = scalar(value, "a MAC address")
    try:
        return normalise_mac(text)
    except ValueError:
        raise FieldError(
            f"{shorten(text)} is not a MAC address",
            "allowed: ANY or twelve hexadecimal digits such as 00-15-5D-01-0A-01",
        ) from None


# YAML 1.1 reads 52:54:00:12:34:56 as a number in base 60 and 001122334455 as one in base 8 or 10.
_MAC_SCHEMA: Schema = {"type": ["string", "integer", "number"]}
Mac = Annotated[str, PlainValidator(_mac), WithJsonSchema(_MAC_SCHEMA)]


def _plain_address(value: Any) -> Address:
    text = scalar(value, "an IP address").strip()
    try:
        address = ip_address(text)
    except ValueError:
        raise FieldError(f"{shorten(text)} is not an IP address", _address_hint(text)) from None
    _no_scope(address, text)
    return address


def _no_scope(address: object, text: str) -> None:
    if "%" in text:
        raise FieldError(f"{shorten(text)} names an interface", "leave out the % and what follows")


def _address_hint(text: str) -> str:
    if "/" in text:
        return "leave out the prefix length"
    return "allowed: such as 10.0.10.1 or 2001:db8:10::1"


def _interface(value: Any) -> Interface:
    text = scalar(value, "an address with its prefix length (10.0.10.11/24)").strip()
    try:
        interface = ip_interface(text)
    except ValueError:
        raise FieldError(
            f"{shorten(text)} is not an address with prefix length",
            "such as 10.0.10.11/24 or 2001:db8:10::11/64",
        ) from None
    _no_scope(interface, text)
    if "/" not in text:
        length = 64 if interface.version == 6 else 24
        raise FieldError(f"{shorten(text)} has no prefix length", f"write it as {interface.ip}/{length}")
    host, network = interface.ip, interface.network
    if host.is_multicast or host.is_unspecified or host.is_loopback:
        raise FieldError(f"{host} cannot be the address of an interface")
    if network.num_addresses > 2:
        if host == network.network_address:
            raise FieldError(
                f"{interface} is the network's own address, not an interface's",
                f"the first one for an interface is {network.network_address + 1}",
            )
        if interface.version == 4 and host == network.broadcast_address:
            raise FieldError(
                f"{interface} is the broadcast address of its network",
                f"the last one for an interface is {network.broadcast_address - 1}",
            )
    return interface


def prefix(value: Any, *, examples: str = "10.0.10.0/24, 10.0.10.5 or 2001:db8::/32") -> Network:
    """An address or a prefix; host bits must be zero. `examples` of what is allowed go into messages."""
    text = scalar(value, "an address or prefix").strip()
    try:
        network = ip_network(text)
    except ValueError:
        try:
            interface: Interface = ip_interface(text)
        except ValueError:
            raise FieldError(
                f"{shorten(text)} is not an address or prefix",
                f"such as {examples}",
            ) from None
        raise FieldError(
            f"{text} has bits set behind its prefix length",
            f"write {interface.network} for the network or {interface.ip} for the one address",
        ) from None
    _no_scope(network, text)
    return network


_TEXT: Schema = {"type": "string"}
InterfaceAddress = Annotated[Interface, PlainValidator(_interface), WithJsonSchema(_TEXT)]
Prefix = Annotated[Network, PlainValidator(prefix), WithJsonSchema(_TEXT)]


def _next_hops(value: Any) -> tuple[Address, ...]:
    """Addresses of default routers, `none` for none; at most one of each family."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return ()
    found: list[Address] = []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        path = (index,) if isinstance(value, list) else ()
        try:
            address = _plain_address(item)
        except FieldError as error:
            raise error.under(*path) from None
        if any(address.version == other.version for other in found):
            raise FieldError(f"a second IPv{address.version} gateway, {address}", "one of each family", path)
        found.append(address)
    return tuple(found)


NextHops = Annotated[
    tuple[Address, ...],
    PlainValidator(_next_hops),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
]
NextHop = Annotated[Address, PlainValidator(_plain_address), WithJsonSchema(_TEXT)]
