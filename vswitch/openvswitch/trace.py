"""What `ofproto/trace` says about a frame, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MatchedFlow", "Trace", "parse_ports", "parse_trace"]

_BRIDGE = re.compile(r'bridge\("(.*)"\)')
_STEP = re.compile(r"\s*(\d+)\. (?:(.*), )?priority (\d+)(?:, cookie 0x([0-9a-f]+))?")
_PORT = re.compile(r"    (\S.*?) (\d+)/(\d+): \(")
_ACTIONS = "Datapath actions: "
_FLOW = "Flow: "
_TAG = re.compile(r"\bdl_vlan=(\d+)")
_PUSH = re.compile(r"push_vlan\((?:tpid=0x[0-9a-f]+,)?vid=(\d+)")


@dataclass(frozen=True, slots=True)
class MatchedFlow:
    """An OpenFlow flow the frame met. `match` is "" for a flow that matches everything."""

    bridge: str
    table: int
    cookie: int
    priority: int
    match: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The whole way of a frame, through every recirculation.

    `actions` are the datapath actions of each pass, `flows` all OpenFlow flows it met, in order,
    `outputs` the names of the ports it leaves by, in order, `tags` the VLAN tag it carries on each
    of them (None: untagged), `text` what Open vSwitch printed.
    """

    text: str
    actions: tuple[str, ...]
    flows: tuple[MatchedFlow, ...]
    outputs: tuple[str, ...]
    tags: tuple[int | None, ...]

    @property
    def cookies(self) -> tuple[int, ...]:
        """The cookies of all matched flows, in order."""
        return tuple(flow.cookie for flow in self.flows)


def parse_ports(text: str) -> dict[int, str]:
    """Datapath port number to port name, from `dpif/show`. Ports without one (patch) are left out."""
    return {int(match[3]): match[1] for line in text.splitlines() if (match := _PORT.match(line))}


def parse_trace(text: str, ports: Mapping[int, str]) -> Trace:
    """Read the output of `ofproto/trace`; `ports` maps datapath port numbers to names."""
    bridge = ""
    tag: int | None = None
    actions: list[str] = []
    flows: list[MatchedFlow] = []
    outputs: list[tuple[int, int | None]] = []
    for line in text.splitlines():
        if heading := _BRIDGE.fullmatch(line.strip()):
            bridge = heading[1]
        elif line.startswith(_FLOW):
            tagged = _TAG.search(line)
            tag = int(tagged[1]) if tagged else None
        elif line.startswith(_ACTIONS):
            actions.append(line[len(_ACTIONS) :])
            outputs += _outputs(actions[-1], tag)
        elif step := _STEP.fullmatch(line):
            table, match, priority, cookie = step.groups()
            flows.append(MatchedFlow(bridge, int(table), int(cookie or "0", 16), int(priority), match or ""))
    names = tuple(ports.get(number, str(number)) for number, _ in outputs)
    return Trace(text, tuple(actions), tuple(flows), names, tuple(tag for _, tag in outputs))


def _outputs(actions: str, tag: int | None) -> list[tuple[int, int | None]]:
    """Where a list of datapath actions sends a frame that carries `tag`: (datapath port, tag there).

    The ports are its bare numbers, clones included.
    """
    found: list[tuple[int, int | None]] = []
    for action in _split(actions):
        name, bracket, inside = action.partition("(")
        if name.isdigit():
            found.append((int(name), tag))
        elif pushed := _PUSH.match(action):
            tag = int(pushed[1])
        elif name == "pop_vlan":
            tag = None
        elif bracket and name in ("clone", "sample", "check_pkt_len", "actions", "gt", "le"):
            found += _outputs(inside[:-1], tag)
    return found


def _split(actions: str) -> list[str]:
    """Datapath actions, split at the commas outside brackets."""
    parts: list[str] = []
    depth = start = 0
    for position, character in enumerate(actions):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "," and not depth:
            parts.append(actions[start:position])
            start = position + 1
    parts.append(actions[start:])
    return parts
