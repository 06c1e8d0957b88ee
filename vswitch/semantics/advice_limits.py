"""Sentences about limits of what an adapter may send: StormLimit and MaximumBandwidth (§2)."""

from __future__ import annotations

from vswitch.model.site import Adapter
from vswitch.semantics.cause import Advice, Layer, powershell_text
from vswitch.semantics.verdict import DropReason
from vswitch.wording import counted

__all__ = ["limited"]


def limited(adapter: Adapter, reason: DropReason, *, past: bool = False) -> Advice:
    """What to tell when a limit of `adapter` drops frames; `reason` is StormLimit or Qos.

    `past` says that it has dropped some at some time, which may be long ago.
    """
    sends = "has sent" if past else "sends"
    if reason is DropReason.STORM_LIMIT:
        parameter, key = "StormLimit", "storm_limit"
        limit = counted(adapter.storm_limit or 0, "frame")
        much = "more broadcast, multicast and unknown unicast than its StormLimit of "
        cut = "was cut" if past else "is cut"
        cause = f"{adapter.id} {sends} {much}{limit} a second lets pass, and ARP {cut} with it"
    else:
        parameter, key = "MaximumBandwidth", "maximum_bandwidth"
        cause = f"{adapter.id} {sends} more than its MaximumBandwidth of {adapter.maximum_bandwidth} bit/s"
    whose = "-ManagementOS" if adapter.is_management_os else f"-VMName {powershell_text(adapter.guest)}"
    command = f"Set-VMNetworkAdapter {whose} -Name {powershell_text(adapter.name)} -{parameter} 0"
    return Advice(
        Layer.LIMIT,
        cause,
        f"find what sends so much, or raise the limit (0: none): {command},"
        f" and {key} at {adapter.origin} in the layout",
    )
