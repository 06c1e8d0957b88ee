"""The scenarios are worth something: code that reads Hyper-V's rules naively fails one of them.

Each mutation changes the reference, what is compiled, or what loads, in this process only, and takes one
engine alone through the scenarios about that rule: what they state, not another engine, has to catch it.
Only a Disagreement counts; a mutation that crashes has proven nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.naive_readings import naive
from tests.support.naive_readings import ports as naive_ports
from tests.support.scenarios import trace as scenario_trace
from tests.support.scenarios.engines import Reference
from tests.support.scenarios.run import Disagreement, run
from tests.support.scenarios.scenario import Scenario, load_all
from tests.support.scenarios.trace import FlowTrace, TracedSwitches
from vswitch.model.resolving import policy_assembly as policies
from vswitch.model.resolving import rules
from vswitch.model.types import BasicAction, Direction, PortMirroring, Vlan
from vswitch.pipeline import Table
from vswitch.semantics import acl, forwarding, journey, mirroring, nat, switching
from vswitch.semantics import switch_memory as state
from vswitch.semantics.frame import ARP, is_multicast
from vswitch.semantics.switch_memory import flow_key
from vswitch.semantics.verdict import DropReason

pytestmark = pytest.mark.ovs

SCENARIOS = load_all()


@pytest.fixture(scope="module")
def switches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedSwitches]:
    with TracedSwitches(tmp_path_factory.mktemp("ovs")) as running:
        yield running


@dataclass(frozen=True)
class Mutation:
    """`about` is the rule of §0, or the file, whose scenarios have to notice. `site`: how it is misread."""

    about: int | str
    name: str
    engine: str
    patches: naive.Patches = tuple
    site: naive.Misread | None = None

    @property
    def id(self) -> str:
        return f"{self.about}: {self.name} ({self.engine})"

    @property
    def scenarios(self) -> list[Scenario]:
        return [s for s in SCENARIOS if self.about in s.rules or self.about == s.file]


def both(
    about: int | str, name: str, reference: naive.Patches | None, trace: naive.Patches | None
) -> list[Mutation]:
    found = [Mutation(about, name, "reference", reference)] if reference else []
    return [*found, *([Mutation(about, name, "trace", trace)] if trace else [])]


def misread(about: int | str, name: str, change: naive.Misread) -> list[Mutation]:
    return [
        Mutation(about, name, "reference", site=change),
        Mutation(about, name, "trace", naive.compiled_from(change)),
    ]


def while_loading(about: int, name: str, place: object, attribute: str, new: Any) -> list[Mutation]:
    """A loader that checks less."""

    def patches() -> Iterable[AbstractContextManager[Any]]:
        return [patch.object(place, attribute, new)]

    return [Mutation(about, name, "reference", patches)]


MUTATIONS: list[Mutation] = [
    *both(
        1,
        "the smaller weight wins",
        naive.instead(acl, "_extended_table", naive.smaller_weight_first),
        naive.flows(naive.weights_turned),
    ),
    *both(
        2,
        "deny by default",
        naive.instead(switching, "evaluate_extended", naive.default_deny),
        naive.flows(naive.drop_where_nothing_matches),
    ),
    *while_loading(3, "anything may be stateful", rules, "_check_state", lambda rule, reader: 255),
    *both(
        4,
        "basic entries in order",
        naive.instead(acl, "_longest", naive.first_written),
        naive.flows(naive.order_for_prefix),
    ),
    *both(4, "any Allow of a basic entry wins", naive.instead(acl, "_families", naive.any_allow_wins), None),
    *both(
        5,
        "Inbound means into the switch",
        naive.instead(switching, "evaluate_extended", naive.other_direction),
        None,
    ),
    *both(
        5,
        "Inbound of basic entries means into the switch",
        naive.instead(switching, "evaluate_basic", naive.other_direction),
        None,
    ),
    *misread(5, "Inbound and Outbound mixed up", naive.turn_entries),
    *both(
        6,
        "filtered at the sender only",
        naive.instead(switching._Passage, "_filter", naive.only(Direction.OUTBOUND)),
        naive.flows(naive.one_side_only("INBOUND")),
    ),
    *both(
        6,
        "filtered at the receiver only",
        naive.instead(switching._Passage, "_filter", naive.only(Direction.INBOUND)),
        naive.flows(naive.one_side_only("OUTBOUND")),
    ),
    *both(
        7,
        "ARP is denied like IP",
        naive.instead(switching._Passage, "_filter", naive.arp_is_ip),
        naive.flows(naive.arp_too),
    ),
    *both(
        7,
        "neighbour discovery passes like ARP",
        naive.instead(
            switching, "evaluate_extended", naive.passes_always(lambda frame: frame.is_neighbour_discovery)
        ),
        naive.flows(naive.let_pass("icmp6,icmp_type=135", "icmp6,icmp_type=136")),
    ),
    *both(
        7,
        "DHCP passes by itself",
        naive.instead(
            switching, "evaluate_extended", naive.passes_always(lambda frame: frame.src_port in (67, 68))
        ),
        naive.flows(naive.let_pass("udp,tp_src=67", "udp,tp_src=68")),
    ),
    *both(
        8,
        "no source-MAC check",
        naive.instead(switching, "source_mac_drops", lambda original: lambda *args: None),
        naive.flows(naive.drop_of(DropReason.MAC_SPOOFING)),
    ),
    *both(8, "MACs are not pinned", None, naive.flows(naive.drop_of(DropReason.UNAUTHORIZED_MAC))),
    *both(8, "multicast sources pass", None, naive.flows(naive.drop_of(DropReason.INVALID_SOURCE_MAC))),
    *both(
        8,
        "unknown unicast reaches everybody",
        naive.instead(forwarding, "_unknown", naive.unknown_to_all),
        lambda: [patch.object(scenario_trace, "compile_site", naive.unknown_unicast_to_all)],
    ),
    *misread(8, "spoofing On for all", naive.adapters(lambda a: replace(a, mac_address_spoofing=True))),
    *misread(8, "spoofing Off for all", naive.adapters(lambda a: replace(a, mac_address_spoofing=False))),
    *misread(8, "AllowTeaming for all", naive.adapters(lambda a: replace(a, allow_teaming=True))),
    *misread(8, "AllowTeaming for none", naive.adapters(lambda a: replace(a, allow_teaming=False))),
    *both(
        9,
        "guards do not look at what is sent",
        naive.instead(switching, "guard_drops", lambda original: lambda *args: None),
        None,
    ),
    *both(
        9,
        "guards look at what is received",
        naive.instead(switching._Passage, "_deliver", naive.guards_on_receive),
        naive.flows(naive.guards_for_receivers),
    ),
    *misread(
        9,
        "router guard goes with DHCP guard only",
        naive.adapters(lambda a: replace(a, router_guard=False)),
    ),
    *misread(10, "On is 1", naive.adapters(naive.one_is_on)),
    *misread(11, "0.0.0.0/0 is ANY", naive.zero_is_any),
    *while_loading(
        12, "two rules of one weight", policies._Notes, "basic", lambda self, adapter, program: None
    ),
    *both("nat", "a NAT keeps the source", naive.instead(journey, "outward", naive.nothing), None),
    *both("nat", "no packet finds its way in", naive.instead(journey, "inward", naive.nothing), None),
    *both("nat", "a mapping is for everybody", naive.instead(nat, "mapping_for", naive.for_everybody), None),
    Mutation("nat", "a host with a NAT is a router", "reference", site=naive.router_for_nat),
    Mutation("nat", "a session admits everybody", "reference", site=naive.endpoint_independent),
    *both(
        "stateful",
        "state for one direction",
        naive.instead(switching, "flow_key", naive.one_way_key),
        naive.flows(naive.state_one_way),
    ),
    *both("stateful", "a live flow is judged by the rules again", None, naive.flows(naive.state_after_rules)),
    *both("stateful", "a live flow skips basic ACLs", None, naive.flows(naive.state_skips_basic)),
    *both(
        "stateful",
        "one timeout for all",
        naive.instead(state, "_live", lambda original: lambda flow, now: True),
        naive.hosts(naive.one_timeout),
    ),
    *both(
        "stateful",
        "state outlives its rule",
        naive.instead(state.SwitchState, "for_site_change", lambda original: lambda self, site, switch: self),
        naive.hosts(naive.states_outlive_rules),
    ),
    *both(
        "stateful",
        "packets do not renew a state",
        naive.instead(
            switching._Passage,
            "_established",
            lambda original: (
                lambda self, port, direction: self.state.flow(port, flow_key(self.frame), self.now)
            ),
        ),
        None,
    ),
    *misread("extended-acls", "ranges without their last port", naive.entries(naive.shorter_ranges)),
    *misread("extended-acls", "no isolation id", naive.entries(lambda entry: replace(entry, isolation_id=0))),
    *misread(
        "extended-acls",
        "no ports",
        naive.entries(lambda entry: replace(entry, local_port=None, remote_port=None)),
    ),
    *misread(
        "extended-acls",
        "no protocol",
        naive.entries(lambda entry: replace(entry, protocol=None, local_port=None, remote_port=None)),
    ),
    *misread(
        "basic-acls",
        "Meter entries deny",
        naive.entries(
            basic=lambda e: replace(e, action=BasicAction.DENY) if e.action is BasicAction.METER else e
        ),
    ),
    *misread("forwarding", "learned MACs stay", naive.everlasting),
    *misread("forwarding", "room for every MAC", naive.endless_table),
    *both(
        "storm-limit",
        "known unicast counts",
        naive.instead(switching, "destinations", naive.storms(lambda found: True)),
        naive.storm_in(Table.VLAN_INGRESS, "reg0"),
    ),
    *both(
        "storm-limit",
        "unknown unicast does not count",
        naive.instead(switching, "destinations", naive.storms(lambda found: is_multicast(found[1].dst_mac))),
        naive.storm_spares("dl_dst=00:00:00:00:00:00/01:00:00:00:00:00"),
    ),
    *both(
        "storm-limit",
        "multicast does not count",
        naive.instead(
            switching,
            "destinations",
            naive.storms(lambda found: found[0].stormy and found[1].dst_mac[:5] not in ("33-33", "01-00")),
        ),
        naive.storm_spares("dl_dst=01:00:00:00:00:00/fd:00:00:00:00:00"),
    ),
    *both(
        "storm-limit",
        "ARP does not count",
        naive.instead(
            switching,
            "destinations",
            naive.storms(lambda found: found[0].stormy and found[1].ethertype != ARP),
        ),
        naive.storm_spares("dl_type=0x0806"),
    ),
    *both(
        "storm-limit",
        "what an adapter receives counts",
        naive.instead(switching._Passage, "_deliver", naive.storms_on_receive),
        naive.storm_in(Table.DELIVER, "reg1"),
    ),
    *both(
        "storm-limit",
        "what ACLs and checks stop counts",
        naive.instead(switching._Passage, "_enter", naive.storms_before_acls),
        naive.storm_in(Table.OUTBOUND_STATE, "reg0"),
    ),
    *both(
        "storm-limit",
        "one limit for the switch",
        naive.instead(state.SwitchState, "with_storm", naive.one_bucket),
        None,
    ),
    *both(
        "storm-limit",
        "the limit is for good",
        naive.instead(
            switching, "count", lambda original: lambda limit, bucket, now: original(limit, bucket, 0.0)
        ),
        None,
    ),
    *both(
        "storm-limit",
        "every second begins anew whatever was sent",
        naive.instead(switching, "count", lambda original: lambda limit, _, now: original(limit, None, now)),
        None,
    ),
    *misread("storm-limit", "no limit", naive.adapters(lambda a: replace(a, storm_limit=0))),
    *misread(
        "storm-limit",
        "0 is nothing at all",
        naive.adapters(lambda a: replace(a, storm_limit=a.storm_limit or 1)),
    ),
    *misread("vlans", "every VLAN is one", naive.vlan_setting(lambda vlan: Vlan())),
    *misread("vlans", "the native VLAN is untagged", naive.vlan_setting(naive.native_is_untagged)),
    *misread("vlans", "the native VLAN is tagged", naive.vlan_setting(naive.native_must_be_allowed)),
    *misread("vlans", "no isolation id", naive.entries(lambda entry: replace(entry, isolation_id=0))),
    *both(
        "vlans",
        "tags from access guests pass",
        None,
        naive.flows(naive.drop_of(DropReason.UNAUTHORIZED_VLAN)),
    ),
    *misread(
        "private-vlans",
        "isolated adapters see each other",
        naive.vlan_setting(naive.isolated_like_community),
    ),
    *misread("private-vlans", "communities are isolated", naive.vlan_setting(naive.community_like_isolated)),
    *misread(
        "private-vlans",
        "promiscuous adapters hear the primary only",
        naive.vlan_setting(naive.promiscuous_on_primary_only),
    ),
    *misread(
        "mirroring",
        "nothing is mirrored",
        naive.adapters(lambda a: replace(a, port_mirroring=PortMirroring.NONE)),
    ),
    *misread("mirroring", "Sources are Destinations", naive.adapters(naive_ports.mirroring_turned)),
    *both(
        "mirroring",
        "only what a Source sends",
        naive.instead(switching, "mirror_destinations", naive_ports.copies_of(sent=True, received=False)),
        naive.flows(naive_ports.copies_without(Table.DELIVER)),
    ),
    *both(
        "mirroring",
        "only what a Source receives",
        naive.instead(switching, "mirror_destinations", naive_ports.copies_of(sent=False, received=True)),
        naive.flows(naive_ports.copies_without(Table.LEARN)),
    ),
    *both("mirroring", "no unknown unicast", None, naive.flows(naive_ports.copies_without(Table.FLOOD))),
    *both("mirroring", "a copy for each Source", None, naive.flows(naive_ports.copied_again)),
    *both(
        "mirroring",
        "copies before the Outbound side",
        naive.instead(switching._Passage, "_enter", naive_ports.copies_before_policies),
        None,
    ),
    *both(
        "mirroring",
        "copies after the Source's Inbound ACLs",
        naive.instead(switching._Passage, "_mirror", naive_ports.copies_after_policies),
        None,
    ),
    *both(
        "mirroring",
        "copies of what finds a destination",
        naive.instead(switching._Passage, "_mirror", naive_ports.copies_of_the_delivered),
        None,
    ),
    *both(
        "mirroring",
        "copies pass a Destination's ACLs",
        naive.instead(switching._Passage, "_deliver", naive_ports.copies_past_acls),
        naive.flows(naive_ports.copies_meet(Table.OUTPUT)),
    ),
    *both(
        "mirroring",
        "copies pass a Destination's VLAN mode",
        naive.instead(switching._Passage, "_deliver", naive_ports.copies_past_vlans),
        naive.flows(naive_ports.copies_of_all_vlans),
    ),
    *misread("priorities", "kept for all", naive.adapters(lambda a: replace(a, ieee_priority_tag=True))),
    *misread("priorities", "kept for none", naive.adapters(lambda a: replace(a, ieee_priority_tag=False))),
    *misread(
        "priorities",
        "On is 1",
        naive.adapters(lambda a: replace(a, ieee_priority_tag=not a.ieee_priority_tag)),
    ),
    *both("priorities", "the uplink is not trusted", None, naive.flows(naive_ports.uplink_not_trusted)),
    *misread("sr-iov", "ACLs hold", naive.adapters(lambda a: replace(a, virtual_function=False))),
    *misread(
        "sr-iov", "virtual functions on any switch", naive.adapters(naive_ports.virtual_function_anywhere)
    ),
    *both(
        "sr-iov",
        "Inbound ACLs hold",
        naive.instead(
            switching._Passage, "_filter", naive_ports.virtual_function_one_way(Direction.OUTBOUND)
        ),
        None,
    ),
    *both(
        "sr-iov",
        "Outbound ACLs hold",
        naive.instead(switching._Passage, "_filter", naive_ports.virtual_function_one_way(Direction.INBOUND)),
        None,
    ),
    *both(
        "sr-iov",
        "guards hold",
        naive.instead(switching._Passage, "_guards", naive_ports.guards_for_virtual_functions),
        None,
    ),
    *both(
        "sr-iov",
        "no source-MAC check",
        None,
        naive.flows(naive_ports.virtual_function_enters_at(Table.VLAN_INGRESS)),
    ),
    *both("sr-iov", "no VLAN check", None, naive.flows(naive_ports.virtual_function_enters_at(Table.LEARN))),
    *both(
        "sr-iov",
        "what takes a virtual function is mirrored",
        naive.instead(
            mirroring, "_mirrors", lambda original: lambda adapter, mode: adapter.port_mirroring is mode
        ),
        naive_ports.mirrored_virtual_functions,
    ),
]


def _engine(mutation: Mutation, switches: TracedSwitches) -> Reference:
    if mutation.engine == "trace":
        return FlowTrace(switches)
    return naive.MisreadSite(mutation.site) if mutation.site else Reference()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.id)
def test_a_naive_reading_fails_a_scenario(mutation: Mutation, switches: TracedSwitches) -> None:
    engine = _engine(mutation, switches)
    with ExitStack() as stack:
        for each in mutation.patches():
            stack.enter_context(each)
        for scenario in mutation.scenarios:
            try:
                run(scenario, [engine], details=False)
            except Disagreement:
                return
    pytest.fail(f"{len(mutation.scenarios)} scenarios do not notice: {mutation.id}")


def test_every_rule_usually_got_wrong_has_scenarios_that_catch_its_naive_reading() -> None:
    """The numbers of the scenarios are not their own word: above, a reading fails where its number stands."""
    twelve = set(range(1, 13))
    assert {rule for scenario in SCENARIOS for rule in scenario.rules} == twelve
    assert {mutation.about for mutation in MUTATIONS if isinstance(mutation.about, int)} == twelve
    assert all(mutation.scenarios for mutation in MUTATIONS)
