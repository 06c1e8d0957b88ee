"""Which hosts a `vswitch hyperv` command works on, and how they are worked on side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import typer

from vswitch.cli.output import Page, note, progress
from vswitch.errors import InputError, VswitchError
from vswitch.hyperv.applying.remote_host import RemoteHost
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.fleet.fleet_run import (
    Account,
    FleetResult,
    InventoryHost,
    Progress,
    Status,
    account_of,
    host_from_word,
    load_inventory,
    run_fleet,
)
from vswitch.hyperv.host.host_state import state_from_file
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import CredentialFinder
from vswitch.hyperv.winrm.transport import PywinrmTransport
from vswitch.model.site import Site

__all__ = ["Hosts", "choose", "work_on"]

R = TypeVar("R")


@dataclass(frozen=True)
class Hosts:
    """The hosts chosen, with canaries, and what their work needs.

    `options` are those with which another command chooses the same hosts, as words for a shell.
    """

    hosts: tuple[InventoryHost, ...]
    canary: tuple[str, ...]
    targets: dict[str, RemoteHost]
    proven: set[Account] = field(default_factory=set)
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
    """The hosts that `words` name: in the inventory if there is one, else as they are.

    Without words: all of the inventory that the layout knows, or all hosts of the layout. With
    `files`, the states in them stand for hosts. Raises InputError.
    """
    if files:
        return _from_files(words, files)
    canary: tuple[str, ...] = ()
    if inventory is not None:
        loaded = load_inventory(inventory)
        found = loaded.select(words)
        if site is not None and not words:
            known = {host.name.lower() for host in site.hosts}
            found = tuple(host for host in found if host.name.partition(".")[0].lower() in known)
        names = {host.name for host in found}
        canary = (
            tuple(host.name for host in loaded.select(loaded.canary) if host.name in names)
            if loaded.canary
            else ()
        )
    else:
        named = list(words) or [host.name for host in site.hosts] if site is not None else list(words)
        found = tuple(_bare(word, user, authentication) for word in named)
    if not found:
        raise InputError("no host is named", hint="name hosts, or an inventory with --inventory")
    finder, proven = CredentialFinder(), set[Account]()
    targets = {
        host.name: RemoteHost(
            host.name,
            PywinrmTransport(
                host.connection, finder=finder, accepted=partial(_accepted, proven, account_of(host))
            ),
            Store(host.name),
            port=host.connection.port,
        )
        for host in found
    }
    given = {"-i": inventory} if inventory is not None else {"-u": user, "-a": authentication}
    options = shlex.join(word for option, value in given.items() if value for word in (option, str(value)))
    return Hosts(found, canary, targets, proven, options)


def _accepted(proven: set[Account], account: Account | None) -> None:
    if account is not None:
        proven.add(account)


def _bare(word: str, user: str | None, authentication: Authentication | None) -> InventoryHost:
    host = host_from_word(word)
    if user is None and authentication is None:
        return host
    method = authentication or Authentication.KERBEROS
    return InventoryHost(
        host.name, HostConnection(name=host.name, address=host.name, authentication=method, username=user)
    )


def _from_files(words: Sequence[str], files: Sequence[Path]) -> Hosts:
    if len(words) > len(files):
        raise InputError("more hosts are named than files", hint="each --from-file is the state of one host")
    hosts: list[InventoryHost] = []
    targets: dict[str, RemoteHost] = {}
    for index, path in enumerate(files):
        state = state_from_file(path)
        name = words[index] if index < len(words) else state.computer
        if name in targets:
            raise InputError(f"two files are of the host {name}", hint="name the hosts, in the files' order")
        hosts.append(InventoryHost(name, HostConnection(name=name, address=name)))
        targets[name] = RemoteHost(name, None, Store(name), state)
    return Hosts(tuple(hosts), (), targets)


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
    """Do `work` on each host side by side, showing how far it is.

    Canaries go first where the work is `writing`: a dead one is no reason not to read the others.
    Ctrl-C waits for nothing: it names the hosts at work, with the lines that `asked` has for each of
    their names, and those left, and ends with status 130.
    """
    hosts = [host for host in chosen.hosts if only is None or host.name in only]
    for host in hosts:
        transport = chosen.targets[host.name].transport
        if transport is not None:
            # Prompt before the progress bar starts, so that Ctrl-C works. Errors are reported per host later.
            with suppress(VswitchError):
                transport.prepare()
    with progress(title) as say:

        def show(now: Progress) -> None:
            running = ", ".join(now.running[:4]) + (" ..." if len(now.running) > 4 else "")
            failed = f", {now.failed} failed" if now.failed else ""
            say(f"{now.done + now.failed} of {now.total}{failed} {running}")

        def one(host: InventoryHost) -> Any:
            return work(chosen.targets[host.name])

        result: FleetResult[R] = run_fleet(
            hosts,
            one,
            limit=limit,
            canary=[name for name in chosen.canary if only is None or name in only] if writing else (),
            on_failure="continue" if go_on else "stop",
            progress=show,
            proven=chosen.proven,
        )
    if result.interrupted:
        note(f"interrupted while {title}:")
        page = Page(sys.stderr)
        page.lines(result.summary(describe))
        for each in result.with_status(Status.AT_WORK):
            for line in asked(each.host.name):
                page.line("  ", line)
        raise typer.Exit(130)
    return result
