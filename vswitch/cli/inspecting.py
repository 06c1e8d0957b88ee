"""`flows`, `counters`, `mac-table`: what the switches of a lab hold."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vswitch.cli import completion
from vswitch.cli.choosing import choose_lab
from vswitch.cli.lab_option import LabOption
from vswitch.cli.output import Output, OutputOption, Page, emit
from vswitch.lab.process import client
from vswitch.model.types import DropReason
from vswitch.wording import counted

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
    data = client.call(choose_lab(lab), "flows_in_words", switch=switch, table=table_name)

    def text(page: Page) -> None:
        for name, entries in data.items():
            page.line((name, "bold"), f" {counted(len(entries), 'flow')}")
            for flow in entries:
                page.line(f"  {flow['flow']}")
                if flow["means"]:
                    page.line(" " * 6, (f"{flow['means']}, {counted(flow['packets'], 'packet')}", "dim"))

    emit(data, text, output)


def counters(
    lab: LabOption = None,
    switch: SwitchOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that are 0, and copies that were never due.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Packets and bytes by rule and by drop reason."""
    data: list[dict[str, Any]] = client.call(choose_lab(lab), "rule_counters", switch=switch)
    if not every:
        data = [entry for entry in data if entry["packets"] and entry["name"] != DropReason.OWN_PORT]

    def text(page: Page) -> None:
        page.table(
            ("switch", "adapter", "rule or reason", "where", "packets", "bytes"),
            [[e["switch"], e["adapter"], e["name"], e["where"], e["packets"], e["bytes"]] for e in data],
        )

    emit(data, text, output)


def mac_table(lab: LabOption = None, output: OutputOption = Output.TEXT) -> None:
    """The forwarding entries of every switch: adapters' own MACs and learned ones."""
    data = client.call(choose_lab(lab), "mac_table")

    def text(page: Page) -> None:
        page.table(
            ("switch", "MAC", "VLAN", "port", "where", "status", "age"),
            [
                [e["switch"], e["mac"], e["vlan"], e["port"], e["where"], e["status"], _seconds(e["age"])]
                for e in _compact(data)
            ],
        )

    emit(data, text, output)


def _seconds(age: int | None) -> str:
    return "" if age is None else f"{age}s"


def _compact(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of one MAC at one port on one line, their VLANs joined: a trunk has thousands."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = (entry["switch"], entry["mac"], entry["port"], entry["status"])
        line = found.setdefault(key, {**entry, "vlans": []})
        line["vlans"].append(entry["vlan"])
    for line in found.values():
        vlans = sorted(line["vlans"])
        few = ", ".join(map(str, vlans[:8]))
        line["vlan"] = few if len(vlans) <= 8 else f"{few}, ... ({len(vlans)})"
    return list(found.values())
