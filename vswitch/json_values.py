"""Plain data as JSON has it, as a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["Json"]

#: What JSON can say. Objects and lists are for reading: whoever changes one makes a new one.
Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
