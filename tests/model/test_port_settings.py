"""Port mirroring and SR-IOV in layouts: how they are read, and what does nothing (symptoms 23, 35)."""

from __future__ import annotations

import pytest

from tests.support.model_files import LAYOUT, POLICY, site
from vswitch.errors import InputErrors
from vswitch.model.site import Adapter, Site
from vswitch.model.types import PortMirroring

WEB2 = "{switch: vs-lan, vlan: {access: 10}, addresses: 10.0.10.12/24}"
SQL = "{switch: vs-lan, vlan: {access: 20}, addresses: 10.0.20.30/24}"
INNER = "{switch: vs-int}"


def load(settings: dict[str, str], policy: str | None = None) -> Site:
    """The usual site with `settings` added to adapters, each given by its text."""
    layout = LAYOUT
    for adapter, added in settings.items():
        assert adapter in layout
        layout = layout.replace(adapter, f"{adapter[:-1]}, {added}}}")
    return site(policy, layout)


def adapter(of: Site, name: str) -> Adapter:
    return next(each for each in of.adapters if each.id == name)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("port_mirroring: Source", PortMirroring.SOURCE),
        ("port_mirroring: destination", PortMirroring.DESTINATION),
        ("port_mirroring: None", PortMirroring.NONE),
        ("name: x", PortMirroring.NONE),
    ],
)
def test_the_mode_is_a_word_and_none_by_default(text: str, mode: PortMirroring) -> None:
    found = next(each for each in load({WEB2: text}).adapters if each.guest == "web02")
    assert found.port_mirroring is mode


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port_mirroring: Both", "'Both' is not a mirroring mode"),
        ("iov_weight: 101", "an IovWeight 101 is out of range"),
        ("iov_weight: On", "'On' is not an IovWeight"),
    ],
)
def test_other_values_are_mistakes(text: str, words: str) -> None:
    with pytest.raises(InputErrors) as caught:
        load({WEB2: text})
    assert words in str(caught.value)
    assert "l.yaml:28:" in str(caught.value)


@pytest.mark.parametrize(("weight", "active"), [(0, False), (1, True), (100, True)])
def test_a_weight_above_zero_is_a_virtual_function(weight: int, active: bool) -> None:
    found = load({WEB2: f"iov_weight: {weight}"})
    assert adapter(found, "web02/Network Adapter").virtual_function is active
    assert found.warnings == ()


def test_only_vms_on_external_switches_have_virtual_functions() -> None:
    host = "{switch: vs-lan, vlan: {access: 20}, addresses: [10.0.20.2/24]}"
    found = load({INNER: "iov_weight: 100", host: "iov_weight: 100"})
    assert not any(each.virtual_function for each in found.adapters)
    outside, inside = found.warnings
    assert outside.startswith("l.yaml:14:")
    assert outside.endswith(
        "iov_weight of 'hv01/vs-lan' has no effect: the management OS has no virtual functions"
    )
    assert "'hv01/vs-int' is Internal" in inside


def test_rules_that_are_never_asked_are_told_once_for_each_adapter() -> None:
    policy = POLICY.replace("adapters: web,", 'adapters: "*",')
    found = load({WEB2: "iov_weight: 100"}, policy)
    told = [warning for warning in found.warnings if "SR-IOV" in warning]
    assert len(told) == 1
    assert told[0].startswith("l.yaml:28:")
    assert "'web02/Network Adapter' has 9 ACL entries that filter nothing" in told[0]
    assert not [warning for warning in load({WEB2: "iov_weight: 0"}, policy).warnings if "SR-IOV" in warning]


def test_guards_and_mirroring_that_sr_iov_undoes_are_told() -> None:
    found = load({WEB2: "iov_weight: 1, dhcp_guard: On, port_mirroring: Source"})
    (warning,) = found.warnings
    assert "'web02/Network Adapter' has dhcp_guard, port_mirroring without effect" in warning


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({WEB2: "port_mirroring: Source"}, ["is a mirroring Source, but 'hv01/vs-lan' has no Destination"]),
        (
            {SQL: "port_mirroring: Destination"},
            ["is a mirroring Destination, but 'hv01/vs-lan' has no Source"],
        ),
        (
            {WEB2: "port_mirroring: Source", INNER: "port_mirroring: Destination"},
            [
                "'hv01/vs-int' has no Source; copies stay on one switch, and there is only"
                " web02/Network Adapter on hv01/vs-lan",
                "there is only web01/Network Adapter 2 on hv01/vs-int",
            ],
        ),
        (
            {WEB2: "port_mirroring: Source", SQL: "port_mirroring: Destination"},
            [
                "'web02/Network Adapter' is a mirroring Source, but shares no VLAN with a Destination",
                "'sql01/Network Adapter' is a mirroring Destination, but shares no VLAN with a Source",
            ],
        ),
        (
            {WEB2: "port_mirroring: Source", SQL: "port_mirroring: Destination, iov_weight: 1"},
            ["'hv01/vs-lan' has no Destination", "has port_mirroring without effect"],
        ),
    ],
)
def test_a_sniffer_that_sees_nothing_is_told(settings: dict[str, str], words: list[str]) -> None:
    warnings = load(settings).warnings
    assert len(warnings) == len(words)
    assert all(any(word in warning for warning in warnings) for word in words)


def test_a_pair_that_shares_a_vlan_is_silent() -> None:
    trunk = SQL.replace("{access: 20}", "{trunk: {allowed: [10, 20], native: 1}}")
    layout = LAYOUT.replace(SQL, f"{trunk[:-1]}, port_mirroring: Destination}}")
    layout = layout.replace(WEB2, f"{WEB2[:-1]}, port_mirroring: Source}}")
    assert not [each for each in site(None, layout).warnings if "subnet" not in each]


def test_a_sender_on_a_secondary_vlan_is_seen_by_who_receives_that() -> None:
    isolated = WEB2.replace("{access: 10}", "{isolated: {primary: 200, secondary: 201}}")
    promiscuous = SQL.replace("{access: 20}", "{access: 201}")
    layout = LAYOUT.replace(WEB2, f"{isolated[:-1]}, port_mirroring: Source}}")
    layout = layout.replace(SQL, f"{promiscuous[:-1]}, port_mirroring: Destination}}")
    assert not [each for each in site(None, layout).warnings if "subnet" not in each]
