"""Shells and processes behind the WinRM endpoint for tests: input in, a handler, output out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.support.winrm.messages import INVALID_SHELL, WsmanFault
from vswitch.hyperv.winrm import framing

Handler = Callable[[bytes], "bytes | ShellOutput"]


class HostDied(Exception):
    """Raised by a handler: the host goes down with this operation."""


class Hang(Exception):
    """Raised by a handler: the script never answers."""


@dataclass(frozen=True)
class ShellOutput:
    """What a process leaves behind."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


@dataclass(frozen=True)
class Limits:
    """The limits of a Windows host (hyper-v-facts §7)."""

    command_line: int = 8191
    envelope: int = 150 * 1024
    shells_per_user: int = 30
    operation_seconds: float = 60.0
    output_piece: int = 32 * 1024


@dataclass
class ShellFault:
    """Something goes wrong at the `nth` message (from 1) of one kind, or of any kind ("*").

    kind      what happens
    before    the connection breaks before the message is acted upon
    after     the connection breaks after that, before the answer
    quiet     the answer is sent, then the connection breaks
    half      half of the answer is sent, then the connection breaks
    delay     `seconds` pass before the message is acted upon
    status    HTTP status `code` in place of an answer
    fault     WS-Man fault `code` in place of an answer
    change    the answer is what `change` makes of it, sealed
    clear     the same, not sealed, with HTTP status `code`
    tamper    `change` is made on the answer once it is sealed
    raw       the bytes that `raw` yields, and no end to the connection before they end
    """

    message: str
    kind: str
    nth: int = 1
    code: int = 0
    seconds: float = 0.0
    text: str = "injected"
    change: Callable[[bytes], bytes] = bytes
    raw: Callable[[], Iterator[bytes]] = lambda: iter(())


class _Executes(Protocol):
    def execute(self, module_text: str, request: dict[str, Any]) -> dict[str, Any]: ...


def host_handler(host: _Executes) -> Handler:
    """A handler that gives each request to a modelled Hyper-V host."""

    def handle(stdin: bytes) -> ShellOutput:
        module, request = split_input(stdin)
        document = host.execute(module.decode(), request)
        return answer(document)

    return handle


def split_input(stdin: bytes) -> tuple[bytes, dict[str, Any]]:
    """Module text and input document in what the bootstrap reads."""
    line, _, rest = stdin.partition(b"\n")
    header = json.loads(line)
    script, text = rest[: header["scriptBytes"]], rest[header["scriptBytes"] :]
    return script, json.loads(text[: header["inputBytes"]])


def answer(document: dict[str, Any]) -> ShellOutput:
    """What the bootstrap writes for a document."""
    text = json.dumps(document, ensure_ascii=False).encode()
    return ShellOutput(b'{"documentBytes":%d}\n' % len(text) + text)


class ProcessHost(Protocol):
    """The endpoint as its processes see it."""

    handler: Handler
    limits: Limits
    program_ends: ShellOutput | None
    defects: list[Exception]

    def die(self) -> None: ...


class Process:
    """A command in a shell: collects input, runs the handler when it is complete, keeps output."""

    def __init__(self, endpoint: ProcessHost, command_line: str) -> None:
        self.endpoint = endpoint
        self.input = b""
        self.input_ended = False
        self.started = False
        self.stdout = b""
        self.stderr = b""
        self.exit_code: int | None = None
        self.changed = threading.Condition()
        if len(command_line) > endpoint.limits.command_line:
            self.finish(ShellOutput(stderr=b"The command line is too long.\r\n", exit_code=1))
        elif endpoint.program_ends is not None:
            self.finish(endpoint.program_ends)

    def send(self, data: bytes, end: bool) -> bool:
        """Take input; False if nothing reads it any more."""
        with self.changed:
            if self.exit_code is not None or self.input_ended:
                return False
            self.input += data
            self.input_ended = end
            if not self.started and _is_whole(self.input):
                self.started = True
                self.stderr = framing.STARTED + b"\r\n"
                self.changed.notify_all()
                threading.Thread(target=self.work, daemon=True).start()
            elif end and not self.started:
                self.finish(ShellOutput(stderr=b"the input ended early", exit_code=1))
            return True

    def work(self) -> None:
        try:
            result = self.endpoint.handler(self.input)
        except HostDied:
            self.endpoint.die()
        except Hang:
            pass
        except Exception as error:  # a defect in the model must not look like a silent host
            self.endpoint.defects.append(error)
            self.finish(ShellOutput(stderr=repr(error).encode(), exit_code=1))
        else:
            self.finish(result if isinstance(result, ShellOutput) else ShellOutput(result))

    def finish(self, output: ShellOutput) -> None:
        with self.changed:
            self.stdout += output.stdout
            self.stderr += output.stderr
            self.exit_code = output.exit_code
            self.changed.notify_all()

    def receive(self, seconds: float, size: int) -> tuple[bytes, bytes, int | None] | None:
        """The next piece of output and, with the last one, the exit code; None if there is nothing yet."""
        with self.changed:
            ready = self.changed.wait_for(
                lambda: self.stdout or self.stderr or self.exit_code is not None, timeout=seconds
            )
            if not ready:
                return None
            out, self.stdout = self.stdout[:size], self.stdout[size:]
            err, self.stderr = self.stderr[:size], self.stderr[size:]
            return out, err, None if self.stdout or self.stderr else self.exit_code


def _is_whole(stdin: bytes) -> bool:
    line, found, rest = stdin.partition(b"\n")
    if not found:
        return False
    header = json.loads(line)
    return len(rest) >= int(header["scriptBytes"]) + int(header["inputBytes"])


@dataclass
class Shell:
    user: str
    codepage: str
    processes: dict[str, Process] = field(default_factory=dict)


def process_of(shell: Shell, command_id: str | None) -> Process:
    process = shell.processes.get(command_id or "")
    if process is None:
        raise WsmanFault(INVALID_SHELL, "there is no such command")
    return process
