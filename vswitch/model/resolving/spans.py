"""What an extended entry matches, as ranges of numbers: one entry covers another if all its ranges do."""

from __future__ import annotations

from vswitch.model.types import Network, PortRange

__all__ = ["Match", "Span", "covers", "span_of"]

#: Local and remote address, local and remote port, protocol; None is ANY.
Match = tuple[Network | None, Network | None, PortRange | None, PortRange | None, int | None]
#: First and last of remote addresses, local ports, local addresses, remote ports, protocols and
#: isolation ids, those first that most often differ.
Span = tuple[int, int, int, int, int, int, int, int, int, int, int, int]

_V6 = 1 << 64  # IPv6 addresses are numbered behind all IPv4 addresses
_LAST_ADDRESS = 1 << 130
_LAST = 1 << 33


def span_of(match: Match, isolation_id: int) -> Span:
    """The ranges of one match."""
    local, remote, local_port, remote_port, protocol = match
    return (
        *_addresses(remote),
        *_ports(local_port),
        *_addresses(local),
        *_ports(remote_port),
        *((-1, _LAST) if protocol is None else (protocol, protocol)),
        *((isolation_id, isolation_id) if isolation_id else (-1, _LAST)),
    )


def _addresses(network: Network | None) -> tuple[int, int]:
    if network is None:
        return -1, _LAST_ADDRESS
    offset = _V6 if network.version == 6 else 0
    first = int(network.network_address) + offset
    return first, first + (1 << (network.max_prefixlen - network.prefixlen)) - 1


def _ports(ports: PortRange | None) -> tuple[int, int]:
    return (-1, _LAST) if ports is None else (ports.first, ports.last)


def covers(other: Span, span: Span) -> bool:
    """Whether `other` covers `span` whole."""
    return (
        other[0] <= span[0]
        and span[1] <= other[1]
        and other[2] <= span[2]
        and span[3] <= other[3]
        and other[4] <= span[4]
        and span[5] <= other[5]
        and other[6] <= span[6]
        and span[7] <= other[7]
        and other[8] <= span[8]
        and span[9] <= other[9]
        and other[10] <= span[10]
        and span[11] <= other[11]
    )
