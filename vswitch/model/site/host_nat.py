"""A host's NAT network and its static mappings (§6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from vswitch.errors import Origin
from vswitch.model.types import (
    TCP,
)

__all__ = ["NatFiltering", "StaticMapping", "Nat"]


class NatFiltering(StrEnum):
    """Whose packets an open NAT session admits beside the answers, in Set-NetNat's words (U12)."""

    ADDRESS_DEPENDENT = "AddressDependentFiltering"  # any port of an address that was sent to
    ENDPOINT_INDEPENDENT = "EndpointIndependentFiltering"  # anybody's


@dataclass(frozen=True, slots=True)
class StaticMapping:
    """One entry of Add-NetNatStaticMapping (§6). `protocol` is TCP (6) or UDP (17).

    `external_address` None stands for every external address of the NAT, `remote` None for every
    sender.
    """

    origin: Origin
    protocol: int
    external_address: IPv4Address | None
    external_port: int
    internal_address: IPv4Address
    internal_port: int
    remote: IPv4Network | None = None

    def __str__(self) -> str:
        name = "tcp" if self.protocol == TCP else "udp"
        return f"{name}/{self.external_port} to {self.internal_address}:{self.internal_port}"


@dataclass(frozen=True, slots=True)
class Nat:
    """The NAT network of a host, as New-NetNat makes it (§6). Timeouts are in seconds.

    `external` are the management OS's addresses by which it leaves: of several on one interface the
    first is used.
    """

    name: str
    origin: Origin
    internal: IPv4Network
    external: tuple[IPv4Address, ...]
    mappings: tuple[StaticMapping, ...] = ()
    tcp_filtering: NatFiltering = NatFiltering.ADDRESS_DEPENDENT
    udp_filtering: NatFiltering = NatFiltering.ADDRESS_DEPENDENT
    icmp_query_timeout: int = 30
    tcp_established_connection_timeout: int = 1800
    tcp_transient_connection_timeout: int = 120
    udp_idle_session_timeout: int = 120

    def has_inside(self, address: object) -> bool:
        """Whether an address (of either IP version) is one of the internal prefix."""
        return isinstance(address, IPv4Address) and address in self.internal
