"""`probe` and `explain`: can A reach B?"""

from __future__ import annotations

from typing import Annotated

import typer

from vswitch.cli import completion
from vswitch.cli.choosing import choose_lab
from vswitch.cli.files import load
from vswitch.cli.lab_option import LabOption
from vswitch.cli.output import Output, OutputOption, check_seconds, emit, progress
from vswitch.errors import InputError

__all__ = ["register"]

Source = Annotated[
    str,
    typer.Argument(
        help="Who asks: GUEST, GUEST/ADAPTER, GUEST/ADDRESS or ADDRESS.", autocompletion=completion.ends
    ),
]
Destination = Annotated[
    str, typer.Argument(help="Who is asked, in the same forms.", autocompletion=completion.ends)
]
TrafficArgument = Annotated[
    str,
    typer.Argument(
        help="icmp, http, tcp/445, udp/53, tcp/1024-2048, ip/47; tcp/445:50000 with source port.",
        autocompletion=completion.traffic,
    ),
]
Version4 = Annotated[bool, typer.Option("-4", help="IPv4 only.")]
Version6 = Annotated[bool, typer.Option("-6", help="IPv6 only.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: [bold]vswitch probe client web01 tcp/445[/]")(probe)
    app.command(
        epilog="Example: [bold]vswitch explain client web01 tcp/445 --layout topologies/two-hosts.yaml[/]"
    )(explain)


def _version(only4: bool, only6: bool) -> int | None:
    if only4 and only6:
        raise InputError("-4 and -6 exclude each other")
    return 4 if only4 else 6 if only6 else None


def probe(
    source: Source,
    destination: Destination,
    traffic: TrafficArgument,
    lab: LabOption = None,
    only4: Version4 = False,
    only6: Version6 = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for an answer.")] = 1.0,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask with real packets: open, refused by the destination, or filtered, with evidence.

    Exit status 0 if everything asked about is open and the reference agrees, else 1.
    """
    from vswitch.cli import render
    from vswitch.diagnose.lab_questions import Asking, probe_in
    from vswitch.model import parse_traffic
    from vswitch.patience import Patience

    parse_traffic(traffic)
    check_seconds(timeout)
    with progress("probing"):
        found = probe_in(
            choose_lab(lab),
            Asking(source, destination, traffic, _version(only4, only6), timeout),
            # Two tries, each with the neighbours to be found first.
            within=Patience.from_environment().longer(4 * timeout),
        )
    emit(found, lambda page: render.probe_reports(page, found), output)
    if not found.passed:
        raise typer.Exit(1)


def explain(
    source: Source,
    destination: Destination,
    traffic: TrafficArgument,
    lab: LabOption = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            "-f",
            help="Answer from this layout file, without a lab.",
            autocompletion=completion.yaml_files,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="With --layout: this policy in place of those it names.",
            autocompletion=completion.yaml_files,
        ),
    ] = None,
    only4: Version4 = False,
    only6: Version6 = False,
    steps: Annotated[bool, typer.Option("--steps", "-s", help="Every step of every frame.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say who decides about this traffic, and why: the reference, checked against the lab's switches.

    Exit status 0 if it is allowed and the switches agree, else 1.
    """
    from vswitch.cli import render
    from vswitch.model import parse_traffic

    version = _version(only4, only6)
    asked = parse_traffic(traffic)
    if layout is not None:
        from vswitch.diagnose.explain import explain as explain_at

        site, _ = load(layout, policy)
        found = explain_at(site, source, destination, asked, version=version)
    else:
        if policy:
            raise InputError(
                "--policy goes with --layout", hint="A lab's policy is changed with `vswitch apply`."
            )
        from vswitch.diagnose.lab_questions import explain_in

        with progress("explaining"):
            found = explain_in(choose_lab(lab), source, destination, traffic, version)
    emit(found, lambda page: render.explanation(page, found, steps=steps), output)
    if not (found.allowed and found.agrees):
        raise typer.Exit(1)
