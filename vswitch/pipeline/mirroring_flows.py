"""Port mirroring as flows: copies of what Sources send and receive, for each Destination (§§1.6, 2; U17).

A frame is copied once, however many Sources it meets: MIRRORED says that it has been. Frames to group
addresses are not copied at all, because a flood reaches every adapter that receives their VLAN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vswitch.model.site import Adapter
from vswitch.model.types import DropReason, PortMirroring
from vswitch.pipeline.flow import Flow, Purpose
from vswitch.pipeline.match import join
from vswitch.pipeline.tables import Table

__all__ = ["COPY_ALL", "NOT_MIRRORED", "mirror_flows", "mirrors"]

_UNICAST = "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00"
_MIRRORED, NOT_MIRRORED = "reg7=1", "reg7=0"
#: A copy for every Destination, of a frame that has no destination of its own yet (reg1 is 0).
COPY_ALL = f"resubmit(,{Table.MIRROR:d}),set_field:1->reg7"


def mirrors(adapters: Iterable[Adapter]) -> tuple[list[Adapter], list[Adapter]]:
    """The Sources and Destinations among the adapters of one switch; both empty if either is missing.

    The switch does not see the frames of an adapter with a virtual function.
    """
    seen = [adapter for adapter in adapters if not adapter.virtual_function]
    sources = [adapter for adapter in seen if adapter.port_mirroring is PortMirroring.SOURCE]
    destinations = [adapter for adapter in seen if adapter.port_mirroring is PortMirroring.DESTINATION]
    return (sources, destinations) if sources and destinations else ([], [])


def mirror_flows(adapters: Sequence[Adapter], vlan_matches: dict[str, list[str]]) -> Iterator[Flow]:
    """All flows of mirroring but those of flooded unicast; none where nothing is mirrored.

    `vlan_matches` has for each Destination, by its id, matches that cover the VLANs it receives.
    """
    sources, destinations = mirrors(adapters)
    for source in sources:
        yield Flow(
            Table.LEARN,
            30,
            join(f"reg0={source.number}", NOT_MIRRORED, _UNICAST),
            f"{COPY_ALL},resubmit(,{Table.LEARN:d})",
            adapter=source.id,
            note="copies of what a Source sends",
        )
        yield Flow(
            Table.DELIVER,
            15,
            join(f"reg1={source.number}", NOT_MIRRORED, _UNICAST),
            f"clone(set_field:0->reg1,resubmit(,{Table.MIRROR:d})),set_field:0->reg3,goto_table:{Table.INBOUND_STATE:d}",
            adapter=source.id,
            note="copies of what a Source receives",
        )
    for destination in destinations:
        port = f"reg1={destination.number}"
        yield _silent(Table.DELIVER, 25, join(port, _MIRRORED), destination, "it has got its copy")
        own = join(port, f"reg0={destination.number}")
        yield _silent(Table.MIRROR, 30, own, destination, "not back to the port it came from")
        for vlan in vlan_matches[destination.id]:
            yield Flow(
                Table.MIRROR,
                20,
                join(port, vlan),
                f"set_field:0->reg3,resubmit(,{Table.INBOUND_STATE:d})",
                adapter=destination.id,
                note="a copy",
            )
        yield Flow(
            Table.MIRROR,
            10,
            port,
            "drop",
            Purpose.DROP,
            reason=DropReason.FILTERED_VLAN,
            adapter=destination.id,
            note="a copy of another VLAN",
        )
    if destinations:
        copies = (
            f"clone(set_field:{each.number}->reg1,resubmit(,{Table.MIRROR:d}))" for each in destinations
        )
        yield Flow(Table.MIRROR, 0, "reg1=0", ",".join(copies), note="a copy for each Destination")


def _silent(table: Table, priority: int, match: str, adapter: Adapter, note: str) -> Flow:
    """The end of a copy that nobody would miss."""
    return Flow(table, priority, match, "drop", adapter=adapter.id, note=note)
