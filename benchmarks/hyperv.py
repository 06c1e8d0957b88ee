"""What planning for Hyper-V hosts costs, without the network."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from vswitch.errors import Origin
from vswitch.hyperv.desired import Desired, Rule, Wanted
from vswitch.hyperv.entries import Entry, ExtendedEntry, to_host
from vswitch.hyperv.plan import plan_host
from vswitch.hyperv.semantic import Acls, semantic_diff
from vswitch.hyperv.state import read_state, record_of
from vswitch.model.types import Action, Direction

DENY = ExtendedEntry(Direction.INBOUND, 1, Action.DENY)
RULE = Rule("rule", Origin("policy.yaml", 1, 1))


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
                "extendedAcls": [to_host(entry) for entry in entries],
            }
            for n in range(adapters)
        ],
        "records": [record_of(f"a{n}", "policy.yaml", entries) for n in range(adapters)],
    }
    return dict(json.loads(json.dumps(found)))


def plan(adapters: int, rules: int) -> float:
    """Seconds from the state as received to a plan with order, effects and JSON.

    Every adapter has `rules` rules, of which a seventh changes.
    """
    document = _state(adapters, rules)
    wanted: dict[Entry, Rule | None] = dict.fromkeys(_rules(rules, changed=True), RULE)
    began = time.perf_counter()
    state = read_state(document)
    desired = Desired(tuple(Wanted(adapter, wanted) for adapter in state.adapters), ("policy.yaml",))
    found = plan_host(desired, state, plan_id="benchmark", created_at="2026-01-01T00:00:00Z")
    found.as_dict()
    found.wire()
    return time.perf_counter() - began


def compare(rules: int) -> float:
    """Seconds to compare two policies of so many random rules, the specific ones above the broad ones."""
    policies = [_random_policy(random.Random(seed), rules) for seed in (1, 2)]
    began = time.perf_counter()
    semantic_diff(Acls.of(policies[0]), Acls.of(policies[1]), Direction.INBOUND)
    return time.perf_counter() - began


def _random_policy(pick: random.Random, count: int) -> list[Entry]:
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
