"""`hyperv`: layouts and policies from and to real Hyper-V hosts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vswitch.cli import hyperv_text as text
from vswitch.cli.files import load
from vswitch.cli.hyperv_hosts import (
    Authenticate,
    FromFile,
    Hosts,
    InventoryOption,
    Limit,
    OnFailure,
    User,
    choose,
    work_on,
)
from vswitch.cli.output import Output, OutputOption, emit, escape, print_error
from vswitch.errors import InputError, Origin
from vswitch.hyperv.apply import Applied
from vswitch.hyperv.fleet import FleetResult, Status
from vswitch.hyperv.importing import import_hosts
from vswitch.hyperv.plan import HostPlan
from vswitch.hyperv.script import powershell_script
from vswitch.hyperv.store import read_plan_file, write_file
from vswitch.hyperv.tasks import backups as read_backups
from vswitch.hyperv.tasks import plan_policy, plan_rollback
from vswitch.model import load_site
from vswitch.model.site import Site

__all__ = ["app"]

app = typer.Typer(
    name="hyperv",
    help="Real Hyper-V hosts over WinRM: import them, plan a policy, apply, verify, take back.",
    epilog="Exit status of plan, verify and drift: 0 no difference, 1 differences, 2 error.",
    no_args_is_help=True,
)

Layout = Annotated[str, typer.Argument(help="Layout file; its policies are those to apply.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(help="Hosts, groups or patterns; all that layout and inventory know if not named."),
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", "-p", help="This policy in place of those the layout names."),
]
Adopt = Annotated[bool, typer.Option("--adopt", help="Take over entries of others that equal the policy's.")]
ShowAll = Annotated[bool, typer.Option("--all", help="Show also what stays, and every region of traffic.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.")]
Accept = Annotated[
    bool, typer.Option("--accept", help="Agree to what the plan asks: exposed traffic, loss of WinRM.")
]
ConfirmWithin = Annotated[
    int,
    typer.Option("--confirm-within", min=0, max=86400, help="Seconds after which the host undoes it unless confirmed."),
]


@app.command("import", epilog="Example: [bold]vswitch hyperv import hv01 hv02 -o site.yaml site-policy.yaml[/]")
def import_(
    hosts: Annotated[list[str] | None, typer.Argument(help="Hosts, groups or patterns.")] = None,
    out: Annotated[
        tuple[str, str], typer.Option("--out", "-o", help="The layout and the policy file to write.")
    ] = ("layout.yaml", "policy.yaml"),
    from_file: FromFile = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: Annotated[Output, typer.Option("--output", help="Print the result as text or JSON.")] = Output.TEXT,
) -> None:
    """Write the switches, VMs, adapters and ACLs of hosts as a layout and a policy; one round trip each."""
    taken = [path for path in out if Path(path).exists()]
    if taken and not force:
        raise InputError(f"{taken[0]} is there already", hint="--force overwrites it")
    if not hosts and not from_file and inventory is None:
        raise InputError("no host is named", hint="name hosts, an inventory, or a file with --from-file")
    chosen = choose(hosts or (), inventory, user=user, authentication=authentication, files=from_file)
    result = work_on(chosen, "reading", lambda target: target.read(), limit=limit, go_on=False)
    _stop_on_failure(result, output)
    states = [(each.host.name, each.value) for each in result.outcomes if each.value is not None]
    imported = import_hosts(states, layout_file=out[0], policy_file=out[1])
    for path, content in zip(out, (imported.layout, imported.policy), strict=True):
        try:
            Path(path).write_text(content, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror or error}", where=Origin(path)) from None
    site = load_site(out[0])
    entries = sum(len(adapter.acls) + len(adapter.extended_acls) for adapter in site.adapters)
    data = {
        "layout": out[0],
        "policy": out[1],
        "hosts": [name for name, _ in states],
        "adapters": len(site.adapters),
        "entries": entries,
        "notes": list(imported.notes),
    }

    def show(console: Console) -> None:
        console.print(
            f"[green]written[/] {escape(out[0])} and {escape(out[1])}: {len(states)} hosts,"
            f" {len(site.adapters)} adapters, {entries} ACL entries"
        )
        for note in imported.notes:
            console.print(f"  [yellow]note:[/] {escape(note)}")
        console.print(f"  Run it: vswitch up {escape(out[0])}")

    emit(data, show, output)


@app.command(epilog="Example: [bold]vswitch hyperv plan site.yaml hv01 --save change.json[/]")
def plan(
    layout: Layout,
    hosts: Words = None,
    policy: PolicyOption = None,
    save: Annotated[Path | None, typer.Option("--save", help="Keep the plan in a file, for `apply --plan`.")] = None,
    from_file: FromFile = None,
    adopt: Adopt = False,
    everything: ShowAll = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what would be written, which traffic that lets pass or stops, and what shadows what.

    Nothing is changed. Exit status 0 if there is nothing to do, 1 if there is, 2 on errors.
    """
    site, _ = load(layout, policy)
    chosen = choose(hosts or (), inventory, user=user, authentication=authentication, files=from_file, site=site)
    result = _plans(chosen, site, adopt, limit)
    if save is not None:
        write_file(save, _saved(result))
    _show_plans(result, everything, output)
    _leave(result)


@app.command(epilog="Example: [bold]vswitch hyperv apply site.yaml hv01 --confirm-within 120[/]")
def apply(
    layout: Annotated[str | None, typer.Argument(help="Layout file; not with --plan.")] = None,
    hosts: Words = None,
    policy: PolicyOption = None,
    saved: Annotated[str | None, typer.Option("--plan", help="Apply this saved plan.")] = None,
    confirm_within: ConfirmWithin = 0,
    adopt: Adopt = False,
    yes: Yes = False,
    accept: Accept = False,
    everything: ShowAll = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    go_on: OnFailure = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Carry a plan out: backed up, in an order that exposes nothing, verified, undone on any failure."""
    if saved is not None:
        words = [*([layout] if layout else []), *(hosts or ())]
        _apply_saved(saved, words, confirm_within, yes, accept, inventory, user, authentication, limit, go_on, output)
        return
    if layout is None:
        raise InputError("no layout is named", hint="name a layout, or a saved plan with --plan")
    site, _ = load(layout, policy)
    chosen = choose(hosts or (), inventory, user=user, authentication=authentication, site=site)
    planned = _plans(chosen, site, adopt, limit)
    _carry_out(chosen, planned, confirm_within, yes, accept, everything, limit, go_on, output)


@app.command(epilog="Example: [bold]vswitch hyperv confirm hv01[/]")
def confirm(
    hosts: Annotated[list[str], typer.Argument(help="Hosts, groups or patterns.")],
    plan_id: Annotated[str, typer.Option("--plan-id", help="The plan; the one that waits if not named.")] = "",
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep what was applied with --confirm-within: the host will not undo it."""
    chosen = choose(hosts, inventory, user=user, authentication=authentication)
    result = work_on(chosen, "confirming", lambda target: target.confirm(plan_id), limit=limit, go_on=True)
    _report(result, lambda value: f"plan {value['planId']} stays", lambda value: value, output)


@app.command(epilog="Example: [bold]vswitch hyperv verify site.yaml[/]")
def verify(
    layout: Layout,
    hosts: Words = None,
    policy: PolicyOption = None,
    from_file: FromFile = None,
    everything: ShowAll = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check that hosts hold exactly what the policies say; shows each difference and its effect.

    Exit status 0 if they do, 1 if not, 2 on errors.
    """
    site, _ = load(layout, policy)
    chosen = choose(hosts or (), inventory, user=user, authentication=authentication, files=from_file, site=site)
    result = _plans(chosen, site, False, limit)
    _show_plans(result, everything, output)
    _leave(result)


@app.command(epilog="Example: [bold]vswitch hyperv drift site.yaml -i fleet.yaml[/]")
def drift(
    layout: Layout,
    hosts: Words = None,
    policy: PolicyOption = None,
    from_file: FromFile = None,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say in one line a host whether it differs from the policies; for a scheduler.

    Exit status 0 if none does, 1 if one does, 2 if one could not be read.
    """
    site, _ = load(layout, policy)
    chosen = choose(hosts or (), inventory, user=user, authentication=authentication, files=from_file, site=site)
    result = _plans(chosen, site, False, limit)
    _report(
        result, text.short, lambda value: {"changes": value.changes, "summary": text.short(value)}, output, leave=False
    )
    _leave(result)


@app.command(epilog="Example: [bold]vswitch hyperv rollback hv01[/]")
def rollback(
    hosts: Annotated[list[str], typer.Argument(help="Hosts, groups or patterns.")],
    to: Annotated[str, typer.Option("--to", help="To before this plan; the latest if not named.")] = "",
    confirm_within: ConfirmWithin = 0,
    yes: Yes = False,
    accept: Accept = False,
    everything: ShowAll = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    go_on: OnFailure = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring our entries back to what they were before a plan; entries of others stay as they are."""
    chosen = choose(hosts, inventory, user=user, authentication=authentication)
    planned = work_on(chosen, "reading", lambda target: plan_rollback(target, to), limit=limit, go_on=True)
    _carry_out(chosen, planned, confirm_within, yes, accept, everything, limit, go_on, output)


@app.command(epilog="Example: [bold]vswitch hyperv backups hv01[/]")
def backups(
    hosts: Annotated[list[str], typer.Argument(help="Hosts, groups or patterns.")],
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the plans that were applied to hosts, and their states."""
    chosen = choose(hosts, inventory, user=user, authentication=authentication)
    result = work_on(chosen, "reading", read_backups, limit=limit, go_on=True)

    def show(console: Console) -> None:
        for each in result.outcomes:
            for backup in each.value or ():
                until = f", undone at {backup['armedUntil']} unless confirmed" if backup.get("armedUntil") else ""
                line = f"{backup['planId']}  {backup['createdAt']}  {backup['state']}, {backup['steps']} writes{until}"
                console.print(f"[bold]{escape(each.host.name)}[/] {escape(line)}")

    emit({each.host.name: each.value for each in result.outcomes}, show, output)
    _stop_on_failure(result, output)


@app.command(epilog="Example: [bold]vswitch hyperv export site.yaml --host hv01 --out hv01.ps1[/]")
def export(
    layout: Layout,
    host: Annotated[str, typer.Option("--host", help="Which host of the layout; the only one if not named.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="The script to write; else it is printed.")] = None,
    policy: PolicyOption = None,
) -> None:
    """Write the policies of one host as a plain PowerShell script that can be read and run by hand."""
    site, _ = load(layout, policy)
    names = [each.name for each in site.hosts]
    if not host and len(names) == 1:
        host = names[0]
    if host not in names:
        raise InputError(f"the layout has no host {host!r}" if host else "which host?", hint=f"hosts: {', '.join(names)}")
    script = powershell_script(site, host)
    if out is None:
        typer.echo(script, nl=False)
        return
    try:
        out.write_text(script, encoding="utf-8-sig", newline="\r\n")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=Origin(str(out))) from None
    typer.echo(f"written {out}")


# --- what they share -----------------------------------------------------------------------------


def _plans(chosen: Hosts, site: Site, adopt: bool, limit: int) -> FleetResult[HostPlan]:
    return work_on(
        chosen, "reading", lambda target: plan_policy(target, site, adopt=adopt), limit=limit, go_on=True
    )


def _saved(result: FleetResult[HostPlan]) -> dict[str, Any]:
    plans = [each.value for each in result.outcomes if each.value is not None]
    return {
        "schema": 1,
        "kind": "vswitch-plan",
        "plans": [{"name": each.host, "plan": each.wire(), "review": each.as_dict()} for each in plans],
    }


def _show_plans(result: FleetResult[HostPlan], everything: bool, output: Output) -> None:
    def show(console: Console) -> None:
        for each in result.outcomes:
            if each.value is not None:
                text.plan(console, each.value, everything=everything)
        if len(result.outcomes) > 1 or not result.ok:
            console.print(escape(result.summary(text.short)))

    emit({"hosts": [_outcome(each, each.value.as_dict() if each.value else None) for each in result.outcomes]}, show, output)
    _print_errors(result, output)


def _outcome(each: Any, value: Any) -> dict[str, Any]:
    found = {"host": each.host.name, "status": str(each.status), "seconds": round(each.seconds, 3)}
    if each.error is not None:
        found["error"] = each.error.as_dict()
    return found | ({"result": value} if value is not None else {})


def _print_errors(result: FleetResult[Any], output: Output) -> None:
    for each in result.with_status(Status.FAILED):
        if each.error is not None and output is Output.TEXT:
            print_error(each.error, as_json=False)


def _leave(result: FleetResult[HostPlan]) -> None:
    """Exit status 2 on errors, 1 with changes, else 0."""
    if not result.ok:
        raise typer.Exit(2)
    if any(each.value is not None and each.value.changes for each in result.outcomes):
        raise typer.Exit(1)


def _stop_on_failure(result: FleetResult[Any], output: Output) -> None:
    failed = result.with_status(Status.FAILED)
    if len(result.outcomes) == 1 and failed and failed[0].error is not None:
        raise failed[0].error
    _print_errors(result, output)
    if failed:
        raise typer.Exit(2)


def _report(
    result: FleetResult[Any], line: Any, data: Any, output: Output, *, leave: bool = True
) -> None:
    """One line for each kind of outcome, and the errors."""
    hosts = [_outcome(each, data(each.value) if each.value is not None else None) for each in result.outcomes]
    emit({"hosts": hosts}, lambda console: console.print(escape(result.summary(line))), output)
    _print_errors(result, output)
    if leave and not result.ok:
        raise typer.Exit(2)


def _carry_out(
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
        _show_plans(planned, everything, output)
    if not planned.ok and not go_on:
        if output is Output.JSON:
            _show_plans(planned, everything, output)
        raise typer.Exit(2)
    todo = {name: each for name, each in plans.items() if each.changes}
    _ask([question for each in todo.values() for question in each.questions], bool(todo), yes, accept)
    result: FleetResult[Applied] = work_on(
        chosen,
        "applying",
        lambda target: target.apply(todo[target.name], confirm_within=confirm_within),
        limit=limit,
        go_on=go_on,
        only=list(todo),
    )
    _report(result, text.applied, lambda value: value.as_dict(), output)
    if not planned.ok:
        raise typer.Exit(2)


def _ask(questions: list[str], anything: bool, yes: bool, accept: bool) -> None:
    """Ask the person at the terminal; without one, everything must have been agreed to beforehand."""
    if not anything:
        return
    terminal = sys.stdin.isatty()
    if questions and not accept:
        if not terminal:
            raise InputError(f"this has to be agreed to: {questions[0]}", hint="--accept agrees")
        typer.confirm("Agree to what the plan asks, and apply?", abort=True, err=True)
    elif not yes:
        if not terminal:
            raise InputError("nobody is there to be asked whether to apply", hint="--yes applies without asking")
        typer.confirm("Apply?", abort=True, err=True)


def _apply_saved(
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
    saved = {str(each["name"]): each for each in read_plan_file(path)["plans"]}
    unknown = [word for word in words if word not in saved]
    if unknown:
        raise InputError(f"the saved plan is not for {unknown[0]}", where=Origin(path), hint=f"it is for: {', '.join(saved)}")
    todo = {name: each for name, each in saved.items() if (not words or name in words) and each["plan"]["adapters"]}
    questions = [question for each in todo.values() for question in each["review"]["questions"]]
    _ask(questions, bool(todo), yes, accept)
    if not todo:
        emit({"hosts": []}, lambda console: console.print("nothing to do"), output)
        return
    chosen = choose(list(todo), inventory, user=user, authentication=authentication)
    result: FleetResult[Applied] = work_on(
        chosen,
        "applying",
        lambda target: target.apply(todo[target.name]["plan"], confirm_within=confirm_within),
        limit=limit,
        go_on=go_on,
    )
    _report(result, text.applied, lambda value: value.as_dict(), output)
