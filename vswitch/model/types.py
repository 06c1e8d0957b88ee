"""Small value types of the model, in Hyper-V's own words.

Enumeration values are the strings Hyper-V's cmdlets take (hyper-v-facts §§2-4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

__all__ = [
    "TCP",
    "UDP",
    "ICMPV4",
    "ICMPV6",
    "MOST_BITS_A_SECOND",
    "MOST_FRAMES_A_SECOND",
    "Action",
    "AnyAddress",
    "BasicAction",
    "Direction",
    "DropReason",
    "Interface",
    "Network",
    "PortMirroring",
    "PortRange",
    "Side",
    "SwitchType",
    "Vlan",
    "VlanMode",
    "colon_mac",
    "normalise_mac",
]

TCP, UDP, ICMPV4, ICMPV6 = 6, 17, 1, 58
#: What an adapter's StormLimit (uint32) can be at most, and its MaximumBandwidth in a layout.
MOST_FRAMES_A_SECOND, MOST_BITS_A_SECOND = 2**32 - 1, 10**12 - 1

Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface


class SwitchType(StrEnum):
    """What a virtual switch connects (§1.1)."""

    PRIVATE = "Private"  # VMs only
    INTERNAL = "Internal"  # VMs and the management OS
    EXTERNAL = "External"  # VMs, a physical network, and the management OS if allowed


class Direction(StrEnum):
    """Always from the VM's viewpoint: Inbound is towards the VM (§4.2)."""

    INBOUND = "Inbound"
    OUTBOUND = "Outbound"


class Action(StrEnum):
    """What an extended ACL does with a matching packet."""

    ALLOW = "Allow"
    DENY = "Deny"


class BasicAction(StrEnum):
    """What a basic ACL does with a matching packet; Meter only counts bytes (§3.4)."""

    ALLOW = "Allow"
    DENY = "Deny"
    METER = "Meter"


class Side(StrEnum):
    """Which endpoint a basic ACL names. Local is the VM's own address."""

    LOCAL = "Local"
    REMOTE = "Remote"


class AnyAddress(StrEnum):
    """Wildcards of basic ACLs: ANY as an IP address is v4 and v6, ANY as a MAC is every frame."""

    IP = "ANY"
    MAC = "ANY MAC"


class VlanMode(StrEnum):
    """VLAN operation modes of an adapter (§2.1)."""

    UNTAGGED = "Untagged"
    ACCESS = "Access"
    TRUNK = "Trunk"
    ISOLATED = "Isolated"
    COMMUNITY = "Community"
    PROMISCUOUS = "Promiscuous"


class PortMirroring(StrEnum):
    """Mirroring mode of an adapter (§2): what a Source sends or receives is copied to Destinations."""

    NONE = "None"
    SOURCE = "Source"
    DESTINATION = "Destination"


class DropReason(StrEnum):
    """Why a frame ends, in pktmon's words where it has one (hyper-v-facts §8).

    ACL (pktmon's word for it is open question U8), UnknownUnicast, OwnPort, NotConnected and
    PhysicalVlan are this project's own.
    """

    ACL = "ACL"
    DHCP_GUARD = "DhcpGuard"
    ROUTER_GUARD = "RouterGuard"
    INVALID_SOURCE_MAC = "InvalidSourceMac"
    MAC_SPOOFING = "MacSpoofing"
    UNAUTHORIZED_MAC = "UnauthorizedMAC"
    UNAUTHORIZED_VLAN = "UnauthorizedVLAN"
    FILTERED_VLAN = "FilteredVLAN"
    FAILED_PVLAN_SETTING = "FailedPvlanSetting"
    STORM_LIMIT = "StormLimit"
    QOS = "Qos"  # MaximumBandwidth
    UNKNOWN_UNICAST = "UnknownUnicast"  # no port may receive an address nobody has shown
    OWN_PORT = "OwnPort"  # the destination is behind the port the frame came from
    NOT_CONNECTED = "NotConnected"  # the switch's port has no adapter
    PHYSICAL_VLAN = "PhysicalVlan"  # the physical network does not carry this VLAN there


@dataclass(frozen=True, slots=True)
class Vlan:
    """The VLAN setting of an adapter. VLAN 0 stands for untagged."""

    mode: VlanMode = VlanMode.UNTAGGED
    access: int = 0
    native: int = 0  # Trunk: VLAN of the guest's untagged frames
    allowed: tuple[int, ...] = ()  # Trunk: sorted
    primary: int = 0  # private VLAN
    secondary: int = 0  # Isolated, Community
    secondaries: tuple[int, ...] = ()  # Promiscuous: sorted

    @property
    def send(self) -> int:
        """VLAN on which an untagged frame from the guest travels (§2.1 table)."""
        match self.mode:
            case VlanMode.ACCESS:
                return self.access
            case VlanMode.TRUNK:
                return self.native
            case VlanMode.ISOLATED | VlanMode.COMMUNITY:
                return self.secondary
            case VlanMode.PROMISCUOUS:
                return self.primary
            case _:
                return 0

    @property
    def receives(self) -> frozenset[int]:
        """VLANs whose frames reach the guest (§2.1 table)."""
        match self.mode:
            case VlanMode.ACCESS:
                return frozenset({self.access})
            case VlanMode.TRUNK:
                return frozenset(self.allowed) | {self.native}
            case VlanMode.ISOLATED:
                return frozenset({self.primary})
            case VlanMode.COMMUNITY:
                return frozenset({self.primary, self.secondary})
            case VlanMode.PROMISCUOUS:
                return frozenset({self.primary, *self.secondaries})
            case _:
                return frozenset({0})

    @property
    def is_private(self) -> bool:
        """Whether this is one of the private VLAN modes."""
        return self.mode in (VlanMode.ISOLATED, VlanMode.COMMUNITY, VlanMode.PROMISCUOUS)


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """TCP or UDP ports, both ends included."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


_MAC = re.compile(r"[0-9A-F]{12}")


def normalise_mac(text: str) -> str:
    """`00155d010a01`, `00:15:5d:01:0a:01` or `00-15-5D-01-0A-01` as Hyper-V writes it (the last).

    Raises ValueError for anything else.
    """
    digits = re.sub(r"[-:.]", "", text.strip()).upper()
    if not _MAC.fullmatch(digits):
        raise ValueError(f"{text!r} is not a MAC address")
    return "-".join(digits[i : i + 2] for i in range(0, 12, 2))


def colon_mac(mac: str) -> str:
    """Hyper-V's spelling of a MAC as Linux and Open vSwitch write it."""
    return mac.replace("-", ":").lower()
