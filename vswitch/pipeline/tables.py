"""The OpenFlow tables, in the order in which Hyper-V treats a frame (hyper-v-facts §1.6).

A frame enters at INPUT, passes the sender's Outbound side, is forwarded, and passes each
destination's Inbound side before OUTPUT. A table that has nothing to say about a frame hands it to
the next one (its miss flow), so an adapter without ACLs costs no flow at all in the ACL tables.

Registers
    reg0  OpenFlow port the frame came in on
    reg1  OpenFlow port it is being delivered to (0: not decided)
    reg2  VLAN it travels on, 0-4094, 0 being untagged; bit 12 set: it carries a tag its port may not use
    reg3  index of the conntrack zone last looked up (adapters with several idle timeouts)
    reg4  1 when the sender is in a private VLAN mode
    reg5  1 when a guest's priority tag was taken off
    reg6  1 when the frame has been counted against its sender's StormLimit
    reg7  1 when the copies of a mirrored frame have been made
    reg8  802.1p priority of the tag it came with, where that is to be kept; else 0
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique

from vswitch.model.types import Direction

__all__ = ["ILLEGAL_TAG", "LEARNED_TABLES", "AclTables", "Table", "acl_tables"]

ILLEGAL_TAG = 0x1000


@unique
class Table(IntEnum):
    """Table numbers by name. Nothing goes on to MIRROR: mirrored frames are resubmitted to it."""

    INPUT = 0
    OUTBOUND_STATE = 1
    OUTBOUND_ESTABLISHED = 2
    OUTBOUND_EXTENDED = 3
    OUTBOUND_BASIC = 4
    OUTBOUND_LOCAL_IP = 5
    OUTBOUND_REMOTE_IP = 6
    OUTBOUND_LOCAL_MAC = 7
    OUTBOUND_REMOTE_MAC = 8
    OUTBOUND_METER_LOCAL = 9
    OUTBOUND_METER_REMOTE = 10
    GUARDS = 11
    SOURCE_MAC = 12
    VLAN_INGRESS = 13
    LEARN = 14
    FORWARD = 15
    LEARNED = 16
    FLOOD = 17
    FILTERED_VLAN = 18
    DELIVER = 20
    INBOUND_STATE = 21
    INBOUND_ESTABLISHED = 22
    INBOUND_EXTENDED = 23
    INBOUND_BASIC = 24
    INBOUND_LOCAL_IP = 25
    INBOUND_REMOTE_IP = 26
    INBOUND_LOCAL_MAC = 27
    INBOUND_REMOTE_MAC = 28
    INBOUND_METER_LOCAL = 29
    INBOUND_METER_REMOTE = 30
    OUTPUT = 31
    MIRROR = 32


#: Tables whose flows the datapath writes itself, by learn(): never compared, never deleted.
LEARNED_TABLES = frozenset({Table.LEARNED})


@dataclass(frozen=True, slots=True)
class AclTables:
    """The tables of one side of an adapter, and the register that holds its port there."""

    register: str
    state: Table
    established: Table
    extended: Table
    basic: Table
    local_ip: Table
    remote_ip: Table
    local_mac: Table
    remote_mac: Table
    meter_local: Table
    meter_remote: Table
    after: Table


_OUTBOUND = AclTables(
    "reg0",
    Table.OUTBOUND_STATE,
    Table.OUTBOUND_ESTABLISHED,
    Table.OUTBOUND_EXTENDED,
    Table.OUTBOUND_BASIC,
    Table.OUTBOUND_LOCAL_IP,
    Table.OUTBOUND_REMOTE_IP,
    Table.OUTBOUND_LOCAL_MAC,
    Table.OUTBOUND_REMOTE_MAC,
    Table.OUTBOUND_METER_LOCAL,
    Table.OUTBOUND_METER_REMOTE,
    Table.GUARDS,
)
_INBOUND = AclTables(
    "reg1",
    Table.INBOUND_STATE,
    Table.INBOUND_ESTABLISHED,
    Table.INBOUND_EXTENDED,
    Table.INBOUND_BASIC,
    Table.INBOUND_LOCAL_IP,
    Table.INBOUND_REMOTE_IP,
    Table.INBOUND_LOCAL_MAC,
    Table.INBOUND_REMOTE_MAC,
    Table.INBOUND_METER_LOCAL,
    Table.INBOUND_METER_REMOTE,
    Table.OUTPUT,
)


def acl_tables(direction: Direction) -> AclTables:
    """The ACL tables of one direction, seen from the VM."""
    return _OUTBOUND if direction is Direction.OUTBOUND else _INBOUND
