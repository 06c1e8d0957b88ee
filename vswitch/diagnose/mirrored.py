"""Which mirroring Destinations get copies of a conversation's packets, and what stops others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vswitch.model.site import Adapter, Site
from vswitch.semantics.conversation import Conversation
from vswitch.semantics.network import SwitchPassage
from vswitch.semantics.verdict import Stage

__all__ = ["Mirrored", "mirrored"]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One Destination: how many of the conversation's packets are copied to it, ARP and the like left out.

    `stopped_by` are the rules or reasons that end copies for it, each once.
    """

    adapter: Adapter
    copies: int
    stopped_by: tuple[str, ...]


def mirrored(site: Site, conversation: Conversation) -> tuple[Mirrored, ...]:
    """The Destinations for which a conversation's packets are copied, in the order met."""
    found: dict[str, Mirrored] = {}
    for passage, port in _copies(conversation):
        adapter = next(each for each in site.adapters_of(passage.switch) if each.number == port)
        known = found.get(adapter.id, Mirrored(adapter, 0, ()))
        drops = [drop for drop in passage.drops if port in drop.ports]
        stopped = [drop.rule.name if drop.rule else str(drop.reason) for drop in drops]
        found[adapter.id] = Mirrored(
            adapter,
            known.copies + (port in passage.result.outputs),
            tuple(dict.fromkeys((*known.stopped_by, *stopped))),
        )
    return tuple(found.values())


def _copies(conversation: Conversation) -> Iterator[tuple[SwitchPassage, int]]:
    """Where packets of the conversation are copied, and the Destination's port there."""
    for leg in conversation.legs:
        for hop in leg.packets:
            for passage in hop.result.passages:
                if isinstance(passage, SwitchPassage):
                    for step in passage.steps:
                        if step.stage is Stage.MIRRORING:
                            yield passage, step.port
