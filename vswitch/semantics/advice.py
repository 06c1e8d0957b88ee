"""Sentences for the administrator: which layer is at fault, why, and what to change.

Keyed by the structure of the failure; nothing here decides a verdict.
"""

from __future__ import annotations

from vswitch.model.site import Adapter, Guest, PhysicalPort, Site
from vswitch.model.traffic import Traffic
from vswitch.model.types import Vlan, VlanMode
from vswitch.semantics.advice_acl import denied
from vswitch.semantics.advice_limits import limited
from vswitch.semantics.advice_nat import about_nat
from vswitch.semantics.cause import Advice, Layer, listening, protocol_name, what_failed
from vswitch.semantics.endpoints import Nic
from vswitch.semantics.journey import Decision, Failure, FailureKind, Leg, LegKind
from vswitch.semantics.verdict import DropReason

__all__ = ["advise"]


_LAYERS = {
    DropReason.ACL: Layer.ACL,
    DropReason.DHCP_GUARD: Layer.GUARD,
    DropReason.ROUTER_GUARD: Layer.GUARD,
    DropReason.INVALID_SOURCE_MAC: Layer.MAC,
    DropReason.MAC_SPOOFING: Layer.MAC,
    DropReason.UNAUTHORIZED_MAC: Layer.MAC,
    DropReason.UNAUTHORIZED_VLAN: Layer.VLAN,
    DropReason.FILTERED_VLAN: Layer.VLAN,
    DropReason.FAILED_PVLAN_SETTING: Layer.VLAN,
    DropReason.PHYSICAL_VLAN: Layer.VLAN,
    DropReason.UNKNOWN_UNICAST: Layer.FORWARDING,
    DropReason.OWN_PORT: Layer.FORWARDING,
    DropReason.STORM_LIMIT: Layer.LIMIT,
}


def advise(
    site: Site,
    source: Guest,
    destination: Guest,
    traffic: Traffic,
    port: int | None,
    legs: tuple[Leg, ...],
    failure: Failure | None,
    *,
    refused: bool,
) -> Advice:
    """What to tell about a conversation: `failure` is the one that ended it, None if none did.

    `destination` is the guest that answers, or was to.
    """
    if (failure or refused) and (advice := about_nat(site, source, destination, legs, failure)):
        return advice
    if failure is None:
        return _nothing_listens(destination, traffic, port) if refused else Advice()
    if failure.kind is FailureKind.NO_COMMON_VERSION:
        return _no_common_version(source, destination)
    leg = next((each for each in legs if each.failure is failure), None)
    back = leg is not None and leg.kind is LegKind.REPLY
    if failure.kind is FailureKind.NOT_DELIVERED:
        advice = _not_delivered(site, failure, leg, legs)
    else:
        advice = _unroutable(site, failure, back=back)
    if back and leg is not None and leg.name in ("RST", "port unreachable"):
        silent = _nothing_listens(destination, traffic, port)
        return Advice(advice.layer, f"{silent.cause}; and {advice.cause}", f"{silent.fix}; {advice.fix}")
    return advice


# --- service ---------------------------------------------------------------------------------------


def _nothing_listens(guest: Guest, traffic: Traffic, port: int | None) -> Advice:
    protocol = protocol_name(traffic.protocol)
    # `dns` alone means TCP: the port asked for may well be open in UDP.
    twin = next((each for each in guest.services if each.port == port), None)
    other = f"{protocol_name(twin.protocol)}/{port}," if twin is not None else "a port"
    return Advice(
        Layer.SERVICE,
        f"nothing listens on {protocol}/{port} of {guest.name} ({listening(guest, traffic.protocol)})",
        f"start the service, or ask for {other} on which {guest.name} listens",
    )


# --- address and route -------------------------------------------------------------------------------


def _no_common_version(source: Guest, destination: Guest) -> Advice:
    bare = [guest.name for guest in (source, destination) if not guest.addresses]
    if bare:
        cause = f"{' and '.join(bare)} {'has' if len(bare) == 1 else 'have'} no IP address"
    else:
        cause = f"{source.name} and {destination.name} have no address of the same IP version"
    return Advice(Layer.ADDRESS, cause, "give both machines an address of the same IP version")


def _unroutable(site: Site, failure: Failure, *, back: bool) -> Advice:
    guest, address = failure.guest, failure.address
    request = f"the request arrived, but {guest}" if back else guest
    if failure.kind is FailureKind.NO_ROUTE:
        return _no_route(site.guest[guest], request, failure)
    if failure.kind is FailureKind.NOT_FORWARDING:
        return Advice(
            Layer.FORWARDING,
            f"{guest} received a packet for {address} but does not forward",
            f"set forwarding on {guest}, or route {address} another way",
        )
    if failure.kind is FailureKind.WRONG_MACHINE:
        return Advice(
            Layer.ADDRESS,
            f"{address} belongs to {guest} as well, and {guest} is the one that answers",
            "give every machine in reach of the other an address of its own",
        )
    if failure.kind is FailureKind.HOP_LIMIT:
        return Advice(
            Layer.ADDRESS,
            f"a packet for {address} goes round in circles and was given up at {guest}",
            "correct the routes and gateways of the routers on the way",
        )
    return Advice(
        Layer.ADDRESS,
        f"{request} asks for {address}, and no machine has that address",
        f"correct the gateway, the route or the prefix length of {guest}",
    )


def _no_route(guest: Guest, subject: str, failure: Failure) -> Advice:
    address = failure.address
    assert address is not None
    subnets = [own.network for own in guest.addresses if own.version == address.version]
    where = ", ".join(map(str, dict.fromkeys(subnets))) or f"no IPv{address.version} address"
    gateways = [hop for hop in guest.gateways if (":" in hop) == (address.version == 6)]
    if gateways:
        return Advice(
            Layer.ADDRESS,
            f"{subject} has the gateway {gateways[0]}, which is in none of its subnets ({where})",
            f"give {guest.name} a gateway in one of its subnets",
        )
    return Advice(
        Layer.ADDRESS,
        f"{subject} has no route to {address}: different subnet ({where}) and no gateway",
        f"give {guest.name} a gateway, a route, or an address in the subnet of {address}",
    )


# --- a frame that did not arrive ---------------------------------------------------------------------


def _not_delivered(site: Site, failure: Failure, leg: Leg | None, legs: tuple[Leg, ...]) -> Advice:
    decision = failure.decision
    if decision is None:
        return _never_met(failure)
    layer = _LAYERS[decision.drop.reason]
    if layer is Layer.ACL:
        return denied(failure, decision, leg, legs)
    if layer is Layer.VLAN:
        return _vlan(failure, decision)
    if layer is Layer.LIMIT and decision.adapter is not None:
        return limited(decision.adapter, decision.drop.reason)
    cause, fix = _BY_REASON[decision.drop.reason]
    names = {
        "adapter": decision.adapter.id if decision.adapter else decision.place,
        "frame": failure.frame.summary if failure.frame else "",
        "mac": failure.frame.src_mac if failure.frame else "",
        "dst": failure.frame.dst_mac if failure.frame else "",
        "place": decision.place,
    }
    return Advice(layer, cause.format(**names), fix.format(**names))


_BY_REASON = {
    DropReason.DHCP_GUARD: (
        "DhcpGuard of {adapter} stopped {frame}: it looks like a DHCP server's message",
        "turn DhcpGuard off on {adapter} if it is the real DHCP server",
    ),
    DropReason.ROUTER_GUARD: (
        "RouterGuard of {adapter} stopped a router advertisement or redirect",
        "turn RouterGuard off on {adapter} if it is a router",
    ),
    DropReason.INVALID_SOURCE_MAC: (
        "the source address {mac} is a group address",
        "send with a unicast source address",
    ),
    DropReason.MAC_SPOOFING: (
        "{adapter} sent with {mac}, which is not its MAC, and MacAddressSpoofing is Off",
        "restore the MAC in the guest, or turn MacAddressSpoofing on for {adapter}",
    ),
    DropReason.UNAUTHORIZED_MAC: (
        "{mac} came in at a port of {place} although it is pinned to another adapter there",
        "give every adapter a MAC of its own",
    ),
    DropReason.UNKNOWN_UNICAST: (
        "{place} knows no port for {dst}, and adapters with MacAddressSpoofing Off do not get frames"
        " for unknown addresses",
        "check the MAC in the guest, or turn MacAddressSpoofing on where several addresses live",
    ),
    DropReason.OWN_PORT: (
        "{place} believes {dst} to be behind the port the frame came from",
        "look for a duplicate MAC",
    ),
}


def _never_met(failure: Failure) -> Advice:
    """No switch dropped the frame; it never came near its target."""
    source, target = failure.source, failure.target
    assert source is not None
    assert target is not None
    for delivery in failure.result.deliveries if failure.result else ():
        if delivery.end == target.end:
            return Advice(
                Layer.VLAN,
                f"{what_failed(failure)} reached {target.guest} on {delivery.interface}, but its address"
                f" {failure.address} is on {target.interface}",
                f"put the address on {delivery.interface}, or align the VLANs",
            )
    return Advice(
        Layer.SWITCH,
        f"{source.guest} is on {_attachment(source)}, {target.guest} on {_attachment(target)}:"
        " nothing joins the two",
        "connect both to the same switch or physical network, or route between them",
    )


def _attachment(nic: Nic) -> str:
    end = nic.end
    return f"network {end.network}" if isinstance(end, PhysicalPort) else f"switch {end.host}/{end.switch}"


def _vlan(failure: Failure, decision: Decision) -> Advice:
    source, target, drop = failure.source, failure.target, decision.drop
    assert source is not None
    assert target is not None
    what = f"{what_failed(failure)} never reached {target.guest}"
    if drop.reason is DropReason.UNAUTHORIZED_VLAN:
        return Advice(
            Layer.VLAN,
            f"{source.guest} sent a frame tagged {drop.vlan}, which {_vlan_text(source)} does not permit",
            f"set {_end_name(source)} to Trunk with VLAN {drop.vlan} allowed, or send untagged",
        )
    if drop.reason is DropReason.PHYSICAL_VLAN and not isinstance(target.end, PhysicalPort):
        return _not_carried(what, decision)
    if drop.reason is DropReason.PHYSICAL_VLAN and drop.vlan == _vlan_of(target):
        return _not_carried(what, decision)
    both_private = [nic for nic in (source, target) if _is_private(nic)]
    if both_private:
        return Advice(
            Layer.VLAN,
            f"{what}: {source.guest} is {_vlan_text(source)}, {target.guest} is {_vlan_text(target)},"
            " and a private VLAN lets only Promiscuous and Community ports of its own lists meet",
            "isolated machines cannot meet by design; otherwise align PrimaryVlanId and the secondary VLANs",
        )
    return Advice(
        Layer.VLAN,
        f"{what}: {source.guest} is {_vlan_text(source)}, {target.guest} is {_vlan_text(target)}",
        _meet(source, target),
    )


def _meet(source: Nic, target: Nic) -> str:
    """What brings two machines of different VLANs together; their addresses tell what was meant."""
    ours, theirs = ({address.network for address in nic.addresses} for nic in (source, target))
    ends = f"{_end_name(source)} and {_end_name(target)}"
    if ours & theirs:
        return f"put {ends} into the same VLAN: their addresses are of one subnet"
    if any(a.version == b.version and a.overlaps(b) for a in ours for b in theirs):
        return (
            f"correct the prefix length of {ends}: one of them takes the other for a neighbour,"
            " but machines of different VLANs are reached through a router"
        )
    return f"align the VLANs of {ends}, or route between them"


def _not_carried(what: str, decision: Decision) -> Advice:
    return Advice(
        Layer.VLAN,
        f"{what}: the physical network {decision.place} does not carry VLAN {decision.drop.vlan}",
        f"add VLAN {decision.drop.vlan} to {decision.place}: trunk it on the physical ports",
    )


def _vlan_of(nic: Nic) -> int:
    return nic.end.vlan if isinstance(nic.end, PhysicalPort) else nic.end.vlan.send


def _is_private(nic: Nic) -> bool:
    return isinstance(nic.end, Adapter) and nic.end.vlan.is_private


def _end_name(nic: Nic) -> str:
    return nic.end.id if isinstance(nic.end, Adapter) else f"{nic.guest}'s port"


def _vlan_text(nic: Nic) -> str:
    if isinstance(nic.end, PhysicalPort):
        return f"on an access port of VLAN {nic.end.vlan}" if nic.end.vlan else "on an untagged port"
    return _mode_text(nic.end.vlan, nic.vlan)


def _mode_text(vlan: Vlan, tag: int) -> str:
    match vlan.mode:
        case VlanMode.ACCESS:
            return f"in VLAN {vlan.access}"
        case VlanMode.TRUNK:
            return f"on a trunk in VLAN {tag or vlan.native}"
        case VlanMode.PROMISCUOUS:
            return f"Promiscuous {vlan.primary}/{','.join(map(str, vlan.secondaries))}"
        case VlanMode.ISOLATED | VlanMode.COMMUNITY:
            return f"{vlan.mode} {vlan.primary}/{vlan.secondary}"
        case _:
            return "untagged"
