"""Derived tables, remembered for the object they were derived from."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def cached_by_identity(function: Callable[[_Key], _Value]) -> Callable[[_Key], _Value]:
    """Remember `function(argument)` by the identity of its argument, which must be immutable.

    Hashing a tuple of ten thousand frozen rules costs more than evaluating them, so the ordinary
    caches do not help here. The argument is kept alive beside the result: an identity is never
    reused while its entry exists.
    """
    remembered: dict[int, tuple[_Key, _Value]] = {}

    @wraps(function)
    def wrapper(argument: _Key) -> _Value:
        entry = remembered.get(id(argument))
        if entry is None:
            if len(remembered) >= 4096:
                remembered.clear()
            entry = remembered[id(argument)] = (argument, function(argument))
        return entry[1]

    return wrapper
