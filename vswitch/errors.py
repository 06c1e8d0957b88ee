"""The errors a user can meet, as one tree.

    VswitchError
    ├── InputError          a layout, policy or command argument is wrong (exit status 2)
    │   └── InputErrors     several of them, from one load
    ├── EnvironmentError_   this machine lacks something (package, user namespaces, /dev/net/tun)
    ├── OutOfResources      this machine ran out of memory, processes, open files or disk (exit status 3)
    ├── LabError            a running lab refused or failed a request
    │   ├── NoSuchLab       no lab of that name runs
    │   ├── InForceUnknown  an apply has not been seen to end (exit status 3)
    │   └── SessionsLeft    an apply is in force, but sessions of old rules may go on (exit status 3)
    ├── SwitchError         Open vSwitch refused or did not answer
    │   ├── SwitchTimeout   it did not answer in time: what was asked of it may still come about
    │   └── NotInForce      an apply was refused or taken back: the old policy is in force
    ├── HostError           a Hyper-V host refused, failed or could not be reached
    ├── BusyError           another apply holds the lab
    └── Fault               a defect of vswitch itself (exit status 70)
        └── LabFault        one that a running lab met

Every error carries what happened, where, and what to do next. The command line prints those three
and nothing else: a traceback never reaches a user.
"""

from __future__ import annotations

from dataclasses import dataclass

from vswitch.json_values import Json

__all__ = [
    "BusyError",
    "EnvironmentError_",
    "Fault",
    "HostError",
    "InForceUnknown",
    "InputError",
    "InputErrors",
    "LabError",
    "LabFault",
    "NoSuchLab",
    "NotInForce",
    "Origin",
    "OutOfResources",
    "SessionsLeft",
    "SwitchError",
    "SwitchTimeout",
    "VswitchError",
]


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A place in a file a user wrote. `line` and `column` count from 1; 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


class VswitchError(Exception):
    """Base of all errors meant for a user.

    `message` says what happened in one sentence, `where` is the place in the user's files if there
    is one, `hint` says what to do next (may be empty).
    """

    exit_status = 1

    def __init__(self, message: str, *, where: Origin | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.sentence}{hint}"

    @property
    def sentence(self) -> str:
        """What happened, for people to read by itself: `message`, and whom it is about."""
        return self.message

    def as_dict(self) -> dict[str, Json]:
        """The error as plain data, for `--output json`."""
        where = self.where
        return {
            "error": type(self).__name__.rstrip("_"),
            "message": self.message,
            "file": where.file if where else None,
            "line": (where.line or None) if where else None,
            "column": (where.column or None) if where else None,
            "hint": self.hint or None,
        }


class InputError(VswitchError):
    """Something the user wrote is wrong; nothing was changed."""

    exit_status = 2


class InputErrors(InputError):
    """All mistakes found in one load, in file order. Its own message is the first one's."""

    def __init__(self, errors: list[InputError]) -> None:
        first = errors[0]
        super().__init__(first.message, where=first.where, hint=first.hint)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class EnvironmentError_(VswitchError):  # the plain name is a builtin
    """This machine lacks something the lab needs; `hint` names the remedy."""


class OutOfResources(VswitchError):
    """This machine ran out of memory, processes, open files or disk; `message` says of which."""

    exit_status = 3


class LabError(VswitchError):
    """A running lab refused or failed a request."""


class NoSuchLab(LabError):
    """No lab of that name runs."""

    exit_status = 2


class InForceUnknown(LabError):
    """Whether an apply has put its policy in force is not known (yet); `hint` says how to find out."""

    exit_status = 3


class SessionsLeft(LabError):
    """An apply has put its policy in force, but live sessions of rules now gone may go on."""

    exit_status = 3


class SwitchError(VswitchError):
    """Open vSwitch refused a request or did not answer in time."""


class SwitchTimeout(SwitchError):
    """Open vSwitch did not answer in time: it may still do what it was asked."""


class NotInForce(SwitchError):
    """An apply was refused or taken back: the policy in force is the one from before, everywhere."""


class HostError(VswitchError):
    """A Hyper-V host refused a request, failed, or could not be reached. `host` is its name."""

    exit_status = 2

    def __init__(self, message: str, *, host: str, where: Origin | None = None, hint: str = "") -> None:
        super().__init__(message, where=where, hint=hint)
        self.host = host

    @property
    def sentence(self) -> str:
        """What happened, with the host's name in front."""
        return f"{self.host}: {self.message}"

    def as_dict(self) -> dict[str, Json]:
        """The error as plain data, for `--output json`."""
        return super().as_dict() | {"host": self.host}


class BusyError(LabError):
    """Another change of the same lab is under way."""


class Fault(VswitchError):
    """A defect of vswitch itself. Its status (EX_SOFTWARE) is no other answer's, such as "differs"."""

    exit_status = 70


class LabFault(Fault, LabError):
    """A defect that a running lab met while it did what it was asked."""
