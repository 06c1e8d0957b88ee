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
_PRIORITY = re.compile(r"\bdl_vlan_pcp=(\d+)")
_PUSH = re.compile(r"push_vlan\((?:tpid=0x[0-9a-f]+,)?vid=(\d+),pcp=(\d+)")


_Tag = tuple[int | None, int]  # VLAN and 802.1p priority


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
    of them (None: untagged) and `priorities` the 802.1p priority of that (0: untagged), `text` what
    Open vSwitch printed.
    """

    text: str
    actions: tuple[str, ...]
    flows: tuple[MatchedFlow, ...]
    outputs: tuple[str, ...]
    tags: tuple[int | None, ...]
    priorities: tuple[int, ...]

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
    tag: _Tag = (None, 0)
    actions: list[str] = []
    flows: list[MatchedFlow] = []
    outputs: list[tuple[int, _Tag]] = []
    for line in text.splitlines():
        if heading := _BRIDGE.fullmatch(line.strip()):
            bridge = heading[1]
        elif line.startswith(_FLOW):
            tagged, priority = _TAG.search(line), _PRIORITY.search(line)
            tag = (int(tagged[1]) if tagged else None, int(priority[1]) if priority else 0)
        elif line.startswith(_ACTIONS):
            actions.append(line[len(_ACTIONS) :])
            outputs += _outputs(actions[-1], tag)
        elif step := _STEP.fullmatch(line):
            table, match, order, cookie = step.groups()
            flows.append(MatchedFlow(bridge, int(table), int(cookie or "0", 16), int(order), match or ""))
    names = tuple(ports.get(number, str(number)) for number, _ in outputs)
    tags, priorities = [tag[0] for _, tag in outputs], [tag[1] for _, tag in outputs]
    return Trace(text, tuple(actions), tuple(flows), names, tuple(tags), tuple(priorities))


def _outputs(actions: str, tag: _Tag) -> list[tuple[int, _Tag]]:
    """Where a list of datapath actions sends a frame that carries `tag`: (datapath port, tag there).

    The ports are its bare numbers, clones included.
    """
    found: list[tuple[int, _Tag]] = []
    for action in _split(actions):
        name, bracket, inside = action.partition("(")
        if name.isdigit():
            found.append((int(name), tag))
        elif pushed := _PUSH.match(action):
            tag = (int(pushed[1]), int(pushed[2]))
        elif name == "pop_vlan":
            tag = (None, 0)
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
