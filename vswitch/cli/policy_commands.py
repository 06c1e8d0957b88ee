"""`validate`, `apply`, `schema`: files and policies."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from vswitch.cli import completion
from vswitch.cli.applying import apply_policies, print_status
from vswitch.cli.choosing import choose_lab
from vswitch.cli.files import load, looks_like_layout, looks_like_policy
from vswitch.cli.lab_option import LabOption
from vswitch.cli.output import Output, OutputOption, Page, emit, progress, verbatim
from vswitch.errors import InputError, InputErrors, Origin
from vswitch.textfiles import read_text
from vswitch.wording import counted

__all__ = ["register"]


class Kind(StrEnum):
    """The two kinds of file."""

    LAYOUT = "layout"
    POLICY = "policy"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: [bold]vswitch validate topologies/*.yaml[/]")(validate)
    app.command(epilog="Example: [bold]vswitch apply topologies/web-tier.yaml[/]")(apply)
    app.command(epilog="Example: [bold]vswitch schema layout > layout.schema.json[/]")(schema)


def validate(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Layout files. Their policies are checked with them.", autocompletion=completion.yaml_files
        ),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="Check with this policy in place of those the layout names.",
            autocompletion=completion.yaml_files,
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check layouts and their policies; every mistake with file, line and column.

    A policy file given without its layout is skipped where a layout given beside it names it.
    """
    from vswitch.pipeline import check_lookups

    errors: list[InputError] = []
    reports: list[dict[str, Any]] = []
    covered: set[str] = set()
    layouts = [path for path in files if not looks_like_policy(path)]
    for path in layouts:
        try:
            site, sources = load(path, policy)
            check_lookups(site)
        except InputErrors as error:
            errors += error.errors
            continue
        except InputError as error:
            errors.append(error)
            continue
        covered |= set(sources.texts)
        reports.append(
            {
                "layout": path,
                "hosts": len(site.hosts),
                "guests": len(site.guests),
                "adapters": len(site.adapters),
                "acls": sum(len(adapter.acls) + len(adapter.extended_acls) for adapter in site.adapters),
                "expectations": len(site.expectations),
                "warnings": list(site.warnings),
            }
        )
    alone = [path for path in files if path not in layouts and path not in covered]
    if errors:
        raise InputErrors(errors)
    if alone:
        hint = "Name the layout too, or: vswitch validate LAYOUT --policy FILE"
        raise InputError(f"a policy can only be checked with its layout: {', '.join(alone)}", hint=hint)

    def text(page: Page) -> None:
        for report in reports:
            counts = [counted(report[key], key.removesuffix("s")) for key in ("hosts", "guests", "adapters")]
            counts += [
                counted(report["acls"], "ACL entry", "ACL entries"),
                counted(report["expectations"], "expectation"),
            ]
            page.line(("ok", "green"), f" {report['layout']}: {', '.join(counts)}")
            page.warnings(report["warnings"])

    emit(reports, text, output)


def apply(
    policies: Annotated[
        list[str] | None,
        typer.Argument(
            help="Policy files; together they replace those in force.", autocompletion=completion.yaml_files
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Change nothing: say what is in force, and whether it is these.")
    ] = False,
    lab: LabOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put policies in force on a running lab: all of it or nothing, confirmed by the switches.

    Exit status 0: in force; 1: not in force; 2: wrong input, nothing was sent; 3: not known.
    """
    policies = policies or []
    if not policies and not status:
        raise InputError("no policy file is named", hint="With --status alone: what is in force.")
    for path in policies:
        if looks_like_layout(path):
            hint = "Name its policies. Another layout takes another lab: vswitch up."
            raise InputError("this is a layout, not a policy", where=Origin(path), hint=hint)
    name = choose_lab(lab)
    texts = {path: read_text(path) for path in policies}
    if status:
        print_status(name, policies, texts, output)
        return
    with progress("applying") as say:
        report = apply_policies(name, policies, texts, say, output)

    def text(page: Page) -> None:
        if report.flows_changed is None or report.sessions_ended is None:
            page.line(("in force", "green"), f", though {'; '.join(report.warnings)}")
            return
        ended = counted(report.sessions_ended, "live session")
        page.line(
            ("applied", "green"),
            f" in {report.seconds * 1000:.0f} ms: {report.flows_changed} of"
            f" {counted(report.flows or 0, 'flow')} changed, {ended} ended with"
            f" {'its' if report.sessions_ended == 1 else 'their'} rules",
        )
        for change in report.switches:
            added = counted(change.added, "flow")
            page.line(f"  {change.switch}: {added} added, {change.removed} removed")
        page.warnings(report.warnings)

    emit(report, text, output)


def schema(
    kind: Annotated[Kind, typer.Argument(help="Which kind of file.", case_sensitive=False)],
    output: OutputOption = Output.JSON,
) -> None:
    """Print the JSON Schema of layout or policy files, for editors: JSON, whatever --output says."""
    from vswitch.model import json_schema

    del output
    verbatim(json.dumps(json_schema(kind.value), indent=2) + "\n")
