"""Port mirroring and SR-IOV read naively; see naive.py for how a reading is put in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from vswitch.model.site import Adapter
from vswitch.model.types import Direction, PortMirroring
from vswitch.pipeline import Flow, Purpose, Table
from vswitch.pipeline import forwarding_flows as pipeline_forwarding
from vswitch.pipeline import mirroring_flows as mirroring
from vswitch.semantics import forwarding
from vswitch.semantics.verdict import Stage
from vswitch.semantics.vlan import to_guest

# ------------------------------------------------------------------ ways to change the reference


def copies_of(*, sent: bool, received: bool) -> Callable[[Any], Any]:
    """Copies of what Sources send only, or of what they receive only."""

    def make(original: Any) -> Any:
        def copies(ports: Any, ingress: int, where: Any) -> Any:
            sender = ports.by_number.get(ingress)
            from_source = sender is not None and sender.port_mirroring is PortMirroring.SOURCE
            return original(ports, ingress, where) if (sent if from_source else received) else iter(())

        return copies

    return make


def copies_before_policies(original: Any) -> Any:
    """What a Source sends is copied before its Outbound ACLs, guards, MAC and VLAN are looked at."""

    def enter(self: Any) -> Any:
        vlan = original(self)
        if vlan is None and self.sender is not None:
            self._mirror(forwarding.Destinations((), ""), self.sender.vlan.send)
        return vlan

    return enter


def copies_after_policies(original: Any) -> Any:
    """What a Source receives is copied only if its Inbound ACLs let it pass."""

    def mirror(self: Any, where: Any, vlan: int) -> None:
        original(self, replace(where, ports=tuple(p for p in where.ports if p in self.outputs)), vlan)

    return mirror


def copies_of_the_delivered(original: Any) -> Any:
    """A frame that forwarding found no port for is not copied."""

    def mirror(self: Any, where: Any, vlan: int) -> None:
        if where.reason is None:
            original(self, where, vlan)

    return mirror


def copies_past_acls(original: Any) -> Any:
    """The ACLs of a Destination are not asked about copies."""

    def deliver(self: Any, port: int, vlan: int) -> None:
        adapter = self.ports.by_number.get(port)
        if self.steps[-1].stage is Stage.MIRRORING and vlan in adapter.vlan.receives:
            self.outputs[port] = to_guest(adapter, self.frame, vlan)
        else:
            original(self, port, vlan)

    return deliver


def copies_past_vlans(original: Any) -> Any:
    """A Destination gets copies of any VLAN."""

    def deliver(self: Any, port: int, vlan: int) -> None:
        adapter = self.ports.by_number.get(port)
        if self.steps[-1].stage is Stage.MIRRORING and vlan not in adapter.vlan.receives:
            self.outputs[port] = to_guest(adapter, self.frame, vlan)
        else:
            original(self, port, vlan)

    return deliver


def virtual_function_one_way(direction: Direction) -> Callable[[Any], Any]:
    """A virtual function takes frames past the ACLs of one direction only."""

    def make(original: Any) -> Any:
        def filtered(self: Any, adapter: Adapter, wanted: Direction, vlan: int | None) -> Any:
            own = replace(adapter, virtual_function=False) if wanted is not direction else adapter
            return original(self, own, wanted, vlan)

        return filtered

    return make


def guards_for_virtual_functions(original: Any) -> Any:
    return lambda self, sender, vlan: original(self, replace(sender, virtual_function=False), vlan)


# ------------------------------------------------------------------ readings of the site


def virtual_function_anywhere(adapter: Adapter) -> Adapter:
    """IovWeight believed on a switch without a physical NIC."""
    return replace(adapter, virtual_function=adapter.virtual_function or adapter.guest == "left")


def mirroring_turned(adapter: Adapter) -> Adapter:
    """PortMirroring read as if 1 were Source and 2 Destination."""
    turned = {
        PortMirroring.SOURCE: PortMirroring.DESTINATION,
        PortMirroring.DESTINATION: PortMirroring.SOURCE,
    }
    return replace(adapter, port_mirroring=turned.get(adapter.port_mirroring, PortMirroring.NONE))


# ------------------------------------------------------------------ readings of the flows


def copies_without(*tables: Table) -> Callable[[Flow], Flow | None]:
    """No copies are made in these tables."""
    made = f"resubmit(,{Table.MIRROR:d})"
    return lambda flow: None if flow.table in tables and made in flow.actions else flow


def uplink_not_trusted(flow: Flow) -> Flow:
    """The priority of what comes in by the uplink is forgotten."""
    if flow.table is Table.INPUT and not flow.adapter:
        return replace(
            flow, actions=flow.actions.replace("move:NXM_OF_VLAN_TCI[13..15]->NXM_NX_REG8[0..2],", "")
        )
    return flow


def copied_again(flow: Flow) -> Flow:
    """Nothing remembers that a frame has been copied."""
    return replace(flow, actions=flow.actions.replace(",set_field:1->reg7", ""))


def copies_meet(table: Table) -> Callable[[Flow], Flow]:
    """Copies of a Destination's VLANs go on in `table`."""

    def change(flow: Flow) -> Flow:
        if flow.table is Table.MIRROR and "reg2=" in flow.match:
            return replace(flow, actions=f"resubmit(,{table:d})")
        return flow

    return change


def copies_of_all_vlans(flow: Flow) -> Flow:
    if flow.table is Table.MIRROR and flow.is_drop and flow.reason:
        return replace(
            flow, actions=f"resubmit(,{Table.INBOUND_STATE:d})", purpose=Purpose.FORWARD, reason=""
        )
    return flow


def virtual_function_enters_at(table: Table) -> Callable[[Flow], Flow]:
    """Frames of virtual functions go on in `table` when they come in."""

    def change(flow: Flow) -> Flow:
        if flow.table is Table.INPUT and flow.adapter:
            return replace(
                flow,
                actions=flow.actions.replace(f"goto_table:{Table.SOURCE_MAC:d}", f"goto_table:{table:d}"),
            )
        return flow

    return change


def mirrored_virtual_functions() -> Iterable[AbstractContextManager[Any]]:
    """A compiler that mirrors adapters with a virtual function like others."""

    def mirrors(adapters: Iterable[Adapter]) -> tuple[list[Adapter], list[Adapter]]:
        return compiled_mirrors([replace(adapter, virtual_function=False) for adapter in adapters])

    compiled_mirrors = mirroring.mirrors
    return [
        patch.object(mirroring, "mirrors", mirrors),
        patch.object(pipeline_forwarding, "mirrors", mirrors),
    ]
