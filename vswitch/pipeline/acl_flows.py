"""Port ACLs as flows: extended entries by weight, basic entries by longest prefix, Meter entries.

Extended (§4): the weight is the OpenFlow priority, so one changed entry is one changed flow. Basic
(§3): four independent tables (local IP, remote IP, local MAC, remote MAC), the prefix length is
the priority, a Deny stands above an Allow of the same length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_network
from itertools import groupby
from math import prod

from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl
from vswitch.model.types import (
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Network,
    Side,
    colon_mac,
)
from vswitch.pipeline.flow import Flow, Purpose, digest
from vswitch.pipeline.match import MatchSet, address_match, join, match_sets
from vswitch.pipeline.tables import AclTables, Table, acl_tables

__all__ = [
    "Zones",
    "basic_flows",
    "blocks",
    "extended_flows",
    "idle_timeouts",
    "state_flows",
    "state_mark",
]

#: Conntrack zone of each (adapter id, idle timeout in seconds) on one host.
Zones = dict[tuple[str, int], int]

_IP_FAMILIES = ("ip", "ipv6")
_STATEFUL_FAMILIES = ("tcp", "udp", "tcp6", "udp6")


def state_mark(adapter: Adapter, entry: ExtendedAcl) -> int:
    """The ct_mark of flow states that this entry made: 32 bits, never 0.

    It depends on what the entry says, not on its name or place, because Hyper-V knows a rule by its
    contents: a renamed rule keeps its live flows, a changed one is another rule.
    """
    return digest(f"{adapter.id}|{_contents(entry)}", 32)


@lru_cache(maxsize=1 << 18)
def _contents(entry: ExtendedAcl) -> str:
    parts = (
        entry.direction,
        entry.weight,
        entry.local_ip_address,
        entry.remote_ip_address,
        entry.local_port,
        entry.remote_port,
        entry.protocol,
        entry.idle_session_timeout,
        entry.isolation_id,
    )
    return "|".join(map(str, parts))


def idle_timeouts(adapter: Adapter) -> list[int]:
    """The distinct idle timeouts of an adapter's Stateful entries, in seconds, ascending."""
    return sorted({entry.idle_session_timeout for entry in adapter.extended_acls if entry.stateful})


def state_flows(adapter: Adapter, zones: Zones) -> Iterator[Flow]:
    """Look a TCP or UDP packet up among the adapter's live flow states (§4.4).

    A state lives in the zone of its rule's idle timeout, so an adapter whose rules have several
    timeouts has several zones, looked up one after the other. A live state is one with a mark: it
    skips the extended entries and nothing else (open question U6). Fragments are not looked up:
    conntrack would keep each back until it has the whole packet (U5).
    """
    timeouts = idle_timeouts(adapter)
    if not timeouts:
        return
    zone_of = [zones[adapter.id, timeout] for timeout in timeouts]
    for direction in Direction:
        tables = acl_tables(direction)
        port = f"{tables.register}={adapter.number}"
        for index, zone in enumerate(zone_of):
            for family in _STATEFUL_FAMILIES:
                yield Flow(
                    tables.state,
                    10,
                    join(family, port, f"reg3={index}", "ip_frag=no"),
                    f"ct(zone={zone},table={tables.established:d})",
                    adapter=adapter.id,
                    note="look up flow state",
                )
            last = index == len(zone_of) - 1
            yield Flow(
                tables.established,
                10,
                join(port, f"reg3={index}", "ct_mark=0"),
                f"goto_table:{tables.extended:d}"
                if last
                else f"set_field:{index + 1}->reg3,resubmit(,{tables.state:d})",
                adapter=adapter.id,
                note="no live flow state",
            )
            yield Flow(
                tables.established,
                5,
                join(port, f"reg3={index}"),
                f"goto_table:{tables.basic:d}",
                purpose=Purpose.STATE,
                adapter=adapter.id,
                note="live flow state",
            )


def extended_flows(
    adapter: Adapter, zones: Zones, entries: Sequence[ExtendedAcl], mark: int
) -> Iterator[Flow]:
    """The flows of entries that belong together (see `blocks`): one rule, one block of weights.

    `mark` is the `state_mark` of a Stateful entry, else unused.
    """
    first = entries[0]
    tables = acl_tables(first.direction)
    port = f"{tables.register}={adapter.number}"
    actions = _extended_actions(adapter, zones, first, mark, tables)
    priority = max(entry.weight for entry in entries)
    for matches in match_sets(tuple(entries)):
        for match in matches.products:
            yield Flow(
                tables.extended, priority, f"{port},{match}", actions, Purpose.RULE, first, adapter=adapter.id
            )
            if first.stateful and not (first.local_port or first.remote_port):
                # Fragments match it too, but open no flow.
                fragments = match.replace("ip_frag=no", "ip_frag=yes")
                yield Flow(
                    tables.extended,
                    priority,
                    f"{port},{fragments}",
                    f"goto_table:{tables.basic:d}",
                    Purpose.RULE,
                    first,
                    adapter=adapter.id,
                )
        if not matches.products:
            yield from _conjunction(adapter, first, tables.extended, priority, port, matches, actions)


def _extended_actions(
    adapter: Adapter, zones: Zones, entry: ExtendedAcl, mark: int, tables: AclTables
) -> str:
    if entry.action is Action.DENY:
        return "drop"
    onward = f"goto_table:{tables.basic:d}"
    if not entry.stateful:
        return onward
    zone = zones[adapter.id, entry.idle_session_timeout]
    return f"ct(commit,zone={zone},exec(set_field:{mark:#x}->ct_mark)),{onward}"


def _conjunction(
    adapter: Adapter,
    rule: ExtendedAcl,
    table: Table,
    priority: int,
    port: str,
    matches: MatchSet,
    actions: str,
) -> Iterator[Flow]:
    sets = [alternatives for alternatives in matches.sets if len(alternatives) > 1]
    common = join(port, matches.common, *(a[0] for a in matches.sets if len(a) == 1))
    number = digest(f"{adapter.id}|{rule.direction}|{priority}|{common}", 32)
    for index, alternatives in enumerate(sets, start=1):
        for alternative in alternatives:
            yield Flow(
                table,
                priority,
                join(common, alternative),
                f"conjunction({number},{index}/{len(sets)})",
                rule=rule,
                adapter=adapter.id,
                note="one side of a conjunction",
            )
    yield Flow(
        table, priority, join(common, f"conj_id={number}"), actions, Purpose.RULE, rule, adapter=adapter.id
    )


def blocks(entries: Sequence[ExtendedAcl]) -> Iterator[list[ExtendedAcl]]:
    """Entries of one direction, highest weight first, in groups that may share a priority.

    Entries of one stateless rule whose weights nothing separates and which together are all the
    combinations of their addresses and ports may be matched as sets. A Stateful entry stands
    alone: its live flows must end with it, not with its neighbours.
    """
    for _, run in groupby(entries, key=lambda e: (e.name, e.origin, e.action, e.protocol, e.stateful)):
        group = list(run)
        if len(group) > 1 and not group[0].stateful and _full_product(group):
            yield group
        else:
            yield from ([entry] for entry in group)


def _full_product(entries: Sequence[ExtendedAcl]) -> bool:
    if len({(e.isolation_id, e.direction) for e in entries}) > 1:
        return False
    seen = {(e.local_ip_address, e.remote_ip_address, e.local_port, e.remote_port) for e in entries}
    if len(seen) != len(entries):
        return False
    expected = 0
    by_version = [
        (
            {key[0] for key in seen if _version(key[0], key[1]) == version},
            {key[1] for key in seen if _version(key[0], key[1]) == version},
        )
        for version in (None, 4, 6)
    ]
    if any(by_version[0]) and any(by_version[1] + by_version[2]):
        return False
    ports = len({key[2] for key in seen}) * len({key[3] for key in seen})
    for addresses in by_version:
        expected += prod(len(side) for side in addresses) * ports
    return expected == len(entries)


def _version(local: Network | None, remote: Network | None) -> int | None:
    address = local or remote
    return address.version if address is not None else None


def basic_flows(adapter: Adapter) -> Iterator[Flow]:
    """Basic entries by longest prefix, and Meter entries, which only count (§3.2, §3.4)."""
    for direction in Direction:
        entries = [entry for entry in adapter.acls if entry.direction is direction]
        if not entries:
            continue
        tables = acl_tables(direction)
        yield Flow(
            tables.basic,
            10,
            f"{tables.register}={adapter.number}",
            f"goto_table:{tables.local_ip:d}",
            adapter=adapter.id,
            note="basic ACLs apply",
        )
        for entry in entries:
            yield from _basic_entry(adapter, entry, tables)


def _basic_entry(adapter: Adapter, entry: BasicAcl, tables: AclTables) -> Iterator[Flow]:
    port = f"{tables.register}={adapter.number}"
    local = entry.side is Side.LOCAL
    field = "src" if local is (entry.direction is Direction.OUTBOUND) else "dst"
    meter = entry.action is BasicAction.METER
    if entry.is_mac:
        table = tables.local_mac if local else tables.remote_mac
        wildcard = entry.address is AnyAddress.MAC
        matches = [(0, join(port, "" if wildcard else f"dl_{field}={colon_mac(str(entry.address))}"))]
        length = 0 if wildcard else 48
        matches = [(length, matches[0][1])]
    else:
        table = tables.local_ip if local else tables.remote_ip
        matches = [
            (network.prefixlen, join(family, port, address_match(field, network)))
            for family, network in _ip_alternatives(entry)
        ]
    if meter:
        table = tables.meter_local if local else tables.meter_remote
    actions = "drop" if entry.action is BasicAction.DENY else f"goto_table:{_next(table, tables):d}"
    for length, match in matches:
        priority = 2 * length + (3 if entry.action is BasicAction.DENY else 2)
        yield Flow(table, priority, match, actions, Purpose.RULE, entry, adapter=adapter.id)


def _ip_alternatives(entry: BasicAcl) -> list[tuple[str, Network]]:
    if entry.address is AnyAddress.IP:
        return [("ip", ip_network("0.0.0.0/0")), ("ipv6", ip_network("::/0"))]
    network = entry.address
    assert not isinstance(network, str)
    return [(_IP_FAMILIES[network.version == 6], network)]


def _next(table: Table, tables: AclTables) -> Table:
    return tables.after if table is tables.meter_remote else Table(table + 1)
