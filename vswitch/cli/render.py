"""Answers as text: what was asked, the verdict, the cause, the evidence, the fix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vswitch.cli.output import Page, Part
from vswitch.semantics.assumptions import Assumption
from vswitch.wording import counted

if TYPE_CHECKING:
    from vswitch.diagnose.explained import Answer, Explanation, LegShown, RuleShown, TranslationShown
    from vswitch.diagnose.probed import PortsProbed, Probed

__all__ = ["explanation", "probe_reports"]

_GOOD = {"Allow", "open", "delivered"}
_WARN = {"refused"}
_DISAGREEMENT: Part = ("DISAGREEMENT", "bold white on red")

_ASSUMED = {each.value: each.text for each in Assumption}


def _verdict(word: str) -> Part:
    """A verdict or an outcome in its colour."""
    colour = "green" if word in _GOOD else "yellow" if word in _WARN else "red"
    return word, f"bold {colour}"


def _rule(rule: RuleShown) -> str:
    return f"{rule}: {rule.action} {rule.direction}"


def _packets(number: int) -> str:
    return counted(number, "packet")


def explanation(page: Page, found: Explanation, *, steps: bool) -> None:
    """The result of `explain`. `steps`: every stage of every frame, not only the summary."""
    for answer in found.answers:
        ports = f" port {answer.ports}" if answer.ports and len(found.answers) > 1 else ""
        ends = f"{_end(found.from_, answer.source_address)} -> {_end(found.to, answer.destination_address)}"
        page.line(
            f"{ends} {found.traffic}{ports}: ",
            _verdict(answer.verdict),
            ", a client sees ",
            _verdict(answer.expected),
        )
        _summary(page, answer)
        if steps:
            _legs(page, answer.legs)
        _open_vswitch(page, answer)


def _end(name: str, address: str | None) -> str:
    """One end of a conversation, with its address if it has one and was not asked for by it."""
    return name if address is None or name.endswith(f"/{address}") else f"{name} ({address})"


def _summary(page: Page, answer: Answer) -> None:
    if answer.layer:
        page.item("layer", answer.layer)
    if answer.cause:
        page.item("cause", answer.cause)
    for step in answer.legs[0].translations if answer.legs else ():
        page.item("NAT", _translation(step))
    decided = answer.decided_by
    if decided:
        what = _rule(decided.rule) if decided.rule else decided.reason
        where = decided.adapter or "the switch"
        page.item("by", f"{what}, at {where} on {decided.place} ({decided.leg})")
    else:
        for rule in answer.rules:
            page.item("allowed by", _rule(rule))
    if answer.fix:
        page.item("fix", answer.fix)
    for each in answer.mirrored:
        but = f"; stopped by {', '.join(each.stopped_by)}" if each.stopped_by else ""
        page.item("mirrored", f"{_packets(each.copies)} to {each.adapter} on {each.switch}{but}")
    for name in answer.assumptions:
        page.item("assumes", f"{name}: {_ASSUMED.get(name, 'see docs/reference/assumptions.md')}")


def _legs(page: Page, legs: Iterable[LegShown]) -> None:
    for leg in legs:
        end: Part = "arrived" if leg.arrived else ("did not arrive", "red")
        page.line("  ", (leg.name, "bold"), f" ({leg.kind}): ", end)
        for index, hop in enumerate(leg.hops):
            for translation in leg.translations:
                if translation.hop == index:
                    page.line(f"    NAT {_translation(translation)}")
            page.line(f"    {hop.frame}  ", ("ok", "green") if hop.arrived else ("lost", "red"))
            for passage in hop.passages:
                page.line(f"      {passage.place}")
                for step in passage.steps:
                    side = f" {step.direction}" if step.direction else ""
                    text = f"port {step.port}{side} {step.stage}: {step.text}"
                    page.line(" " * 8, text if step.passed else (text, "red"))


def _translation(step: TranslationShown) -> str:
    """What a NAT did to a packet."""
    why = f"{step.how} {step.mapping} ({step.where})" if step.mapping else step.how
    return f"{step.nat} on {step.host}, {why}: {step.before} becomes {step.after}"


def _open_vswitch(page: Page, answer: Answer) -> None:
    frames = answer.open_vswitch
    if not frames:
        return
    asked = [frame for frame in frames if not frame.skipped]
    if answer.agrees:
        which = f"each of {len(asked)} frames" if len(asked) > 1 else "the one frame"
        page.item("evidence", f"Open vSwitch agrees on {which} traced")
    seen: set[str] = set()
    decided = answer.decided_by
    decisive = {decided.reason} if decided else set()
    rules = {rule.name for rule in answer.rules}
    if decided and decided.rule:
        rules.add(decided.rule.name)
    for frame in frames:
        if not frame.agrees:
            page.line("  ", _DISAGREEMENT, f" at {frame.switch}")
            page.line(f"    frame      {frame.frame}", hang=15)
            page.line(f"    reference  delivers to ports {list(frame.reference_delivered_to)}", hang=15)
            page.line(f"    switch     delivers to ports {list(frame.delivered_to)}", hang=15)
            page.lines(frame.trace or "", indent=4)
        for flow in frame.flows:
            if flow.cookie in seen or not (flow.rule in rules or flow.reason in decisive):
                continue
            seen.add(flow.cookie)
            name = flow.rule or flow.reason
            page.item("flow", f"{flow.switch} {name}: {_packets(flow.packets)}, {flow.flow}")
    for limit in dict.fromkeys(limit for frame in frames for limit in frame.limits):
        page.item("not traced", f"{limit}: a trace measures no rates, `counters` has drops")
    for frame in frames:
        if frame.skipped:
            page.item("not traced", f"{frame.frame}: {frame.skipped}")


def probe_reports(page: Page, found: Probed) -> None:
    """The result of `probe`."""
    from vswitch.semantics.cause import Layer

    for report in found.reports:
        named = report.ports is None or found.traffic.partition(":")[0].endswith(f"/{report.ports}")
        ports = "" if named else f" port {report.ports}"
        page.line(f"{found.from_} -> {found.to} {found.traffic}{ports}: ", _verdict(report.outcome))
        page.item("observed", report.detail)
        for sighting in report.evidence.sightings if report.evidence else ():
            replies = counted(sighting.replies, "reply", "replies")
            page.item("seen at", f"{sighting.label}: {counted(sighting.requests, 'request')}, {replies}")
        explained = report.agrees or report.layer is Layer.LIMIT
        if report.cause and explained:
            page.item("layer", report.layer or "")
            page.item("cause", report.cause)
        moved = [counter for counter in report.counters if not counter.stood_still]
        # A rule has a flow for each IP version and adapter: those that stood still matter only if all did.
        for counter in moved or report.counters:
            page.item("counter", f"{counter.name} on {counter.switch}: {counter.before} -> {counter.after}")
        if report.fix and explained:
            page.item("fix", report.fix)
        if not report.agrees:
            for counter in report.other_drops:
                where = f"{counter.name} at {counter.adapter} on {counter.switch}"
                page.item("dropped", f"{where}: {counter.before} -> {counter.after}")
            if not explained:
                _disagreement(page, report)


def _disagreement(page: Page, report: PortsProbed) -> None:
    """What the packets did is not what the files say."""
    still = bool(report.counters) and all(counter.stood_still for counter in report.counters)
    expected = report.cause if report.cause and still else report.expected
    page.line(
        "  ",
        _DISAGREEMENT,
        f" the reference expected: {expected}."
        + (" But the counter of that did not move." if still and report.cause else "")
        + " The reference knows the files, not what was changed by hand inside a guest;"
        " `vswitch explain` has its reasons.",
        hang=13,
    )
