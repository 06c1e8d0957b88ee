"""A site as the flow programs of its hosts' switches.

`Compiler` remembers what it compiled, so that compiling a site that differs in one rule costs one
rule. Its results never depend on what it remembers: the same site always gives the same programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vswitch.model.site import Adapter, Site, Switch
from vswitch.model.types import Direction
from vswitch.pipeline.acl import (
    Zones,
    basic_flows,
    blocks,
    extended_flows,
    idle_timeouts,
    state_flows,
    state_mark,
)
from vswitch.pipeline.flow import Flow, digest
from vswitch.pipeline.forwarding import forwarding_flows

__all__ = ["Compiler", "HostProgram", "SwitchProgram", "compile_site"]

_MAX_ZONE = 65535


@dataclass(frozen=True, slots=True)
class SwitchProgram:
    """The flows of one switch by cookie."""

    switch: Switch
    flows: dict[int, Flow]


@dataclass(frozen=True, slots=True)
class HostProgram:
    """What one host's Open vSwitch instance is to hold.

    `switches` by bridge name; `zones` maps each conntrack zone to its idle timeout in seconds;
    `marks` are the ct_marks of flow states whose rule is in force.
    """

    host: str
    switches: dict[str, SwitchProgram]
    zones: dict[int, int]
    marks: frozenset[int]


@dataclass(slots=True)
class _AdapterCache:
    """Compiled blocks of one adapter by the identity of their entries, which it keeps alive."""

    zones: tuple[int, ...]
    bare: Adapter
    extended: dict[tuple[int, ...], tuple[list[object], tuple[Flow, ...]]] = field(default_factory=dict)
    marks: dict[int, tuple[object, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Compiler:
    """Compiles sites, quickly when they resemble the one before."""

    _adapters: dict[str, _AdapterCache] = field(default_factory=dict)
    _switches: dict[str, tuple[tuple[Switch, tuple[Adapter, ...]], tuple[Flow, ...]]] = field(
        default_factory=dict
    )

    def compile(self, site: Site) -> dict[str, HostProgram]:
        """The programs of all hosts, by host name."""
        teams: dict[str, list[Adapter]] = {}
        for adapter in site.adapters:
            teams.setdefault(adapter.guest, []).append(adapter)
        programs = {}
        for host in site.hosts:
            connected = [a for switch in host.switches for a in site.adapters_of(switch)]
            zones = _allocate_zones(connected)
            marks: set[int] = set()
            switches = {}
            for switch in host.switches:
                flows = {
                    flow.cookie: flow for flow in self._forwarding(switch, site.adapters_of(switch), teams)
                }
                for adapter in site.adapters_of(switch):
                    self._acls(adapter, zones, flows, marks)
                switches[switch.bridge] = SwitchProgram(switch, flows)
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

    def _acls(self, adapter: Adapter, zones: Zones, flows: dict[int, Flow], marks: set[int]) -> None:
        """Add the adapter's ACL flows to `flows` and its marks to `marks`.

        Entries that say the same (ANY and ::/0, both Allow) give the same flow; the first one owns it.
        """
        if not adapter.acls and not adapter.extended_acls:
            self._adapters.pop(adapter.id, None)
            return
        own_zones = tuple(zones[adapter.id, timeout] for timeout in idle_timeouts(adapter))
        bare = _bare(adapter)
        cache = self._adapters.get(adapter.id)
        if cache is None or cache.zones != own_zones or cache.bare != bare:
            cache = _AdapterCache(own_zones, bare)
        fresh = _AdapterCache(own_zones, bare)
        for flow in (*state_flows(adapter, zones), *basic_flows(adapter)):
            flows.setdefault(flow.cookie, flow)
        for direction in Direction:
            entries = [entry for entry in adapter.extended_acls if entry.direction is direction]
            for block in blocks(entries):
                key = tuple(map(id, block))
                known = cache.extended.get(key)
                if known is None:
                    known = (list(block), tuple(dict.fromkeys(extended_flows(adapter, zones, block))))
                fresh.extended[key] = known
                for flow in known[1]:
                    flows.setdefault(flow.cookie, flow)
        for entry in adapter.extended_acls:
            if entry.stateful:
                mark = cache.marks.get(id(entry)) or (entry, state_mark(adapter, entry))
                fresh.marks[id(entry)] = mark
                marks.add(mark[1])
        self._adapters[adapter.id] = fresh


def _bare(adapter: Adapter) -> Adapter:
    return replace(adapter, acls=(), extended_acls=())


def _allocate_zones(adapters: list[Adapter]) -> Zones:
    """A conntrack zone for each (adapter, idle timeout) of one host.

    Made from their digest, so that a changed policy leaves the zones of others, and with them
    their live flows, where they are.
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


def compile_site(site: Site) -> dict[str, HostProgram]:
    """The programs of all hosts of a site, by host name, compiled afresh."""
    return Compiler().compile(site)
