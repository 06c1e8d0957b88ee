"""What the bridge needs of a way to reach a host: the interface, its requests and its errors.

Whatever lies above knows only this module; each implementation (pywinrm's is transport.py) lies behind
it, and nothing of the library it uses is seen here. It has to guarantee:

- an operation that changes something is executed once at most. Where it is not known whether it was,
  the error is OutcomeUnknown; after every other error it was not;
- an answer is whole or an error: what the document says is all that the host said. It is bounded in
  size, so that a host cannot use up this machine;
- a run ends: there is one time limit for all of it, and what was opened on the host is closed;
- who answers has been proven by TLS or by the log-on, and what it says cannot have been read or changed
  on the way;
- errors are those of the project, and no password is in their text, repr or traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from vswitch.errors import HostError
from vswitch.json_values import Json

__all__ = ["READ_ONLY", "HostCause", "OutcomeUnknown", "ScriptRequest", "Transport", "WinrmError"]

#: Operations that change nothing on the host and may be repeated.
READ_ONLY = frozenset({"export", "backups"})


@dataclass(frozen=True, slots=True)
class ScriptRequest:
    """One operation of the PowerShell module and its arguments (plain data)."""

    operation: str
    arguments: Mapping[str, Json] = field(default_factory=dict)

    @property
    def read_only(self) -> bool:
        """Whether it changes nothing on the host."""
        return self.operation in READ_ONLY


class Transport(Protocol):
    """A way to run the PowerShell module on one host. Safe for use by several threads."""

    def prepare(self) -> None:
        """Do what may ask at the terminal, once: best in the main thread, before anything else runs.

        `run` does it by itself where this was not called. Raises InputError or HostError.
        """

    def run(self, request: ScriptRequest, *, timeout: float | None = None) -> dict[str, Json]:
        """The document that the module answered with, whether it says ok or not.

        `timeout` limits the whole run, in seconds; None means the host's own. Raises WinrmError, or
        OutcomeUnknown if the operation may have changed something; InputError or HostError as `prepare`.
        """


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

    def as_dict(self) -> dict[str, Json]:
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

    def as_dict(self) -> dict[str, Json]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {"may_still_run": self.may_still_run}
