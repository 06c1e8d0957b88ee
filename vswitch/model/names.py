"""Names as Windows compares them: without regard to case."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

__all__ = ["as_written", "matching", "same"]


def same(one: str, other: str) -> bool:
    """Whether Windows takes two names for one."""
    return one.lower() == other.lower()


def as_written(name: str, names: Collection[str]) -> str | None:
    """The one of `names` that `name` means: the very same, else the first that differs only in case."""
    if name in names:
        return name
    lower = name.lower()
    return next((each for each in names if each.lower() == lower), None)


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """The names that a pattern (`*`, `?`, `[...]`) matches; without those characters, that it means."""
    if any(character in pattern for character in "*?["):
        lower = pattern.lower()
        return [name for name in names if fnmatchcase(name.lower(), lower)]
    found = as_written(pattern, names)
    return [] if found is None else [found]
