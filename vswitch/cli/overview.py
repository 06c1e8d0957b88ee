"""The commands at a glance, without loading any of them: `vswitch --help`, and Tab behind `vswitch`.

Typer and the modules of the commands take several times as long to load as Python itself. So a command's
module is only loaded when it is meant; which that is, and what the overview says of it, stands here.
A test holds this table to the commands themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from vswitch import __version__
from vswitch.cli.page import Page, cells, verbatim
from vswitch.cli.words import COMPLETE, LINE, OURS, arranged, split_global, split_line

__all__ = [
    "COMMANDS",
    "EPILOG",
    "HELP",
    "OPTIONS",
    "OVERVIEW_WORDS",
    "CommandEntry",
    "answer_at_once",
    "print_overview",
]

HELP = "A Hyper-V virtual switch with its port ACLs, in a lab of real packets."
EPILOG = (
    "Exit status: 0 yes, 1 no or failed, 2 wrong usage or input, 3 out of resources, 70 a defect of vswitch."
    " --output and --lab may also come before the command."
)


class CommandEntry(NamedTuple):
    """A command: the module of `vswitch.cli` that has it, and what it does in a sentence or two."""

    module: str
    help: str


#: In the order of the overview.
COMMANDS = {
    "validate": CommandEntry(
        "policy_commands", "Check layouts and their policies; every mistake with file, line and column."
    ),
    "apply": CommandEntry(
        "policy_commands",
        "Put policies in force on a running lab: all of it or nothing, confirmed by the switches.",
    ),
    "schema": CommandEntry(
        "policy_commands",
        "Print the JSON Schema of layout or policy files, for editors: JSON, whatever --output says.",
    ),
    "layouts": CommandEntry(
        "layouts", "List the layouts that ship with vswitch, or copy some to begin with."
    ),
    "up": CommandEntry("labs", "Start a layout as a lab: switches, VMs, services, policies. Needs no root."),
    "ps": CommandEntry("labs", "List the labs that run, and the guests in them."),
    "down": CommandEntry("labs", "Take a lab down. Nothing of it is left."),
    "exec": CommandEntry("labs", "Run a command inside a guest; its exit status is this command's."),
    "shell": CommandEntry(
        "labs", "Open your shell inside a guest: its prompt begins with the guest's name, `exit` leaves it."
    ),
    "log": CommandEntry("labs", "What the lab's own processes have said."),
    "probe": CommandEntry(
        "asking", "Ask with real packets: open, refused by the destination, or filtered, with evidence."
    ),
    "explain": CommandEntry(
        "asking",
        "Say who decides about this traffic, and why: the reference, checked against the lab's switches.",
    ),
    "flows": CommandEntry(
        "inspecting", "The OpenFlow flows in force, each with what it stands for and its counter."
    ),
    "counters": CommandEntry("inspecting", "Packets and bytes by rule and by drop reason."),
    "mac-table": CommandEntry(
        "inspecting", "The forwarding entries of every switch: adapters' own MACs and learned ones."
    ),
    "test": CommandEntry(
        "testing", "Start each layout, prove its expectations with real packets, take it down."
    ),
    "help": CommandEntry(
        "", "Say what a command does and which options it has: the same as --help behind it."
    ),
    "hyperv": CommandEntry(
        "hyperv", "Real Hyper-V hosts over WinRM: import them, plan a policy, apply, verify, take back."
    ),
}

#: The options of the program itself: names, and what they do.
OPTIONS = {
    "--version, -V": "Print the version.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "--help, -h": "Show this message and exit.",
}

#: What `vswitch.cli.words.arranged` makes of a call that names no command.
OVERVIEW_WORDS = ["--help"]

_LEAST_WIDTH = 20  # of the sentences, in columns


def answer_at_once(arguments: list[str]) -> Callable[[], object] | None:
    """What prints an answer that needs no command: the overview, the version, Tab for a command; else None.

    `arguments` are those of the program; what a shell asks for is in the environment.
    """
    if asked := os.environ.get(COMPLETE):
        found = _completed(os.environ.get(LINE, "")) if asked == OURS else None
        return None if found is None else partial(verbatim, found)
    words = arranged(arguments)
    if words[0] in ("-h", "--help") or words == ["help"]:
        return print_overview
    if words[0] in ("-V", "--version"):
        return partial(verbatim, f"vswitch {__version__}\n")
    return None


def print_overview() -> None:
    """Print what `vswitch --help` prints."""
    page = Page(sys.stdout)
    width = page.width or 80
    page.line(("Usage:", "bold"), " vswitch [OPTIONS] COMMAND [ARGS]...")
    page.line()
    page.line(HELP)
    for title, rows in (
        ("Options", OPTIONS.items()),
        ("Commands", [(name, entry.help) for name, entry in COMMANDS.items()]),
    ):
        page.line()
        page.line((f"{title}:", "bold"))
        indent = max(cells(name) for name, _ in rows) + 4
        for name, text in rows:
            first, *others = _folded(text, max(_LEAST_WIDTH, width - indent))
            page.line((f"  {name:<{indent - 2}}", "bold cyan"), first)
            for other in others:
                page.line(" " * indent, other)
    page.line()
    for each in _folded(EPILOG, width):
        page.line(each)


def _completed(line: str) -> str | None:
    """The commands that a line may go on with, as a shell wants them; None if no command is wanted next."""
    words, incomplete = split_line(line)
    path, _, rest = split_global(words[1:])
    if path or rest or incomplete.startswith("-"):
        return None
    return "".join(f"{name}\t{each.help}\n" for name, each in COMMANDS.items() if name.startswith(incomplete))


def _folded(text: str, width: int) -> Iterator[str]:
    """The lines of a text, folded between words."""
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line
