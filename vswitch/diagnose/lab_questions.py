"""Questions to a running lab about its traffic, and their answers: the asking side of `question_operations`.

All raise NoSuchLab, NoAnswer and TooSlow as `client.call`, and InputError for what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vswitch.answer_data import each_in, named_in
from vswitch.diagnose.explained import Explanation
from vswitch.diagnose.held import FlowHeld, MacEntry, RuleCount
from vswitch.diagnose.probed import PortsProbed, Probed
from vswitch.json_values import Json
from vswitch.lab.probing.probe_evidence import Evidence
from vswitch.lab.process import client
from vswitch.patience import Patience

__all__ = [
    "EXTENSION",
    "Asking",
    "destinations_in",
    "explain_in",
    "flows_in",
    "forget_in",
    "mac_table_of",
    "probe_all_in",
    "probe_in",
    "rule_counters_in",
]

#: The module that adds these operations to a lab; see `client.start`.
EXTENSION = "vswitch.diagnose.question_operations"


@dataclass(frozen=True, slots=True)
class Asking:
    """A question: ends and TRAFFIC as on the command line, the IP version to use (None: either).

    `patience` is how long to wait for a packet's answer, in seconds.
    """

    source: str
    destination: str
    traffic: str
    version: int | None = None
    patience: float = 1.0

    def to_dict(self) -> dict[str, Json]:
        """As the operations take it."""
        return {
            "source": self.source,
            "destination": self.destination,
            "traffic": self.traffic,
            "version": self.version,
            "patience": self.patience,
        }


def explain_in(
    lab: str, source: str, destination: str, traffic: str, version: int | None = None
) -> Explanation:
    """The reference's answer, checked against the lab's Open vSwitch."""
    found = client.call(
        lab, "explain", source=source, destination=destination, traffic=traffic, version=version
    )
    return Explanation.from_dict(found)


def probe_in(lab: str, question: Asking, *, within: Patience | None = None) -> Probed:
    """Real packets for one question."""
    found = client.call(
        lab,
        "probe",
        within=within,
        source=question.source,
        destination=question.destination,
        traffic=question.traffic,
        version=question.version,
        patience=question.patience,
    )
    return Probed.from_dict(found)


def probe_all_in(
    lab: str, questions: Sequence[Asking], *, within: Patience | None = None
) -> list[tuple[PortsProbed, ...]]:
    """Real packets for many questions; for each the reports of its ports."""
    found = client.call(lab, "probe_all", within=within, questions=[each.to_dict() for each in questions])
    return [PortsProbed.each_of(reports) for reports in each_in(found)]


def destinations_in(
    lab: str, questions: Sequence[Asking], *, within: Patience | None = None
) -> list[tuple[Evidence, ...]]:
    """For each question what its destination answers when it asks itself."""
    asked = [each.to_dict() for each in questions]
    found = client.call(lab, "probe_destinations", within=within, questions=asked)
    return [Evidence.each_of(results) for results in each_in(found)]


def forget_in(lab: str) -> None:
    """Have guests forget their neighbours, switches their live flows, and NATs their sessions."""
    client.call(lab, "forget")


def mac_table_of(lab: str) -> tuple[MacEntry, ...]:
    """The forwarding entries of every switch."""
    return MacEntry.each_of(client.call(lab, "mac_table"))


def flows_in(
    lab: str, switch: str | None = None, table: str | None = None
) -> dict[str, tuple[FlowHeld, ...]]:
    """The flows of one switch or all, by the switch's id; of one table, by its name or number, or all."""
    found = client.call(lab, "flows_in_words", switch=switch, table=table)
    return {name: FlowHeld.each_of(flows) for name, flows in named_in(found).items()}


def rule_counters_in(lab: str, switch: str | None = None) -> tuple[RuleCount, ...]:
    """Packets and bytes by adapter and by rule or drop reason; of a limit those it has dropped."""
    return RuleCount.each_of(client.call(lab, "rule_counters", switch=switch))
