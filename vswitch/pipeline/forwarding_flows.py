"""Everything of a virtual switch but its ACLs, as flows: VLANs, MAC checks, learning, forwarding.

Sources: hyper-v-facts §§1.2-1.6, 2 and 2.1; where those leave a question open, the working
assumptions in docs/reference/assumptions.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vswitch.model.site import Adapter, Switch
from vswitch.model.types import Direction, DropReason, VlanMode, colon_mac
from vswitch.pipeline.flow import Flow, Purpose
from vswitch.pipeline.limit_meters import limit_flows
from vswitch.pipeline.masks import ranges, split_range
from vswitch.pipeline.match import join
from vswitch.pipeline.mirroring_flows import COPY_ALL, NOT_MIRRORED, mirror_flows, mirrors
from vswitch.pipeline.tables import ILLEGAL_TAG, Table, acl_tables

__all__ = ["LEARNED_COOKIE", "forwarding_flows"]

#: Cookie of every learned entry of a switch. learn() counts its limit by cookie.
LEARNED_COOKIE = 0x1EA53ED

_UNTAGGED = "vlan_tci=0x0000/0x1000"
_PRIORITY_TAGGED = "vlan_tci=0x1000/0x1fff"
_TAGGED = "vlan_tci=0x1000/0x1000"
_MULTICAST = "01:00:00:00:00:00/01:00:00:00:00:00"
_ALL_VLANS = range(4096)  # 4095, which no adapter may be given, can still come in by the uplink
#: Types of a VLAN tag: as what a frame carries behind its first tag.
_TAG_TYPES = (0x8100, 0x88A8)


def _drop(
    table: Table, priority: int, match: str, reason: str, adapter: Adapter | None = None, note: str = ""
) -> Flow:
    owner = adapter.id if adapter else ""
    return Flow(table, priority, match, "drop", Purpose.DROP, reason=reason, adapter=owner, note=note)


def forwarding_flows(
    switch: Switch, adapters: Sequence[Adapter], teams: dict[str, list[Adapter]]
) -> Iterator[Flow]:
    """All flows of a switch apart from its adapters' ACLs.

    `adapters` are those connected to it; `teams` maps a guest to all its adapters (AllowTeaming
    looks at those of other switches too). The same input gives the same flows in the same order.
    """
    yield from _miss_flows()
    yield from _input(switch, adapters)
    yield from _guards(adapters)
    yield from _source_mac(switch, adapters, teams)
    yield from _vlan_ingress(adapters)
    yield from limit_flows(adapters)
    yield from _learn(switch, adapters, teams)
    yield from _forward(adapters)
    yield from _flood(switch, adapters)
    yield from _deliver(switch, adapters)
    yield from mirror_flows(
        adapters, {a.id: list(_register_vlans(a.vlan.receives)) for a in mirrors(adapters)[1]}
    )
    yield from _output(switch, adapters)


def _miss_flows() -> Iterator[Flow]:
    for direction in Direction:
        tables = acl_tables(direction)
        onward = {
            tables.state: tables.extended,
            tables.extended: tables.basic,
            tables.basic: tables.after,
            tables.local_ip: tables.remote_ip,
            tables.remote_ip: tables.local_mac,
            tables.local_mac: tables.remote_mac,
            tables.remote_mac: tables.meter_local,
            tables.meter_local: tables.meter_remote,
            tables.meter_remote: tables.after,
        }
        for table, following in onward.items():
            yield Flow(table, 0, "", f"goto_table:{following:d}", note="no entry matches: pass")
    for table in (Table.GUARDS, Table.SOURCE_MAC, Table.VLAN_INGRESS, Table.LEARN):
        yield Flow(table, 0, "", f"goto_table:{table + 1:d}", note="pass")
    yield _drop(Table.INPUT, 0, "", DropReason.NOT_CONNECTED, note="no adapter is connected to this port")
    yield Flow(
        Table.FORWARD,
        0,
        "",
        f"resubmit(,{Table.LEARNED:d}),goto_table:{Table.FLOOD:d}",
        note="not an adapter's own MAC: ask the learned entries",
    )
    yield Flow(Table.FLOOD, 0, "", f"goto_table:{Table.DELIVER:d}", note="learned")
    yield _drop(
        Table.FILTERED_VLAN, 0, "", DropReason.FILTERED_VLAN, note="flooded past adapters of other VLANs"
    )
    yield Flow(Table.DELIVER, 0, "", f"set_field:0->reg3,goto_table:{Table.INBOUND_STATE:d}")


def _vlan_masks(vlans: Iterable[int]) -> Iterator[tuple[int, int]]:
    for first, last in ranges(vlans):
        yield from split_range(first, last, bits=12)


def _register_vlans(vlans: Iterable[int]) -> Iterator[str]:
    """Matches on reg2 that cover exactly these VLANs."""
    for value, mask in _vlan_masks(vlans):
        yield f"reg2={value}" if mask == 0xFFF else f"reg2={value:#x}/{0xFFFFF000 | mask:#x}"


def _tag_matches(vlans: Iterable[int]) -> Iterator[str]:
    """Matches on a frame's 802.1Q tag that cover exactly these VLANs."""
    for value, mask in _vlan_masks(vlans):
        yield f"vlan_tci={0x1000 | value:#x}/{0x1000 | mask:#x}"


_KEEP_PRIORITY = "move:NXM_OF_VLAN_TCI[13..15]->NXM_NX_REG8[0..2],"
_TAG_TO_REGISTER = "move:NXM_OF_VLAN_TCI[0..11]->NXM_NX_REG2[0..11],pop_vlan"


def _input(switch: Switch, adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """Note where the frame came in and on which VLAN; a tag is taken off until OUTPUT (§2.1).

    A priority tag (VLAN 0) counts as untagged (U16). A tag the adapter may not use is only marked
    here: ACLs come first (§1.6), the drop is in VLAN_INGRESS. Frames on a virtual function meet none.
    """
    for adapter in adapters:
        port = f"in_port={adapter.number}"
        private = ",set_field:1->reg4" if adapter.vlan.is_private else ""
        here = f"set_field:{adapter.number}->reg0{private}"
        policies = Table.SOURCE_MAC if adapter.virtual_function else Table.OUTBOUND_STATE
        onward = f"goto_table:{policies:d}"
        vlan = f",set_field:{adapter.vlan.send}->reg2" if adapter.vlan.send else ""
        keep = _KEEP_PRIORITY if adapter.ieee_priority_tag else ""
        for tag, pop in ((_UNTAGGED, ""), (_PRIORITY_TAGGED, f",set_field:1->reg5,{keep}pop_vlan")):
            yield Flow(
                Table.INPUT,
                30,
                join(port, tag),
                f"{here}{vlan}{pop},{onward}",
                adapter=adapter.id,
                note="from the guest",
            )
        if adapter.vlan.mode is VlanMode.TRUNK:
            for tag in _tag_matches(v for v in adapter.vlan.receives if v):
                yield Flow(
                    Table.INPUT,
                    20,
                    join(port, tag),
                    f"{here},{keep}{_TAG_TO_REGISTER},{onward}",
                    adapter=adapter.id,
                    note="tagged, from the guest",
                )
        yield Flow(
            Table.INPUT,
            10,
            port,
            f"{here},set_field:{ILLEGAL_TAG:#x}->reg2,{onward}",
            adapter=adapter.id,
            note="a tag the adapter may not use",
        )
    if switch.uplink:
        port = f"in_port={switch.uplink}"
        here = f"set_field:{switch.uplink}->reg0"
        onward = f"goto_table:{Table.SOURCE_MAC:d}"
        yield Flow(
            Table.INPUT, 30, join(port, _UNTAGGED), f"{here},{onward}", note="from the physical network"
        )
        # Behind the uplink only a trunk sees tags again.
        keep = _KEEP_PRIORITY if any(each.vlan.mode is VlanMode.TRUNK for each in adapters) else ""
        yield Flow(
            Table.INPUT,
            20,
            join(port, _TAGGED),
            f"{here},{keep}{_TAG_TO_REGISTER},{onward}",
            note="tagged, from the physical network",
        )


def _guards(adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """What a guarded adapter may not send (§2): DHCP server messages, router advertisements, redirects."""
    for adapter in adapters:
        if adapter.virtual_function:
            continue
        port = f"reg0={adapter.number}"
        if adapter.dhcp_guard:
            for match in ("udp,tp_src=67", "udp6,tp_src=547"):
                yield _drop(Table.GUARDS, 10, join(match, port), DropReason.DHCP_GUARD, adapter)
        if adapter.router_guard:
            for match in (
                "icmp,icmp_type=5",
                "icmp,icmp_type=9",
                "icmp6,icmp_type=134",
                "icmp6,icmp_type=137",
            ):
                yield _drop(Table.GUARDS, 10, join(match, port), DropReason.ROUTER_GUARD, adapter)


def _source_mac(
    switch: Switch, adapters: Sequence[Adapter], teams: dict[str, list[Adapter]]
) -> Iterator[Flow]:
    """Who may send with which source MAC (§§1.2-1.4, 2).

    A MAC configured on an adapter is pinned to it: no other port of the switch, the uplink
    included, may send with it.
    """
    table = Table.SOURCE_MAC
    onward = f"goto_table:{table + 1:d}"
    yield _drop(table, 100, f"dl_src={_MULTICAST}", DropReason.INVALID_SOURCE_MAC)
    for adapter in adapters:
        port = f"reg0={adapter.number}"
        allowed = [adapter]
        if adapter.allow_teaming:
            allowed += [other for other in teams[adapter.guest] if other is not adapter]
        for other in allowed:
            yield Flow(table, 50, join(port, f"dl_src={colon_mac(other.mac)}"), onward, adapter=adapter.id)
        if not adapter.mac_address_spoofing:
            yield _drop(table, 40, port, DropReason.MAC_SPOOFING, adapter)
        yield _drop(
            table,
            30,
            f"dl_src={colon_mac(adapter.mac)}",
            DropReason.UNAUTHORIZED_MAC,
            adapter,
            note="another port used this adapter's MAC",
        )


def _vlan_ingress(adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """Tags that guests may not use (§2.1), not even behind a priority tag: without that they come first."""
    for kind in _TAG_TYPES:
        yield _drop(
            Table.VLAN_INGRESS,
            10,
            f"reg5=1,dl_type={kind:#x}",
            DropReason.UNAUTHORIZED_VLAN,
            note="a tag behind a priority tag",
        )
    for adapter in adapters:
        match = join(f"reg0={adapter.number}", f"reg2={ILLEGAL_TAG:#x}/{ILLEGAL_TAG:#x}")
        yield _drop(Table.VLAN_INGRESS, 10, match, DropReason.UNAUTHORIZED_VLAN, adapter)


def _learn(switch: Switch, adapters: Sequence[Adapter], teams: dict[str, list[Adapter]]) -> Iterator[Flow]:
    """Learn source MACs behind the uplink and behind adapters with spoofing on (§1.2, U3).

    The hard timeout of a learned entry is renewed whenever its MAC is seen as a source, so it is
    Hyper-V's AgingTime. An adapter in a private VLAN mode is entered for every VLAN it receives,
    because it sends on another one than it can be reached on.
    """
    onward = f"goto_table:{Table.FORWARD:d}"

    def learn(vlan: str) -> str:
        return (
            f"learn(table={Table.LEARNED:d},hard_timeout={switch.aging_time},priority=10,"
            f"cookie={LEARNED_COOKIE:#x},limit={switch.max_mac_addresses},"
            f"NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],{vlan},load:NXM_NX_REG0[]->NXM_NX_REG1[])"
        )

    frame_vlan = "NXM_NX_REG2[]"
    if switch.uplink:
        yield Flow(
            Table.LEARN, 10, f"reg0={switch.uplink}", f"{learn(frame_vlan)},{onward}", note="learn the source"
        )
    for adapter in adapters:
        if not adapter.mac_address_spoofing:
            continue
        port = f"reg0={adapter.number}"
        team = teams[adapter.guest] if adapter.allow_teaming else [adapter]
        for other in team:
            if (other.host, other.switch) == (adapter.host, adapter.switch):
                own = join(port, f"dl_src={colon_mac(other.mac)}")
                yield Flow(Table.LEARN, 20, own, onward, adapter=adapter.id, note="a fixed entry")
        if adapter.vlan.is_private:
            vlans = [f"NXM_NX_REG2[]={vlan}" for vlan in sorted(adapter.vlan.receives)]
        else:
            vlans = [frame_vlan]
        actions = ",".join(learn(vlan) for vlan in vlans)
        yield Flow(Table.LEARN, 10, port, f"{actions},{onward}", adapter=adapter.id, note="learn the source")


def _forward(adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """Adapters' own MACs: a fixed entry for each VLAN they receive (§1.2)."""
    table = Table.FORWARD
    for adapter in adapters:
        destination = f"dl_dst={colon_mac(adapter.mac)}"
        actions = f"set_field:{adapter.number}->reg1,goto_table:{Table.DELIVER:d}"
        for vlan_match in _register_vlans(adapter.vlan.receives):
            yield Flow(table, 40, join(destination, vlan_match), actions, adapter=adapter.id, note="own MAC")
        if adapter.vlan.is_private:
            family = {adapter.vlan.primary, adapter.vlan.secondary, *adapter.vlan.secondaries} - {0}
            for vlan in sorted(family - adapter.vlan.receives):
                yield _drop(
                    table, 30, join(destination, f"reg2={vlan}"), DropReason.FAILED_PVLAN_SETTING, adapter
                )
            yield _drop(table, 20, join(destination, "reg4=1"), DropReason.FAILED_PVLAN_SETTING, adapter)
        yield _drop(table, 10, destination, DropReason.FILTERED_VLAN, adapter)


def _copies(ports: Iterable[int]) -> list[str]:
    return [f"clone(set_field:{port}->reg1,resubmit(,{Table.DELIVER:d}))" for port in ports]


def _flood(switch: Switch, adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """Broadcast, multicast and unknown unicast (§1.3, U3), by VLAN.

    VLANs with the same receivers share flows; the commonest set of receivers gets the flows that
    match any VLAN.
    """
    receives = [(adapter, adapter.vlan.receives) for adapter in adapters]
    by_receivers: dict[tuple[int, ...], list[int]] = {}
    receivers: dict[tuple[int, ...], list[Adapter]] = {}
    for vlan in _ALL_VLANS:
        here = [adapter for adapter, vlans in receives if vlan in vlans]
        key = tuple(adapter.number for adapter in here)
        receivers[key] = here
        by_receivers.setdefault(key, []).append(vlan)
    default = max(by_receivers, key=lambda key: len(by_receivers[key]))
    yield from _flood_group(switch, adapters, receivers[default], "", 0)
    del by_receivers[default]
    for key, vlans in by_receivers.items():
        for vlan_match in _register_vlans(vlans):
            yield from _flood_group(switch, adapters, receivers[key], vlan_match, 100)


def _flood_group(
    switch: Switch, adapters: Sequence[Adapter], receivers: Sequence[Adapter], vlan: str, priority: int
) -> Iterator[Flow]:
    undecided = join("reg1=0", vlan)
    uplink = [switch.uplink] if switch.uplink else []
    everyone = _copies([*uplink, *(adapter.number for adapter in receivers)])
    others = [adapter for adapter in adapters if adapter not in receivers]
    group = join(undecided, f"dl_dst={_MULTICAST}")
    note = "broadcast and multicast"
    passed_by = [f"resubmit(,{Table.FILTERED_VLAN:d})"] if others else []
    yield Flow(Table.FLOOD, 20 + priority, group, ",".join(everyone + passed_by) or "drop", note=note)
    if len(others) == 1:
        # The one adapter of other VLANs is the sender itself (private VLANs): nobody is passed by.
        own = join(group, f"reg0={others[0].number}")
        yield Flow(Table.FLOOD, 25 + priority, own, ",".join(everyone) or "drop", note=note)
    learners = [adapter.number for adapter in receivers if adapter.mac_address_spoofing]
    sides = [(5 + priority, undecided, [*uplink, *learners])]
    if switch.uplink:
        sides.append((10 + priority, join(undecided, f"reg0={switch.uplink}"), learners))
    elif len(learners) == 1:
        sides.append((10 + priority, join(undecided, f"reg0={learners[0]}"), []))
    mirrored = any(source.number in learners for source in mirrors(adapters)[0])
    for side_priority, match, ports in sides:
        if ports:
            actions = ",".join(_copies(ports))
            yield Flow(Table.FLOOD, side_priority, match, actions, note="unknown unicast")
            if mirrored:
                yield Flow(
                    Table.FLOOD,
                    side_priority + 1,
                    join(match, NOT_MIRRORED),
                    f"{COPY_ALL},{actions}",
                    note="unknown unicast, and copies of what a Source receives",
                )
        else:
            note = "unknown unicast is not delivered to adapters with spoofing off"
            yield _drop(Table.FLOOD, side_priority, match, DropReason.UNKNOWN_UNICAST, note=note)


def _deliver(switch: Switch, adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """Never back to where it came from; the uplink has no ACLs, and a virtual function meets none."""
    for number in (*([switch.uplink] if switch.uplink else []), *(adapter.number for adapter in adapters)):
        yield _drop(Table.DELIVER, 20, f"reg0={number},reg1={number}", DropReason.OWN_PORT)
    onward = f"goto_table:{Table.OUTPUT:d}"
    if switch.uplink:
        yield Flow(Table.DELIVER, 10, f"reg1={switch.uplink}", onward, note="to the uplink")
    for adapter in adapters:
        if adapter.virtual_function:
            port, note = f"reg1={adapter.number}", "by a virtual function"
            yield Flow(Table.DELIVER, 10, port, onward, adapter=adapter.id, note=note)


def _output(switch: Switch, adapters: Sequence[Adapter]) -> Iterator[Flow]:
    """Leave on the wire: tagged on the uplink and on trunks unless the VLAN is 0 or native (§§2, 2.1)."""
    push = "push_vlan:0x8100,move:NXM_NX_REG2[0..11]->NXM_OF_VLAN_TCI[0..11]"
    push += ",move:NXM_NX_REG8[0..2]->NXM_OF_VLAN_TCI[13..15]"
    for adapter in adapters:
        port = f"reg1={adapter.number}"
        plain = join(port, f"reg2={adapter.vlan.native}") if adapter.vlan.mode is VlanMode.TRUNK else port
        yield Flow(
            Table.OUTPUT,
            20,
            plain,
            f"output:{adapter.number}",
            adapter=adapter.id,
            note="delivered to the guest",
        )
        if adapter.vlan.mode is VlanMode.TRUNK:
            yield Flow(
                Table.OUTPUT,
                10,
                port,
                f"{push},output:{adapter.number}",
                adapter=adapter.id,
                note="delivered to the guest, tagged",
            )
    if switch.uplink:
        port = f"reg1={switch.uplink}"
        yield Flow(
            Table.OUTPUT, 20, join(port, "reg2=0"), f"output:{switch.uplink}", note="out of the uplink"
        )
        yield Flow(Table.OUTPUT, 10, port, f"{push},output:{switch.uplink}", note="out of the uplink, tagged")
