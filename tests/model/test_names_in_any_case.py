"""Names as Windows compares them: web01 is WEB01, and two names that differ only in case are one."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.model_files import LAYOUT, POLICY, reader
from vswitch.errors import InputErrors, Origin
from vswitch.hyperv.fleet.inventory import load_inventory
from vswitch.model import load_site
from vswitch.model.names import find_name, matching
from vswitch.model.site import Site
from vswitch.pipeline import compile_site


def load(layout: str = LAYOUT, policy: str = POLICY) -> Site:
    return load_site("l.yaml", ["p.yaml"], read=reader(layout=layout, policy=policy))


REFERENCES = (
    "switch: vs-lan",
    "switch: vs-int",
    "network: lan",
    "from: client",
    "to: web01",
)
TARGETS = ("adapters: web,", "[web*]", "adapters: [web, ", "host:hv01", "remote_ip_address: admin")


def test_references_in_another_case_mean_the_same() -> None:
    layout, policy = LAYOUT, POLICY
    for reference in REFERENCES:
        key, name = reference.split(": ")
        layout = layout.replace(reference, f"{key}: {name.swapcase()}")
    for target in TARGETS:
        assert target in policy
        key, colon, name = target.rpartition(": ")
        policy = policy.replace(target, f"{key}{colon}{name.swapcase()}")
    assert "vs-lan, vlan" not in layout
    site = load(layout, policy)
    assert without_places(site) == without_places(load())
    assert flows(site) == flows(load())


def flows(site: Site) -> dict[str, set[int]]:
    """The cookies of what the switches are to hold."""
    return {
        switch.switch.id: set(switch.flows)
        for host in compile_site(site).values()
        for switch in host.switches.values()
    }


def without_places(value: object) -> object:
    """A site without what only says where its parts were written."""
    if isinstance(value, Origin):
        return value.line
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [without_places(getattr(value, part.name)) for part in dataclasses.fields(value)]
    return [without_places(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("WEB*", "web*"),
        ("Web0?", "web0?"),
        ("'W[A-F]B*'", "'w[a-f]b*'"),
        ("web01/NETWORK*", "web01/Network*"),
        ("WEB01/network adapter 2", "web01/Network Adapter 2"),
        ("'HOST:Hv01/VS*'", "'host:hv01/vs*'"),
        ("Group", "sql01"),
    ],
)
def test_patterns_match_in_any_case(pattern: str, meant: str) -> None:
    rule = "  - {name: r, adapters: %s, direction: Inbound, action: Deny}\n"
    groups = "groups: {GROUP: [SQL*]}\nextended_acls:\n"
    found, expected = (
        [adapter.id for adapter in load(policy=groups + rule % each).adapters if adapter.extended_acls]
        for each in (pattern, meant)
    )
    assert found
    assert found == expected


def test_expectations_keep_the_names_of_the_layout() -> None:
    for written, meant in {
        "WEB01/network ADAPTER 2": "web01/Network Adapter 2",
        "Web01/10.0.10.11": "web01/10.0.10.11",
        "HV01": "hv01",
    }.items():
        site = load(LAYOUT.replace("to: web01", f"to: {written}"))
        assert site.expectations[0].destination == meant


def test_the_very_name_comes_first() -> None:
    assert find_name("a", ["A", "a"]) == "a"
    assert find_name("A", ["b", "a"]) == "a"
    assert find_name("c", ["b", "a"]) is None
    assert matching("A", ["a", "A"]) == ["A"]
    assert matching("A*", ["ab", "AB", "b"]) == ["ab", "AB"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("web02:", "WEB01:", "'WEB01' of a VM differs from 'web01' only in case"),
        ("sql01:", "HV01:", "'HV01' of a VM differs from 'hv01' only in case"),
        ("vs-int: {", "VS-LAN: {", "the switches 'vs-lan' and 'VS-LAN' differ only in case"),
        ("switch: vs-int}", "switch: vs-lan, name: NETWORK adapter}", "two adapters named 'NETWORK adapter'"),
        ("  lan:\n", "  LAN: {}\n  lan:\n", "the networks 'LAN' and 'lan' differ only in case"),
    ],
)
def test_names_that_differ_only_in_case_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(InputErrors) as caught:
        load(LAYOUT.replace(old, new, 1), "{}")
    assert any(words in str(error) and error.where for error in caught.value.errors)


def test_groups_that_differ_only_in_case_are_refused() -> None:
    policy = POLICY.replace("groups: {web: [web*],", "groups: {web: [web*], WEB: [web02],")
    with pytest.raises(InputErrors, match="the groups 'web' and 'WEB' differ only in case"):
        load(policy=policy)


def test_groups_of_an_inventory_in_another_case() -> None:
    text = "groups: {edge: {port: 5999}}\nhosts: {hv01: {groups: EDGE}}\n"
    (host,) = load_inventory("hosts.yaml", read=lambda _: text).hosts
    assert host.groups == ("edge",)
    assert host.connection.port == 5999
