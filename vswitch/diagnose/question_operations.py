"""What a running lab can be asked about its traffic. Loaded into the lab when it is started."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from vswitch.diagnose.explain import explain as explain_at
from vswitch.diagnose.limit_drops import count_packets
from vswitch.diagnose.probing import Question, ask, ask_all, ask_destination, forget_neighbours
from vswitch.errors import InputError
from vswitch.lab.building import nat_tables as nat
from vswitch.lab.building.lab import Lab
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.process.lab_operations import operation, switches
from vswitch.model import parse_traffic
from vswitch.model.site import Site, Switch
from vswitch.model.types import normalise_mac
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import LEARNED_COOKIE, MARK_COOKIE, Compiler, Flow, HostProgram, Purpose, Table
from vswitch.semantics.switch_memory import Learned

__all__ = ["LabView"]

_ASKING = 16  # questions asked side by side

_COMPILER = Compiler()
_programs: tuple[Site, dict[str, HostProgram]] | None = None


class LabView:
    """A running lab as the diagnosing modules want it."""

    def __init__(self, lab: Lab, site: Site | None = None) -> None:
        self._lab = lab
        self._site = lab.site if site is None else site

    @property
    def site(self) -> Site:
        """The site in force."""
        return self._site

    @property
    def programs(self) -> Mapping[str, HostProgram]:
        """The flow programs in force, compiled once for each site."""
        global _programs  # noqa: PLW0603 - one lab in one process: its last program
        if _programs is None or _programs[0] is not self._site:
            _programs = (self.site, _COMPILER.compile(self.site))
        return _programs[1]

    def client(self, host: str) -> SwitchClient:
        """The Open vSwitch of a Hyper-V host."""
        return self._lab.instance(host)

    def netns(self, guest: str) -> str:
        """The path of a guest's network namespace."""
        return self._lab.guest_netns(guest)

    def learned(self, switch: Switch) -> dict[tuple[str, int], Learned]:
        """What a switch has learned: (MAC, VLAN) to OpenFlow port and age in seconds."""
        found = {}
        for flow in self.client(switch.host).dump_flows(switch.bridge, Table.LEARNED):
            if flow.cookie == LEARNED_COOKIE:
                fields = dict(pair.split("=", 1) for pair in flow.match.split(",") if "=" in pair)
                port = int(flow.actions.partition(":")[2].partition("->")[0], 16)
                key = normalise_mac(fields["dl_dst"]), int(fields.get("reg2", "0"), 16)
                found[key] = Learned(port, flow.hard_age or flow.duration)
        return found


def _question(data: Mapping[str, Any]) -> Question:
    return Question(
        data["source"],
        data["destination"],
        parse_traffic(data["traffic"]),
        data.get("version"),
        float(data.get("patience") or 1.0),
    )


@operation
def explain(lab: Lab, source: str, destination: str, traffic: str, version: int | None = None) -> Any:
    """The reference's answer, checked against the lab's Open vSwitch."""

    def ask_one(site: Site) -> Any:
        view = LabView(lab, site)
        return explain_at(
            site, source, destination, parse_traffic(traffic), version=version, lab=view
        ).as_dict()

    return lab.policy.during(ask_one)


@operation
def probe(lab: Lab, **question: Any) -> Any:
    """Real packets for one question: source, destination, traffic, version, patience in seconds."""
    reports = lab.policy.during(lambda site: ask(LabView(lab, site), _question(question)))
    return {
        "from": question["source"],
        "to": question["destination"],
        "traffic": question["traffic"],
        "agrees": all(report.agrees for report in reports),
        "reports": [report.as_dict() for report in reports],
    }


@operation
def probe_all(lab: Lab, questions: list[dict[str, Any]]) -> Any:
    """Real packets for many questions; a list of reports for each, in order."""
    asked = [_question(question) for question in questions]
    answers = lab.policy.during(lambda site: ask_all(LabView(lab, site), asked))
    return [[report.as_dict() for report in reports] for reports in answers]


@operation
def probe_destinations(lab: Lab, questions: list[dict[str, Any]]) -> Any:
    """For each question what its destination answers when it asks itself; a list of results for each."""
    view = LabView(lab)

    def ask_one(question: dict[str, Any]) -> list[dict[str, Any]]:
        return [result.as_dict() for result in ask_destination(view, _question(question))]

    with ThreadPoolExecutor(_ASKING) as pool:
        return list(pool.map(ask_one, questions))


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
def mac_table(lab: Lab) -> list[dict[str, Any]]:
    """The forwarding entries of every switch: adapters' fixed ones, learned ones with an age in seconds."""
    view = LabView(lab)
    entries: list[dict[str, Any]] = []
    for switch in lab.site.switch.values():
        names = {adapter.number: adapter.id for adapter in lab.site.adapters_of(switch)}
        names[switch.uplink] = "uplink"
        for adapter in lab.site.adapters_of(switch):
            entries += [
                {
                    "switch": switch.id, "mac": adapter.mac, "vlan": vlan, "port": adapter.number,
                    "where": adapter.id, "status": "Self", "age": None,
                }
                for vlan in sorted(adapter.vlan.receives)
            ]  # fmt: skip
        entries += [
            {
                "switch": switch.id, "mac": mac, "vlan": vlan, "port": entry.port,
                "where": names.get(entry.port, ""), "status": "Learned", "age": round(entry.last_seen),
            }
            for (mac, vlan), entry in view.learned(switch).items()
        ]  # fmt: skip
    return entries


@operation
def flows_in_words(lab: Lab, switch: str | None = None, table: str | None = None) -> dict[str, Any]:
    """Switch id to its flows as text, with what each stands for and its packet counter.

    The mark of a switch's program is none of them.
    """
    wanted = None if table is None else _table(table)
    return lab.policy.during(lambda site: _in_words(lab, LabView(lab, site), switch, wanted))


def _in_words(lab: Lab, view: LabView, switch: str | None, wanted: int | None) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each, client in switches(lab, switch):
        program = view.programs[each.host].switches[each.bridge].flows
        client.settle()
        found[each.id] = [
            {
                "table": _name(flow.table),
                "priority": flow.priority,
                "cookie": f"{flow.cookie:#x}",
                "flow": f"{_name(flow.table)} {flow.priority} {flow.match or 'any'} -> {flow.actions}",
                "means": _meaning(program.get(flow.cookie)),
                "packets": flow.n_packets,
                "bytes": flow.n_bytes,
            }
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
def rule_counters(lab: Lab, switch: str | None = None) -> list[dict[str, Any]]:
    """Packets and bytes by (switch, adapter, rule or drop reason); of a limit those it has dropped."""
    return lab.policy.during(lambda site: _count(lab, LabView(lab, site), switch))


def _count(lab: Lab, view: LabView, switch: str | None) -> list[dict[str, Any]]:
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for each, client in switches(lab, switch):
        program = view.programs[each.host].switches[each.bridge]
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
    return [
        {"switch": key[0], "adapter": key[1], "name": key[2], "where": key[3], "packets": n, "bytes": size}
        for key, (n, size) in sums.items()
    ]
