"""The compiled ACL tables against the definition, spelled out slowly with ipaddress objects."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tests.support.sites import basic, extended
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import Action, AnyAddress, BasicAction, Direction, Side
from vswitch.semantics.acl import evaluate_basic, evaluate_extended
from vswitch.semantics.frame import Address, Frame, ip, tcp, udp

MACS = ("00-15-5D-00-00-01", "00-15-5D-00-00-02")
ADDRESSES = ("10.0.0.1", "10.0.1.1", "2001:db8::1", "2001:db8:0:1::1")
PREFIXES = ("ANY", "0.0.0.0/0", "::/0", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.1/32", "2001:db8::/64")
PORTS = (None, 80, (80, 90), (1, 65535))
directions = st.sampled_from(["Inbound", "Outbound"])


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    source = ip_address(draw(st.sampled_from(ADDRESSES)))
    same = [a for a in map(ip_address, ADDRESSES) if a.version == source.version]
    destination = draw(st.sampled_from(same))
    macs = draw(st.permutations(MACS))
    protocol = draw(st.sampled_from([6, 17, 47]))
    if protocol == 47:
        return ip(macs[0], macs[1], source, destination, 47)
    ports = [draw(st.sampled_from([80, 81, 91])) for _ in range(2)]
    return (tcp if protocol == 6 else udp)(macs[0], macs[1], source, destination, *ports)


@st.composite
def extended_rules(draw: st.DrawFn) -> tuple[ExtendedAcl, ...]:
    found = []
    for weight in draw(st.lists(st.integers(1, 65535), unique=True, max_size=6)):
        protocol = draw(st.sampled_from([None, 6, 17, 47]))
        has_ports = protocol in (6, 17)
        local = draw(st.sampled_from(PREFIXES))
        version = None if local == "ANY" else ip_network(local).version
        remote = draw(
            st.sampled_from([p for p in PREFIXES if p == "ANY" or version in (None, ip_network(p).version)])
        )
        found.append(
            extended(
                draw(st.sampled_from(["Allow", "Deny"])),
                draw(directions),
                weight,
                protocol=protocol,
                local=local,
                remote=remote,
                local_port=draw(st.sampled_from(PORTS)) if has_ports else None,
                remote_port=draw(st.sampled_from(PORTS)) if has_ports else None,
                isolation_id=draw(st.sampled_from([0, 0, 10])),
            )
        )
    return tuple(found)


@st.composite
def basic_rules(draw: st.DrawFn) -> tuple[BasicAcl, ...]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        action, direction = draw(st.sampled_from(["Allow", "Deny"])), draw(directions)
        field = draw(st.sampled_from(["local", "remote", "local_mac", "remote_mac"]))
        values = ("ANY", *MACS) if field.endswith("mac") else PREFIXES
        found.append(basic(action, direction, **{field: draw(st.sampled_from(values))}))
    return tuple(found)


def ends(frame: Frame, direction: Direction) -> tuple[tuple[Address, int | None, str], ...]:
    assert frame.src
    assert frame.dst
    source = (frame.src, frame.src_port, frame.src_mac)
    destination = (frame.dst, frame.dst_port, frame.dst_mac)
    return (destination, source) if direction is Direction.INBOUND else (source, destination)


def matches(rule: ExtendedAcl, direction: Direction, frame: Frame, vlan: int) -> bool:
    (local, local_port, _), (remote, remote_port, _) = ends(frame, direction)
    return (
        rule.direction is direction
        and rule.protocol in (None, frame.protocol)
        and (rule.local_ip_address is None or local in rule.local_ip_address)
        and (rule.remote_ip_address is None or remote in rule.remote_ip_address)
        and (rule.local_port is None or local_port in rule.local_port)
        and (rule.remote_port is None or remote_port in rule.remote_port)
        and rule.isolation_id in (0, vlan)
    )


@given(extended_rules(), frames(), st.sampled_from(list(Direction)), st.sampled_from([0, 10, 20]))
def test_extended_entries(
    rules: tuple[ExtendedAcl, ...], frame: Frame, direction: Direction, vlan: int
) -> None:
    expected = max(
        (rule for rule in rules if matches(rule, direction, frame, vlan)),
        key=lambda rule: rule.weight,
        default=None,
    )
    verdict = evaluate_extended(rules, direction, frame, vlan)
    assert verdict.rule is expected
    assert verdict.denies == (expected is not None and expected.action is Action.DENY)
    assert verdict == evaluate_extended(tuple(reversed(rules)), direction, frame, vlan)


def length_of(rule: BasicAcl, address: Address, mac: str) -> int | None:
    """The length of the match, None without one."""
    if isinstance(rule.address, AnyAddress):
        return 0
    if isinstance(rule.address, str):
        return 48 if rule.address == mac else None
    return rule.address.prefixlen if address in rule.address else None


@given(basic_rules(), frames(), st.sampled_from(list(Direction)))
def test_basic_entries(rules: tuple[BasicAcl, ...], frame: Frame, direction: Direction) -> None:
    local, remote = ends(frame, direction)
    denied = False
    for side, (address, _, mac) in ((Side.LOCAL, local), (Side.REMOTE, remote)):
        for is_mac in (False, True):
            family = [
                (length, rule.action is BasicAction.DENY)
                for rule in rules
                if rule.direction is direction and rule.side is side and rule.is_mac is is_mac
                for length in [length_of(rule, address, mac)]
                if length is not None
            ]
            denied |= max(family, default=(0, False))[1]
    assert evaluate_basic(rules, direction, frame).denies == denied
    assert evaluate_basic(tuple(reversed(rules)), direction, frame).denies == denied


@given(extended_rules(), frames())
def test_a_rule_of_another_direction_never_matters(rules: tuple[ExtendedAcl, ...], frame: Frame) -> None:
    outbound = tuple(replace(rule, direction=Direction.OUTBOUND) for rule in rules)
    assert evaluate_extended(outbound, Direction.INBOUND, frame, 0).rule is None
