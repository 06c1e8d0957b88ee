"""What the commands of `vswitch hyperv` share: planning, showing, asking, carrying out, reporting."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from vswitch.cli import hyperv_text as text
from vswitch.cli.hyperv_hosts import Hosts, choose, shown, work_on
from vswitch.cli.output import Output, Page, ask, emit, note, print_error
from vswitch.errors import EnvironmentError_, InputError, Origin
from vswitch.hyperv.applying.outcomes import Applied, ApplyError, Standing
from vswitch.hyperv.applying.remote_host import backups, plan_policy, plan_rollback
from vswitch.hyperv.applying.saved_plans import save_plan_file
from vswitch.hyperv.fleet.fleet_plans import FleetPlans, saved_for
from vswitch.hyperv.fleet.fleet_run import FleetResult, HostOutcome, Status
from vswitch.hyperv.host.backup_document import BackupSummary
from vswitch.hyperv.importing.importer import import_hosts
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.json_values import Json
from vswitch.model import load_site
from vswitch.model.site import Site
from vswitch.textfiles import read_text
from vswitch.wording import counted

__all__ = [
    "HowToApply",
    "asked_to",
    "backups",
    "carry_out",
    "choose",
    "import_to",
    "leave",
    "plans",
    "report",
    "rollbacks",
    "save_plans",
    "saved_for",
    "show_backups",
    "show_drift",
    "show_plans",
    "stop_on_failure",
    "work_on",
]

R = TypeVar("R")


def plans(chosen: Hosts, site: Site, adopt: bool, limit: int) -> FleetPlans:
    """A plan for each host."""
    return chosen.fleet.plans(
        work_on(chosen, "reading", lambda target: plan_policy(target, site, adopt=adopt), limit=limit)
    )


def rollbacks(chosen: Hosts, to: str, limit: int) -> FleetPlans:
    """For each host, a plan that takes back others."""
    return chosen.fleet.plans(
        work_on(chosen, "reading", lambda target: plan_rollback(target, to), limit=limit)
    )


def save_plans(path: Path, planned: FleetPlans, go_on: bool) -> str:
    """Keep the plans for `apply --plan`, and return what to say of it.

    Not if a host failed, unless `go_on`: `apply` could not tell that it is missing. Raises InputError:
    status 1 would mean changes.
    """
    if missing := planned.why_none_counts(go_on=go_on):
        return f"not saved to {path}: {missing}"
    try:
        save_plan_file(path, planned.plans.values())
    except EnvironmentError_ as error:
        raise InputError(error.message) from None
    command = shlex.join(["vswitch", "hyperv", "apply", "--plan", str(path)])
    return f"saved to {path}; apply it with: {command}"


def show_plans(planned: FleetPlans, everything: bool, output: Output, *, checking: bool = False) -> None:
    """Print plans, or for `verify` what they come from; a summary where there are several; errors."""
    result = planned.result

    def show(page: Page) -> None:
        for each in result.outcomes:
            if each.value is not None:
                (text.check if checking else text.plan)(page, each.value, everything=everything)
        if (len(result.outcomes) > 1 or not result.ok) and not planned.saved:
            page.lines(result.summary(text.short))

    emit({"hosts": [_outcome(each, HostPlan.as_dict) for each in result.outcomes]}, show, output)
    _print_errors(result, output)


def _outcome(each: HostOutcome[R], data: Callable[[R], Json]) -> dict[str, Json]:
    found: dict[str, Json] = {
        "host": each.host.name,
        "status": each.word,
        "seconds": round(each.seconds, 3),
    }
    if each.error is not None:
        found["error"] = each.error.as_dict()
    if each.reason:
        found["reason"] = each.reason
    return found | ({"result": data(each.value)} if each.value is not None else {})


def _print_errors(result: FleetResult[R], output: Output) -> None:
    for each in result.with_status(Status.FAILED):
        if each.error is not None and output is Output.TEXT:
            print_error(each.error, as_json=False)
            if isinstance(each.error, ApplyError) and each.error.standing is Standing.OTHER:
                for adapter in each.error.adapters:
                    note(f"  {adapter.label}: {adapter.standing}")
                    for line in adapter.details:
                        note(f"    {line}")


def leave(planned: FleetPlans, *, drifted: bool = False) -> None:
    """End with the exit status of plans: see `FleetPlans.exit_status`."""
    if status := planned.exit_status(drifted=drifted):
        raise typer.Exit(status)


def stop_on_failure(result: FleetResult[R], output: Output) -> None:
    """Print errors; the exit status of the worst, if there are any."""
    failed = result.with_status(Status.FAILED)
    if len(result.outcomes) == 1 and failed and failed[0].error is not None:
        raise failed[0].error
    _print_errors(result, output)
    if failed:
        raise typer.Exit(result.exit_status)


def report(
    result: FleetResult[R],
    line: Callable[[R], str],
    data: Callable[[R], Json],
    output: Output,
    *,
    leave: bool = True,
) -> None:
    """One line for each kind of outcome, and the errors."""
    hosts = [_outcome(each, data) for each in result.outcomes]
    emit({"hosts": hosts}, lambda page: page.lines(result.summary(line)), output)
    _print_errors(result, output)
    if leave and not result.ok:
        raise typer.Exit(result.exit_status)


@dataclass(frozen=True)
class HowToApply:
    """The options of `apply` and `rollback`, as their help says."""

    confirm_within: int
    yes: bool
    accept: bool
    everything: bool
    limit: int
    go_on: bool
    output: Output


def carry_out(chosen: Hosts, planned: FleetPlans, how: HowToApply) -> None:
    """Show plans, fresh or saved, ask, and carry them out."""
    output = how.output
    if output is Output.TEXT:
        show_plans(planned, how.everything, output)
    if missing := planned.why_none_counts(go_on=how.go_on):
        if output is Output.JSON:
            show_plans(planned, how.everything, output)
        note(f"nothing was written on any host: {missing}")
        raise typer.Exit(planned.result.exit_status or 2)
    todo = planned.to_send()
    _ask([*todo.values()], how)
    result = shown(
        "applying",
        lambda say: chosen.fleet.apply(
            planned,
            confirm_within=how.confirm_within,
            go_on=how.go_on,
            limit=how.limit,
            progress=say,
        ),
        text.applied,
        lambda name: asked_to(
            chosen, name, f"apply plan {todo[name].plan_id}", todo[name].plan_id, how.confirm_within
        ),
    )
    _report_applied(chosen, result, output)


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
    report(result, text.applied, Applied.as_dict, output, leave=False)
    until = {each.host.name: each.value.armed_until for each in result.outcomes if each.value is not None}
    armed = {name: time for name, time in until.items() if time}
    if armed and output is Output.TEXT:
        command = " ".join(["vswitch hyperv confirm", *armed, *([chosen.options] if chosen.options else [])])
        Page(sys.stdout).line(f"undone at {min(armed.values())} unless confirmed: {command}")
    if not result.ok:
        raise typer.Exit(result.exit_status)


def _ask(plans: list[HostPlan], how: HowToApply) -> None:
    """Ask the person at the terminal; without one, everything must have been agreed to beforehand."""
    if not any(each.changes or each.saved for each in plans):
        return
    questions = [question for each in plans for question in each.questions]
    terminal = sys.stdin.isatty()
    if questions and not how.accept:
        if not terminal:
            raise InputError(f"this has to be agreed to: {questions[0]}", hint="--accept agrees")
        ask("Agree to what the plan asks, and apply?")
    elif not how.yes:
        if not terminal:
            raise InputError(
                "nobody is there to be asked whether to apply", hint="--yes applies without asking"
            )
        ask("Apply?")


def show_drift(planned: FleetPlans, output: Output) -> None:
    """One line for each kind of difference."""

    def data(value: HostPlan) -> Json:
        others: list[Json] = [
            {"adapter": each.adapter.label, "came": each.came, "went": each.went}
            for each in value.adapters
            if each.came or each.went
        ]
        return {"changes": value.changes, "others": others, "summary": text.drift(value)}

    report(planned.result, text.drift, data, output, leave=False)


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


def show_backups(result: FleetResult[tuple[BackupSummary, ...]], output: Output) -> None:
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

    def data(found: tuple[BackupSummary, ...]) -> Json:
        return [each.to_dict() for each in found]

    emit({"hosts": [_outcome(each, data) for each in result.outcomes]}, show, output)
    _print_errors(result, output)
    if not result.ok:
        raise typer.Exit(result.exit_status)
