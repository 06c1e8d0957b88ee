"""Work on many hosts side by side: a limit, canaries first, stop or go on after a failure, a summary.

The work itself is any function of one host; what it returns or raises becomes that host's outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Generic, Literal, TypeVar

from vswitch.errors import HostError, InputError, VswitchError
from vswitch.hyperv.connection import Authentication
from vswitch.hyperv.inventory import Host, Inventory, host_from_word, load_inventory
from vswitch.hyperv.problems import Cause
from vswitch.model.problems import listing

__all__ = [
    "Account",
    "FleetResult",
    "Host",
    "Inventory",
    "Outcome",
    "Progress",
    "Status",
    "host_from_word",
    "load_inventory",
    "run_fleet",
]

R = TypeVar("R")
#: Whose password is sent to a host: user name, and the variable it comes from.
Account = tuple[str, str]

_WITH_PASSWORD = (Authentication.NTLM, Authentication.CREDSSP, Authentication.BASIC)
DEFAULT_LIMIT = 16
_TICK = 0.2
_SUMMARY_LINES = 20
_SUMMARY_WIDTH = 110


class Status(StrEnum):
    """What became of one host."""

    DONE = "done"
    FAILED = "failed"
    NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """One host's outcome: `value` if done, `error` if failed; `seconds` is what it took."""

    host: Host
    status: Status
    value: R | None = None
    error: VswitchError | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run: the names of the hosts at work, and the counts of the others."""

    running: tuple[str, ...]
    done: int
    failed: int
    waiting: int
    total: int


@dataclass(frozen=True, slots=True)
class FleetResult(Generic[R]):
    """All outcomes, in the order in which the hosts were given. `interrupted`: by Ctrl-C."""

    outcomes: tuple[Outcome[R], ...]
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every host is done."""
        return all(outcome.status is Status.DONE for outcome in self.outcomes)

    def with_status(self, status: Status) -> tuple[Outcome[R], ...]:
        """The outcomes of one kind."""
        return tuple(outcome for outcome in self.outcomes if outcome.status is status)

    def summary(self, describe: Callable[[R], str] = lambda _: "") -> str:
        """At most 20 lines: the counts, then the failures, then what `describe` says of the rest.

        Hosts about which the same is to be said share a line.
        """
        counts = {status: len(self.with_status(status)) for status in Status}
        head = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        total = len(self.outcomes)
        lines = [f"{total} host{'' if total == 1 else 's'}: {head or 'nothing to do'}"]
        told: dict[str, list[str]] = {}
        for outcome in self.with_status(Status.FAILED):
            told.setdefault(_words_of(outcome), []).append(outcome.host.name)
        for outcome in self.with_status(Status.DONE):
            if outcome.value is not None and (words := describe(outcome.value)):
                told.setdefault(words, []).append(outcome.host.name)
        if stopped := self.with_status(Status.NOT_STARTED):
            told["not started"] = [outcome.host.name for outcome in stopped]
        lines += [_line(names, words) for words, names in told.items()]
        if len(lines) > _SUMMARY_LINES:
            left = len(lines) - _SUMMARY_LINES + 1
            lines = [*lines[: _SUMMARY_LINES - 1], f"... and {left} more lines; --output json has all"]
        return "\n".join(lines)


def _words_of(outcome: Outcome[R]) -> str:
    error = outcome.error
    message = error.message if error else "failed"
    return message.removeprefix(f"{outcome.host.name}: ")


def _line(names: Sequence[str], words: str) -> str:
    line = f"  {listing(names, 4)}: {' '.join(words.split())}"
    return line if len(line) <= _SUMMARY_WIDTH else f"{line[: _SUMMARY_WIDTH - 3]}..."


def run_fleet(
    hosts: Sequence[Host],
    work: Callable[[Host], R],
    *,
    limit: int = DEFAULT_LIMIT,
    canary: Iterable[str] = (),
    on_failure: Literal["stop", "continue"] = "stop",
    progress: Callable[[Progress], None] | None = None,
    proven: set[Account] | None = None,
) -> FleetResult[R]:
    """Do `work` on every host, at most `limit` at a time.

    Hosts named in `canary` (names, as many as there are) go first, one after the other, in that
    order; if one of them fails the rest are not started, whatever `on_failure` says. "stop" starts
    no further host after a failure; those at work finish. `work` fails by raising a VswitchError;
    any other exception is a defect and becomes a HostError that names it. `progress` is called in
    the caller's thread. An interrupt (KeyboardInterrupt) starts no further host, waits for those at
    work, and is told in the result. Raises InputError for a canary that is not among the hosts.

    A wrong password is not tried on host after host, which would lock the account: until one host has
    accepted an account, few hosts of it are tried; once one has refused it, no other is. `proven` holds
    the accounts that need no such care, and is added to.
    """
    run = _Fleet(
        hosts, work, max(1, limit), on_failure == "stop", progress, set() if proven is None else proven
    )
    return run.run(tuple(canary))


def _account(host: Host) -> Account | None:
    connection = host.connection
    if connection.authentication not in _WITH_PASSWORD:
        return None
    return (connection.username or "", connection.password_variable or "")


class _Fleet(Generic[R]):
    """One run."""

    def __init__(
        self,
        hosts: Sequence[Host],
        work: Callable[[Host], R],
        limit: int,
        stop: bool,
        progress: Callable[[Progress], None] | None,
        proven: set[Account],
    ) -> None:
        self.hosts = hosts
        self.work = work
        self.limit = limit
        self.stop = stop
        self.progress = progress
        self.proven = proven
        self.refused: set[Account] = set()
        self.outcomes: dict[str, Outcome[R]] = {}
        self.running: list[str] = []
        self.started: SimpleQueue[str] = SimpleQueue()

    def run(self, canary: tuple[str, ...]) -> FleetResult[R]:
        by_name = {host.name: host for host in self.hosts}
        if unknown := [name for name in canary if name not in by_name]:
            raise InputError(
                f"the canary {unknown[0]!r} is not among the hosts", hint=f"hosts: {listing(by_name)}"
            )
        first = [by_name[name] for name in dict.fromkeys(canary)]
        rest = [host for host in self.hosts if host.name not in canary]
        interrupted = False
        try:
            if all(self._batch([host], 1, stop=True) for host in first):
                self._rest(rest)
        except KeyboardInterrupt:
            interrupted = True
        found = [self.outcomes.get(host.name, Outcome(host, Status.NOT_STARTED)) for host in self.hosts]
        return FleetResult(tuple(found), interrupted)

    def _rest(self, hosts: list[Host]) -> None:
        """The hosts after the canaries: 1, 2, 4 ... of each account until one has accepted it."""
        width, go_on = 1, True
        while go_on and hosts:
            careful: dict[Account, int] = {}
            batch: list[Host] = []
            for host in hosts:
                account = _account(host)
                if account is not None and account not in self.proven:
                    careful[account] = careful.get(account, 0) + 1
                    if careful[account] > width:
                        continue
                batch.append(host)
            # Those that need no care wait until the others have been tried: one limit, one order.
            tried = (
                [host for host in batch if _account(host) in careful] if len(batch) < len(hosts) else batch
            )
            go_on = self._batch(tried, self.limit, stop=self.stop)
            hosts = [
                host
                for host in hosts
                if host.name not in self.outcomes and _account(host) not in self.refused
            ]
            width *= 2

    def _batch(self, hosts: Sequence[Host], limit: int, *, stop: bool) -> bool:
        """Work on `hosts`; False if one failed and `stop` was asked."""
        waiting = list(reversed(hosts))
        pending: set[Future[Outcome[R]]] = set()
        failed = False
        with ThreadPoolExecutor(max_workers=min(limit, len(hosts)) or 1) as pool:
            try:
                while pending or (waiting and not (failed and stop)):
                    while waiting and len(pending) < limit and not (failed and stop):
                        pending.add(pool.submit(self._one, waiting.pop()))
                    finished, pending = wait(pending, timeout=_TICK, return_when=FIRST_COMPLETED)
                    for future in finished:
                        failed = self._keep(future.result()) or failed
                    self._tell()
            except KeyboardInterrupt:
                for future in pending:
                    self._keep(future.result())
                raise
        return not (failed and stop)

    def _keep(self, outcome: Outcome[R]) -> bool:
        """Take note of an outcome; True if it is a failure."""
        self.outcomes[outcome.host.name] = outcome
        account = _account(outcome.host)
        if account is not None:
            if outcome.status is Status.DONE:
                self.proven.add(account)
            elif getattr(outcome.error, "cause", None) is Cause.CREDENTIALS and account not in self.proven:
                self.refused.add(account)
        return outcome.status is Status.FAILED

    def _one(self, host: Host) -> Outcome[R]:
        self.started.put(host.name)
        begun = time.monotonic()
        try:
            value = self.work(host)
        except VswitchError as error:
            return Outcome(host, Status.FAILED, error=error, seconds=time.monotonic() - begun)
        except Exception as error:
            defect = HostError(
                f"unexpected {type(error).__name__}: {error}",
                host=host.name,
                hint="this is a defect of vswitch; please report it",
            )
            defect.__cause__ = error
            return Outcome(host, Status.FAILED, error=defect, seconds=time.monotonic() - begun)
        return Outcome(host, Status.DONE, value=value, seconds=time.monotonic() - begun)

    def _tell(self) -> None:
        while True:
            try:
                self.running.append(self.started.get_nowait())
            except Empty:
                break
        self.running = [name for name in self.running if name not in self.outcomes]
        if self.progress is None:
            return
        failed = sum(outcome.status is Status.FAILED for outcome in self.outcomes.values())
        done = len(self.outcomes) - failed
        waiting = len(self.hosts) - len(self.outcomes) - len(self.running)
        self.progress(Progress(tuple(self.running), done, failed, waiting, len(self.hosts)))
