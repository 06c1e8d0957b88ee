"""The words of a command line before any command is loaded: which command is meant, what goes where."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = [
    "COMPLETE",
    "GROUPS",
    "LINE",
    "OURS",
    "arranged",
    "completion_is_asked",
    "split_global",
    "split_line",
]

#: In the environment when a shell asks for completions; Typer's own scripts set it to other values than OURS.
COMPLETE, OURS = "_VSWITCH_COMPLETE", "lines"
#: The line to complete, up to the cursor.
LINE = "_VSWITCH_LINE"

#: Commands that have commands of their own.
GROUPS = frozenset({"hyperv"})

#: Options that nearly every command has, which people also write in front of it.
_GLOBAL = {"-o": "--output", "--output": "--output", "-l": "--lab", "--lab": "--lab"}


def completion_is_asked() -> bool:
    """Whether a shell has started this process to complete a line."""
    return bool(os.environ.get(COMPLETE))


def split_global(words: Sequence[str]) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The command's own words, the options in front of them that belong behind, and all the rest.

    Stops at the first other option in front.
    """
    path: list[str] = []
    moved: list[str] = []
    rest = list(words)
    while rest:
        word = rest[0]
        name, equals, value = word.partition("=")
        if word == "--":
            rest = rest[1:]
        elif word in _GLOBAL and len(rest) > 1:
            moved += [_GLOBAL[word], rest[1]]
            rest = rest[2:]
        elif equals and name.startswith("--") and name in _GLOBAL:
            moved += [name, value]
            rest = rest[1:]
        elif word[:2] in _GLOBAL and len(word) > 2:
            moved += [_GLOBAL[word[:2]], word[2:]]
            rest = rest[1:]
        elif word.startswith("-"):
            break
        else:
            path.append(word)
            rest = rest[1:]
            if word not in GROUPS:
                break
    return tuple(path), moved, rest


def arranged(words: Sequence[str]) -> list[str]:
    """The arguments as the commands want them: options behind the command; help where none is named."""
    path, moved, rest = split_global(words)
    if not path or path[-1] in GROUPS:
        return [*path, *(rest or ["--help"])]
    return [*path, *moved, *rest]


def split_line(line: str) -> tuple[list[str], str]:
    """The words of a line and the unfinished one at its end, as a shell would read them."""
    import shlex

    end = "\x01"  # makes the end of the line visible: after a blank a new word begins
    lexer = shlex.shlex(line + end, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # an open quote
        words.append(lexer.token)
    return words[:-1], words[-1].removesuffix(end)
