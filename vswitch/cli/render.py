"""Answers as text: what was asked, the verdict, the cause, the evidence, the fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vswitch.cli.output import Page, Part
from vswitch.semantics.assumptions import Assumption
from vswitch.wording import counted

__all__ = ["explanation", "probe_reports"]

_GOOD = {"Allow", "open", "delivered"}
_WARN = {"refused"}
_DISAGREEMENT: Part = ("DISAGREEMENT", "bold white on red")
_LIMIT = "limit"  # the one layer that packets show and the reference does not know of

_ASSUMED = {each.value: each.text for each in Assumption}


def _verdict(word: str) -> Part:
    """A verdict or an outcome in its colour."""
    colour = "green" if word in _GOOD else "yellow" if word in _WARN else "red"
    return word, f"bold {colour}"


def _rule(rule: Mapping[str, Any]) -> str:
    return f"{rule['name']} ({rule['where']}): {rule['action']} {rule['direction']}"


def _packets(number: int) -> str:
    return counted(number, "packet")


def explanation(page: Page, data: Mapping[str, Any], *, steps: bool) -> None:
    """The result of `explain`. `steps`: every stage of every frame, not only the summary."""
    for answer in data["answers"]:
        ports = f" port {answer['ports']}" if answer["ports"] and len(data["answers"]) > 1 else ""
        ends = (
            f"{_end(data['from'], answer['source_address'])} -> "
            f"{_end(data['to'], answer['destination_address'])}"
        )
        page.line(
            f"{ends} {data['traffic']}{ports}: ",
            _verdict(answer["verdict"]),
            ", a client sees ",
            _verdict(answer["expected"]),
        )
        _summary(page, answer)
        if steps:
            _legs(page, answer["legs"])
        _open_vswitch(page, answer)


def _end(name: str, address: str | None) -> str:
    """One end of a conversation, with its address if it has one and was not asked for by it."""
    return name if address is None or name.endswith(f"/{address}") else f"{name} ({address})"


def _summary(page: Page, answer: Mapping[str, Any]) -> None:
    if answer["layer"]:
        page.item("layer", answer["layer"])
    if answer["cause"]:
        page.item("cause", answer["cause"])
    for step in answer["legs"][0]["translations"] if answer["legs"] else ():
        page.item("NAT", _translation(step))
    decided = answer["decided_by"]
    if decided:
        what = _rule(decided["rule"]) if decided["rule"] else decided["reason"]
        where = decided["adapter"] or "the switch"
        page.item("by", f"{what}, at {where} on {decided['place']} ({decided['leg']})")
    elif answer["rules"]:
        for rule in answer["rules"]:
            page.item("allowed by", _rule(rule))
    if answer["fix"]:
        page.item("fix", answer["fix"])
    for each in answer["mirrored"]:
        but = f"; stopped by {', '.join(each['stopped_by'])}" if each["stopped_by"] else ""
        what = f"{_packets(each['copies'])} to {each['adapter']} on {each['switch']}{but}"
        page.item("mirrored", what)
    for name in answer.get("assumptions", ()):
        page.item("assumes", f"{name}: {_ASSUMED.get(name, 'see docs/reference/assumptions.md')}")


def _legs(page: Page, legs: Iterable[Mapping[str, Any]]) -> None:
    for leg in legs:
        end: Part = "arrived" if leg["arrived"] else ("did not arrive", "red")
        page.line("  ", (leg["name"], "bold"), f" ({leg['kind']}): ", end)
        for index, hop in enumerate(leg["hops"]):
            for step in leg["translations"]:
                if step["hop"] == index:
                    page.line(f"    NAT {_translation(step)}")
            page.line(f"    {hop['frame']}  ", ("ok", "green") if hop["arrived"] else ("lost", "red"))
            for passage in hop["passages"]:
                page.line(f"      {passage['place']}")
                for step in passage["steps"]:
                    side = f" {step['direction']}" if step["direction"] else ""
                    text = f"port {step['port']}{side} {step['stage']}: {step['text']}"
                    page.line(" " * 8, text if step["passed"] else (text, "red"))


def _translation(step: Mapping[str, Any]) -> str:
    """What a NAT did to a packet."""
    why = f"{step['how']} {step['mapping']} ({step['where']})" if step["mapping"] else step["how"]
    return f"{step['nat']} on {step['host']}, {why}: {step['before']} becomes {step['after']}"


def _open_vswitch(page: Page, answer: Mapping[str, Any]) -> None:
    checks = answer["open_vswitch"]
    if not checks:
        return
    asked = [check for check in checks if not check["skipped"]]
    if answer["agrees"]:
        which = f"each of {len(asked)} frames" if len(asked) > 1 else "the one frame"
        page.item("evidence", f"Open vSwitch agrees on {which} traced")
    seen: set[str] = set()
    decided = answer["decided_by"]
    decisive = {decided["reason"]} if decided else set()
    rules = {rule["name"] for rule in answer["rules"]} | (
        {decided["rule"]["name"]} if decided and decided["rule"] else set()
    )
    for check in checks:
        if not check["agrees"]:
            page.line("  ", _DISAGREEMENT, f" at {check['switch']}")
            page.line(f"    frame      {check['frame']}", hang=15)
            page.line(f"    reference  delivers to ports {check['reference_delivered_to']}", hang=15)
            page.line(f"    switch     delivers to ports {check['delivered_to']}", hang=15)
            page.lines(check["trace"] or "", indent=4)
        for flow in check["flows"]:
            if flow["cookie"] in seen or not (flow["rule"] in rules or flow["reason"] in decisive):
                continue
            seen.add(flow["cookie"])
            name = flow["rule"] or flow["reason"]
            page.item("flow", f"{flow['switch']} {name}: {_packets(flow['packets'])}, {flow['flow']}")
    for limit in dict.fromkeys(limit for check in checks for limit in check["limits"]):
        page.item("not traced", f"{limit}: a trace measures no rates, `counters` has drops")
    for check in checks:
        if check["skipped"]:
            page.item("not traced", f"{check['frame']}: {check['skipped']}")


def probe_reports(page: Page, data: Mapping[str, Any]) -> None:
    """The result of `probe`."""
    for report in data["reports"]:
        asked = str(data["traffic"])
        told = report["ports"] is None or asked.partition(":")[0].endswith(f"/{report['ports']}")
        ports = "" if told else f" port {report['ports']}"
        ends = f"{data['from']} -> {data['to']} {asked}"
        page.line(f"{ends}{ports}: ", _verdict(report["outcome"]))
        page.item("observed", report["detail"])
        evidence = report["evidence"]
        for sighting in (evidence or {}).get("sightings", ()):
            requests, replies = sighting["requests"], sighting["replies"]
            counts = f"{counted(requests, 'request')}, {counted(replies, 'reply', 'replies')}"
            page.item("seen at", f"{sighting['label']}: {counts}")
        told = report["agrees"] or report["layer"] == _LIMIT
        if report["cause"] and told:
            page.item("layer", report["layer"] or "")
            page.item("cause", report["cause"])
        moved = [move for move in report["counters"] if move["after"] != move["before"]]
        # A rule has a flow for each IP version and adapter: those that stood still matter only if all did.
        for move in moved or report["counters"]:
            name = f"{move['rule']['name']} ({move['rule']['where']})" if move["rule"] else move["reason"]
            page.item("counter", f"{name} on {move['switch']}: {move['before']} -> {move['after']}")
        if report["fix"] and told:
            page.item("fix", report["fix"])
        if not report["agrees"]:
            _other_drops(page, report)
            if not told:
                _disagreement(page, report)


def _other_drops(page: Page, report: Mapping[str, Any]) -> None:
    """Drops that nobody expected."""
    for move in report["other_drops"]:
        name = f"{move['rule']['name']} ({move['rule']['where']})" if move["rule"] else move["reason"]
        where = f"{name} at {move['adapter']} on {move['switch']}"
        page.item("dropped", f"{where}: {move['before']} -> {move['after']}")


def _disagreement(page: Page, report: Mapping[str, Any]) -> None:
    """What the packets did is not what the files say."""
    still = report["counters"] and all(move["after"] == move["before"] for move in report["counters"])
    expected = report["cause"] if report["cause"] and still else f"{report['expected']}"
    page.line(
        "  ",
        _DISAGREEMENT,
        f" the reference expected: {expected}."
        + (" But the counter of that did not move." if still and report["cause"] else "")
        + " The reference knows the files, not what was changed by hand inside a guest;"
        " `vswitch explain` has its reasons.",
        hang=13,
    )
