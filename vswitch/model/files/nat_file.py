"""`nat:` of a host: what users may write, and the NAT network it becomes.

Keys are the parameters of New-NetNat, Set-NetNat and Add-NetNatStaticMapping in snake_case (§6).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema

from vswitch.model.files.address_fields import prefix
from vswitch.model.files.fields import EMPTY_LIST, FileModel, Name, integer, one_of, scalar
from vswitch.model.problems import FieldError, shorten
from vswitch.model.site import NatFiltering
from vswitch.model.traffic import port_range_of
from vswitch.model.types import TCP, UDP

__all__ = [
    "MOST_SECONDS",
    "NAT_PROTOCOLS",
    "NatEntry",
    "one_nat",
]

#: The protocols a static mapping can name.
NAT_PROTOCOLS = {"TCP": TCP, "UDP": UDP}


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
    network = prefix(value, examples="172.20.0.0/24")
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
    text = scalar(value, "a port or service name")
    return port_range_of(text, NAT_PROTOCOLS[name], least=1, single=True).first


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

    protocol: Annotated[str, *one_of(tuple(NAT_PROTOCOLS), "a protocol of a mapping")] = Field(
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
