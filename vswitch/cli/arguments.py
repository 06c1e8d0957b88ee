"""What no argument of a command may be, checked before any of them is looked at."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from vswitch.errors import InputError

__all__ = ["check_arguments", "own_words"]


def own_words(words: Sequence[str]) -> Sequence[str]:
    """The arguments that are for `vswitch`; what follows `--` belongs to a guest's command."""
    return words[: words.index("--")] if "--" in words else words


def check_arguments(words: Sequence[str]) -> None:
    """Raise InputError for an argument that is empty or not text.

    An empty one is a variable without a value in most cases, and would mean "not named", so anything.
    """
    own = own_words(words)
    for word in own:
        option, equals, value = word.partition("=")
        if not word or (equals and not value and option.startswith("--")):
            raise InputError(
                f"{option} has an empty value" if option else f"an argument is empty: {_written(own)}",
                hint="Has a variable no value there? What is for a guest's command stands after --.",
            )
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"an argument is not UTF-8 text: {word!r}", hint="Type it, or rename what it names."
            ) from None


def _written(words: Sequence[str]) -> str:
    return shlex.join(["vswitch", *words])
