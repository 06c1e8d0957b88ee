"""The policy in force in a lab, as its supervisor knows it: by the record and by what the switches carry.

What the policy in force means, as a site and flow programs, the controller has worked out already and is
asked for. It may be busy, hung or dead; then the same is worked out here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vswitch.compiled import CompiledPolicy
from vswitch.errors import BusyError, SwitchError
from vswitch.inforce import Attempt, Record, Seen, held_mark
from vswitch.lab_answers import Holding, PoliciesInForce, UnderWay
from vswitch.model.resolving.sources import Sources
from vswitch.model.site import Site
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import compile_site

__all__ = ["PolicyInForce", "State"]

T = TypeVar("T")

_ASKING = 16  # switches asked side by side
_PATIENCE = 10.0  # seconds a question waits for an apply to end
_PAUSE = 0.05
_TRIES = 3  # so often a question is asked while policies change under it


@dataclass(frozen=True)
class State:
    """What is in force: `sources`, or None while the switches hold two policies or do not say.

    `attempt` is the apply that has not ended, `held` what the switches it concerns hold, by their ids;
    `asked` are the policies of an apply that has not come so far as to change a switch, or has just ended.
    Two equal `seen` with equal `held` had no change between them.
    """

    sources: Sources | None
    seen: Seen
    attempt: Attempt | None
    held: Mapping[str, Holding]
    asked: Sequence[str] | None = None

    @property
    def settled(self) -> bool:
        """Whether no apply is under way."""
        return self.attempt is None

    def shown(self) -> PoliciesInForce:
        """What users get to see of it."""
        under_way: UnderWay | None = None
        if self.attempt:
            policies = self.attempt.sources.policies or ()
            under_way = UnderWay(policies, self.attempt.undoing, dict(self.held))
        elif self.asked is not None:
            under_way = UnderWay(tuple(self.asked), taken_back=False, switches={})
        return PoliciesInForce((self.sources.policies or ()) if self.sources else None, under_way)


class PolicyInForce:
    """Says which policy is in force.

    `site` and `sources` are those the lab starts with (without sources nothing ever changes), `rundir` has
    the record, and `client` finds a host's Open vSwitch with a short patience. `compiled` asks the
    controller for what it has made of the files with a digest; None if it does not have it.
    """

    def __init__(
        self,
        site: Site,
        sources: Sources | None,
        rundir: Path,
        client: Callable[[str], SwitchClient],
        compiled: Callable[[str], CompiledPolicy | None],
    ) -> None:
        self._first = site
        self._sources = sources
        self._record = Record(rundir)
        self._client = client
        self._ask_controller = compiled
        self._compiled: tuple[Sources | None, CompiledPolicy] | None = None
        self._seen: Seen | None = None
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._asked: list[Sequence[str]] = []

    def start(self) -> None:
        """Write the record of a lab that is coming up."""
        if self._sources is not None:
            self._record.start(self._sources)
            self._seen = self._record.seen()

    @contextmanager
    def applying(self, policies: Sequence[str]) -> Iterator[None]:
        """Somebody waits for an apply of these policies for as long as the block lasts."""
        self._asked.append(policies)
        try:
            yield
        finally:
            self._asked.remove(policies)

    # What is recorded

    def recorded(self) -> Sources | None:
        """The files in force by the last apply that has ended."""
        with self._lock:
            seen = self._record.seen() if self._seen else None
            if seen and seen[0] != (self._seen or seen)[0]:
                self._sources = self._record.settled()
            self._seen = seen
            return self._sources

    def _compiled_from(self, sources: Sources | None) -> CompiledPolicy:
        """What these files mean: the last answer again, the controller's, or worked out here."""
        with self._compiling:
            if self._compiled is None or self._compiled[0] != sources:
                found = None if sources is None else self._ask_controller(sources.digest())
                if found is None:
                    site = self._first if sources is None else sources.site()
                    found = CompiledPolicy(site, compile_site(site))
                self._compiled = sources, found
            return self._compiled[1]

    # What the switches say

    def look(self) -> State:
        """What is in force now, by the switches' marks where an apply is under way."""
        asked = next(iter(self._asked), None)
        seen = self._record.seen()
        attempt = self._record.attempt() if self._sources is not None else None
        recorded = self.recorded()
        if attempt is None:
            return State(recorded, seen, None, {}, asked)
        with ThreadPoolExecutor(_ASKING) as pool:
            marks = pool.map(self._held, attempt.marks)
            held = {
                switch: attempt.holding(switch, mark)
                for switch, mark in zip(attempt.marks, marks, strict=True)
            }
        which = attempt.in_force(held)
        sources = attempt.sources if which == "new" else recorded if which == "old" else None
        return State(sources, seen, attempt, held, asked)

    def _held(self, switch: str) -> int | None:
        place = self._first.switch[switch]
        try:
            return held_mark(self._client(place.host), place.bridge)
        except SwitchError:
            return None

    def agreed(self, patience: float = _PATIENCE) -> State:
        """What is in force, waiting for an apply that has reached some switches only.

        Raises BusyError when it has not ended after `patience` seconds.
        """
        end = time.monotonic() + patience
        while True:
            state = self.look()
            if state.sources is not None or self._sources is None:
                return state
            if time.monotonic() > end:
                held = ", ".join(f"{switch}: {_WORDS[what]}" for switch, what in state.held.items())
                raise BusyError(
                    f"an apply is under way, and the switches do not hold one policy ({held})",
                    hint="Ask again when it has ended: `vswitch apply --status` says so.",
                )
            time.sleep(_PAUSE)

    def during(self, ask: Callable[[CompiledPolicy], T]) -> T:
        """The answer to a question, by the policy that was in force all the while.

        It is asked again if another policy came in force meanwhile. Raises BusyError if that does not end.
        """
        for _ in range(_TRIES):
            before = self.agreed()
            answer = ask(self._compiled_from(before.sources))
            now = self.look()
            if (now.seen, now.held) == (before.seen, before.held):
                return answer
        raise BusyError("policies change faster than this can be answered", hint="Ask again.")


_WORDS: dict[Holding, str] = {
    "old": "the old one",
    "new": "the new one",
    "other": "another one",
    "unknown": "does not answer",
}
