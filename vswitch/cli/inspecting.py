"""`flows`, `counters`, `mac-table`: what the switches of a lab hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vswitch.cli import completion
from vswitch.cli.choosing import choose_lab
from vswitch.cli.lab_option import LabOption
from vswitch.cli.output import Output, OutputOption, Page, emit
from vswitch.model.types import DropReason
from vswitch.wording import counted

if TYPE_CHECKING:
    from vswitch.diagnose.held import MacEntry, RuleCount

__all__ = ["register"]

SwitchOption = Annotated[
    str | None,
    typer.Option(
        "--switch", "-s", help="One switch, as HOST/SWITCH; else all.", autocompletion=completion.switches
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: [bold]vswitch flows --switch hv01/vs-lan --table outbound_extended[/]")(
        flows
    )
    app.command(epilog="Example: [bold]vswitch counters --all[/]")(counters)
    app.command("mac-table", epilog="Example: [bold]vswitch mac-table[/]")(mac_table)


def flows(
    lab: LabOption = None,
    switch: SwitchOption = None,
    table_name: Annotated[
        str | None,
        typer.Option("--table", "-t", help="One table, by name or number.", autocompletion=completion.tables),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """The OpenFlow flows in force, each with what it stands for and its counter."""
    from vswitch.diagnose.lab_questions import flows_in

    found = flows_in(choose_lab(lab), switch, table_name)

    def text(page: Page) -> None:
        for name, entries in found.items():
            page.line((name, "bold"), f" {counted(len(entries), 'flow')}")
            for flow in entries:
                page.line(f"  {flow.flow}")
                if flow.means:
                    page.line(" " * 6, (f"{flow.means}, {counted(flow.packets, 'packet')}", "dim"))

    emit(found, text, output)


def counters(
    lab: LabOption = None,
    switch: SwitchOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that are 0, and copies that were never due.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Packets and bytes by rule and by drop reason."""
    from vswitch.diagnose.lab_questions import rule_counters_in

    found: Sequence[RuleCount] = rule_counters_in(choose_lab(lab), switch)
    if not every:
        found = [each for each in found if each.packets and each.name != DropReason.OWN_PORT]

    def text(page: Page) -> None:
        page.table(
            ("switch", "adapter", "rule or reason", "where", "packets", "bytes"),
            [[e.switch, e.adapter, e.name, e.where, e.packets, e.bytes] for e in found],
        )

    emit(found, text, output)


def mac_table(lab: LabOption = None, output: OutputOption = Output.TEXT) -> None:
    """The forwarding entries of every switch: adapters' own MACs and learned ones."""
    from vswitch.diagnose.lab_questions import mac_table_of

    found = mac_table_of(choose_lab(lab))

    def text(page: Page) -> None:
        page.table(("switch", "MAC", "VLAN", "port", "where", "status", "age"), _compact(found))

    emit(found, text, output)


def _seconds(age: int | None) -> str:
    return "" if age is None else f"{age}s"


def _compact(entries: Iterable[MacEntry]) -> list[tuple[str | int | None, ...]]:
    """The lines of the table: of one MAC at one port its VLANs joined, as a trunk has thousands."""
    found: dict[tuple[str, str, int, str], list[MacEntry]] = {}
    for entry in entries:
        found.setdefault((entry.switch, entry.mac, entry.port, entry.status), []).append(entry)
    return [
        (e.switch, e.mac, _vlans(same), e.port, e.where, e.status, _seconds(e.age))
        for same in found.values()
        for e in same[:1]
    ]


def _vlans(entries: Iterable[MacEntry]) -> str:
    vlans = sorted(entry.vlan for entry in entries)
    few = ", ".join(map(str, vlans[:8]))
    return few if len(vlans) <= 8 else f"{few}, ... ({len(vlans)})"
