"""What an instance's database (OVSDB) is asked: bridges with their ports, conntrack timeouts per zone.

Pure: builds the operations of a transaction and reads its results; `client` sends them.
Each transaction ends by raising `next_cfg`, which ovs-vswitchd answers with `cur_cfg` once it has
done what the transaction asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vswitch.errors import SwitchError

__all__ = [
    "BridgeSpec",
    "PortSpec",
    "add_bridges",
    "check_ports",
    "raise_next_cfg",
    "results",
    "set_zone_timeouts",
    "to_map",
    "zone_timeouts",
]

Operation = dict[str, Any]

_TIMEOUTS = (  # every key a timeout policy knows
    "tcp_syn_sent", "tcp_syn_recv", "tcp_established", "tcp_fin_wait", "tcp_close_wait", "tcp_last_ack",
    "tcp_time_wait", "tcp_close", "tcp_syn_sent2", "tcp_retransmit", "tcp_unack",
    "udp_first", "udp_single", "udp_multiple", "icmp_first", "icmp_reply",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port of a bridge. `ofport` is its OpenFlow number (0: any).

    `vlan_mode` ("access", "trunk", "native-untagged", ...), `tag` and `trunks` matter to NORMAL only.
    """

    name: str
    ofport: int = 0
    mtu: int | None = None
    type: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    vlan_mode: str = ""
    tag: int | None = None
    trunks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A bridge. `controller` is the path of the controller's Unix socket, or "" for none.

    Without a controller, fail_mode "secure" keeps the flow table as it is filled by bundles and
    "standalone" makes the bridge an ordinary learning switch.
    """

    name: str
    datapath_id: int
    controller: str = ""
    fail_mode: str = "secure"
    ports: tuple[PortSpec, ...] = ()


def to_map(values: Mapping[Any, Any]) -> list[Any]:
    """A dictionary as OVSDB writes maps."""
    return ["map", [[key, value] for key, value in values.items()]]


def raise_next_cfg() -> list[Operation]:
    """The closing operations of every transaction; the last one's result holds `next_cfg`."""
    return [
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]},
        {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]},
    ]


def results(reply: Any, what: str) -> list[Any]:
    """The results of a transaction, one for each operation.

    Raises SwitchError naming `what` if any of them failed.
    """
    for result in reply:
        if result and "error" in result:
            details = result.get("details") or result["error"]
            raise SwitchError(f"Open vSwitch's database refused {what}: {details}")
    return list(reply)


def add_bridges(bridges: Iterable[BridgeSpec], datapath_type: str) -> list[Operation]:
    """The operations that add `bridges` with all their ports, controllers included."""
    operations: list[Operation] = []
    references: list[Any] = []
    for index, bridge in enumerate(bridges):
        ports = [PortSpec(bridge.name, type="internal"), *bridge.ports]
        row: dict[str, Any] = {
            "name": bridge.name,
            "datapath_type": datapath_type,
            "fail_mode": bridge.fail_mode,
            "other_config": to_map({"datapath-id": f"{bridge.datapath_id:016x}", "disable-in-band": "true"}),
            "ports": ["set", [["named-uuid", f"p{index}_{number}"] for number in range(len(ports))]],
        }
        for number, port in enumerate(ports):
            operations += _add_port(port, f"{index}_{number}")
        if bridge.controller:
            operations.append(_add_controller(bridge.controller, f"c{index}"))
            row["controller"] = ["named-uuid", f"c{index}"]
        operations.append({"op": "insert", "table": "Bridge", "row": row, "uuid-name": f"b{index}"})
        references.append(["named-uuid", f"b{index}"])
    mutation = ["bridges", "insert", ["set", references]]
    operations.append({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [mutation]})
    return operations


def _add_port(port: PortSpec, key: str) -> list[Operation]:
    interface: dict[str, Any] = {"name": port.name, "type": port.type, "options": to_map(port.options)}
    if port.ofport:
        interface["ofport_request"] = port.ofport
    if port.mtu is not None:
        interface["mtu_request"] = port.mtu
    row: dict[str, Any] = {"name": port.name, "interfaces": ["named-uuid", f"i{key}"]}
    if port.vlan_mode:
        row["vlan_mode"] = port.vlan_mode
    if port.tag is not None:
        row["tag"] = port.tag
    if port.trunks:
        row["trunks"] = ["set", list(port.trunks)]
    return [
        {"op": "insert", "table": "Interface", "row": interface, "uuid-name": f"i{key}"},
        {"op": "insert", "table": "Port", "row": row, "uuid-name": f"p{key}"},
    ]


def _add_controller(socket: str, key: str) -> Operation:
    row = {
        "target": f"unix:{socket}",
        "connection_mode": "out-of-band",
        "max_backoff": 1000,
        # A socket of this machine closes when its owner dies: probes would only find busy controllers.
        "inactivity_probe": 60000,
    }
    return {"op": "insert", "table": "Controller", "row": row, "uuid-name": key}


def check_ports(bridges: Iterable[BridgeSpec], rows: Iterable[Mapping[str, Any]]) -> None:
    """Compare the Interface `rows` (name, ofport, error) with what `bridges` asked for.

    Raises SwitchError naming the first interface Open vSwitch did not take as asked.
    """
    found = {row["name"]: row for row in rows}
    for bridge in bridges:
        for port in bridge.ports:
            row = found.get(port.name)
            if row is None:
                raise SwitchError(f"interface {port.name} is missing on bridge {bridge.name}")
            error, number = row["error"], row["ofport"]
            if isinstance(error, str) and error:
                raise SwitchError(
                    f"interface {port.name} on bridge {bridge.name}: {error}",
                    hint="The interface must exist in the network namespace of this Open vSwitch.",
                )
            if not isinstance(number, int) or number < 1 or (port.ofport and number != port.ofport):
                got = number if isinstance(number, int) and number > 0 else "none"
                raise SwitchError(
                    f"interface {port.name} on bridge {bridge.name} asked for OpenFlow port {port.ofport} "
                    f"and got {got}",
                    hint="Another port of that bridge has this number, or it is above 65279.",
                )


def zone_timeouts(datapaths: list[Mapping[str, Any]], zones: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Zone to seconds as set now, from the Datapath rows (at most one) and the CT_Zone rows."""
    seconds = {row["_uuid"][1]: int(dict(row["external_ids"][1])["seconds"]) for row in zones}
    if not datapaths:
        return {}
    return {zone: seconds[reference[1]] for zone, reference in datapaths[0]["ct_zones"][1]}


def set_zone_timeouts(
    datapath: str, *, current: Mapping[int, int] | None, wanted: Mapping[int, int]
) -> list[Operation]:
    """The operations that turn the `current` timeouts (zone to seconds) into the `wanted` ones.

    `current` is None if there is no Datapath row yet. Zones already right are not touched, zones no
    longer wanted lose their timeouts (the database itself drops rows nothing refers to). Every kind of
    timeout a policy knows gets the same number. Empty if nothing differs.
    """
    stale = [zone for zone, seconds in (current or {}).items() if wanted.get(zone) != seconds]
    fresh = {zone: seconds for zone, seconds in wanted.items() if (current or {}).get(zone) != seconds}
    if not stale and not fresh:
        return []
    operations: list[Operation] = []
    for seconds in sorted(set(fresh.values())):
        row: dict[str, Any] = {"timeouts": to_map(dict.fromkeys(_TIMEOUTS, seconds))}
        operations.append(
            {"op": "insert", "table": "CT_Timeout_Policy", "row": row, "uuid-name": f"t{seconds}"}
        )
    for zone, seconds in sorted(fresh.items()):
        row = {
            "timeout_policy": ["named-uuid", f"t{seconds}"],
            "external_ids": to_map({"seconds": str(seconds)}),
        }
        operations.append({"op": "insert", "table": "CT_Zone", "row": row, "uuid-name": f"z{zone}"})
    references = to_map({zone: ["named-uuid", f"z{zone}"] for zone in sorted(fresh)})
    if current is None:
        operations.append(
            {"op": "insert", "table": "Datapath", "row": {"ct_zones": references}, "uuid-name": "datapath"}
        )
        mutation: list[Any] = ["datapaths", "insert", to_map({datapath: ["named-uuid", "datapath"]})]
        operations.append({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [mutation]})
    else:
        mutations = [["ct_zones", "delete", ["set", stale]], ["ct_zones", "insert", references]]
        operations.append({"op": "mutate", "table": "Datapath", "where": [], "mutations": mutations})
    return operations
