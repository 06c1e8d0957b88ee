"""Sentences about limits of what an adapter may send: StormLimit and MaximumBandwidth (§2)."""

from __future__ import annotations

from vswitch.model.site import Adapter
from vswitch.semantics.cause import Advice, Layer
from vswitch.semantics.verdict import DropReason

__all__ = ["limited"]


def limited(adapter: Adapter, reason: DropReason) -> Advice:
    """What to tell when a limit of `adapter` drops frames; `reason` is StormLimit or Qos."""
    if reason is DropReason.STORM_LIMIT:
        parameter, key = "StormLimit", "storm_limit"
        much = f"more broadcast, multicast and unknown unicast than its StormLimit of {adapter.storm_limit}"
        cause = f"{adapter.id} sends {much} frames a second lets pass, and ARP is cut with it"
    else:
        parameter, key = "MaximumBandwidth", "maximum_bandwidth"
        cause = f"{adapter.id} sends more than its MaximumBandwidth of {adapter.maximum_bandwidth} bit/s"
    whose = "-ManagementOS" if adapter.is_management_os else f"-VMName {_quoted(adapter.guest)}"
    command = f"Set-VMNetworkAdapter {whose} -Name {_quoted(adapter.name)} -{parameter} 0"
    return Advice(
        Layer.LIMIT,
        cause,
        f"find what sends so much, or raise the limit (0: none): {command},"
        f" and {key} at {adapter.origin} in the layout",
    )


def _quoted(text: str) -> str:
    """A PowerShell string that means exactly `text`."""
    return "'" + text.replace("'", "''") + "'"
