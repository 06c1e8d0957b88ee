"""Mirroring and SR-IOV cost flows only where they are used, and few when one setting changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.naive_readings.naive import adapters
from tests.support.sites import SiteBuilder, extended
from vswitch.model.site import Site
from vswitch.model.types import PortMirroring
from vswitch.pipeline import Flow, FlowChange, Table, compile_site, difference

NONE, SOURCE, DESTINATION = PortMirroring
RULES = [extended("Allow", "Inbound", 20 - n, protocol="TCP", local_port=n + 1) for n in range(10)]


def site(**modes: PortMirroring) -> Site:
    """Forty VMs with ten rules each; the first few in the given modes."""
    builder = SiteBuilder().network("lan").switch("vs", network="lan")
    for number in range(40):
        name = f"vm{number}"
        builder.vm(name, rules=RULES, port_mirroring=modes.get(name, NONE))
    return builder.build()


def flows(of: Site) -> dict[int, Flow]:
    return dict(compile_site(of)["hv01"].switches["br0"].flows)


def change(before: Site, after: Site) -> FlowChange:
    return difference(flows(before), flows(after))


def with_virtual_function(before: Site, guest: str) -> Site:
    return adapters(lambda each: replace(each, virtual_function=each.guest == guest))(before)


@pytest.mark.parametrize("modes", [{}, {"vm0": SOURCE, "vm1": SOURCE}, {"vm0": DESTINATION}])
def test_without_a_pair_nothing_is_paid(modes: dict[str, PortMirroring]) -> None:
    found = flows(site(**modes))
    assert found == flows(site())
    assert not any(
        "reg7" in flow.match + flow.actions or flow.table is Table.MIRROR for flow in found.values()
    )


def test_a_pair_takes_a_handful_of_flows_and_changes_none() -> None:
    found = change(site(), site(vm0=SOURCE, vm1=DESTINATION))
    assert found.remove == ()
    assert len(found.add) == 7


def test_one_more_source_is_two_flows() -> None:
    found = change(site(vm0=SOURCE, vm1=DESTINATION), site(vm0=SOURCE, vm1=DESTINATION, vm2=SOURCE))
    assert (len(found.add), found.remove) == (2, ())


def test_one_more_destination_is_its_own_flows_and_one_changed() -> None:
    one = {"vm0": SOURCE, "vm1": DESTINATION, "vm3": SOURCE}
    found = change(site(**one), site(**one, vm2=DESTINATION))
    assert (len(found.add), len(found.remove)) == (5, 1)


def test_a_virtual_function_takes_the_adapter_out_of_the_acl_tables() -> None:
    before = site()
    after = with_virtual_function(before, "vm7")
    number = next(each.number for each in after.adapters if each.virtual_function)
    found = change(before, after)
    # Its ways in (untagged, priority tag, any other tag) go elsewhere, and its way out.
    assert {flow.table for flow in found.add} == {Table.INPUT, Table.DELIVER}
    assert len(found.add) == 4
    acl = [flow for flow in flows(before).values() if flow.rule and f"reg1={number}," in f"{flow.match},"]
    assert acl
    assert {flow.cookie for flow in acl} <= set(found.remove)
    assert len(found.remove) == len(acl) + 3


def test_flow_states_of_an_adapter_end_when_it_gets_a_virtual_function() -> None:
    stateful = extended("Allow", "Inbound", 9, protocol="TCP", stateful=True)
    builder = SiteBuilder().network("lan").switch("vs", network="lan").vm("a", rules=[stateful]).vm("b")
    before = compile_site(builder.build())["hv01"]
    after = compile_site(with_virtual_function(builder.build(), "a"))["hv01"]
    assert before.marks
    assert (after.marks, after.zones) == (frozenset(), {})
