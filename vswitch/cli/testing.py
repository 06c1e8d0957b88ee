"""`test`: every expectation of a layout, proven with real packets."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.etree import ElementTree

import typer

from vswitch.cli import completion
from vswitch.cli.choosing import TEST_MARK
from vswitch.cli.files import load, looks_like_policy
from vswitch.cli.output import Output, OutputOption, Page, emit, print_error, progress
from vswitch.errors import InputError, InputErrors, VswitchError

if TYPE_CHECKING:
    from vswitch.diagnose.proofs import Proof, ProvenLayout
    from vswitch.model.resolving.sources import Sources
    from vswitch.model.site import Site

__all__ = ["register"]

_XML_HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n'
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("test", epilog="Example: [bold]vswitch test topologies/weights.yaml --junit r.xml[/]")(run)


def run(
    layouts: Annotated[
        list[str], typer.Argument(help="Layout files with `expect`.", autocompletion=completion.yaml_files)
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="Prove with this policy in place of those the layout names.",
            autocompletion=completion.yaml_files,
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(
            "--junit", help="Also write JUnit XML to this file.", autocompletion=completion.any_files
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start each layout, prove its expectations with real packets, take it down.

    A Deny counts only if the same traffic gets through without the policy and the deciding rule's
    counter moves. Policy files among the layouts are passed over. Exit status 0 if all are proven, else 1.
    """
    from vswitch.diagnose.proofs import ProvenLayout
    from vswitch.diagnose.proving import prove

    loaded = _load_all(layouts, policy)
    if junit:
        _write(junit, b"")  # before minutes are spent on what could then not be written
    results: list[ProvenLayout] = []
    failures: dict[str, VswitchError] = {}
    for path, (site, sources) in loaded.items():
        started = time.monotonic()
        proofs: list[Proof] = []
        times: dict[str, float] = {}
        failure: VswitchError | None = None
        try:
            with progress(f"testing {path}") as say:
                # Several runs side by side, and labs that run already, must not meet by name.
                name = f"{site.name}{TEST_MARK}{os.getpid()}"
                proofs, times = prove(site, sources, name=name, progress=say)
        except VswitchError as error:
            failure = failures[path] = error
        results.append(
            ProvenLayout(
                layout=path,
                passed=not failure and all(proof.passed for proof in proofs),
                failure=str(failure) if failure else None,
                seconds=round(time.monotonic() - started, 3),
                phases=times,
                proofs=tuple(proofs),
            )
        )
    if junit:
        _write_junit(junit, results)
    emit(results, lambda page: _text(page, results, failures), output)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


def _load_all(paths: list[str], policy: list[str] | None) -> dict[str, tuple[Site, Sources]]:
    loaded: dict[str, tuple[Site, Sources]] = {}
    errors: list[InputError] = []
    layouts = [path for path in paths if not looks_like_policy(path)]
    if not layouts:
        raise InputError(
            "there is no layout among these files", hint="Policies are proven with their layout."
        )
    for path in layouts:
        try:
            loaded[path] = load(path, policy)
        except InputErrors as error:
            errors += error.errors
    if errors:
        raise InputErrors(errors)
    for path, (site, _) in loaded.items():
        if not site.expectations:
            raise InputError(
                f"{path} has nothing under `expect`", hint="Write what has to pass and what not."
            )
    return loaded


def _text(page: Page, results: Sequence[ProvenLayout], failures: Mapping[str, VswitchError]) -> None:
    for result in results:
        page.line((result.layout, "bold"), f" ({result.seconds:.1f} s)")
        if failure := failures.get(result.layout):
            page.line("  ", ("failed", "red"))
            print_error(failure, as_json=False, page=page, indent=2)
        for proof in result.proofs:
            mark = ("proven", "green") if proof.passed else ("FAILED", "red")
            page.line("  ", mark, f" {proof.name} ({proof.outcome})")
            if not proof.passed:
                page.line(f"         {proof.where}: {proof.message}")
    proofs = [proof for result in results for proof in result.proofs]
    failed = sum(not proof.passed for proof in proofs) + sum(bool(result.failure) for result in results)
    page.line(f"{sum(proof.passed for proof in proofs)} proven, {failed} failed")


def _write_junit(path: Path, results: Sequence[ProvenLayout]) -> None:
    root = ElementTree.Element("testsuites", name="vswitch test")
    for result in results:
        failures = sum(not proof.passed for proof in result.proofs)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=result.layout,
            tests=str(len(result.proofs) or 1),
            failures=str(failures),
            errors=str(int(bool(result.failure))),
            time=str(result.seconds),
        )
        if result.failure:
            case = ElementTree.SubElement(suite, "testcase", classname=result.layout, name="lab")
            ElementTree.SubElement(case, "error", message=result.failure)
        for proof in result.proofs:
            case = ElementTree.SubElement(suite, "testcase", classname=result.layout, name=proof.name)
            if not proof.passed:
                failed = ElementTree.SubElement(case, "failure", message=proof.message)
                failed.text = f"{proof.where}\n{proof.message}"
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    # What a service in a guest said may hold characters that XML cannot.
    _write(path, _XML_HEAD + _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text).encode(errors="replace") + b"\n")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
