"""Which hosts a `vswitch hyperv` command works on, and how far it is with them, on the terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from vswitch.cli.output import Page, note, progress
from vswitch.hyperv.applying.remote_host import RemoteHost
from vswitch.hyperv.fleet.fleet_run import FleetResult, Progress, Status
from vswitch.hyperv.fleet.fleet_work import Fleet, choose_hosts, hosts_from_files
from vswitch.hyperv.fleet.inventory import load_inventory
from vswitch.hyperv.winrm.connection import Authentication
from vswitch.model.site import Site

__all__ = ["Hosts", "choose", "work_on"]

R = TypeVar("R")


@dataclass(frozen=True)
class Hosts:
    """The hosts chosen. `options` are words for a shell with which another command chooses the same."""

    fleet: Fleet
    options: str = ""


def choose(
    words: Sequence[str],
    inventory: str | None,
    *,
    user: str | None = None,
    authentication: Authentication | None = None,
    files: Sequence[Path] | None = None,
    site: Site | None = None,
) -> Hosts:
    """The hosts that the options of a command name; see `choose_hosts`. Raises InputError."""
    if files:
        return Hosts(hosts_from_files(words, files))
    loaded = load_inventory(inventory) if inventory is not None else None
    fleet = choose_hosts(words, loaded, user=user, authentication=authentication, site=site)
    given = {"-i": inventory} if inventory is not None else {"-u": user, "-a": authentication}
    options = shlex.join(word for option, value in given.items() if value for word in (option, str(value)))
    return Hosts(fleet, options)


def work_on(
    chosen: Hosts,
    title: str,
    work: Callable[[RemoteHost], R],
    *,
    limit: int,
    writing: bool = False,
    go_on: bool = True,
    only: Sequence[str] | None = None,
    describe: Callable[[R], str] = lambda _: "done",
    asked: Callable[[str], Sequence[str]] = lambda _: (),
) -> FleetResult[R]:
    """Do `work` on each host side by side, showing how far it is; see `Fleet.run`."""
    return shown(
        title,
        lambda say: chosen.fleet.run(
            work, limit=limit, writing=writing, go_on=go_on, only=only, progress=say
        ),
        describe,
        asked,
    )


def shown(
    title: str,
    run: Callable[[Callable[[Progress], None]], FleetResult[R]],
    describe: Callable[[R], str] = lambda _: "done",
    asked: Callable[[str], Sequence[str]] = lambda _: (),
) -> FleetResult[R]:
    """Do what `run` does, showing how far it is.

    Ctrl-C waits for nothing: it names the hosts at work, with the lines that `asked` has for each of
    their names, and those left, and ends with status 130.
    """
    with progress(title) as say:

        def show(now: Progress) -> None:
            running = ", ".join(now.running[:4]) + (" ..." if len(now.running) > 4 else "")
            failed = f", {now.failed} failed" if now.failed else ""
            say(f"{now.done + now.failed} of {now.total}{failed} {running}")

        result = run(show)
    if result.interrupted:
        note(f"interrupted while {title}:")
        page = Page(sys.stderr)
        page.lines(result.summary(describe))
        for each in result.with_status(Status.AT_WORK):
            for line in asked(each.host.name):
                page.line("  ", line)
        raise typer.Exit(130)
    return result
