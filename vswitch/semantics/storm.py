"""StormLimit: how much broadcast, multicast and unknown unicast a guest may send in a second (§§1.3, 2).

A token bucket that holds one second's worth: after a quiet second as many frames as the limit pass
at once, and then one each 1/limit second. The counting is in whole milliseconds and thousandths of
a frame, so the same frames at the same times always give the same result.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Bucket", "count"]

_FRAME = 1000


class Bucket(NamedTuple):
    """What an adapter may still send at once, in thousandths of a frame, at `time` in milliseconds."""

    left: int
    time: int


def count(limit: int, bucket: Bucket | None, now: float) -> tuple[Bucket, bool]:
    """The bucket after one more frame at `now` (seconds), and whether the frame is within the limit.

    `bucket` is None for an adapter that has sent nothing yet.
    """
    time, full = round(now * 1000), limit * _FRAME
    left = full if bucket is None else min(full, bucket.left + (time - bucket.time) * limit)
    within = left >= _FRAME
    return Bucket(left - _FRAME if within else left, time), within
