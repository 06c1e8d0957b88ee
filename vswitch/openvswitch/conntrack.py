"""Connections as Open vSwitch's conntrack holds them."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["TrackedConnection", "parse_connections"]

_TUPLE = re.compile(r"orig=\(([^)]*)\)")
_STATE = re.compile(r"protoinfo=\(state=([^),]*)")


@dataclass(frozen=True, slots=True)
class TrackedConnection:
    """One tracked connection, seen from the packet that created it.

    `protocol` is Open vSwitch's word (tcp, udp, icmp, icmpv6, ...). Ports are 0 where the protocol has
    none. `timeout` is the seconds left, `state` the TCP state or "".
    """

    zone: int
    protocol: str
    source: str
    destination: str
    source_port: int
    destination_port: int
    mark: int
    timeout: int
    state: str
    raw: str

    @property
    def tuple_text(self) -> str:
        """The original direction's tuple in the words `flush-conntrack` takes."""
        fields = _fields(_TUPLE, self.raw)
        family = "ct_ipv6" if ":" in self.source else "ct_nw"
        number = _NUMBERS.get(self.protocol) or self.protocol
        words = [f"{family}_src={self.source}", f"{family}_dst={self.destination}", f"ct_nw_proto={number}"]
        words += [f"{word}={fields[key]}" for key, word in _WORDS.items() if key in fields]
        return ",".join(words)


_NUMBERS = {"icmp": "1", "tcp": "6", "udp": "17", "icmpv6": "58", "sctp": "132"}
_WORDS = {
    "sport": "ct_tp_src",
    "dport": "ct_tp_dst",
    "id": "icmp_id",
    "type": "icmp_type",
    "code": "icmp_code",
}


def parse_connections(text: str) -> list[TrackedConnection]:
    """Read the output of `dpctl/dump-conntrack -s`."""
    return [_parse(line) for line in text.splitlines() if line.strip()]


def _fields(pattern: re.Pattern[str], line: str) -> dict[str, str]:
    match = pattern.search(line)
    pairs = (pair.partition("=") for pair in match[1].split(",")) if match else ()
    return {key: value for key, _, value in pairs}


def _number(line: str, key: str) -> int:
    match = re.search(rf"(?:^|,){key}=(0x[0-9a-f]+|\d+)", line)
    return int(match[1], 0) if match else 0


def _parse(line: str) -> TrackedConnection:
    fields = _fields(_TUPLE, line)
    state = _STATE.search(line)
    return TrackedConnection(
        zone=_number(line, "zone"),
        protocol=line.partition(",")[0],
        source=fields.get("src", ""),
        destination=fields.get("dst", ""),
        source_port=int(fields.get("sport", 0)),
        destination_port=int(fields.get("dport", 0)),
        mark=_number(line, "mark"),
        timeout=_number(line, "timeout"),
        state=state[1] if state else "",
        raw=line,
    )
