"""An answer of every kind with every field filled, and what a hostile lab would make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vswitch.answer_data import AnswerData, Reply, as_json
from vswitch.diagnose.explained import (
    Answer,
    DecisionShown,
    Explanation,
    FlowMet,
    HopShown,
    LegShown,
    MirrorCopies,
    PassageShown,
    RuleShown,
    StepShown,
    TracedFrame,
    TranslationShown,
)
from vswitch.diagnose.held import FlowHeld, MacEntry, RuleCount
from vswitch.diagnose.probed import CounterShown, PortsProbed, Probed
from vswitch.diagnose.proofs import ExpectedVerdict, Proof, ProvenLayout
from vswitch.errors import LabError
from vswitch.lab.probing.evidence import Cause, Outcome
from vswitch.lab.probing.probe_evidence import Evidence, NextHopShown, SightingShown
from vswitch.lab_answers import (
    ApplyReport,
    ControllerStatus,
    GuestShown,
    LabStatus,
    PoliciesInForce,
    ServiceShown,
    SwitchChange,
    UnderWay,
)
from vswitch.model.site import GuestKind
from vswitch.model.types import Action, BasicAction, Direction, DropReason
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Expected
from vswitch.semantics.journey import LegKind
from vswitch.semantics.nat import How
from vswitch.semantics.verdict import Stage

RULE = RuleShown("r", BasicAction.ALLOW, Direction.INBOUND, "p.yaml", 3, "p.yaml:3:5")
PASSAGE = PassageShown("p", (StepShown(1, Stage.EXTENDED_ACL, Direction.INBOUND, "t", RULE, False),))
LEG = LegShown(
    "leg",
    LegKind.REQUEST,
    False,
    (HopShown(LegKind.REQUEST, "f", "a", "b", True, (PASSAGE,)),),
    (TranslationShown(0, "h", "n", How.MAPPING, "b", "a", "m", "w"),),
)
FRAME = TracedFrame(
    switch="s",
    frame="f",
    agrees=False,
    skipped="why",
    flows=(FlowMet("s", "output", "0x1", "f", 1, "r", "w", None),),
    limits=("limit",),
    delivered_to=(2,),
    reference_delivered_to=(1,),
    trace="one line",
)
ANSWER = Answer(
    ports="80",
    verdict=Action.ALLOW,
    expected=Expected.OPEN,
    layer=Layer.ACL,
    cause="c",
    fix="f",
    source_address="10.0.0.1",
    destination_address="10.0.0.2",
    decided_by=DecisionShown(RULE, DropReason.MAC_SPOOFING, LegKind.REQUEST, 0, "p", "a", Direction.INBOUND),
    rules=(RULE,),
    assumptions=("U1",),
    mirrored=(MirrorCopies("a", "s", 1, ("x",)),),
    legs=(LEG,),
    open_vswitch=(FRAME,),
    agrees=False,
)
EXPLANATION = Explanation("a", "b", "http", Action.DENY, False, (ANSWER, replace(ANSWER, decided_by=None)))
COUNTER = CounterShown("s", "0x1", "f", RULE, None, "a", 0, 1, 1)
EVIDENCE = Evidence(
    source="10.0.0.1",
    destination="10.0.0.2",
    traffic="tcp/80",
    outcome=Outcome.OPEN,
    cause=Cause.ANSWER,
    detail="banner",
    rtt=0.5,
    sent=1,
    source_ports=(50000,),
    error="EHOSTUNREACH",
    icmp="i",
    next_hop=NextHopShown("10.0.0.9", "eth0", "REACHABLE"),
    answer="banner",
    sightings=(SightingShown("l", 1, 2, 0, 1, 1, 0, 0, 0, ("frame",)),),
)
PORTS = PortsProbed(
    ports="80",
    outcome=Outcome.OPEN,
    expected=Expected.OPEN,
    agrees=False,
    detail="banner",
    layer=Layer.ACL,
    cause="c",
    fix="f",
    decided_by=RULE,
    counters=(COUNTER, replace(COUNTER, rule=None, reason="r")),
    other_drops=(COUNTER,),
    evidence=EVIDENCE,
)
PROBED = Probed("a", "b", "tcp/79-80", True, (PORTS, replace(PORTS, agrees=True)))
PROOF = Proof(
    layout="l.yaml",
    name="a -> b http: Deny",
    where="l.yaml:3:5",
    passed=False,
    message="no",
    expected=ExpectedVerdict.DENY,
    outcome="open",
    evidence=(PORTS,),
    control=(PORTS, EVIDENCE),
)
PROVEN = ProvenLayout("l.yaml", False, "why", 1.5, {"up": 1.0}, (PROOF,))
IN_FORCE = PoliciesInForce(("p.yaml",), UnderWay(("q.yaml",), True, {"hv01/vs": "new"}), "old")
STATUS = LabStatus(
    site="x",
    since="2026-11-28T00:00:00+00:00",
    folder="f",
    files=("l.yaml",),
    in_force=replace(IN_FORCE, in_force=None),
    hosts=1,
    switches=1,
    guests=1,
    adapters=1,
    switching="hyper-v",
    restarts={"controller": 0},
    processes={"supervisor": 2},
)
GUEST = GuestShown("g", GuestKind.VM, "h", ("10.0.0.1",), (ServiceShown(6, 80, "http"),))
REPORT = ApplyReport((SwitchChange("s", 1, 0),), 1, 1, 1, 0.1, ("w",))
FLOW = FlowHeld("output", 1, "0x1", "f", "m", 1, 2)
COUNT = RuleCount("s", "a", "n", "w", 1, 2)
ENTRY = MacEntry("s", "m", 0, 1, "w", "Self", None)

#: One of every kind that stands at the top of an answer.
ALL: tuple[AnswerData, ...] = (
    EXPLANATION,
    PROBED,
    PROVEN,
    IN_FORCE,
    STATUS,
    GUEST,
    REPORT,
    FLOW,
    COUNT,
    ENTRY,
    ControllerStatus(("s",), 1, 2, 3, ("p.yaml",)),
)
#: What a lab answers, by operation.
LAB: dict[str, Reply] = {
    "status": STATUS,
    "guests": [GUEST],
    "probe": PROBED,
    "explain": EXPLANATION,
    "flows_in_words": {"s": [FLOW]},
    "rule_counters": [COUNT],
    "mac_table": [ENTRY],
    "log": "one line",
    "apply": REPORT,
}


def texts(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all texts in plain data."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from texts(value, (*path, key))
    elif isinstance(data, str):
        yield path


def put(data: Any, place: tuple[Any, ...], text: str) -> None:
    """Put a text there."""
    for key in place[:-1]:
        data = data[key]
    data[place[-1]] = text


def free_texts(answer: AnswerData) -> list[tuple[Any, ...]]:
    """The places of all texts that may be anything: those of enums are only read if they are theirs."""
    found = []
    for place in texts(answer.to_dict()):
        data = answer.to_dict()
        put(data, place, "anything")
        try:
            type(answer).from_dict(data)
        except LabError:
            continue
        found.append(place)
    return found


def hostile(answer: Reply, text: str, spared: frozenset[str]) -> Any:
    """An answer as plain data, every text in it that may be anything another, but those under `spared`."""
    if isinstance(answer, AnswerData):
        data = answer.to_dict()
        for place in free_texts(answer):
            if place[-1] not in spared:
                put(data, place, text)
        return data
    if isinstance(answer, dict):
        return {f"{text}{key}": hostile(value, text, spared) for key, value in answer.items()}
    if isinstance(answer, list):
        return [hostile(each, text, spared) for each in answer]
    return as_json(answer)
