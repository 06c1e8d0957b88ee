"""A site as the flow programs of its hosts' switches.

`Compiler` remembers what it compiled, so that compiling a site that differs in one rule costs one
rule. Its results never depend on what it remembers: the same site always gives the same programs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from vswitch.errors import InputError
from vswitch.model.site import Adapter, ExtendedAcl, Site, Switch
from vswitch.model.types import Direction
from vswitch.pipeline.acl_flows import (
    Zones,
    basic_flows,
    blocks,
    extended_flows,
    idle_timeouts,
    state_flows,
    state_mark,
)
from vswitch.pipeline.flow import Flow, digest
from vswitch.pipeline.forwarding_flows import forwarding_flows
from vswitch.pipeline.limit_meters import Meter, meters_of

__all__ = ["Compiler", "HostProgram", "SwitchProgram", "check_lookups", "compile_site"]

_MAX_ZONE = 65535
#: Open vSwitch's userspace datapath drops a packet, uncounted, that is to be looked up once more.
_MOST_LOOKUPS = 6


@dataclass(frozen=True, slots=True)
class SwitchProgram:
    """The flows of one switch by cookie, and the meters they name by number."""

    switch: Switch
    flows: dict[int, Flow]
    meters: dict[int, Meter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostProgram:
    """What one host's Open vSwitch instance is to hold.

    `switches` by bridge name; `zones` maps each conntrack zone to its idle timeout in seconds;
    `marks` are the (zone, ct_mark) pairs of flow states whose rule is in force: a state that is in
    another zone than its rule belongs to another adapter by now.
    """

    host: str
    switches: dict[str, SwitchProgram]
    zones: dict[int, int]
    marks: frozenset[tuple[int, int]]


@dataclass(slots=True)
class _Compiled:
    """The ACLs of one adapter, compiled. It keeps its entries alive, so that identity tells them apart."""

    adapter: Adapter
    zones: tuple[int, ...]
    flows: dict[int, Flow]
    marks: frozenset[tuple[int, int]]
    blocks: dict[tuple[int, ...], tuple[Flow, ...]]
    mark_of: dict[int, int]

    def fits(self, adapter: Adapter, zones: tuple[int, ...]) -> bool:
        """Whether its blocks may be used for `adapter`: ACL flows depend on nothing else of it."""
        own = self.adapter
        return (own.id, own.number, self.zones) == (adapter.id, adapter.number, zones)


@dataclass(slots=True)
class Compiler:
    """Compiles sites, quickly when they resemble the one before."""

    _adapters: dict[str, _Compiled] = field(default_factory=dict)
    _switches: dict[str, tuple[tuple[Switch, tuple[Adapter, ...]], tuple[Flow, ...]]] = field(
        default_factory=dict
    )

    def compile(self, site: Site) -> dict[str, HostProgram]:
        """The programs of all hosts, by host name. Raises InputError as `check_lookups` does."""
        check_lookups(site)
        teams: dict[str, list[Adapter]] = {}
        for adapter in site.adapters:
            teams.setdefault(adapter.guest, []).append(adapter)
        programs = {}
        for host in site.hosts:
            connected = [a for switch in host.switches for a in _filtered(site.adapters_of(switch))]
            zones = _allocate_zones(connected)
            marks: set[tuple[int, int]] = set()
            switches = {}
            for switch in host.switches:
                flows = {
                    flow.cookie: flow for flow in self._forwarding(switch, site.adapters_of(switch), teams)
                }
                for adapter in _filtered(site.adapters_of(switch)):
                    if adapter.acls or adapter.extended_acls:
                        compiled = self._acls(adapter, zones)
                        flows.update(compiled.flows)
                        marks |= compiled.marks
                meters = meters_of(site.adapters_of(switch))
                switches[switch.bridge] = SwitchProgram(switch, flows, meters)
            timeouts = {zone: timeout for (_, timeout), zone in zones.items()}
            programs[host.name] = HostProgram(host.name, switches, timeouts, frozenset(marks))
        return programs

    def _forwarding(
        self, switch: Switch, adapters: tuple[Adapter, ...], teams: dict[str, list[Adapter]]
    ) -> tuple[Flow, ...]:
        bare = tuple(_bare(adapter) for adapter in adapters)
        key = (switch, bare)
        teamed = any(adapter.allow_teaming for adapter in adapters)
        cached = self._switches.get(switch.id)
        if cached is not None and cached[0] == key and not teamed:
            return cached[1]
        flows = tuple(dict.fromkeys(forwarding_flows(switch, adapters, teams)))
        self._switches[switch.id] = (key, flows)
        return flows

    def _acls(self, adapter: Adapter, zones: Zones) -> _Compiled:
        """The adapter's ACLs, compiled.

        Entries that say the same (ANY and ::/0, both Allow) give the same flow; the first one owns it.
        """
        own_zones = tuple(zones[adapter.id, timeout] for timeout in idle_timeouts(adapter))
        known = self._adapters.get(adapter.id)
        if known is None or not known.fits(adapter, own_zones):
            known = _Compiled(adapter, own_zones, {}, frozenset(), {}, {})
        elif adapter.extended_acls is known.adapter.extended_acls and adapter.acls is known.adapter.acls:
            return known
        found: dict[int, Flow] = {}
        parts: dict[tuple[int, ...], tuple[Flow, ...]] = {}
        for flow in (*state_flows(adapter, zones), *basic_flows(adapter)):
            found.setdefault(flow.cookie, flow)
        mark_of = {
            id(entry): known.mark_of.get(id(entry)) or state_mark(adapter, entry)
            for entry in adapter.extended_acls
            if entry.stateful
        }
        for direction in Direction:
            entries = [entry for entry in adapter.extended_acls if entry.direction is direction]
            for block in blocks(entries):
                key = tuple(map(id, block))
                flows = known.blocks.get(key)
                if flows is None:
                    flows = tuple(extended_flows(adapter, zones, block, mark_of.get(key[0], 0)))
                parts[key] = flows
                for flow in flows:
                    found.setdefault(flow.cookie, flow)
        marks = frozenset(
            (zones[adapter.id, entry.idle_session_timeout], mark_of[id(entry)])
            for entry in adapter.extended_acls
            if entry.stateful
        )
        fresh = _Compiled(adapter, own_zones, found, marks, parts, mark_of)
        self._adapters[adapter.id] = fresh
        return fresh


def _filtered(adapters: Iterable[Adapter]) -> list[Adapter]:
    """Those whose frames meet ACLs: the switch sees none of a virtual function (§1.6)."""
    return [adapter for adapter in adapters if not adapter.virtual_function]


def _bare(adapter: Adapter) -> Adapter:
    return replace(adapter, acls=(), extended_acls=())


def _allocate_zones(adapters: list[Adapter]) -> Zones:
    """A conntrack zone for each (adapter, idle timeout) of one host.

    Made from their digest, so that a changed policy leaves the zones of others, and with them
    their live flows, where they are, unless two digests meet: the later adapter's zone moves then,
    and its live flows end.
    """
    zones: Zones = {}
    taken: set[int] = set()
    for adapter in adapters:
        for timeout in idle_timeouts(adapter):
            zone = digest(f"{adapter.id}|{timeout}", 16)
            while zone in taken:
                zone = zone % _MAX_ZONE + 1
            taken.add(zone)
            zones[adapter.id, timeout] = zone
    return zones


def check_lookups(site: Site) -> None:
    """Raise InputError where a packet may need more look-ups of flow state than Open vSwitch makes.

    It needs one for each idle timeout of its sender's Stateful entries and of its receiver's.
    """
    for switch in site.switch.values():
        stateful = [adapter for adapter in _filtered(site.adapters_of(switch)) if idle_timeouts(adapter)]
        most = sorted(stateful, key=lambda adapter: -len(idle_timeouts(adapter)))[:2]
        if sum(len(idle_timeouts(adapter)) for adapter in most) <= _MOST_LOOKUPS:
            continue
        counts = " and ".join(f"{len(idle_timeouts(adapter))} of {adapter.id}" for adapter in most)
        first: dict[int, ExtendedAcl] = {}
        for entry in most[0].extended_acls:
            if entry.stateful:
                first.setdefault(entry.idle_session_timeout, entry)
        raise InputError(
            f"too many different idle_session_timeout values of Stateful rules: {counts} on {switch.id}",
            where=list(first.values())[-1].origin,
            hint=f"The lab tells {_MOST_LOOKUPS} apart for a packet's sender and receiver together: "
            "give rules of one adapter the same timeout.",
        )


def compile_site(site: Site) -> dict[str, HostProgram]:
    """The programs of all hosts of a site, by host name, compiled afresh. Raises as `check_lookups`."""
    return Compiler().compile(site)
