"""What a running lab can be asked about its traffic. Loaded into the lab when it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from vswitch.compiled import CompiledPolicy
from vswitch.diagnose.explain import explain as explain_at
from vswitch.diagnose.explained import Explanation
from vswitch.diagnose.held import FlowHeld, MacEntry, RuleCount
from vswitch.diagnose.limit_drops import count_packets
from vswitch.diagnose.probed import PortsProbed, Probed
from vswitch.diagnose.probing import Question, ask, ask_all, ask_destination, forget_neighbours
from vswitch.errors import InputError
from vswitch.json_values import Json
from vswitch.lab.building import nat_tables as nat
from vswitch.lab.building.lab import Lab
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.probe_evidence import Evidence
from vswitch.lab.process.lab_operations import operation, switches
from vswitch.model import parse_traffic
from vswitch.model.site import Site, Switch
from vswitch.model.types import normalise_mac
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import LEARNED_COOKIE, MARK_COOKIE, Flow, HostProgram, Purpose, Table
from vswitch.semantics.switch_memory import Learned

__all__ = ["LabView"]

_ASKING = 16  # questions asked side by side


class LabView:
    """A running lab as the diagnosing modules want it, with the policy in force."""

    def __init__(self, lab: Lab, policy: CompiledPolicy) -> None:
        self._lab = lab
        self._policy = policy

    @property
    def site(self) -> Site:
        """The site in force."""
        return self._policy.site

    @property
    def programs(self) -> Mapping[str, HostProgram]:
        """The flow programs in force."""
        return self._policy.programs

    def client(self, host: str) -> SwitchClient:
        """The Open vSwitch of a Hyper-V host."""
        return self._lab.instance(host)

    def netns(self, guest: str) -> str:
        """The path of a guest's network namespace."""
        return self._lab.guest_netns(guest)

    def learned(self, switch: Switch) -> dict[tuple[str, int], Learned]:
        """What a switch has learned: (MAC, VLAN) to OpenFlow port and age in seconds."""
        return _learned(self._lab, switch)


def _learned(lab: Lab, switch: Switch) -> dict[tuple[str, int], Learned]:
    found = {}
    for flow in lab.instance(switch.host).dump_flows(switch.bridge, Table.LEARNED):
        if flow.cookie == LEARNED_COOKIE:
            fields = dict(pair.split("=", 1) for pair in flow.match.split(",") if "=" in pair)
            port = int(flow.actions.partition(":")[2].partition("->")[0], 16)
            key = normalise_mac(fields["dl_dst"]), int(fields.get("reg2", "0"), 16)
            found[key] = Learned(port, flow.hard_age or flow.duration)
    return found


def _question(
    source: str,
    destination: str,
    traffic: str,
    version: int | None = None,
    patience: float | None = None,
) -> Question:
    return Question(source, destination, parse_traffic(traffic), version, float(patience or 1.0))


def _read_question(data: Any) -> Question:
    return _question(**data)


@operation
def explain(lab: Lab, source: str, destination: str, traffic: str, version: int | None = None) -> Explanation:
    """The reference's answer, checked against the lab's Open vSwitch."""

    def ask_one(policy: CompiledPolicy) -> Explanation:
        asked, view = parse_traffic(traffic), LabView(lab, policy)
        return explain_at(policy.site, source, destination, asked, version=version, lab=view)

    return lab.policy.during(ask_one)


@operation
def probe(
    lab: Lab,
    source: str,
    destination: str,
    traffic: str,
    version: int | None = None,
    patience: float | None = None,
) -> Probed:
    """Real packets for one question; `patience` in seconds."""
    question = _question(source, destination, traffic, version, patience)
    reports = lab.policy.during(lambda policy: ask(LabView(lab, policy), question))
    return Probed.of(source, destination, traffic, (report.shown() for report in reports))


@operation
def probe_all(lab: Lab, questions: Sequence[Mapping[str, Json]]) -> list[list[PortsProbed]]:
    """Real packets for many questions; a list of reports for each, in order."""
    asked = list(map(_read_question, questions))
    answers = lab.policy.during(lambda policy: ask_all(LabView(lab, policy), asked))
    return [[report.shown() for report in reports] for reports in answers]


@operation
def probe_destinations(lab: Lab, questions: Sequence[Mapping[str, Json]]) -> list[list[Evidence]]:
    """For each question what its destination answers when it asks itself; a list of results for each."""
    asked = list(map(_read_question, questions))

    def ask_each(policy: CompiledPolicy) -> list[list[Evidence]]:
        view = LabView(lab, policy)
        with ThreadPoolExecutor(_ASKING) as pool:
            answers = pool.map(lambda question: ask_destination(view, question), asked)
            return [[Evidence.of(result) for result in results] for results in answers]

    return lab.policy.during(ask_each)


@operation
def forget(lab: Lab) -> None:
    """Have all guests forget their neighbours, the switches their live flows and the NATs their sessions:
    as after a quiet night.
    """
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(forget_neighbours, [lab.guest_netns(guest.name) for guest in lab.site.guests]))
    for host in lab.site.hosts:
        lab.instance(host.name).appctl("dpctl/flush-conntrack")
    forget_sessions(lab)


def forget_sessions(lab: Lab) -> None:
    """End all sessions of all hosts' NATs."""
    for plan in lab.plan.guests:
        if plan.guest.nat:
            in_netns(lab.guest_netns(plan.guest.name), partial(nat.forget, plan.guest.nat, plan.cables))


@operation
def mac_table(lab: Lab) -> list[MacEntry]:
    """The forwarding entries of every switch: adapters' fixed ones, learned ones with an age in seconds."""
    entries: list[MacEntry] = []
    for switch in lab.site.switch.values():
        names = {adapter.number: adapter.id for adapter in lab.site.adapters_of(switch)}
        names[switch.uplink] = "uplink"
        for adapter in lab.site.adapters_of(switch):
            entries += [
                MacEntry(switch.id, adapter.mac, vlan, adapter.number, adapter.id, "Self", None)
                for vlan in sorted(adapter.vlan.receives)
            ]
        entries += [
            MacEntry(
                switch.id, mac, vlan, entry.port, names.get(entry.port, ""), "Learned", round(entry.last_seen)
            )
            for (mac, vlan), entry in _learned(lab, switch).items()
        ]
    return entries


@operation
def flows_in_words(
    lab: Lab, switch: str | None = None, table: str | None = None
) -> dict[str, list[FlowHeld]]:
    """Switch id to its flows as text, with what each is there for and its packet counter.

    The mark of a switch's program is not among them.
    """
    wanted = None if table is None else _table(table)
    return lab.policy.during(lambda policy: _in_words(lab, policy, switch, wanted))


def _in_words(
    lab: Lab, policy: CompiledPolicy, switch: str | None, wanted: int | None
) -> dict[str, list[FlowHeld]]:
    found: dict[str, list[FlowHeld]] = {}
    for each, client in switches(lab, switch):
        program = policy.programs[each.host].switches[each.bridge].flows
        client.settle()
        found[each.id] = [
            FlowHeld(
                table=_name(flow.table),
                priority=flow.priority,
                cookie=f"{flow.cookie:#x}",
                flow=f"{_name(flow.table)} {flow.priority} {flow.match or 'any'} -> {flow.actions}",
                means=_meaning(program.get(flow.cookie)),
                packets=flow.n_packets,
                bytes=flow.n_bytes,
            )
            for flow in client.dump_flows(each.bridge, wanted)
            if flow.cookie != MARK_COOKIE
        ]
    return found


def _name(table: int) -> str:
    return Table(table).name.lower()


def _table(text: str) -> int:
    if text.isdigit() and int(text) in set(Table):
        return int(text)
    try:
        return Table[text.upper().replace("-", "_")]
    except KeyError:
        names = ", ".join(table.name.lower() for table in Table)
        raise InputError(f"there is no table {text!r}", hint=f"The tables: {names}") from None


def _meaning(flow: Flow | None) -> str:
    if flow is None:
        return "learned"
    if flow.rule is not None:
        return f"{flow.rule.name} ({flow.rule.origin}) at {flow.adapter}"
    words = (flow.reason, flow.note, f"at {flow.adapter}" if flow.adapter else "")
    return ", ".join(word for word in words if word)


@operation
def rule_counters(lab: Lab, switch: str | None = None) -> list[RuleCount]:
    """Packets and bytes by (switch, adapter, rule or drop reason); of a limit those it has dropped."""
    return lab.policy.during(lambda policy: _count(lab, policy, switch))


def _count(lab: Lab, policy: CompiledPolicy, switch: str | None) -> list[RuleCount]:
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for each, client in switches(lab, switch):
        program = policy.programs[each.host].switches[each.bridge]
        counted = count_packets(client, program)
        for flow in program.flows.values():
            if flow.purpose is Purpose.FORWARD:
                continue
            name = flow.rule.name if flow.rule else flow.reason or "live flow state"
            where = str(flow.rule.origin) if flow.rule else ""
            total = sums.setdefault((each.id, flow.adapter, name, where), [0, 0])
            packets, size = counted.get(flow.cookie, (0, 0))
            total[0] += packets
            total[1] += size
    return [RuleCount(*key, packets, size) for key, (packets, size) in sums.items()]
