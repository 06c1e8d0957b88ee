"""Port ACL entries as Hyper-V can hold them."""

from __future__ import annotations

from dataclasses import dataclass, field

from vswitch.errors import Origin
from vswitch.model.types import (
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Network,
    PortRange,
    Side,
)

__all__ = ["ExtendedAcl", "BasicAcl"]


@dataclass(frozen=True, slots=True)
class ExtendedAcl:
    """One extended port ACL entry as Add-VMNetworkAdapterExtendedAcl takes it (§4.1).

    None stands for ANY. `idle_session_timeout` is in seconds, 0 for a stateless entry.
    `isolation_id` 0 means every VLAN. `name` and `origin` are the policy rule it comes from;
    several entries of one rule share them (Hyper-V itself stores no name). `by_order` says that the
    rule has no weight of its own: the order in the file gave it this one.
    """

    name: str
    origin: Origin
    action: Action
    direction: Direction
    weight: int  # 1-65535, larger is evaluated first, unique per adapter and direction
    local_ip_address: Network | None = None
    remote_ip_address: Network | None = None
    local_port: PortRange | None = None
    remote_port: PortRange | None = None
    protocol: int | None = None  # IP protocol number
    stateful: bool = False
    idle_session_timeout: int = 0
    isolation_id: int = 0
    by_order: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class BasicAcl:
    """One basic port ACL entry: one endpoint, one direction (§3.1).

    `address` is an IP prefix, a MAC in Hyper-V's spelling, or one of the ANY wildcards.
    """

    name: str
    origin: Origin
    action: BasicAction
    direction: Direction
    side: Side
    address: Network | str | AnyAddress

    @property
    def is_mac(self) -> bool:
        """Whether the entry looks at MAC addresses (and so also at non-IP frames)."""
        return self.address is AnyAddress.MAC or (
            isinstance(self.address, str) and not isinstance(self.address, AnyAddress)
        )
