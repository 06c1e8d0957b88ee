"""The semantic diff against brute force over the reference: every corner, on small rule sets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.acl_entries import Acls, BasicEntry, Entry, ExtendedEntry, basic_from_model, extended_from_model
from vswitch.compare import edits as changed
from vswitch.compare import region_search as search
from vswitch.compare.acl_diff import TrafficChange, hidden, lost, semantic_diff, transient
from vswitch.compare.regions import Region, ip_traffic
from vswitch.errors import Origin
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import (
    ICMPV4,
    TCP,
    UDP,
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    PortRange,
    Side,
)
from vswitch.semantics.acl import evaluate_basic, evaluate_extended
from vswitch.semantics.frame import Frame, ip, tcp, udp

ORIGIN = Origin("policy.yaml", 1, 1)
LOCAL_MAC, REMOTE_MAC, OTHER_MAC = "00-15-5D-00-00-01", "00-15-5D-00-00-02", "00-15-5D-00-00-03"
ADDRESSES = [
    None,
    *map(
        ip_network,
        [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "10.1.2.3",
            "::/0",
            "2001:db8::/32",
            "2001:db8::5",
        ],
    ),
]
PORTS = [None, PortRange(80, 80), PortRange(80, 90), PortRange(85, 1000), PortRange(0, 65535)]


@st.composite
def extended_acls(draw: st.DrawFn) -> ExtendedAcl:
    protocol = draw(st.sampled_from([None, TCP, UDP, ICMPV4]))
    has_ports = protocol in (TCP, UDP)
    action = draw(st.sampled_from(list(Action)))
    local, remote = draw(st.sampled_from(ADDRESSES)), draw(st.sampled_from(ADDRESSES))
    if local is not None and remote is not None and local.version != remote.version:
        local = None
    stateful = has_ports and action is Action.ALLOW and draw(st.booleans())
    return ExtendedAcl(
        "rule",
        ORIGIN,
        action,
        draw(st.sampled_from(list(Direction))),
        1,
        local,
        remote,
        draw(st.sampled_from(PORTS)) if has_ports else None,
        draw(st.sampled_from(PORTS)) if has_ports else None,
        protocol,
        stateful,
        60 if stateful else 0,
        draw(st.sampled_from([0, 0, 0, 10])),
    )


@st.composite
def basic_acls(draw: st.DrawFn) -> BasicAcl:
    addresses = [
        AnyAddress.IP,
        AnyAddress.MAC,
        LOCAL_MAC,
        REMOTE_MAC,
        *(a for a in ADDRESSES if a is not None),
    ]
    address = draw(st.sampled_from(addresses))
    is_mac = address is AnyAddress.MAC or (isinstance(address, str) and address is not AnyAddress.IP)
    actions = [BasicAction.ALLOW, BasicAction.DENY] + ([] if is_mac else [BasicAction.METER])
    return BasicAcl(
        "rule",
        ORIGIN,
        draw(st.sampled_from(actions)),
        draw(st.sampled_from(list(Direction))),
        draw(st.sampled_from(list(Side))),
        address,
    )


Policy = tuple[tuple[ExtendedAcl, ...], tuple[BasicAcl, ...]]


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = draw(st.lists(extended_acls(), max_size=6))
    weights = draw(st.permutations(range(1, len(rules) + 1)))
    return (
        tuple(replace(rule, weight=weight) for rule, weight in zip(rules, weights, strict=True)),
        tuple(draw(st.lists(basic_acls(), max_size=4))),
    )


def acls_of(policy: Policy) -> Acls:
    return Acls(
        frozenset(map(extended_from_model, policy[0])),
        frozenset(entry for acl in policy[1] for entry in basic_from_model(acl)),
    )


def packets() -> list[tuple[int, ...]]:
    """A packet in every elementary corner that the strategies above can make: (version, *FIELDS)."""
    macs = [int(mac.replace("-", ""), 16) for mac in (LOCAL_MAC, REMOTE_MAC, OTHER_MAC)]
    addresses = {
        4: ["0.0.0.0", "9.9.9.9", "10.0.0.1", "10.1.0.1", "10.1.2.1", "10.1.2.3", "11.0.0.0"],
        6: ["::", "2001:db8::", "2001:db8::5", "2001:db9::"],
    }
    found: list[tuple[int, ...]] = []
    for version in (4, 6):
        numbers = [int(ip_address(text)) for text in addresses[version]]
        sampler = random.Random(version)
        for protocol, isolation, local, remote in product((TCP, UDP, ICMPV4, 50), (0, 10), numbers, numbers):
            ports = (
                product((79, 80, 85, 91, 1001), (79, 80, 85, 91, 1001))
                if protocol in (TCP, UDP)
                else [(0, 0)]
            )
            for local_port, remote_port in ports:
                mac = sampler.choice(macs), sampler.choice(macs)
                found.append((version, protocol, isolation, local_port, remote_port, local, remote, *mac))
    found += [(0, 0, 0, 0, 0, 0, 0, *pair) for pair in product(macs, macs)]
    return found


PACKETS = packets()


def frame_of(packet: tuple[int, ...], direction: Direction) -> tuple[Frame, int]:
    version, protocol, isolation, local_port, remote_port, local, remote, local_mac, remote_mac = packet
    inbound = direction is Direction.INBOUND
    macs = tuple(
        "-".join(f"{number:012X}"[i : i + 2] for i in range(0, 12, 2)) for number in (local_mac, remote_mac)
    )
    src_mac, dst_mac = macs[::-1] if inbound else macs
    if version == 0:
        return Frame(src_mac=src_mac, dst_mac=dst_mac, ethertype=0x88CC), isolation

    def family(number: int) -> IPv4Address | IPv6Address:
        return ip_address(number.to_bytes(4 if version == 4 else 16, "big"))

    ends = (family(remote), family(local)) if inbound else (family(local), family(remote))
    ports = (remote_port, local_port) if inbound else (local_port, remote_port)
    if protocol == TCP:
        return tcp(src_mac, dst_mac, ends[0], ends[1], *ports), isolation
    if protocol == UDP:
        return udp(src_mac, dst_mac, ends[0], ends[1], *ports), isolation
    return ip(src_mac, dst_mac, ends[0], ends[1], protocol), isolation


def reference(policy: Policy, packet: tuple[int, ...], direction: Direction) -> tuple[bool, bool]:
    """(passes, stateful) by the project's reference."""
    frame, vlan = frame_of(packet, direction)
    if evaluate_basic(policy[1], direction, frame).denies:
        return False, False
    if packet[0] == 0:
        return True, False
    verdict = evaluate_extended(policy[0], direction, frame, vlan)
    return not verdict.denies, verdict.rule is not None and verdict.rule.stateful


def in_any(regions: tuple[Region, ...], packet: tuple[int, ...]) -> int:
    return sum(packet in region for region in regions)


@given(policies(), policies(), st.sampled_from(list(Direction)), st.integers(0, 2**32))
def test_diff_equals_brute_force(old: Policy, new: Policy, direction: Direction, seed: int) -> None:
    diff = semantic_diff(acls_of(old), acls_of(new), direction)
    assert not diff.more
    for packet in random.Random(seed).sample(PACKETS, 250):
        was, becomes = (reference(policy, packet, direction) for policy in (old, new))
        expected = None
        if was[0] != becomes[0]:
            expected = TrafficChange.ALLOWED if becomes[0] else TrafficChange.DENIED
        elif was[1] != becomes[1]:
            expected = TrafficChange.STATEFUL if becomes[1] else TrafficChange.STATELESS
        for change in TrafficChange:
            count = in_any(diff.changes.get(change, ()), packet)
            assert count == (change is expected), f"{packet}: {was} -> {becomes}, {change} {count} times"


@given(policies(), policies(), st.sampled_from(list(Direction)), st.integers(0, 2**32))
def test_diff_in_cells_equals_brute_force(old: Policy, new: Policy, direction: Direction, seed: int) -> None:
    """The same where each cell of the space holds no more than a few rules."""
    with small_cells():
        test_diff_equals_brute_force.hypothesis.inner_test(old, new, direction, seed)  # type: ignore[attr-defined]


@contextmanager
def small_cells() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_STEPS_WHOLE", 4)
        patch.setattr(search, "_STEPS", 4)
        patch.setattr(search, "_STEPS_EACH", 0)
        _forget()
        yield
    _forget()


def _forget() -> None:
    semantic_diff.cache_clear()
    lost.cache_clear()


CROSSING = {
    "local": ["ANY", "0.0.0.0/1", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3"],
    "remote": ["ANY", "0.0.0.0/1", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3"],
    "local_port": ["ANY", "0-999", "80", "80-90", "85-1000", "500-65535"],
    "remote_port": ["ANY", "0-999", "80", "80-90", "85-1000", "500-65535"],
}
VALUES = {
    "protocol": [TCP, TCP, UDP, 50],
    "local": [int(ip_address(text)) for text in ("9.9.9.9", "10.9.0.0", "10.1.0.0", "10.1.2.1", "10.1.2.3")],
    "local_port": [79, 80, 82, 85, 91, 600, 1001],
}


@st.composite
def crossing(draw: st.DrawFn) -> list[ExtendedEntry]:
    """Rules whose ports and prefixes cross and contain each other."""
    rules: list[ExtendedEntry] = []
    for weight in range(draw(st.integers(1, 25)), 0, -1):
        protocol = draw(st.sampled_from(["TCP", "TCP", "ANY", "UDP", "50"]))
        fields: dict[str, Any] = {
            name: draw(st.sampled_from(choices))
            for name, choices in CROSSING.items()
            if protocol in ("TCP", "UDP") or "port" not in name
        }
        action = draw(st.sampled_from(list(Action)))
        stateful = protocol in ("TCP", "UDP") and action is Action.ALLOW and draw(st.booleans())
        timeout = 60 if stateful else 0
        rules.append(
            ExtendedEntry(
                Direction.INBOUND, weight, action, protocol, **fields, stateful=stateful, timeout=timeout
            )
        )
    return rules


def first_match(rules: list[ExtendedEntry], packet: tuple[int, ...]) -> int:
    """0 denied, 1 allowed, 2 allowed with state; by comparing texts, without the code under test."""
    _, protocol, _, local_port, remote_port, local, remote, *_ = packet
    for rule in rules:
        if rule.protocol not in ("ANY", {TCP: "TCP", UDP: "UDP"}.get(protocol, str(protocol))):
            continue
        if all(
            text == "ANY" or IPv4Address(address) in ip_network(text)
            for text, address in ((rule.local, local), (rule.remote, remote))
        ) and all(
            text == "ANY" or int(text.partition("-")[0]) <= port <= int(text.rpartition("-")[2])
            for text, port in ((rule.local_port, local_port), (rule.remote_port, remote_port))
        ):
            return 0 if rule.action is Action.DENY else 1 + rule.stateful
    return 1


@given(crossing(), crossing(), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_crossing_rules_equal_brute_force(
    old: list[ExtendedEntry], new: list[ExtendedEntry], same_start: bool, in_cells: bool, seed: int
) -> None:
    if same_start:
        new = weighted([*old[: len(old) // 2], *new])
    check_diff(old, new, in_cells, seed)


def weighted(rules: list[ExtendedEntry]) -> list[ExtendedEntry]:
    return [rule._replace(weight=1000 - rank) for rank, rule in enumerate(rules)]


def halves(rule: ExtendedEntry) -> list[ExtendedEntry]:
    """Two rules that match together what one does."""
    low, _, high = rule.local_port.partition("-")
    if high:
        middle = (int(low) + int(high)) // 2
        return [rule._replace(local_port=text) for text in (f"{low}-{middle}", f"{middle + 1}-{high}")]
    if rule.remote not in ("ANY", "10.1.2.3"):
        return [rule._replace(remote=str(each)) for each in ip_network(rule.remote).subnets()]
    return [rule]


@st.composite
def edited(draw: st.DrawFn, rules: list[ExtendedEntry]) -> list[ExtendedEntry]:
    """Nearly the same rules: some changed, put in, left out, moved, swapped or split, once or twice."""
    new = [*rules]
    fresh = draw(crossing())
    for kind in draw(
        st.lists(
            st.sampled_from(["change", "flip", "insert", "delete", "move", "swap", "repeat", "split", "cut"]),
            max_size=8,
        )
    ):
        if not new:
            break
        at, other = (draw(st.integers(0, len(new) - 1)) for _ in range(2))
        rule = new[at]
        if kind == "change":
            new[at] = draw(st.sampled_from(fresh))
        elif kind == "flip":
            action = Action.ALLOW if rule.action is Action.DENY else Action.DENY
            new[at] = rule._replace(action=action, stateful=False, timeout=0)
        elif kind == "insert":
            new.insert(at, draw(st.sampled_from(fresh)))
        elif kind == "delete":
            del new[at]
        elif kind == "move":
            new.insert(other, new.pop(at))
        elif kind == "swap":
            new[at], new[other] = new[other], rule
        elif kind == "repeat":
            new.insert(other, rule)
        elif kind == "split":
            first, *second = halves(rule)
            new[at] = first
            for each in second:
                new.insert(draw(st.integers(0, len(new))), each)
        else:
            del new[len(new) - at // 4 :]
    return new


@given(st.data(), crossing(), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_nearly_equal_rules_equal_brute_force(
    data: st.DataObject, old: list[ExtendedEntry], backwards: bool, in_cells: bool, seed: int
) -> None:
    new = data.draw(edited(old))
    old, new = weighted(old), weighted(new)
    check_diff(*((new, old) if backwards else (old, new)), in_cells, seed)


@given(st.lists(crossing(), min_size=2, max_size=2), st.booleans(), st.integers(0, 2**32))
def test_cells_equal_brute_force(policies: list[list[ExtendedEntry]], in_cells: bool, seed: int) -> None:
    """The way that is taken where the policies have little in common and their rules meet many others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed, "_FEW", -1)
        check_diff(policies[0], policies[1], in_cells, seed)


def check_diff(old: list[ExtendedEntry], new: list[ExtendedEntry], in_cells: bool, seed: int) -> None:
    semantic_diff.cache_clear()
    with small_cells() if in_cells else nullcontext():
        diff = semantic_diff(Acls.of(old), Acls.of(new), Direction.INBOUND)
    assert not diff.more
    assert not diff.unfinished
    pick = random.Random(seed)
    for _ in range(100):
        ends = [pick.choice(VALUES[name]) for name in ("local_port", "local_port", "local", "local")]
        packet = (4, pick.choice(VALUES["protocol"]), 0, *ends, 0, 0)
        was, becomes = first_match(old, packet), first_match(new, packet)
        expected = None
        if (was > 0) != (becomes > 0):
            expected = TrafficChange.ALLOWED if becomes else TrafficChange.DENIED
        elif was != becomes:
            expected = TrafficChange.STATEFUL if becomes > was else TrafficChange.STATELESS
        for change in TrafficChange:
            assert in_any(diff.changes.get(change, ()), packet) == (change is expected)


@pytest.mark.parametrize("kind", ["split", "joined", "moved", "hidden"])
def test_what_changes_nothing_needs_no_search(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule in pieces, one moved past others it agrees with or does not meet, one behind another."""
    old = [_allow(1, "80-99", "10.0.0.0/9"), _allow(1, "500-600"), _deny()._replace(remote="192.0.2.0/24")]
    old += [_allow(1, "85", "11.0.0.0/8"), _deny()]
    behind = _deny()._replace(remote="10.1.0.0/16", local_port="90", protocol="TCP")
    new = {
        "split": [*halves(old[0]), *old[1:3], *halves(old[3]), old[4]],
        "joined": [*halves(old[0]), *halves(old[1]), *old[2:]],
        "moved": [old[1], old[3], old[0], old[2], old[4]],
        "hidden": [*old[:2], behind, *old[2:]],
    }[kind]
    before, after = (old, new) if kind != "joined" else (new, old)
    monkeypatch.delattr(changed, "search")
    semantic_diff.cache_clear()
    assert not semantic_diff(Acls.of(weighted(before)), Acls.of(weighted(after)), Direction.INBOUND)


def test_a_kind_with_many_regions_does_not_hide_another() -> None:
    """The search for one kind of change ends early; another that is rare is found all the same."""
    pick = random.Random(1)
    old = [_deny()]
    new = [_deny()]
    for weight in range(2, 42):
        low, first = pick.randint(1, 60000), pick.randint(1, 60000)
        rule = _allow(weight, f"{low}-{low + 5000}")
        new.append(rule._replace(remote_port=f"{first}-{first + 5000}", remote=f"10.0.{weight % 4}.0/24"))
    old.append(_allow(50, "7", "192.0.2.1"))
    with small_cells():
        diff = semantic_diff(Acls.of(old), Acls.of(new), Direction.INBOUND, limit=3)
    assert diff.unfinished == {TrafficChange.ALLOWED}
    assert len(diff.changes[TrafficChange.ALLOWED]) == 3
    assert diff.more[TrafficChange.ALLOWED] > 0
    assert [str(region) for region in diff.changes[TrafficChange.DENIED]] == [
        "IPv4, TCP, local port 7, remote 192.0.2.1"
    ]
    assert diff.as_dict()["more_is_a_minimum"] == ["newly allowed"]


def passes(policy: Policy, packet: tuple[int, ...], direction: Direction) -> bool:
    """By an entry of its direction, or by state as the answer to what could pass."""
    frame, vlan = frame_of(packet, direction)
    if evaluate_basic(policy[1], direction, frame).denies:
        return False
    if packet[0] == 0 or not evaluate_extended(policy[0], direction, frame, vlan).denies:
        return True
    other = Direction.OUTBOUND if direction is Direction.INBOUND else Direction.INBOUND
    opening, _ = frame_of(packet, other)
    rule = evaluate_extended(policy[0], other, opening, vlan).rule
    return rule is not None and rule.stateful and not evaluate_basic(policy[1], other, opening).denies


@given(policies(), policies(), policies(), st.sampled_from(list(Direction)), st.integers(0, 2**32))
def test_transient_equals_brute_force(
    old: Policy, between: Policy, new: Policy, direction: Direction, seed: int
) -> None:
    found = transient(acls_of(old), acls_of(between), acls_of(new), direction, limit=10**6)
    for packet in random.Random(seed).sample(PACKETS, 150):
        was, amid, becomes = (passes(policy, packet, direction) for policy in (old, between, new))
        wrong = was == becomes != amid
        assert in_any(found.leaks, packet) == (wrong and amid)
        assert in_any(found.cuts, packet) == (wrong and was)


WITHIN = [
    ip_traffic(),
    ip_traffic(protocol=[(TCP, TCP)], local_port=[(80, 80)]),
    ip_traffic(protocol=[(TCP, UDP)], local_port=[(0, 79), (85, 91)]),
    Region(4, ip_traffic(protocol=[(ICMPV4, ICMPV4), (UDP, UDP)]).fields),
]


@given(
    policies(),
    policies(),
    st.sampled_from(list(Direction)),
    st.sampled_from(WITHIN),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_what_is_lost_equals_brute_force(
    old: Policy, new: Policy, direction: Direction, within: Region, in_cells: bool, seed: int
) -> None:
    with small_cells() if in_cells else nullcontext():
        found = lost(acls_of(old), acls_of(new), direction, within, limit=10**6)
    inside = [packet for packet in PACKETS if packet in within]
    for packet in [*random.Random(seed).sample(inside, 60), *random.Random(seed).sample(PACKETS, 20)]:
        gone = passes(old, packet, direction) and not passes(new, packet, direction)
        assert in_any(found, packet) == (gone and packet in within)


@given(policies())
def test_a_policy_does_not_differ_from_itself(policy: Policy) -> None:
    acls = acls_of(policy)
    assert not any(semantic_diff(acls, acls, direction) for direction in Direction)


def _deny(weight: int = 1) -> ExtendedEntry:
    return ExtendedEntry(Direction.INBOUND, weight, Action.DENY)


def _allow(weight: int, port: str = "80", remote: str = "ANY") -> ExtendedEntry:
    return ExtendedEntry(Direction.INBOUND, weight, Action.ALLOW, "TCP", remote=remote, local_port=port)


def test_regions_read_well() -> None:
    old = Acls.of([_deny(), _allow(500)])
    new = Acls.of([_deny(), _allow(500, "443", "10.0.0.0/8")])
    diff = semantic_diff(old, new, Direction.INBOUND)
    assert [str(region) for region in diff.changes[TrafficChange.ALLOWED]] == [
        "IPv4, TCP, local port 443, remote 10.0.0.0/8"
    ]
    assert [str(region) for region in diff.changes[TrafficChange.DENIED]] == ["IP, TCP, local port 80"]
    told: dict[str, Any] = diff.as_dict()
    assert told["changes"]["newly denied"] == [{"version": "IP", "protocol": "TCP", "local_port": "80"}]


def test_more_counts_what_is_not_listed() -> None:
    new = Acls.of(_allow(weight, str(2 * weight), f"10.0.{weight}.0/24") for weight in range(2, 12))
    old = Acls.of([_deny()])
    diff = semantic_diff(old, Acls(new.extended | old.extended), Direction.INBOUND, limit=3)
    assert len(diff.changes[TrafficChange.ALLOWED]) == 3
    assert diff.more == {TrafficChange.ALLOWED: 7}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (_allow(500), _deny(900), ("theirs", True)),
        (_allow(500), _deny(100), ("ours", False)),
        (_allow(500), _allow(900), None),
        (_allow(500), _deny(900)._replace(direction=Direction.OUTBOUND), None),
        (_allow(500), _deny(900)._replace(remote="10.0.0.0/8"), ("theirs", False)),
        (
            BasicEntry(Direction.INBOUND, BasicAction.ALLOW, Side.REMOTE, "10.1.0.0/16"),
            BasicEntry(Direction.INBOUND, BasicAction.DENY, Side.REMOTE, "10.0.0.0/8"),
            ("ours", False),
        ),
        (
            BasicEntry(Direction.INBOUND, BasicAction.ALLOW, Side.REMOTE, "0.0.0.0/0"),
            BasicEntry(Direction.INBOUND, BasicAction.DENY, Side.REMOTE, "0.0.0.0/0"),
            ("theirs", True),
        ),
    ],
)
def test_entries_that_hide_others(ours: Entry, theirs: Entry, expected: tuple[str, bool] | None) -> None:
    found = hidden(Acls.of([ours]), Acls.of([theirs]))
    if expected is None:
        assert found == []
    else:
        assert [("ours" if each.winner == ours else "theirs", each.wholly) for each in found] == [expected]
