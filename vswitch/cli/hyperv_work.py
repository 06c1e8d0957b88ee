"""What the commands of `vswitch hyperv` share: planning, showing, asking, carrying out, reporting."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from vswitch.cli import hyperv_text as text
from vswitch.cli.hyperv_hosts import Hosts, choose, work_on
from vswitch.cli.output import Output, Page, ask, emit, note, print_error
from vswitch.errors import EnvironmentError_, InputError, Origin
from vswitch.hyperv.applying.json_files import write_file
from vswitch.hyperv.applying.outcomes import Applied, ApplyError, Standing
from vswitch.hyperv.applying.remote_host import backups, plan_policy, plan_rollback
from vswitch.hyperv.applying.saved_plans import read_plan_file, saved_plans
from vswitch.hyperv.fleet.fleet_run import FleetResult, HostOutcome, Status
from vswitch.hyperv.host.answers import BackupSummary
from vswitch.hyperv.importing.importer import import_hosts
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.model import load_site
from vswitch.model.problems import listing
from vswitch.model.site import Site
from vswitch.textfiles import read_text
from vswitch.wording import counted

__all__ = [
    "apply_saved",
    "asked_to",
    "backups",
    "carry_out",
    "choose",
    "import_to",
    "leave",
    "plan_rollback",
    "plans",
    "report",
    "save_plans",
    "show_backups",
    "show_drift",
    "show_plans",
    "stop_on_failure",
    "work_on",
]


def plans(chosen: Hosts, site: Site, adopt: bool, limit: int) -> FleetResult[HostPlan]:
    """A plan for each host."""
    return work_on(chosen, "reading", lambda target: plan_policy(target, site, adopt=adopt), limit=limit)


def _why_no_plan_counts(chosen: Hosts, planned: FleetResult[HostPlan], go_on: bool) -> str:
    """Which host without a plan keeps the others from being written; empty if none does."""
    failed = [each.host.name for each in planned.outcomes if each.status is not Status.DONE]
    if canaries := [name for name in failed if name in chosen.canary]:
        return f"the canary {canaries[0]} could not be planned"
    if failed and not go_on:
        return f"{listing(failed, 4)} could not be planned; --continue goes on with the others"
    return ""


def save_plans(path: Path, chosen: Hosts, result: FleetResult[HostPlan], go_on: bool) -> str:
    """Keep the plans for `apply --plan`, and return what to say of it.

    Not if a host failed, unless `go_on`: `apply` could not tell that it is missing. Raises InputError:
    status 1 would mean changes.
    """
    if missing := _why_no_plan_counts(chosen, result, go_on):
        return f"not saved to {path}: {missing}"
    plans = [each.value for each in result.outcomes if each.value is not None]
    try:
        write_file(path, saved_plans(plans))
    except EnvironmentError_ as error:
        raise InputError(error.message) from None
    command = shlex.join(["vswitch", "hyperv", "apply", "--plan", str(path)])
    return f"saved to {path}; apply it with: {command}"


def show_plans(
    result: FleetResult[HostPlan], everything: bool, output: Output, *, checking: bool = False
) -> None:
    """Print plans, or for `verify` what they come from; a summary where there are several; errors."""

    def show(page: Page) -> None:
        for each in result.outcomes:
            if each.value is not None:
                (text.check if checking else text.plan)(page, each.value, everything=everything)
        if len(result.outcomes) > 1 or not result.ok:
            page.lines(result.summary(text.short))

    emit(
        {"hosts": [_outcome(each, each.value.as_dict() if each.value else None) for each in result.outcomes]},
        show,
        output,
    )
    _print_errors(result, output)


def _outcome(each: Any, value: Any) -> dict[str, Any]:
    found = {"host": each.host.name, "status": each.word, "seconds": round(each.seconds, 3)}
    if each.error is not None:
        found["error"] = each.error.as_dict()
    if each.reason:
        found["reason"] = each.reason
    return found | ({"result": value} if value is not None else {})


def _print_errors(result: FleetResult[Any], output: Output) -> None:
    for each in result.with_status(Status.FAILED):
        if each.error is not None and output is Output.TEXT:
            print_error(each.error, as_json=False)
            if isinstance(each.error, ApplyError) and each.error.standing is Standing.OTHER:
                for adapter in each.error.adapters:
                    note(f"  {adapter.label}: {adapter.standing}")
                    for line in adapter.details:
                        note(f"    {line}")


def leave(result: FleetResult[HostPlan], *, drifted: bool = False) -> None:
    """That of the worst error, 1 with changes (or drift), else 0."""
    if not result.ok:
        raise typer.Exit(result.exit_status)
    found = [each.value for each in result.outcomes if each.value is not None]
    if any(each.drifted if drifted else each.changes for each in found):
        raise typer.Exit(1)


def stop_on_failure(result: FleetResult[Any], output: Output) -> None:
    """Print errors; the exit status of the worst, if there are any."""
    failed = result.with_status(Status.FAILED)
    if len(result.outcomes) == 1 and failed and failed[0].error is not None:
        raise failed[0].error
    _print_errors(result, output)
    if failed:
        raise typer.Exit(result.exit_status)


def report(result: FleetResult[Any], line: Any, data: Any, output: Output, *, leave: bool = True) -> None:
    """One line for each kind of outcome, and the errors."""
    hosts = [_outcome(each, data(each.value) if each.value is not None else None) for each in result.outcomes]
    emit({"hosts": hosts}, lambda page: page.lines(result.summary(line)), output)
    _print_errors(result, output)
    if leave and not result.ok:
        raise typer.Exit(2)


def carry_out(
    chosen: Hosts,
    planned: FleetResult[HostPlan],
    confirm_within: int,
    yes: bool,
    accept: bool,
    everything: bool,
    limit: int,
    go_on: bool,
    output: Output,
) -> None:
    """Show plans, ask, and carry them out."""
    plans = {each.host.name: each.value for each in planned.outcomes if each.value is not None}
    if output is Output.TEXT:
        show_plans(planned, everything, output)
    if missing := _why_no_plan_counts(chosen, planned, go_on):
        if output is Output.JSON:
            show_plans(planned, everything, output)
        note(f"nothing was written on any host: {missing}")
        raise typer.Exit(planned.exit_status or 2)
    todo = {name: each for name, each in plans.items() if each.drifted}
    _refuse_twins(todo)
    _ask(
        [question for each in todo.values() for question in each.questions],
        any(each.changes for each in todo.values()),
        yes,
        accept,
    )
    done: FleetResult[Applied] = work_on(
        chosen,
        "applying",
        lambda target: target.apply(todo[target.name], confirm_within=confirm_within),
        limit=limit,
        writing=True,
        go_on=go_on,
        only=list(todo),
        describe=text.applied,
        asked=lambda name: asked_to(
            chosen, name, f"apply plan {todo[name].plan_id}", todo[name].plan_id, confirm_within
        ),
    )
    at_work = {each.host.name: each for each in done.outcomes}
    outcomes = (at_work.get(each.host.name) or _without_work(each) for each in planned.outcomes)
    _report_applied(chosen, FleetResult(tuple(outcomes)), output)


def asked_to(chosen: Hosts, name: str, what: str, plan_id: str, confirm_within: int = 0) -> list[str]:
    """What to say of a host that was left at work: what it may still do, how to see it, how to undo it."""
    of = shlex.join([name]) + (f" {chosen.options}" if chosen.options else "")
    to = f" --to {shlex.quote(plan_id)}" if plan_id else ""
    lines = [
        f"{name} was asked to {what}, which may still come into force",
        f"  see what became of it: vswitch hyperv backups {of}",
        f"  undo it: vswitch hyperv rollback {of}{to}",
    ]
    if confirm_within:
        lines.append(
            f"  unless confirmed, {name} undoes it by itself within {confirm_within} s of its writes"
        )
    return lines


def _report_applied(chosen: Hosts, result: FleetResult[Applied], output: Output) -> None:
    """What became of each host, and last how to keep what the hosts would undo."""
    report(result, text.applied, lambda value: value.as_dict(), output, leave=False)
    until = {each.host.name: each.value.armed_until for each in result.outcomes if each.value is not None}
    armed = {name: time for name, time in until.items() if time}
    if armed and output is Output.TEXT:
        command = " ".join(["vswitch hyperv confirm", *armed, *([chosen.options] if chosen.options else [])])
        Page(sys.stdout).line(f"undone at {min(armed.values())} unless confirmed: {command}")
    if not result.ok:
        raise typer.Exit(result.exit_status)


def _refuse_twins(plans: dict[str, HostPlan]) -> None:
    """One host under two names would be written by two plans at once."""
    seen: dict[tuple[str, str], str] = {}
    for name, plan in plans.items():
        for adapter in plan.adapters:
            first = seen.setdefault((plan.computer.lower(), adapter.adapter.id), name)
            if first != name:
                raise InputError(
                    f"{first} and {name} are the same host, {plan.computer}",
                    hint="name it once; nothing was written",
                )


def _without_work(planned: HostOutcome[HostPlan]) -> HostOutcome[Applied]:
    """What there is to say of a host on which nothing was to be done, or that could not be read."""
    nothing = None if planned.value is None else Applied(planned.value.plan_id, 0, note="nothing to do")
    return HostOutcome(planned.host, planned.status, nothing, planned.error, planned.seconds)


def _ask(questions: list[str], anything: bool, yes: bool, accept: bool) -> None:
    """Ask the person at the terminal; without one, everything must have been agreed to beforehand."""
    if not anything:
        return
    terminal = sys.stdin.isatty()
    if questions and not accept:
        if not terminal:
            raise InputError(f"this has to be agreed to: {questions[0]}", hint="--accept agrees")
        ask("Agree to what the plan asks, and apply?")
    elif not yes:
        if not terminal:
            raise InputError(
                "nobody is there to be asked whether to apply", hint="--yes applies without asking"
            )
        ask("Apply?")


def apply_saved(
    path: str,
    words: list[str],
    confirm_within: int,
    yes: bool,
    accept: bool,
    inventory: str | None,
    user: str | None,
    authentication: Any,
    limit: int,
    go_on: bool,
    output: Output,
) -> None:
    """Carry out plans from a file."""
    saved = {each.name: each for each in read_plan_file(path)}
    unknown = [word for word in words if word not in saved]
    if unknown:
        raise InputError(
            f"the saved plan is not for {unknown[0]}",
            where=Origin(path),
            hint=f"it is for: {', '.join(saved)}",
        )
    todo = {name: each for name, each in saved.items() if (not words or name in words) and each.plan.adapters}
    if not todo:
        emit({"hosts": []}, lambda page: page.line("nothing to do"), output)
        return
    chosen = choose(list(todo), inventory, user=user, authentication=authentication)
    if unreached := [name for name in todo if name not in chosen.targets]:
        raise InputError(f"the inventory has no host {unreached[0]}, for which the saved plan is")
    shown = [replace(each.plan, port=chosen.targets[name].port) for name, each in todo.items()]

    def show(page: Page) -> None:
        for plan in shown:
            text.plan(page, plan, everything=False, saved=True)

    if output is Output.TEXT:
        emit(None, show, output)
    _ask([question for plan in shown for question in plan.questions], True, yes, accept)
    result: FleetResult[Applied] = work_on(
        chosen,
        "applying",
        lambda target: target.apply(todo[target.name].wire, confirm_within=confirm_within),
        limit=limit,
        writing=True,
        go_on=go_on,
        describe=text.applied,
        asked=lambda name: asked_to(
            chosen,
            name,
            f"apply plan {todo[name].plan.plan_id}",
            todo[name].plan.plan_id,
            confirm_within,
        ),
    )
    _report_applied(chosen, result, output)


def show_drift(result: FleetResult[HostPlan], output: Output) -> None:
    """One line for each kind of difference."""

    def data(value: HostPlan) -> dict[str, Any]:
        others = [
            {"adapter": each.adapter.label, "came": each.came, "went": each.went}
            for each in value.adapters
            if each.came or each.went
        ]
        return {"changes": value.changes, "others": others, "summary": text.drift(value)}

    report(result, text.drift, data, output, leave=False)


def import_to(chosen: Hosts, out: tuple[str, str], limit: int, output: Output) -> None:
    """Read hosts and write the layout and the policy."""
    result = work_on(chosen, "reading", lambda target: target.read(), limit=limit)
    stop_on_failure(result, output)
    states = [(each.host.name, each.value) for each in result.outcomes if each.value is not None]
    imported = import_hosts(states, layout_file=out[0], policy_file=out[1])
    for path, content in zip(out, (imported.layout, imported.policy), strict=True):
        try:
            Path(path).write_text(content, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror or error}", where=Origin(path)) from None
    site = load_site(out[0], read=read_text)
    entries = sum(len(adapter.acls) + len(adapter.extended_acls) for adapter in site.adapters)
    data = {
        "layout": out[0],
        "policy": out[1],
        "hosts": [name for name, _ in states],
        "adapters": len(site.adapters),
        "entries": entries,
        "notes": list(imported.notes),
    }

    def show(page: Page) -> None:
        page.line(
            ("written", "green"),
            f" {out[0]} and {out[1]}: {counted(len(states), 'host')},"
            f" {counted(len(site.adapters), 'adapter')}, {counted(entries, 'ACL entry', 'ACL entries')}",
        )
        page.warnings(imported.notes, "note")
        page.line(f"  Run it: vswitch up {shlex.quote(out[0])}")

    emit(data, show, output)


def show_backups(result: FleetResult[list[BackupSummary]], output: Output) -> None:
    """The plans applied to hosts."""

    def show(page: Page) -> None:
        for each in result.outcomes:
            for backup in each.value or ():
                until = f", undone at {backup.armed_until} unless confirmed" if backup.armed_until else ""
                words = f"{backup.state}, {counted(backup.steps, 'write')}{until}"
                line = f"{backup.plan_id}  {backup.created_at}  {words}"
                if backup.state == "unreadable":
                    line = f"{backup.plan_id}  unreadable: the file on the host is damaged"
                page.line((each.host.name, "bold"), f" {line}")

    def data(found: list[BackupSummary] | None) -> list[dict[str, Any]] | None:
        return None if found is None else [each.raw for each in found]

    emit({"hosts": [_outcome(each, data(each.value)) for each in result.outcomes]}, show, output)
    _print_errors(result, output)
    if not result.ok:
        raise typer.Exit(result.exit_status)
