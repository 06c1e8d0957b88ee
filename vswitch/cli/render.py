"""Answers as text: what was asked, the verdict, the cause, the evidence, the fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vswitch.diagnose.assumptions import ASSUMPTIONS

__all__ = ["explanation", "probe_reports", "table"]

_GOOD = {"Allow", "open", "delivered"}
_WARN = {"refused"}
_LIMIT = "limit"  # the one layer that packets show and the reference does not know of


def verdict(word: str) -> str:
    """A verdict or an outcome in its colour."""
    colour = "green" if word in _GOOD else "yellow" if word in _WARN else "red"
    return f"[bold {colour}]{escape(word)}[/]"


def table(console: Console, headings: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A plain table without frames; numbers to the right."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    lines = [list(row) for row in rows]
    for index, heading in enumerate(headings):
        numbers = bool(lines) and all(isinstance(line[index], int | float) for line in lines)
        grid.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        grid.add_row(*(escape("" if cell is None else str(cell)) for cell in line))
    console.print(grid)


def _line(console: Console, label: str, text: str) -> None:
    console.print(f"  [bold]{label:<9}[/] {text}")


def _rule(rule: Mapping[str, Any]) -> str:
    return escape(f"{rule['name']} ({rule['where']}): {rule['action']} {rule['direction']}")


def explanation(console: Console, data: Mapping[str, Any], *, steps: bool) -> None:
    """The result of `explain`. `steps`: every stage of every frame, not only the summary."""
    for answer in data["answers"]:
        ports = f" port {answer['ports']}" if answer["ports"] and len(data["answers"]) > 1 else ""
        ends = (
            f"{_end(data['from'], answer['source_address'])} -> "
            f"{_end(data['to'], answer['destination_address'])}"
        )
        console.print(
            f"{escape(ends)} {escape(data['traffic'])}{ports}: {verdict(answer['verdict'])},"
            f" a client sees {verdict(answer['expected'])}"
        )
        _summary(console, answer)
        if steps:
            _legs(console, answer["legs"])
        _open_vswitch(console, answer)


def _end(name: str, address: str | None) -> str:
    """One end of a conversation, with its address if it has one and was not asked for by it."""
    return name if address is None or name.endswith(f"/{address}") else f"{name} ({address})"


def _summary(console: Console, answer: Mapping[str, Any]) -> None:
    if answer["layer"]:
        _line(console, "layer", escape(answer["layer"]))
    if answer["cause"]:
        _line(console, "cause", escape(answer["cause"]))
    for step in answer["legs"][0]["translations"] if answer["legs"] else ():
        _line(console, "NAT", escape(_translation(step)))
    decided = answer["decided_by"]
    if decided:
        what = _rule(decided["rule"]) if decided["rule"] else escape(decided["reason"])
        where = decided["adapter"] or "the switch"
        _line(console, "by", f"{what}, at {escape(where)} on {escape(decided['place'])} ({decided['leg']})")
    elif answer["rules"]:
        for rule in answer["rules"]:
            _line(console, "allowed by", _rule(rule))
    if answer["fix"]:
        _line(console, "fix", escape(answer["fix"]))
    for each in answer["mirrored"]:
        but = f"; stopped by {', '.join(each['stopped_by'])}" if each["stopped_by"] else ""
        what = f"{each['copies']} packets to {each['adapter']} on {each['switch']}{but}"
        _line(console, "mirrored", escape(what))
    for name in answer.get("assumptions", ()):
        _line(console, "assumes", f"{name}: {ASSUMPTIONS.get(name, 'see docs/reference/assumptions.md')}")


def _legs(console: Console, legs: Iterable[Mapping[str, Any]]) -> None:
    for leg in legs:
        end = "arrived" if leg["arrived"] else "[red]did not arrive[/]"
        console.print(f"  [bold]{escape(leg['name'])}[/] ({leg['kind']}): {end}")
        for index, hop in enumerate(leg["hops"]):
            for step in leg["translations"]:
                if step["hop"] == index:
                    console.print(f"    NAT {escape(_translation(step))}")
            mark = "[green]ok[/]" if hop["arrived"] else "[red]lost[/]"
            console.print(f"    {escape(hop['frame'])}  {mark}")
            for passage in hop["passages"]:
                console.print(f"      {escape(passage['place'])}")
                for step in passage["steps"]:
                    side = f" {step['direction']}" if step["direction"] else ""
                    text = f"port {step['port']}{side} {step['stage']}: {escape(step['text'])}"
                    console.print(f"        {text if step['passed'] else f'[red]{text}[/]'}")


def _translation(step: Mapping[str, Any]) -> str:
    """What a NAT did to a packet."""
    why = f"{step['how']} {step['mapping']} ({step['where']})" if step["mapping"] else step["how"]
    return f"{step['nat']} on {step['host']}, {why}: {step['before']} becomes {step['after']}"


def _open_vswitch(console: Console, answer: Mapping[str, Any]) -> None:
    checks = answer["open_vswitch"]
    if not checks:
        return
    asked = [check for check in checks if not check["skipped"]]
    if answer["agrees"]:
        _line(console, "evidence", f"Open vSwitch agrees on each of {len(asked)} frames traced")
    seen: set[str] = set()
    decided = answer["decided_by"]
    decisive = {decided["reason"]} if decided else set()
    rules = {rule["name"] for rule in answer["rules"]} | (
        {decided["rule"]["name"]} if decided and decided["rule"] else set()
    )
    for check in checks:
        if not check["agrees"]:
            console.print(f"  [bold white on red] DISAGREEMENT [/] at {escape(check['switch'])}")
            console.print(f"    frame      {escape(check['frame'])}")
            console.print(f"    reference  delivers to ports {check['reference_delivered_to']}")
            console.print(f"    switch     delivers to ports {check['delivered_to']}")
            console.print(escape(check["trace"] or ""))
        for flow in check["flows"]:
            if flow["cookie"] in seen or not (flow["rule"] in rules or flow["reason"] in decisive):
                continue
            seen.add(flow["cookie"])
            name = flow["rule"] or flow["reason"]
            _line(
                console, "flow", escape(f"{flow['switch']} {name}: {flow['packets']} packets, {flow['flow']}")
            )
    for limit in dict.fromkeys(limit for check in checks for limit in check["limits"]):
        _line(console, "not traced", escape(f"{limit}: a trace measures no rates, `counters` has drops"))
    for check in checks:
        if check["skipped"]:
            _line(console, "not traced", escape(f"{check['frame']}: {check['skipped']}"))


def probe_reports(console: Console, data: Mapping[str, Any]) -> None:
    """The result of `probe`."""
    for report in data["reports"]:
        asked = str(data["traffic"])
        told = report["ports"] is None or asked.partition(":")[0].endswith(f"/{report['ports']}")
        ports = "" if told else f" port {report['ports']}"
        ends = f"{data['from']} -> {data['to']} {asked}"
        console.print(f"{escape(ends)}{ports}: {verdict(report['outcome'])}")
        _line(console, "observed", escape(report["detail"]))
        evidence = report["evidence"]
        for sighting in (evidence or {}).get("sightings", ()):
            counts = f"{sighting['requests']} requests, {sighting['replies']} replies"
            _line(console, "seen at", escape(f"{sighting['label']}: {counts}"))
        told = report["agrees"] or report["layer"] == _LIMIT
        if report["cause"] and told:
            _line(console, "layer", escape(report["layer"] or ""))
            _line(console, "cause", escape(report["cause"]))
        moved = [move for move in report["counters"] if move["after"] != move["before"]]
        # A rule has a flow for each IP version and adapter: those that stood still matter only if all did.
        for move in moved or report["counters"]:
            name = f"{move['rule']['name']} ({move['rule']['where']})" if move["rule"] else move["reason"]
            _line(
                console, "counter", escape(f"{name} on {move['switch']}: {move['before']} -> {move['after']}")
            )
        if report["fix"] and told:
            _line(console, "fix", escape(report["fix"]))
        if not report["agrees"]:
            _other_drops(console, report)
            if not told:
                _disagreement(console, report)


def _other_drops(console: Console, report: Mapping[str, Any]) -> None:
    """Drops that nobody expected."""
    for move in report["other_drops"]:
        name = f"{move['rule']['name']} ({move['rule']['where']})" if move["rule"] else move["reason"]
        where = f"{name} at {move['adapter']} on {move['switch']}"
        _line(console, "dropped", escape(f"{where}: {move['before']} -> {move['after']}"))


def _disagreement(console: Console, report: Mapping[str, Any]) -> None:
    """What the packets did is not what the files say."""
    still = report["counters"] and all(move["after"] == move["before"] for move in report["counters"])
    expected = report["cause"] if report["cause"] and still else f"{report['expected']}"
    console.print(
        f"  [bold white on red] DISAGREEMENT [/] the reference expected: {escape(expected)}."
        + (" But the counter of that did not move." if still and report["cause"] else "")
        + " The reference knows the files, not what was changed by hand inside a guest;"
        " `vswitch explain` has its reasons."
    )
