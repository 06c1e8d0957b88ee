"""Sentences about conversations that a NAT is part of: whether it is at fault, which one, what to type.

Commands are for the host's PowerShell (§6); layout lines go below `nat:`, `static_mappings:`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vswitch.model.site import Guest, Nat, Site, StaticMapping
from vswitch.model.types import ICMPV4, TCP, UDP
from vswitch.semantics.cause import Advice, Layer, listening, powershell_text, protocol_name
from vswitch.semantics.frame import Frame
from vswitch.semantics.journey import Failure, FailureKind, Leg, LegKind
from vswitch.semantics.nat import mapping_for

__all__ = ["about_nat"]

_NO_WAY = (FailureKind.NO_ROUTE, FailureKind.NO_OWNER, FailureKind.NOT_FORWARDING)


def _nat_before(site: Site, guest: Guest, address: object) -> tuple[Guest, Nat] | None:
    """The host whose NAT stands before an address of a guest, and that NAT; None if none does."""
    host = site.guest.get(guest.host)
    if host is None or host is guest or host.nat is None or not host.nat.has_inside(address):
        return None
    return host, host.nat


def about_nat(
    site: Site, source: Guest, answering: Guest, legs: tuple[Leg, ...], failure: Failure | None
) -> Advice | None:
    """What to tell where a NAT decides; None where it does not.

    `answering` is the guest that answers, or was to; `failure` is what ended the conversation, None if
    the request was refused.
    """
    request = legs[0]
    sent = request.translations[0].before if request.translations else request.packet
    if sent is None or request.packet is None:
        return None
    if failure is None:
        return _refused(site, source, answering, request, request.packet)
    mapped = next((each for each in request.translations if each.mapping), None)
    if mapped and mapped.mapping and failure.kind is FailureKind.NO_OWNER and failure.guest == mapped.host:
        mapping = mapped.mapping
        return Advice(
            Layer.NAT,
            f"the static mapping {mapping} ({mapping.origin}) of NAT {mapped.nat} on {mapped.host} leads to"
            f" {mapping.internal_address}, and no machine behind the NAT has that address",
            f"correct the mapping's internal address, or give the machine {mapping.internal_address}",
        )
    if failure.kind not in _NO_WAY:
        return None
    leg = next((each for each in legs if each.failure is failure), request)
    stuck = site.guest[failure.guest]
    nat = stuck.nat if leg.kind is LegKind.REQUEST and failure.kind is not FailureKind.NO_OWNER else None
    if nat is not None and nat.has_inside(sent.src):
        return _no_way_out(stuck, nat, sent, failure)
    target = _nat_before(site, answering, sent.dst)
    if target is not None and leg.kind is LegKind.REQUEST and not _is_inside(source, *target):
        return _from_outside(answering, *target, replace(sent, src=request.packet.src))
    behind = _nat_before(site, stuck, sent.src if leg.kind is LegKind.REQUEST else request.packet.dst)
    if behind is not None and (leg.kind is LegKind.REPLY or stuck is source):
        return _no_gateway(stuck, *behind, failure)
    return None


def _refused(site: Site, source: Guest, answering: Guest, request: Leg, packet: Frame) -> Advice | None:
    mapped = next((each for each in request.translations if each.mapping), None)
    if mapped and mapped.mapping:
        name = protocol_name(mapped.mapping.protocol)
        return Advice(
            Layer.NAT,
            f"the static mapping {mapped.mapping} ({mapped.mapping.origin}) of NAT {mapped.nat} on"
            f" {mapped.host} leads to {answering.name}, and nothing listens on {name}/"
            f"{mapped.mapping.internal_port} there ({listening(answering, mapped.mapping.protocol)})",
            f"start the service on {answering.name}, or correct the mapping's internal port",
        )
    nat, port = answering.nat, packet.dst_port
    if nat is None or port is None or packet.dst not in nat.external or packet.protocol not in (TCP, UDP):
        return None
    name = protocol_name(packet.protocol)
    if nat.has_inside(packet.src):
        found = [
            each for each in nat.mappings if (each.protocol, each.external_port) == (packet.protocol, port)
        ]
        if not found:
            return None
        return Advice(
            Layer.NAT,
            f"the static mapping {found[0]} of NAT {nat.name} on {answering.name} is for packets from"
            f" outside, and {source.name} is behind the NAT itself",
            f"ask {found[0].internal_address}, port {found[0].internal_port}, directly",
        )
    for mapping in nat.mappings:
        if mapping_for(replace(nat, mappings=(replace(mapping, remote=None),)), packet):
            return Advice(
                Layer.NAT,
                f"the static mapping {mapping} ({mapping.origin}) of NAT {nat.name} on {answering.name} is"
                f" for packets from {mapping.remote} only, and {packet.src} is none of them; nothing listens"
                f" on {name}/{port} of {answering.name} itself",
                _widen(nat, mapping, packet.src),
            )
    others = ", ".join(str(each) for each in nat.mappings if each.protocol == packet.protocol) or "none"
    address, internal = _listening_behind(site, answering, nat, packet.protocol, port)
    return Advice(
        Layer.NAT,
        f"NAT {nat.name} on {answering.name} has no static mapping for {name}/{port} from {packet.src}, so it"
        f" has nowhere to send it, and nothing listens on that port of {answering.name} itself"
        f" ({name} mappings: {others})",
        _add(nat, packet.protocol, port, address, internal),
    )


def _listening_behind(site: Site, host: Guest, nat: Nat, protocol: int, port: int) -> tuple[str, str]:
    """Address and port of a machine behind the NAT that listens on a port; placeholders if none does."""
    for guest in site.guests:
        listens = any((each.protocol, each.port) == (protocol, port) for each in guest.services)
        if listens and guest is not host and guest.host == host.host:
            for own in guest.addresses:
                if nat.has_inside(own.ip):
                    return str(own.ip), str(port)
    return "<address behind the NAT>", "<its port>"


def _no_way_out(host: Guest, nat: Nat, sent: Frame, failure: Failure) -> Advice:
    """The packet came to the NAT, and did not get out of it."""
    if nat.has_inside(sent.dst):
        cause = f"{sent.dst} is behind it as well, and it does not route between its subnets"
        fix = "put both machines into one subnet on one switch"
    elif not nat.external:
        cause = f"{host.name} has no IPv4 address outside of {nat.internal}"
        fix = f"share an External switch with the management OS of {host.name}, with an address there"
    elif failure.kind is FailureKind.NO_ROUTE:
        cause = f"{host.name} itself has no route to {failure.address}"
        fix = f"give {host.name} a gateway on the side of {_or(nat.external)}"
    elif sent.protocol not in (ICMPV4, TCP, UDP):
        cause = f"it translates TCP, UDP and ICMP echo only, not {protocol_name(sent.protocol or 0)}"
        fix = "use a protocol with ports, or a way that does not pass the NAT"
    else:
        cause = f"{host.name} routes {failure.address} by an interface without an external address of the NAT"
        fix = f"correct the routes of {host.name}: the NAT leaves by {_or(nat.external)}"
    return Advice(Layer.NAT, f"NAT {nat.name} on {host.name} cannot send {sent.summary} on: {cause}", fix)


def _is_inside(guest: Guest, host: Guest, nat: Nat) -> bool:
    """Whether a guest is the host or behind its NAT; another host's may have the same prefix."""
    return guest.host == host.name and any(nat.has_inside(own.ip) for own in guest.addresses)


def _from_outside(owner: Guest, host: Guest, nat: Nat, sent: Frame) -> Advice:
    cause = (
        f"{sent.dst} of {owner.name} is behind NAT {nat.name} of {host.name} and cannot be reached from"
        " outside directly"
    )
    if sent.protocol not in (TCP, UDP) or sent.dst_port is None:
        return Advice(
            Layer.NAT, cause, f"ask {host.name}; only TCP and UDP ports can be mapped to {owner.name}"
        )
    wanted = (sent.protocol, sent.dst, sent.dst_port)
    mappings = [
        each for each in nat.mappings if (each.protocol, each.internal_address, each.internal_port) == wanted
    ]
    for mapping in mappings:
        asked = {each: replace(sent, dst=each, dst_port=mapping.external_port) for each in nat.external}
        serving = [address for address, packet in asked.items() if mapping_for(nat, packet) is mapping]
        if serving:
            name = f"{protocol_name(mapping.protocol)}/{mapping.external_port}"
            return Advice(Layer.NAT, cause, f"ask {host.name}, {_or(serving)}, {name}: mapped to it")
    for mapping in mappings:
        if mapping.remote is not None and sent.src not in mapping.remote:
            only = (
                f"; its static mapping {mapping} ({mapping.origin}) is for packets from {mapping.remote} only"
            )
            return Advice(Layer.NAT, cause + only, _widen(nat, mapping, sent.src))
    return Advice(
        Layer.NAT, cause, _add(nat, sent.protocol, sent.dst_port, str(sent.dst), str(sent.dst_port))
    )


def _no_gateway(guest: Guest, host: Guest, nat: Nat, failure: Failure) -> Advice | None:
    """A machine behind the NAT that does not find the host, its way out."""
    way = next((own.ip for own in host.addresses if nat.has_inside(own.ip)), None)
    if way is None or (failure.kind is FailureKind.NO_OWNER and failure.address == way):
        return None
    gateways = ", ".join(guest.gateways)
    return Advice(
        Layer.ADDRESS,
        f"{guest.name} has {f'the gateway {gateways}' if gateways else 'no gateway'}; its way out is NAT"
        f" {nat.name} of {host.name}, at {way}",
        f"give {guest.name} the gateway {way}",
    )


def _add(nat: Nat, protocol: int, external_port: int, address: str, port: str) -> str:
    """The command, and the layout line, that make a mapping."""
    name = protocol_name(protocol).upper()
    quoted = powershell_text(nat.name)
    return (
        f"Add-NetNatStaticMapping -NatName {quoted} -Protocol {name} -ExternalIPAddress 0.0.0.0"
        f" -ExternalPort {external_port} -InternalIPAddress {address} -InternalPort {port}; in the layout"
        f" {{protocol: {name}, external_port: {external_port}, internal_ip_address: {address},"
        f" internal_port: {port}}}"
    )


def _widen(nat: Nat, mapping: StaticMapping, sender: object) -> str:
    """How to have a mapping serve one more sender. Windows has no command that changes a mapping."""
    name = protocol_name(mapping.protocol).upper()
    quoted = powershell_text(nat.name)
    key = "remote_external_ip_address_prefix"
    return (
        f"widen its {key} at {mapping.origin} to a prefix that holds {sender} too, or leave it out for all"
        f" senders; on the host remove the mapping (Remove-NetNatStaticMapping, by the StaticMappingID that"
        f" Get-NetNatStaticMapping -NatName {quoted} shows for {mapping.remote}) and add it anew:"
        f" Add-NetNatStaticMapping -NatName {quoted} -Protocol {name}"
        f" -ExternalIPAddress {mapping.external_address or '0.0.0.0'} -ExternalPort {mapping.external_port}"
        f" -InternalIPAddress {mapping.internal_address} -InternalPort {mapping.internal_port}"
        f" -RemoteExternalIPAddressPrefix <prefix>"
    )


def _or(addresses: Sequence[object]) -> str:
    return " or ".join(map(str, addresses))
