"""The engine with real packets: a lab, started once for a layout and told to forget between scenarios."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.scenario import LAYOUT, POLICY, Question, Scenario, SentFrame
from tests.support.scenario_engines import AnswerSeen, FrameSeen
from tests.support.scenario_wire import as_bytes
from vswitch.errors import VswitchError
from vswitch.lab import client
from vswitch.model.site import Site
from vswitch.semantics.verdict import DropReason

__all__ = ["LabPool", "RealPackets"]

EXTENSIONS = ("vswitch.diagnose.operations", "tests.support.scenario_operations")
NO_POLICY = "acls: []\n"
#: Seconds an answer or a frame that must arrive may take, and for which a frame that must not is waited for.
PATIENCE, SETTLE = 0.9, 0.1
THREADS = 12
#: The physical network is an ordinary switch, which counts no drops.
UNCOUNTED = (str(DropReason.PHYSICAL_VLAN),)


class RealPackets:
    """A running lab. Drops are seen as counters that move: those the step names are looked for."""

    name = "real"

    def __init__(self, lab: str) -> None:
        self.lab = lab

    def _call(self, op: str, **args: Any) -> Any:
        return client.call(self.lab, op, timeout=60, **args)

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

    def ask(self, questions: list[Question]) -> list[AnswerSeen]:
        before = self._call("moved_counters")
        answers: dict[int, list[dict[str, Any]]] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            for together in _rounds(questions):
                self._call("forget_neighbours")
                found = pool.map(self._probe, [questions[index] for index in together])
                answers.update(zip(together, found, strict=True))
        moved = self._moved(before)
        return [_answer(answers[index], moved) for index in range(len(questions))]

    def _probe(self, question: Question) -> list[dict[str, Any]]:
        asked = {
            "source": question.source,
            "destination": question.destination,
            "traffic": _text(question),
            "version": question.version,
            "patience": PATIENCE,
        }
        return list(self._call("probe_all", questions=[asked])[0])

    def send(self, sent: SentFrame) -> FrameSeen:
        token = secrets.token_bytes(16)
        before = self._call("moved_counters")
        seen = self._call(
            "exchange",
            guest=sent.guest,
            interface=sent.interface,
            frame=as_bytes(sent.frame, token).hex(),
            token=token.hex(),
            wanted=len(sent.delivered or ()),
            patience=PATIENCE,
            settle=SETTLE,
        )
        moved = self._moved(before)
        drops = tuple(name for name in sent.drops or () if name in (*moved, *UNCOUNTED))
        return FrameSeen(tuple(seen), drops, details=f"counters that moved: {', '.join(moved)}")

    def _moved(self, before: dict[str, int]) -> tuple[str, ...]:
        after = self._call("moved_counters")
        return tuple(sorted(name for name, packets in after.items() if packets > before.get(name, 0)))


def _rounds(questions: list[Question]) -> list[list[int]]:
    """Indexes of questions that may be asked at the same time.

    Two guests that ask each other at the same time do not: who is asked for its MAC learns the asker's.
    """
    rounds: list[list[int]] = []
    for index, question in enumerate(questions):
        ends = {question.source.partition("/")[0], question.destination.partition("/")[0]}
        for together in rounds:
            others = [questions[each] for each in together]
            if not any(
                other.source != question.source
                and {other.source.partition("/")[0], other.destination.partition("/")[0]} == ends
                for other in others
            ):
                together.append(index)
                break
        else:
            rounds.append([index])
    return rounds


def _text(question: Question) -> str:
    """TRAFFIC with the question's own source port."""
    traffic = question.traffic
    if not traffic.has_ports:
        return traffic.text
    protocol = "tcp" if traffic.protocol == 6 else "udp"
    return f"{protocol}/{traffic.ports}:{traffic.source_port}"


def _answer(reports: list[dict[str, Any]], moved: tuple[str, ...]) -> AnswerSeen:
    outcomes = sorted({"open" if r["outcome"] == "delivered" else r["outcome"] for r in reports})
    details = "\n".join(str(report["detail"]) for report in reports)
    denied = any(outcome in ("filtered", "unreachable") for outcome in outcomes)
    return AnswerSeen(", ".join(outcomes), denied, moved, details=details)


class LabPool:
    """At most one lab, for the layout asked for last."""

    def __init__(self) -> None:
        self.name, self.layout = "", ""

    def lab(self, layout: str) -> RealPackets:
        """A lab of this layout without any policy. Raises what keeps it from running."""
        if layout != self.layout or self.name not in client.running():
            self.close()
            name = f"scenarios-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            sources = {
                "layout": LAYOUT,
                "texts": {LAYOUT: layout, POLICY: NO_POLICY},
                "policies": [POLICY],
            }
            client.start(name, sources, extensions=EXTENSIONS)
            self.name, self.layout = name, layout
        return RealPackets(self.name)

    def close(self) -> None:
        """Take the lab down, if there is one."""
        name, self.name, self.layout = self.name, "", ""
        if name and name in client.running():
            client.down(name)
