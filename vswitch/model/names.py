"""Names as Windows compares them: without regard to case."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

__all__ = ["find_name", "matching", "same"]


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
    """The names that a pattern (`*`, `?`, `[...]`) matches; without those characters, that it means."""
    if any(character in pattern for character in "*?["):
        lower = pattern.lower()
        return [name for name in names if fnmatchcase(name.lower(), lower)]
    found = find_name(pattern, names)
    return [] if found is None else [found]
