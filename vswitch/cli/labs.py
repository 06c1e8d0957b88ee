"""`up`, `ps`, `down`, `exec`, `shell`, `log`: the life of a lab."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from vswitch.cli import completion
from vswitch.cli.applying import write_status
from vswitch.cli.choosing import choose_lab
from vswitch.cli.files import load
from vswitch.cli.lab_option import LabOption
from vswitch.cli.output import Output, OutputOption, Page, ask, check_seconds, emit, progress
from vswitch.errors import InputError, LabError, NoSuchLab
from vswitch.lab.process import client
from vswitch.lab.shells import shell_command
from vswitch.model.types import TCP, UDP
from vswitch.patience import Patience
from vswitch.wire import NoAnswer, NotUnderstood, TooSlow
from vswitch.wording import counted

if TYPE_CHECKING:
    from vswitch.lab_answers import GuestShown, LabStatus, ServiceShown

__all__ = ["register"]

T = TypeVar("T")
_GLANCE = 5.0  # seconds for a lab to show that it is still there

GuestArgument = Annotated[
    str,
    typer.Argument(
        help="A VM, a host (its management OS), a client or a gateway.", autocompletion=completion.guests
    ),
]

_STATUS_PATIENCE = 3.0  # seconds: `down` is for labs that hang, too
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


class _Exec(TyperCommand):
    """`exec`, whose command may have options of its own: without `--` they would be taken for ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's; raises InputError where `--` is missing."""
        if not ctx.resilient_parsing:
            self._check(args)
        return super().parse_args(ctx, args)

    def _check(self, args: list[str]) -> None:
        valued = {
            option for each in self.params if not getattr(each, "is_flag", False) for option in each.opts
        }
        positions: list[int] = []
        words = iter(enumerate(args))
        for index, word in words:
            if word == "--":
                return
            if not word.startswith("-") or word == "-":
                positions.append(index)
            elif len(positions) > 1:
                begin = positions[1]
                written = shlex.join([*args[:begin], "--", *args[begin:]])
                raise InputError(
                    f"-- is missing between the guest and its command: {word} could be an option of vswitch",
                    hint=f"Write: vswitch exec {written}",
                )
            elif word in valued:
                next(words, None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: [bold]vswitch up topologies/two-hosts.yaml[/]")(up)
    app.command(epilog="Example: [bold]vswitch ps --output json[/]")(ps)
    app.command(epilog="Example: [bold]vswitch down[/]")(down)
    app.command(
        "exec",
        epilog="Example: [bold]vswitch exec web01 -- ip -brief address[/]",
        cls=_Exec,
        context_settings={"ignore_unknown_options": True},
    )(exec_)
    app.command(epilog="Example: [bold]vswitch shell web01[/]")(shell)
    app.command(epilog="Example: [bold]vswitch log[/]")(log)


def up(
    layout: Annotated[str, typer.Argument(help="The layout file.", autocompletion=completion.yaml_files)],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The lab's name; else the layout's.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="Start with this policy in place of those the layout names.",
            autocompletion=completion.yaml_files,
        ),
    ] = None,
    no_policy: Annotated[bool, typer.Option("--no-policy", help="Start without any policy.")] = False,
    kernel: Annotated[
        bool, typer.Option("--kernel-datapath", help="Use the kernel's Open vSwitch module (as root).")
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            help="Where the lab's processes write what they say.",
            autocompletion=completion.any_files,
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start a layout as a lab: switches, VMs, services, policies. Needs no root."""
    from vswitch.diagnose.lab_questions import EXTENSION

    if policy and no_policy:
        raise InputError("--policy and --no-policy exclude each other")
    started = time.monotonic()
    site, sources = load(layout, [] if no_policy else policy)
    chosen = name or site.name
    options = {"datapath": "system"} if kernel else {}
    with progress(f"starting {chosen}") as say:
        status = client.start(
            chosen, sources, options=options, extensions=[EXTENSION], log_file=log_file, progress=say
        )
    seconds = round(time.monotonic() - started, 3)

    def text(page: Page) -> None:
        parts = counted(status.hosts, "host"), counted(status.switches, "switch", "switches")
        page.line(
            ("up", "green"),
            f" lab {chosen} in {seconds:.1f} s: {', '.join(parts)}, {counted(status.guests, 'guest')}",
        )
        page.warnings(site.warnings)
        page.line("  Ask it: vswitch probe, vswitch explain. Look around: vswitch ps, vswitch shell.")

    emit({"lab": chosen, "seconds": seconds, **status.to_dict()}, text, output)


def ps(lab: LabOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the labs that run, and the guests in them."""
    found = [_about(choose_lab(lab))] if lab is not None else list(_about_all())

    def text(page: Page) -> None:
        if not found:
            page.line("No lab runs. Start one with: vswitch up LAYOUT")
        for each in found:
            if isinstance(each, _Silent):
                page.line((each.lab, "bold"), " ", ("does not answer", "red"))
                page.line("  ", each.error.message)
                page.line("  ", each.error.hint)
            else:
                _write_about(page, each)

    emit([each.to_dict() for each in found], text, output)
    if any(isinstance(each, _Silent) for each in found):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _About:
    """A lab that answers."""

    lab: str
    status: LabStatus
    guests: tuple[GuestShown, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data: the status, and the guests in the place of their number."""
        guests = [guest.to_dict() for guest in self.guests]
        return {"lab": self.lab, **self.status.to_dict(), "guests": guests}


@dataclass(frozen=True, slots=True)
class _Silent:
    """A lab that does not, or not as a lab of this version."""

    lab: str
    error: LabError

    def to_dict(self) -> dict[str, Any]:
        """As plain data: the lab, and the error's fields."""
        return {"lab": self.lab, **self.error.as_dict()}


def _about(name: str) -> _About:
    from vswitch.lab.process.lab_requests import guests_of, status_of

    return _About(name, status_of(name), guests_of(name))


def _about_all() -> Iterator[_About | _Silent]:
    """Each lab that runs, asked side by side."""
    for name, asked in [(name, _in_background(partial(_about, name))) for name in client.running()]:
        try:
            yield asked.result()
        except (TooSlow, NotUnderstood) as error:
            yield _Silent(name, error)
        except (NoSuchLab, NoAnswer):  # it has ended since
            pass

        except LabError as error:
            yield _Silent(name, error)


def _in_background(work: Callable[[], T]) -> Future[T]:
    """What `work` returns or raises, done in a thread that Ctrl-C does not wait for."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # whoever waits handles it
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def _write_about(page: Page, about: _About) -> None:
    status = about.status
    page.line((about.lab, "bold"), f" ({status.files[0]}), {_since(status)}, started in {status.folder}")
    if status.in_force.apply:
        write_status(page, status.in_force)
    page.table(
        ("guest", "kind", "host", "addresses", "services"),
        [
            (
                guest.name,
                guest.kind,
                guest.host,
                ", ".join(guest.addresses),
                ", ".join(map(_service, guest.services)),
            )
            for guest in about.guests
        ],
    )


def _service(service: ServiceShown) -> str:
    name = {TCP: "tcp", UDP: "udp"}[service.protocol]
    suffix = f" ({service.name})" if service.name else ""
    return f"{name}/{service.port}{suffix}"


def down(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="The lab's name; not needed while only one runs.", autocompletion=completion.lab_names
        ),
    ] = None,
    lab: LabOption = None,
    every: Annotated[bool, typer.Option("--all", help="All of this user's labs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a lab down. Nothing of it is left.

    Without a name, or with VSWITCH_LAB's, it asks before it takes down a lab started in another folder.
    """
    started = time.monotonic()
    names = client.running() if every else [choose_lab(lab if name is None else name)]
    said = ", ".join(names) or "nothing"
    if not (every or name is not None or _is_typed(ctx, "lab")):
        said = _confirm_unnamed(names[0], yes=yes, may_ask=output is Output.TEXT)
    for each in names:
        with suppress(NoSuchLab) if every else nullcontext():  # it may have ended by itself since
            client.down(each)
    data = {"down": names, "seconds": round(time.monotonic() - started, 3)}
    emit(data, lambda page: page.line(f"down: {said}"), output)


def _is_typed(ctx: typer.Context, parameter: str) -> bool:
    """Whether the parameter stands on the command line: the environment may have been set long ago."""
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _confirm_unnamed(lab: str, *, yes: bool, may_ask: bool) -> str:
    """Which lab it is, and how old; asks whether it is the one meant if it was started elsewhere.

    Raises InputError where nobody can be asked, typer.Abort for a no.
    """
    from vswitch.lab.process.lab_requests import status_of

    named = f"vswitch down {shlex.quote(lab)}"
    try:
        status = status_of(lab, within=Patience.from_environment().at_most(_STATUS_PATIENCE))
    except LabError:
        if yes:
            return lab
        raise InputError(
            f"the lab {lab!r} does not say where it was started", hint=f"Name it to end it: {named}"
        ) from None
    described = f"{lab}, {_since(status)}"
    if yes or status.folder == client.current_folder():
        return described
    if may_ask and sys.stdin.isatty() and sys.stderr.isatty():
        ask(f"The lab {described}, was started in {status.folder}. Take it down?")
        return described
    raise InputError(
        f"the lab {lab!r}, {_since(status)}, was started in another folder: {status.folder}",
        hint=f"If it is the one you mean: {named}",
    )


def _since(status: LabStatus) -> str:
    """For how long a lab has been up, in one unit."""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(status.since)).total_seconds())
    name, length = next((unit for unit in _UNITS if seconds >= unit[1]), ("second", 1))
    return f"up {counted(int(seconds // length), name)}"


def exec_(
    guest: GuestArgument,
    command: Annotated[
        list[str],
        typer.Argument(help="The command and its arguments, after --.", autocompletion=completion.any_files),
    ],
    lab: LabOption = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="End the command after so many seconds.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a command inside a guest; its exit status is this command's.

    With --output json what it prints is part of the result.
    """
    if timeout is not None:
        check_seconds(timeout)
    name = choose_lab(lab)
    if output is Output.TEXT:
        status = client.exec_in_guest(name, guest, command, timeout=timeout)
        _check_that_it_goes_on(name, guest, status)
        raise typer.Exit(status)
    status, printed, errors = client.capture_in_guest(name, guest, command, timeout=timeout)
    _check_that_it_goes_on(name, guest, status)
    data = {"guest": guest, "command": command, "exit_status": status, "stdout": printed, "stderr": errors}
    emit(data, lambda _: None, output)
    raise typer.Exit(status)


def _check_that_it_goes_on(lab: str, guest: str, status: int) -> None:
    """Raise LabError if what ran in a guest was killed because its lab has ended."""
    if status != 128 + signal.SIGKILL:
        return
    try:
        client.call(lab, "status", within=Patience(_GLANCE, _GLANCE, _GLANCE))
    except TooSlow:  # it hangs, but is there
        return
    except (NoSuchLab, NoAnswer):
        raise LabError(
            f"the lab {lab!r} has ended, and what ran in {guest} with it",
            hint="`vswitch ps` lists the labs that run.",
        ) from None


def shell(
    guest: GuestArgument,
    lab: LabOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Open your shell inside a guest: its prompt begins with the guest's name, `exit` leaves it.

    With --output json its exit status is printed at the end.
    """
    name = choose_lab(lab)
    status = client.exec_in_guest(name, guest, shell_command(guest))
    _check_that_it_goes_on(name, guest, status)
    emit({"guest": guest, "exit_status": status}, lambda _: None, output)
    raise typer.Exit(status)


def log(lab: LabOption = None, output: OutputOption = Output.TEXT) -> None:
    """What the lab's own processes have said."""
    from vswitch.lab.process.lab_requests import log_of

    text = log_of(choose_lab(lab))
    said = text.removesuffix("\n") or "The lab's processes have said nothing."
    emit({"log": text}, lambda page: page.lines(said), output)
