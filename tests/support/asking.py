"""Asking the reference about conversations, briefly."""

from __future__ import annotations

from vswitch.model.site import Site
from vswitch.model.traffic import Traffic
from vswitch.model.types import PortRange
from vswitch.semantics.conversation import Conversation, converse

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}


def traffic(text: str) -> Traffic:
    name, _, rest = text.partition("/")
    if name == "ip":
        return Traffic(text, int(rest))
    ports, _, source = rest.partition(":")
    first, _, last = ports.partition("-")
    chosen = PortRange(int(first), int(last or first)) if ports else None
    return Traffic(text, PROTOCOLS[name], chosen, int(source) if source else None)


def ask(site: Site, source: str, destination: str, text: str, *, version: int | None = None) -> Conversation:
    return converse(site, source, destination, traffic(text), version=version)


def by(answer: Conversation) -> str:
    assert answer.decided_by
    drop = answer.decided_by.drop
    return drop.rule.name if drop.rule else str(drop.reason)
