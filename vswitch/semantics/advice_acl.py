"""Sentences about frames that a port ACL denied: which entry, why, and the entry that is missing."""

from __future__ import annotations

from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, Action, Direction
from vswitch.semantics.acl import evaluate_extended
from vswitch.semantics.cause import Advice, Layer, protocol_name, what_failed
from vswitch.semantics.frame import IPV4, Frame
from vswitch.semantics.journey import Decision, Failure, Leg, LegKind
from vswitch.semantics.network import SwitchPassage
from vswitch.semantics.verdict import Rule, Stage, rule_text

__all__ = ["denied"]

_LARGEST_WEIGHT = 65535


def denied(failure: Failure, decision: Decision, leg: Leg | None, legs: tuple[Leg, ...]) -> Advice:
    """What to tell about a frame that an ACL entry denied, `leg` being the one it belonged to."""
    rule, adapter, frame = decision.drop.rule, decision.adapter, failure.frame
    assert rule is not None
    assert adapter is not None
    assert frame is not None
    if not frame.is_ip:
        return Advice(
            Layer.ACL,
            f"{what_failed(failure)} was denied at {adapter.id} by {_rule(rule)}: a MAC entry stops"
            " ARP as well",
            f"allow the MAC address with an entry of its own, or remove {rule.name}",
        )
    if frame.is_neighbour_discovery:
        return Advice(
            Layer.ACL,
            f"neighbour discovery is blocked at {adapter.id} by {_rule(rule)}: a deny of all IPv6 also"
            " blocks ICMPv6 134-136",
            f"allow protocol 58 both ways on {_selector(adapter)}" + _above(rule),
        )
    shadowed = _shadowed(adapter, decision, frame)
    if shadowed is not None and _ordered(rule, shadowed):
        return Advice(
            Layer.ACL,
            f"{frame.summary} was denied at {adapter.id} by {_rule(rule)}; {rule_text(shadowed)} would"
            " allow it, but stands below it in the file",
            f"move {shadowed.name} above {rule.name} in the file",
        )
    if shadowed is not None:
        return Advice(
            Layer.ACL,
            f"{frame.summary} was denied at {adapter.id} by {_rule(rule)}; {rule_text(shadowed)} would"
            f" allow it, but its weight {shadowed.weight} is smaller",
            f"give {shadowed.name} a larger weight than {_weight(rule)}",
        )
    if leg is not None and leg.kind is LegKind.REPLY:
        return _reply_denied(failure, decision, leg, legs)
    return Advice(
        Layer.ACL, f"{frame.summary} was denied at {adapter.id} by {_rule(rule)}", _allow(decision, frame)
    )


def _reply_denied(failure: Failure, decision: Decision, leg: Leg, legs: tuple[Leg, ...]) -> Advice:
    rule, adapter, frame = decision.drop.rule, decision.adapter, failure.frame
    assert rule is not None
    assert adapter is not None
    assert frame is not None
    answering = leg.hops[0].source.guest
    what = (
        f"the {legs[0].name} reached {answering}, but its {leg.name} was denied at {adapter.id}"
        f" by {_rule(rule)}"
    )
    allow = _allow(decision, frame)
    if frame.protocol in (ICMPV4, ICMPV6):
        return Advice(Layer.ACL, f"{what}: ICMP cannot be stateful, each direction needs an entry", allow)
    if isinstance(rule, BasicAcl):
        return Advice(Layer.ACL, f"{what}: basic ACLs are stateless", allow)
    opposite = Direction.INBOUND if rule.direction is Direction.OUTBOUND else Direction.OUTBOUND
    opener = _opener(legs, adapter, opposite)
    if opener is None:
        return Advice(
            Layer.ACL,
            f"{what}: no {opposite} entry matched the request, so nothing made the flow stateful",
            f"add a Stateful {opposite} Allow for the request; or {allow}",
        )
    return Advice(
        Layer.ACL,
        f"{what}: the {opposite} allow {rule_text(opener)} is stateless",
        f"make {opener.name} stateful; or {allow}",
    )


def _opener(legs: tuple[Leg, ...], adapter: Adapter, direction: Direction) -> ExtendedAcl | None:
    """The extended entry that let the request through at this adapter."""
    for leg in legs:
        for hop in leg.packets if leg.kind is LegKind.REQUEST else ():
            for passage in hop.result.passages:
                if not isinstance(passage, SwitchPassage):
                    continue
                if passage.place != f"{adapter.host}/{adapter.switch}":
                    continue
                for step in passage.result.steps:
                    here = step.port == adapter.number and step.direction is direction
                    if here and step.stage is Stage.EXTENDED_ACL and isinstance(step.rule, ExtendedAcl):
                        return step.rule
    return None


def _shadowed(adapter: Adapter, decision: Decision, frame: Frame) -> ExtendedAcl | None:
    """An Allow that matches too, but stands below the Deny that decided."""
    rule = decision.drop.rule
    if not isinstance(rule, ExtendedAcl):
        return None
    vlan = decision.drop.vlan
    found = evaluate_extended(
        adapter.extended_acls, rule.direction, frame, vlan, below_weight=rule.weight
    ).rule
    return found if found is not None and found.action is Action.ALLOW else None


def _ordered(rule: Rule, other: ExtendedAcl) -> bool:
    """Whether the order in one file decides between two entries, for neither has a weight of its own."""
    return (
        isinstance(rule, ExtendedAcl)
        and rule.by_order
        and other.by_order
        and rule.origin.file == other.origin.file
    )


def _selector(adapter: Adapter) -> str:
    """What a policy writes to mean this adapter."""
    return f"host:{adapter.id}" if adapter.is_management_os else adapter.id


def _rule(rule: Rule) -> str:
    return f"{rule.direction} rule {rule_text(rule)}"


def _weight(rule: Rule) -> str:
    return str(rule.weight) if isinstance(rule, ExtendedAcl) else "0"


def _above(rule: Rule) -> str:
    if not isinstance(rule, ExtendedAcl):
        return ""
    if rule.by_order:
        return f", above {rule.name!r} in the file"
    if rule.weight == _LARGEST_WEIGHT:
        return f", and lower the weight of {rule.name} below it: no weight is larger"
    return f", with a weight above {rule.weight}"


def _allow(decision: Decision, frame: Frame) -> str:
    """The smallest entry that would let this frame pass, in words."""
    rule, adapter = decision.drop.rule, decision.adapter
    assert rule is not None
    assert adapter is not None
    inbound = rule.direction is Direction.INBOUND
    local, remote = (frame.dst, frame.src) if inbound else (frame.src, frame.dst)
    if isinstance(rule, BasicAcl):
        address = local if rule.side == "Local" else remote
        what = f"{rule.side} {address}"
        if rule.is_mac or getattr(rule.address, "prefixlen", 0) == (32 if frame.ethertype == IPV4 else 128):
            return f"remove {rule.name}: it names exactly this address, and no Allow can be more exact"
        return (
            f"remove {rule.name}, or add a basic {rule.direction} Allow for {what} with a longer prefix"
            " than the Deny's"
        )
    answering = decision.leg is LegKind.REPLY
    # Whoever opens a connection needs its answers too.
    kind = "a Stateful" if frame.protocol in (TCP, UDP) and not answering else "an"
    entry = f"{kind} {rule.direction} Allow for {protocol_name(frame.protocol or 0)}"
    if frame.protocol in (TCP, UDP):
        port, side = (frame.dst_port, inbound) if not answering else (frame.src_port, not inbound)
        entry += f" with {'local' if side else 'remote'} port {port}"
    return f"add {entry} to {_selector(adapter)}{_above(rule)}"
