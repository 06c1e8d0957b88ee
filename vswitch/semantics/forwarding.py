"""Source-MAC check, learning and the choice of destination ports (§§1.2-1.4)."""

from __future__ import annotations

from dataclasses import dataclass

from vswitch.model.site import Adapter, Site, Switch
from vswitch.semantics._identity import cached_by_identity
from vswitch.semantics.assumptions import Assumption
from vswitch.semantics.frame import Frame, is_multicast
from vswitch.semantics.switch_memory import SwitchState
from vswitch.semantics.verdict import DropReason
from vswitch.semantics.vlan import filtered_reason

__all__ = ["Destinations", "Ports", "destinations", "learn", "ports_of", "source_mac_drops"]


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters of one switch, by OpenFlow port number and by MAC."""

    by_number: dict[int, Adapter]
    by_mac: dict[str, Adapter]


@cached_by_identity
def ports_of(adapters: tuple[Adapter, ...]) -> Ports:
    """Index the adapters of one switch."""
    return Ports(
        {adapter.number: adapter for adapter in adapters}, {adapter.mac: adapter for adapter in adapters}
    )


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where a frame goes, in words and as ports; or, when `ports` is empty, why nowhere.

    `filtered` are the adapters a broadcast passes by because they do not receive its VLAN.
    `stormy`: it is broadcast, multicast or unknown unicast, which a StormLimit counts (§1.3, U11).
    """

    ports: tuple[int, ...]
    text: str
    reason: DropReason | None = None
    dropped_at: int = 0
    filtered: tuple[int, ...] = ()
    assumptions: frozenset[Assumption] = frozenset()
    stormy: bool = False


def source_mac_drops(site: Site, ports: Ports, sender: Adapter | None, frame: Frame) -> DropReason | None:
    """Why a source MAC is refused; `sender` is None for the uplink (§§1.2-1.4).

    A MAC configured on an adapter is pinned to it: no other port of its switch may use it, unless
    it is a sibling's and AllowTeaming is on.
    """
    mac = frame.src_mac
    if is_multicast(mac):
        return DropReason.INVALID_SOURCE_MAC
    if sender is not None:
        if mac == sender.mac:
            return None
        if sender.allow_teaming and any(mac == other.mac for other in site.guest[sender.guest].adapters):
            return None
        if not sender.mac_address_spoofing:
            return DropReason.MAC_SPOOFING
    return DropReason.UNAUTHORIZED_MAC if mac in ports.by_mac else None


def learn(
    switch: Switch,
    ports: Ports,
    sender: Adapter | None,
    frame: Frame,
    vlan: int,
    state: SwitchState,
    now: float,
) -> tuple[SwitchState, str]:
    """The state after a frame was seen, and what was learned in words (§1.2, U3).

    Addresses are learned on the uplink and where spoofing is on. An adapter in a private VLAN mode
    sends on another VLAN than it can be reached on, so its addresses are entered for every VLAN it
    receives.
    """
    mac = frame.src_mac
    if mac in ports.by_mac:
        return state, "a fixed entry: nothing to learn"
    if sender is None:
        port, vlans = switch.uplink, frozenset({vlan})
    elif sender.mac_address_spoofing:
        port = sender.number
        vlans = sender.vlan.receives if sender.vlan.is_private else frozenset({vlan})
    else:
        return state, "MacAddressSpoofing is Off: nothing is learned here"
    after = state.learn(switch, mac, vlans, port, now)
    if any((mac, each) not in after.learned for each in vlans):
        return after, f"max_mac_addresses ({switch.max_mac_addresses}) reached: {mac} is not learned"
    return after, f"{mac} is behind port {port}"


def destinations(
    switch: Switch,
    ports: Ports,
    ingress: int,
    frame: Frame,
    vlan: int,
    state: SwitchState,
    now: float,
) -> Destinations:
    """The ports a frame is sent to, by destination MAC and VLAN (§1.3)."""
    if is_multicast(frame.dst_mac):
        return _flood(switch, ports, ingress, vlan)
    owner = ports.by_mac.get(frame.dst_mac)
    if owner is not None:
        if vlan not in owner.vlan.receives:
            return Destinations(
                (),
                f"{frame.dst_mac} is {owner.id}, which does not receive VLAN {vlan}",
                filtered_reason(owner, vlan, ports.by_number.get(ingress)),
                owner.number,
            )
        return _single(owner.number, ingress, f"{frame.dst_mac} is the MAC of {owner.id}")
    learned = state.port_of(switch, frame.dst_mac, vlan, now)
    if learned is not None:
        return _single(learned, ingress, f"{frame.dst_mac} was learned on port {learned} in VLAN {vlan}")
    return _unknown(switch, ports, ingress, vlan)


def _single(port: int, ingress: int, text: str) -> Destinations:
    if port == ingress:
        return Destinations((), f"{text}, where the frame came from", DropReason.OWN_PORT, port)
    return Destinations((port,), text)


def _flood(switch: Switch, ports: Ports, ingress: int, vlan: int) -> Destinations:
    others = [adapter for number, adapter in ports.by_number.items() if number != ingress]
    receivers = [adapter.number for adapter in others if vlan in adapter.vlan.receives]
    filtered = tuple(adapter.number for adapter in others if vlan not in adapter.vlan.receives)
    uplink = [switch.uplink] if switch.uplink and switch.uplink != ingress else []
    return Destinations(
        (*uplink, *receivers),
        f"to all ports in VLAN {vlan} and the uplink if there is one",
        filtered=filtered,
        stormy=True,
    )


def _unknown(switch: Switch, ports: Ports, ingress: int, vlan: int) -> Destinations:
    receivers = [
        adapter
        for number, adapter in ports.by_number.items()
        if number != ingress and vlan in adapter.vlan.receives
    ]
    spoofing = [adapter.number for adapter in receivers if adapter.mac_address_spoofing]
    uplink = [switch.uplink] if switch.uplink and switch.uplink != ingress else []
    if uplink or spoofing:
        text = "unknown unicast: to the uplink and to adapters with MacAddressSpoofing On"
        return Destinations((*uplink, *spoofing), text, stormy=True)
    return Destinations(
        (),
        "unknown unicast is not delivered to adapters with MacAddressSpoofing Off",
        DropReason.UNKNOWN_UNICAST,
        ingress,
        assumptions=frozenset({Assumption.UNKNOWN_UNICAST}) if receivers else frozenset(),
        stormy=True,
    )
