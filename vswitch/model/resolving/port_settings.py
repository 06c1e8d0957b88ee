"""Settings of adapters that have no effect, or take it from others (§§1.6, 2; symptoms 23 and 35)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vswitch.model.problems import listing
from vswitch.model.resolving.suspicious import Note
from vswitch.model.site import Adapter, Switch
from vswitch.model.types import PortMirroring, SwitchType
from vswitch.wording import counted

__all__ = ["has_virtual_function", "mirroring_notes", "unfiltered_note", "virtual_function_notes"]

_CURE = "iov_weight: 0 has the switch see its frames"


def virtual_function_notes(adapter: Adapter, iov_weight: int, switch: Switch) -> Iterator[Note]:
    """Warnings about SR-IOV where it cannot be, and about what it undoes."""
    if iov_weight and not adapter.virtual_function:
        why = (
            "the management OS has no virtual functions"
            if adapter.is_management_os
            else f"only an External switch has virtual functions, {switch.id!r} is {switch.type}"
        )
        yield Note(adapter.origin, f"iov_weight of {adapter.id!r} has no effect: {why}")
    if not adapter.virtual_function:
        return
    settings = {
        "dhcp_guard": adapter.dhcp_guard,
        "router_guard": adapter.router_guard,
        "storm_limit": bool(adapter.storm_limit),
        "maximum_bandwidth": bool(adapter.maximum_bandwidth),
        "port_mirroring": adapter.port_mirroring is not PortMirroring.NONE,
    }
    idle = [name for name, is_set in settings.items() if is_set]
    if idle:
        sentence = f"{adapter.id!r} has {listing(idle)} without effect: its frames take a virtual function"
        yield Note(adapter.origin, f"{sentence} (SR-IOV); {_CURE}", "idle")


def has_virtual_function(iov_weight: int, switch: Switch | None, *, management: bool) -> bool:
    """Whether SR-IOV can take an adapter's frames past the switch: of VMs on External switches."""
    return bool(iov_weight) and not management and switch is not None and switch.type is SwitchType.EXTERNAL


def unfiltered_note(adapter: Adapter, entries: int) -> Note:
    """The warning about ACL entries of an adapter whose frames never meet them."""
    return Note(
        adapter.origin,
        f"{adapter.id!r} has"
        f" {counted(entries, 'ACL entry that filters nothing', 'ACL entries that filter nothing')}:"
        " its frames take a virtual function"
        f" (SR-IOV); {_CURE}",
        "unfiltered",
    )


def mirroring_notes(adapters: Sequence[Adapter]) -> Iterator[Note]:
    """Warnings about Sources whose copies nobody gets and Destinations that get none.

    `adapters` are all of the site: Source and Destination have to be on the same switch.
    """
    for mode, other in (
        (PortMirroring.SOURCE, PortMirroring.DESTINATION),
        (PortMirroring.DESTINATION, PortMirroring.SOURCE),
    ):
        partners = [each for each in adapters if each.port_mirroring is other and not each.virtual_function]
        for adapter in adapters:
            if adapter.port_mirroring is not mode or adapter.virtual_function:
                continue
            here = [each for each in partners if _switch(each) == _switch(adapter)]
            if not here:
                elsewhere = listing(dict.fromkeys(f"{each.id} on {_switch(each)}" for each in partners), 3)
                sentence = f"{adapter.id!r} is a mirroring {mode}, but {_switch(adapter)!r} has no {other}"
                hint = f"; copies stay on one switch, and there is only {elsewhere}" if partners else ""
                yield Note(adapter.origin, sentence + hint)
            elif not any(_share_vlan(adapter, each) for each in here):
                yield Note(
                    adapter.origin,
                    f"{adapter.id!r} is a mirroring {mode}, but shares no VLAN with a {other} of its switch;"
                    " a Destination in Trunk mode gets copies of all VLANs it allows",
                )


def _share_vlan(one: Adapter, other: Adapter) -> bool:
    """Whether a Destination receives any VLAN that a Source sends on or receives; in either order."""
    source, destination = (one, other) if one.port_mirroring is PortMirroring.SOURCE else (other, one)
    return bool(destination.vlan.receives & (source.vlan.receives | {source.vlan.send}))


def _switch(adapter: Adapter) -> str:
    return f"{adapter.host}/{adapter.switch}"
