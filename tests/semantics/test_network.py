"""Frames across hosts and the physical network (hyper-v-facts §§1.1, 1.2, 2.1)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.support.sites import SiteBuilder, access, isolated, promiscuous, trunk
from vswitch.model.site import Site
from vswitch.semantics.frame import BROADCAST, Frame, arp_request, raw
from vswitch.semantics.network import NetworkPassage, SiteResult, SiteState, SwitchPassage, send
from vswitch.semantics.verdict import DropReason


def builder() -> SiteBuilder:
    made = SiteBuilder().network("lan", 10, 20)
    return made.switch("vs", network="lan").switch("vs", network="lan", host="hv02")


def mac(site: Site, guest: str) -> str:
    machine = site.guest[guest]
    return (machine.adapters or machine.ports)[0].mac


def call(
    site: Site, source: str, destination: str | None = None, state: SiteState | None = None
) -> SiteResult:
    target = mac(site, destination) if destination else BROADCAST
    return send(site, source, "eth0", raw(mac(site, source), target, 0x88B5), state)


def where(result: SiteResult) -> set[tuple[str, str]]:
    return {(delivery.guest, delivery.interface) for delivery in result.deliveries}


def test_a_broadcast_reaches_its_vlan_on_every_host_and_access_port() -> None:
    site = (
        builder()
        .vm("a", vlan=access(10))
        .vm("b", vlan=access(10), host="hv02")
        .vm("c", vlan=access(20), host="hv02")
        .client("pc", "10.0.0.9/24", vlan=10)
        .client("other", "10.0.0.8/24", vlan=20)
        .build()
    )
    result = call(site, "a")
    assert where(result) == {("b", "eth0"), ("pc", "eth0")}
    assert [passage.place for passage in result.passages] == ["hv01/vs", "lan", "hv02/vs"]
    between = result.passages[1]
    assert isinstance(between, NetworkPassage)
    assert (between.vlan, between.missed) == (10, ("other/eth0",))
    assert where(call(site, "pc")) == {("a", "eth0"), ("b", "eth0")}


def test_a_private_switch_reaches_its_vms_only() -> None:
    site = builder().switch("inner").vm("a", switch="inner").vm("b", switch="inner").vm("c").build()
    assert where(call(site, "a")) == {("b", "eth0")}


def test_a_vlan_the_physical_network_does_not_carry_ends_there() -> None:
    site = builder().vm("a", vlan=access(30)).vm("b", vlan=access(30), host="hv02").build()
    result = call(site, "a")
    assert not result.deliveries
    assert [(p.place, d.reason) for p, d in result.drops] == [("lan", DropReason.PHYSICAL_VLAN)]


def test_untagged_frames_are_always_carried() -> None:
    site = builder().vm("a").vm("b", host="hv02").build()
    assert where(call(site, "a")) == {("b", "eth0")}


def test_a_trunk_guest_gets_tagged_frames_on_its_sub_interface() -> None:
    site = builder().vm("router", vlan=trunk(10, 20, native=20)).vm("a", vlan=access(10), host="hv02").build()
    assert where(call(site, "a", "router")) == {("router", "eth0.10")}
    tagged = send(site, "router", "eth0.10", raw(mac(site, "router"), mac(site, "a"), 0x88B5))
    assert where(tagged) == {("a", "eth0")}
    assert tagged.frame.vlan == 10


def test_the_physical_network_learns_by_mac_and_vlan() -> None:
    site = (
        builder().switch("vs", network="lan", host="hv03").vm("a").vm("b", host="hv02").vm("c", host="hv03")
    ).build()
    flooded = call(site, "a", "b")
    assert [p.place for p in flooded.passages] == ["hv01/vs", "lan", "hv02/vs", "hv03/vs"]
    back = call(site, "b", "a", flooded.state)
    assert [p.place for p in back.passages] == ["hv02/vs", "lan", "hv01/vs"]
    direct = call(site, "a", "b", back.state)
    assert [p.place for p in direct.passages] == ["hv01/vs", "lan", "hv02/vs"]
    later = send(site, "a", "eth0", direct.frame, direct.state, now=300)
    assert len(later.passages) == 4


def test_private_vlans_span_hosts() -> None:
    site = (
        SiteBuilder()
        .network("lan", 100, 201)
        .switch("vs", network="lan")
        .switch("vs", network="lan", host="hv02")
        .vm("i", vlan=isolated(100, 201))
        .vm("p", vlan=promiscuous(100, 201), host="hv02")
        .vm("j", vlan=isolated(100, 201), host="hv02")
    ).build()
    assert where(call(site, "i")) == {("p", "eth0")}
    assert where(call(site, "p", "i")) == {("i", "eth0")}


def test_a_local_mac_that_comes_in_from_the_uplink_is_unauthorised() -> None:
    site = builder().vm("a").client("pc", "10.0.0.9/24").build()
    forged = raw(mac(site, "a"), BROADCAST, 0x88B5)
    result = send(site, "pc", "eth0", forged)
    assert [(p.place, d.reason) for p, d in result.drops] == [("hv01/vs", DropReason.UNAUTHORIZED_MAC)]


def test_an_access_port_does_not_take_tags() -> None:
    site = builder().vm("a", vlan=access(20)).client("pc", "10.0.0.9/24", vlan=10).build()
    result = send(site, "pc", "eth0", raw(mac(site, "pc"), BROADCAST, 0x88B5, vlan=20))
    assert [d.reason for _, d in result.drops] == [DropReason.PHYSICAL_VLAN]


def test_the_state_given_is_never_changed() -> None:
    site = builder().vm("a").vm("b", host="hv02").build()
    state = call(site, "a").state
    tables = dict(state.networks["lan"])
    assert call(site, "b", "a", state) == call(site, "b", "a", state)
    assert dict(state.networks["lan"]) == tables
    kept = state.for_site_change(site)
    assert kept.switches["hv02/vs"].learned == state.switches["hv02/vs"].learned
    assert set(kept.switches["hv02/vs"].learned) == {(mac(site, "a"), 0)}


def test_arp_arrives_where_it_was_meant_to() -> None:
    site = builder().vm("a", "10.0.0.1/24").vm("b", "10.0.0.2/24", host="hv02").build()
    ask: Frame = arp_request(mac(site, "a"), IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    result = send(site, "a", "eth0", ask)
    assert result.reached("b", "eth0")
    assert not result.reached("b", "eth0.10")
    assert isinstance(result.passages[0], SwitchPassage)


def test_an_interface_that_is_not_there_is_an_error() -> None:
    site = builder().vm("a").build()
    with pytest.raises(ValueError, match="no interface eth7"):
        send(site, "a", "eth7", raw(mac(site, "a"), BROADCAST, 0x88B5))
