"""What a lab is made of, from a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from vswitch.lab.building.lab_plan import EDGE, LabPlan, make_plan
from vswitch.model import load_site

LAYOUT = """\
name: plan
networks:
  lan:
    vlans: [10, 20]
    gateways: {10: 10.0.10.1/24}
    clients:
      pc: {vlan: 20, addresses: [10.0.20.9/24]}
      old: {addresses: [10.0.0.9/24]}
hosts:
  hv01:
    switches:
      vs-lan: {type: External, network: lan}
    vms:
      "a VM: with any name": {adapters: [{switch: vs-lan, vlan: {access: 10}}]}
      router:
        adapters:
          - switch: vs-lan
            vlan: {trunk: {allowed: [10, 20], native: 0}}
            addresses: [10.0.0.1/24]
            tagged: {10: [10.0.10.2/24], 20: [10.0.20.2/24]}
  hv02:
    switches:
      vs-lan: {type: External, network: lan}
      private: {type: Private}
    vms:
      vm: {adapters: [{switch: private}]}
"""


@pytest.fixture(scope="module")
def plan() -> LabPlan:
    site = load_site("plan.yaml", read={"plan.yaml": LAYOUT}.__getitem__)
    return make_plan(site, Path("/run/x"))


def ends(plan: LabPlan) -> list[tuple[str, str]]:
    """Every switch end of a cable: (namespace, interface)."""
    guests = [(cable.far, cable.far_name) for guest in plan.guests for cable in guest.cables]
    uplinks = [end for one, a, other, b in plan.uplinks for end in ((one, a), (other, b))]
    inner = [(each.namespace, end) for each in plan.instances for pair in each.cables for end in pair]
    return guests + uplinks + inner


def test_every_port_is_the_end_of_one_cable(plan: LabPlan) -> None:
    ports = [
        (instance.namespace, port.name)
        for instance in plan.instances
        for bridge in instance.bridges
        for port in bridge.ports
    ]
    assert sorted(ports) == sorted(ends(plan))
    assert len(set(ports)) == len(ports)


def test_names_fit_the_kernel_whatever_the_site_calls_things(plan: LabPlan) -> None:
    for _, name in ends(plan):
        assert len(name) <= 15
        assert name.isalnum()


def test_a_physical_network_trunks_uplinks_and_gives_machines_their_vlan(plan: LabPlan) -> None:
    (network,) = plan.networks
    (bridge,) = network.bridges
    assert bridge.fail_mode == "standalone"
    settings = {port.name: (port.vlan_mode, port.tag, port.trunks) for port in bridge.ports}
    guests = {guest.guest.name: guest for guest in plan.guests}
    assert settings["h0p1"] == settings["h1p1"] == ("trunk", None, (0, 10, 20))
    assert settings[guests["pc"].cables[0].far_name] == ("access", 20, ())
    assert settings[guests["old"].cables[0].far_name] == ("trunk", None, (0,))


def test_a_trunk_guests_vlans_are_sorted_at_its_edge(plan: LabPlan) -> None:
    host = plan.hosts[0]
    router = next(guest for guest in plan.guests if guest.guest.name == "router")
    assert [cable.interface for cable in router.cables] == ["eth0", "eth0.10", "eth0.20"]
    assert len({cable.mac for cable in router.cables}) == 1
    adapter = router.guest.adapters[0]
    assert [cable.far_name for cable in router.cables] == [
        f"e{adapter.number}{tag}" for tag in ("", "v10", "v20")
    ]
    assert host.cables == ((f"p{adapter.number}", f"p{adapter.number}t"),)
    assert [bridge.name for bridge in host.bridges] == ["br0", EDGE]
    ((bridge, lines),) = host.flows
    assert bridge == EDGE
    assert len(lines.splitlines()) == 6
    assert "in_port=1,dl_vlan=10 actions=pop_vlan,output:3" in lines
    assert "in_port=3 actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:1" in lines


def test_adapters_get_their_openflow_ports_and_bridges_their_controller(plan: LabPlan) -> None:
    first, second = plan.hosts
    assert [(port.name, port.ofport) for port in first.bridges[0].ports] == [
        (f"p{n}", n) for n in (1, 2, 3, 4)
    ]
    assert all(bridge.controller.startswith("/run/x/hosts/1/") for bridge in second.bridges)
    assert [bridge.fail_mode for bridge in second.bridges] == ["secure", "secure"]
    ids = [bridge.datapath_id for instance in plan.instances for bridge in instance.bridges]
    assert len(set(ids)) == len(ids)


def test_without_a_controller_switches_know_vlans_themselves() -> None:
    site = load_site("plan.yaml", read={"plan.yaml": LAYOUT}.__getitem__)
    plan = make_plan(site, Path("/run/x"), controller=False)
    ports = {port.name: port for port in plan.hosts[0].bridges[0].ports}
    management, access, trunk = ports["p2"], ports["p3"], ports["p4"]
    assert (management.vlan_mode, management.trunks) == ("trunk", (0,))
    assert (access.vlan_mode, access.tag) == ("access", 10)
    assert (trunk.vlan_mode, trunk.tag, trunk.trunks) == ("native-untagged", 0, (10, 20))
    assert not plan.hosts[0].bridges[0].controller
