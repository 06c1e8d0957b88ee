"""Which policy is in force: what the run folder of a lab records, and what its switches carry.

    site.json      the files in force
    attempt.json   there while an apply is under way: the files to come, and the mark that each switch
                   concerned has before and after
    undoing.json   the same, once that apply is being taken back

An apply writes `attempt.json` before it sends anything and renames it to `site.json` when every switch
has confirmed. In between the marks of the switches decide: see `Attempt.in_force`. All of it lives in the
lab's private memory file system, so it ends with the lab and outlives every one of its processes but the
first. The controller alone writes here once a lab is up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vswitch.lab_answers import Holding
from vswitch.model.resolving.sources import Sources
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import MARK_COOKIE, MARK_TABLE, parse_mark

__all__ = ["Attempt", "Record", "Seen", "held_mark"]

#: The files of a record as they were looked at: inode and time of last change, None for one not there.
Seen = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Attempt:
    """An apply that is under way, or was when the controller ended.

    `marks` are those of every switch it changes, by the switch's id: before and after. `undoing` says
    that it is being taken back.
    """

    sources: Sources
    marks: Mapping[str, tuple[int, int]]
    undoing: bool

    def holding(self, switch: str, mark: int | None) -> Holding:
        """What a switch that carries `mark` holds (None: it could not be asked)."""
        before, after = self.marks[switch]
        if mark is None:
            return "unknown"
        return "new" if mark == after else "old" if mark == before else "other"

    def in_force(self, held: Mapping[str, Holding]) -> Literal["old", "new"] | None:
        """The policy that all switches concerned hold; None while they do not agree."""
        if all(each == "new" for each in held.values()):
            return "new"
        return "old" if all(each == "old" for each in held.values()) else None


class Record:
    """The record in a lab's run folder. Every change of it is one system call, seen whole or not at all."""

    def __init__(self, rundir: Path) -> None:
        self._settled = rundir / "site.json"
        self._attempt = rundir / "attempt.json"
        self._undoing = rundir / "undoing.json"

    # Reading

    def settled(self) -> Sources:
        """The files in force unless there is an attempt."""
        return Sources.from_dict(json.loads(self._settled.read_text(encoding="utf-8")))

    def attempt(self) -> Attempt | None:
        """The apply that has not ended yet."""
        # In the order of renaming: what is being renamed meanwhile is found under the second name.
        for path, undoing in ((self._attempt, False), (self._undoing, True)):
            with suppress(FileNotFoundError):
                data = json.loads(path.read_text(encoding="utf-8"))
                marks = {switch: (before, after) for switch, (before, after) in data["marks"].items()}
                return Attempt(Sources.from_dict(data), marks, undoing)
        return None

    def seen(self) -> Seen:
        """Differs from what it was before if anything has begun or ended since."""
        return tuple(_identity(path) for path in (self._settled, self._attempt, self._undoing))

    # Writing

    def start(self, sources: Sources) -> None:
        """These are the files of a lab that is coming up."""
        self._write(self._settled, sources.to_dict())

    def begin(self, sources: Sources, marks: Mapping[str, tuple[int, int]]) -> None:
        """An apply is about to change the switches. Raises OSError; nothing is recorded then."""
        self._write(self._attempt, {**sources.to_dict(), "marks": dict(marks)})

    def commit(self) -> None:
        """Every switch has confirmed: the files of the attempt are in force."""
        os.replace(self._attempt, self._settled)

    def undo(self) -> None:
        """The attempt is being taken back, whatever the switches hold."""
        os.replace(self._attempt, self._undoing)

    def undone(self) -> None:
        """Every switch holds the old program again."""
        os.utime(self._settled)  # so that whoever asked in the meantime notices
        self._undoing.unlink()

    def _write(self, path: Path, data: Mapping[str, Any]) -> None:
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(data), encoding="utf-8")
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        os.replace(fresh, path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def held_mark(client: SwitchClient, bridge: str) -> int | None:
    """The mark that a bridge carries, None if it has none. Raises SwitchError if it does not answer."""
    for flow in client.dump_flows(bridge, MARK_TABLE):
        if flow.cookie == MARK_COOKIE:
            return parse_mark(flow.actions)
    return None
