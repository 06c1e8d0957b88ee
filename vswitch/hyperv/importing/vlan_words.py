"""VLAN settings of a host's adapters, in the words of a layout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.model.types import Vlan, VlanMode

__all__ = ["ranges", "vlan_of", "vlan_text"]


def vlan_of(adapter: HostAdapter) -> Vlan:
    """The VLAN setting, whichever of the two families of cmdlets set it (§2.2)."""
    if adapter.vlan == Vlan() and adapter.isolation_mode == "Vlan" and 0 < adapter.isolation_id < 4095:
        return Vlan(VlanMode.ACCESS, access=adapter.isolation_id)
    vlan = adapter.vlan
    if vlan.is_private:
        return _private(vlan)
    if vlan.mode is VlanMode.TRUNK and not vlan.allowed and not vlan.native:
        return Vlan()
    return vlan


def _private(vlan: Vlan) -> Vlan:
    """A private VLAN mode a layout can have: with ids, of which no secondary is the primary again."""
    ordinary = Vlan(VlanMode.ACCESS, access=vlan.primary)  # sends and receives on the primary alone
    if not vlan.primary:
        return Vlan()
    if vlan.mode is VlanMode.PROMISCUOUS:
        others = tuple(each for each in vlan.secondaries if each != vlan.primary)
        return replace(vlan, secondaries=others) if others else ordinary
    if vlan.secondary == vlan.primary:
        return ordinary
    return vlan if vlan.secondary else Vlan()


def vlan_text(vlan: Vlan) -> str:
    """What stands behind `vlan:`; the setting is not untagged."""
    match vlan.mode:
        case VlanMode.ACCESS:
            return f"{{access: {vlan.access}}}"
        case VlanMode.TRUNK:
            allowed = vlan.allowed or (vlan.native,)
            return f"{{trunk: {{allowed: {ranges(allowed)}, native: {vlan.native}}}}}"
        case VlanMode.PROMISCUOUS:
            return f"{{promiscuous: {{primary: {vlan.primary}, secondaries: {ranges(vlan.secondaries)}}}}}"
        case _:
            return f"{{{vlan.mode.lower()}: {{primary: {vlan.primary}, secondary: {vlan.secondary}}}}}"


def ranges(numbers: Iterable[int]) -> str:
    """`[1-100, 200]`"""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return f"[{', '.join(str(a) if a == b else f'{a}-{b}' for a, b in spans)}]"
