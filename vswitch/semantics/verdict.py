"""What is said about a frame: the stages it passed, the drops, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import Direction, DropReason
from vswitch.semantics.assumptions import Assumption

if TYPE_CHECKING:
    from vswitch.semantics.frame import Frame
    from vswitch.semantics.switch_memory import SwitchState

__all__ = ["Drop", "DropReason", "Result", "Rule", "Stage", "Step", "rule_text"]

Rule = ExtendedAcl | BasicAcl


class Stage(StrEnum):
    """The stages of a virtual switch, in order (§1.6), and the physical network between switches."""

    VIRTUAL_FUNCTION = "SR-IOV"
    STATE = "flow state"
    EXTENDED_ACL = "extended ACL"
    BASIC_ACL = "basic ACL"
    DHCP_GUARD = "DHCP guard"
    ROUTER_GUARD = "router guard"
    SOURCE_MAC = "source MAC"
    VLAN_INGRESS = "VLAN ingress"
    PRIORITY = "802.1p priority"
    LEARNING = "learning"
    FORWARDING = "forwarding"
    STORM_LIMIT = "storm limit"
    MIRRORING = "mirroring"
    VLAN_EGRESS = "VLAN egress"
    DELIVERY = "delivery"
    PHYSICAL_NETWORK = "physical network"


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame, or one copy of it, ended here.

    `ports` are the OpenFlow ports at which it ended: one, except for a broadcast that several
    adapters of other VLANs do not get, which counts once. `direction` is Outbound at the port the
    frame came in by (seen from the VM), Inbound at a destination, None at the uplink. `rule` is
    the deciding ACL entry. `vlan` is the VLAN the frame travelled on, None where it had none yet.
    """

    ports: tuple[int, ...]
    stage: Stage
    reason: DropReason
    direction: Direction | None = None
    rule: Rule | None = None
    vlan: int | None = None

    @property
    def port(self) -> int:
        """The (first) port at which the frame ended."""
        return self.ports[0]

    def __str__(self) -> str:
        by = f" by {rule_text(self.rule)}" if self.rule else ""
        return f"{self.reason}{by}"


@dataclass(frozen=True, slots=True)
class Step:
    """One stage passed, or the one at which the frame ended."""

    port: int
    stage: Stage
    text: str
    direction: Direction | None = None
    rule: Rule | None = None
    passed: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What one virtual switch did with one frame.

    `outputs` maps OpenFlow ports to the frame as it leaves on that port's wire. `flags` names, for
    each port, the open questions (hyper-v-facts §10) on which what happened there depends.
    `state` is what the switch knows afterwards.
    """

    outputs: Mapping[int, Frame]
    drops: tuple[Drop, ...]
    steps: tuple[Step, ...]
    state: SwitchState
    flags: Mapping[int, frozenset[Assumption]]

    @property
    def assumptions(self) -> frozenset[Assumption]:
        """The open questions on which any part of this outcome depends."""
        return frozenset[Assumption]().union(*self.flags.values())


def rule_text(rule: Rule) -> str:
    """The rule as users know it: `allow-http (web-tier.yaml:3:5)`."""
    return f"{rule.name} ({rule.origin})"
