"""What Hyper-V does to a frame: the reference, as pure functions.

`process` is one virtual switch, `send` the whole site, `converse` the question a person asks.
Frames are made by the functions of `vswitch.semantics.frame`.
"""

from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Conversation, Expected, converse, converse_range
from vswitch.semantics.frame import Frame
from vswitch.semantics.journey import Decision, Hop, Leg, LegKind
from vswitch.semantics.network import Delivery, NetworkPassage, SiteResult, SiteState, SwitchPassage, send
from vswitch.semantics.switch_memory import SwitchState
from vswitch.semantics.switching import process
from vswitch.semantics.verdict import Drop, DropReason, Result, Stage, Step, rule_text

__all__ = [
    "Conversation",
    "Decision",
    "Delivery",
    "Drop",
    "DropReason",
    "Expected",
    "Frame",
    "Hop",
    "Layer",
    "Leg",
    "LegKind",
    "NetworkPassage",
    "Result",
    "SiteResult",
    "SiteState",
    "Stage",
    "Step",
    "SwitchPassage",
    "SwitchState",
    "converse",
    "converse_range",
    "process",
    "rule_text",
    "send",
]
