"""Every state a host passes through, judged by the reference alone: on the way, and on the way back.

Nothing of `ordering`, `semantic` or `space` takes part in the judgement: entries become rules of the
model, and vswitch.semantics says what they do to a frame. Weights are chosen to be difficult.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import CmdletFault, HypervHost
from tests.support.modelled_host.ours_and_theirs import entries_on, no_wait
from tests.support.modelled_host.states import sample_state
from vswitch.acl_entries import ANY, ANY_MAC, Acls, BasicEntry, Entry, ExtendedEntry, describe, to_host
from vswitch.errors import HostError, Origin
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import ApplyError, Standing
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.planning.ordering import order_of, states
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import Action, AnyAddress, BasicAction, Direction, PortRange, Side
from vswitch.semantics.acl import evaluate_basic, evaluate_extended
from vswitch.semantics.frame import ARP, IPV4, IPV6, Frame

pytestmark = pytest.mark.slow

INBOUND, OUTBOUND = Direction
OTHER = {INBOUND: OUTBOUND, OUTBOUND: INBOUND}
ORIGIN = Origin("policy.yaml", 1, 1)
LOCAL_MACS = ["00-15-5D-00-00-01", "00-15-5D-00-00-03"]
REMOTE_MACS = ["00-15-5D-00-00-02", "00-15-5D-00-00-03"]
ADDRESSES = {
    IPV4: [*map(ip_address, ["9.9.9.9", "10.0.0.1", "10.1.0.1", "10.1.2.3"])],
    IPV6: [*map(ip_address, ["::1", "2001:db8::5"])],
}
PORTS = [79, 80, 84, 85, 90, 91, 1001]
#: All weights there are, where the difficult ones are.
WEIGHTS = {
    "adjacent": [500, 501, 502, 503],
    "lowest": [1, 2, 3],
    "highest": [65535, 65534, 65533],
    "both ends": [1, 2, 65534, 65535],
}


class Packet(NamedTuple):
    """A packet from the adapter's viewpoint."""

    kind: int
    local: IPv4Address | IPv6Address | None = None
    remote: IPv4Address | IPv6Address | None = None
    protocol: int | None = None
    local_port: int | None = None
    remote_port: int | None = None
    local_mac: str = LOCAL_MACS[0]
    remote_mac: str = REMOTE_MACS[0]

    def frame(self, direction: Direction) -> Frame:
        mine = (self.local_mac, self.local, self.local_port)
        theirs = (self.remote_mac, self.remote, self.remote_port)
        source, target = (theirs, mine) if direction is INBOUND else (mine, theirs)
        return Frame(
            source[0],
            target[0],
            self.kind,
            src=source[1],
            dst=target[1],
            protocol=self.protocol,
            src_port=source[2],
            dst_port=target[2],
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """As regions of traffic take it."""
        version = {IPV4: 4, IPV6: 6, ARP: 0}[self.kind]
        macs = (int(mac.replace("-", ""), 16) for mac in (self.local_mac, self.remote_mac))
        fields = (self.protocol, 0, self.local_port, self.remote_port, self.local, self.remote)
        return (version, *(int(field or 0) for field in fields), *macs)


class Situation:
    """What an adapter with some entries does to packets, by the reference."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = frozenset(entries)

    @cached_property
    def extended(self) -> tuple[ExtendedAcl, ...]:
        return tuple(_extended(entry) for entry in self.entries if isinstance(entry, ExtendedEntry))

    @cached_property
    def basic(self) -> tuple[BasicAcl, ...]:
        return tuple(_basic(entry) for entry in self.entries if isinstance(entry, BasicEntry))

    def passes(self, packet: Packet, direction: Direction) -> bool:
        """By the entries, or as an answer to what a stateful entry lets pass the other way."""
        frame = packet.frame(direction)
        if evaluate_basic(self.basic, direction, frame).denies:
            return False
        if not frame.is_ip or not evaluate_extended(self.extended, direction, frame, None).denies:
            return True
        opening, other = packet.frame(OTHER[direction]), OTHER[direction]
        rule = evaluate_extended(self.extended, other, opening, None).rule
        return rule is not None and rule.stateful and not evaluate_basic(self.basic, other, opening).denies


def _extended(entry: ExtendedEntry) -> ExtendedAcl:
    def ports(text: str) -> PortRange | None:
        first, _, last = text.partition("-")
        return None if text == ANY else PortRange(int(first), int(last or first))

    local, remote = (None if text == ANY else ip_network(text) for text in (entry.local, entry.remote))
    numbers = {"TCP": 6, "UDP": 17, ANY: None}
    return ExtendedAcl(
        "rule",
        ORIGIN,
        entry.action,
        entry.direction,
        entry.weight,
        local,
        remote,
        ports(entry.local_port),
        ports(entry.remote_port),
        numbers[entry.protocol] if entry.protocol in numbers else int(entry.protocol),
        entry.stateful,
        entry.timeout,
    )


def _basic(entry: BasicEntry) -> BasicAcl:
    plain = entry.address if entry.is_mac else ip_network(entry.address)
    address = AnyAddress.MAC if entry.address == ANY_MAC else plain
    return BasicAcl("rule", ORIGIN, entry.action, entry.direction, entry.side, address)


# --- what may happen -----------------------------------------------------------------------------


def _two_ports(random_: random.Random, protocol: int) -> tuple[int | None, int | None]:
    if protocol not in (6, 17):
        return None, None
    local, remote = random_.sample(PORTS, 2)
    return local, remote


def packets(random_: random.Random, count: int) -> list[Packet]:
    found = [
        Packet(
            kind,
            local,
            remote,
            protocol,
            *_two_ports(random_, protocol),
            random_.choice(LOCAL_MACS),
            random_.choice(REMOTE_MACS),
        )
        for kind, addresses in ADDRESSES.items()
        for local, remote, protocol in product(addresses, addresses, (6, 17, 1, 50))
    ]
    frames = [
        Packet(ARP, local_mac=mine, remote_mac=theirs) for mine, theirs in product(LOCAL_MACS, REMOTE_MACS)
    ]
    return [*random_.sample(found, count), *frames]


def extended_entry(random_: random.Random, weights: Sequence[int]) -> ExtendedEntry:
    protocol, action = random_.choice([ANY, "TCP", "TCP", "UDP", "1"]), random_.choice(list(Action))
    has_ports = protocol in ("TCP", "UDP")
    stateful = has_ports and action is Action.ALLOW and random_.random() < 0.5
    remote = random_.choice([ANY, "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"])
    return ExtendedEntry(
        random_.choice(list(Direction)),
        random_.choice(weights),
        action,
        protocol,
        ANY if ":" in remote else random_.choice([ANY, "10.1.2.3"]),
        remote,
        random_.choice([ANY, "80", "80-90", "85-1000"]) if has_ports else ANY,
        ANY,
        stateful,
        60 if stateful else 0,
    )


def basic_entry(random_: random.Random) -> BasicEntry:
    macs = [ANY_MAC, LOCAL_MACS[0], REMOTE_MACS[0]]
    address = random_.choice([*macs, "0.0.0.0/0", "::/0", "10.0.0.0/8", "10.1.2.3", "2001:db8::/32"])
    actions = [BasicAction.ALLOW, BasicAction.DENY, *([] if address in macs else [BasicAction.METER])]
    return BasicEntry(
        random_.choice(list(Direction)), random_.choice(actions), random_.choice(list(Side)), address
    )


def entry_set(
    random_: random.Random, weights: Sequence[int], sizes: tuple[int, int], beside: Iterable[Entry] = ()
) -> frozenset[Entry]:
    """Random entries of which no two, nor one and one of `beside`, have the same key."""
    found: list[Entry] = [extended_entry(random_, weights) for _ in range(random_.randint(0, sizes[0]))]
    found += [basic_entry(random_) for _ in range(random_.randint(0, sizes[1]))]
    taken = {entry.key for entry in beside}
    return frozenset({entry.key: entry for entry in found if entry.key not in taken}.values())


def wrong(packet: Packet, direction: Direction, old: Situation, between: Situation, new: Situation) -> bool:
    """Whether something passes that both ends deny, or is cut that both let pass."""
    verdict = between.passes(packet, direction)
    return old.passes(packet, direction) == new.passes(packet, direction) != verdict


# --- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_no_frame_meets_what_neither_end_would_do_unless_that_is_said(weights: str, seed: int) -> None:
    random_ = random.Random(f"{weights} {seed}")
    foreign = entry_set(random_, WEIGHTS[weights], (2, 2))
    ours = [entry_set(random_, WEIGHTS[weights], (4, 3), foreign) for _ in range(2)]
    old, new = (foreign | each for each in ours)
    order = order_of(Acls.of(old), Acls.of(new), foreign)
    ends = Situation(old), Situation(new)
    tried = packets(random_, 30)
    for index, acls in enumerate(states(Acls.of(old), order.steps)):
        between = Situation([*acls.extended, *acls.basic])
        assert foreign <= between.entries
        for packet, direction in product(tried, Direction):
            said = any(
                packet.numbers in region
                for exposure in order.exposures
                if exposure.first <= index <= exposure.last and exposure.traffic.direction is direction
                for region in (*exposure.traffic.leaks, *exposure.traffic.cuts)
            )
            assert wrong(packet, direction, ends[0], between, ends[1]) == said, (index, packet, direction)


def test_answers_pass_by_state_only_where_what_they_answer_may_leave() -> None:
    """A basic Deny comes and a stateful rule too: were the rule first, its guest could ask meanwhile."""
    address = "10.1.2.3"
    asks = ExtendedEntry(OUTBOUND, 5, Action.ALLOW, "UDP", remote=address, stateful=True, timeout=60)
    foreign: frozenset[Entry] = frozenset({ExtendedEntry(INBOUND, 5, Action.DENY, remote=address)})
    added: set[Entry] = {asks, BasicEntry(OUTBOUND, BasicAction.DENY, Side.REMOTE, address)}
    new = foreign | added
    packet = Packet(IPV4, ip_address("10.0.0.1"), ip_address(address), 17, 1000, 53)
    order = order_of(Acls.of(foreign), Acls.of(new), foreign)
    assert order.exposures == ()
    for acls in states(Acls.of(foreign), order.steps):
        assert not Situation([*acls.extended, *acls.basic]).passes(packet, INBOUND)


@pytest.mark.parametrize("management", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_the_host_passes_no_other_states_when_it_undoes(seed: int, management: bool) -> None:
    """A write fails, the host dies or the answer is lost at any step: all it goes through is judged."""
    random_ = random.Random(seed)
    state = sample_state()
    raw = next(each for each in state["adapters"] if each["IsManagementOs"] is management)
    weights = WEIGHTS["adjacent"]
    foreign = entry_set(random_, weights, (2, 1))
    old, new = (entry_set(random_, weights, (3, 2), foreign) for _ in range(2))
    raw["extendedAcls"] = [to_host(each) for each in foreign | old if isinstance(each, ExtendedEntry)]
    raw["acls"] = [
        to_host(each) | {"MeteredMegabytes": ""} for each in foreign | old if isinstance(each, BasicEntry)
    ]
    state["records"] = [OwnershipRecord.of(raw["Id"], "policy.yaml", old).to_dict()]
    ends = Situation(foreign | old), Situation(foreign | new)
    tried = packets(random_, 12)
    for kind, when in product(("error", "die", "hang"), ("before", "after")):
        host = HypervHost(state)
        passed: dict[frozenset[Entry], None] = {}
        host.cmdlets.on_step = lambda _, host=host, passed=passed: passed.setdefault(  # type: ignore[misc]
            entries_on(host, raw["Id"])
        )
        with tempfile.TemporaryDirectory() as folder:
            transport, store = DirectTransport(host), store_in(Path(folder))
            plan = fresh_plan(transport, store, {raw["Id"]: dict.fromkeys(new)})
            if plan.exposures or not plan.changes:
                return
            steps = len(
                host.steps_of({"operation": "apply", "arguments": {"plan": plan.document().to_dict()}})
            )
            host.faults.append(CmdletFault(random_.randint(1, steps), kind, when, operation="apply"))
            failure: HostError | None = None
            try:
                apply_plan(plan, transport, store, wait=no_wait)
            except HostError as error:
                failure = error
        if failure is None:
            assert entries_on(host, raw["Id"]) == foreign | new
        else:
            assert isinstance(failure, ApplyError)
            assert failure.standing is Standing.OLD
            assert entries_on(host, raw["Id"]) == foreign | old
        for entries in passed:
            between = Situation(entries)
            assert foreign <= entries
            for packet, direction in product(tried, Direction):
                assert not wrong(packet, direction, ends[0], between, ends[1]), sorted(map(describe, entries))
