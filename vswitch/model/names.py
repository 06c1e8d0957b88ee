"""Names as Windows compares them: without regard to case."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from glob import escape

from vswitch.model.problems import FieldError, listing, shorten

__all__ = ["NAME_LIMIT", "find_name", "is_pattern", "matched_by", "matching", "same"]

#: Most characters of a name in users' files.
NAME_LIMIT = 100
# Enough to write each of a name's characters as a set of its own, as what escapes names does.
_LONGEST_PATTERN = 3 * NAME_LIMIT


def same(one: str, other: str) -> bool:
    """Whether Windows takes two names for one."""
    return one.lower() == other.lower()


def find_name(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `name` means: the very same, else the only one that differs only in case."""
    known = names if isinstance(names, Collection) else list(names)
    if name in known:
        return name
    found = [each for each in known if same(each, name)]
    return found[0] if len(found) == 1 else None


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """The names that a pattern (`*`, `?`, `[...]`) matches; without those characters, the one that it means.

    A name with those characters means what is called so. Raises FieldError where it matches others as well:
    no guess is right for both. Raises it too for a pattern that is longer than any name.
    """
    named = find_name(pattern, names)
    if not is_pattern(pattern):
        return [] if named is None else [named]
    found = matched_by(pattern, names)
    if named is None:
        return found
    if others := [name for name in found if name != named]:
        raise FieldError(
            f"{shorten(pattern)} is a name, and a pattern that matches {listing(map(repr, others), 5)} too",
            f"write {escape(named)!r} for the one that is called so; name others in full",
        )
    return [named]


def is_pattern(text: str) -> bool:
    """Whether a word holds characters that mean something in a pattern."""
    return any(character in text for character in "*?[")


def matched_by(pattern: str, names: Iterable[str]) -> list[str]:
    """The names a pattern matches, whatever is called so itself. Raises FieldError for a very long one."""
    if len(pattern) > _LONGEST_PATTERN:  # one of 20,000 brackets takes minutes to read
        raise FieldError(
            f"the pattern {shorten(pattern)} has {len(pattern):,} characters",
            f"allowed: {_LONGEST_PATTERN}; no name has more than {NAME_LIMIT}",
        )
    lower = pattern.lower()
    return [name for name in names if fnmatchcase(name.lower(), lower)]
