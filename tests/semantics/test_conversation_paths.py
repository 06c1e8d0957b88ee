"""Conversations that VLANs, switches, addresses or routes decide, and the sentences about them."""

from __future__ import annotations

from tests.support.asking import ask, by
from tests.support.sites import (
    SiteBuilder,
    access,
    basic,
    extended,
    isolated,
    one_switch,
    promiscuous,
    trunk,
    with_acls,
)
from vswitch.model.types import Action
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Expected
from vswitch.semantics.verdict import DropReason

# --- VLAN and physical network ---------------------------------------------------------------------------


def lan(*vlans: int) -> SiteBuilder:
    return (
        SiteBuilder()
        .network("lan", *vlans)
        .switch("vs", network="lan")
        .switch("vs", network="lan", host="hv02")
    )


def test_vlan_mismatch_on_one_switch() -> None:
    site = (
        SiteBuilder()
        .switch("vs")
        .vm("app", "10.0.10.11/24", vlan=access(10))
        .vm("db01", "10.0.10.12/24", vlan=access(20))
        .build()
    )
    answer = ask(site, "app", "db01", "tcp/1433")
    assert (answer.layer, by(answer), answer.expected) == (
        Layer.VLAN,
        DropReason.FILTERED_VLAN,
        Expected.UNREACHABLE,
    )
    assert answer.cause == "ARP for 10.0.10.12 never reached db01: app is in VLAN 10, db01 is in VLAN 20"


def test_vlan_mismatch_with_a_client_on_the_physical_network() -> None:
    site = lan(10, 20).vm("app", "10.0.0.1/24", vlan=access(10)).client("pc", "10.0.0.9/24", vlan=20).build()
    answer = ask(site, "app", "pc", "icmp")
    assert (answer.layer, by(answer)) == (Layer.VLAN, DropReason.PHYSICAL_VLAN)
    assert "pc is on an access port of VLAN 20" in answer.cause


def test_a_vlan_the_physical_network_does_not_carry() -> None:
    site = (
        lan(20)
        .vm("a", "10.0.0.1/24", vlan=access(10))
        .vm("b", "10.0.0.2/24", vlan=access(10), host="hv02")
        .build()
    )
    answer = ask(site, "a", "b", "icmp")
    assert "the physical network lan does not carry VLAN 10" in answer.cause


def test_isolated_machines_do_not_meet() -> None:
    site = (
        SiteBuilder()
        .switch("vs")
        .vm("a", "10.0.0.1/24", vlan=isolated(100, 201))
        .vm("b", "10.0.0.2/24", vlan=isolated(100, 201))
        .vm("gw", "10.0.0.3/24", vlan=promiscuous(100, 201))
        .build()
    )
    answer = ask(site, "a", "b", "icmp")
    assert "a is Isolated 100/201" in answer.cause
    assert ask(site, "a", "gw", "icmp").expected is Expected.OPEN
    assert ask(site, "gw", "b", "icmp").expected is Expected.OPEN


def test_the_right_vlan_on_the_wrong_interface() -> None:
    site = (
        SiteBuilder()
        .switch("vs")
        .vm("a", "10.0.0.1/24", vlan=access(10))
        .vm("r", "10.0.0.2/24", vlan=trunk(10, native=20))
        .build()
    )
    answer = ask(site, "a", "r", "icmp")
    assert answer.cause == "ARP for 10.0.0.2 reached r on eth0.10, but its address 10.0.0.2 is on eth0"


def test_switches_that_nothing_joins() -> None:
    site = (
        (SiteBuilder().switch("one").switch("two").vm("a", "10.0.0.1/24", switch="one"))
        .vm("b", "10.0.0.2/24", switch="two")
        .build()
    )
    answer = ask(site, "a", "b", "icmp")
    assert (answer.layer, answer.decided_by) == (Layer.SWITCH, None)
    assert answer.cause == "a is on switch hv01/one, b on switch hv01/two: nothing joins the two"


# --- addresses and routes -------------------------------------------------------------------------------


def routed() -> SiteBuilder:
    return (
        lan(10, 20)
        .vm("app", "10.0.10.11/24", vlan=access(10), gateways=["10.0.10.1"])
        .vm(
            "db", "10.0.20.12/24", vlan=access(20), host="hv02", gateways=["10.0.20.1"], services=["tcp/1433"]
        )
        .gateway("gw", {10: "10.0.10.1/24", 20: "10.0.20.1/24"})
    )


def test_through_the_networks_gateway() -> None:
    answer = ask(routed().build(), "app", "db", "tcp/1433")
    assert answer.expected is Expected.OPEN
    path = [(hop.source.guest, hop.target and hop.target.guest) for hop in answer.legs[0].packets]
    assert path == [("app", "gw"), ("gw", "db")]


def test_through_a_router_vm_with_sub_interfaces() -> None:
    site = (
        SiteBuilder()
        .switch("vs")
        .vm("a", "10.0.10.2/24", vlan=access(10), gateways=["10.0.10.1"])
        .vm("b", "10.0.20.2/24", vlan=access(20), gateways=["10.0.20.1"])
        .vm("r", vlan=trunk(10, 20), tagged={10: "10.0.10.1/24", 20: "10.0.20.1/24"}, forwarding=True)
        .build()
    )
    answer = ask(site, "a", "b", "icmp")
    assert answer.expected is Expected.OPEN
    assert [hop.source.interface for hop in answer.legs[0].packets] == ["eth0", "eth0.20"]


def test_a_static_route_to_a_router_vm() -> None:
    site = (
        SiteBuilder()
        .switch("left")
        .switch("right")
        .vm("a", "10.1.0.2/24", switch="left", routes=[("10.2.0.0/24", "10.1.0.1")])
        .vm("b", "10.2.0.2/24", switch="right", gateways=["10.2.0.1"])
        .vm("r", "10.1.0.1/24", switch="left", forwarding=True)
        .adapter("r", "10.2.0.1/24", switch="right")
    )
    assert ask(site.build(), "a", "b", "icmp").expected is Expected.OPEN
    assert ask(site.build(), "a", "r/10.2.0.1", "icmp").expected is Expected.OPEN


def test_a_guest_in_the_middle_that_does_not_forward() -> None:
    site = (
        SiteBuilder()
        .switch("left")
        .switch("right")
        .vm("a", "10.1.0.2/24", switch="left", gateways=["10.1.0.1"])
        .vm("b", "10.2.0.2/24", switch="right", gateways=["10.2.0.1"])
        .vm("r", "10.1.0.1/24", switch="left")
        .adapter("r", "10.2.0.1/24", switch="right")
        .build()
    )
    answer = ask(site, "a", "b", "icmp")
    assert (answer.layer, answer.expected) == (Layer.FORWARDING, Expected.FILTERED)
    assert answer.cause == "r received a packet for 10.2.0.2 but does not forward"


def test_the_longest_prefix_decides_the_way() -> None:
    ways = [("10.2.0.0/16", "10.1.0.9"), ("10.2.0.0/24", "10.1.0.1")]
    site = (
        SiteBuilder()
        .switch("vs")
        .switch("far")
        .vm("a", "10.1.0.2/24", gateways=["10.1.0.9"], routes=ways)
        .vm("r", "10.1.0.1/24", forwarding=True)
        .adapter("r", "10.2.0.1/24", switch="far")
        .vm("b", "10.2.0.2/24", switch="far", gateways=["10.2.0.1"])
        .vm("dead end", "10.1.0.9/24")
    )
    assert ask(site.build(), "a", "b", "icmp").expected is Expected.OPEN


def test_no_gateway() -> None:
    site = one_switch(a="10.1.0.1/24", b="10.2.0.1/24").build()
    answer = ask(site, "a", "b", "icmp")
    assert (answer.layer, answer.expected) == (Layer.ADDRESS, Expected.UNREACHABLE)
    assert answer.cause == "a has no route to 10.2.0.1: different subnet (10.1.0.0/24) and no gateway"


def test_the_destination_lacks_a_way_back() -> None:
    site = (
        lan(10, 20)
        .vm("app", "10.0.10.11/24", vlan=access(10), gateways=["10.0.10.1"])
        .vm("db", "10.0.20.12/24", vlan=access(20))
        .gateway("gw", {10: "10.0.10.1/24", 20: "10.0.20.1/24"})
        .build()
    )
    answer = ask(site, "app", "db", "icmp")
    assert answer.expected is Expected.FILTERED
    assert answer.cause.startswith("the request arrived, but db has no route to 10.0.10.11")


def test_a_gateway_outside_every_subnet() -> None:
    site = one_switch(b="10.2.0.1/24").vm("a", "10.1.0.1/24", gateways=["10.9.0.1"]).build()
    assert "has the gateway 10.9.0.1, which is in none of its subnets" in ask(site, "a", "b", "icmp").cause


def test_a_gateway_nobody_has() -> None:
    site = one_switch(b="10.2.0.1/24").vm("a", "10.1.0.1/24", gateways=["10.1.0.254"]).build()
    answer = ask(site, "a", "b", "icmp")
    assert answer.cause == "a asks for 10.1.0.254, and no machine has that address"
    assert answer.expected is Expected.UNREACHABLE


def test_a_router_reports_a_neighbour_that_does_not_answer() -> None:
    site = routed().build()
    silent = with_acls(site, "db", acls=[basic("Deny", "Inbound", remote_mac="ANY")])
    answer = ask(silent, "app", "db", "tcp/1433")
    assert (answer.expected, answer.legs[-1].name) == (Expected.UNREACHABLE, "host unreachable")
    deaf = with_acls(silent, "app", rules=[extended("Deny", "Inbound", 1, protocol="ICMP")])
    answer = ask(deaf, "app", "db", "tcp/1433")
    assert answer.expected is Expected.FILTERED
    assert by(answer) == "Deny-Inbound-Remote-ANY"


def test_routers_that_point_at_each_other() -> None:
    site = (
        SiteBuilder()
        .switch("vs")
        .switch("far")
        .vm("a", "10.0.0.1/24", gateways=["10.0.0.2"])
        .vm("r", "10.0.0.2/24", gateways=["10.0.0.3"], forwarding=True)
        .vm("s", "10.0.0.3/24", gateways=["10.0.0.2"], forwarding=True)
        .vm("b", "10.9.0.1/24", switch="far")
        .build()
    )
    answer = ask(site, "a", "b", "icmp")
    assert answer.layer is Layer.ADDRESS
    assert "goes round in circles" in answer.cause


def test_no_address_in_common() -> None:
    site = one_switch(a="10.0.0.1/24", b="2001:db8::1/64", c="").build()
    assert ask(site, "a", "b", "icmp").cause == "a and b have no address of the same IP version"
    assert ask(site, "a", "c", "icmp").cause == "c has no IP address"


def test_another_machine_has_the_address() -> None:
    site = one_switch(a="10.0.0.1/24", twin="10.0.0.2/24", b="10.0.0.2/24").build()
    answer = ask(site, "a", "b", "icmp")
    assert (answer.layer, answer.verdict) == (Layer.ADDRESS, Action.DENY)
    assert answer.cause == "10.0.0.2 belongs to twin as well, and twin is the one that answers"


def test_a_subnet_of_its_own_beats_a_shorter_route() -> None:
    site = (
        one_switch(b="10.0.0.2/24")
        .vm("a", "10.0.0.1/24", routes=[("10.0.0.0/8", "10.0.0.9")])
        .vm("dead end", "10.0.0.9/24")
    )
    assert ask(site.build(), "a", "b", "icmp").expected is Expected.OPEN
