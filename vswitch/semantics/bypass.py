"""Denies that do not deny: what ACLs and guards would say to frames that take a virtual function (§1.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vswitch.model.site import PhysicalPort, Site
from vswitch.semantics.cause import Advice, Layer
from vswitch.semantics.journey import Decision, Leg
from vswitch.semantics.network import SwitchPassage
from vswitch.semantics.verdict import Stage, rule_text

__all__ = ["bypassing", "not_denied", "without_virtual_functions"]


def bypassing(legs: Iterable[Leg]) -> frozenset[str]:
    """The adapters, by id, at which a conversation's frames have gone past ACLs and guards."""
    found: set[str] = set()
    for leg in legs:
        for hop in leg.hops:
            ends = [nic.end for nic in (hop.source, hop.target) if nic is not None]
            ports = {
                (passage.place, step.port)
                for passage in hop.result.passages
                if isinstance(passage, SwitchPassage)
                for step in passage.steps
                if step.stage is Stage.VIRTUAL_FUNCTION
            }
            found |= {
                end.id
                for end in ends
                if not isinstance(end, PhysicalPort) and (f"{end.host}/{end.switch}", end.number) in ports
            }
    return frozenset(found)


def without_virtual_functions(site: Site) -> Site:
    """The same site with SR-IOV off: IovWeight 0 everywhere."""
    guests = tuple(
        replace(guest, adapters=tuple(replace(adapter, virtual_function=False) for adapter in guest.adapters))
        for guest in site.guests
    )
    return replace(site, guests=guests)


def not_denied(decision: Decision, adapters: frozenset[str]) -> Advice:
    """What to tell of a conversation that arrives and that `decision` would end without SR-IOV.

    No advice where `decision` is not one of an adapter among `adapters` (see `bypassing`).
    """
    adapter, drop = decision.adapter, decision.drop
    if adapter is None or adapter.id not in adapters:
        return Advice()
    what = f"{drop.direction} rule {rule_text(drop.rule)}" if drop.rule else str(drop.reason)
    return Advice(
        Layer.SR_IOV,
        f"{what} at {adapter.id} would deny the {decision.leg}, but is skipped: the adapter's frames take"
        " a virtual function (SR-IOV) past the switch and its ACLs and guards",
        f"set IovWeight of {adapter.id} to 0",
    )
