"""Two switches in words, and the controller's transactions with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vswitch.controller import transaction
from vswitch.controller.transaction import Transactions
from vswitch.errors import (
    SwitchError,
)
from vswitch.inforce import held_mark
from vswitch.model import load_site
from vswitch.openvswitch import TrackedConnection
from vswitch.pipeline import LEARNED_COOKIE, MARK_COOKIE, MARK_TABLE, compile_site, mark_of

__all__ = [
    "FIRST",
    "LAYOUT",
    "NEW",
    "OLD",
    "SECOND",
    "SWITCHES",
    "FakeSwitch",
    "TransactionRig",
    "fail",
    "live",
    "rig",
]

LAYOUT = """
name: pair
networks: {lan: {}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan}}
    vms: {a: {adapters: [{switch: vs, addresses: [10.0.0.1/24]}]}}
  hv02:
    switches: {vs: {type: External, network: lan}}
    vms: {b: {adapters: [{switch: vs, addresses: [10.0.0.2/24]}]}}
"""
OLD = """
extended_acls:
  - {name: old, adapters: [a, b], direction: Inbound, action: Deny, remote_ip_address: 10.0.0.9, weight: 9}
  - {name: talk, adapters: [a, b], direction: Inbound, action: Allow, protocol: TCP, local_port: 80,
     remote_ip_address: 10.0.0.7, weight: 20, stateful: true, idle_session_timeout: 30}
"""
NEW = """
extended_acls:
  - {name: new, adapters: [a, b], direction: Inbound, action: Deny, remote_ip_address: 10.0.0.8, weight: 9}
  - {name: other, adapters: [a, b], direction: Inbound, action: Allow, protocol: TCP, local_port: 81,
     remote_ip_address: 10.0.0.7, weight: 20, stateful: true, idle_session_timeout: 60}
"""
FIRST, SECOND = 0x1_0001, 0x2_0001  # datapath ids
SWITCHES = {FIRST: "hv01/vs", SECOND: "hv02/vs"}


@dataclass
class FakeSwitch:
    """An Open vSwitch in words: holds cookies, zones and connections, and fails where it is told to."""

    held: dict[int, str] = field(default_factory=dict)
    zones: dict[int, int] = field(default_factory=dict)
    live: list[TrackedConnection] = field(default_factory=list)
    held_meters: dict[int, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)  # commands that changed meters, and bundles
    bundles: int = 0
    before: Callable[[str], None] = lambda what: None  # before anything is done
    after: Callable[[str], None] = lambda what: None  # after a bundle took effect

    def match_fragments(self, bridge: str) -> None:
        assert bridge == "br0"

    def meters(self, bridge: str) -> dict[int, str]:
        assert bridge == "br0"
        return dict(self.held_meters)

    def change_meters(self, bridge: str, changes: Iterable[tuple[str, str]]) -> None:
        assert bridge == "br0"
        for command, text in changes:
            self.before("meters")
            self.said.append(command)
            number = int(text.partition(",")[0].removeprefix("meter="))
            if command == "del-meter":
                del self.held_meters[number]
            else:
                assert (number in self.held_meters) == (command == "mod-meter")
                self.held_meters[number] = text

    def set_zone_timeouts(self, zones: Mapping[int, int]) -> None:
        self.before("zones")
        self.zones = dict(zones)

    def counters(self, bridge: str) -> dict[int, tuple[int, int]]:
        assert bridge == "br0"
        self.before("counters")
        return dict.fromkeys((*self.held, LEARNED_COOKIE), (0, 0))

    def dump_flows(self, bridge: str, table: int) -> list[Any]:
        assert (bridge, table) == ("br0", MARK_TABLE)
        self.before("mark")
        actions = self.held.get(MARK_COOKIE, "").partition("actions=")[2]
        return [SimpleNamespace(cookie=MARK_COOKIE, actions=actions)] if actions else []

    def flows(self) -> set[int]:
        """The cookies it holds, the mark's left out."""
        return set(self.held) - {MARK_COOKIE}

    def bundle(self, bridge: str, lines: str) -> None:
        assert bridge == "br0"
        self.before("bundle")
        self.bundles += 1
        self.said.append("bundle")
        for line in lines.splitlines():
            verb, rest = line.split(" ", 1)
            match = re.search(r"cookie=(0x[0-9a-f]+)", rest)
            assert match
            cookie = int(match[1], 16)
            if verb == "delete":
                self.held.pop(cookie, None)
            else:
                self.held[cookie] = rest
        self.after("bundle")

    def settle(self) -> None:
        self.before("settle")

    def connections(self) -> list[TrackedConnection]:
        self.before("connections")
        return list(self.live)

    def flush_connections(self, zone: int, unwanted: Callable[[TrackedConnection], bool]) -> int:
        self.before("flush")
        ended = [c for c in self.live if c.zone == zone and unwanted(c)]
        self.live = [c for c in self.live if c not in ended]
        return len(ended)


@dataclass
class TransactionRig:
    transactions: Transactions
    switches: dict[str, FakeSwitch]
    rundir: Path

    def apply(self, text: str) -> Any:
        return self.transactions.apply(["p.yaml"], {"p.yaml": text}).to_dict()

    def in_force(self) -> str:
        """The policy a controller would find when it comes back."""
        data = json.loads((self.rundir / "site.json").read_text())
        return str(data["texts"]["p.yaml"])

    def assert_holds(self, text: str) -> None:
        """Every switch, and the controller's memory of them, is as after a fresh start with this policy."""
        site = load_site("l.yaml", ("p.yaml",), read={"l.yaml": LAYOUT, "p.yaml": text}.__getitem__)
        for name, program in compile_site(site).items():
            assert self.switches[name].flows() == program.switches["br0"].flows.keys(), name
            assert held_mark(self.switches[name], "br0") == mark_of(program.switches["br0"].flows), name  # type: ignore[arg-type]
            assert self.switches[name].zones == program.zones, name
        assert self.in_force() == text
        assert self.apply(text)["flows_changed"] == 0


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TransactionRig:
    """Two switches that hold the policy OLD."""
    made: dict[str, FakeSwitch] = {}
    monkeypatch.setattr(transaction, "_PAUSE", 0.01)
    monkeypatch.setattr(transaction, "_SECOND_LOOK", 0.01)
    monkeypatch.setattr(
        transaction, "SwitchClient", lambda path: made.setdefault(f"hv0{int(path.name) + 1}", FakeSwitch())
    )
    sources = {"layout": "l.yaml", "texts": {"l.yaml": LAYOUT, "p.yaml": OLD}, "policies": ["p.yaml"]}
    (tmp_path / "site.json").write_text(json.dumps(sources))
    transactions = Transactions(tmp_path)
    for datapath_id in SWITCHES:
        transactions.connected(datapath_id)
    rig = TransactionRig(transactions, made, tmp_path)
    rig.assert_holds(OLD)
    return rig


def fail(*steps: str, times: int = 1000) -> Callable[[str], None]:
    """Something that raises SwitchError at these steps, so many times."""
    left = [times]

    def hook(step: str) -> None:
        if step in steps and left[0]:
            left[0] -= 1
            raise SwitchError(f"no {step} today", hint="look at its log")

    return hook


def live(rig: TransactionRig, name: str, mark: int | None = None) -> None:
    """Give a switch a live session of the policy in force, or one with this mark."""
    program = rig.transactions._programs[name]
    ((zone, own),) = program.marks
    rig.switches[name].live.append(
        TrackedConnection(
            zone, "tcp", "10.0.0.7", "10.0.0.1", 1, 80, own if mark is None else mark, 30, "", ""
        )
    )
