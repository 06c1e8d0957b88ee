"""Hyper-V hosts with their virtual switches, and the physical networks between them."""

from __future__ import annotations

from dataclasses import dataclass

from vswitch.errors import Origin
from vswitch.model.types import (
    SwitchType,
)

__all__ = ["Switch", "Host", "PhysicalNetwork"]


@dataclass(frozen=True, slots=True)
class Switch:
    """A virtual switch of one host.

    `bridge` is the Open vSwitch bridge on the host's own instance (`br0`, ...), `datapath_id` its
    OpenFlow datapath id, unique in the site.
    `network` is the physical network behind an External switch, else "". `uplink` is the OpenFlow
    port of the uplink on the host's instance (External only, else 0). `aging_time` in seconds and
    `max_mac_addresses` bound the learned entries (§1.2).
    """

    host: str
    name: str
    type: SwitchType
    origin: Origin
    bridge: str
    datapath_id: int
    network: str = ""
    uplink: int = 0
    allow_management_os: bool = False
    aging_time: int = 300
    max_mac_addresses: int = 4096

    @property
    def id(self) -> str:
        """`hv01/vs-lan`: unique in the site."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True)
class Host:
    """A Hyper-V host: its switches by name, in file order."""

    name: str
    origin: Origin
    switches: tuple[Switch, ...] = ()


@dataclass(frozen=True, slots=True)
class PhysicalNetwork:
    """A VLAN-aware physical switch that joins uplinks, clients and a gateway.

    `vlans` lists the VLANs it carries besides untagged (0).
    """

    name: str
    origin: Origin
    vlans: tuple[int, ...] = ()
