"""What becomes of an apply, said whatever happens to it: in force, not in force, or not known."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import typer

from vswitch.cli.output import Output, Page, emit, print_error
from vswitch.errors import (
    BusyError,
    InForceUnknown,
    InputError,
    LabFault,
    NotInForce,
    OutOfResources,
    SessionsLeft,
    VswitchError,
)
from vswitch.patience import Patience
from vswitch.wire import NoAnswer, error_as_data

if TYPE_CHECKING:
    from vswitch.lab_answers import ApplyReport, Holding, PoliciesInForce

__all__ = ["apply_policies", "print_status", "write_status"]

_GLANCE = 0.5  # seconds for the lab to say how far an apply has come when nobody waits for it any more

_HELD: dict[Holding, str] = {
    "old": "the old policy",
    "new": "the new policy",
    "other": "another",
    "unknown": "does not answer",
}


class _Terminated(BaseException):
    """SIGTERM has come."""


def apply_policies(
    lab: str,
    policies: Sequence[str],
    texts: Mapping[str, str],
    say: Callable[[str], None],
    output: Output,
) -> ApplyReport:
    """Put policies in force on a lab; the report, with numbers None where nobody could count.

    Raises what keeps them from being in force, and InForceUnknown. Prints how far it has come and ends the
    command if it is interrupted; prints errors as JSON with what is in force, if `output` says so.
    """
    try:
        return _apply(lab, policies, texts, say)
    except (KeyboardInterrupt, _Terminated) as interrupt:
        status = 130 if isinstance(interrupt, KeyboardInterrupt) else 128 + signal.SIGTERM
        unknown = InForceUnknown(
            f"interrupted: {_so_far(lab, policies, texts)}", hint=_how_to_find_out(lab, policies)
        )
        _print_and_exit(unknown, output, status)
    except VswitchError as error:
        if output is Output.TEXT:
            raise
        _print_and_exit(error, output, error.exit_status)


def _print_and_exit(error: VswitchError, output: Output, status: int) -> NoReturn:
    if output is Output.JSON:
        emit({**error_as_data(error), "in_force": _in_force_after(error)}, lambda _: None, output)
    else:
        print_error(error, as_json=False)
    raise typer.Exit(status) from None


def _in_force_after(error: VswitchError) -> Holding:
    if isinstance(error, (InputError, BusyError, NotInForce)):
        return "old"
    return "new" if isinstance(error, SessionsLeft) else "unknown"


def _apply(
    lab: str, policies: Sequence[str], texts: Mapping[str, str], say: Callable[[str], None]
) -> ApplyReport:
    from vswitch.lab.process.lab_requests import apply_to

    try:
        with _terminable():
            return apply_to(lab, policies, texts, progress=say)
    except InForceUnknown as error:
        hint = f"{error.hint} {_how_to_find_out(lab, policies)}"
        raise InForceUnknown(error.message, hint=hint) from None
    except (NoAnswer, LabFault, OutOfResources) as error:
        hint = f"{error.hint} {_how_to_find_out(lab, policies)}".lstrip()
        raise InForceUnknown(f"{_so_far(lab, policies, texts)}: {error.message}", hint=hint) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise _Terminated when SIGTERM comes."""

    def raise_it(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _Terminated

    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _how_to_find_out(lab: str, policies: Sequence[str]) -> str:
    command = shlex.join(["vswitch", "apply", "--status", "--lab", lab, *policies])
    return f"To find out: {command}"


def _so_far(lab: str, policies: Sequence[str], texts: Mapping[str, str]) -> str:
    """How far an apply has come by now, as far as the lab says so at once."""
    from vswitch.lab.process.lab_requests import policies_in_force

    try:
        status = policies_in_force(lab, policies, texts, within=Patience(_GLANCE, _GLANCE, _GLANCE))
    except VswitchError:
        return "whether the new policy is in force is not known"
    goes_on = ", and the lab goes on with it" if status.apply else ""
    if status.in_force == "new":
        return f"the new policy is in force{goes_on}"
    if status.in_force == "old":
        return f"the new policy is not in force yet{goes_on}"
    return f"the new policy is not in force on every switch yet{goes_on}"


def print_status(lab: str, policies: Sequence[str], texts: Mapping[str, str], output: Output) -> None:
    """Print what is in force on a lab, and whether it is these policies (none: whatever it is).

    Exit status 0: they are, 1: they are not, 3: not known, or an apply is under way that may yet change it.
    """
    from vswitch.lab.process.lab_requests import policies_in_force

    try:
        status = policies_in_force(lab, policies, texts)
    except (NoAnswer, LabFault) as error:
        raise InForceUnknown(f"what is in force is not known: {error.message}", hint=error.hint) from None
    emit(status, lambda page: write_status(page, status), output)
    in_force = status.in_force or ("unknown" if status.policies is None else "new")
    if in_force != "new" or (status.apply and not policies):
        raise typer.Exit(3 if status.apply or in_force == "unknown" else 1)


def write_status(page: Page, status: PoliciesInForce) -> None:
    """Print what a lab says of the policies in force and of an apply that is under way."""
    under_way = status.apply
    if status.policies is not None:
        page.line(f"in force: {', '.join(status.policies) or 'no policy'}")
    if under_way:
        doing = "being taken back" if under_way.taken_back else "under way"
        page.line(f"an apply of {', '.join(under_way.policies) or 'no policy'} is {doing}")
        for switch, held in under_way.switches.items():
            page.line(f"  {switch}: {_HELD.get(held, held)}")
