"""What an apply does to each switch, and what it says of it afterwards."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from vswitch.errors import VswitchError
from vswitch.openvswitch import SwitchClient, TrackedConnection
from vswitch.pipeline import FlowChange, HostProgram, SwitchProgram, mark_of, mark_text

__all__ = ["BridgeStep", "end_sessions", "reason_of"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BridgeStep:
    """One bundle: where and what."""

    host: str
    before: SwitchProgram
    program: SwitchProgram
    change: FlowChange

    @property
    def text(self) -> str:
        """The bundle, with the new program's mark."""
        return self.change.text + mark_text(mark_of(self.program.flows))

    @property
    def marks(self) -> tuple[int, int]:
        """The marks before and after."""
        return mark_of(self.before.flows), mark_of(self.program.flows)


def end_sessions(client: SwitchClient, program: HostProgram) -> int:
    """End live flow states whose rule is not in force in their zone; how many there were."""

    def stale(connection: TrackedConnection) -> bool:
        return bool(connection.mark) and (connection.zone, connection.mark) not in program.marks

    zones = {connection.zone for connection in client.connections() if stale(connection)}
    return sum(client.flush_connections(zone, stale) for zone in sorted(zones))


def reason_of(error: Exception) -> str:
    """Why an apply failed, in words; what nobody foresaw goes to the log in full."""
    if isinstance(error, VswitchError):
        return error.message
    _LOG.error("an apply failed", exc_info=error)
    return str(error) or type(error).__name__
