"""One script run on one Hyper-V host by means of pywinrm: the implementation of `Transport`.

A run is one WinRM shell: Create, Command, Send (as often as the input needs), Receive (until the
answer is whole), Delete. How it keeps what interface.py promises:

- while the last piece of input has not been sent the operation cannot have begun, and the run starts
  over; from then on only the same shell is taken up again, on a new connection;
- there is one time limit for the whole run, and the shell is closed whatever happens;
- pywinrm's errors are replaced by WinrmError or OutcomeUnknown, and keep no reference to its stack
  frames, whose locals contain passwords.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from winrm.exceptions import WinRMOperationTimeoutError, WSManFaultError

from vswitch.errors import HostError, VswitchError
from vswitch.hyperv.winrm import framing
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import CredentialFinder, Credentials
from vswitch.hyperv.winrm.guard import ONE_ANSWER, Guard, TimeIsUp
from vswitch.hyperv.winrm.interface import HostCause, OutcomeUnknown, ScriptRequest, WinrmError
from vswitch.hyperv.winrm.link import Link, new_link, offered_methods
from vswitch.hyperv.winrm.shipped_module import module_text
from vswitch.hyperv.winrm.winrm_errors import (
    is_broken,
    is_shell_gone,
    resources_problem,
    script_problem,
    timeout_problem,
    winrm_problem,
)
from vswitch.json_values import Json

__all__ = ["PywinrmTransport", "ScriptRequest", "find_credentials"]

#: Bytes of input in one Send: base64 and the SOAP header keep it below an envelope of 150 KB.
CHUNK = 96 * 1024

_CODEPAGE_UTF8 = 65001
_RECONNECTS = 4
_CLOSING_SECONDS = 5.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


def _nothing() -> None:
    """Nobody wants to know."""


class PywinrmTransport:
    """The Transport over WinRM by means of pywinrm.

    Each run has a pywinrm Protocol, and so a connection, of its own. `credentials` may be given to
    save asking; otherwise they come from `finder` at the first run. `accepted` is called, in the
    thread of the run, when the host has accepted them.
    """

    def __init__(
        self,
        connection: HostConnection,
        *,
        credentials: Credentials | None = None,
        finder: CredentialFinder | None = None,
        module: bytes | None = None,
        retry_delay: float = 1.0,
        accepted: Callable[[], None] = _nothing,
    ) -> None:
        self.connection = connection
        self._accepted = accepted
        self._credentials = credentials
        self._finder = finder or CredentialFinder()
        self._module = module
        self._retry_delay = retry_delay

    def __repr__(self) -> str:
        return f"PywinrmTransport({self.connection.name})"

    def run(self, request: ScriptRequest, *, timeout: float | None = None) -> dict[str, Json]:
        """See Transport.run."""
        seconds = self.connection.timeout if timeout is None else timeout
        self.connection.check_files()
        payload = framing.encode_request(
            module_text() if self._module is None else self._module, request.operation, request.arguments
        )
        credentials = self._log_on_with()
        deadline = time.monotonic() + seconds
        repeats = 1
        while True:
            run = _Run(self.connection, credentials, deadline, seconds, self._retry_delay, self._accepted)
            result = run.perform(payload, request.read_only)
            if not isinstance(result, VswitchError):
                return result
            if not (run.repeatable and repeats and time.monotonic() < deadline):
                # Raised here, outside of any except block: no frame of pywinrm hangs on to it.
                raise result
            repeats -= 1
            time.sleep(min(self._retry_delay, max(0.0, deadline - time.monotonic())))

    def prepare(self) -> None:
        """See Transport.prepare."""
        self._log_on_with()

    def _log_on_with(self) -> Credentials:
        if self._credentials is None:
            self._credentials = find_credentials(self.connection, self._finder)
        return self._credentials


def find_credentials(connection: HostConnection, finder: CredentialFinder) -> Credentials:
    """What `connection` needs to log on. Raises InputError if it cannot be had."""
    if connection.authentication is Authentication.CERTIFICATE:
        return Credentials()
    user = finder.user(connection.username)
    if connection.authentication is Authentication.KERBEROS:
        return Credentials(user)
    if user is None:
        raise HostError(
            f"{connection.authentication} authentication needs a user name",
            host=connection.name,
            hint="write `user` into the inventory, or set VSWITCH_HYPERV_USER",
        )
    password = finder.password(user, host=connection.name, variable=connection.password_variable)
    return Credentials(user, password)


class _Ended(Exception):
    """PowerShell ended without a whole answer."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class _Run:
    """One attempt: one shell. `repeatable` says afterwards whether another attempt is safe and useful."""

    def __init__(
        self,
        connection: HostConnection,
        credentials: Credentials,
        deadline: float,
        seconds: float,
        retry_delay: float,
        accepted: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.credentials = credentials
        self.deadline = deadline
        self.seconds = seconds
        self.retry_delay = retry_delay
        self.accepted = accepted
        self.repeatable = False
        self.link: Link | None = None
        self.shell: str | None = None
        self.command: str | None = None
        self.reply = framing.FramedReply()
        self.established = False  # the host has accepted our credentials
        self.handed_over = False  # the operation may have begun
        self.ended = False  # the process is known to have ended
        self.lost_output = False  # an answer to Receive may have been lost
        self.reconnects = _RECONNECTS

    # --- the whole run ---------------------------------------------------------------------------

    def perform(self, payload: bytes, read_only: bool) -> dict[str, Json] | VswitchError:
        """The answer, or what went wrong. The shell is closed either way."""
        problem: VswitchError
        try:
            return self._exchange(payload)
        except _Ended as end:
            problem = script_problem(self.connection.name, end.exit_code, self._said())
        except framing.IncompleteReply:
            problem = WinrmError(
                "the answer came back incomplete",
                host=self.connection.name,
                cause=HostCause.BROKEN,
                hint="try again; the connection broke while the answer was on its way",
            )
            self.repeatable = read_only
        except Exception as error:  # whatever it is, it must not reach the caller with its frames
            problem = self._explain(error)
            if isinstance(error, TimeIsUp) or time.monotonic() >= self.deadline:
                problem = timeout_problem(self.connection.name, self.seconds)
            self.repeatable = is_broken(error, established=self.established) and (
                read_only or not self.handed_over
            )
        finally:
            closed = self._close()
        if read_only or not self._may_have_begun():
            return problem
        return OutcomeUnknown(
            f"{problem.message}; what the host holds now is not known",
            host=self.connection.name,
            cause=problem.cause if isinstance(problem, WinrmError) else HostCause.BROKEN,
            may_still_run=not (self.ended or closed),
            hint="read the host again before anything else is written to it",
        )

    def _exchange(self, payload: bytes) -> dict[str, Json]:
        program, arguments = framing.command_line()
        self._connect()
        self.shell = self._ask("Create", lambda link: link.open_shell(codepage=_CODEPAGE_UTF8))
        self.established = True
        self._connected().guard.limit = ONE_ANSWER
        self.accepted()
        self.command = self._ask(
            "Command",
            lambda link: link.run_command(self.shell, program, arguments, console_mode_stdin=False),
        )
        pieces = [payload[start : start + CHUNK] for start in range(0, len(payload), CHUNK)]
        try:
            for piece in pieces[:-1]:
                self._ask("Send", self._sender(piece, end=False))
            self.handed_over = True
            self._hand_over(pieces[-1])
        except WSManFaultError as fault:
            self._look_why(fault)
        return self._receive()

    def _sender(self, piece: bytes, *, end: bool) -> Callable[[Link], None]:
        def send(link: Link) -> None:
            link.send_command_input(self.shell, self.command, piece, end=end)

        return send

    def _hand_over(self, piece: bytes) -> None:
        """Send the last piece. Sending it twice is harmless: the bootstrap has counted its bytes."""
        again = False

        def send(link: Link) -> None:
            nonlocal again
            repeated, again = again, True
            try:
                self._sender(piece, end=True)(link)
            except WSManFaultError as fault:
                # What was sent first has arrived and closed the input: all is well.
                if not repeated or is_shell_gone(fault):
                    raise

        self._persist("Send", send)

    def _receive(self) -> dict[str, Json]:
        while not self.reply.complete:
            try:
                out, err, exit_code, done = self._persist(
                    "Receive", lambda link: link.get_command_output_raw(self.shell, self.command), reads=True
                )
            except WinRMOperationTimeoutError:
                continue
            self.reply.add(out, err)
            if done:
                self.ended = True
                if self.reply.complete:
                    break
                if self.lost_output:
                    raise framing.IncompleteReply
                raise _Ended(exit_code)
        return self.reply.document()

    def _look_why(self, fault: WSManFaultError) -> None:
        """The input was refused: often because PowerShell has ended and said why."""
        try:
            out, err, exit_code, done = self._ask(
                "Receive", lambda link: link.get_command_output_raw(self.shell, self.command)
            )
        except (WSManFaultError, WinRMOperationTimeoutError):
            raise fault from None
        self.reply.add(out, err)
        if not done:
            raise fault
        self.ended = True
        if not self.reply.complete:
            raise _Ended(exit_code)

    # --- messages --------------------------------------------------------------------------------

    def _ask(self, name: str, message: Callable[[Link], T]) -> T:
        """Send one message within the time that is left."""
        link = self._limit()
        started = time.monotonic()
        try:
            return message(link)
        finally:
            _log.debug("%s: %s took %.3f s", self.connection.name, name, time.monotonic() - started)

    def _persist(self, name: str, message: Callable[[Link], T], *, reads: bool = False) -> T:
        """Like `_ask`, over as many connections as it takes: for messages that may be repeated."""
        while True:
            try:
                if self.link is None:
                    self._connect()
                return self._ask(name, message)
            except Exception as error:
                if not is_broken(error, established=self.established) or not self.reconnects:
                    raise
                self.lost_output = self.lost_output or reads
            self.reconnects -= 1
            self.link = None
            _log.debug("%s: connecting again after a broken %s", self.connection.name, name)
            pause = self.retry_delay * 2 ** (_RECONNECTS - 1 - self.reconnects)
            time.sleep(min(pause, max(0.0, self.deadline - time.monotonic())))

    def _connect(self) -> None:
        guard = Guard(self.connection.connect_timeout, self.connection.silence, self.deadline)
        self.link = new_link(self.connection, self.credentials, guard)
        if self.established:
            guard.limit = ONE_ANSWER

    def _connected(self) -> Link:
        assert self.link is not None
        return self.link

    def _limit(self) -> Link:
        """Set the time the next message may take at the host; raises TimeIsUp if there is no time left."""
        link = self._connected()
        link.operation_timeout_sec = self.connection.operation(link.guard.left(self.seconds))
        return link

    # --- the end ---------------------------------------------------------------------------------

    def _close(self) -> bool:
        """Close the shell, which ends whatever runs in it. False if that could not be had."""
        if self.shell is None:
            if self.link is not None:
                self.link.transport.close_session()
            return True
        stop = self.command is not None and not self.ended and not self.reply.complete
        self.deadline = time.monotonic() + _CLOSING_SECONDS
        for fresh in (self.link is None, True):
            try:
                if fresh:
                    self._connect()
                self._connected().guard.deadline = self.deadline
                link = self._limit()
                if stop:
                    link.cleanup_command(self.shell, self.command)
                    stop = False
                link.close_shell(self.shell)
            except Exception as error:  # closing is best effort: the host ends idle shells by itself
                if is_shell_gone(error):
                    return True
                _log.debug("%s: closing the shell failed: %s", self.connection.name, type(error).__name__)
            else:
                return True
        return False

    def _said(self) -> bytes:
        said = bytes(self.reply.stderr).replace(framing.STARTED, b"").strip()
        return said or bytes(self.reply.stdout).strip()

    def _may_have_begun(self) -> bool:
        if not self.handed_over:
            return False
        return not (self.ended and not self.lost_output and framing.STARTED not in self.reply.stderr)

    def _explain(self, error: Exception) -> VswitchError:
        if (used_up := resources_problem(error)) is not None:
            return used_up
        if is_shell_gone(error):
            return WinrmError(
                "the host has closed our shell",
                host=self.connection.name,
                cause=HostCause.BROKEN,
                hint="it may have been restarted; try again",
            )
        left = self.deadline - time.monotonic()
        offered = None if self.established or left <= 0 else offered_methods(self.connection, error, left)
        return winrm_problem(
            error,
            host=self.connection.name,
            address=self.connection.address,
            port=self.connection.port,
            https=bool(self.connection.https),
            method=str(self.connection.authentication),
            credentials=self.credentials,
            offered=offered,
        )
