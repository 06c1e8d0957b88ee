"""What planning for Hyper-V hosts costs, without the network."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

from vswitch.acl_entries import Acls, BasicEntry, Entry, ExtendedEntry, to_host
from vswitch.compare.acl_diff import semantic_diff
from vswitch.errors import Origin
from vswitch.hyperv.host.host_state import read_state
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.planning.desired import Desired, PolicyRule, Wanted
from vswitch.hyperv.planning.host_plan import plan_host
from vswitch.model.types import Action, BasicAction, Direction, Side

DENY = ExtendedEntry(Direction.INBOUND, 1, Action.DENY)
RULE = PolicyRule("rule", Origin("policy.yaml", 1, 1))


def _rules(count: int, *, changed: bool) -> list[Entry]:
    """Stateful allows for many prefixes, and a deny of the rest; every seventh may have another port."""
    return [
        *(
            ExtendedEntry(
                Direction.INBOUND,
                60000 - 10 * number,
                Action.ALLOW,
                "TCP",
                remote=f"10.{number // 250}.{number % 250}.0/24",
                local_port=str(1000 + number + (changed and number % 7 == 0)),
                stateful=True,
                timeout=300,
            )
            for number in range(count)
        ),
        DENY,
    ]


def _state(adapters: int, rules: int) -> dict[str, Any]:
    entries = _rules(rules, changed=False)
    found = {
        "schema": 1,
        "computer": "HV01",
        "vms": [{"Id": f"vm{n}", "Name": f"vm{n}", "State": 2} for n in range(adapters)],
        "adapters": [
            {
                "Id": f"a{n}",
                "Name": "Network Adapter",
                "VMId": f"vm{n}",
                "VMName": f"vm{n}",
                "acls": [],
                "extendedAcls": [to_host(entry) for entry in entries],
            }
            for n in range(adapters)
        ],
        "records": [OwnershipRecord.of(f"a{n}", "policy.yaml", entries).to_dict() for n in range(adapters)],
    }
    return dict(json.loads(json.dumps(found)))


def plan(adapters: int, rules: int) -> float:
    """Seconds from the state as received to a plan with order, effects and JSON.

    Every adapter has `rules` rules, of which a seventh changes.
    """
    document = _state(adapters, rules)
    wanted: dict[Entry, PolicyRule | None] = dict.fromkeys(_rules(rules, changed=True), RULE)
    began = time.perf_counter()
    state = read_state(document)
    desired = Desired(tuple(Wanted(adapter, wanted) for adapter in state.adapters), ("policy.yaml",))
    found = plan_host(desired, state, plan_id="benchmark", created_at="2026-01-01T00:00:00Z")
    found.as_dict()
    found.document().to_dict()
    return time.perf_counter() - began


def compare(rules: int, shape: str = "usual") -> float:
    """Seconds to compare two policies of so many random rules, by the processor's time."""
    make = SHAPES[shape]
    old, new = (Acls.of(make(random.Random(seed), rules)) for seed in (1, 2))
    began = time.process_time()
    semantic_diff(old, new, Direction.INBOUND)
    return time.process_time() - began


def compare_edited(rules: int, edit: str, shape: str = "two-of-four") -> float:
    """The same for a policy and what an edit makes of it."""
    pick = random.Random(1)
    old = SHAPES[shape](pick, rules)
    new = [entry for entry in EDITS[edit](pick, old) if isinstance(entry, ExtendedEntry)]
    edited = [entry._replace(weight=60000 - rank) for rank, entry in enumerate(new)]
    policies = Acls.of(old), Acls.of(edited)
    began = time.process_time()
    semantic_diff(*policies, Direction.INBOUND)
    return time.process_time() - began


def _prefix(pick: random.Random, shortest: int = 8, longest: int = 32) -> str:
    length = pick.randint(shortest, longest)
    return str(IPv4Network((pick.getrandbits(length) << (32 - length), length)))


def _ports(pick: random.Random, widest: int = 65535) -> str:
    low = pick.randint(0, 65535)
    return f"{low}-{min(65535, low + pick.randint(1, widest))}"


def _shaped(pick: random.Random, count: int, protocols: str, *sometimes: float) -> list[Entry]:
    """Rules with prefixes and port ranges on both sides, each field with a probability of its own."""
    found: list[Entry] = []
    for rank in range(count):
        protocol = pick.choice(protocols.split())
        made = {
            "local": _prefix(pick),
            "remote": _prefix(pick),
            "local_port": _ports(pick),
            "remote_port": _ports(pick),
        }
        fields: dict[str, Any] = {
            name: text
            for (name, text), chance in zip(made.items(), sometimes, strict=True)
            if pick.random() < chance and ("port" not in name or protocol in ("TCP", "UDP"))
        }
        entry = ExtendedEntry(Direction.INBOUND, 60000 - rank, pick.choice(list(Action)), protocol, **fields)
        if entry.action is Action.ALLOW and protocol in ("TCP", "UDP") and pick.random() < 0.3:
            entry = entry._replace(stateful=True, timeout=300)
        found.append(entry)
    return found


def _two_of_four(pick: random.Random, count: int) -> list[Entry]:
    """Rules that restrict two of the address and port fields, so that nearly all cross."""
    found: list[Entry] = []
    for rank in range(count):
        made = {
            "local": _prefix(pick),
            "remote": _prefix(pick),
            "local_port": _ports(pick),
            "remote_port": _ports(pick),
        }
        fields: dict[str, Any] = {name: made[name] for name in pick.sample(sorted(made), 2)}
        found.append(
            ExtendedEntry(Direction.INBOUND, 60000 - rank, pick.choice(list(Action)), "TCP", **fields)
        )
    return found


def _strips(pick: random.Random, count: int) -> list[Entry]:
    """Narrow in one field, wide in the other: each of one half crosses each of the other."""
    found: list[Entry] = []
    for rank in range(count):
        low = pick.randint(0, 65000)
        narrow, wide = f"{low}-{low + pick.randint(1, 60)}", f"{pick.randint(0, 500)}-65000"
        ports: dict[str, Any] = {"local_port": narrow, "remote_port": wide}
        if rank % 2:
            ports = {"local_port": wide, "remote_port": narrow}
        action = pick.choice(list(Action))
        found.append(ExtendedEntry(Direction.INBOUND, 60000 - rank, action, "TCP", **ports))
    return found


def _nested(pick: random.Random, count: int) -> list[Entry]:
    """Prefixes of few addresses, one within the other, and port ranges that cross."""
    hosts = ("10.1.2.3", "10.1.255.4", "11.0.0.1")
    found: list[Entry] = []
    for rank in range(count):
        lengths = pick.randint(1, 32), pick.randint(1, 32)
        local, remote = (str(IPv4Network((pick.choice(hosts), size), strict=False)) for size in lengths)
        action = pick.choice(list(Action))
        ports = _ports(pick), _ports(pick)
        found.append(ExtendedEntry(Direction.INBOUND, 60000 - rank, action, "TCP", local, remote, *ports))
    return found


def _with_basic(pick: random.Random, count: int) -> list[Entry]:
    """As many basic entries as extended ones; both have to pass."""
    basic: dict[object, Entry] = {}
    while len(basic) < count:
        action = pick.choice((BasicAction.ALLOW, BasicAction.DENY))
        entry = BasicEntry(Direction.INBOUND, action, pick.choice(list(Side)), _prefix(pick))
        basic[entry.key] = entry
    return [*_random_policy(pick, count), *basic.values()]


def _random_policy(pick: random.Random, count: int) -> list[Entry]:
    """Allows and denies by remote prefix and port, the specific ones above the broad ones."""
    rules: list[tuple[float, ExtendedEntry]] = []
    while len(rules) < count:
        protocol = pick.choice(["TCP", "TCP", "UDP", "ANY"])
        low = pick.randint(1, 60000)
        port = pick.choice(["ANY", str(low), f"{low}-{low + pick.randint(1, 5000)}"])
        remote = pick.choice(
            [
                "ANY",
                f"10.{pick.randint(0, 255)}.0.0/16",
                f"10.{pick.randint(0, 255)}.{pick.randint(0, 255)}.0/24",
                f"10.{pick.randint(0, 3)}.{pick.randint(0, 255)}.{pick.randint(0, 255)}",
            ]
        )
        entry = ExtendedEntry(
            Direction.INBOUND,
            1,
            pick.choice(list(Action)),
            protocol,
            remote=remote,
            local_port="ANY" if protocol == "ANY" else port,
        )
        broad = sum(text == "ANY" for text in (entry.protocol, entry.remote, entry.local_port))
        if broad < 2:
            rules.append((broad + pick.random() * 0.9, entry))
    rules.sort(reverse=True)
    return [DENY, *(entry._replace(weight=2 + rank) for rank, (_, entry) in enumerate(rules))]


SHAPES: dict[str, Callable[[random.Random, int], list[Entry]]] = {
    "usual": _random_policy,
    "crossing": lambda pick, count: _shaped(pick, count, "TCP", 1, 1, 1, 1),
    "protocols": lambda pick, count: _shaped(pick, count, "ANY ANY TCP UDP 1 47 50", 1, 1, 1, 1),
    "port-ranges": lambda pick, count: _shaped(pick, count, "TCP", 0, 0, 1, 1),
    "strips": _strips,
    "nested": _nested,
    "with-basic": _with_basic,
    "two-of-four": _two_of_four,
}


def _flipped(entry: Entry) -> Entry:
    assert isinstance(entry, ExtendedEntry)
    return entry._replace(action=Action.ALLOW if entry.action is Action.DENY else Action.DENY)


def replace_field(entry: ExtendedEntry, name: str, value: Any) -> ExtendedEntry:
    return entry._replace(**{name: value})


def _halves(entry: Entry) -> list[Entry]:
    """Two rules that match together what one does."""
    assert isinstance(entry, ExtendedEntry)
    for side in ("local", "remote"):
        low, dash, high = getattr(entry, f"{side}_port").partition("-")
        if dash and low != high:
            middle = (int(low) + int(high)) // 2
            return [
                replace_field(entry, f"{side}_port", text)
                for text in (f"{low}-{middle}", f"{middle + 1}-{high}")
            ]
        prefix = getattr(entry, side)
        if prefix != "ANY" and not prefix.endswith("/32"):
            return [replace_field(entry, side, str(part)) for part in IPv4Network(prefix).subnets()]
    return [entry]


def _some(pick: random.Random, old: list[Entry], count: int) -> set[int]:
    return set(pick.sample(range(len(old)), count))


def _with_changes(count: int) -> Callable[[random.Random, list[Entry]], list[Entry]]:
    """Other rules in place of so many."""

    def edit(pick: random.Random, old: list[Entry]) -> list[Entry]:
        chosen, fresh = _some(pick, old, count), _two_of_four(pick, len(old))
        return [fresh[at] if at in chosen else entry for at, entry in enumerate(old)]

    return edit


def _with_insertions(pick: random.Random, old: list[Entry]) -> list[Entry]:
    new = [*old]
    for entry in _two_of_four(pick, 100):
        new.insert(pick.randrange(len(new)), entry)
    return new


def _with_flips(pick: random.Random, old: list[Entry]) -> list[Entry]:
    chosen = _some(pick, old, 100)
    return [_flipped(entry) if at in chosen else entry for at, entry in enumerate(old)]


def _without_some(pick: random.Random, old: list[Entry]) -> list[Entry]:
    chosen = _some(pick, old, 100)
    return [entry for at, entry in enumerate(old) if at not in chosen]


def _with_swaps(pick: random.Random, old: list[Entry]) -> list[Entry]:
    """Each rule in 50 pairs in the other's place, and 400 pairs of neighbours swapped."""
    new = [*old]
    pairs = [pick.sample(range(len(old)), 2) for _ in range(50)]
    pairs += [[at, at + 1] for at in pick.sample(range(len(old) - 1), 400)]
    for one, other in pairs:
        new[one], new[other] = new[other], new[one]
    return new


EDITS: dict[str, Callable[[random.Random, list[Entry]], list[Entry]]] = {
    "1-changed": _with_changes(1),
    "10-changed": _with_changes(10),
    "100-changed": _with_changes(100),
    "100-turned": _with_flips,
    "100-inserted": _with_insertions,
    "100-deleted": _without_some,
    "swapped": _with_swaps,
    "all-split": lambda _, old: [part for entry in old for part in _halves(entry)],
    "last-100-left-out": lambda _, old: old[:-100],
    "last-half-left-out": lambda _, old: old[: len(old) // 2],
    "1000-appended": lambda pick, old: [*old, *_two_of_four(pick, 1000)],
}
