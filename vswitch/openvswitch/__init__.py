"""One private Open vSwitch instance: life cycle, bridges, bundles, counters, trace, conntrack.

`Instance` owns the two processes; `SwitchClient` is the same without them, for any other process that
knows the instance's run folder. Imports nothing of ours but the errors.
"""

from vswitch.openvswitch.conntrack import TrackedConnection
from vswitch.openvswitch.database import BridgeSpec, PortSpec
from vswitch.openvswitch.flows import FlowStats
from vswitch.openvswitch.instance import Instance, start_all, stop_all
from vswitch.openvswitch.switch_client import SwitchClient
from vswitch.openvswitch.trace import MatchedFlow, Trace

__all__ = [
    "BridgeSpec",
    "TrackedConnection",
    "FlowStats",
    "Instance",
    "MatchedFlow",
    "PortSpec",
    "SwitchClient",
    "Trace",
    "start_all",
    "stop_all",
]
