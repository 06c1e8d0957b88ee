"""A host is imported, its policy changed, planned, applied over WinRM and verified; verdicts agree."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.modelled_host.as_site import site_of
from tests.support.modelled_host.circle import record_of
from tests.support.modelled_host.host import HypervHost, blank_state
from tests.support.modelled_host.states import EXTERNAL, adapter, basic, extended, switch, vm
from tests.support.sites import rules_of
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from tests.support.winrm.runs import transport_to
from vswitch.errors import HostError, InputError
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_policy, plan_rollback
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.host.host_state import read_state
from vswitch.hyperv.importing.importer import Imported, import_hosts
from vswitch.hyperv.planning.desired import host_of
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.hyperv.winrm.shipped_module import module_text
from vswitch.model import load_site
from vswitch.model.site import Site
from vswitch.semantics import Frame, process
from vswitch.semantics.frame import icmp_echo, tcp, udp

VLAN = {
    "OperationMode": 1,
    "AccessVlanId": 10,
    "NativeVlanId": 0,
    "AllowedVlanIdList": [],
    "PrivateVlanMode": 0,
    "PrimaryVlanId": 0,
    "SecondaryVlanId": 0,
    "SecondaryVlanIdList": [],
}
PRIVATE = VLAN | {"OperationMode": 3, "PrivateVlanMode": 1, "PrimaryVlanId": 200, "SecondaryVlanId": 201}
COMMUNITY = PRIVATE | {"PrivateVlanMode": 2, "SecondaryVlanId": 202}


def a_host() -> dict[str, Any]:
    """Two switches, guests in all VLAN modes, two VMs of one name, rules of every kind."""
    state = blank_state("HV01")
    state["switches"] = [switch("vs-ext", EXTERNAL), switch("Störnetz 試験/2")]
    state["vms"] = [vm("web01"), vm("a'; Stop-VM *"), vm("db01"), vm("pv1"), vm("pv2"), vm("off", 3)]
    deny = extended("Deny", "Inbound", 1)
    allow_https = extended(
        "Allow", "Inbound", 500, Protocol="TCP", LocalPort="443", Stateful=True, IdleSessionTimeout=300
    )
    state["adapters"] = [
        adapter("web01", "vs-ext", 1, "10.0.0.11", "fe80::1", rules=[deny, allow_https], vlan=VLAN),
        adapter(
            "a'; Stop-VM *",
            "vs-ext",
            2,
            "10.0.0.12",
            "2001:db8::12",
            name="[ab]* $(Get-VM)",
            acls=[
                basic("Allow", "Inbound", "Remote", 6, "ANY"),
                basic("Deny", "Inbound", "Remote", 2, "10.0.0.11"),
            ],
            vlan=VLAN,
            MacAddressSpoofing=0,
        ),
        adapter(
            "db01",
            "vs-ext",
            3,
            "10.0.0.13",
            vlan=VLAN,
            rules=[extended("Deny", "Outbound", 7, Protocol="UDP")],
        ),
        adapter("db01", "Störnetz 試験/2", 4, "10.0.0.13", name="Network Adapter"),
        adapter("pv1", "vs-ext", 5, "10.2.0.1", vlan=PRIVATE),
        adapter("pv2", "vs-ext", 6, "10.2.0.2", vlan=COMMUNITY, DhcpGuard=0, StormLimit=1000),
        adapter("off", None, 7, rules=[deny]),
        adapter(None, "vs-ext", 8, "192.168.1.5", name="vs-ext", rules=[extended("Allow", "Inbound", 9)]),
    ]
    return state


def frames(site: Site) -> Iterator[tuple[str, Frame]]:
    """(sender's MAC, frame) between all adapters that share a switch and an IP version."""
    for one, other in product(site.adapters, repeat=2):
        if one is other or one.switch != other.switch:
            continue
        for a, b in product(one.addresses, other.addresses):
            if a.version != b.version:
                continue
            ends = (one.mac, other.mac, ip_address(str(a.ip)), ip_address(str(b.ip)))
            for port in (80, 443, 444, 1433):
                yield one.mac, tcp(*ends, 50000, port)
                yield one.mac, tcp(*ends, port, 50000)
            yield one.mac, udp(*ends, 67, 68)
            yield one.mac, udp(*ends, 50000, 53)
            yield one.mac, icmp_echo(*ends)


def verdict(site: Site, mac: str, frame: Frame) -> tuple[frozenset[str], frozenset[str]]:
    """Which adapters get the frame (by MAC), and why others do not; numbers and names may differ."""
    sender = next(adapter for adapter in site.adapters if adapter.mac == mac)
    home = site.switch[f"{sender.host}/{sender.switch}"]
    macs = {adapter.number: adapter.mac for adapter in site.adapters_of(home)}
    result = process(site, home, sender.number, frame)
    return (
        frozenset(macs.get(number, "uplink") for number in result.outputs),
        frozenset(str(drop.reason) for drop in result.drops),
    )


def assert_same_verdicts(one: Site, other: Site) -> None:
    asked = list(frames(one))
    assert len(asked) > 100
    for mac, frame in asked:
        assert verdict(one, mac, frame) == verdict(other, mac, frame), f"{frame}"


def load(layout: str, policy: str) -> Site:
    return load_site("layout.yaml", read=lambda path: {"layout.yaml": layout, "policy.yaml": policy}[path])


def write_round_trips(endpoint: WinrmEndpoint) -> int:
    return endpoint.count("Create")


def test_the_full_circle(tmp_path: Path) -> None:
    host = HypervHost(a_host())
    with WinrmEndpoint(host_handler(host)) as endpoint:
        transport = transport_to(endpoint, module=module_text(), name="hv01")
        target = RemoteHost("hv01", transport, Store("hv01", tmp_path))

        # Import: one round trip; what comes out is the host, for every frame.
        state = target.read()
        assert endpoint.count("Create") == 1
        imported = import_hosts([("hv01", state)], layout_file="layout.yaml", policy_file="policy.yaml")
        site = load(imported.layout, imported.policy)
        assert_same_verdicts(site, site_of(host.state()))

        # Nothing to do; taking over what was imported writes no entry.
        plan = plan_policy(target, site)
        assert not plan.changes
        adopted = plan_policy(target, site, adopt=True)
        assert not any(each.writes for each in adopted.adapters)
        before = entries_on(host)
        target.apply(adopted)
        assert entries_on(host) == before

        # Change the policy: plan, apply (two round trips), verify.
        changed = imported.policy.replace("local_port: 443", "local_port: 443-444").replace(
            "extended_acls:",
            'extended_acls:\n  - {name: mssql, adapters: [db01, "a\'; Stop-VM [*]"], direction: Inbound,'
            " action: Deny, weight: 77, protocol: TCP, local_port: 1433}",
        )
        new_site = load(imported.layout, changed)
        trips = endpoint.count("Create")
        plan = plan_policy(target, new_site)
        assert plan.changes
        assert plan.questions == []
        done = target.apply(plan)
        assert endpoint.count("Create") - trips == 2
        assert done.steps > 0
        assert not plan_policy(target, new_site).changes
        assert_same_verdicts(new_site, site_of(host.state()))

        # And back.
        back = plan_rollback(target)
        target.apply(back)
        assert entries_on(host) == before
        assert_same_verdicts(site, site_of(host.state()))


@contextmanager
def imported_host(folder: Path) -> Iterator[tuple[HypervHost, RemoteHost, Imported]]:
    """A modelled host behind WinRM, and what an import makes of it."""
    host = HypervHost(a_host())
    with WinrmEndpoint(host_handler(host)) as endpoint:
        transport = transport_to(endpoint, module=module_text(), name="hv01")
        target = RemoteHost("hv01", transport, Store("hv01", folder))
        states = [("hv01", target.read())]
        yield host, target, import_hosts(states, layout_file="layout.yaml", policy_file="policy.yaml")


def entries_on(host: HypervHost) -> dict[str, list[str]]:
    """All entries of the host by adapter, as comparable texts."""
    return {each["Id"]: host.keys(each["Id"]) for each in host.state()["adapters"]}


def test_rollback_to_an_earlier_plan(tmp_path: Path) -> None:
    with imported_host(tmp_path) as (host, target, imported):
        nothing = entries_on(host)
        ids: list[str] = []
        rule = "\n  - {{name: rule-{0}, adapters: db01, direction: Inbound, action: Deny, weight: {0}}}"
        policy = imported.policy
        for weight in (100, 200, 300):
            policy = policy.replace("extended_acls:", "extended_acls:" + rule.format(weight), 1)
            plan: HostPlan = plan_policy(target, load(imported.layout, policy))
            ids.append(target.apply(plan).plan_id)
        target.apply(plan_rollback(target, ids[1]))
        weights = [
            raw["Weight"]
            for each in host.state()["adapters"]
            for raw in each["extendedAcls"]
            if raw["Weight"] >= 100
        ]
        assert sorted(set(weights)) == [100, 500]
        target.apply(plan_rollback(target, ids[0]))
        assert entries_on(host) == nothing


def test_each_rollback_goes_back_one_plan_more(tmp_path: Path) -> None:
    """A second one must not bring back what the first one took away."""
    with imported_host(tmp_path) as (host, target, imported):
        rule = "\n  - {{name: rule-{0}, adapters: db01, direction: Inbound, action: Deny, weight: {0}}}"
        policy, seen = imported.policy, [entries_on(host)]
        for weight in (100, 200, 300):
            policy = policy.replace("extended_acls:", "extended_acls:" + rule.format(weight), 1)
            target.apply(plan_policy(target, load(imported.layout, policy)))
            seen.append(entries_on(host))
        for before in seen[-2::-1]:
            undo = plan_rollback(target)
            target.apply(undo)
            assert entries_on(host) == before
        with pytest.raises(HostError, match="no plan is in force"):
            plan_rollback(target)
        # By name, a rollback can be taken back as well.
        target.apply(plan_rollback(target, undo.plan_id))
        assert entries_on(host) == seen[1]


def test_a_rollback_after_a_repair_takes_the_repair_back_and_then_the_change(tmp_path: Path) -> None:
    with imported_host(tmp_path) as (host, target, imported):
        first = entries_on(host)
        rules = "".join(
            f"\n  - {{name: rule-{each}, adapters: db01, direction: Inbound, action: Deny, weight: {each}}}"
            for each in (100, 200)
        )
        policy = imported.policy.replace("extended_acls:", "extended_acls:" + rules, 1)
        target.apply(plan_policy(target, load(imported.layout, policy)))
        applied = entries_on(host)
        owner, entry = next(
            (each, entry)
            for each in host.state()["adapters"]
            for entry in each["extendedAcls"]
            if each["VMName"] == "db01" and entry["Weight"] == 100
        )
        host.remove_entry(owner["Id"], "extended", entry)
        by_hand = entries_on(host)
        target.apply(plan_policy(target, load(imported.layout, policy)))
        assert entries_on(host) == applied
        target.apply(plan_rollback(target))
        assert entries_on(host) == by_hand
        target.apply(plan_rollback(target))
        assert entries_on(host) == first


def test_importing_again_gives_the_same_names() -> None:
    state = read_state(a_host())
    shuffled = copy.deepcopy(a_host())
    for each in shuffled["adapters"]:
        each["extendedAcls"].reverse()
        each["acls"].reverse()
    texts = [
        import_hosts([("hv01", each)], layout_file="layout.yaml", policy_file="policy.yaml")
        for each in (state, read_state(shuffled))
    ]
    assert texts[0] == texts[1]


def texts_of(state: dict[str, Any]) -> tuple[str, str]:
    found = import_hosts([("hv01", read_state(state))], layout_file="layout.yaml", policy_file="policy.yaml")
    return found.layout, found.policy


@pytest.mark.parametrize(
    "missing",
    [
        "vlan",
        "isolation",
        "IPAddresses",
        "MacAddress",
        "StormLimit",
        "BandwidthSetting",
    ],
)
def test_missing_columns_do_not_matter(missing: str) -> None:
    """The lists of entries are none: the module makes them, and without them an adapter would seem empty."""
    state = a_host()
    for each in state["adapters"]:
        del each[missing]
    rules, all_there = (
        {each.id: sorted(map(record_of, rules_of(each)), key=str) for each in load(*texts_of(host)).adapters}
        for host in (state, a_host())
    )
    assert rules == all_there
    assert sum(map(len, rules.values())) > 4


def test_a_host_that_turns_out_to_be_another_one_is_refused() -> None:
    """An address that leads to the wrong host must not bring one host's policy to another."""
    one, two = (read_state(a_host() | {"computer": name}) for name in ("HV01", "HV02"))
    imported = import_hosts([("hv01", one)], layout_file="layout.yaml", policy_file="policy.yaml")
    text = imported.layout.replace("policies:", "  hv02: {}\npolicies:")
    site = load(text, imported.policy)
    assert host_of(site, one, "hv01.corp.example") == host_of(site, one, "10.0.0.5") == "hv01"
    with pytest.raises(InputError, match="answers as 'hv01' is HV02, another host"):
        host_of(site, two, "hv01")
    with pytest.raises(InputError, match="no host 'hv03'"):
        host_of(site, read_state(a_host() | {"computer": "OTHER"}), "hv03")
