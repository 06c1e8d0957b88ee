"""Entries at random, few enough that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from vswitch.acl_entries import ExtendedEntry
from vswitch.model.types import Action, Direction

ADDRESSES = ["ANY", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"]
PORTS = ["ANY", "80", "80-90", "85-1000"]


@st.composite
def extended_entries(draw: st.DrawFn) -> ExtendedEntry:
    protocol = draw(st.sampled_from(["ANY", "TCP", "UDP", "1"]))
    action = draw(st.sampled_from(list(Action)))
    stateful = protocol in ("TCP", "UDP") and action is Action.ALLOW and draw(st.booleans())
    return ExtendedEntry(
        draw(st.sampled_from(list(Direction))),
        draw(st.integers(1, 5)),
        action,
        protocol,
        remote=draw(st.sampled_from(ADDRESSES)),
        local_port=draw(st.sampled_from(PORTS)) if protocol in ("TCP", "UDP") else "ANY",
        stateful=stateful,
        timeout=60 if stateful else 0,
    )
