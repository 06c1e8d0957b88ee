"""Hyper-V's rules read naively: changes of the reference and of what is compiled, for this process only.

`flows`, `hosts` and `compiled_from` make a compiler that goes wrong, `instead` a reference that does; a
change of the site is a reading that either of them may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any
from unittest.mock import patch

from tests.support.scenarios import trace as scenario_trace
from tests.support.scenarios.engines import Reference
from tests.support.scenarios.scenario import Scenario
from tests.support.sites import rules_of
from vswitch.model.site import (
    Adapter,
    BasicAcl,
    ExtendedAcl,
    Guest,
    Nat,
    NatFiltering,
    Site,
    StaticMapping,
    Switch,
)
from vswitch.model.types import Action, AnyAddress, BasicAction, Direction, PortRange, Vlan, VlanMode
from vswitch.pipeline import Flow, HostProgram, Purpose, SwitchProgram, Table, compile_site
from vswitch.semantics import acl, forwarding
from vswitch.semantics.acl import ExtendedVerdict
from vswitch.semantics.frame import Frame, is_multicast
from vswitch.semantics.guards import guard_drops
from vswitch.semantics.storm import count
from vswitch.semantics.verdict import DropReason, Stage

EXTENDED = (Table.OUTBOUND_EXTENDED, Table.INBOUND_EXTENDED)
Patches = Callable[[], Iterable[AbstractContextManager[Any]]]
Misread = Callable[[Site], Site]


# ------------------------------------------------------------------ ways to change what is compiled


def flows(change: Callable[[Flow], Flow | list[Flow] | None]) -> Patches:
    """A compiler whose flows are changed one by one: to another one, to none, or to several."""

    def changed(program: SwitchProgram) -> SwitchProgram:
        found: dict[int, Flow] = {}
        for flow in program.flows.values():
            made = change(flow)
            for each in made if isinstance(made, list) else [made] if made else []:
                found.setdefault(each.cookie, each)
        return replace(program, flows=found)

    def compiled(site: Site) -> dict[str, HostProgram]:
        return {
            name: replace(
                host, switches={bridge: changed(program) for bridge, program in host.switches.items()}
            )
            for name, host in compile_site(site).items()
        }

    return lambda: [patch.object(scenario_trace, "compile_site", compiled)]


def hosts(change: Callable[[HostProgram], HostProgram]) -> Patches:
    """A compiler whose result for each host is changed."""
    return lambda: [
        patch.object(
            scenario_trace,
            "compile_site",
            lambda site: {name: change(host) for name, host in compile_site(site).items()},
        )
    ]


def compiled_from(change: Callable[[Site], Site]) -> Patches:
    """A compiler that misreads the site."""
    return lambda: [patch.object(scenario_trace, "compile_site", lambda site: compile_site(change(site)))]


def adapters(change: Callable[[Adapter], Adapter]) -> Callable[[Site], Site]:
    def changed(site: Site) -> Site:
        guests = tuple(replace(guest, adapters=tuple(map(change, guest.adapters))) for guest in site.guests)
        return replace(site, guests=guests)

    return changed


def entries(
    extended: Callable[[ExtendedAcl], ExtendedAcl] = lambda entry: entry,
    basic: Callable[[BasicAcl], BasicAcl] = lambda entry: entry,
) -> Callable[[Site], Site]:
    return adapters(
        lambda adapter: replace(
            adapter,
            extended_acls=tuple(map(extended, adapter.extended_acls)),
            acls=tuple(map(basic, adapter.acls)),
        )
    )


def drop_of(reason: DropReason) -> Callable[[Flow], Flow | None]:
    """A compiler that forgets one of the built-in checks."""
    return lambda flow: None if flow.reason == reason else flow


# ------------------------------------------------------------------ ways to change the reference


class MisreadSite(Reference):
    """The reference, given a site that was misread."""

    def __init__(self, change: Misread) -> None:
        self.change = change

    def begin(self, scenario: Scenario) -> None:
        super().begin(replace(scenario, site=self.change(scenario.site)))

    def apply(self, site: Site, policy: str) -> None:
        super().apply(self.change(site), policy)


def instead(place: object, name: str, make: Callable[[Any], Any]) -> Patches:
    """`place.name` becomes `make` of the original."""
    return lambda: [patch.object(place, name, make(getattr(place, name)))]


def smaller_weight_first(original: Any) -> Any:
    return lambda table: {key: tuple(reversed(found)) for key, found in original(table).items()}


def default_deny(original: Any) -> Any:
    def evaluate(rules: tuple[ExtendedAcl, ...], *args: Any, **kwargs: Any) -> ExtendedVerdict:
        found = original(rules, *args, **kwargs)
        if found.rule is None and rules:
            return ExtendedVerdict(replace(rules[0], name="default", action=Action.DENY))
        return found  # type: ignore[no-any-return]

    return evaluate


def other_direction(original: Any) -> Any:
    def evaluate(rules: Any, direction: Direction, *args: Any, **kwargs: Any) -> Any:
        return original(rules, _turned(direction), *args, **kwargs)

    return evaluate


def _turned(direction: Direction) -> Direction:
    return Direction.INBOUND if direction is Direction.OUTBOUND else Direction.OUTBOUND


def first_written(original: Any) -> Any:
    del original
    return lambda matching, assumptions: matching[0][1] if matching else None


def only(direction: Direction) -> Callable[[Any], Any]:
    """ACLs of one direction only."""

    def make(original: Any) -> Any:
        def filtered(self: Any, adapter: Adapter, wanted: Direction, vlan: int | None) -> Any:
            return original(self, adapter, wanted, vlan) if wanted is direction else True

        return filtered

    return make


def arp_is_ip(original: Any) -> Any:
    def filtered(self: Any, adapter: Adapter, direction: Direction, vlan: int | None) -> Any:
        if acl.arp_hangs_on(adapter.extended_acls, adapter.acls, direction, self.frame):
            denying = [rule for rule in rules_of(adapter) if rule.action == "Deny"]
            self._drop_by(adapter.number, Stage.BASIC_ACL, direction, vlan, denying[-1])
            return False
        return original(self, adapter, direction, vlan)

    return filtered


def passes_always(which: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def evaluate(rules: Any, direction: Any, frame: Any, *args: Any, **kwargs: Any) -> Any:
            if which(frame):
                return ExtendedVerdict(None)
            return original(rules, direction, frame, *args, **kwargs)

        return evaluate

    return make


def guards_on_receive(original: Any) -> Any:
    def deliver(self: Any, port: int, vlan: int) -> None:
        adapter = self.ports.by_number.get(port)
        if adapter and (reason := guard_drops(adapter, self.frame)):
            self._drop(port, Stage.DHCP_GUARD, reason, Direction.INBOUND, vlan, "naive")
            return
        original(self, port, vlan)

    return deliver


def unknown_to_all(original: Any) -> Any:
    del original
    return forwarding._flood


def storms(which: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """A StormLimit that counts the frames of these destinations, and no others."""

    def make(original: Any) -> Any:
        def destinations(switch: Any, ports: Any, ingress: int, frame: Any, *args: Any) -> Any:
            found = original(switch, ports, ingress, frame, *args)
            return replace(found, stormy=which((found, frame)))

        return destinations

    return make


def storms_on_receive(original: Any) -> Any:
    def deliver(self: Any, port: int, vlan: int) -> None:
        adapter = self.ports.by_number.get(port)
        if adapter and adapter.storm_limit and is_multicast(self.frame.dst_mac):
            bucket, within = count(adapter.storm_limit, self.state.storms.get(port), self.now)
            self.state = self.state.with_storm(port, bucket)
            if not within:
                self._drop(port, Stage.STORM_LIMIT, DropReason.STORM_LIMIT, Direction.INBOUND, vlan, "naive")
                return
        original(self, port, vlan)

    return deliver


def storms_before_acls(original: Any) -> Any:
    def enter(self: Any) -> Any:
        if self.sender and is_multicast(self.frame.dst_mac) and not self._within_storm_limit(0):
            return None
        return original(self)

    return enter


def one_bucket(original: Any) -> Any:
    return lambda self, port, bucket: replace(self, storms=dict.fromkeys(range(64), bucket))


def one_way_key(original: Any) -> Any:
    def key(frame: Any) -> Any:
        found = original(frame)
        return found and found._replace(low=(frame.src, frame.src_port), high=(frame.dst, frame.dst_port))

    return key


def any_allow_wins(original: Any) -> Any:
    def families(*args: Any) -> Any:
        decisions = [rule for rule in original(*args) if rule is not None]
        allows = [rule for rule in decisions if rule.action is BasicAction.ALLOW]
        return allows or decisions

    return families


# ------------------------------------------------------------------ readings of the site


def zero_is_any(site: Site) -> Site:
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))

    def extended(entry: ExtendedAcl) -> ExtendedAcl:
        local, remote = (
            None if address in everything else address
            for address in (entry.local_ip_address, entry.remote_ip_address)
        )
        return replace(entry, local_ip_address=local, remote_ip_address=remote)

    def basic(entry: BasicAcl) -> BasicAcl:
        return replace(entry, address=AnyAddress.IP) if entry.address in everything else entry

    return entries(extended, basic)(site)


def turn_entries(site: Site) -> Site:
    return entries(
        lambda entry: replace(entry, direction=_turned(entry.direction)),
        lambda entry: replace(entry, direction=_turned(entry.direction)),
    )(site)


def one_is_on(adapter: Adapter) -> Adapter:
    """OnOffState read as if 1 were On."""
    return replace(adapter, mac_address_spoofing=not adapter.mac_address_spoofing)


def shorter_ranges(entry: ExtendedAcl) -> ExtendedAcl:
    """Ranges without their last port."""

    def cut(ports: PortRange | None) -> PortRange | None:
        return PortRange(ports.first, ports.last - 1) if ports and ports.last > ports.first else ports

    return replace(entry, local_port=cut(entry.local_port), remote_port=cut(entry.remote_port))


def everlasting(site: Site) -> Site:
    def switch(each: Switch) -> Switch:
        return replace(each, aging_time=300)

    return replace(site, hosts=tuple(replace(h, switches=tuple(map(switch, h.switches))) for h in site.hosts))


def endless_table(site: Site) -> Site:
    def switch(each: Switch) -> Switch:
        return replace(each, max_mac_addresses=4096)

    return replace(site, hosts=tuple(replace(h, switches=tuple(map(switch, h.switches))) for h in site.hosts))


def vlan_setting(change: Callable[[Vlan], Vlan]) -> Callable[[Site], Site]:
    return adapters(lambda adapter: replace(adapter, vlan=change(adapter.vlan)))


def isolated_like_community(vlan: Vlan) -> Vlan:
    return replace(vlan, mode=VlanMode.COMMUNITY) if vlan.mode is VlanMode.ISOLATED else vlan


def community_like_isolated(vlan: Vlan) -> Vlan:
    return replace(vlan, mode=VlanMode.ISOLATED) if vlan.mode is VlanMode.COMMUNITY else vlan


def promiscuous_on_primary_only(vlan: Vlan) -> Vlan:
    return replace(vlan, secondaries=()) if vlan.mode is VlanMode.PROMISCUOUS else vlan


def native_is_untagged(vlan: Vlan) -> Vlan:
    return replace(vlan, native=0) if vlan.mode is VlanMode.TRUNK else vlan


def native_must_be_allowed(vlan: Vlan) -> Vlan:
    """A trunk whose native VLAN reaches it as an ordinary, tagged one."""
    if vlan.mode is not VlanMode.TRUNK or not vlan.native:
        return vlan
    return replace(vlan, native=0, allowed=tuple(sorted({*vlan.allowed, vlan.native})))


# ------------------------------------------------------------------ readings of the flows


def order_for_prefix(flow: Flow) -> Flow:
    if flow.purpose is Purpose.RULE and isinstance(flow.rule, BasicAcl):
        return replace(flow, priority=5000 - flow.rule.origin.line)
    return flow


def drop_where_nothing_matches(flow: Flow) -> Flow:
    return replace(flow, actions="drop") if flow.table in EXTENDED and flow.priority == 0 else flow


def one_side_only(direction: str) -> Callable[[Flow], Flow | None]:
    return lambda flow: None if flow.rule and flow.table.name.startswith(direction) else flow


def arp_too(flow: Flow) -> list[Flow]:
    """Entries that deny every IPv4 packet deny ARP as well."""
    family, *rest = flow.match.split(",")
    if flow.rule and flow.is_drop and family == "ip" and len(rest) == 1:
        return [flow, replace(flow, match=",".join(["arp", *rest]))]
    return [flow]


def let_pass(*matches: str) -> Callable[[Flow], list[Flow]]:
    """Something that the extended tables let pass, whatever the entries say."""

    def change(flow: Flow) -> list[Flow]:
        if flow.table in EXTENDED and flow.priority == 0:
            return [flow, *(replace(flow, priority=65535, match=match) for match in matches)]
        return [flow]

    return change


def guards_for_receivers(flow: Flow) -> Flow:
    if flow.reason in (DropReason.DHCP_GUARD, DropReason.ROUTER_GUARD):
        return replace(flow, table=Table.DELIVER, priority=30, match=flow.match.replace("reg0=", "reg1="))
    return flow


def storm_flow(change: Callable[[Flow], Flow | list[Flow] | None]) -> Patches:
    """A compiler that changes the flows of StormLimits."""
    return flows(lambda flow: change(flow) if flow.reason == DropReason.STORM_LIMIT else flow)


def storm_in(table: Table, register: str) -> Patches:
    """A StormLimit that counts whatever meets a table."""

    def change(flow: Flow) -> Flow:
        number = flow.match.split(",")[0].removeprefix("reg0=")
        # Register 9 is nobody's: it marks what was counted, so that it does not come back for ever.
        match = f"{register}={number},reg9=0"
        actions = f"meter:{flow.meter},set_field:1->reg9,resubmit(,{table:d})"
        return replace(flow, table=table, priority=65535, match=match, actions=actions)

    return storm_flow(change)


def storm_spares(match: str) -> Patches:
    """A StormLimit that does not count some frames."""

    def change(flow: Flow) -> list[Flow]:
        onward = flow.actions.partition(",")[2]
        spared = replace(
            flow, priority=flow.priority + 1, match=f"{flow.match},{match}", actions=onward,
            purpose=Purpose.FORWARD, meter=0,
        )  # fmt: skip
        return [flow, spared]

    return storm_flow(change)


def unknown_unicast_to_all(site: Site) -> dict[str, HostProgram]:
    """The flooding of a site in which every adapter has spoofing On."""
    from_all = compile_site(adapters(lambda a: replace(a, mac_address_spoofing=True))(site))
    made = compile_site(site)
    for name, host in made.items():
        for bridge, program in host.switches.items():
            other = from_all[name].switches[bridge].flows
            kept = {c: f for c, f in program.flows.items() if f.table is not Table.FLOOD}
            taken = {c: f for c, f in other.items() if f.table is Table.FLOOD}
            host.switches[bridge] = replace(program, flows=kept | taken)
    return made


def state_one_way(flow: Flow) -> Flow | None:
    return None if flow.purpose is Purpose.STATE and flow.table is Table.OUTBOUND_ESTABLISHED else flow


def state_after_rules(flow: Flow) -> Flow:
    if flow.purpose is Purpose.STATE:
        return replace(flow, actions=f"goto_table:{flow.table + 1:d}")
    return flow


def state_skips_basic(flow: Flow) -> Flow:
    if flow.purpose is Purpose.STATE:
        after = Table.GUARDS if flow.table is Table.OUTBOUND_ESTABLISHED else Table.OUTPUT
        return replace(flow, actions=f"goto_table:{after:d}")
    return flow


class _Everything(frozenset[tuple[int, int]]):
    def __contains__(self, item: object) -> bool:
        return True


def one_timeout(host: HostProgram) -> HostProgram:
    return replace(host, zones=dict.fromkeys(host.zones, 300))


def states_outlive_rules(host: HostProgram) -> HostProgram:
    return replace(host, marks=_Everything())


def weights_turned(flow: Flow) -> Flow:
    return replace(flow, priority=65536 - flow.priority) if flow.table in EXTENDED and flow.priority else flow


# ------------------------------------------------------------------ NAT


def nothing(_original: Any) -> Any:
    """A NAT that leaves every packet as it is."""
    return lambda *_: None


def for_everybody(original: Callable[[Nat, Frame], StaticMapping | None]) -> Any:
    """Static mappings without their senders."""
    return lambda nat, packet: original(
        replace(nat, mappings=tuple(replace(each, remote=None) for each in nat.mappings)), packet
    )


def router_for_nat(site: Site) -> Site:
    """Hosts that pass everything on as it is."""
    return _with_hosts(site, lambda guest: replace(guest, nat=None, forwarding=True))


def endpoint_independent(site: Site) -> Site:
    """The filtering behavior that Set-NetNat's page has for the default (U12)."""
    anybody = NatFiltering.ENDPOINT_INDEPENDENT
    return _with_hosts(
        site, lambda guest: replace(guest, nat=guest.nat and replace(guest.nat, udp_filtering=anybody))
    )


def _with_hosts(site: Site, change: Callable[[Guest], Guest]) -> Site:
    return replace(site, guests=tuple(change(guest) if guest.nat else guest for guest in site.guests))
