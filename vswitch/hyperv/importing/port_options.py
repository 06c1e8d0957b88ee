"""Limits, priority tags, port mirroring and SR-IOV of a host's adapter in a layout's words (§§1.6, 2)."""

from __future__ import annotations

from collections.abc import Iterable

from vswitch.hyperv.host.host_state import HostAdapter, HostSwitch
from vswitch.model.types import MOST_BITS_A_SECOND, MOST_FRAMES_A_SECOND, PortMirroring, SwitchType

__all__ = ["port_notes", "port_parts"]


def port_parts(adapter: HostAdapter, switch: HostSwitch) -> Iterable[str]:
    """The keys of an adapter for these settings, where they differ from the default."""
    for key, limit, most in _limits(adapter):
        if 0 < limit <= most:
            yield f"{key}: {limit}"
    if adapter.ieee_priority_tag:
        yield "ieee_priority_tag: On"
    if adapter.port_mirroring is not PortMirroring.NONE:
        yield f"port_mirroring: {adapter.port_mirroring}"
    if adapter.virtual_function and not _impossible(adapter, switch):
        yield f"iov_weight: {min(100, max(1, adapter.iov_weight))}"


def port_notes(adapter: HostAdapter, switch: HostSwitch) -> Iterable[str]:
    """What an administrator should know about an adapter's limits and SR-IOV."""
    for key, limit, most in _limits(adapter):
        if not 0 <= limit <= most:
            yield f"{key} {limit} is out of range: left out"
    if not adapter.virtual_function:
        return
    if why := _impossible(adapter, switch):
        yield f"IovWeight {adapter.iov_weight} is left out: {why}"
    elif adapter.virtual_function_active:
        yield "SR-IOV is on: its frames go past the switch and meet no ACLs"
    else:
        yield (
            f"IovWeight is {adapter.iov_weight}, but VFDataPathActive was False: iov_weight: 0 has its ACLs"
            " asked, as on the host at that time"
        )


def _limits(adapter: HostAdapter) -> Iterable[tuple[str, int, int]]:
    """Key in the layout, what the host has, and the most a layout can say."""
    yield "storm_limit", adapter.storm_limit, MOST_FRAMES_A_SECOND
    yield "maximum_bandwidth", adapter.maximum_bandwidth, MOST_BITS_A_SECOND


def _impossible(adapter: HostAdapter, switch: HostSwitch) -> str:
    """Why there can be no virtual function, whatever is asked for; "" if there can."""
    if adapter.is_management_os:
        return "the management OS has no virtual functions"
    if switch.type is not SwitchType.EXTERNAL:
        return f"a switch of type {switch.type} has no virtual functions"
    return "" if switch.iov_enabled else "the switch was made without SR-IOV (IovEnabled is False)"
