"""An explanation as data, and what is told when Open vSwitch does something else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import pytest

from tests.support.asking import traffic
from tests.support.more_frames import later_fragment
from tests.support.sites import access, extended, one_switch
from vswitch.diagnose.explain import explain
from vswitch.diagnose.flowtext import flow_text
from vswitch.diagnose.probed import CounterShown, PortsProbed
from vswitch.diagnose.proving import _answers, _problem, _unanswered
from vswitch.diagnose.tracing import deciding_flows
from vswitch.errors import Origin
from vswitch.lab.probing.evidence import Outcome
from vswitch.model.site import Expectation, Site, Switch
from vswitch.openvswitch import Trace
from vswitch.pipeline import HostProgram, Table, compile_site
from vswitch.semantics import frame as f
from vswitch.semantics.conversation import Expected, converse
from vswitch.semantics.switch_memory import Learned

DENY = extended("Deny", "Inbound", 1, name="deny", line=7)
WEB = extended("Allow", "Inbound", 9, protocol="TCP", local_port=80, name="web", stateful=True)


def site() -> Site:
    return (
        one_switch(a="10.0.0.1/24")
        .vm("b", "10.0.0.2/24", services=["tcp/80"], rules=[WEB, DENY])
        .vm("other", "10.0.0.3/24", vlan=access(10))
        .build()
    )


@dataclass
class FakeLab:
    """An Open vSwitch that delivers every frame it is asked about to one port."""

    site: Site
    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def programs(self) -> dict[str, HostProgram]:
        return compile_site(self.site)

    def client(self, host: str) -> Any:
        return self

    def netns(self, guest: str) -> str:
        raise AssertionError("explaining enters no guest")

    def learned(self, switch: Switch) -> dict[tuple[str, int], Learned]:
        return {}

    def settle(self) -> None:
        pass

    def counters(self, bridge: str) -> dict[int, tuple[int, int]]:
        return {}

    def trace(self, bridge: str, flow: str) -> Trace:
        self.asked.append(flow)
        flows = self.programs["hv01"].switches[bridge].flows.values()
        output = next(
            x for x in flows if x.table is Table.OUTPUT and x.actions.endswith(f"output:{self.port}")
        )
        return FakeTrace((output.cookie,), "as traced")  # type: ignore[return-value]


@dataclass
class FakeTrace:
    cookies: tuple[int, ...]
    text: str


def probed(outcome: Outcome) -> PortsProbed:
    """What happened to packets, and nothing else about them."""
    return PortsProbed(
        ports="80",
        outcome=outcome,
        expected=Expected.FILTERED,
        agrees=True,
        detail="",
        layer=None,
        cause=None,
        fix=None,
        decided_by=None,
        counters=(),
        other_drops=(),
        evidence=None,
    )


def test_an_answer_is_plain_data_with_the_rule_and_its_place() -> None:
    data = explain(site(), "a", "b", traffic("tcp/79-81")).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert (data["from"], data["to"], data["traffic"], data["verdict"]) == ("a", "b", "tcp/79-81", "Deny")
    below, web, above = data["answers"]
    assert [answer["ports"] for answer in data["answers"]] == ["79", "80", "81"]
    assert below["decided_by"] == above["decided_by"]
    decided = below["decided_by"]
    assert (decided["rule"]["name"], decided["rule"]["where"]) == ("deny", "policy.yaml:7:3")
    assert (decided["direction"], decided["adapter"], decided["place"]) == (
        "Inbound", "b/Network Adapter", "hv01/vs"
    )  # fmt: skip
    assert web["decided_by"] is None
    assert [rule["name"] for rule in web["rules"]] == ["web"]
    assert web["open_vswitch"] == []
    assert data["agrees"]
    steps = web["legs"][-1]["hops"][0]["passages"][0]["steps"]
    assert {"port", "stage", "direction", "text", "rule", "passed"} == steps[0].keys()


def test_without_ports_there_is_one_answer() -> None:
    (answer,) = explain(site(), "a", "b", traffic("icmp")).to_dict()["answers"]
    assert answer["ports"] is None
    assert answer["verdict"] == "Deny"


def test_a_switch_that_delivers_elsewhere_disagrees() -> None:
    lab = FakeLab(site(), port=3)
    explanation = explain(lab.site, "a", "b", traffic("tcp/445"), lab=lab)
    assert lab.asked, "Open vSwitch was asked"
    (answer,) = explanation.answers
    assert not answer.agrees
    wrong = [frame for frame in answer.open_vswitch if not frame.agrees]
    assert {(frame.switch, frame.trace) for frame in wrong} == {("hv01/vs", "as traced")}


def test_the_deciding_flows_of_a_deny_are_its_drops() -> None:
    lab = FakeLab(site(), port=2)
    found = deciding_flows(lab, converse(lab.site, "a", "b", traffic("udp/53")))
    assert found
    assert all(flow.is_drop and flow.rule is not None and flow.rule.name == "deny" for _, flow in found)


def test_the_deciding_flows_of_an_allow_are_those_of_its_rules() -> None:
    lab = FakeLab(site(), port=2)
    found = deciding_flows(lab, converse(lab.site, "a", "b", traffic("tcp/80")))
    assert {flow.rule.name for _, flow in found if flow.rule} == {"web"}


def test_the_deciding_flows_of_a_structural_drop_carry_its_reason() -> None:
    lab = FakeLab(site(), port=2)
    talk = converse(lab.site, "a", "other", traffic("icmp"))
    assert talk.decided_by
    found = deciding_flows(lab, talk)
    assert found
    assert {flow.reason for _, flow in found} == {str(talk.decided_by.drop.reason)}


MACS = ("02-00-00-00-00-01", "02-00-00-00-00-02")
FOUR = (ip_address("10.0.0.1"), ip_address("10.0.0.2"))
SIX = (ip_address("2001:db8::1"), ip_address("2001:db8::2"))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (f.tcp(*MACS, *FOUR, 5, 80), "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_frag=no,tcp_src=5,tcp_dst=80"),
        (f.udp(*MACS, *SIX, 5, 53), "udp6,ipv6_src=2001:db8::1,ipv6_dst=2001:db8::2,nw_frag=no,udp_src=5"),
        (later_fragment(f.tcp(*MACS, *FOUR, 5, 80)), "nw_dst=10.0.0.2,nw_frag=later"),
        (f.ip(*MACS, *FOUR, 47), "ip,nw_proto=47"),
        (f.raw(*MACS, 0x88CC), "dl_type=0x88cc"),
    ],
)
def test_frames_in_open_vswitchs_words(frame: f.Frame, words: str) -> None:
    text = flow_text(frame, 7)
    assert text.startswith("in_port=7,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,")
    assert words in text


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ([Outcome.OPEN], ""),
        ([Outcome.REFUSED, Outcome.DELIVERED], ""),
        ([], ""),  # no address of one IP version: nothing to ask, nothing to doubt
        ([Outcome.OPEN, Outcome.FILTERED], "asked by itself was filtered, open"),
        ([Outcome.UNREACHABLE], "asked by itself was unreachable"),
        (None, "asked by itself was not asked"),
    ],
)
def test_a_structural_deny_needs_a_destination_that_answers_itself(
    control: list[Outcome] | None, said: str
) -> None:
    problem = _unanswered(None if control is None else tuple(map(probed, control)))
    assert said in problem
    assert bool(problem) == bool(said)


def test_every_port_of_a_range_must_be_decided_by_the_rule_that_is_expected() -> None:
    some = extended("Deny", "Inbound", 5, protocol="TCP", local_port=(80, 85), name="some")
    where = one_switch(a="10.0.0.1/24").vm("b", "10.0.0.2/24", rules=[some, DENY]).build()
    moved = CounterShown("hv01/vs", "0x1", "", None, None, None, 0, 1, 1)
    silence = replace(probed(Outcome.FILTERED), counters=(moved,))
    control = (probed(Outcome.REFUSED),)

    def problem(ports: str, by: str) -> str:
        expectation = Expectation("a", "b", traffic(ports), "Deny", by, Origin("layout.yaml", 1, 1))
        return _problem(expectation, _answers(where, expectation), [silence], control)

    assert problem("tcp/80-85", "some") == ""
    assert problem("tcp/80-90", "some") == "decided by deny, not by some"
