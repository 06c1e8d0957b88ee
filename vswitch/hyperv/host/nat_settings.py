"""A host's NAT networks as Get-NetNat and Get-NetNatStaticMapping tell them (§6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["NAT_SETTINGS", "HostMapping", "HostNat"]

#: What is read of a NAT besides its prefixes.
NAT_SETTINGS = (
    "TcpFilteringBehavior",
    "UdpFilteringBehavior",
    "IcmpQueryTimeout",
    "TcpEstablishedConnectionTimeout",
    "TcpTransientConnectionTimeout",
    "UdpIdleSessionTimeout",
)


@dataclass(frozen=True, slots=True)
class HostMapping:
    """A static mapping as Get-NetNatStaticMapping tells it, all text but the ports."""

    protocol: str
    external_address: str
    external_port: int
    internal_address: str
    internal_port: int
    remote: str = ""

    def __str__(self) -> str:
        outside = f"{self.external_address}:{self.external_port}"
        sender = f" for {self.remote}" if self.remote else ""
        return f"{self.protocol} {outside} to {self.internal_address}:{self.internal_port}{sender}"


@dataclass(frozen=True, slots=True)
class HostNat:
    """A NAT network as Get-NetNat tells it: prefixes as text, `settings` (Set-NetNat's) by name."""

    name: str
    internal: str
    external: str = ""
    mappings: tuple[HostMapping, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join([f"{self.name}: internal prefix {self.internal}", *map(str, self.mappings)])
