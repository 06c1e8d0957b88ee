"""Plans, effects and results of `vswitch hyperv` as text."""

from __future__ import annotations

from collections.abc import Sequence

from vswitch.acl_entries import Entry, describe
from vswitch.cli.output import Page, Part
from vswitch.compare.acl_diff import TrafficChange
from vswitch.compare.regions import Region
from vswitch.hyperv.applying.outcomes import Applied
from vswitch.hyperv.planning.adapter_plan import AdapterPlan
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.wording import counted

__all__ = ["applied", "check", "drift", "plan", "short"]

_COLOURS = {
    TrafficChange.ALLOWED: "green",
    TrafficChange.DENIED: "red",
    TrafficChange.STATEFUL: "green",
    TrafficChange.STATELESS: "yellow",
}
_SIGNS = {"-": "red", "+": "green", "=": "cyan", "~": "dim", " ": ""}
_INDENT = " " * 4
_SHOWN = 10


def plan(page: Page, found: HostPlan, *, everything: bool) -> None:
    """A plan, fresh or saved, as a diff by adapter, with what it does to traffic and what it asks."""
    writes = sum(len(adapter.steps) for adapter in found.adapters)
    what = (
        counted(writes, "write")
        if writes
        else "record of our entries only"
        if found.changes or found.saved
        else "nothing to do"
    )
    what += f", planned at {found.created_at}" if found.saved else ""
    _host(page, found, what, [each for each in found.adapters if each.writes or each.adopted], everything)
    for question in found.questions:
        _asks(page, question)


def check(page: Page, found: HostPlan, *, everything: bool) -> None:
    """The same for `verify`: how a host differs, and which entries of others decide in place of ours."""
    shown = [each for each in found.adapters if each.writes or each.conflicts]
    _host(page, found, short(found), shown, everything)


def _host(page: Page, found: HostPlan, what: str, shown: Sequence[AdapterPlan], everything: bool) -> None:
    page.line((found.host, "bold"), f": {what}")
    page.warnings(found.warnings)
    for adapter in found.adapters:
        if adapter in shown or adapter.came or adapter.went or everything:
            _adapter(page, adapter, everything)


def _adapter(page: Page, adapter: AdapterPlan, everything: bool) -> None:
    kept, foreign = len(adapter.kept), len(adapter.foreign)
    stay = f"{kept} of ours {'stays' if kept == 1 else 'stay'}"
    page.line("  ", (adapter.adapter.label, "bold"), f"  ({stay}, {foreign} of others left alone)")
    for before, after in adapter.changed:
        _entry(page, "-", before)
        _entry(page, "+", after, _rule(adapter, after))
    for entry in adapter.removed:
        _entry(page, "-", entry)
    for entry in adapter.added:
        _entry(page, "+", entry, _rule(adapter, entry))
    for entry in adapter.adopted:
        _entry(page, "=", entry, _rule(adapter, entry), " adopted")
    if everything:
        for entry in adapter.kept:
            _entry(page, " ", entry, _rule(adapter, entry))
        for entry in adapter.foreign:
            _entry(page, "~", entry, ("  not ours", "dim"))
    for sign, texts in (("+", adapter.came), ("-", adapter.went)):
        for text in texts:
            page.line(_INDENT, (f"others {sign}", "yellow"), f" {text}  ", ("since the last apply", "dim"))
    for diff in adapter.effects:
        for change, regions in diff.changes.items():
            _regions(
                page,
                f"{diff.direction} {change}",
                _COLOURS[change],
                regions,
                diff.more.get(change, 0),
                change in diff.unfinished,
                everything,
            )
    for each in adapter.conflicts:
        how = "decides in place of" if each.wholly else "decides for some traffic in place of"
        page.line(_INDENT, ("shadow:", "yellow"), f" {describe(each.winner)} {how} {describe(each.loser)}")


def _asks(page: Page, question: str) -> None:
    page.line("  ", ("asks:", "bold red"), f" {question}")


def _entry(page: Page, sign: str, entry: Entry, *more: Part) -> None:
    page.line(_INDENT, (f"{sign} {describe(entry)}", _SIGNS[sign]), *more)


def _rule(adapter: AdapterPlan, entry: Entry) -> Part:
    text = adapter.rule_text(entry)
    return f"  {text}" if text else "", "dim"


def _regions(
    page: Page,
    title: str,
    colour: str,
    regions: Sequence[Region],
    more: int,
    unfinished: bool,
    everything: bool,
) -> None:
    shown = regions if everything else regions[:_SHOWN]
    for region in shown:
        page.line(_INDENT, (f"{title}:", colour), f" {region}")
    left = len(regions) - len(shown) + more
    if left or unfinished:
        count = f"{'at least ' if unfinished else ''}{counted(left, 'more region')}"
        page.line(_INDENT, (f"{title}:", colour), f" and {count} (--all, --output json)")


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


def applied(done: Applied) -> str:
    """One line about a plan carried out."""
    what = f"{counted(done.steps, 'write')} on {counted(len(done.adapters), 'adapter')}"
    text = f"applied and verified, {what}, plan {done.plan_id}"
    if not done.steps:
        text = done.note or f"no entry to write, the record is up to date, plan {done.plan_id}"
    if done.armed_until:
        text += f"; undone at {done.armed_until} unless confirmed"
    return f"{text} ({done.note})" if done.steps and done.note else text
