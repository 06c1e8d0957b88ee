"""Rate limits as OpenFlow meters: StormLimit and MaximumBandwidth, both of what an adapter sends (§2).

A flow names its meter by number only, so that a changed limit is one changed meter and no changed
flow. Numbers come from the adapter's OpenFlow port: the same on every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vswitch.model.site import Adapter
from vswitch.model.types import DropReason
from vswitch.pipeline.flow import Flow, Purpose
from vswitch.pipeline.tables import Table
from vswitch.wording import counted

__all__ = [
    "Meter",
    "MeterChange",
    "bandwidth_meter",
    "limit_flows",
    "meter_difference",
    "meters_of",
    "storm_meter",
]

#: Above every OpenFlow port number; Open vSwitch takes meter numbers up to 262,144.
_BANDWIDTH = 0x10000
#: An offloading guest hands over up to 64 KiB at once: a smaller bucket would never let that pass.
_SMALLEST_BURST = 1024  # kbit
#: After a loss TCP may wait 200 ms; a bucket that is full again before then halves what it sends.
_BURSTS_A_SECOND = 4


@dataclass(frozen=True, slots=True)
class Meter:
    """A token bucket that drops what finds it empty.

    `rate` is in frames ("pktps") or kilobits ("kbps") per second, `burst` what the bucket holds, in
    frames or kilobits. `reason` is the drop reason, `adapter` the id of the adapter it limits.
    """

    number: int
    unit: str
    rate: int
    burst: int
    reason: DropReason
    adapter: str

    @property
    def text(self) -> str:
        """The meter as ovs-ofctl reads it."""
        band = f"band=type=drop,rate={self.rate},burst_size={self.burst}"
        return f"meter={self.number},{self.unit},burst,{band}"

    @property
    def limit(self) -> str:
        """The limit in words."""
        return f"{counted(self.rate, 'frame') if self.unit == 'pktps' else f'{self.rate} kbit'} a second"


def storm_meter(adapter: Adapter) -> Meter | None:
    """Broadcast, multicast and unknown unicast an adapter may send; the bucket holds one second's worth.

    None without a StormLimit, and where a virtual function passes the switch by.
    """
    limit = adapter.storm_limit
    if not limit or adapter.virtual_function:
        return None
    return Meter(adapter.number, "pktps", limit, limit, DropReason.STORM_LIMIT, adapter.id)


def bandwidth_meter(adapter: Adapter) -> Meter | None:
    """Everything an adapter may send, in whole kbit/s; the bucket holds a quarter second's worth.

    None without a MaximumBandwidth, and where a virtual function passes the switch by.
    """
    if not adapter.maximum_bandwidth or adapter.virtual_function:
        return None
    rate = max(1, adapter.maximum_bandwidth // 1000)
    burst = max(_SMALLEST_BURST, rate // _BURSTS_A_SECOND)
    return Meter(_BANDWIDTH + adapter.number, "kbps", rate, burst, DropReason.QOS, adapter.id)


def meters_of(adapters: Iterable[Adapter]) -> dict[int, Meter]:
    """All meters of these adapters by number."""
    made = (make(adapter) for adapter in adapters for make in (storm_meter, bandwidth_meter))
    return {meter.number: meter for meter in made if meter is not None}


def limit_flows(adapters: Iterable[Adapter]) -> Iterator[Flow]:
    """What hands frames to the meters: of everything an adapter sends, and of what is flooded (§1.3, U11).

    A limit takes a flow of its own, which only its adapter's frames meet. What exceeds it is dropped
    by the meter and hits no drop flow.
    """
    for adapter in adapters:
        if meter := bandwidth_meter(adapter):
            onward = f"goto_table:{Table.LEARN:d}"
            yield _limited(Table.VLAN_INGRESS, 5, f"reg0={adapter.number}", onward, meter)
        if meter := storm_meter(adapter):
            onward = f"set_field:1->reg6,resubmit(,{Table.FLOOD:d})"
            match = f"reg0={adapter.number},reg1=0,reg6=0"
            yield _limited(Table.FLOOD, 300, match, onward, meter)


def _limited(table: Table, priority: int, match: str, onward: str, meter: Meter) -> Flow:
    return Flow(
        table,
        priority,
        match,
        f"meter:{meter.number},{onward}",
        Purpose.LIMIT,
        reason=meter.reason,
        adapter=meter.adapter,
        meter=meter.number,
        note=f"at most {meter.limit}",
    )


@dataclass(frozen=True, slots=True)
class MeterChange:
    """Changes of meters as (ovs-ofctl command, text): those before flows change, and those after.

    Meters are no part of a bundle. A new meter has to be there before a flow names it, and a meter
    that goes would take the flows that still name it along.
    """

    before: tuple[tuple[str, str], ...] = ()
    after: tuple[tuple[str, str], ...] = ()


def meter_difference(held: Mapping[int, str], wanted: Mapping[int, Meter]) -> MeterChange:
    """From the meters a switch holds (number to text) to those it is to hold. Deterministic order."""
    return MeterChange(
        tuple(
            ("mod-meter" if number in held else "add-meter", meter.text)
            for number, meter in wanted.items()
            if held.get(number) != meter.text
        ),
        tuple(("del-meter", f"meter={number}") for number in sorted(held) if number not in wanted),
    )
