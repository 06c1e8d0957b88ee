"""The engine with real packets: a lab, started once for a layout and told to forget between scenarios."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from collections import Counter
from typing import Any

from tests.support.scenarios.engines import AnswerSeen, FrameSeen
from tests.support.scenarios.scenario import LAYOUT, POLICY, Scenario, ScenarioQuestion, SentFrame
from tests.support.scenarios.wire import as_bytes
from vswitch.errors import VswitchError
from vswitch.lab.process import client
from vswitch.model.resolving.sources import Sources
from vswitch.model.site import Site
from vswitch.model.types import TCP
from vswitch.semantics.verdict import DropReason

__all__ = ["LabPool", "RealPackets"]

EXTENSIONS = ("vswitch.diagnose.question_operations", "tests.support.scenarios.operations")
NO_POLICY = "acls: []\n"
#: Seconds an answer or a frame that must arrive may take, and for which a frame that must not is waited for.
PATIENCE, SETTLE = 0.8, 0.1
#: The physical network is an ordinary switch, which counts no drops.
UNCOUNTED = (str(DropReason.PHYSICAL_VLAN),)


class RealPackets:
    """A running lab. Drops are seen as counters that move: those the step names are looked for."""

    name = "real"

    def __init__(self, lab: str) -> None:
        self.lab = lab

    def _call(self, op: str, **args: Any) -> Any:
        return client.call(self.lab, op, **args)

    def begin(self, scenario: Scenario) -> None:
        self.apply(scenario.site, scenario.policy)
        self._call("start_over")

    def apply(self, site: Site, policy: str) -> None:
        del site
        self._call("apply", policies=[POLICY], texts={POLICY: policy})

    def refuses(self, policy: str) -> str:
        try:
            self._call("apply", policies=[POLICY], texts={POLICY: policy})
        except VswitchError as error:
            return str(error)
        return ""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def ask(self, questions: list[ScenarioQuestion]) -> list[AnswerSeen]:
        before = self._call("moved_counters")
        answers: dict[int, tuple[str, str]] = {}
        for together in _rounds(questions):
            self._call("forget_neighbours")
            asked = [_asked(questions[index]) for index in together]
            found = self._call("ask_together", questions=asked, patience=PATIENCE)
            answers.update(
                (index, (outcome, detail)) for index, (outcome, detail) in zip(together, found, strict=True)
            )
        moved = self._moved(before)
        return [_answer(*answers[index], moved) for index in range(len(questions))]

    def send(self, sent: SentFrame) -> FrameSeen:
        token = secrets.token_bytes(16)
        before = self._call("moved_counters")
        seen = self._call(
            "exchange",
            guest=sent.guest,
            interface=sent.interface,
            frame=as_bytes(sent.frame, token).hex(),
            token=token.hex(),
            times=sent.times,
            wanted=len(sent.delivered or ()) * sent.copies[0],
            patience=PATIENCE,
            settle=SETTLE,
        )
        moved = self._moved(before)
        drops = tuple(name for name in sent.drops or () if name in (*moved, *UNCOUNTED))
        details = f"counters that moved: {', '.join(moved)}"
        if sent.times == 1:
            return FrameSeen(tuple(seen), drops, details=details)
        copies = Counter(seen)
        return FrameSeen(tuple(sorted(copies)), drops, copies=copies, details=details)

    def _moved(self, before: dict[str, int]) -> tuple[str, ...]:
        after = self._call("moved_counters")
        return tuple(sorted(name for name, packets in after.items() if packets > before.get(name, 0)))


def _rounds(questions: list[ScenarioQuestion]) -> list[list[int]]:
    """Indexes of questions that may be asked at the same time.

    No guest asks and is asked at once: a guest that looks for another one's MAC in vain overhears it
    when that one looks for somebody itself.
    """
    rounds: list[list[int]] = []
    asking: list[set[str]] = []
    asked: list[set[str]] = []
    for index, question in enumerate(questions):
        source, destination = (end.partition("/")[0] for end in (question.source, question.destination))
        place = 0
        while place < len(rounds) and (source in asked[place] or destination in asking[place]):
            place += 1
        if place == len(rounds):
            rounds.append([])
            asking.append(set())
            asked.append(set())
        rounds[place].append(index)
        asking[place].add(source)
        asked[place].add(destination)
    return rounds


def _asked(question: ScenarioQuestion) -> dict[str, Any]:
    """A question for the lab; its TRAFFIC has the question's own source port."""
    traffic = question.traffic
    text = traffic.text
    if traffic.has_ports:
        text = f"{'tcp' if traffic.protocol == TCP else 'udp'}/{traffic.ports}:{traffic.source_port}"
    return {
        "source": question.source,
        "destination": question.destination,
        "traffic": text,
        "version": question.version,
    }


def _answer(outcome: str, detail: str, moved: tuple[str, ...]) -> AnswerSeen:
    """What was seen, in the reference's words: what is delivered and has no answer is open."""
    seen = "open" if outcome == "delivered" else outcome
    return AnswerSeen(seen, seen in ("filtered", "unreachable"), moved, details=detail)


class LabPool:
    """At most one lab, for the layout asked for last."""

    def __init__(self) -> None:
        self.name, self.layout = "", ""

    def lab(self, layout: str) -> RealPackets:
        """A lab of this layout without any policy. Raises what keeps it from running."""
        if layout != self.layout or self.name not in client.running():
            self.close()
            name = f"scenarios-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            sources = Sources(LAYOUT, {LAYOUT: layout, POLICY: NO_POLICY}, (POLICY,))
            client.start(name, sources, extensions=EXTENSIONS)
            self.name, self.layout = name, layout
        return RealPackets(self.name)

    def close(self) -> None:
        """Take the lab down, if there is one."""
        name, self.name, self.layout = self.name, "", ""
        if name and name in client.running():
            client.down(name)
