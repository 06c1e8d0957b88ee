"""Two habits of every sentence: numbers with their nouns, and foreign words on one visible line."""

from __future__ import annotations

import re

__all__ = ["counted", "visible"]

# Printable by Unicode's categories and yet without a shape of their own: joiners, fillers, selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def counted(number: float, noun: str, plural: str = "") -> str:
    """A number of things: `1 write`, `2 writes`. `plural` is the noun's, where an s is not enough."""
    shown = number if isinstance(number, int) else f"{number:g}"
    return f"{shown} {noun if number == 1 else plural or noun + 's'}"


def visible(text: object) -> str:
    """`text` on one line, every character of it to be seen.

    What moves a cursor, breaks a line, reorders letters or has no shape (control and format characters,
    separators but the plain space, unassigned and private ones) is written as Python writes it: `\\n`,
    `\\x1b`, `\\u202e`. Everything else stays as it is, backslashes too, so that names can be copied.
    """
    shown = str(text)
    if shown.isprintable() and not _INVISIBLE.search(shown):
        return shown
    return "".join(
        each if each.isprintable() and not _INVISIBLE.match(each) else each.encode("unicode_escape").decode()
        for each in shown
    )
