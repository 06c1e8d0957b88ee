"""Port mirroring: who gets a copy of a frame beside its destinations (§§1.6, 2; U17)."""

from __future__ import annotations

from collections.abc import Iterator

from vswitch.model.site import Adapter
from vswitch.model.types import PortMirroring
from vswitch.semantics.forwarding import Destinations, Ports

__all__ = ["mirror_destinations"]


def mirror_destinations(ports: Ports, ingress: int, where: Destinations) -> Iterator[tuple[int, str]]:
    """The ports that mirroring adds to a frame's destinations, with what each copy is, in words.

    A Source has sent the frame, or is among the destinations `where` that forwarding chose. Each
    Destination gets it once: none does that gets it anyway, that a flood has passed by because of
    its VLAN, or that has sent it. Frames on a virtual function are not seen by the switch.
    """
    sender = ports.by_number.get(ingress)
    if sender is not None and _mirrors(sender, PortMirroring.SOURCE):
        text = f"a copy of what {sender.id} sends"
    else:
        receivers = (ports.by_number[port] for port in where.ports if port in ports.by_number)
        source = next((each for each in receivers if _mirrors(each, PortMirroring.SOURCE)), None)
        if source is None:
            return
        text = f"a copy of what {source.id} receives"
    settled = {ingress, *where.ports, *where.filtered}
    for number, adapter in ports.by_number.items():
        if number not in settled and _mirrors(adapter, PortMirroring.DESTINATION):
            yield number, text


def _mirrors(adapter: Adapter, mode: PortMirroring) -> bool:
    return adapter.port_mirroring is mode and not adapter.virtual_function
