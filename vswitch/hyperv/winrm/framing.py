"""How a script and its input reach PowerShell, and how its answer comes back.

A command line holds 8,191 characters at most, a script may have any length. So the command line
only carries a short bootstrap; the script and its input follow over standard input as raw UTF-8:

    {"scriptBytes": n, "inputBytes": m}\\n  n bytes of the module  m bytes of the JSON input

and one JSON document comes back over standard output:

    {"documentBytes": n}\\n  n bytes of JSON

The byte counts make both directions safe: the module's operation starts only when all input has
arrived, and an answer of which a piece was lost is never taken for a whole one. Data is data
throughout: nothing of it becomes part of a command line or of a script.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

from vswitch.hyperv.winrm.guard import TooLarge
from vswitch.json_values import Json

__all__ = [
    "BOOTSTRAP",
    "LARGEST_REPLY",
    "MOST_OBJECTS",
    "STARTED",
    "IncompleteReply",
    "FramedReply",
    "command_line",
    "encode_request",
]

#: Bytes of all that one run may write, and so of the document it answers with.
LARGEST_REPLY = 64 * 1024 * 1024
#: Objects and lists in a document. Of ours each is longer than 64 bytes, so that size decides; others
#: would take gigabytes of memory, and minutes in which nothing else runs, not even Ctrl-C.
MOST_OBJECTS = 1_000_000

#: What the bootstrap writes to stderr just before the operation begins. Where it is missing from the
#: output of a process that has ended, the operation cannot have changed anything.
STARTED = b"vswitch-operation-started"

BOOTSTRAP = (
    r"""
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$utf8 = New-Object System.Text.UTF8Encoding $false
$source = [Console]::OpenStandardInput()
function Read-Count {
    param([int]$Count)
    $buffer = New-Object byte[] $Count
    $done = 0
    while ($done -lt $Count) {
        $got = $source.Read($buffer, $done, $Count - $done)
        if ($got -le 0) { throw 'the input ended early' }
        $done += $got
    }
    return $utf8.GetString($buffer)
}
try {
    $line = New-Object System.Collections.Generic.List[byte]
    while ($true) {
        $next = $source.ReadByte()
        if ($next -lt 0) { throw 'the input ended early' }
        if ($next -eq 10) { break }
        $line.Add($next)
    }
    $header = ConvertFrom-Json ($utf8.GetString($line.ToArray()))
    $text = Read-Count $header.scriptBytes
    $json = Read-Count $header.inputBytes
    $null = New-Module -Name Vswitch -ScriptBlock ([scriptblock]::Create($text))
    [Console]::Error.WriteLine('"""
    + STARTED.decode()
    + r"""')
    $document = [string](Invoke-VswitchOperation -Json $json)
} catch {
    $document = ConvertTo-Json -Compress -Depth 5 @{
        schema = 1
        ok = $false
        error = @{
            message = [string]$_.Exception.Message
            hresult = [int]$_.Exception.HResult
            category = 'Bootstrap'
            fullyQualifiedErrorId = [string]$_.FullyQualifiedErrorId
            target = @{ adapter = $null; step = $null }
        }
    }
}
$bytes = $utf8.GetBytes($document)
$start = $utf8.GetBytes('{"documentBytes":' + $bytes.Length + '}' + [char]10)
$sink = [Console]::OpenStandardOutput()
$sink.Write($start, 0, $start.Length)
$sink.Write($bytes, 0, $bytes.Length)
$sink.Flush()
exit 0
"""
)

_HEADER_SIZE = 64
_REPLY_HEADER = re.compile(rb'\{"documentBytes":[ \t]{0,8}(\d{1,12})\}\r?\n')


class IncompleteReply(Exception):
    """The output holds no whole answer."""


def command_line() -> tuple[str, tuple[str, ...]]:
    """The program and its arguments, always the same.

    `-InputFormat None`: else PowerShell itself reads a redirected standard input, line by line, and
    takes bytes away from the bootstrap. `-OutputFormat Text` keeps CLIXML out of stderr.
    """
    encoded = base64.b64encode(BOOTSTRAP.encode("utf-16-le")).decode("ascii")
    return "powershell.exe", (
        "-NoProfile",
        "-NonInteractive",
        "-ExecutionPolicy",
        "Bypass",
        "-InputFormat",
        "None",
        "-OutputFormat",
        "Text",
        "-EncodedCommand",
        encoded,
    )


def encode_request(module: bytes, operation: str, arguments: Mapping[str, Json]) -> bytes:
    """Everything the bootstrap reads from standard input."""
    document = json.dumps(
        {"operation": operation, "arguments": arguments}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    header = json.dumps({"scriptBytes": len(module), "inputBytes": len(document)}).encode()
    return header + b"\n" + module + document


class FramedReply:
    """What one run has written so far: standard output with the document in it, and standard error.

    Text before the document's header is passed over: a host may print something whenever cmd.exe starts.
    """

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._searched = 0
        self._start: int | None = None
        self._size = 0
        self._taken = False

    def add(self, stdout: bytes, stderr: bytes) -> None:
        """Take what has come. Raises TooLarge, also as soon as a document is announced that would be."""
        if len(self.stdout) + len(self.stderr) + len(stdout) + len(stderr) > LARGEST_REPLY:
            raise TooLarge(LARGEST_REPLY)
        self.stdout += stdout
        self.stderr += stderr
        if self._start is None:
            header = _REPLY_HEADER.search(self.stdout, self._searched)
            if header is not None:
                self._start, self._size = header.end(), int(header[1])
                if self._size > LARGEST_REPLY:
                    raise TooLarge(LARGEST_REPLY)
            self._searched = max(0, len(self.stdout) - _HEADER_SIZE)

    @property
    def complete(self) -> bool:
        """Whether the whole document is here."""
        return self._taken or (self._start is not None and len(self.stdout) - self._start >= self._size)

    def document(self) -> dict[str, Json]:
        """The document, for which everything else is let go.

        Raises TooLarge if it holds too many objects, IncompleteReply if there is none, a piece is missing,
        or it is not a JSON object.
        """
        if self._start is None or not self.complete:
            raise IncompleteReply
        if self.stdout.count(b"{") + self.stdout.count(b"[") > MOST_OBJECTS:
            raise TooLarge(MOST_OBJECTS, "objects")
        self._taken = True
        del self.stdout[self._start + self._size :], self.stdout[: self._start]
        try:
            text = self.stdout.decode()
            self.stdout.clear()  # a large document is not kept twice while it is read
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise IncompleteReply from None
        if not isinstance(document, dict):
            raise IncompleteReply
        return document
