"""Plans, effects and results of `vswitch hyperv` as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from vswitch.hyperv.entries import Entry, describe
from vswitch.hyperv.outcomes import Applied
from vswitch.hyperv.plan import AdapterPlan, HostPlan
from vswitch.hyperv.semantic import Change
from vswitch.hyperv.traffic import Traffic

__all__ = ["applied", "check", "counted", "drift", "plan", "short"]

_COLOURS = {
    Change.ALLOWED: "green",
    Change.DENIED: "red",
    Change.STATEFUL: "green",
    Change.STATELESS: "yellow",
}
_SHOWN = 10


def plan(console: Console, found: HostPlan, *, everything: bool, saved: bool = False) -> None:
    """A plan, fresh or `saved`, as a diff by adapter, with what it does to traffic and what it asks."""
    writes = sum(len(adapter.steps) for adapter in found.adapters)
    what = (
        counted(writes, "write")
        if writes
        else "record of our entries only"
        if found.changes or saved
        else "nothing to do"
    )
    what += f", planned at {found.created_at}" if saved else ""
    _host(console, found, what, [each for each in found.adapters if each.writes or each.adopted], everything)
    for question in found.questions:
        console.print(f"  [bold red]asks:[/] {escape(question)}")


def check(console: Console, found: HostPlan, *, everything: bool) -> None:
    """The same for `verify`: how a host differs, and which entries of others decide in place of ours."""
    shown = [each for each in found.adapters if each.writes or each.conflicts]
    _host(console, found, short(found), shown, everything)


def _host(
    console: Console, found: HostPlan, what: str, shown: Sequence[AdapterPlan], everything: bool
) -> None:
    console.print(f"[bold]{escape(found.host)}[/]: {escape(what)}")
    for warning in found.warnings:
        console.print(f"  [yellow]warning:[/] {escape(warning)}")
    for adapter in found.adapters:
        if adapter in shown or adapter.came or adapter.went or everything:
            _adapter(console, adapter, everything)


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
    for sign, texts in (("+", adapter.came), ("-", adapter.went)):
        for text in texts:
            console.print(f"    [yellow]others {sign}[/] {escape(text)}  [dim]since the last apply[/]")
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


def drift(found: HostPlan) -> str:
    """One line about what is other than the last apply left it."""
    came, went = (
        sum(map(len, each)) for each in ([a.came for a in found.adapters], [a.went for a in found.adapters])
    )
    others = f"entries of others since the last apply: {came} came, {went} went" if came + went else ""
    if not found.changes:
        return others or short(found)
    return f"{short(found)}; {others}" if others else short(found)


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


def counted(number: int, noun: str) -> str:
    """A number of things, such as `1 write`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def applied(done: Applied) -> str:
    """One line about a plan carried out."""
    what = f"{counted(done.steps, 'write')} on {counted(len(done.adapters), 'adapter')}"
    text = f"applied and verified, {what}, plan {done.plan_id}"
    if not done.steps:
        text = done.note or f"no entry to write, the record is up to date, plan {done.plan_id}"
    if done.armed_until:
        text += f"; undone at {done.armed_until} unless confirmed"
    return f"{text} ({done.note})" if done.steps and done.note else text
