"""OpenFlow flows as `ovs-ofctl dump-flows` prints them.

A switch may hold 100,000: the `ovs` library's reader takes 27 times as long (docs/decisions/0015). Tests
compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vswitch.errors import SwitchError

__all__ = ["FlowStats", "parse_flows", "sum_counters"]

_DEFAULT_PRIORITY = 32768
_FLAGS = frozenset({"send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"})
_LINE = re.compile(
    r" ?cookie=(0x[0-9a-f]+), duration=([0-9.]+)s, table=(\d+), n_packets=(\d+), n_bytes=(\d+), "
    r"(?:(.*?) )?actions=(.*)"
)
_COUNTERS = re.compile(r" ?cookie=(0x[0-9a-f]+), .*? n_packets=(\d+), n_bytes=(\d+),")
_NOT_A_FLOW = ("OFPST_FLOW", "NXST_FLOW", "(xid=")


@dataclass(frozen=True, slots=True)
class FlowStats:
    """One flow in a switch, with its counters.

    Ages and timeouts are in seconds: `idle_age` since the last packet, `hard_age` since the flow was
    last changed; 0 for a timeout that is not set. `match` and `actions` are Open vSwitch's own
    spelling, the match without its priority.
    """

    cookie: int
    table: int
    priority: int
    n_packets: int
    n_bytes: int
    duration: float
    idle_age: int
    hard_age: int
    idle_timeout: int
    hard_timeout: int
    match: str
    actions: str
    raw: str


def parse_flows(text: str) -> list[FlowStats]:
    """The flows of a whole dump, in its order. Raises SwitchError for a line that is no flow."""
    return [_parse(line) for line in _flow_lines(text)]


def sum_counters(text: str) -> dict[int, tuple[int, int]]:
    """Cookie to (packets, bytes), summed over the flows of a dump that share the cookie."""
    found: dict[int, tuple[int, int]] = {}
    for line in _flow_lines(text):
        match = _COUNTERS.match(line)
        if not match:
            raise SwitchError(f"this line of a flow dump is not understood: {line.strip()}")
        cookie = int(match[1], 16)
        packets, size = found.get(cookie, (0, 0))
        found[cookie] = packets + int(match[2]), size + int(match[3])
    return found


def _flow_lines(text: str) -> Iterable[str]:
    return (line for line in text.splitlines() if line and not line.startswith(_NOT_A_FLOW))


def _parse(line: str) -> FlowStats:
    parts = _LINE.fullmatch(line)
    if not parts:
        raise SwitchError(f"this line of a flow dump is not understood: {line.strip()}")
    cookie, duration, table, packets, size, middle, actions = parts.groups()
    options: dict[str, int] = {}
    match = ""
    for word in (middle or "").split(" "):
        if word.endswith(","):  # options end with a comma, the match does not
            key, _, value = word[:-1].partition("=")
            options[key] = int(value)
        elif word not in _FLAGS:
            match = word
    priority = _DEFAULT_PRIORITY
    if match.startswith("priority="):
        number, _, match = match[len("priority=") :].partition(",")
        priority = int(number)
    return FlowStats(
        cookie=int(cookie, 16),
        table=int(table),
        priority=priority,
        n_packets=int(packets),
        n_bytes=int(size),
        duration=float(duration),
        idle_age=options.get("idle_age", 0),
        hard_age=options.get("hard_age", 0),
        idle_timeout=options.get("idle_timeout", 0),
        hard_timeout=options.get("hard_timeout", 0),
        match=match,
        actions=actions,
        raw=line.strip(),
    )
