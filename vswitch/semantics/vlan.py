"""VLAN modes of adapters: which VLAN a frame travels on, and how it leaves (§2.1)."""

from __future__ import annotations

from vswitch.model.site import Adapter
from vswitch.model.types import VlanMode
from vswitch.semantics.frame import TAG_TYPES, Frame
from vswitch.semantics.verdict import DropReason

__all__ = ["filtered_reason", "from_guest", "from_wire", "to_guest", "to_wire"]


def from_guest(adapter: Adapter, frame: Frame) -> int | None:
    """The VLAN on which a guest's frame travels; None when its tag is not permitted.

    A priority tag (VLAN 0) counts as untagged (U16), but no other tag may hide behind it: that one
    would be the first on the next wire. Only a trunk may tag, with an allowed VLAN or its native one.
    """
    if frame.vlan == 0 and frame.ethertype in TAG_TYPES:
        return None
    if not frame.vlan:
        return adapter.vlan.send
    if adapter.vlan.mode is VlanMode.TRUNK and frame.vlan in adapter.vlan.receives:
        return frame.vlan
    return None


def to_guest(adapter: Adapter, frame: Frame, vlan: int) -> Frame:
    """The frame as the guest sees it: tagged on a trunk unless the VLAN is native, else untagged."""
    if adapter.vlan.mode is VlanMode.TRUNK and vlan != adapter.vlan.native:
        return frame.tagged(vlan)
    return frame.tagged(None)


def from_wire(frame: Frame) -> int:
    """The VLAN of a frame on an uplink or between physical switches; 0 is untagged."""
    return frame.vlan or 0


def to_wire(frame: Frame, vlan: int) -> Frame:
    """The frame as it leaves on an uplink."""
    return frame.tagged(vlan or None)


def filtered_reason(adapter: Adapter, vlan: int, sender: Adapter | None) -> DropReason:
    """Why an adapter that does not receive this VLAN does not get a frame sent to its MAC.

    A private VLAN is to blame when the adapter is in one and the frame comes from it: on one of
    the adapter's own primary or secondary VLANs, or from an adapter in a private VLAN mode.
    """
    setting = adapter.vlan
    if setting.is_private:
        family = {setting.primary, setting.secondary, *setting.secondaries} - {0}
        if vlan in family or (sender is not None and sender.vlan.is_private):
            return DropReason.FAILED_PVLAN_SETTING
    return DropReason.FILTERED_VLAN
