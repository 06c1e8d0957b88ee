"""What meters have dropped: as counters, and in words."""

from __future__ import annotations

from dataclasses import replace

from vswitch.model.site import Site
from vswitch.model.types import DropReason
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import Flow, SwitchProgram
from vswitch.semantics.advice_limits import limited
from vswitch.semantics.cause import Advice

__all__ = ["count_packets", "limited_by"]


def count_packets(client: SwitchClient, program: SwitchProgram) -> dict[int, tuple[int, int]]:
    """Cookie to (packets, bytes), exact, over the flows that `program` has put into its switch.

    A flow with a meter counts the meter's drops: it is given what the meter has dropped, not what
    it was handed.
    """
    bridge = program.switch.bridge
    client.settle()
    found = client.counters(bridge)
    if program.meters:
        drops = client.meter_drops(bridge)
        for cookie, flow in program.flows.items():
            if flow.meter:
                found[cookie] = drops.get(flow.meter, (0, 0))
    return found


def limited_by(site: Site, flow: Flow, packets: int, *, now: bool) -> Advice:
    """What to tell about a flow whose meter has dropped so many packets: just now, or since it was made."""
    adapter = next(adapter for adapter in site.adapters if adapter.id == flow.adapter)
    advice = limited(adapter, DropReason(flow.reason), past=not now)
    return replace(advice, cause=f"{advice.cause}: {packets} dropped {'meanwhile' if now else 'so far'}")
