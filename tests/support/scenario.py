"""Scenarios as data: a site, a policy, and steps that every engine has to see the same way.

A file in tests/scenarios holds one topic:

    layout: lan.yaml            # below tests/scenarios/layouts, or topologies/NAME.yaml
    scenarios:
      - name: a larger weight wins
        cites: §4.3             # of the semantics; `rule: 1` where it is one of §0's twelve
        policy: {...}           # as in a policy file; nothing: no ACLs
        steps: [...]

Steps are taken in order, and what switches learn and remember is kept from one to the next:

    {from: a, to: b, traffic: tcp/80, verdict: Allow, by: some-rule}
        A question, as in a layout's `expect`. `verdict` is Allow, Refused or Deny; `by` a rule or drop
        reason; also `version` (4 or 6), `leg` (of the deciding drop), `layer`, `outcome` (open, refused,
        filtered, unreachable), `assumptions`. Each question gets a source port of its own unless it names one.
    {frame: {...}, delivered: [b, t/eth0.10], drops: [FilteredVLAN]}
        One frame on the wire (see Shape), the interfaces of guests that get it (`b` is b/eth0), and every
        drop it meets by rule or reason; also `assumptions`.
    {wait: 2}                   # seconds
    {apply: {...}}              # another policy; with `refused: words`, one that must not load

`except: {real: reason}` in a step or scenario leaves an engine out, and says why; `except: {control: reason}`
in a step that something else than an ACL would stop as well (see `controls`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import yaml

from vswitch.errors import VswitchError
from vswitch.model import load_site, parse_traffic
from vswitch.model.site import Site
from vswitch.model.traffic import Traffic
from vswitch.model.types import normalise_mac
from vswitch.semantics import frame as f
from vswitch.semantics.frame import Frame
from vswitch.semantics.verdict import DropReason

__all__ = [
    "ENGINES",
    "Apply",
    "Question",
    "Scenario",
    "SentFrame",
    "Step",
    "Wait",
    "controls",
    "load_all",
    "load_file",
    "load_policy",
]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "scenarios"
ENGINES = ("reference", "trace", "real")
#: Where questions get source ports: below the ephemeral ones, so that nothing else uses them.
FIRST_SOURCE_PORT = 20000
LAYOUT, POLICY = "layout.yaml", "policy.yaml"


@dataclass(frozen=True)
class Question:
    """`source_port_given`: the scenario names it, so the question belongs to a flow it cares about."""

    source: str
    destination: str
    traffic: Traffic
    source_port_given: bool
    version: int | None = None
    verdict: str = ""
    outcome: str = ""
    by: str = ""
    leg: str = ""
    layer: str = ""
    assumptions: tuple[str, ...] | None = None
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        version = f" IPv{self.version}" if self.version else ""
        return f"{self.source} -> {self.destination} {self.traffic}{version}"


@dataclass(frozen=True)
class SentFrame:
    """A frame from a guest's interface; None for what the scenario does not state."""

    guest: str
    interface: str
    frame: Frame
    delivered: tuple[str, ...] | None = None
    drops: tuple[str, ...] | None = None
    assumptions: tuple[str, ...] | None = None
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.guest}/{self.interface} sends {self.frame}"


@dataclass(frozen=True)
class Wait:
    seconds: float
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"wait {self.seconds:g} s"


@dataclass(frozen=True)
class Apply:
    """`site` is None for a policy that must be refused with the words `refused`."""

    policy: str
    site: Site | None
    refused: str = ""
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"apply {yaml.safe_load(self.policy)}"


Step = Question | SentFrame | Wait | Apply


@dataclass(frozen=True)
class Scenario:
    """`site` has the scenario's policy; `layout` and `policy` are the texts it was loaded from.

    `must_arrive`: whatever it asks and sends gets somewhere.
    """

    file: str
    name: str
    cites: str
    rules: tuple[int, ...]
    layout: str
    policy: str
    site: Site
    steps: tuple[Step, ...]
    exceptions: Mapping[str, str]
    must_arrive: bool = False

    @property
    def id(self) -> str:
        return f"{self.file}: {self.name}"

    @property
    def waits(self) -> bool:
        """Whether time matters in it."""
        return any(isinstance(step, Wait) for step in self.steps)


def load_policy(layout: str, policy: str) -> Site:
    """The site of a layout's text with a policy's. Raises InputErrors."""
    return load_site(LAYOUT, [POLICY], read={LAYOUT: layout, POLICY: policy}.__getitem__)


def load_all() -> list[Scenario]:
    """Every scenario, those of one layout together."""
    found = [scenario for path in sorted(FOLDER.glob("*.yaml")) for scenario in load_file(path)]
    order = list(dict.fromkeys(scenario.layout for scenario in found))
    return sorted(found, key=lambda scenario: order.index(scenario.layout))


def load_file(path: Path) -> Iterator[Scenario]:
    """The scenarios of one file. Raises ValueError for what is not one."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    _only(data, "layout", "scenarios")
    layout = _layout(data["layout"])
    ports = iter(range(FIRST_SOURCE_PORT, 32768))
    for entry in data["scenarios"]:
        try:
            yield _scenario(path.stem, layout, entry, ports)
        except (ValueError, KeyError, VswitchError) as error:
            raise ValueError(f"{path.name}, {entry.get('name')}: {error!r}") from error


def controls(scenarios: list[Scenario]) -> Iterator[Scenario]:
    """For each layout a scenario without policy, in which all that ACLs deny elsewhere gets through.

    A Deny proves nothing where the same packets would not have arrived anyway.
    """
    steps: dict[str, dict[str, Step]] = {}
    for scenario in scenarios:
        built_in = {str(reason) for reason in DropReason}
        found = steps.setdefault(scenario.layout, {})
        for step in scenario.steps:
            if "control" in step.exceptions:
                continue
            if isinstance(step, Question) and step.verdict == "Deny" and step.by not in (*built_in, ""):
                asked = replace(step, verdict="", outcome="", by="", leg="", layer="", assumptions=None)
                found[str(replace(asked, traffic=replace(step.traffic, source_port=None)))] = asked
            elif isinstance(step, SentFrame) and set(step.drops or ()) - built_in:
                found[str(step)] = replace(step, delivered=None, drops=None, assumptions=None)
    for layout, chosen in steps.items():
        name = yaml.safe_load(layout)["name"]
        policy = _text(None)
        yield Scenario(
            file=name, name="positive controls", cites="the same without ACLs", rules=(), layout=layout,
            policy=policy, site=load_policy(layout, policy), steps=tuple(chosen.values()), exceptions={},
            must_arrive=True,
        )  # fmt: skip


def _layout(name: str) -> str:
    path = ROOT / name if name.startswith("topologies/") else FOLDER / "layouts" / name
    return path.read_text(encoding="utf-8")


def _only(data: Mapping[str, Any], *allowed: str) -> None:
    if unknown := set(data) - set(allowed):
        raise ValueError(f"unknown keys {sorted(unknown)}, allowed: {', '.join(allowed)}")


def _text(policy: Any) -> str:
    return yaml.safe_dump(policy or {"acls": []}, sort_keys=False)


def _exceptions(data: Mapping[str, Any]) -> Mapping[str, str]:
    found = data.get("except", {})
    if not (found.keys() <= {*ENGINES, "control"} and all(isinstance(why, str) and why for why in found.values())):
        raise ValueError(f"`except` gives a reason for each of {ENGINES} it leaves out")
    return found


def _scenario(file: str, layout: str, data: Mapping[str, Any], ports: Iterator[int]) -> Scenario:
    _only(data, "name", "cites", "rule", "policy", "steps", "except")
    policy = _text(data.get("policy"))
    rules = data.get("rule", [])
    site = load_policy(layout, policy)
    return Scenario(
        file=file,
        name=data["name"],
        cites=data["cites"],
        rules=tuple(rules) if isinstance(rules, list) else (rules,),
        layout=layout,
        policy=policy,
        site=site,
        steps=tuple(_step(layout, site, step, ports) for step in data["steps"]),
        exceptions=_exceptions(data),
    )


def _step(layout: str, site: Site, data: Mapping[str, Any], ports: Iterator[int]) -> Step:
    exceptions = _exceptions(data)
    if "wait" in data:
        _only(data, "wait", "except")
        return Wait(data["wait"], exceptions)
    if "apply" in data:
        _only(data, "apply", "refused", "except")
        return _apply(layout, data, exceptions)
    if "frame" in data:
        _only(data, "frame", "delivered", "drops", "assumptions", "except")
        guest, interface, frame = _frame(site, data["frame"])
        return SentFrame(
            guest,
            interface,
            frame,
            _interfaces(data["delivered"]),
            _sorted(data.get("drops")),
            _sorted(data.get("assumptions")),
            exceptions,
        )
    _only(
        data, "from", "to", "traffic", "version", "verdict", "outcome", "by", "leg", "layer", "assumptions",
        "except",
    )  # fmt: skip
    traffic = parse_traffic(str(data["traffic"]))
    given = traffic.source_port is not None
    if traffic.has_ports and not given:
        traffic = replace(traffic, source_port=next(ports))
    return Question(
        source=data["from"],
        destination=data["to"],
        traffic=traffic,
        source_port_given=given,
        version=data.get("version"),
        verdict=data["verdict"],
        outcome=data.get("outcome", ""),
        by=data.get("by", ""),
        leg=data.get("leg", ""),
        layer=data.get("layer", ""),
        assumptions=_sorted(data.get("assumptions")),
        exceptions=exceptions,
    )


def _apply(layout: str, data: Mapping[str, Any], exceptions: Mapping[str, str]) -> Apply:
    policy, refused = _text(data["apply"]), data.get("refused", "")
    return Apply(policy, None if refused else load_policy(layout, policy), refused, exceptions)


def _sorted(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(map(str, names)))


def _interfaces(names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(name if "/" in name else f"{name}/eth0" for name in names))


# ------------------------------------------------------------------ frames


class Shape:
    """How a scenario writes a frame: `from`, `to`, one kind, and what differs from the ordinary.

    `from` is a guest or guest/interface; `to` a guest, guest/interface, `broadcast` or a MAC address.
    Kinds: `udp: [67, 68]`, `tcp: [50000, 80]`, `icmp: 8`, `ip: 47`, `arp: request` or `reply`,
    `nd: solicitation` or `advertisement`, `ethertype: 0x88cc`. Further: `version` (4, or 6), `source_mac`
    and `destination_mac` (a MAC, or the guest that has it), `src` and `dst` (IP addresses), `tag` (VLAN),
    `flags` (TCP's), `fragment: true` (a later one).
    """

    KINDS = ("udp", "tcp", "icmp", "ip", "arp", "nd", "ethertype")
    KEYS = ("from", "to", "version", "source_mac", "destination_mac", "src", "dst", "tag", "flags", "fragment")

    def __init__(self, site: Site, data: Mapping[str, Any]) -> None:
        _only(data, *self.KEYS, *self.KINDS)
        self.site, self.data = site, data
        kinds = [kind for kind in self.KINDS if kind in data]
        if len(kinds) != 1:
            raise ValueError(f"a frame has one kind of {self.KINDS}")
        self.kind = kinds[0]
        self.version = data.get("version", 4)

    def end(self, text: str) -> Any:
        """The adapter or physical port named `guest` or `guest/interface`."""
        name, _, interface = text.partition("/")
        guest = self.site.guest[name]
        ends = [*guest.adapters, *guest.ports]
        return next(each for each in ends if each.interface == (interface or "eth0"))

    def mac(self, text: str) -> str:
        if text == "broadcast":
            return f.BROADCAST
        try:
            return normalise_mac(text)
        except ValueError:
            return str(self.end(text).mac)

    def address(self, key: str, end: str) -> Any:
        if key in self.data:
            return ip_address(self.data[key])
        found = [own.ip for own in self.end(end).addresses if own.version == self.version]
        if not found:
            raise ValueError(f"{end} has no IPv{self.version} address: write {key}")
        return found[0]

    def build(self) -> Frame:
        data, value = self.data, self.data[self.kind]
        to = str(data.get("to", "broadcast"))
        source = self.mac(data.get("source_mac", data["from"]))
        target = self.mac(data.get("destination_mac", to))
        if self.kind == "ethertype":
            return f.raw(source, target, value)
        src, dst = self.address("src", data["from"]), self.address("dst", to)
        made = self._made(value, source, target, src, dst)
        if "to" in data or "destination_mac" in data:
            made = replace(made, dst_mac=target)
        return made.later_fragment() if data.get("fragment") else made

    def _made(self, value: Any, source: str, target: str, src: Any, dst: Any) -> Frame:
        match self.kind, value:
            case "arp", "request":
                assert isinstance(src, IPv4Address)
                return f.arp_request(source, src, dst)
            case "arp", "reply":
                assert isinstance(src, IPv4Address)
                return f.arp_reply(source, src, target, dst)
            case "nd", "solicitation":
                assert isinstance(src, IPv6Address)
                return f.neighbour_solicitation(source, src, dst)
            case "nd", "advertisement":
                assert isinstance(src, IPv6Address)
                return f.neighbour_advertisement(source, src, target, dst)
            case "udp", _:
                return f.udp(source, target, src, dst, *value)
            case "tcp", _:
                return f.tcp(source, target, src, dst, *value, flags=self.data.get("flags", "S"))
            case "icmp", _:
                return f.icmp(source, target, src, dst, value)
            case "ip", _:
                return f.ip(source, target, src, dst, value)
        raise ValueError(f"{self.kind}: {value}")


def _frame(site: Site, data: Mapping[str, Any]) -> tuple[str, str, Frame]:
    shape = Shape(site, data)
    guest, _, interface = data["from"].partition("/")
    return guest, interface or "eth0", shape.build().tagged(data.get("tag"))
