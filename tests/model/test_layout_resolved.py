"""What a layout becomes: defaults, numbers, addresses, routers, services."""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path

import pytest

from tests.support.model_files import LAYOUT, POLICY, reader, site
from vswitch.model import load_site
from vswitch.model.site import Adapter, GuestKind, Service
from vswitch.model.types import TCP, UDP, SwitchType, Vlan, VlanMode
from vswitch.textfiles import read_text


def adapter(vlan: str) -> Adapter:
    """sql01's adapter with another `vlan:`."""
    layout = LAYOUT.replace("vlan: {access: 20}, addresses: 10.0.20.30/24", f"vlan: {vlan}")
    return site(layout=layout).guest["sql01"].adapters[0]


def test_guests_and_their_kinds() -> None:
    assert {guest.name: guest.kind for guest in site().guests} == {
        "lan-gateway": GuestKind.GATEWAY,
        "client": GuestKind.CLIENT,
        "hv01": GuestKind.MANAGEMENT_OS,
        "web01": GuestKind.VM,
        "web02": GuestKind.VM,
        "sql01": GuestKind.VM,
    }


def test_numbers_follow_the_order_of_the_file() -> None:
    loaded = site()
    assert [(each.id, each.number) for each in loaded.adapters] == [
        ("hv01/vs-lan", 2),
        ("hv01/vs-int", 3),
        ("web01/Network Adapter", 4),
        ("web01/Network Adapter 2", 5),
        ("web02/Network Adapter", 6),
        ("sql01/Network Adapter", 7),
    ]
    assert [each.interface for each in loaded.guest["web01"].adapters] == ["eth0", "eth1"]
    lan, internal = loaded.hosts[0].switches
    assert (lan.bridge, lan.uplink, lan.datapath_id) == ("br0", 1, 0x10001)
    assert (internal.bridge, internal.uplink, internal.datapath_id) == ("br1", 0, 0x10002)


def test_hyper_v_defaults() -> None:
    lan, internal = site().hosts[0].switches
    assert (lan.type, lan.allow_management_os, lan.aging_time, lan.max_mac_addresses) == (
        SwitchType.EXTERNAL,
        True,
        300,
        4096,
    )
    assert internal.allow_management_os
    second = site().guest["web01"].adapters[1]
    assert second.vlan == Vlan()
    settings = ("mac_address_spoofing", "dhcp_guard", "router_guard", "allow_teaming")
    assert {getattr(second, name) for name in settings} == {False}


def test_a_switch_kept_from_the_management_os_makes_no_adapter() -> None:
    layout = LAYOUT.replace("network: lan}", "network: lan, allow_management_os: Off}").replace(
        "adapters: [{switch: vs-lan, vlan: {access: 20}, addresses: [10.0.20.2/24]}]", "adapters: []"
    )
    assert [each.id for each in site(layout=layout).guest["hv01"].adapters] == ["hv01/vs-int"]


@pytest.mark.parametrize("word", ["On", "on", "true", "True", "yes", '"On"', "ON"])
def test_every_spelling_of_on(word: str) -> None:
    layout = LAYOUT.replace("mac_address_spoofing: On", f"mac_address_spoofing: {word}")
    assert site(layout=layout).guest["web01"].adapters[0].mac_address_spoofing


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("00:15:5d:01:02:03", "00-15-5D-01-02-03"),
        ("52:54:00:12:34:56", "52-54-00-12-34-56"),  # a number in base 60 for YAML 1.1
        ("001122334455", "00-11-22-33-44-55"),
        ("0015.5d01.0203", "00-15-5D-01-02-03"),
        ("02e012345678", "02-E0-12-34-56-78"),  # a number with exponent for YAML 1.1
    ],
)
def test_every_spelling_of_a_mac(written: str, read: str) -> None:
    layout = LAYOUT.replace("mac: 00-15-5D-01-0A-01", f"mac: {written}")
    assert site(layout=layout).guest["web01"].adapters[0].mac == read


def test_an_unquoted_ipv6_address() -> None:
    layout = LAYOUT.replace('"2001:db8:10::11/64"', "2001:db8:10::11/64")
    assert ip_interface("2001:db8:10::11/64") in site(layout=layout).guest["web01"].addresses


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("untagged", Vlan()),
        ("{access: 10}", Vlan(VlanMode.ACCESS, access=10)),
        ("{trunk: {allowed: 10}}", Vlan(VlanMode.TRUNK, allowed=(10,))),
        (
            "{trunk: {allowed: [20-22, 10], native: 1}}",
            Vlan(VlanMode.TRUNK, native=1, allowed=(10, 20, 21, 22)),
        ),
        ('{trunk: {allowed: "1-3,200", native: 0}}', Vlan(VlanMode.TRUNK, allowed=(1, 2, 3, 200))),
        ("{isolated: {primary: 200, secondary: 201}}", Vlan(VlanMode.ISOLATED, primary=200, secondary=201)),
        ("{community: {primary: 200, secondary: 201}}", Vlan(VlanMode.COMMUNITY, primary=200, secondary=201)),
        (
            "{promiscuous: {primary: 200, secondaries: [201]}}",
            Vlan(VlanMode.PROMISCUOUS, primary=200, secondaries=(201,)),
        ),
    ],
)
def test_vlan_modes(written: str, read: Vlan) -> None:
    assert adapter(written).vlan == read


def test_tagged_addresses() -> None:
    vlan = "{trunk: {allowed: [10, 20]}}, tagged: {20: 10.0.20.9/24, 10: [10.0.10.9/24]}"
    assert adapter(vlan).tagged_addresses == (
        (10, (ip_interface("10.0.10.9/24"),)),
        (20, (ip_interface("10.0.20.9/24"),)),
    )


def test_the_default_router_is_that_of_network_and_vlan() -> None:
    loaded = site()
    assert loaded.guest["web01"].gateways == ("10.0.10.1",)
    assert loaded.guest["client"].gateways == ("10.0.20.1",)
    assert loaded.guest["lan-gateway"].gateways == ()


@pytest.mark.parametrize(
    ("written", "read"), [("none", ()), ("10.0.20.99", ("10.0.20.99",)), ("[10.0.20.99]", ("10.0.20.99",))]
)
def test_a_written_router(written: str, read: tuple[str, ...]) -> None:
    layout = LAYOUT.replace("addresses: [10.0.20.50/24],", f"addresses: [10.0.20.50/24], gateway: {written},")
    assert site(layout=layout).guest["client"].gateways == read


def test_isolated_adapters_use_the_router_of_their_primary_vlan() -> None:
    vlan = "{isolated: {primary: 20, secondary: 201}}, addresses: 10.0.20.30/24"
    layout = LAYOUT.replace("vlan: {access: 20}, addresses: 10.0.20.30/24", f"vlan: {vlan}")
    assert site(layout=layout).guest["sql01"].gateways == ("10.0.20.1",)


def test_services_by_name_number_and_range() -> None:
    assert site().guest["web01"].services == (
        Service(TCP, 80, "http"),
        Service(TCP, 8080, "http-alt"),
        Service(UDP, 53, "domain"),
        *(Service(TCP, port, name) for port, name in zip(range(8000, 8004), SERVICE_NAMES, strict=True)),
    )
    assert site().guest["hv01"].services == (Service(TCP, 5985, "wsman"),)


SERVICE_NAMES = ("irdmi", "vcom-tunnel", "teradataordbms", "mcreport")


def test_dynamic_macs_come_from_the_hosts_pool() -> None:
    macs = {each.id: each.mac for each in site().adapters}
    assert macs["hv01/vs-lan"] == "00-15-5D-14-02-00"  # the host's first IPv4 address is 10.0.20.2
    assert macs["hv01/vs-int"] == "00-15-5D-14-02-01"
    assert macs["web01/Network Adapter 2"] == "00-15-5D-14-02-02"


def test_a_written_mac_is_never_handed_out() -> None:
    layout = LAYOUT.replace("mac: 00-15-5D-01-0A-01", "mac: 00-15-5D-14-02-01")
    assert site(layout=layout).guest["hv01"].adapters[1].mac == "00-15-5D-14-02-02"


def test_macs_of_other_machines_are_locally_administered_and_stable() -> None:
    before = {port.guest: port.mac for port in site().physical_ports("lan")}
    after = {
        port.guest: port.mac
        for port in site(layout=LAYOUT.replace("name: two-hosts", "name: other")).physical_ports("lan")
    }
    assert before == after
    assert all(mac.startswith("02-") for mac in before.values())


def test_expectations_keep_their_text() -> None:
    layout = LAYOUT.replace("to: web01,", "to: web01/10.0.10.11,").replace("Allow}", "Allow, by: allow-http}")
    found = site(POLICY, layout=layout).expectations[0]
    assert (found.source, found.destination, found.verdict, found.by) == (
        "client",
        "web01/10.0.10.11",
        "Allow",
        "allow-http",
    )
    assert found.origin.line == LAYOUT.count("\n")


def test_anchors_aliases_and_merge_keys() -> None:
    layout = LAYOUT.replace(
        "{switch: vs-lan, vlan: {access: 10}, addresses: 10.0.10.12/24}",
        "&web {switch: vs-lan, vlan: {access: 10}, addresses: 10.0.10.12/24}",
    ).replace(
        "{switch: vs-lan, vlan: {access: 20}, addresses: 10.0.20.30/24}",
        "{<<: *web, addresses: 10.0.10.13/24}",
    )
    sql = site(layout=layout).guest["sql01"].adapters[0]
    assert (sql.vlan.access, str(sql.addresses[0])) == (10, "10.0.10.13/24")


def test_windows_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LAYOUT.replace("\n", "\r\n").encode())
    assert load_site(str(path), read=read_text).guests[-1].origin.line == site().guests[-1].origin.line


def test_policies_are_found_beside_the_layout(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "l.yaml").write_text(LAYOUT + "policies: [p.yaml]\n", encoding="utf-8")
    (folder / "p.yaml").write_text(POLICY, encoding="utf-8")
    loaded = load_site(str(folder / "l.yaml"), read=read_text)
    assert loaded.files == (str(folder / "l.yaml"), str(folder / "p.yaml"))
    assert loaded.guest["web01"].adapters[0].extended_acls
    assert load_site(str(folder / "l.yaml"), [], read=read_text).files == (str(folder / "l.yaml"),)


def test_a_layout_loads_the_same_twice() -> None:
    read = reader()
    assert load_site("l.yaml", ["p.yaml"], read=read) == load_site("l.yaml", ["p.yaml"], read=read)


@pytest.mark.parametrize("text", ["name: a\n", "name: a\nhosts:\nnetworks:\nexpect:\npolicies:\n"])
def test_an_almost_empty_layout(text: str) -> None:
    assert site(layout=text).guests == ()


def test_an_address_from_another_vlans_subnet_is_doubtful() -> None:
    assert not site().warnings
    stray = LAYOUT.replace("10.0.10.12/24", "10.0.20.12/24")
    (warning,) = site(layout=stray).warnings
    assert warning.startswith("l.yaml:28:")
    assert (
        "10.0.20.12/24 of web02 is in the subnet of VLAN 20 of 'lan', but the machine is on VLAN 10"
        in warning
    )
    without = stray.replace("20: [10.0.20.1/24", '20: ["2001:db8:99::1/64"')
    assert not [each for each in site(layout=without).warnings if "subnet" in each]


def test_a_gateway_that_nobody_is_is_doubtful() -> None:
    gateway = "addresses: 10.0.10.12/24}]\n        gateway: 10.0.10.{}\n"
    text = LAYOUT.replace(
        "\n          - {switch: vs-lan, vlan: {access: 10}, addresses: 10.0.10.12/24}", " [{}]"
    )
    text = text.replace("[{}]", "[{switch: vs-lan, vlan: {access: 10}, " + gateway.rstrip("\n"))
    (warning,) = site(layout=text.replace("10.0.10.{}", "10.0.10.77")).warnings
    assert "the gateway 10.0.10.77 of web02 is the address of no machine" in warning
    assert not site(layout=text.replace("10.0.10.{}", "10.0.10.1")).warnings
