"""Whatever a host holds, what is imported loads; what cannot be written is said."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host import random_states as hyperv_generate
from tests.support.modelled_host.as_site import site_of
from tests.support.modelled_host.circle import meaning
from tests.support.modelled_host.host import blank_state
from tests.support.modelled_host.states import (
    EXTERNAL,
    INTERNAL,
    PRIVATE,
    adapter,
    basic,
    extended,
    switch,
    vm,
)
from tests.support.modelled_host.values import Document
from vswitch.acl_entries import Entry, describe, extended_from_host
from vswitch.errors import InputError, InputErrors
from vswitch.hyperv.host.host_state import read_state, state_from_file
from vswitch.hyperv.importing.importer import Imported, import_hosts
from vswitch.hyperv.importing.rules_read import with_any
from vswitch.hyperv.planning.desired import Desired, PolicyRule, Wanted, desired, host_of
from vswitch.hyperv.planning.host_plan import plan_host
from vswitch.model import load_site
from vswitch.model.site import Site
from vswitch.model.types import PortMirroring

names = st.one_of(
    st.text(min_size=0, max_size=12),
    st.sampled_from(
        [
            "web01",
            "null",
            "On",
            "10.0.0.1",
            "host:x",
            "a/b",
            "- x",
            "{a}",
            "#1",
            "a: b",
            "'",
            '"',
            "*",
            "[a]",
            "é 試",
        ]
    ),
)
addresses = st.sampled_from(
    [
        "10.0.0.0",
        "10.0.0.255",
        "10.0.0.7",
        "fe80::1",
        "2001:db8::5",
        "2001:db8::",
        "169.254.1.1",
        "::1",
        "junk",
        "0.0.0.0",
    ]
)
rules = st.builds(
    extended,
    st.sampled_from(["Allow", "Deny"]),
    st.sampled_from(["Inbound", "Outbound"]),
    st.integers(0, 3),
    Protocol=st.sampled_from(["TCP", "UDP", "ANY", "1", "58", "17"]),
    LocalPort=st.sampled_from(["ANY", "80", "80-90", "80,443"]),
    RemoteIPAddress=st.sampled_from(["ANY", "10.0.0.0/8", "2001:db8::/32", "10.0.0.1/32"]),
    LocalIPAddress=st.sampled_from(["ANY", "10.0.0.0/8", "2001:db8::1"]),
    Stateful=st.booleans(),
    IdleSessionTimeout=st.sampled_from([0, 255, 70000]),
    IsolationID=st.sampled_from([0, 10]),
)
plain = st.builds(
    lambda action, direction, side, kind: basic(action, direction, side, *kind),
    st.sampled_from(["Allow", "Deny", "Meter"]),
    st.sampled_from(["Inbound", "Outbound"]),
    st.sampled_from(["Local", "Remote"]),
    st.sampled_from(
        [
            (1, "00-15-5D-00-00-01"),
            (2, "10.0.0.1"),
            (3, "2001:db8::/32"),
            (4, ""),
            (5, ""),
            (6, "ANY"),
            (7, ""),
            (0, ""),
        ]
    ),
)
vlans = st.fixed_dictionaries(
    {
        "OperationMode": st.integers(0, 3),
        "AccessVlanId": st.sampled_from([0, 10, 4095]),
        "NativeVlanId": st.sampled_from([0, 5]),
        "AllowedVlanIdList": st.sampled_from([[], [1, 2, 3, 10], 7]),
        "PrivateVlanMode": st.integers(1, 3),
        "PrimaryVlanId": st.sampled_from([0, 200]),
        "SecondaryVlanId": st.sampled_from([0, 200, 201]),
        "SecondaryVlanIdList": st.sampled_from([[], [200], [200, 201], [201, 202], [4095]]),
    }
)


bandwidths = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "MaximumBandwidth": st.sampled_from([0, 8, 100_000_000, 10**12, 2**64 - 1]),
            "MinimumBandwidthAbsolute": st.sampled_from([0, 10**9]),
            "MinimumBandwidthWeight": st.sampled_from([0, 100]),
        }
    ),
)


@st.composite
def hosts(draw: st.DrawFn, computer: str = "HV01") -> dict[str, Any]:
    state = blank_state(computer)
    kinds = draw(st.lists(st.tuples(names, st.sampled_from([PRIVATE, INTERNAL, EXTERNAL])), max_size=3))
    state["switches"] = [
        switch(name, kind, Id=f"switch-{i}", IovEnabled=draw(st.booleans()))
        for i, (name, kind) in enumerate(kinds)
    ]
    state["vms"] = [vm(name) | {"Id": f"vm-{i}"} for i, name in enumerate(draw(st.lists(names, max_size=3)))]
    owners = [*state["vms"], None]
    for number in range(draw(st.integers(0, 4))):
        owner = draw(st.sampled_from(owners))
        reachable = [each for each in state["switches"] if owner or each["SwitchType"] != PRIVATE]
        on = draw(st.sampled_from([*reachable, None]))
        state["adapters"].append(
            adapter(
                owner["Name"] if owner else None,
                on["Name"] if on else None,
                draw(st.integers(0, 2)),
                *draw(st.lists(addresses, max_size=2)),
                name=draw(names),
                rules=draw(st.lists(rules, max_size=3)),
                acls=draw(st.lists(plain, max_size=3)),
                vlan=draw(vlans),
                StormLimit=draw(st.sampled_from([0, 1, 2**32 - 1, 2**32, -1])),
                BandwidthSetting=draw(bandwidths),
                Id=f"adapter-{number}",
                VMId=owner["Id"] if owner else None,
                SwitchId=on["Id"] if on else None,
                IsManagementOs=owner is None,
                IeeePriorityTag=draw(st.sampled_from([0, 1, "On", "Off"])),
                PortMirroringMode=draw(st.sampled_from([0, 1, 2, "Source", None])),
                IovWeight=draw(st.sampled_from([0, 0, 50, 100])),
                VFDataPathActive=draw(st.booleans()),
                MacAddress=draw(
                    st.sampled_from(["000000000000", "00155D000001", "00155D000002", "FFFFFFFFFFFF"])
                ),
            )
        )
    return state


def load(imported: Imported) -> Site:
    texts = {"layout.yaml": imported.layout, "policy.yaml": imported.policy}
    return load_site("layout.yaml", read=lambda path: texts[path])


@given(hosts(), hosts("HV02"))
def test_what_is_imported_loads(one: dict[str, Any], other: dict[str, Any]) -> None:
    states = [("hv01", read_state(one)), ("hv02", read_state(other))]
    site = load(import_hosts(states, layout_file="layout.yaml", policy_file="policy.yaml"))
    assert {host.name for host in site.hosts} == {"hv01", "hv02"}


@given(hosts())
def test_no_entry_is_lost_silently(document: dict[str, Any]) -> None:
    """Every entry of a connected adapter that is in the layout is in the policy or named as left out."""
    state = read_state(document)
    imported = import_hosts([("hv01", state)], layout_file="layout.yaml", policy_file="policy.yaml")
    site = load(imported)
    try:
        wanted = desired(site, host_of(site, state, "hv01"), state)
    except InputError as refused:
        # Names and MAC addresses that cannot be told apart are the only reason there is.
        for error in refused.errors if isinstance(refused, InputErrors) else [refused]:
            made_up = "neither by name nor by MAC" in error.message and any(
                note.endswith("is made up") for note in imported.notes
            )
            words = "^several adapters on|are the same adapter on the host"
            assert made_up or re.search(words, error.message), error
        return
    left_out = [note for note in imported.notes if note.startswith("left out of the policy")]
    for each in wanted.adapters:
        missing = set(each.adapter.entries) - set(each.entries)
        assert set(each.entries) <= set(each.adapter.entries)
        for entry in with_any(missing):  # each by its own words, so that no note excuses another entry
            assert any(f": {describe(entry)}: " in note for note in left_out), describe(entry)


@pytest.mark.parametrize("name", ["::1", "10.0.0.1", "abc", "fe80::1", "*", "[a]"])
def test_rules_of_a_vm_with_any_name_are_its_own(name: str) -> None:
    """A name that looks like an address or a pattern is written so that it is taken for neither."""
    state = blank_state("HV01")
    state["switches"], state["vms"] = [switch("vs", PRIVATE)], [vm(name), vm("a")]
    rules = [extended("Deny", "Inbound", 7)]
    state["adapters"] = [
        adapter(name, "vs", 1, rules=rules),
        adapter(name, "vs", 2, name=name, acls=[basic("Deny", "Inbound", "Remote", 6, "ANY")]),
        adapter("a", "vs", 3),
    ]
    site = load(
        import_hosts([("hv01", read_state(state))], layout_file="layout.yaml", policy_file="policy.yaml")
    )
    found = {each.mac[-2:]: (len(each.extended_acls), len(each.acls)) for each in site.adapters}
    assert found == {"01": (1, 0), "02": (0, 1), "03": (0, 0)}


def test_the_physical_network_carries_every_vlan_the_adapters_use() -> None:
    state = blank_state("HV01")
    state["switches"], state["vms"] = [switch("vs", EXTERNAL)], [vm("a")]
    trunk = {"OperationMode": 2, "AllowedVlanIdList": [30, 31, 40], "NativeVlanId": 5}
    private = {"OperationMode": 3, "PrivateVlanMode": 2, "PrimaryVlanId": 200, "SecondaryVlanId": 201}
    state["adapters"] = [adapter("a", "vs", 1, vlan=trunk), adapter("a", "vs", 2, vlan=private)]
    imported = import_hosts(
        [("hv01", read_state(state))], layout_file="layout.yaml", policy_file="policy.yaml"
    )
    assert "vs: {vlans: [5, 30-31, 40, 200-201]}" in imported.layout
    assert load(imported).networks[0].vlans == (5, 30, 31, 40, 200, 201)


PRIVATE_VLAN = {"OperationMode": 3, "PrimaryVlanId": 200}
SECONDARY_TOO = PRIVATE_VLAN | {"SecondaryVlanId": 200, "SecondaryVlanIdList": [200, 201]}


@pytest.mark.parametrize(
    ("setting", "isolation", "written", "note"),
    [
        (SECONDARY_TOO | {"PrivateVlanMode": 1}, {}, "{access: 200}", ""),
        (SECONDARY_TOO | {"PrivateVlanMode": 3}, {}, "{promiscuous: {primary: 200, secondaries: [201]}}", ""),
        (PRIVATE_VLAN | {"PrivateVlanMode": 3}, {}, "{access: 200}", ""),
        (PRIVATE_VLAN | {"PrivateVlanMode": 2}, {}, "", "Community lacks its ids; taken as untagged"),
        (
            PRIVATE_VLAN | {"PrivateVlanMode": 9},
            {},
            "",
            "the VLAN mode Private has no VLAN id that can be used",
        ),
        ({"OperationMode": 1, "AccessVlanId": 4095}, {}, "", "the VLAN mode Access has no VLAN id"),
        (
            {"OperationMode": 2, "AllowedVlanIdList": [5, 4095], "NativeVlanId": 0},
            {},
            "{trunk: {allowed: [5], native: 0}}",
            "these are no VLAN ids, and left out: 4095",
        ),
        (
            {"OperationMode": 0},
            {"IsolationMode": 3, "DefaultIsolationID": 10, "AllowUntaggedTraffic": True},
            "{access: 10}",
            "",
        ),
        (
            {"OperationMode": 0},
            {"IsolationMode": 3, "DefaultIsolationID": 10, "AllowUntaggedTraffic": False},
            "{access: 10}",
            "AllowUntaggedTraffic is off: the host drops untagged frames, which the lab does not",
        ),
        ({"OperationMode": 0}, {"IsolationMode": 3, "DefaultIsolationID": 5000}, "", "5000 is no VLAN id"),
        (
            {"OperationMode": 0},
            {"IsolationMode": 1},
            "",
            "isolation mode NativeVirtualSubnet is not emulated",
        ),
    ],
)
def test_vlan_settings_no_layout_can_have_are_said(
    setting: dict[str, Any], isolation: dict[str, Any], written: str, note: str
) -> None:
    state = blank_state("HV01")
    state["switches"], state["vms"] = [switch("vs", EXTERNAL)], [vm("a")]
    state["adapters"] = [adapter("a", "vs", 1, vlan=setting, isolation=isolation)]
    found = imported(state)
    load(found)
    assert (f"vlan: {written}" in found.layout) if written else ("vlan: " not in found.layout)
    assert any(note in each for each in found.notes) if note else not found.notes
    assert all(each.partition(": ")[2] in found.layout for each in found.notes)


def test_of_two_entries_for_one_prefix_the_denying_one_is_kept() -> None:
    """The other way round, the lab would let through what the host does not (U2)."""
    state = blank_state("HV01")
    state["switches"], state["vms"] = [switch("vs", PRIVATE)], [vm("a")]
    acls = [basic(action, "Inbound", "Remote", 6, "ANY") for action in ("Allow", "Deny")]
    state["adapters"] = [adapter("a", "vs", 1, acls=acls)]
    found = imported(state)
    assert [entry.action for entry in load(found).adapters[0].acls] == ["Deny"]
    assert found.notes == (
        "left out of the policy: a/Network Adapter: Inbound Allow remote ANY: another entry has its weight or"
        " prefix",
    )


def imported(*states: dict[str, Any]) -> Imported:
    named = [(state["computer"].lower(), read_state(state)) for state in states]
    return import_hosts(named, layout_file="layout.yaml", policy_file="policy.yaml")


@given(st.integers(0, 2**32))
def test_nothing_is_lost_silently(seed: int) -> None:
    """Whatever is different on a host is different in what is imported, if only in a comment or note."""
    random = Random(seed)
    state = hyperv_generate.state(random)
    before = imported(state)
    changed = copy.deepcopy(state)
    what = alter(random, changed)
    assert imported(changed) != before, what


def alter(random: Random, state: dict[str, Any]) -> str:
    """Change one thing that matters of a connected adapter, its entries, its VM, a switch or the host."""
    adapters = [each for each in state["adapters"] if each["SwitchId"]]
    one, on = random.choice(adapters), random.choice(state["switches"])
    entries = [entry for each in adapters for entry in each["extendedAcls"]]
    entry = random.choice(entries or [one])
    simple: list[tuple[dict[str, Any], str, Any]] = [
        *((one, name, 1 - one[name]) for name in ("MacAddressSpoofing", "DhcpGuard", "RouterGuard")),
        *((one, name, 1 - one[name]) for name in ("AllowTeaming", "IeeePriorityTag")),
        *((one, name, 7) for name in ("StormLimit", "DynamicIPAddressLimit", "IovWeight")),
        (one, "PortMirroringMode", (one["PortMirroringMode"] + 1) % 3),
        (one, "Name", "another name"),
        (one, "MacAddress", "00155DFFFFFF"),
        (one, "SwitchId", None),
        (
            one,
            "IPAddresses",
            [*one["IPAddresses"], random.choice(["10.9.9.9", "10.0.0.0", "junk", "fe80::9"])],
        ),
        (one, "vlan", one["vlan"] | {"OperationMode": 1, "AccessVlanId": random.choice([77, 4095])}),
        (one, "vlan", one["vlan"] | {"OperationMode": 2, "AllowedVlanIdList": [5, 4095], "NativeVlanId": 0}),
        (one, "isolation", one["isolation"] | {"IsolationMode": random.choice([1, 2])}),
        (one, "isolation", one["isolation"] | {"IsolationMode": 3, "DefaultIsolationID": 33}),
        (one, "acls", [*one["acls"], basic("Deny", "Inbound", "Local", 2, "10.99.0.0/16")]),
        (one, "acls", [*one["acls"], basic("Deny", "Inbound", "Local", 0, "")]),
        (on, "Name", "another switch"),
        (on, "EmbeddedTeamingEnabled", True),
        (on, "Notes", "do not touch"),
        (on, "Extensions", [{"Name": "Firewall of somebody", "Enabled": True}]),
        (on, "NetAdapterInterfaceDescriptions", ["Another NIC"]),
        (on, "SwitchType", (on["SwitchType"] + 1) % 3),
        (random.choice(state["vms"]), "Name", "another VM"),
        (random.choice(state["vms"]), "State", 3),
        (state, "unread", [{"part": "nats", "message": "no"}]),
        (state, "teams", [{"Name": "team", "NetAdapterInterfaceDescription": ["one", "two"]}]),
        (state, "nats", [{"Name": "nat", "InternalIPInterfaceAddressPrefix": "10.8.0.0/24", "mappings": []}]),
    ]
    if entries:
        simple += [
            (entry, "Weight", 70000),
            (entry, "Weight", 40001),
            (entry, "IsolationID", 4000),
            (entry, "Protocol", "99"),
            (entry, "LocalIPAddress", random.choice(["10.99.0.0/16", "2001:db8:99::/48", "nowhere"])),
            (entry, "Direction", 3 - entry["Direction"]),
            (entry, "Action", 3 - entry["Action"]),
        ]
    holder, name, value = random.choice(simple)
    told = f"{name} from {holder[name]!r} to {value!r}"
    if name == "Name" and holder in state["vms"]:
        for each in state["adapters"]:
            each["VMName"] = value if each["VMId"] == holder["Id"] else each["VMName"]
    holder[name] = value
    return told


@given(st.integers(0, 2**32))
def test_the_order_in_which_a_host_lists_things_does_not_matter(seed: int) -> None:
    random = Random(seed)
    state = hyperv_generate.state(random)
    shuffled = copy.deepcopy(state)
    for each in shuffled["adapters"]:
        random.shuffle(each["acls"])
        random.shuffle(each["extendedAcls"])
    for name in ("switches", "vms", "adapters"):
        random.shuffle(shuffled[name])
    assert imported(shuffled) == imported(state)


def test_fifty_hosts_at_once() -> None:
    """All names and addresses of fifty hosts clash; what comes out means what the hosts hold."""
    random = Random(50)
    states = [hyperv_generate.state(random, f"HV{number:02}", first=1 + 20 * number) for number in range(50)]
    assert meaning(load(imported(*states))) == meaning(site_of(*states))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not the state"),
        ('{"computer": "x", "adapters": [], "schema": 2}', "schema 2"),
        ('{"computer": "x", "schema": 1, "adapters": [{"MacAddress": "junk"}]}', "cannot be understood"),
    ],
)
def test_what_is_no_state_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "hv01.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as refused:
        state_from_file(file)
    assert refused.value.where is not None
    assert refused.value.where.file == str(file)


def test_single_objects_and_names_in_place_of_lists_and_numbers() -> None:
    document: Document = {
        "schema": 1,
        "computer": "HV01",
        "switches": switch("vs", EXTERNAL, SwitchType="External"),
        "vms": vm("web01") | {"State": "Running"},
        "adapters": adapter(
            "web01",
            "vs",
            1,
            MacAddressSpoofing="On",
            DhcpGuard="Off",
            extendedAcls=extended("Allow", "Inbound", 5) | {"Direction": "Outbound", "Action": "Deny"},
            vlan={"OperationMode": "Access", "AccessVlanId": 10},
            IPAddresses="10.0.0.1",
        ),
    }
    state = read_state(document)
    (found,) = state.adapters
    assert found.spoofing
    assert not found.dhcp_guard
    assert [entry.direction for entry in found.entries] == ["Outbound"]
    assert found.vlan.access == 10
    assert found.addresses == ("10.0.0.1",)
    assert state.switches[0].type == "External"


def one_adapter(kind: int = EXTERNAL, *, iov: bool | None = True, **fields: Any) -> tuple[Imported, Site]:
    document = blank_state("HV01")
    document["switches"] = [switch("vs", kind, IovEnabled=iov)]
    document["vms"] = [vm("web01")]
    document["adapters"] = [adapter("web01", "vs", 1, rules=[extended("Deny", "Inbound", 1)], **fields)]
    states = [("hv01", read_state(document))]
    imported = import_hosts(states, layout_file="layout.yaml", policy_file="policy.yaml")
    return imported, load(imported)


def settings(site: Site) -> tuple[PortMirroring, bool]:
    (found,) = (each for each in site.adapters if each.guest == "web01")
    return found.port_mirroring, found.virtual_function


@pytest.mark.parametrize(
    ("mode", "read"),
    [(0, "None"), (None, "None"), (1, "Destination"), (2, "Source"), ("Source", "Source"), ("2", "Source")],
)
def test_the_mirroring_mode_comes_in(mode: object, read: str) -> None:
    imported, site = one_adapter(PortMirroringMode=mode)
    assert settings(site) == (PortMirroring(read), False)
    assert imported.notes == ()


@pytest.mark.parametrize(
    ("value", "on"), [(0, True), ("On", True), (1, False), ("Off", False), (None, False)]
)
def test_priority_tags_come_in(value: object, on: bool) -> None:
    imported, site = one_adapter(IeeePriorityTag=value)
    assert [each.ieee_priority_tag for each in site.adapters if each.guest == "web01"] == [on]
    assert imported.notes == ()


def test_an_unknown_mirroring_mode_is_told() -> None:
    imported, site = one_adapter(PortMirroringMode=7)
    assert settings(site)[0] is PortMirroring.NONE
    assert imported.notes == ("web01/Network Adapter: PortMirroringMode 7 is not known",)


def test_an_active_virtual_function_comes_in_and_is_told() -> None:
    imported, site = one_adapter(IovWeight=50, VFDataPathActive=True)
    assert settings(site)[1]
    assert "iov_weight: 50" in imported.layout
    assert imported.notes == (
        "web01/Network Adapter: SR-IOV is on: its frames go past the switch and meet no ACLs",
    )
    assert any("1 ACL entry that filters nothing" in warning for warning in site.warnings)


def test_a_virtual_function_without_a_weight_comes_in() -> None:
    assert settings(one_adapter(VFDataPathActive=True)[1])[1]


def test_a_weight_alone_comes_in_and_what_was_active_is_told() -> None:
    imported, site = one_adapter(IovWeight=100, iov=None)
    assert settings(site)[1]
    (note,) = imported.notes
    assert "IovWeight is 100, but VFDataPathActive was False" in note


@pytest.mark.parametrize(
    ("kind", "iov", "why"),
    [(PRIVATE, True, "a switch of type Private"), (EXTERNAL, False, "IovEnabled is False")],
)
def test_a_weight_that_cannot_matter_is_left_out_and_told(kind: int, iov: bool, why: str) -> None:
    imported, site = one_adapter(kind, iov=iov, IovWeight=100)
    assert not settings(site)[1]
    (note,) = imported.notes
    assert "IovWeight 100 is left out" in note
    assert why in note
    assert f"# {note.partition(': ')[2]}" in imported.layout


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"IovWeight": 100, "VFDataPathActive": True}, "a virtual function is active (SR-IOV)"),
        ({"IovWeight": 100}, "IovWeight is 100: once a virtual function is active"),
        ({}, ""),
    ],
)
def test_a_plan_for_an_adapter_with_a_virtual_function_warns(fields: dict[str, Any], words: str) -> None:
    document = blank_state("HV01")
    document["switches"] = [switch("vs", EXTERNAL, IovEnabled=True)]
    document["vms"] = [vm("web01")]
    document["adapters"] = [adapter("web01", "vs", 1, **fields)]
    state = read_state(document)
    deny = extended_from_host(extended("Deny", "Inbound", 1))
    some: dict[Entry, PolicyRule | None] = {deny: None}
    for entries in (some, dict[Entry, PolicyRule | None]()):
        wanted = Desired((Wanted(state.adapters[0], entries),))
        plan = plan_host(wanted, state, plan_id="plan-1", created_at="2026-01-01T00:00:00Z")
        told = [warning for warning in plan.warnings if "SR-IOV" in warning]
        assert len(told) == bool(words and entries)
        assert all(words in warning for warning in told)


def test_limits_are_in_the_layout_and_reservations_are_said() -> None:
    state = blank_state("HV01")
    state["switches"] = [switch("vs")]
    state["vms"] = [vm("a"), vm("b"), vm("c")]
    high = {"MaximumBandwidth": 2**63, "MinimumBandwidthAbsolute": 10**9, "MinimumBandwidthWeight": 0}
    weight = {"MaximumBandwidth": 100_000_000, "MinimumBandwidthAbsolute": 0, "MinimumBandwidthWeight": 10}
    state["adapters"] = [
        adapter("a", "vs", 1, StormLimit=100, BandwidthSetting=weight),
        adapter("b", "vs", 2, BandwidthSetting=None),
        adapter("c", "vs", 3, StormLimit=2**32, BandwidthSetting=high),
    ]
    imported = import_hosts(
        [("hv01", read_state(state))], layout_file="layout.yaml", policy_file="policy.yaml"
    )
    limits = {
        each.guest: (each.storm_limit, each.maximum_bandwidth)
        for each in load(imported).adapters
        if not each.is_management_os
    }
    assert limits == {"a": (100, 100_000_000), "b": (0, 0), "c": (0, 0)}
    why = "matters only where a physical NIC is full"
    assert imported.notes == (
        f"a/Network Adapter: MinimumBandwidthWeight 10: {why}",
        "c/Network Adapter: storm_limit 4294967296 is out of range: left out",
        f"c/Network Adapter: maximum_bandwidth {2**63} is out of range: left out",
        f"c/Network Adapter: MinimumBandwidthAbsolute 1000000000: {why}",
    )
    assert all(f"# {note.partition(': ')[2]}" in imported.layout for note in imported.notes)
