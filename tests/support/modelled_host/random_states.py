"""Random states of Hyper-V hosts, frames that aim at their rules, and changes of a policy.

Small enough that everything meets everything. States are in the form of an export; every ACL entry is
one that a real host would hold, spelled as hosts spell it, and MAC addresses are unique.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import yaml

from tests.support.modelled_host.host import blank_state
from tests.support.modelled_host.states import (
    EXTERNAL,
    INTERNAL,
    PRIVATE,
    RUNNING,
    adapter,
    basic,
    extended,
    switch,
)
from tests.support.modelled_host.values import Document
from tests.support.more_frames import later_fragment
from tests.support.sites import rules_of
from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl, Site, Switch
from vswitch.model.types import TCP, UDP, AnyAddress, Direction, Network, PortRange, Side, Vlan, normalise_mac
from vswitch.semantics import frame as f

NAMES = (
    "web01", "db", "null", "On", "10.0.0.1", "host:x", "a/b", "- x", "{a}", "#1", "a: b", "'", '"', "*",
    "[ab]*", "é 試", "a'; Stop-VM *", "$(Get-VM)", "~", "1e3", "::1", "web?", "!x", "&a", "tab\there",
    " padded ", "WEB01", "untagged", "x, y", "long " * 30,
)  # fmt: skip
PREFIXES = (
    "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1", "10.0.0.2", "10.0.1.77/24", "0.0.0.0/0", "10.0.0.4/30",
    "10.0.0.6/31", "2001:db8::/32", "2001:db8::1", "2001:db8:1::/48", "::/0", "2001:db8::4/126",
)  # fmt: skip
ADDRESSES = (
    "10.0.0.1", "10.0.0.2", "10.0.0.77", "10.0.1.1", "192.0.2.1", "2001:db8::1", "2001:db8::2",
    "2001:db8:1::1", "fe80::1",
)  # fmt: skip
PORTS = (0, 1, 53, 67, 68, 80, 443, 546, 547, 1023, 1024, 49152, 65534, 65535)
VLANS = (1, 10, 20, 200, 201, 202, 4094)
ON, OFF = 0, 1


def mac(number: int) -> str:
    """The MAC address of a generated adapter."""
    return normalise_mac(f"00155d0a{number:04x}")


def stranger(number: int) -> str:
    """A MAC address of no adapter."""
    return normalise_mac(f"0200000000{number:02x}")


# ------------------------------------------------------------------ states


def state(random: Random, computer: str = "HV01", *, first: int = 1, kinds: Sequence[int] = ()) -> Document:
    """A host with one to three switches and up to twelve adapters.

    `first` is the first number in its MAC addresses. `kinds` are the types of its switches.
    """
    made = blank_state(computer)
    chosen = kinds or random.choices((PRIVATE, INTERNAL, EXTERNAL, EXTERNAL), k=random.choice((1, 1, 2, 3)))
    made["switches"] = [
        switch(
            random.choice(NAMES),
            kind,
            Id=f"5{number:07}-0000-4000-8000-000000000000",
            IovEnabled=kind == EXTERNAL and random.random() < 0.5,
        )
        for number, kind in enumerate(chosen)
    ]
    made["vms"] = [
        {
            "Id": f"7{number:07}-0000-4000-8000-0000000000{first:02}",
            "Name": random.choice(NAMES),
            "State": RUNNING,
            "Generation": 2,
        }
        for number in range(random.randint(2, 5))
    ]
    owners: list[tuple[Document | None, Document | None]] = []
    for own in made["vms"]:
        owners += [(own, random.choice(made["switches"])) for _ in range(random.choice((1, 1, 1, 2)))]
    for each in made["switches"]:
        shared = each["SwitchType"] == INTERNAL or (each["SwitchType"] == EXTERNAL and random.random() < 0.4)
        each["AllowManagementOS"] = shared
        owners += [(None, each)] * (random.choice((1, 1, 2)) if shared else 0)
    if random.random() < 0.2:
        owners.append((random.choice(made["vms"]), None))
    made["adapters"] = [_adapter(random, first + index, vm, on) for index, (vm, on) in enumerate(owners)]
    return made


def _adapter(random: Random, number: int, vm: Document | None, on: Document | None) -> Document:
    """An adapter of a VM, or of the management OS, on a switch or on none."""
    guarded = random.random() < 0.7
    made = adapter(
        vm["Name"] if vm else None,
        on["Name"] if on else None,
        number,
        *random.sample(ADDRESSES, random.choice((0, 1, 1, 2))),
        name=random.choice(("Network Adapter", random.choice(NAMES))),
        acls=_basic_entries(random) if guarded else (),
        rules=_extended_entries(random) if guarded else (),
        MacAddressSpoofing=_on_off(random),
        DhcpGuard=_on_off(random),
        RouterGuard=_on_off(random),
        AllowTeaming=_on_off(random),
        IeeePriorityTag=_on_off(random),
        PortMirroringMode=random.choice((0, 0, 0, 1, 2)),
        IovWeight=random.choice((0, 0, 0, 0, 50)),
        # So high that nothing is dropped: a limit may not change what happens otherwise.
        StormLimit=random.choice((0, 0, 2**32 - 1)),
    )
    machine = vm["Id"] if vm else None
    made["Id"] = f"Microsoft:{machine or 'HOST'}\\C{number:07}"
    made["VMId"], made["SwitchId"] = machine, on["Id"] if on else None
    made["IPAddresses"] = list(dict.fromkeys(made["IPAddresses"]))
    made["vlan"] |= _vlan(random)
    if made["vlan"]["OperationMode"] == 0 and random.random() < 0.1:
        isolation = {"IsolationMode": 3, "AllowUntaggedTraffic": True, "DefaultIsolationID": 10}
        made["isolation"] |= isolation | {"IsTemplate": False}
    return made


def _on_off(random: Random) -> int:
    return ON if random.random() < 0.3 else OFF


def _vlan(random: Random) -> Document:
    private = {"OperationMode": 3, "PrimaryVlanId": 200}
    every = list(range(1, 4095)) if random.random() < 0.2 else [1, 10, 20, 200, 201]
    allowed = random.choice(([10, 20], [10], every, random.sample(range(1, 4095), 5), []))
    listed: list[Document] = [
        {},
        {},
        {"OperationMode": 1, "AccessVlanId": 10},
        {"OperationMode": 1, "AccessVlanId": 20},
        {"OperationMode": 2, "AllowedVlanIdList": allowed, "NativeVlanId": random.choice((0, 1, 10, 20))},
        private | {"PrivateVlanMode": 1, "SecondaryVlanId": 201},
        private | {"PrivateVlanMode": 2, "SecondaryVlanId": 202},
        private | {"PrivateVlanMode": 3, "SecondaryVlanIdList": random.choice(([201, 202], [201]))},
    ]
    return random.choice(listed) | {"IsTemplate": False}


def _extended_entries(random: Random) -> list[Document]:
    entries = []
    for direction in Direction:
        weights = random.sample(range(1, 65536), random.choice((0, 0, 1, 2, 4)))
        entries += [_extended(random, direction, weight) for weight in weights]
        if random.random() < 0.2:
            entries.append(extended("Deny", direction, random.choice((1, 2, 65535))))
    unique = {(entry["Direction"], entry["Weight"]): entry for entry in entries}
    return random.sample(list(unique.values()), len(unique))


def _extended(random: Random, direction: str, weight: int) -> Document:
    protocol = random.choice(("ANY", "TCP", "TCP", "UDP", "UDP", "1", "58", "47"))
    wide = random.choice((None, ".", ":"))
    pool = ("ANY", *(text for text in PREFIXES if wide and wide in text))
    ports = protocol in ("TCP", "UDP")
    action = random.choice(("Allow", "Deny"))
    stateful = ports and action == "Allow" and random.random() < 0.7
    return extended(
        action,
        direction,
        weight,
        Protocol=protocol,
        LocalIPAddress=random.choice(pool),
        RemoteIPAddress=random.choice(pool),
        LocalPort=_ports(random) if ports and random.random() < 0.5 else "ANY",
        RemotePort=_ports(random) if ports and random.random() < 0.4 else "ANY",
        Stateful=stateful,
        IdleSessionTimeout=random.choice((5, 30, 300)) if stateful else 0,
        IsolationID=random.choice((0, 0, 0, 10, 20, 201)),
    )


def _ports(random: Random) -> str:
    first, last = sorted(random.choices(PORTS, k=2))
    return str(first) if first == last else f"{first}-{last}"


def _basic_entries(random: Random) -> list[Document]:
    """Basic entries, no two for one prefix: a host refuses the second (§3.3), or it is undefined (§3.2)."""
    found: dict[tuple[object, ...], Document] = {}
    for _ in range(random.choice((0, 0, 1, 3, 5))):
        kind = random.choice((1, 2, 2, 3, 3, 4, 5, 6, 7))
        address = random.choice(
            {
                1: (mac(1), mac(2), mac(3), stranger(1)),
                2: tuple(text for text in PREFIXES if "." in text and text != "0.0.0.0/0"),
                3: tuple(text for text in PREFIXES if ":" in text and text != "::/0"),
                4: ("0.0.0.0/0",),
                5: ("::/0",),
                6: ("ANY",),
                7: ("ANY",),
            }[kind]
        )
        action = random.choice(("Allow", "Deny", "Deny", *(("Meter",) if kind not in (1, 7) else ())))
        direction, side = random.choice(list(Direction)), random.choice(("Local", "Remote"))
        entry = basic(action, direction, side, kind, address)
        prefixes = {6: ("0.0.0.0/0", "::/0"), 7: ("any MAC",)}.get(kind, (address,))
        keys = [(direction, side, prefix, action == "Meter") for prefix in prefixes]
        if not any(key in found for key in keys):
            found |= dict.fromkeys(keys, entry)
    return list({id(entry): entry for entry in found.values()}.values())


# ------------------------------------------------------------------ frames


def frame(random: Random, site: Site, on: Switch) -> tuple[int, f.Frame]:
    """A frame, and the OpenFlow port of `on` it comes in at. Half of them aim at a rule's boundary."""
    adapters = site.adapters_of(on)
    sender = random.choice([*adapters, *([None] if on.uplink else [])])
    within = [each for each in adapters if sender and sender.vlan.send in each.vlan.receives]
    receiver = random.choice(within if within and random.random() < 0.7 else adapters)
    rules = [(each, rule) for each in adapters for rule in rules_of(each)]
    rules += [(each, rule) for each in adapters for rule in each.extended_acls if rule.stateful] * 3
    owner, rule = random.choice(rules or [(None, None)])
    if owner and rule and random.random() < 0.6:
        if rule.direction is Direction.OUTBOUND:
            sender = owner
        else:
            receiver = owner
    else:
        rule = None
    own = sender.mac if sender else stranger(1)
    source = own
    if random.random() < 0.15:
        others = [each.mac for each in adapters]
        source = random.choice([*others, stranger(1), stranger(2), "01-00-5E-00-00-01"])
    target = receiver.mac
    if random.random() < 0.25:
        target = random.choice([stranger(1), stranger(2), f.BROADCAST, "33-33-00-00-00-01"])
    payload = aimed(random, source, target, rule) if rule else _payload(random, source, target)
    return (sender.number if sender else on.uplink), replace(payload, vlan=_tag(random, sender, receiver))


def _tag(random: Random, sender: Adapter | None, receiver: Adapter) -> int | None:
    """The tag a frame most likely travels with to arrive, or any other."""
    if random.random() < 0.2:
        return random.choice([None, 0, *VLANS, random.randrange(4095), 4095])
    wanted = random.choice(sorted(receiver.vlan.receives)[:20])
    if sender is None:
        return wanted or None
    own: Vlan = sender.vlan
    return wanted if own.send != wanted and wanted in own.allowed else None


def aimed(random: Random, source: str, target: str, rule: ExtendedAcl | BasicAcl) -> f.Frame:
    """A frame at, or just outside, the boundaries of a rule."""
    local: Network | None
    remote: Network | None
    ports: tuple[PortRange | None, PortRange | None]
    if isinstance(rule, BasicAcl):
        network = None if rule.is_mac or isinstance(rule.address, AnyAddress | str) else rule.address
        local, remote = (network, None) if rule.side is Side.LOCAL else (None, network)
        protocol, ports = random.choice((TCP, UDP, 1, 58)), (None, None)
        if isinstance(rule.address, str) and rule.is_mac and rule.address is not AnyAddress.MAC:
            mine = (rule.side is Side.LOCAL) == (rule.direction is Direction.OUTBOUND)
            source, target = (rule.address, target) if mine else (source, rule.address)
    else:
        local, remote = rule.local_ip_address, rule.remote_ip_address
        ports = (rule.local_port, rule.remote_port)
        protocol = rule.protocol if rule.protocol is not None else random.choice((TCP, UDP, 1, 58, 47))
        if random.random() < 0.1:
            protocol = random.choice((TCP, UDP, 1, 58))
    version = next((each.version for each in (local, remote) if each), random.choice((4, 6)))
    ends = [_near(random, network, version) for network in (local, remote)]
    numbers = [_port_near(random, span) for span in ports]
    if rule.direction is Direction.INBOUND:
        ends.reverse()
        numbers.reverse()
    src, dst = ends
    if protocol == TCP:
        made = f.tcp(source, target, src, dst, *numbers, flags=random.choice(("S", "A")))
    elif protocol == UDP:
        made = f.udp(source, target, src, dst, *numbers)
    elif protocol == (1 if version == 4 else 58):
        return f.icmp(source, target, src, dst, random.choice((0, 5, 8, 9, 128, 129, 134, 135, 137)))
    else:
        return f.ip(source, target, src, dst, protocol)
    return _perhaps_a_fragment(random, made)


def _near(random: Random, network: Network | None, version: int) -> f.Address:
    """An address of a network: an edge of it, or the one just outside."""
    if network is None or random.random() < 0.05:
        return random.choice([ip for text in ADDRESSES if (ip := ip_address(text)).version == version])
    first, last = int(network.network_address), int(network.broadcast_address)
    number = random.choice((first, first + 1, last, last, first - 1, last + 1))
    low, high = (0, 2**network.max_prefixlen - 1)
    kind = type(network.network_address)
    return kind(min(max(number, low), high))


def _port_near(random: Random, span: PortRange | None) -> int:
    if span is None:
        return random.choice(PORTS)
    return min(max(random.choice((span.first, span.last, span.first - 1, span.last + 1)), 0), 65535)


def _perhaps_a_fragment(random: Random, made: f.Frame) -> f.Frame:
    part = random.random()
    if part < 0.07:
        return later_fragment(made)
    return replace(made, fragment=f.Fragment.FIRST) if part < 0.14 else made


def _payload(random: Random, source: str, target: str) -> f.Frame:
    version = random.choice((4, 4, 6))
    addresses = [ip for text in ADDRESSES if (ip := ip_address(text)).version == version]
    src, dst = random.choice(addresses), random.choice(addresses)
    match random.choice(("tcp", "udp", "udp", "icmp", "other", "arp", "arp", "raw")):
        case "arp":
            four = [ip for text in ADDRESSES if (ip := ip_address(text)).version == 4]
            return replace(
                f.arp_request(source, four[0], random.choice(four)),
                dst_mac=random.choice((f.BROADCAST, target)),
            )
        case "raw":
            return f.raw(source, target, random.choice((0x88CC, *f.TAG_TYPES)))
        case "icmp":
            return f.icmp(source, target, src, dst, random.choice((0, 5, 8, 9, 128, 134, 135, 137)))
        case "other":
            return f.ip(source, target, src, dst, random.choice((2, 47, 50)))
        case "tcp":
            flags = random.choice(("S", "A", "R"))
            made = f.tcp(source, target, src, dst, random.choice(PORTS), random.choice(PORTS), flags=flags)
        case _:
            made = f.udp(source, target, src, dst, random.choice(PORTS), random.choice(PORTS))
    return _perhaps_a_fragment(random, made)


# ------------------------------------------------------------------ policies


def changed(random: Random, policy: str) -> str:
    """A policy with one to five changes: rules removed, turned round, moved, narrowed, or new."""
    document: dict[str, Any] = yaml.load(policy, Loader=yaml.CSafeLoader)
    document = {kind: rules or [] for kind, rules in document.items()}
    targets = [rule["adapters"] for rules in document.values() for rule in rules]
    for number in range(random.randint(1, 5)):
        kind = random.choice(("extended_acls", "acls"))
        rules = document[kind]
        rule = random.choice(rules) if rules else None
        match random.choice(("remove", "turn", "weight", "ports", "new")):
            case "remove" if rule:
                rules.remove(rule)
            case "turn" if rule and rule["action"] != "Meter" and not rule.get("stateful"):
                rule["action"] = "Deny" if rule["action"] == "Allow" else "Allow"
            case "weight" if rule and "weight" in rule:
                rule["weight"] = random.randint(1, 65535)
            case "ports" if rule and "local_port" in rule:
                rule["local_port"] = _ports(random)
            case "new" if targets:
                rules.append(
                    {"name": f"new {number}", "adapters": random.choice(targets)} | _rule(random, kind)
                )
    return json.dumps(document, ensure_ascii=False, indent=1)


def _rule(random: Random, kind: str) -> Document:
    action, direction = random.choice(("Allow", "Deny")), str(random.choice(list(Direction)))
    prefix = str(ip_network(random.choice(PREFIXES), strict=False))
    side = random.choice(("local", "remote"))
    rule: Document = {"action": action, "direction": direction, f"{side}_ip_address": prefix}
    if kind == "extended_acls":
        rule |= {"weight": random.randint(1, 65535), "protocol": random.choice(("TCP", "UDP"))}
        if action == "Allow" and random.random() < 0.5:
            rule |= {"stateful": True, "idle_session_timeout": 30}
    return rule
