"""The compiled flows asked what they would do with a frame, by Open vSwitch's own tracer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vswitch.diagnose.flowtext import flow_text
from vswitch.model.site import Site
from vswitch.model.types import colon_mac
from vswitch.openvswitch import BridgeSpec, Instance, PortSpec, Trace
from vswitch.pipeline import Compiler, Flow, Purpose, Table, meter_difference
from vswitch.semantics.frame import Frame
from vswitch.semantics.switch_memory import SwitchState

PORTS = range(1, 65)


@dataclass(frozen=True)
class Traced:
    """Where a frame left (OpenFlow port to tag and 802.1p priority), the drops and meters it met, the trace.


    A port that a frame leaves by twice is an AssertionError.
    """

    outputs: Mapping[int, tuple[int | None, int]]
    drops: tuple[Flow, ...]
    limits: tuple[str, ...]
    trace: Trace


class Tracer:
    """One Open vSwitch with ports that lead nowhere; `load` gives it a site's program."""

    def __init__(self, folder: Path) -> None:
        self.instance = Instance("tracer", folder, datapath="dummy")
        self.flows: Mapping[int, Flow] = {}

    def __enter__(self) -> Tracer:
        self.instance.start()
        ports = tuple(PortSpec(f"p{number}", number, type="dummy") for number in PORTS)
        self.instance.add_bridges([BridgeSpec("br0", 1, ports=ports)])
        self.instance.match_fragments("br0")
        return self

    def __exit__(self, *_: object) -> None:
        self.instance.stop()

    def load(self, site: Site, switch_id: str | None = None, state: SwitchState | None = None) -> None:
        """Replace all flows by those of one switch of `site`, with the learned entries of `state`."""
        switch = site.switch[switch_id] if switch_id else site.hosts[0].switches[0]
        program = Compiler().compile(site)[switch.host].switches[switch.bridge]
        self.flows = program.flows
        meters = meter_difference(self.instance.meters("br0"), program.meters)
        self.instance.change_meters("br0", meters.before)
        lines = ["delete", *(f"add {flow.text}" for flow in program.flows.values())]
        lines += [
            f"add table={Table.LEARNED:d},priority=10,dl_dst={colon_mac(mac)},reg2={vlan} "
            f"actions=set_field:{entry.port}->reg1"
            for (mac, vlan), entry in (state.learned if state else {}).items()
        ]
        self.instance.bundle("br0", "\n".join(lines))
        self.instance.change_meters("br0", meters.after)

    def trace(self, frame: Frame, in_port: int, *, live: bool = False) -> Traced:
        """What becomes of `frame`. `live`: every TCP or UDP flow state looked up is a live one."""
        text = flow_text(frame, in_port) + (",ct_mark=1" if live else "")
        trace = self.instance.trace("br0", text)
        outputs = {
            int(name.removeprefix("p")): (tag, priority)
            for name, tag, priority in zip(trace.outputs, trace.tags, trace.priorities, strict=True)
        }
        assert len(outputs) == len(trace.outputs), f"{frame} leaves by a port twice\n{trace.text}"
        drops = tuple(
            flow
            for c in trace.cookies
            if (flow := self.flows.get(c)) and flow.is_drop and flow.purpose != Purpose.FORWARD
        )
        limits = tuple(flow.reason for c in trace.cookies if (flow := self.flows.get(c)) and flow.meter)
        return Traced(outputs, drops, limits, trace)
