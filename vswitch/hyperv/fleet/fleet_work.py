"""Several Hyper-V hosts to work on together: which they are, how they are reached, what is done on each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from vswitch.errors import InputError, VswitchError
from vswitch.hyperv.applying.answers import Confirmed
from vswitch.hyperv.applying.outcomes import Applied
from vswitch.hyperv.applying.remote_host import RemoteHost, backups, plan_policy, plan_rollback
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.fleet.fleet_plans import FleetPlans
from vswitch.hyperv.fleet.fleet_run import (
    DEFAULT_LIMIT,
    Account,
    FleetResult,
    HostOutcome,
    Progress,
    Status,
    account_of,
    run_fleet,
)
from vswitch.hyperv.fleet.inventory import Inventory, InventoryHost, host_from_word
from vswitch.hyperv.host.backup_document import BackupSummary
from vswitch.hyperv.host.host_state import HostState, state_from_file
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import CredentialFinder
from vswitch.model.site import Site

__all__ = ["Fleet", "choose_hosts", "hosts_from_files"]

R = TypeVar("R")


@dataclass(frozen=True)
class Fleet:
    """The hosts chosen, with canaries, and what their work needs.

    `proven` are the accounts whose passwords a host has accepted: they are not tried with care any more.
    Every method works on all hosts side by side, at most `limit` at a time, and returns what became of
    each. None of them raises an error that happened on one host.
    """

    hosts: tuple[InventoryHost, ...]
    canary: tuple[str, ...]
    targets: dict[str, RemoteHost]
    proven: set[Account] = field(default_factory=set)
    limit: int = DEFAULT_LIMIT

    def run(
        self,
        work: Callable[[RemoteHost], R],
        *,
        limit: int | None = None,
        writing: bool = False,
        go_on: bool = True,
        only: Sequence[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> FleetResult[R]:
        """Do any `work` on each host, or on `only` those of some names.

        Canaries go first where the work is `writing`: a dead one is no reason not to read the others.
        Without `go_on`, no further host is begun after a failure. Passwords are asked for before the first.
        `progress` is told how far it is.
        """
        hosts = [host for host in self.hosts if only is None or host.name in only]
        for host in hosts:
            transport = self.targets[host.name].transport
            if transport is not None:
                # Asked for here, a password meets no progress bar, and Ctrl-C. Errors are those of each host.
                with suppress(VswitchError):
                    transport.prepare()

        def one(host: InventoryHost) -> R:
            return work(self.targets[host.name])

        return run_fleet(
            hosts,
            one,
            limit=self.limit if limit is None else limit,
            canary=[name for name in self.canary if only is None or name in only] if writing else (),
            on_failure="continue" if go_on else "stop",
            progress=progress,
            proven=self.proven,
        )

    def read(self) -> FleetResult[HostState]:
        """The state of each host."""
        return self.run(lambda target: target.read())

    def plan(self, site: Site, *, adopt: bool = False) -> FleetPlans:
        """How to bring each host to what the policies of `site` say; see `plan_policy`."""
        return self.plans(self.run(lambda target: plan_policy(target, site, adopt=adopt)))

    def plan_rollback(self, to: str = "") -> FleetPlans:
        """How to bring our entries on each host back to before a plan; see `plan_rollback`."""
        return self.plans(self.run(lambda target: plan_rollback(target, to)))

    def plans(self, result: FleetResult[HostPlan]) -> FleetPlans:
        """What planning came to, with the canaries of this fleet."""
        return FleetPlans(result, self.canary)

    def plans_from(self, saved: Iterable[HostPlan]) -> FleetPlans:
        """Saved plans, for the hosts of this fleet. Raises InputError for a host that is not among them."""
        by_name = {host.name: host for host in self.hosts}
        outcomes: list[HostOutcome[HostPlan]] = []
        for plan in saved:
            if plan.host not in by_name:
                raise InputError(f"the inventory has no host {plan.host}, for which the saved plan is")
            reached = replace(plan, port=self.targets[plan.host].port)
            outcomes.append(HostOutcome(by_name[plan.host], Status.DONE, reached))
        return self.plans(FleetResult(tuple(outcomes)))

    def apply(
        self,
        planned: FleetPlans,
        *,
        confirm_within: int = 0,
        go_on: bool = False,
        limit: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> FleetResult[Applied]:
        """Carry out the plans, canaries first. Nothing is asked: see `HostPlan.questions` before.

        The result has every host that was planned for; after Ctrl-C, those that were to be written only.

        With `confirm_within` seconds, each host undoes its plan by itself unless it is confirmed in time.
        Raises InputError, and nothing is written, if a host without a plan keeps the others from being
        written, or if two plans are for one host.
        """
        if missing := planned.why_none_counts(go_on=go_on):
            raise InputError(f"nothing was written on any host: {missing}")
        plans = planned.to_send()
        done = self.run(
            lambda target: target.apply(plans[target.name], confirm_within=confirm_within),
            limit=limit,
            writing=True,
            go_on=go_on,
            only=[*plans],
            progress=progress,
        )
        return done if done.interrupted else planned.with_applied(done)

    def confirm(self, plan_id: str = "") -> FleetResult[Confirmed]:
        """Keep what was applied; without an id, the plan that waits.

        Each host that is left out undoes its change, so neither canaries nor failures stop the others.
        """
        return self.run(lambda target: target.confirm(plan_id))

    def backups(self) -> FleetResult[tuple[BackupSummary, ...]]:
        """The plans that were applied to each host, the newest first."""
        return self.run(backups)


def choose_hosts(
    words: Sequence[str] = (),
    inventory: Inventory | None = None,
    *,
    user: str | None = None,
    authentication: Authentication | None = None,
    site: Site | None = None,
    finder: CredentialFinder | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Fleet:
    """The hosts that `words` name: in the inventory if there is one, else as they are.

    Without words: all of the inventory that the layout `site` knows, or all hosts of the layout.
    `finder` is where passwords come from, `limit` how many hosts are worked on at a time. Raises InputError.
    """
    canary: tuple[str, ...] = ()
    if inventory is not None:
        found = inventory.select(words)
        if site is not None and not words:
            known = {host.name.lower() for host in site.hosts}
            found = tuple(host for host in found if host.name.partition(".")[0].lower() in known)
        if inventory.canary:
            names = {host.name for host in found}
            first = inventory.select(inventory.canary)
            canary = tuple(host.name for host in first if host.name in names)
    else:
        named = list(words) or ([host.name for host in site.hosts] if site is not None else [])
        found = tuple(_bare(word, user, authentication) for word in named)
    # Here and not above: who has another way to a host needs none of the libraries of this one.
    from vswitch.hyperv.winrm.transport import PywinrmTransport

    if not found:
        raise InputError("no host is named", hint="name hosts, or an inventory with --inventory")
    finder, proven = finder or CredentialFinder(), set[Account]()
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
    return Fleet(found, canary, targets, proven, limit)


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


def hosts_from_files(words: Sequence[str], files: Sequence[str | os.PathLike[str]]) -> Fleet:
    """Exported states in place of hosts, called by `words` or as they call themselves. Raises InputError.

    They can be read and planned for, and not written to.
    """
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
    return Fleet(tuple(hosts), (), targets)
