"""Open questions about Hyper-V, and what this project assumes until somebody measures them.

What is known about each, and why this is assumed, is on the page docs/reference/assumptions.md.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Assumption"]


class Assumption(StrEnum):
    """An open question by its number, as in "U13"; `text` says what is assumed, for people."""

    text: str

    def __new__(cls, number: str, text: str) -> Assumption:
        """A member that equals its number."""
        member = str.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    BOTH_KINDS_OF_ACL = (
        "U1",
        "basic and extended ACLs both have to let a packet pass; Microsoft documents no order",
    )
    BASIC_PRECEDENCE = (
        "U2",
        "local and remote, MAC and IP basic entries are looked up separately, and any Deny wins",
    )
    UNKNOWN_UNICAST = ("U3", "unknown unicast is not delivered to an adapter with MacAddressSpoofing Off")
    UNIQUE_WEIGHT = ("U4", "a Weight is unique for each adapter and direction")
    FRAGMENTS = (
        "U5",
        "later fragments carry no ports, so entries with ports do not match them, and those of IPv6 show "
        "no protocol but 44; a Stateful entry with ports matches no fragment at all, and no fragment is "
        "part of a live flow",
    )
    STATEFUL = (
        "U6",
        "a Stateful flow ends only when idle or when its rule goes, admits no ICMP errors, and skips no "
        "basic ACLs",
    )
    NUMBER_OF_ENTRIES = ("U7", "an adapter can hold any number of entries")
    ACL_DROP_REASON = ("U8", "what an ACL drops is counted as ACL, a word of this project")
    DEFAULT_TIMEOUT = ("U9", "IdleSessionTimeout is 255 seconds when it is not written")
    TEAM_DEFAULT = ("U10", "none: teams are not emulated")
    STORM_LIMIT = (
        "U11",
        "a StormLimit counts unknown unicast too, and a second may begin with a whole second's worth",
    )
    NAT = (
        "U12",
        "an open NAT session admits what its filtering behavior says, and a static mapping is for packets "
        "from outside only",
    )
    ARP = ("U13", "ARP passes an extended or basic IP rule that denies ANY")
    METER = ("U14", "a Meter entry only counts")
    PORTS_WITHOUT_PROTOCOL = ("U15", "ports without TCP or UDP are refused")
    PRIORITY_TAG = ("U16", "a priority tag (VLAN 0) counts as untagged")
    MIRRORING = (
        "U17",
        "a mirror copy is made of what the Source's Outbound side lets pass, and before its Inbound ACLs; "
        "the Destination's VLAN mode and Inbound ACLs apply to it",
    )
    VIRTUAL_FUNCTIONS = (
        "U18",
        "the NIC's own switch holds a virtual function (SR-IOV) to the adapter's MAC and VLAN settings",
    )
    PRIORITIES = ("U19", "a priority (802.1p) ends with the tag that carries it")

    @property
    def number(self) -> int:
        """13 of "U13", to sort by."""
        return int(self.value[1:])
