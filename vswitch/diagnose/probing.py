"""Real packets in a running lab, with the evidence that turns an observation into a proof.

Beside what the guests saw, a report holds what the reference expected and how the counters of the
deciding flows moved while the packets were under way.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, groupby

from vswitch.diagnose.counting import CounterMove, Moves, count_all
from vswitch.diagnose.explained import RuleShown
from vswitch.diagnose.limit_drops import limited_by
from vswitch.diagnose.mirrored import mirrored
from vswitch.diagnose.probed import PortsProbed, ReasonShown
from vswitch.diagnose.tracing import TracedLab, deciding_flows
from vswitch.errors import InputError
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.evidence import Sighting
from vswitch.lab.probing.packet_probe import Outcome, ProbeRequest, ProbeResult, WatchPoint, probe
from vswitch.lab.probing.probe_evidence import Evidence
from vswitch.model.site import Adapter, Guest, Site, Switch
from vswitch.model.traffic import Traffic
from vswitch.model.types import PortRange
from vswitch.pipeline import Flow
from vswitch.semantics.cause import Advice
from vswitch.semantics.conversation import Conversation, Expected, converse_range
from vswitch.semantics.endpoints import Nic, nics_of
from vswitch.semantics.frame import Address, Frame
from vswitch.semantics.journey import LegKind

__all__ = ["CounterMove", "Question", "ProbeReport", "ask", "ask_all", "ask_destination", "forget_neighbours"]

_THREADS = 64
_MOST_PORTS = 4096
_RECOVERY = 1.0  # seconds after which a StormLimit lets a whole second's worth pass again


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: ends and TRAFFIC as on the command line. `timeout` in seconds."""

    source: str
    destination: str
    traffic: Traffic
    version: int | None = None
    timeout: float = 1.0


@dataclass(slots=True)
class ProbeReport:
    """What happened to the packets of one port (or of traffic without ports), or of a run of ports alike."""

    question: Question
    ports: PortRange | None
    conversation: Conversation
    result: ProbeResult | None
    counters: tuple[CounterMove, ...] = field(default=())
    others: tuple[CounterMove, ...] = field(default=())  # drops on its way that nobody expected
    limit: Advice = field(default=Advice())  # about a limit among the others

    @property
    def outcome(self) -> Outcome:
        """What was observed."""
        return self.result.outcome if self.result else Outcome.UNREACHABLE

    @property
    def agrees(self) -> bool:
        """Whether it is what the reference expected.

        Filtered and unreachable are one: which one a guest sees depends on its neighbour
        cache. Silence agrees with a switch's Deny only if its counter moved: packets may as well have
        been lost elsewhere, or never sent.
        """
        if self.conversation.decided_by and self.counters and not self.proven:
            return False
        seen = Expected.OPEN if self.outcome is Outcome.DELIVERED else Expected(str(self.outcome))
        silent = {Expected.FILTERED, Expected.UNREACHABLE}
        return seen is self.conversation.expected or {seen, self.conversation.expected} == silent

    @property
    def proven(self) -> bool:
        """Whether a deciding flow's counter moved, for a Deny that a switch made."""
        return any(move.moved > 0 for move in self.counters)

    def shown(self) -> PortsProbed:
        """What users get to see of it. A limit that dropped frames is the cause where no other is known."""
        talk, decided = self.conversation, self.conversation.decided_by
        cause = Advice(talk.layer, talk.cause, talk.fix) if talk.layer else self.limit
        rule = decided.drop.rule if decided else None
        return PortsProbed(
            ports=str(self.ports) if self.ports else None,
            outcome=self.outcome,
            expected=talk.expected,
            agrees=self.agrees,
            detail=self.result.detail if self.result else "the ends have no address of the same IP version",
            layer=cause.layer,
            cause=cause.cause or None,
            fix=cause.fix or None,
            decided_by=RuleShown.of(rule) if rule else ReasonShown(decided.drop.reason) if decided else None,
            counters=tuple(move.shown() for move in self.counters),
            other_drops=tuple(move.shown() for move in self.others),
            evidence=Evidence.of(self.result) if self.result else None,
        )


_Waiting = list[tuple[ProbeReport, list[tuple[Switch, Flow]]]]


def ask(lab: TracedLab, question: Question) -> list[ProbeReport]:
    """Send the packets of one question. Ports with the same outcome for the same reason are joined.

    Each report's counters are those of its own ports. Raises InputError for an end that is not there or a
    range of more than 4096 ports.
    """
    (reports,) = ask_all(lab, [question])
    with ThreadPoolExecutor(_THREADS) as pool:
        for group in _parted(reports):
            _run(lab, [(report, deciding_flows(lab, report.conversation)) for report in group], pool)
    return _joined(reports)


def ask_all(
    lab: TracedLab, questions: Sequence[Question], progress: Callable[[str], None] = lambda _: None
) -> list[list[ProbeReport]]:
    """Send the packets of many questions; one list of reports for each, a report for each port.

    Packets that would move the same counters are not under way at the same time, so that every
    movement belongs to one question.
    """
    planned = [
        [(report, deciding_flows(lab, report.conversation)) for report in _plan(lab, question)]
        for question in questions
    ]
    waiting = [pair for pairs in planned for pair in pairs]
    done, total = 0, len(waiting)
    with ThreadPoolExecutor(_THREADS) as pool:
        while waiting:
            batch, waiting = _disjoint(waiting)
            _run(lab, batch, pool)
            done += len(batch)
            progress(f"probed {done} of {total}")
        _ask_again(lab, planned, pool)
    return [[report for report, _ in pairs] for pairs in planned]


def _ask_again(lab: TracedLab, planned: Iterable[_Waiting], pool: ThreadPoolExecutor) -> None:
    """Ask questions that a limit has cut again, each by itself: asked side by side, they can be a storm.

    Ends when one is cut again: then it is something else that sends too much.
    """
    for pairs in planned:
        cut = [(report, flows) for report, flows in pairs if report.limit.layer]
        if cut:
            time.sleep(_RECOVERY)
            _run(lab, cut, pool)
        if any(report.limit.layer for report, _ in cut):
            return


def forget_neighbours(netns: str) -> None:
    """Have the guest with the network namespace at this path forget its neighbours' MACs."""
    command = ["ip", "neigh", "flush", "all"]
    in_netns(netns, lambda: subprocess.run(command, check=True, capture_output=True))


def ask_destination(lab: TracedLab, question: Question) -> list[ProbeResult]:
    """Have the destination ask itself, at the address the question would reach it by.

    Its packets meet no switch: what it answers shows that the machine and its service are there. Of
    ports with one answer by the reference only the first is asked. Empty where the
    ends have no address of one IP version. Raises InputError as `ask`.
    """
    _check_ports(question.traffic)
    answers = converse_range(
        lab.site, question.source, question.destination, question.traffic, version=question.version
    )
    return [
        _ask_itself(lab, question, talk, talk.destination_address, part.first)
        for part, talk in answers
        if talk.destination_address is not None
    ]


def _ask_itself(
    lab: TracedLab, question: Question, talk: Conversation, address: IPv4Address | IPv6Address, port: int
) -> ProbeResult:
    netns = lab.netns(talk.destination)
    request = ProbeRequest(
        netns=netns,
        source=address,
        destination=address,
        protocol=question.traffic.protocol,
        port=port if question.traffic.ports else None,
        timeout=question.timeout,
        watch=(WatchPoint("itself (lo)", netns, "lo", at_destination=True),),
    )
    return probe(request)


def _plan(lab: TracedLab, question: Question) -> Iterable[ProbeReport]:
    ports = question.traffic.ports
    _check_ports(question.traffic)
    answers = converse_range(
        lab.site, question.source, question.destination, question.traffic, version=question.version
    )
    for part, conversation in answers:
        if ports is None:
            yield ProbeReport(question, None, conversation, None)
            continue
        for port in range(part.first, part.last + 1):
            single = PortRange(port, port)
            about = replace(question, traffic=replace(question.traffic, ports=single))
            yield ProbeReport(about, single, conversation, None)


def _check_ports(traffic: Traffic) -> None:
    """Raise InputError for ports that real packets cannot be sent to, or not in a sensible time."""
    ports = traffic.ports
    hint = "Ask about a part of the range, or use `explain`, which has no such limit."
    if ports and not ports.first:
        raise InputError(f"{traffic}: nothing can be sent to port 0", hint=hint)
    if ports and ports.last - ports.first >= _MOST_PORTS:
        raise InputError(f"{traffic} has more than {_MOST_PORTS} ports", hint=hint)


def _disjoint(waiting: _Waiting) -> tuple[_Waiting, _Waiting]:
    """The reports that may run together, and the rest: no two of a batch share a deciding drop.

    Ports of one question with one answer belong together, whatever they share. Those with different
    answers share no flow at all: each group of ports is shown with its own counters.
    """
    taken: dict[tuple[object, ...], int] = {}
    batch: _Waiting = []
    rest: _Waiting = []
    for report, flows in waiting:
        question, group = report.question, id(report.conversation)
        asked = (question.source, question.destination, question.version, str(question.traffic))
        keys = [(switch.id, flow.cookie, () if flow.is_drop else asked) for switch, flow in flows]
        if {taken[key] for key in keys if key in taken} <= {group}:
            taken.update(dict.fromkeys(keys, group))
            batch.append((report, flows))
        else:
            rest.append((report, flows))
    return batch, rest


def _run(lab: TracedLab, batch: _Waiting, pool: ThreadPoolExecutor) -> None:
    switches = {switch.id: switch for _, flows in batch for switch, _ in flows}
    for report, _ in batch:
        for adapter in _passed(lab.site, report.conversation):
            switch = lab.site.switch[f"{adapter.host}/{adapter.switch}"]
            switches[switch.id] = switch
    # A guest that has just asked for a neighbour in vain asks rarely, or not again for a while; where
    # that question is what gets dropped, it has to be asked anew for its drop to be counted.
    asking = {
        hop.source.guest
        for report, _ in batch
        for leg in report.conversation.legs
        for hop in leg.hops
        if hop.kind is LegKind.NEIGHBOUR and not hop.arrived
    }
    for guest in sorted(asking):
        forget_neighbours(lab.netns(guest))
    before = count_all(lab, switches.values())
    for report, result in zip(
        [report for report, _ in batch], pool.map(lambda pair: _probe(lab, pair[0]), batch), strict=True
    ):
        report.result = result
    moves = Moves(lab, before, count_all(lab, switches.values()))
    for report, flows in batch:
        passed = {adapter.id for adapter in _passed(lab.site, report.conversation)}
        report.counters = tuple(moves.of(switch, flow, passed) for switch, flow in flows)
        report.others = ()
        if not report.agrees:
            report.others = tuple(_other_drops(lab, report, switches.values(), moves, passed))
        report.limit = _limit(lab.site, report.others)


def _other_drops(
    lab: TracedLab, report: ProbeReport, switches: Iterable[Switch], moves: Moves, passed: Set[str]
) -> Iterable[CounterMove]:
    """Drops at the adapters passed that counted packets, beside those that were to decide."""
    expected = {(move.switch, move.flow.cookie) for move in report.counters}
    for switch in switches:
        for cookie, flow in lab.programs[switch.host].switches[switch.bridge].flows.items():
            drops = flow.is_drop or flow.meter
            if not drops or flow.adapter not in passed or (switch.id, cookie) in expected:
                continue
            found = moves.of(switch, flow, passed)
            if found.moved > 0:
                yield found


def _limit(site: Site, drops: Iterable[CounterMove]) -> Advice:
    """What to tell about the limit that dropped most; nothing if none did."""
    limits = [move for move in drops if move.flow.meter]
    if not limits:
        return Advice()
    most = max(limits, key=lambda move: move.moved)
    return limited_by(site, most.flow, most.moved, now=True)


def _passed(site: Site, conversation: Conversation) -> list[Adapter]:
    """The adapters of both ends, and of every machine that has a part in it: routers on the way."""
    hops = [hop for leg in conversation.legs for hop in leg.hops]
    found = {hop.source.guest for hop in hops} | {hop.target.guest for hop in hops if hop.target}
    guests = sorted({conversation.source, conversation.destination} | found)
    return [adapter for guest in guests for adapter in site.guest[guest].adapters]


def _probe(lab: TracedLab, report: ProbeReport) -> ProbeResult | None:
    talk, question = report.conversation, report.question
    if talk.source_address is None or talk.destination_address is None:
        return None
    watch = tuple(
        WatchPoint(
            f"{guest} ({nic.interface})",
            lab.netns(guest),
            nic.interface,
            at_destination=guest != talk.source,
            source=packet.src if packet else None,
            destination=packet.dst if packet else None,
            port=packet.dst_port if packet else None,
            if_met=not nic.owns(address),
        )
        for guest, address, packet in _ends(talk)
        for nic in _by_which(lab.site.guest[guest], address, anywhere=guest == talk.destination)
    ) + tuple(
        WatchPoint(
            f"{copy.adapter.guest} ({copy.adapter.interface}, mirror)",
            lab.netns(copy.adapter.guest),
            copy.adapter.interface,
        )
        for copy in mirrored(lab.site, talk)
    )
    request = ProbeRequest(
        netns=lab.netns(talk.source),
        source=talk.source_address,
        destination=talk.destination_address,
        protocol=question.traffic.protocol,
        port=report.ports.first if report.ports else None,
        source_port=question.traffic.source_port,
        timeout=question.timeout,
        watch=watch,
    )
    return probe(request)


def _ends(talk: Conversation) -> Iterable[tuple[str, Address, Frame | None]]:
    """Where to watch: guests, their addresses, and the request as it is there if a NAT changed it."""
    assert talk.source_address is not None
    assert talk.destination_address is not None
    request = talk.legs[0]
    changed = [step.after for step in request.translations]
    there = [packet for packet in changed if packet.dst == talk.destination_address]
    yield talk.source, talk.source_address, None
    yield talk.destination, talk.destination_address, there[-1] if there else None
    mapped = changed[-1].dst if changed else None
    if mapped is None or mapped == talk.destination_address:
        return
    if request.failure is None:
        yield request.end, mapped, changed[-1]
    elif request.failure.target and request.failure.target.owns(mapped):
        yield request.failure.target.guest, mapped, changed[-1]


def _by_which(guest: Guest, address: Address, *, anywhere: bool) -> Iterable[Nic]:
    """The interface of a guest that has an address; `anywhere` adds those of its other adapters.

    A machine takes in packets for any of its addresses by any adapter.
    """
    nics = nics_of(guest)
    own = {nic.mac for nic in nics if nic.owns(address)}
    return [nic for nic in nics if nic.owns(address) or (anywhere and nic.mac not in own)]


def _groups(reports: Sequence[ProbeReport]) -> list[list[ProbeReport]]:
    """Reports of neighbouring ports that have the same outcome for the same reason, together."""
    alike = groupby(reports, key=lambda report: (id(report.conversation), report.outcome))
    return [list(group) for _, group in alike]


def _parted(reports: Sequence[ProbeReport]) -> Iterable[list[ProbeReport]]:
    """Groups for which the reference expected one outcome, and whose packets were counted together."""
    groups = _groups(reports)
    parts = Counter(id(group[0].conversation) for group in groups)
    return [group for group in groups if parts[id(group[0].conversation)] > 1]


def _joined(reports: Sequence[ProbeReport]) -> list[ProbeReport]:
    """One report for each group; what was seen of its packets is added up."""
    found: list[ProbeReport] = []
    for first, *others in _groups(reports):
        if first.ports and others and (last := others[-1].ports):
            first.ports = PortRange(first.ports.first, last.last)
            if first.result:
                more = [report.result.sightings for report in others if report.result]
                first.result = replace(first.result, sightings=_summed(first.result.sightings, *more))
        found.append(first)
    return found


def _summed(*results: Sequence[Sighting]) -> tuple[Sighting, ...]:
    """The sightings of several probes, one for each watch point."""
    found: dict[str, Sighting] = {}
    for each in chain(*results):
        found[each.label] = found[each.label] + each if each.label in found else each
    return tuple(found.values())
