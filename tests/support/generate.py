"""Random sites, policies and frames, small enough that everything meets everything."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random

from tests.support.more_frames import later_fragment
from tests.support.sites import access, community, isolated, promiscuous, trunk
from vswitch.errors import Origin
from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl, Guest, GuestKind, Host, Site, Switch
from vswitch.model.types import (
    TCP,
    UDP,
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Network,
    PortMirroring,
    PortRange,
    Side,
    SwitchType,
    Vlan,
    normalise_mac,
)
from vswitch.semantics import frame as f

HOST, UPLINK = "hv01", 1
_PREFIXES = [
    ip_network(text)
    for text in (
        "0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.1.0/24",
        "2001:db8::/32", "2001:db8::1/128", "2001:db8:1::/48",
    )
]  # fmt: skip
_ADDRESSES = [
    ip_address(text)
    for text in ("10.0.0.1", "10.0.0.2", "10.0.0.77", "10.0.1.1", "192.0.2.1", "2001:db8::1", "2001:db8::2",
                 "2001:db8:1::1", "fe80::1")
]  # fmt: skip
_PORTS = [0, 1, 53, 67, 80, 443, 547, 1023, 1024, 1025, 49152, 65534, 65535]
_VLANS = [0, 1, 10, 20, 200, 201, 202]


def _vlan(random: Random) -> Vlan:
    return random.choice(
        [
            Vlan(),
            access(10),
            access(20),
            trunk(10, 20, native=random.choice([0, 1, 10])),
            trunk(*range(1, 4095), native=0),
            trunk(*random.sample(range(1, 4095), 5), native=20),
            isolated(200, 201),
            community(200, 202),
            promiscuous(200, 201, 202),
        ]
    )


def mac(number: int) -> str:
    return normalise_mac(f"00155d0000{number:02x}")


def stranger(number: int) -> str:
    return normalise_mac(f"0200000000{number:02x}")


def extended_entries(random: Random) -> tuple[ExtendedAcl, ...]:
    entries: list[ExtendedAcl] = []
    for direction in Direction:
        weights = random.sample(range(1, 65536), random.choice([0, 0, 1, 2, 4]))
        entries += [_extended(random, direction, weight) for weight in sorted(weights, reverse=True)]
        if random.random() < 0.3:
            entries += _product_rule(random, direction, [w for w in range(60000, 60040) if w not in weights])
    return tuple(sorted(entries, key=lambda e: (list(Direction).index(e.direction), -e.weight)))


def _product_rule(random: Random, direction: Direction, weights: list[int]) -> list[ExtendedAcl]:
    """A rule with lists of addresses and ports, as the loader expands it."""
    remotes = random.sample(_PREFIXES, random.randint(1, 4))
    ports = [_range(random) for _ in range(random.randint(1, 3))]
    base = _extended(random, direction, 1)
    protocol = random.choice([TCP, UDP])
    combinations = dict.fromkeys((remote, local) for remote in remotes for local in ports)
    return [
        replace(
            base, name="list", origin=Origin("policy.yaml", 9, 3), weight=weight, protocol=protocol,
            stateful=False, idle_session_timeout=0, local_ip_address=None, remote_ip_address=remote,
            local_port=local, remote_port=None,
        )
        for weight, (remote, local) in zip(sorted(weights, reverse=True), combinations, strict=False)
    ]  # fmt: skip


def _range(random: Random) -> PortRange:
    first, last = sorted(random.choices(_PORTS, k=2))
    return PortRange(first, last)


def _extended(random: Random, direction: Direction, weight: int) -> ExtendedAcl:
    action = random.choice(list(Action))
    protocol = random.choice([None, TCP, TCP, UDP, 1, 58, 47])
    version = random.choice([None, 4, 6])
    pool: list[Network | None] = [None, *(p for p in _PREFIXES if p.version == version)]
    local, remote = random.choice(pool), random.choice(pool)
    ports = protocol in (TCP, UDP)
    stateful = ports and action is Action.ALLOW and random.random() < 0.4
    return ExtendedAcl(
        f"rule-{direction}-{weight}",
        Origin("policy.yaml", weight, 1),
        action,
        direction,
        weight,
        local,
        remote,
        _range(random) if ports and random.random() < 0.5 else None,
        _range(random) if ports and random.random() < 0.4 else None,
        protocol,
        stateful,
        random.choice([5, 30, 300]) if stateful else 0,
        random.choice([0, 0, 0, 10, 20, 201]),
    )


def basic_entries(random: Random) -> tuple[BasicAcl, ...]:
    found: dict[tuple[object, ...], BasicAcl] = {}
    for _ in range(random.choice([0, 0, 1, 3, 5])):
        direction, side = random.choice(list(Direction)), random.choice(list(Side))
        address = random.choice([*_PREFIXES, AnyAddress.IP, AnyAddress.MAC, mac(3), mac(4), stranger(1)])
        action = random.choice([BasicAction.ALLOW, BasicAction.DENY, BasicAction.DENY, BasicAction.METER])
        entry = BasicAcl(
            f"basic-{len(found)}",
            Origin("policy.yaml", 70000 + len(found), 1),
            action,
            direction,
            side,
            address,
        )
        if action is BasicAction.METER and entry.is_mac:
            continue
        kind = "meter" if action is BasicAction.METER else "filter"
        found.setdefault((direction, side, address, kind), entry)
    return tuple(found.values())


def site(random: Random) -> Site:
    """One host, one switch, two to six adapters."""
    kind = random.choice([SwitchType.EXTERNAL, SwitchType.EXTERNAL, SwitchType.PRIVATE])
    uplink = UPLINK if kind is SwitchType.EXTERNAL else 0
    origin = Origin("layout.yaml", 1, 1)
    switch = Switch(HOST, "vs", kind, origin, "br0", 1, "lan" if uplink else "", uplink)
    mirroring = random.choice([[PortMirroring.NONE], list(PortMirroring)])
    adapters = [
        Adapter(
            guest=f"vm{number // 2 if random.random() < 0.3 else number}", name=f"nic{number}", host=HOST,
            switch="vs", mac=mac(number), number=number, interface="eth0", origin=origin, vlan=_vlan(random),
            mac_address_spoofing=random.random() < 0.4, dhcp_guard=random.random() < 0.3,
            router_guard=random.random() < 0.3, allow_teaming=random.random() < 0.3,
            ieee_priority_tag=random.random() < 0.3,
            port_mirroring=random.choice(mirroring), virtual_function=bool(uplink) and random.random() < 0.15,
            # So high that nothing is dropped: what counts is which frames are counted.
            storm_limit=random.choice([0, 2**32 - 1]), maximum_bandwidth=random.choice([0, 10**12]),
            acls=basic_entries(random), extended_acls=extended_entries(random),
        )
        for number in range(2, random.randint(4, 8))
    ]  # fmt: skip
    owners: dict[str, list[Adapter]] = {}
    for adapter in adapters:
        owners.setdefault(adapter.guest, []).append(adapter)
    guests = tuple(Guest(n, GuestKind.VM, origin, HOST, tuple(own)) for n, own in owners.items())
    return Site("generated", (), (Host(HOST, origin, (switch,)),), guests)


def frame(random: Random, of: Site) -> tuple[int, f.Frame]:
    """A frame, and the OpenFlow port it comes in on."""
    switch = of.hosts[0].switches[0]
    adapters = of.adapters
    sender = random.choice([*adapters, *([None] if switch.uplink else [])])
    source = mac(sender.number) if sender else stranger(1)
    if random.random() < 0.2:
        source = random.choice([mac(2), mac(3), stranger(1), stranger(2), "01-00-5E-00-00-01"])
    destination = random.choice(
        [*(a.mac for a in adapters), stranger(1), stranger(2), f.BROADCAST, "33-33-00-00-00-01"]
    )
    tag = None if random.random() < 0.6 else random.choice([*_VLANS, random.randrange(4095), 4095])
    inbound = sender is None and random.random() < 0.7
    vlan = random.choice([*_VLANS[1:], 4095]) if inbound else tag
    payload = _payload(random, source, destination)
    priority = random.choice([0, 5, 7]) if vlan is not None else 0
    return (sender.number if sender else switch.uplink), replace(payload, vlan=vlan, priority=priority)


def _payload(random: Random, source: str, destination: str) -> f.Frame:
    version = random.choice([4, 4, 6])
    addresses = [a for a in _ADDRESSES if a.version == version]
    src, dst = random.choice(addresses), random.choice(addresses)
    kind = random.choice(["tcp", "tcp", "udp", "udp", "icmp", "other", "arp", "raw"])
    if kind == "arp":
        return f.arp_request(source, ip_address("10.0.0.1"), ip_address("10.0.0.2"))  # type: ignore[arg-type]
    if kind == "raw":
        return f.raw(source, destination, random.choice([0x88CC, 0x88CC, *f.TAG_TYPES]))
    if kind == "icmp":
        return f.icmp(source, destination, src, dst, random.choice([0, 5, 8, 9, 128, 134, 135, 137]))
    if kind == "other":
        return f.ip(source, destination, src, dst, random.choice([2, 47, 50]))
    ports = random.choice(_PORTS), random.choice(_PORTS)
    made = (f.tcp if kind == "tcp" else f.udp)(source, destination, src, dst, *ports)
    part = random.random()
    if part < 0.1:
        return later_fragment(made)
    return replace(made, fragment=f.Fragment.FIRST) if part < 0.2 else made
