"""`hyperv`: layouts and policies from and to real Hyper-V hosts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vswitch.cli import completion
from vswitch.cli.files import load
from vswitch.cli.front import Commands
from vswitch.cli.output import Output, OutputOption, emit, note, verbatim
from vswitch.errors import InputError, Origin
from vswitch.hyperv.winrm.connection import Authentication
from vswitch.model.names import find_name

__all__ = ["app", "register"]

app = typer.Typer(
    name="hyperv",
    help="Real Hyper-V hosts over WinRM: import them, plan a policy, apply, verify, take back.",
    epilog="Exit status of plan, verify and drift: 0 no difference, 1 differences, 2 error.",
    cls=Commands,
)


def register(program: typer.Typer) -> None:
    """Add the commands of this module."""
    program.add_typer(app)


InventoryOption = Annotated[
    str | None,
    typer.Option(
        "--inventory",
        "-i",
        envvar="VSWITCH_INVENTORY",
        help="File with hosts, groups and how they are reached.",
        autocompletion=completion.yaml_files,
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Hosts worked on at the same time.")]
OnFailure = Annotated[
    bool, typer.Option("--continue/--stop", help="After a failure: go on with the other hosts, or stop.")
]
User = Annotated[str | None, typer.Option("--user", "-u", help="User name, where the inventory has none.")]
Authenticate = Annotated[
    Authentication | None, typer.Option("--authentication", "-a", help="Without an inventory: how to log on.")
]
FromFile = Annotated[
    list[Path] | None,
    typer.Option(
        "--from-file",
        help="Use a state exported with powershell/Export-VswitchState.ps1; repeatable.",
        autocompletion=completion.any_files,
    ),
]
Layout = Annotated[
    str,
    typer.Argument(
        help="Layout file; its policies are those to apply.", autocompletion=completion.yaml_files
    ),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hosts, groups or patterns; all that layout and inventory know if not named.",
        autocompletion=completion.inventory_hosts,
    ),
]
NamedHosts = Annotated[
    list[str], typer.Argument(help="Hosts, groups or patterns.", autocompletion=completion.inventory_hosts)
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        "-p",
        help="This policy in place of those the layout names.",
        autocompletion=completion.yaml_files,
    ),
]
Adopt = Annotated[bool, typer.Option("--adopt", help="Take over entries of others that equal the policy's.")]
ShowAll = Annotated[bool, typer.Option("--all", help="Show also what stays, and every region of traffic.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
Accept = Annotated[
    bool, typer.Option("--accept", help="Agree to what the plan asks: exposed traffic, loss of WinRM.")
]


def _keep(files: Iterable[str | Path], force: bool) -> None:
    taken = [path for path in files if Path(path).exists()]
    if taken and not force:
        raise InputError(f"{taken[0]} is there already", hint="--force overwrites it")


def _confirm_within(seconds: int) -> int:
    if seconds and not 10 <= seconds <= 86400:
        raise typer.BadParameter(
            f"{seconds} is not within 10 to 86400 seconds: less would be over before the host has armed its"
            " undo, and more than a day is no trial any more; 0 is without"
        )
    return seconds


ConfirmWithin = Annotated[
    int,
    typer.Option(
        "--confirm-within",
        callback=_confirm_within,
        help="Seconds (10 to 86400) after which the host undoes it unless confirmed.",
    ),
]


class _Import(TyperCommand):
    """`hyperv import`, whose -o means the files to write."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's; raises InputError where -o is given a format."""
        for option, value in pairwise([*args, ""]):
            wanted = value if option in ("-o", "--out") else option.removeprefix("-o").removeprefix("--out=")
            if wanted in ("json", "text") and wanted != option and not ctx.resilient_parsing:
                raise InputError(
                    f"with `hyperv import`, {option} names the two files to write",
                    hint=f"As a format write --output {wanted}; as files -o layout.yaml policy.yaml.",
                )
        return super().parse_args(ctx, args)


@app.command(
    "import",
    cls=_Import,
    epilog="Example: [bold]vswitch hyperv import hv01 hv02 -o site.yaml site-policy.yaml[/]",
)
def import_(
    hosts: Annotated[
        list[str] | None,
        typer.Argument(help="Hosts, groups or patterns.", autocompletion=completion.inventory_hosts),
    ] = None,
    out: Annotated[
        tuple[str, str],
        typer.Option(
            "--out",
            "-o",
            metavar="LAYOUT POLICY",
            help="The two files to write. (With all other commands -o means --output.)",
            autocompletion=completion.yaml_files,
        ),
    ] = ("layout.yaml", "policy.yaml"),
    from_file: FromFile = None,
    force: Force = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: Annotated[
        Output, typer.Option("--output", help="Print the result as text or JSON.")
    ] = Output.TEXT,
) -> None:
    """Write the switches, VMs, adapters and ACLs of hosts as a layout and a policy; one round trip each."""
    from vswitch.cli import hyperv_work as work

    if not hosts and not from_file and inventory is None:
        raise InputError("no host is named", hint="name hosts, an inventory, or a file with --from-file")
    _keep(out, force)
    chosen = work.choose(hosts or (), inventory, user=user, authentication=authentication, files=from_file)
    work.import_to(chosen, out, limit, output)


@app.command(epilog="Example: [bold]vswitch hyperv plan site.yaml hv01 --save change.json[/]")
def plan(
    layout: Layout,
    hosts: Words = None,
    policy: PolicyOption = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", help="Keep the plan in a file, for `apply --plan`.", autocompletion=completion.any_files
        ),
    ] = None,
    from_file: FromFile = None,
    adopt: Adopt = False,
    everything: ShowAll = False,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue/--stop", help="With --save: if a host fails, save the others' plans, or none."
        ),
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what would be written, which traffic that lets pass or stops, and what shadows what.

    Nothing is changed. Exit status 0 if there is nothing to do, 1 if there is, 2 on errors.
    """
    from vswitch.cli import hyperv_work as work

    site, _ = load(layout, policy)
    chosen = work.choose(
        hosts or (), inventory, user=user, authentication=authentication, files=from_file, site=site
    )
    result = work.plans(chosen, site, adopt, limit)
    said = work.save_plans(save, result, go_on) if save is not None else None
    work.show_plans(result, everything, output)
    if said:
        note(said)
    work.leave(result)


@app.command(epilog="Example: [bold]vswitch hyperv apply site.yaml hv01 --confirm-within 120[/]")
def apply(
    layout: Annotated[
        str | None, typer.Argument(help="Layout file; not with --plan.", autocompletion=completion.yaml_files)
    ] = None,
    hosts: Words = None,
    policy: PolicyOption = None,
    saved: Annotated[
        str | None, typer.Option("--plan", help="Apply this saved plan.", autocompletion=completion.any_files)
    ] = None,
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
    from vswitch.cli import hyperv_work as work

    if saved is not None:
        if policy or adopt:
            raise InputError(
                "a saved plan says all there is to write", hint="--policy and --adopt go with `plan --save`"
            )
        todo = work.saved_for(saved, [*([layout] if layout else []), *(hosts or ())])
        if not todo:
            emit({"hosts": []}, lambda page: page.line("nothing to do"), output)
            return
        names = [each.host for each in todo]
        chosen = work.choose(names, inventory, user=user, authentication=authentication)
        planned = chosen.fleet.plans_from(todo)
    elif layout is None:
        raise InputError("no layout is named", hint="name a layout, or a saved plan with --plan")
    else:
        site, _ = load(layout, policy)
        chosen = work.choose(hosts or (), inventory, user=user, authentication=authentication, site=site)
        planned = work.plans(chosen, site, adopt, limit)
    how = work.HowToApply(confirm_within, yes, accept, everything, limit, go_on, output)
    work.carry_out(chosen, planned, how)


@app.command(epilog="Example: [bold]vswitch hyperv confirm hv01[/]")
def confirm(
    hosts: NamedHosts,
    plan_id: Annotated[
        str, typer.Option("--plan-id", help="The plan; the one that waits if not named.")
    ] = "",
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep what was applied with --confirm-within: the host will not undo it."""
    from vswitch.cli import hyperv_work as work
    from vswitch.hyperv.applying.answers import Confirmed

    chosen = work.choose(hosts, inventory, user=user, authentication=authentication)
    # Each host that is left out undoes its change, so neither canaries nor failures stop the others.
    which = f"plan {plan_id}" if plan_id else "the plan that waits"
    result = work.work_on(
        chosen,
        "confirming",
        lambda target: target.confirm(plan_id),
        limit=limit,
        asked=lambda name: work.asked_to(chosen, name, f"confirm {which}", plan_id),
    )
    work.report(result, lambda value: f"plan {value.plan_id} stays", Confirmed.to_dict, output)


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
    """Check that hosts hold what the policies say: each entry of ours, unchanged, and no other of ours.

    Shows each difference and its effect, and entries of others that decide in place of ours. Nothing is
    changed. Exit status 0 if hosts hold it, 1 if not, 2 on errors.
    """
    from vswitch.cli import hyperv_work as work

    site, _ = load(layout, policy)
    chosen = work.choose(
        hosts or (), inventory, user=user, authentication=authentication, files=from_file, site=site
    )
    result = work.plans(chosen, site, False, limit)
    work.show_plans(result, everything, output, checking=True)
    work.leave(result)


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
    """Say in one line a host whether it is as the policies say and as the last apply left it.

    Entries of others that have come or gone since count too: `apply` takes note of them. For a
    scheduler: exit status 0 if all is as it was, 1 if a host differs, 2 if one could not be read.
    """
    from vswitch.cli import hyperv_work as work

    site, _ = load(layout, policy)
    chosen = work.choose(
        hosts or (), inventory, user=user, authentication=authentication, files=from_file, site=site
    )
    result = work.plans(chosen, site, False, limit)
    work.show_drift(result, output)
    work.leave(result, drifted=True)


@app.command(epilog="Example: [bold]vswitch hyperv rollback hv01[/]")
def rollback(
    hosts: NamedHosts,
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
    from vswitch.cli import hyperv_work as work

    chosen = work.choose(hosts, inventory, user=user, authentication=authentication)
    how = work.HowToApply(confirm_within, yes, accept, everything, limit, go_on, output)
    work.carry_out(chosen, work.rollbacks(chosen, to, limit), how)


@app.command(epilog="Example: [bold]vswitch hyperv backups hv01[/]")
def backups(
    hosts: NamedHosts,
    inventory: InventoryOption = None,
    user: User = None,
    authentication: Authenticate = None,
    limit: Limit = 16,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the plans that were applied to hosts, and their states."""
    from vswitch.cli import hyperv_work as work

    chosen = work.choose(hosts, inventory, user=user, authentication=authentication)
    result = work.work_on(chosen, "reading", work.backups, limit=limit)
    work.show_backups(result, output)


@app.command(epilog="Example: [bold]vswitch hyperv export site.yaml --host hv01 --out hv01.ps1[/]")
def export(
    layout: Layout,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Which host of the layout; the only one if not named.",
            autocompletion=completion.hosts,
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The script to write; else it is printed.", autocompletion=completion.any_files
        ),
    ] = None,
    force: Force = False,
    policy: PolicyOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write the policies of one host as a plain PowerShell script that can be read and run by hand."""
    _keep([out] if out is not None else [], force)
    site, _ = load(layout, policy)
    names = [each.name for each in site.hosts]
    if not host and len(names) == 1:
        host = names[0]
    host = find_name(host, names) or host
    if host not in names:
        raise InputError(
            f"the layout has no host {host!r}" if host else "which host?", hint=f"hosts: {', '.join(names)}"
        )
    from vswitch.hyperv.planning.script import powershell_script

    script = powershell_script(site, host)
    if out is not None:
        try:
            out.write_text(script, encoding="utf-8-sig", newline="\r\n")
        except OSError as error:
            raise InputError(
                f"cannot be written: {error.strerror or error}", where=Origin(str(out))
            ) from None
    elif output is Output.TEXT:
        verbatim(script)
        return
    written = {"file": str(out)} if out is not None else {"script": script}
    emit({"host": host, **written}, lambda page: page.line(f"written {out}"), output)
