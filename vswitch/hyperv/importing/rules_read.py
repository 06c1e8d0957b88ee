"""Entries read from a host as rules of a policy file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

from vswitch.acl_entries import ANY, ANY_MAC, BasicEntry, Entry, ExtendedEntry, describe
from vswitch.model.types import BasicAction

__all__ = ["cannot_be_written", "rule_name", "rule_parts", "with_any"]


def with_any(entries: Iterable[Entry]) -> Iterable[Entry]:
    """The pair of basic entries that stands for ANY as one again."""
    found = list(entries)
    pairs = {"0.0.0.0/0": "::/0", "::/0": "0.0.0.0/0"}
    present = set(found)
    for entry in found:
        half = pairs.get(entry.address) if isinstance(entry, BasicEntry) else None
        if half is None or not isinstance(entry, BasicEntry) or entry._replace(address=half) not in present:
            yield entry
        elif half == "::/0":
            yield entry._replace(address=ANY)


def cannot_be_written(entry: Entry) -> str:
    """Why a policy cannot hold an entry that a host has; "" if it can."""
    if isinstance(entry, BasicEntry):
        return "a Meter entry for a MAC address" if entry.is_mac and entry.action is BasicAction.METER else ""
    if not 1 <= entry.weight <= 65535:
        return "the weight is not from 1 to 65535"
    has_ports = entry.local_port != ANY or entry.remote_port != ANY
    if has_ports and entry.protocol not in ("TCP", "UDP"):
        return "it names ports without TCP or UDP (U15)"
    if entry.stateful and (entry.protocol not in ("TCP", "UDP") or entry.action != "Allow"):
        return "it is stateful without Allow and TCP or UDP; Hyper-V would not start the VM"
    if entry.stateful and not 0 < entry.timeout <= 65535:
        return f"its idle timeout is {entry.timeout}"
    if ANY not in (entry.local, entry.remote) and (":" in entry.local) != (":" in entry.remote):
        return "its addresses are of different IP versions"
    return ""


def rule_name(entry: Entry) -> str:
    """A name made from nothing but the entry, so that importing again gives the same."""
    side = "in" if entry.direction == "Inbound" else "out"
    if isinstance(entry, BasicEntry):
        parts = [side, str(entry.action), str(entry.side), entry.address]
    else:
        parts = [side, str(entry.weight), str(entry.action)]
        if entry.protocol != ANY:
            parts.append({"1": "icmp", "58": "icmpv6"}.get(entry.protocol, entry.protocol))
        parts += [text for text in (entry.local_port, entry.remote_port) if text != ANY]
        parts += [text for text in (entry.local, entry.remote) if text != ANY]
    name = re.sub(r"[^a-z0-9.-]+", "-", "-".join(parts).lower()).strip("-.")
    if isinstance(entry, ExtendedEntry):
        name += f"-{hashlib.sha256(describe(entry).encode()).hexdigest()[:4]}"
    return name


def rule_parts(entry: Entry) -> Iterable[str]:
    """The keys of an entry in a policy file, without name and adapters."""
    yield f"direction: {entry.direction}"
    yield f"action: {entry.action}"
    if isinstance(entry, BasicEntry):
        kind = "mac" if entry.is_mac else "ip"
        address = ANY if entry.address == ANY_MAC else entry.address
        yield f"{entry.side.lower()}_{kind}_address: {json.dumps(address) if ':' in address else address}"
        return
    yield f"weight: {entry.weight}"
    for key, text in (
        ("protocol", entry.protocol),
        ("local_port", entry.local_port),
        ("remote_port", entry.remote_port),
        ("local_ip_address", entry.local),
        ("remote_ip_address", entry.remote),
    ):
        if text != ANY:
            yield f"{key}: {json.dumps(text) if ':' in text else text}"
    if entry.stateful:
        yield f"stateful: true, idle_session_timeout: {entry.timeout}"
    if entry.isolation:
        yield f"isolation_id: {entry.isolation}"
