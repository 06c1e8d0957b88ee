"""Mistakes in users' files: what a reader raises, how they are collected, the nearest match."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

from vswitch.errors import InputError, Origin

__all__ = ["MOST_LISTED", "FieldError", "Report", "TooManyMistakes", "did_you_mean", "listing", "shorten"]

#: Mistakes listed at most: nobody reads more, and a file may have a million.
MOST_LISTED = 1000

_NEVER_NAMES = frozenset({"", "all", "any", "arp", "every", "everything", "h", "help", "none", "version"})


def shorten(text: object, limit: int = 60) -> str:
    """A value as messages quote it: on one line, printable, not endless."""
    shown = repr(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 4]}...{shown[0]}"


class FieldError(ValueError):
    """A value that cannot be read: what is wrong, a hint, and where inside the value (`path`)."""

    def __init__(self, message: str, hint: str = "", path: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = path

    def under(self, *path: object) -> FieldError:
        """The same mistake, seen from the value around it."""
        return FieldError(self.message, self.hint, (*path, *self.path))


class TooManyMistakes(Exception):
    """A report holds as many mistakes as anybody reads; looking for more would only cost time and memory."""


class Report(list[InputError]):
    """Mistakes found so far."""

    def add(self, where: Origin, message: str, hint: str = "") -> None:
        """Take one more mistake. Raises TooManyMistakes for the one after the last that is listed."""
        self.append(InputError(message, where=where, hint=hint))

    def append(self, error: InputError) -> None:
        """The same for one that is an error already."""
        if len(self) >= MOST_LISTED:
            raise TooManyMistakes
        super().append(error)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`did you mean 'x'?` with the candidate nearest to `word`, or "" if none is near.

    Near is one slip of the finger in three letters, letters too many or too few included. Words that ask for
    help, or mean everything, are not misspelt names.
    """
    low = word.lower()[:100]
    if low.strip("-/?*") in _NEVER_NAMES:
        return ""
    longer = max(1, len(low) // 3)
    by_lower = {str(each).lower(): str(each) for each in candidates if abs(len(each) - len(low)) <= longer}
    found = get_close_matches(low, by_lower, n=5, cutoff=0.66)
    if not found:
        return ""

    def nearness(each: str) -> tuple[float, bool, bool]:
        return SequenceMatcher(None, each, low).ratio(), sorted(each) == sorted(low), each[:1] == low[:1]

    best = max(found, key=nearness)
    return f"did you mean {by_lower[best]!r}?"


def listing(words: Iterable[object], limit: int = 12) -> str:
    """Words joined by commas for a message, the first ones if there are many."""
    shown = [str(word) for word in words]
    if len(shown) > limit:
        return ", ".join(shown[:limit]) + f", ... ({len(shown)} in all)"
    return ", ".join(shown) or "none"
