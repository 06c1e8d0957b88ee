"""Plans, effects and results of `vswitch hyperv` as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from vswitch.hyperv.apply import Applied
from vswitch.hyperv.entries import Entry, describe
from vswitch.hyperv.plan import AdapterPlan, HostPlan
from vswitch.hyperv.semantic import Change
from vswitch.hyperv.traffic import Traffic

__all__ = ["applied", "plan", "short"]

_COLOURS = {
    Change.ALLOWED: "green",
    Change.DENIED: "red",
    Change.STATEFUL: "green",
    Change.STATELESS: "yellow",
}
_SHOWN = 10


def plan(console: Console, found: HostPlan, *, everything: bool) -> None:
    """A plan as a diff by adapter, with what it does to traffic."""
    writes = sum(len(adapter.order.steps) for adapter in found.adapters)
    what = (
        f"{writes} writes" if writes else "record of our entries only" if found.changes else "nothing to do"
    )
    console.print(f"[bold]{escape(found.host)}[/]: {what}")
    for warning in found.warnings:
        console.print(f"  [yellow]warning:[/] {escape(warning)}")
    for adapter in found.adapters:
        if adapter.writes or adapter.adopted or everything:
            _adapter(console, adapter, everything)
    for question in found.questions:
        console.print(f"  [bold red]asks:[/] {escape(question)}")


def _adapter(console: Console, adapter: AdapterPlan, everything: bool) -> None:
    kept, foreign = len(adapter.kept), len(adapter.foreign)
    console.print(
        f"  [bold]{escape(adapter.adapter.label)}[/]  ({kept} of ours stay, {foreign} of others left alone)"
    )
    for before, after in adapter.changed:
        console.print(f"    [red]- {escape(describe(before))}[/]")
        console.print(f"    [green]+ {escape(describe(after))}[/]{_rule(adapter, after)}")
    for entry in adapter.removed:
        console.print(f"    [red]- {escape(describe(entry))}[/]")
    for entry in adapter.added:
        console.print(f"    [green]+ {escape(describe(entry))}[/]{_rule(adapter, entry)}")
    for entry in adapter.adopted:
        console.print(f"    [cyan]= {escape(describe(entry))}[/]{_rule(adapter, entry)} adopted")
    if everything:
        for entry in adapter.kept:
            console.print(f"      {escape(describe(entry))}{_rule(adapter, entry)}")
        for entry in adapter.foreign:
            console.print(f"    [dim]~ {escape(describe(entry))}  not ours[/]")
    for diff in adapter.effects:
        for change, regions in diff.changes.items():
            _regions(
                console,
                f"{diff.direction} {change}",
                _COLOURS[change],
                regions,
                diff.more.get(change, 0),
                change in diff.unfinished,
                everything,
            )
    for each in adapter.conflicts:
        how = "decides in place of" if each.wholly else "decides for some traffic in place of"
        console.print(
            f"    [yellow]shadow:[/] {escape(describe(each.winner))} {how} {escape(describe(each.loser))}"
        )


def _rule(adapter: AdapterPlan, entry: Entry) -> str:
    text = adapter.rule_text(entry)
    return f"  [dim]{escape(text)}[/]" if text else ""


def _regions(
    console: Console,
    title: str,
    colour: str,
    regions: Sequence[Traffic],
    more: int,
    unfinished: bool,
    everything: bool,
) -> None:
    shown = regions if everything else regions[:_SHOWN]
    for region in shown:
        console.print(f"    [{colour}]{title}:[/] {escape(str(region))}")
    left = len(regions) - len(shown) + more
    if left or unfinished:
        count = f"at least {left}" if unfinished else str(left)
        console.print(f"    [{colour}]{title}:[/] and {count} more regions (--all, --output json)")


def short(found: HostPlan) -> str:
    """One line about a plan."""
    if not found.changes:
        return "as the policy says"
    added = sum(len(adapter.added) for adapter in found.adapters)
    removed = sum(len(adapter.removed) for adapter in found.adapters)
    changed = sum(len(adapter.changed) for adapter in found.adapters)
    if not added + removed + changed:
        return "entries as the policy says, the record of ours differs"
    places = [adapter.adapter.label for adapter in found.adapters if adapter.writes]
    return f"{added} missing, {removed} too many, {changed} different on {', '.join(places[:3])}" + (
        f" and {len(places) - 3} more" if len(places) > 3 else ""
    )


def applied(done: Applied) -> str:
    """One line about a plan carried out."""
    if not done.steps and done.note:
        return done.note
    text = f"applied and verified, {done.steps} writes on {len(done.adapters)} adapters, plan {done.plan_id}"
    if done.armed_until:
        text += f"; undone at {done.armed_until} unless confirmed"
    return f"{text} ({done.note})" if done.note else text
