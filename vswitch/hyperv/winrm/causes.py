"""Errors of one host's link as classes, and the sentences for what is not believed or not to be had."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import StrEnum

from vswitch.errors import HostError, OutOfResources
from vswitch.hyperv.winrm.guard import Compressed, TooLarge, Unsealed
from vswitch.hyperv.winrm.sealed import Foreign

__all__ = ["HostCause", "OutcomeUnknown", "WinrmError", "chain", "disbelief", "resources_problem"]


class HostCause(StrEnum):
    """Why a host could not be worked with, for programs."""

    NAME = "name"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    TLS = "tls"
    LISTENER = "listener"
    CREDENTIALS = "credentials"
    METHOD = "method"
    PACKAGE = "package"
    RIGHT = "right"
    QUOTA = "quota"
    SIZE = "size"
    SCRIPT = "script"
    ANSWER = "answer"
    UNSEALED = "unsealed"


class WinrmError(HostError):
    """A host could not be worked with; the operation cannot have changed anything there."""

    def __init__(self, message: str, *, host: str, cause: HostCause, hint: str = "") -> None:
        super().__init__(message, host=host, hint=hint)
        self.cause = cause

    def as_dict(self) -> dict[str, object]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {"cause": str(self.cause)}


class OutcomeUnknown(WinrmError):
    """Contact was lost after the operation was handed over: what the host holds must be read again.

    `may_still_run` is False if the script is known to have ended.
    """

    def __init__(
        self, message: str, *, host: str, cause: HostCause, may_still_run: bool, hint: str = ""
    ) -> None:
        super().__init__(message, host=host, cause=cause, hint=hint)
        self.may_still_run = may_still_run

    def as_dict(self) -> dict[str, object]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {"may_still_run": self.may_still_run}


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was made from."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        found = waiting.pop(0)
        if any(found is other for other in seen):
            continue
        seen.append(found)
        yield found
        inner = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        waiting += [item for item in inner if isinstance(item, BaseException)]


_USED_UP = {
    errno.EMFILE: "open files (of this process)",
    errno.ENFILE: "open files (of all processes)",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory for connections",
}


def resources_problem(error: BaseException) -> OutOfResources | None:
    """What this machine has run out of, if that is what an error is about."""
    for each in chain(error):
        if isinstance(each, OutOfResources):
            return each
        used_up = None
        if isinstance(each, MemoryError):
            used_up = "memory"
        elif isinstance(each, OSError):
            used_up = _USED_UP.get(each.errno or 0)
        elif isinstance(each, RuntimeError) and "can't start new thread" in str(each):
            used_up = "processes"
        if used_up is not None:
            return OutOfResources(
                f"this machine has run out of {used_up}",
                hint="raise the limit (ulimit), or work on fewer hosts at a time (--limit)",
            )
    return None


def _size(error: TooLarge) -> str:
    if error.unit != "bytes":
        return f"{error.limit:,} {error.unit}"
    return f"{error.limit >> 20} MiB" if error.limit >= 1 << 20 else f"{error.limit >> 10} KiB"


def disbelief(error: BaseException, place: str) -> tuple[HostCause, str, str] | None:
    """Cause, sentence and remedy for an answer of `place` that was not taken; None for other errors."""
    if isinstance(error, TooLarge):
        return (
            HostCause.SIZE,
            f"{place} sends more than the {_size(error)} that are taken of it, and was cut off",
            "see what answers there: a host that works sends far less",
        )
    if isinstance(error, Compressed):
        return (
            HostCause.ANSWER,
            f"{place} compresses its answer, which it was asked not to do",
            "check the port, and that no other web server or proxy answers there",
        )
    if isinstance(error, Foreign):
        return (
            HostCause.ANSWER,
            f"an answer of {place} is none to the question asked: {error.args[0]}",
            "nothing of it was believed; check that no proxy or other web server answers there",
        )
    if isinstance(error, Unsealed):
        if 300 <= error.status < 400:
            return (
                HostCause.LISTENER,
                f"{place} answers with a redirect, which is not followed",
                "check `address` and `port`: another web server or a proxy answers there",
            )
        why = error.why or "it is not encrypted"
        return (
            HostCause.UNSEALED,
            f"an answer of {place} (HTTP {error.status}) was not believed: {why}",
            "somebody between here and the host may have made it, or the host does not encrypt: look at who"
            " answers there, or use HTTPS (5986)",
        )
    return None
