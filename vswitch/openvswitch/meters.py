"""OpenFlow meters as `ovs-ofctl` prints them."""

from __future__ import annotations

import re

from vswitch.errors import SwitchError

__all__ = ["parse_meter_drops", "parse_meters"]

_METER = re.compile(r"meter=(\d+) (.*?)bands=\s+(type=.*)")
_STATISTICS = re.compile(r"meter:(\d+) .*bands:\s+0: packet_count:(\d+) byte_count:(\d+)")


def parse_meters(text: str) -> dict[int, str]:
    """The meters of a `dump-meters`: number to text as `add-meter` takes it."""
    found = {}
    for part in _parts(text):
        match = _METER.fullmatch(part)
        if not match:
            raise SwitchError(f"this meter is not understood: {part}")
        flags = "".join(f"{flag}," for flag in match[2].split() if flag != "stats")
        found[int(match[1])] = f"meter={match[1]},{flags}band={match[3].replace(' ', ',')}"
    return found


def parse_meter_drops(text: str) -> dict[int, tuple[int, int]]:
    """What each meter of a `meter-stats` has dropped: number to (packets, bytes). It has one band."""
    found = {}
    for part in _parts(text):
        match = _STATISTICS.fullmatch(part)
        if not match:
            raise SwitchError(f"these statistics of a meter are not understood: {part}")
        found[int(match[1])] = int(match[2]), int(match[3])
    return found


def _parts(text: str) -> list[str]:
    """The meters of a reply, one line each. The first line is the reply's head."""
    return [" ".join(part.split()) for part in text.partition("\n")[2].split("\n\n") if part.strip()]
