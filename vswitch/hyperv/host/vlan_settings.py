"""VLAN and isolation settings of a host's adapter (§§2.1, 2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vswitch.acl_entries import enum_value
from vswitch.hyperv.host.raw_values import flag_of, list_of, number_of, text_of
from vswitch.json_values import Json
from vswitch.model.types import Vlan, VlanMode

__all__ = ["ISOLATION_MODES", "untold_vlans", "vlan_setting"]

ISOLATION_MODES = ("None", "NativeVirtualSubnet", "ExternalVirtualSubnet", "Vlan")
_VLAN_MODES = ("Untagged", "Access", "Trunk", "Private")
_PRIVATE_MODES = ("", "Isolated", "Community", "Promiscuous")


def vlan_setting(raw: Json) -> Vlan:
    """Get-VMNetworkAdapterVlan as the model's setting (§2.1). Ids that cannot be are left out."""
    if not isinstance(raw, Mapping):
        return Vlan()
    mode = enum_value(raw.get("OperationMode", 0), _VLAN_MODES, "a VLAN mode")

    def number(name: str) -> int:
        found = number_of(raw.get(name))
        return found if 0 < found < 4095 else 0

    def numbers(name: str) -> tuple[int, ...]:
        return tuple(sorted({each for each in map(number_of, list_of(raw.get(name))) if 0 < each < 4095}))

    if mode == 1 and number("AccessVlanId"):
        return Vlan(VlanMode.ACCESS, access=number("AccessVlanId"))
    if mode == 2:
        return Vlan(VlanMode.TRUNK, native=number("NativeVlanId"), allowed=numbers("AllowedVlanIdList"))
    if mode == 3:
        private = enum_value(raw.get("PrivateVlanMode"), _PRIVATE_MODES, "a private VLAN mode")
        primary = number("PrimaryVlanId")
        if private == 3:
            return Vlan(VlanMode.PROMISCUOUS, primary=primary, secondaries=numbers("SecondaryVlanIdList"))
        if private in (1, 2):
            return Vlan(
                VlanMode(_PRIVATE_MODES[private]), primary=primary, secondary=number("SecondaryVlanId")
            )
    return Vlan()


def untold_vlans(vlan: Json, isolation: Mapping[str, Json]) -> Iterable[str]:
    """What of the VLAN setting and of the isolation cannot be said by a Vlan (§§2.1, 2.2)."""
    raw = vlan if isinstance(vlan, Mapping) else {}
    mode = enum_value(raw.get("OperationMode", 0), _VLAN_MODES, "a VLAN mode")
    if mode and vlan_setting(raw) == Vlan():
        known = _VLAN_MODES[mode] if 0 < mode < len(_VLAN_MODES) else mode
        yield f"the VLAN mode {known} has no VLAN id that can be used; taken as untagged"
    names = {2: ("NativeVlanId", "AllowedVlanIdList"), 3: ("SecondaryVlanIdList",)}.get(mode, ())
    ids = [text_of(each) for name in names for each in list_of(raw.get(name))]
    if wrong := [text for text in ids if text != "0" and not 0 < number_of(text) < 4095]:
        yield f"these are no VLAN ids, and left out: {', '.join(wrong)}"
    if enum_value(isolation.get("IsolationMode", 0), ISOLATION_MODES, "an isolation mode") == 3:
        if not flag_of(isolation.get("AllowUntaggedTraffic")):
            yield "AllowUntaggedTraffic is off: the host drops untagged frames, which the lab does not"
        if not 0 <= number_of(isolation.get("DefaultIsolationID")) < 4095:
            yield f"the isolation id {number_of(isolation.get('DefaultIsolationID'))} is no VLAN id; not used"
