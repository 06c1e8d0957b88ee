"""TRAFFIC: what a user asks about, as written on the command line and in `expect`.

Forms: `icmp`, `http` (an IANA service name), `tcp/445`, `udp/53`, `tcp/1024-2048`, `ip/47` (a bare
IP protocol number); TCP and UDP take an optional source port: `tcp/445:50000` (from port 50000).
`icmp` means ICMPv4 or ICMPv6, whichever family the two ends talk.
"""

from __future__ import annotations

from dataclasses import dataclass

from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, PortRange

__all__ = ["Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Parsed TRAFFIC. `protocol` is the IP protocol number (1 stands for either ICMP)."""

    text: str
    protocol: int
    ports: PortRange | None = None  # destination ports; TCP and UDP only
    source_port: int | None = None

    def protocol_for(self, version: int) -> int:
        """The protocol number on the wire for IP version 4 or 6."""
        return ICMPV6 if self.protocol == ICMPV4 and version == 6 else self.protocol

    @property
    def has_ports(self) -> bool:
        """Whether this traffic has ports at all."""
        return self.protocol in (TCP, UDP)

    def __str__(self) -> str:
        return self.text
