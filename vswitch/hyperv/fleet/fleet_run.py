"""Work on many hosts side by side: a limit, canaries first, stop or go on after a failure, a summary.

The work itself is any function of one host; what it returns or raises becomes that host's outcome.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Generic, Literal, TypeVar

from vswitch.errors import Fault, HostError, InputError, OutOfResources, VswitchError
from vswitch.hyperv.applying.outcomes import NotVerified
from vswitch.hyperv.fleet.inventory import InventoryHost
from vswitch.hyperv.winrm.connection import Authentication
from vswitch.hyperv.winrm.interface import HostCause, WinrmError
from vswitch.hyperv.winrm.used_up import resources_problem
from vswitch.model.problems import listing
from vswitch.wording import counted, visible

__all__ = [
    "DEFAULT_LIMIT",
    "Account",
    "FleetResult",
    "HostFault",
    "HostOutcome",
    "Progress",
    "Status",
    "account_of",
    "run_fleet",
]

R = TypeVar("R")
#: Whose password is sent to a host: user name, and the variable it comes from.
Account = tuple[str, str]

_WITH_PASSWORD = (Authentication.NTLM, Authentication.CREDSSP, Authentication.BASIC)
DEFAULT_LIMIT = 16
_TICK = 0.2
_SUMMARY_LINES = 20


class Status(StrEnum):
    """What became of one host."""

    DONE = "done"
    FAILED = "failed"
    NOT_STARTED = "not started"
    AT_WORK = "still at work"


class HostFault(Fault, HostError):
    """A defect that was met in the work on one host."""


@dataclass(frozen=True, slots=True)
class HostOutcome(Generic[R]):
    """One host's outcome: `value` if done, `error` if failed, `reason` if not started or still at work.

    `seconds` is what it took.
    """

    host: InventoryHost
    status: Status
    value: R | None = None
    error: VswitchError | None = None
    seconds: float = 0.0
    reason: str = ""

    @property
    def word(self) -> str:
        """What became of the host in a word: the error's own, where it has one, or else the status."""
        return self.error.outcome if isinstance(self.error, NotVerified) else str(self.status)


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

    outcomes: tuple[HostOutcome[R], ...]
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every host is done."""
        return all(outcome.status is Status.DONE for outcome in self.outcomes)

    @property
    def exit_status(self) -> int:
        """That of the worst: 70 after a fault, 3 if this machine ran out of something, else 2 or 0."""
        errors = [outcome.error for outcome in self.outcomes if outcome.error is not None]
        for kind in (Fault, OutOfResources):
            if any(isinstance(error, kind) for error in errors):
                return kind.exit_status
        return 0 if self.ok else HostError.exit_status

    def with_status(self, status: Status) -> tuple[HostOutcome[R], ...]:
        """The outcomes of one kind."""
        return tuple(outcome for outcome in self.outcomes if outcome.status is status)

    def summary(self, describe: Callable[[R], str] = lambda _: "") -> str:
        """At most 20 lines: the counts, then the failures, then what `describe` says of the rest.

        Hosts about which the same is to be said share a line.
        """
        fates = [outcome.word for status in Status for outcome in self.with_status(status)]
        head = ", ".join(f"{fates.count(fate)} {fate}" for fate in dict.fromkeys(fates))
        total = len(self.outcomes)
        lines = [f"{counted(total, 'host')}: {head or 'nothing to do'}"]
        told: dict[str, list[str]] = {}
        for outcome in self.with_status(Status.FAILED):
            told.setdefault(_words_of(outcome), []).append(outcome.host.name)
        for outcome in self.with_status(Status.DONE):
            if outcome.value is not None and (words := describe(outcome.value)):
                told.setdefault(words, []).append(outcome.host.name)
        for status in (Status.AT_WORK, Status.NOT_STARTED):
            for outcome in self.with_status(status):
                told.setdefault(f"{status}: {outcome.reason}", []).append(outcome.host.name)
        lines += [_line(names, words) for words, names in told.items()]
        if len(lines) > _SUMMARY_LINES:
            left = len(lines) - _SUMMARY_LINES + 1
            lines = [*lines[: _SUMMARY_LINES - 1], f"... and {left} more lines; --output json has all"]
        return "\n".join(lines)


def _words_of(outcome: HostOutcome[R]) -> str:
    return outcome.error.message if outcome.error else "failed"


def _unexpected(host: InventoryHost, error: BaseException) -> VswitchError:
    """What an exception that nobody foresaw is to the user."""
    if (used_up := resources_problem(error)) is not None:
        return used_up
    fault = HostFault(
        f"this is a fault of vswitch: {type(error).__name__}: {error}",
        host=host.name,
        hint="please report it; what the host holds is seen by reading it again",
    )
    fault.__cause__ = error
    return fault


def _refused(outcome: HostOutcome[R]) -> bool:
    return isinstance(outcome.error, WinrmError) and outcome.error.cause is HostCause.CREDENTIALS


def _line(names: Sequence[str], words: str) -> str:
    return visible(f"  {listing(names, 4)}: {words.strip()}")


def run_fleet(
    hosts: Sequence[InventoryHost],
    work: Callable[[InventoryHost], R],
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
    any other exception becomes OutOfResources if this machine ran out of something, else HostFault.
    `progress` is called in the caller's thread. An interrupt (KeyboardInterrupt) ends the run at once:
    the hosts at work are named as such in the result, and what works on them ends with the process.
    Raises InputError for a canary that is not among the hosts.

    A wrong password is not tried on host after host, which would lock the account: until one host has
    accepted an account, few hosts of it are tried; once one has refused it, no other is. `proven` holds
    the accounts that need no such care. It is added to when a host is done; `work` may add to it sooner.
    """
    run = _Fleet(
        hosts, work, max(1, limit), on_failure == "stop", progress, set() if proven is None else proven
    )
    return run.run(tuple(canary))


def account_of(host: InventoryHost) -> Account | None:
    """Whose password the host is sent; None if it is sent none."""
    connection = host.connection
    if connection.authentication not in _WITH_PASSWORD:
        return None
    return (connection.username or "", connection.password_variable or "")


class _Fleet(Generic[R]):
    """One run."""

    def __init__(
        self,
        hosts: Sequence[InventoryHost],
        work: Callable[[InventoryHost], R],
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
        self.trying: dict[Account, set[str]] = {}  # hosts at work that may refuse the account
        self.width: dict[Account, int] = {}  # how many of those there may be
        self.outcomes: dict[str, HostOutcome[R]] = {}
        self.running: list[str] = []
        self.ended: SimpleQueue[HostOutcome[R]] = SimpleQueue()

    def run(self, canary: tuple[str, ...]) -> FleetResult[R]:
        by_name = {host.name: host for host in self.hosts}
        if unknown := [name for name in canary if name not in by_name]:
            raise InputError(
                f"the canary {unknown[0]!r} is not among the hosts", hint=f"hosts: {listing(by_name)}"
            )
        first = [by_name[name] for name in dict.fromkeys(canary)]
        rest = [host for host in self.hosts if host.name not in canary]
        failed: InventoryHost | None = None
        interrupted = False
        try:
            failed = next((host for host in first if not self._batch([host], 1, stop=True)), None)
            if failed is None:
                self._batch(rest, self.limit, stop=self.stop)
        except KeyboardInterrupt:
            interrupted = True
            self._collect(0)

        def left(host: InventoryHost) -> HostOutcome[R]:
            reason = "interrupted" if interrupted else self._why_left(host, failed)
            status = Status.AT_WORK if host.name in self.running else Status.NOT_STARTED
            return HostOutcome(host, status, reason=reason)

        found = [self.outcomes.get(host.name) or left(host) for host in self.hosts]
        return FleetResult(tuple(found), interrupted)

    def _why_left(self, host: InventoryHost, canary: InventoryHost | None) -> str:
        """Why a host was not begun, where `canary` is the one that failed."""
        if canary is not None:
            return f"the canary {canary.name} failed"
        failed = [each for each in self.outcomes.values() if each.status is Status.FAILED]
        if account_of(host) in self.refused:
            failed = [each for each in failed if _refused(each) and account_of(each.host) == account_of(host)]
            return f"{failed[0].host.name} refused the password of the same account"
        return f"{failed[0].host.name} failed"

    def _batch(self, hosts: Sequence[InventoryHost], limit: int, *, stop: bool) -> bool:
        """Work on `hosts`; False if one failed and `stop` was asked."""
        waiting = list(hosts)
        failed = False
        while True:
            for host in [] if failed and stop else list(waiting):
                if len(self.running) >= limit:
                    break
                if self._may_start(host):
                    waiting.remove(host)
                    self._start(host)
            if not self.running and self.ended.empty():
                break
            failed = self._collect(_TICK) or failed
            self._tell()
        return not (failed and stop)

    def _start(self, host: InventoryHost) -> None:
        """Work on a host in a thread that does not keep the process from ending."""
        self.running.append(host.name)
        try:
            threading.Thread(target=self._one, args=(host,), name=host.name, daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            self.ended.put(HostOutcome(host, Status.FAILED, error=_unexpected(host, error)))

    def _collect(self, seconds: float) -> bool:
        """Take note of what has ended, waiting for the first for so long; True if something failed."""
        failed = False
        try:
            outcome = self.ended.get(timeout=seconds) if seconds else self.ended.get_nowait()
            while True:
                self.running.remove(outcome.host.name)
                failed = self._keep(outcome) or failed
                outcome = self.ended.get_nowait()
        except Empty:
            return failed

    def _may_start(self, host: InventoryHost) -> bool:
        """Whether a host may be told its password: 1, 2, 4 ... may while no host has accepted it."""
        account = account_of(host)
        if account is None or account in self.proven:
            return True
        trying = self.trying.setdefault(account, set())
        if account in self.refused or len(trying) >= self.width.get(account, 1):
            return False
        trying.add(host.name)
        return True

    def _keep(self, outcome: HostOutcome[R]) -> bool:
        """Take note of an outcome; True if it is a failure."""
        self.outcomes[outcome.host.name] = outcome
        account = account_of(outcome.host)
        if account is not None:
            self.trying.get(account, set()).discard(outcome.host.name)
            if outcome.status is Status.DONE:
                self.proven.add(account)
            elif _refused(outcome) and account not in self.proven:
                self.refused.add(account)
            else:
                self.width[account] = 2 * self.width.get(account, 1)
        return outcome.status is Status.FAILED

    def _one(self, host: InventoryHost) -> None:
        begun = time.monotonic()
        value: R | None = None
        problem: VswitchError | None = None
        try:
            value = self.work(host)
        except VswitchError as error:
            problem = error
        except BaseException as error:  # a thread that ends in silence would be waited for for ever
            problem = _unexpected(host, error)
        status = Status.FAILED if problem else Status.DONE
        self.ended.put(HostOutcome(host, status, value, problem, time.monotonic() - begun))

    def _tell(self) -> None:
        if self.progress is None:
            return
        failed = sum(outcome.status is Status.FAILED for outcome in self.outcomes.values())
        done = len(self.outcomes) - failed
        waiting = len(self.hosts) - len(self.outcomes) - len(self.running)
        self.progress(Progress(tuple(self.running), done, failed, waiting, len(self.hosts)))
