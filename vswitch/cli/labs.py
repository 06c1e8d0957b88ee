"""`up`, `ps`, `down`, `exec`, `shell`, `log`: the life of a lab."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vswitch.cli.applying import write_status
from vswitch.cli.choosing import LabOption, choose_lab
from vswitch.cli.files import load
from vswitch.cli.output import Output, OutputOption, check_seconds, emit, escape, progress
from vswitch.cli.render import table
from vswitch.errors import InputError
from vswitch.lab import client

__all__ = ["register"]

_EXTENSIONS = ("vswitch.diagnose.operations",)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: [bold]vswitch up topologies/two-hosts.yaml[/]")(up)
    app.command(epilog="Example: [bold]vswitch ps --output json[/]")(ps)
    app.command(epilog="Example: [bold]vswitch down[/]")(down)
    app.command(
        "exec",
        epilog="Example: [bold]vswitch exec web01 -- ip -brief address[/]",
        context_settings={"ignore_unknown_options": True},
    )(exec_)
    app.command(epilog="Example: [bold]vswitch shell web01[/]")(shell)
    app.command(epilog="Example: [bold]vswitch log[/]")(log)


def up(
    layout: Annotated[str, typer.Argument(help="The layout file.")],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The lab's name; else the layout's.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", help="Start with this policy in place of those the layout names."),
    ] = None,
    no_policy: Annotated[bool, typer.Option("--no-policy", help="Start without any policy.")] = False,
    kernel: Annotated[
        bool, typer.Option("--kernel-datapath", help="Use the kernel's Open vSwitch module (as root).")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="Where the lab's processes write what they say.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start a layout as a lab: switches, VMs, services, policies. Needs no root."""
    if policy and no_policy:
        raise InputError("--policy and --no-policy exclude each other")
    started = time.monotonic()
    site, texts = load(layout, [] if no_policy else policy)
    chosen = name or site.name
    sources = {"layout": layout, "texts": texts, "policies": list(site.files[1:])}
    options = {"datapath": "system"} if kernel else {}
    with progress(f"starting {chosen}") as say:
        status = client.start(
            chosen, sources, options=options, extensions=_EXTENSIONS, log_file=log_file, progress=say
        )
    data = {"lab": chosen, "seconds": round(time.monotonic() - started, 3), **status}

    def text(console: Console) -> None:
        console.print(
            f"[green]up[/] lab {escape(chosen)} in {data['seconds']:.1f} s: {status['hosts']} hosts,"
            f" {status['switches']} switches, {status['guests']} guests"
        )
        for warning in site.warnings:
            console.print(f"  [yellow]warning:[/] {escape(warning)}")
        console.print("  Ask it: vswitch probe, vswitch explain. Look around: vswitch ps, vswitch shell.")

    emit(data, text, output)


def ps(lab: LabOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the labs that run, and the guests in them."""
    names = client.running() if lab is None else [lab]
    data = [
        {"lab": name, **client.call(name, "status"), "guests": client.call(name, "guests")} for name in names
    ]

    def text(console: Console) -> None:
        if not data:
            console.print("No lab runs. Start one with: vswitch up LAYOUT")
        for entry in data:
            console.print(f"[bold]{escape(entry['lab'])}[/] ({escape(entry['files'][0])})")
            if entry["in_force"]["apply"]:
                write_status(console, entry["in_force"])
            table(
                console,
                ("guest", "kind", "host", "addresses", "services"),
                [
                    (
                        guest["name"],
                        guest["kind"],
                        guest["host"],
                        ", ".join(guest["addresses"]),
                        ", ".join(map(_service, guest["services"])),
                    )
                    for guest in entry["guests"]
                ],
            )

    emit(data, text, output)


def _service(service: dict[str, Any]) -> str:
    name = {6: "tcp", 17: "udp"}[service["protocol"]]
    suffix = f" ({service['name']})" if service["name"] else ""
    return f"{name}/{service['port']}{suffix}"


def down(
    name: Annotated[
        str | None, typer.Argument(help="The lab's name; not needed while only one runs.")
    ] = None,
    lab: LabOption = None,
    every: Annotated[bool, typer.Option("--all", help="All of this user's labs.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a lab down. Nothing of it is left."""
    started = time.monotonic()
    names = client.running() if every else [choose_lab(name or lab)]
    for each in names:
        client.down(each)
    data = {"down": names, "seconds": round(time.monotonic() - started, 3)}
    emit(data, lambda console: console.print(f"down: {escape(', '.join(names) or 'nothing')}"), output)


def exec_(
    guest: Annotated[str, typer.Argument(help="A VM, a host (its management OS), a client or a gateway.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")],
    lab: LabOption = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="End the command after so many seconds.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a command inside a guest; its exit status is this command's.

    With --output json what it prints is part of the result.
    """
    if timeout is not None:
        check_seconds(timeout)
    name = choose_lab(lab)
    if output is Output.TEXT:
        raise typer.Exit(client.exec_in_guest(name, guest, command, timeout=timeout))
    status, printed, errors = client.capture_in_guest(name, guest, command, timeout=timeout)
    data = {"guest": guest, "command": command, "exit_status": status, "stdout": printed, "stderr": errors}
    emit(data, lambda _: None, output)
    raise typer.Exit(status)


def shell(
    guest: Annotated[str, typer.Argument(help="A VM, a host (its management OS), a client or a gateway.")],
    lab: LabOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Open a shell inside a guest. With --output json its exit status is printed at the end."""
    status = client.exec_in_guest(choose_lab(lab), guest, ["bash", "--norc", "-i"])
    emit({"guest": guest, "exit_status": status}, lambda _: None, output)
    raise typer.Exit(status)


def log(lab: LabOption = None, output: OutputOption = Output.TEXT) -> None:
    """What the lab's own processes have said."""
    text = client.call(choose_lab(lab), "log")
    said = text or "The lab's processes have said nothing.\n"
    emit({"log": text}, lambda console: console.print(escape(said), end=""), output)
