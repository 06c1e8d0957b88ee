"""What a type says may be missing, and a test knows to be there."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """The value itself; the test fails where it is None."""
    assert value is not None
    return value
