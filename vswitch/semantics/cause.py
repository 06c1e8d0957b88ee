"""The shape of an explanation, and words that all of them use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vswitch.model.site import Guest
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP
from vswitch.semantics.frame import ARP
from vswitch.semantics.journey import Failure

__all__ = ["Advice", "Layer", "listening", "powershell_text", "protocol_name", "what_failed"]


class Layer(StrEnum):
    """Where to look."""

    ADDRESS = "address/route"
    SWITCH = "switch"  # the two ends are not on connected switches
    VLAN = "VLAN"
    MAC = "MAC"
    ACL = "ACL"
    GUARD = "guard"
    NAT = "NAT"  # of a host, behind its switch
    FORWARDING = "forwarding"
    LIMIT = "limit"  # StormLimit, MaximumBandwidth
    SERVICE = "service"
    SR_IOV = "SR-IOV"  # frames go past the switch


@dataclass(frozen=True, slots=True)
class Advice:
    """The layer at fault (None: no fault), the cause, and the fix, each one or two sentences."""

    layer: Layer | None = None
    cause: str = ""
    fix: str = ""


def what_failed(failure: Failure) -> str:
    """The frame in a few words, as the subject of a sentence."""
    frame = failure.frame
    assert frame is not None
    if frame.ethertype == ARP:
        return f"ARP for {failure.address}"
    if frame.is_neighbour_discovery:
        return f"neighbour discovery for {failure.address}"
    return frame.summary


def protocol_name(protocol: int) -> str:
    """`tcp`, `udp`, `ICMP`, `protocol 58`, ..."""
    return {TCP: "tcp", UDP: "udp", ICMPV4: "ICMP", ICMPV6: "protocol 58"}.get(
        protocol, f"protocol {protocol}"
    )


def listening(guest: Guest, protocol: int) -> str:
    """What a guest listens on in one protocol, as half a sentence."""
    name = protocol_name(protocol)
    own = sorted(service.port for service in guest.services if service.protocol == protocol)
    if not own:
        return f"it has no {name.upper()} service at all"
    return f"it listens on {', '.join(f'{name}/{port}' for port in own)}"


def powershell_text(text: str) -> str:
    """A PowerShell string that means exactly `text`."""
    return "'" + text.replace("'", "''") + "'"
