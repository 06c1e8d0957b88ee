"""Scenarios as data: a site, a policy, and steps that every engine has to see the same way.

A file in tests/scenarios holds one topic:

    layout: lan.yaml            # below tests/scenarios/layouts, or topologies/NAME.yaml
    scenarios:
      - name: a larger weight wins
        cites: §4.3             # of hyper-v-facts; `rule: 1` where it is one of §0's twelve
        policy: {...}           # as in a policy file; nothing: no ACLs
        steps: [...]

Steps are taken in order, and what switches learn and remember is kept from one to the next:

    {from: a, to: b, traffic: tcp/80, verdict: Allow, by: some-rule}
        A question, as in a layout's `expect`. `verdict` is Allow, Refused or Deny; `by` a rule or drop
        reason; also `version` (4 or 6), `leg` (of the deciding drop), `layer`, `outcome` (open, refused,
        filtered, unreachable), `assumptions`. Each gets a source port of its own unless it names one.
    {frame: {...}, delivered: [b, t/eth0.10], drops: [FilteredVLAN]}
        One frame on the wire (see scenario_frames.Shape), the interfaces of guests that get it (`b` is
        b/eth0; `t/eth0.10^5` has an 802.1p priority), and every drop it meets by rule or reason; also
        `assumptions`, and `limits`: what it counts against. `times: 200, copies: [1, 60]` sends it so
        often at once, and each of those that get it gets at least 1 and at most 60.
    {wait: 2}                   # seconds
    {apply: {...}}              # another policy; with `refused: words`, one that must not load

`except: {real: reason}` in a step or scenario leaves an engine out, and says why; `except: {control: reason}`
in a step that something else than an ACL would stop as well (see `controls`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tests.support.scenarios.frames import only, read_frame
from vswitch.errors import VswitchError
from vswitch.model import load_site, parse_traffic
from vswitch.model.site import Site
from vswitch.model.traffic import Traffic
from vswitch.semantics.frame import Frame
from vswitch.semantics.verdict import DropReason

__all__ = [
    "ENGINES",
    "Apply",
    "ScenarioQuestion",
    "Scenario",
    "SentFrame",
    "Step",
    "Wait",
    "controls",
    "load_all",
    "load_file",
    "load_policy",
]

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "scenarios"
ENGINES = ("reference", "trace", "real")
#: Where questions get source ports: below the ephemeral ones, so that nothing else uses them.
FIRST_SOURCE_PORT = 20000
LAYOUT, POLICY = "layout.yaml", "policy.yaml"


@dataclass(frozen=True)
class ScenarioQuestion:
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
    limits: tuple[str, ...] | None = None
    times: int = 1
    copies: tuple[int, int] = (1, 1)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        times = f" {self.times} times" if self.times > 1 else ""
        return f"{self.guest}/{self.interface} sends {self.frame}{times}"


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


Step = ScenarioQuestion | SentFrame | Wait | Apply


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
    only(data, "layout", "scenarios")
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
            if (
                isinstance(step, ScenarioQuestion)
                and step.verdict == "Deny"
                and step.by not in (*built_in, "")
            ):
                asked = replace(step, verdict="", outcome="", by="", leg="", layer="", assumptions=None)
                found[str(replace(asked, traffic=replace(step.traffic, source_port=None)))] = asked
            elif isinstance(step, SentFrame) and set(step.drops or ()) - built_in:
                found[str(step)] = replace(step, delivered=None, drops=None, assumptions=None, limits=None)
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


def _text(policy: Any) -> str:
    return yaml.safe_dump(policy or {"acls": []}, sort_keys=False)


def _exceptions(data: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = data.get("except", {})
    if not (
        found.keys() <= {*ENGINES, "control"} and all(isinstance(why, str) and why for why in found.values())
    ):
        raise ValueError(f"`except` gives a reason for each of {ENGINES} it leaves out")
    return found


def _scenario(file: str, layout: str, data: Mapping[str, Any], ports: Iterator[int]) -> Scenario:
    only(data, "name", "cites", "rule", "policy", "steps", "except")
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
        only(data, "wait", "except")
        return Wait(data["wait"], exceptions)
    if "apply" in data:
        only(data, "apply", "refused", "except")
        return _apply(layout, data, exceptions)
    if "frame" in data:
        only(data, "frame", "delivered", "drops", "assumptions", "limits", "times", "copies", "except")
        guest, interface, frame = read_frame(site, data["frame"])
        return SentFrame(
            guest,
            interface,
            frame,
            _interfaces(data["delivered"]),
            _sorted(data.get("drops")),
            _sorted(data.get("assumptions")),
            _sorted(data.get("limits")),
            data.get("times", 1),
            tuple(data.get("copies", (1, 1))),
            exceptions,
        )
    only(
        data, "from", "to", "traffic", "version", "verdict", "outcome", "by", "leg", "layer", "assumptions",
        "except",
    )  # fmt: skip
    traffic = parse_traffic(str(data["traffic"]))
    given = traffic.source_port is not None
    if traffic.has_ports and not given:
        traffic = replace(traffic, source_port=next(ports))
    return ScenarioQuestion(
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
