"""Ranges as value/mask pairs, the only form in which OpenFlow matches part of a field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

__all__ = ["ranges", "split_range"]


@lru_cache(maxsize=65536)
def split_range(first: int, last: int, bits: int = 16) -> tuple[tuple[int, int], ...]:
    """The fewest (value, mask) pairs that together match exactly `first` to `last`.

    Both ends are included and fit into `bits`. Pairs come in ascending order.
    """
    full = (1 << bits) - 1
    pairs: list[tuple[int, int]] = []
    while first <= last:
        size = first & -first or 1 << bits
        while size > last - first + 1:
            size >>= 1
        pairs.append((first, full & ~(size - 1)))
        first += size
    return tuple(pairs)


def ranges(values: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive integers in `values`, ascending, as (first, last)."""
    first: int | None = None
    last = 0
    for value in sorted(set(values)):
        if first is None:
            first = last = value
        elif value == last + 1:
            last = value
        else:
            yield first, last
            first = last = value
    if first is not None:
        yield first, last
