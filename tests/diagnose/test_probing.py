"""Which packets may be under way together, and how reports are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.support.asking import traffic
from tests.support.sites import SiteBuilder, extended, one_switch
from vswitch.diagnose import probing
from vswitch.diagnose.probing import ProbeReport, Question, ask, ask_all, ask_destination
from vswitch.diagnose.tracing import deciding_flows
from vswitch.errors import InputError
from vswitch.lab.probing import packet_probe
from vswitch.lab.probing.evidence import Sighting
from vswitch.lab.probing.packet_probe import Cause, Outcome, ProbeRequest, ProbeResult
from vswitch.model.site import Site, Switch
from vswitch.pipeline import HostProgram, compile_site
from vswitch.semantics.conversation import Expected, converse_range
from vswitch.semantics.switch_memory import Learned

DENY = extended("Deny", "Inbound", 1, name="deny")
WEB = extended("Allow", "Inbound", 9, protocol="TCP", local_port=80, name="web")


def site() -> Site:
    return (
        one_switch(a="10.0.0.1/24", c="10.0.0.3/24")
        .vm("b", "10.0.0.2/24", services=["tcp/80"], rules=[WEB, DENY])
        .vm("d", "2001:db8::1/64")
        .build()
    )


# What passes the destination's adapter during a probe that asks twice.
SEEN = Sighting("b", 2, 1, 0, 0, 0, 0, 0, 0, ())


@dataclass
class FakeSwitch:
    """Counts what the packets of this test would have met."""

    counted: dict[int, int] = field(default_factory=dict)
    dropped: dict[int, int] = field(default_factory=dict)  # by meters

    def settle(self) -> None:
        pass

    def counters(self, bridge: str) -> dict[int, tuple[int, int]]:
        return {cookie: (packets, 64 * packets) for cookie, packets in self.counted.items()}

    def meter_drops(self, bridge: str) -> dict[int, tuple[int, int]]:
        return {number: (packets, 64 * packets) for number, packets in self.dropped.items()}


@dataclass
class FakeLab:
    site: Site
    switch: FakeSwitch = field(default_factory=FakeSwitch)
    at_probe: Callable[[], object] = lambda: None  # while packets are under way
    sent: list[ProbeRequest] = field(default_factory=list)
    probe: Callable[[ProbeRequest], ProbeResult] = packet_probe.probe

    @property
    def programs(self) -> dict[str, HostProgram]:
        return compile_site(self.site)

    def client(self, host: str) -> Any:
        return self.switch

    def netns(self, guest: str) -> str:
        return f"netns of {guest}"

    def learned(self, switch: Switch) -> dict[tuple[str, int], Learned]:
        return {}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> FakeLab:
    """A lab whose packets fare as the reference says, and move the counters of all deny flows."""
    lab = FakeLab(site())

    def probe(request: ProbeRequest) -> ProbeResult:
        lab.sent.append(request)
        lab.at_probe()
        outcome = Outcome.OPEN if request.port == 80 else Outcome.FILTERED
        for flow in lab.programs["hv01"].switches["br0"].flows.values():
            if flow.rule and flow.rule.name == "deny" and outcome is Outcome.FILTERED:
                lab.switch.counted[flow.cookie] = lab.switch.counted.get(flow.cookie, 0) + 1
        return ProbeResult(
            request, outcome, Cause.ANSWER, rtt=None, sent=1, source_ports=(), error="", icmp=None,
            next_hop=None, sightings=(SEEN,), answer="", detail=str(outcome),
        )  # fmt: skip

    monkeypatch.setattr(probing, "probe", probe)
    lab.probe = probe
    return lab


def question(source: str, destination: str, text: str) -> Question:
    return Question(source, destination, traffic(text))


def waiting(lab: FakeLab, *questions: Question) -> probing._Waiting:
    return [
        (report, deciding_flows(lab, report.conversation))
        for asked in questions
        for report in probing._plan(lab, asked)
    ]


def asked(batch: probing._Waiting) -> list[tuple[str, str]]:
    return [(report.question.source, str(report.question.traffic)) for report, _ in batch]


def test_questions_that_share_a_deciding_drop_wait_for_each_other(lab: FakeLab) -> None:
    batch, rest = probing._disjoint(
        waiting(lab, question("a", "b", "udp/53"), question("c", "b", "udp/53"), question("c", "a", "tcp/80"))
    )
    assert asked(batch) == [("a", "udp/53"), ("c", "tcp/80")]
    assert asked(rest) == [("c", "udp/53")]
    batch, rest = probing._disjoint(rest)
    assert (asked(batch), rest) == ([("c", "udp/53")], [])


def test_ports_with_one_answer_go_together(lab: FakeLab) -> None:
    batch, rest = probing._disjoint(waiting(lab, question("a", "b", "tcp/79-82")))
    assert [report.ports.first for report, _ in batch if report.ports] == [79, 80]
    batch, rest = probing._disjoint(rest)
    assert [report.ports.first for report, _ in batch if report.ports] == [81, 82]
    assert not rest


def test_the_counters_of_a_range_are_those_of_each_group(lab: FakeLab) -> None:
    reports = ask(lab, question("a", "b", "tcp/75-82"))
    moved = [(str(report.ports), [move.moved for move in report.counters]) for report in reports]
    assert [ports for ports, _ in moved] == ["75-79", "80", "81-82"]
    denied = {"75-79": 5, "81-82": 2}
    for ports, moves in moved:
        assert set(moves) == {denied.get(ports, 0)}


def test_what_is_said_of_a_range_is_said_of_all_its_ports(lab: FakeLab) -> None:
    for report in ask(lab, question("a", "b", "tcp/75-82")):
        assert report.ports
        count = report.ports.last - report.ports.first + 1
        (seen,) = report.result.sightings if report.result else ()
        assert (seen.requests, seen.replies) == (2 * count, count)
        if report.conversation.fix:
            assert f"{report.ports}" in report.conversation.fix
            assert f"{report.conversation.port} " not in report.conversation.fix


def test_groups_that_the_reference_did_not_expect_have_counters_of_their_own(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = lab.probe

    def probe(request: ProbeRequest) -> ProbeResult:
        done = honest(request)
        return replace(done, outcome=Outcome.OPEN) if request.port == 83 else done

    monkeypatch.setattr(probing, "probe", probe)
    reports = ask(lab, question("a", "b", "tcp/81-85"))
    assert [(str(report.ports), str(report.outcome)) for report in reports] == [
        ("81-82", "filtered"),
        ("83", "open"),
        ("84-85", "filtered"),
    ]
    assert [{move.moved for move in report.counters} for report in reports] == [{2}, {1}, {2}]


def test_what_passes_waits_for_nothing(lab: FakeLab) -> None:
    both = [question("a", "b", "tcp/80"), question("c", "b", "tcp/80")]
    batch, rest = probing._disjoint(waiting(lab, *both))
    assert len(batch) == 2
    assert not rest


def test_every_movement_belongs_to_one_question(lab: FakeLab) -> None:
    kinds = [("a", "udp/53"), ("c", "udp/53"), ("a", "tcp/445"), ("a", "icmp"), ("a", "udp/54:7")]
    reports = ask_all(lab, [question(source, "b", text) for source, text in kinds])
    for (report,) in reports:
        assert report.proven
        assert {move.moved for move in report.counters} == {1}


def test_progress_counts_up_to_all(lab: FakeLab) -> None:
    said: list[str] = []
    ask_all(lab, [question("a", "b", "udp/53"), question("c", "b", "udp/53")], said.append)
    assert said == ["probed 1 of 2", "probed 2 of 2"]


def test_neighbouring_ports_with_one_fate_are_one_report(lab: FakeLab) -> None:
    reports = ask(lab, question("a", "b", "tcp/78-82"))
    assert [(str(report.ports), str(report.outcome), report.agrees) for report in reports] == [
        ("78-79", "filtered", True),
        ("80", "open", True),
        ("81-82", "filtered", True),
    ]


def test_a_report_says_when_the_reference_expected_something_else(lab: FakeLab) -> None:
    (talk,) = [talk for _, talk in converse_range(lab.site, "a", "b", traffic("tcp/80"))]
    report = ProbeReport(question("a", "b", "tcp/80"), None, talk, None)
    assert not report.agrees
    assert report.shown().outcome is Outcome.UNREACHABLE
    assert report.shown().expected is Expected.OPEN


@pytest.mark.parametrize(
    ("limited", "dropped", "proven"),
    [
        ("a", 0, True),
        ("a", 1, False),  # the rule's counter moved by one packet: it may be the one that was dropped
        ("c", 1, True),  # somebody else's
    ],
)
def test_a_packet_that_a_limit_dropped_proves_no_rule(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch, limited: str, dropped: int, proven: bool
) -> None:
    adapter = lab.site.guest[limited].adapters[0]
    guests = tuple(
        replace(guest, adapters=(replace(adapter, maximum_bandwidth=8000),))
        if guest.name == limited
        else guest
        for guest in lab.site.guests
    )
    lab.site = replace(lab.site, guests=guests)
    (number,) = lab.programs["hv01"].switches["br0"].meters
    monkeypatch.setattr(probing, "_RECOVERY", 0)
    lab.at_probe = lambda: lab.switch.dropped.update({number: lab.switch.dropped.get(number, 0) + dropped})
    ((report,),) = ask_all(lab, [question("a", "b", "tcp/81")])
    assert (report.proven, report.agrees) == (proven, proven)
    told: list[dict[str, Any]] = [move.shown().to_dict() for move in report.counters]
    assert {(move["after"] - move["before"], move["moved"]) for move in told} == {(1, int(proven))}
    assert len(lab.sent) == (1 if proven else 2)
    assert (report.limit.layer is None) == proven


def test_what_a_limit_cut_once_is_asked_again(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = replace(lab.site.guest["a"].adapters[0], storm_limit=1)
    guests = tuple(
        replace(guest, adapters=(adapter,)) if guest.name == "a" else guest for guest in lab.site.guests
    )
    lab.site = replace(lab.site, guests=guests)
    (number,) = lab.programs["hv01"].switches["br0"].meters
    monkeypatch.setattr(probing, "_RECOVERY", 0)
    lab.at_probe = lambda: lab.switch.dropped.setdefault(number, 1)
    answers = ask_all(lab, [question("a", "b", text) for text in ("tcp/80", "tcp/81", "tcp/82")])
    assert [[report.agrees for report in reports] for reports in answers] == [[True]] * 3
    sent = sorted(str(request) for request in lab.sent)
    assert sent == ["tcp/80", "tcp/81", "tcp/81", "tcp/82"]


def test_ends_without_a_common_family_are_not_probed(lab: FakeLab) -> None:
    ((report,),) = ask_all(lab, [question("a", "d", "tcp/80")])
    assert report.result is None
    assert report.agrees
    assert "no address of the same IP version" in report.shown().detail
    assert ask_destination(lab, question("a", "d", "tcp/80")) == []


@pytest.mark.parametrize("text", ["tcp/0", "udp/0-10", "tcp/1-65535"])
def test_ports_that_cannot_be_sent_to_are_refused(lab: FakeLab, text: str) -> None:
    with pytest.raises(InputError, match=text):
        ask(lab, question("a", "b", text))
    with pytest.raises(InputError, match=text):
        ask_destination(lab, question("a", "b", text))


def test_the_destination_asks_itself_once_for_each_part_of_a_range(lab: FakeLab) -> None:
    results = ask_destination(lab, question("a", "b", "tcp/78-82"))
    assert [result.request.port for result in results] == [78, 80, 81]
    for request in (result.request for result in results):
        assert request.netns == "netns of b"
        assert str(request.source) == str(request.destination) == "10.0.0.2"


def test_the_destination_asks_itself_at_the_address_in_question(lab: FakeLab) -> None:
    lab.site = SiteBuilder().switch("vs").vm("a", "10.0.0.1/24").vm("b", "10.0.0.2/24 10.0.0.9/24").build()
    (result,) = ask_destination(lab, question("a", "b/10.0.0.9", "icmp"))
    assert str(result.request.source) == "10.0.0.9"
