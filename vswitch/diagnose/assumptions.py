"""Open questions about Hyper-V, and what this project assumes until somebody measures them.

The numbers are those of docs/reference/assumptions.md. An answer that hangs on one says so.
"""

from __future__ import annotations

__all__ = ["ASSUMPTIONS"]

ASSUMPTIONS: dict[str, str] = {
    "U1": "basic and extended ACLs both have to let a packet pass; Microsoft documents no order",
    "U2": "local and remote, MAC and IP basic entries are looked up separately, and any Deny wins",
    "U3": "unknown unicast is not delivered to an adapter with MacAddressSpoofing Off",
    "U4": "a Weight is unique for each adapter and direction",
    "U5": (
        "later fragments carry no ports, so entries with ports do not match them, and those of IPv6 show "
        "no protocol but 44; a Stateful entry with ports matches no fragment at all, and no fragment is "
        "part of a live flow"
    ),
    "U6": (
        "a Stateful flow ends only when idle or when its rule goes, "
        "admits no ICMP errors, and skips no basic ACLs"
    ),
    "U9": "IdleSessionTimeout is 255 seconds when it is not written",
    "U11": "a StormLimit counts unknown unicast too, and a second may begin with a whole second's worth",
    "U12": (
        "an open NAT session admits what its filtering behavior says, and a static mapping is for packets "
        "from outside only"
    ),
    "U13": "ARP passes an extended or basic IP rule that denies ANY",
    "U14": "a Meter entry only counts",
    "U15": "ports without TCP or UDP are refused",
    "U16": "a priority tag (VLAN 0) counts as untagged",
    "U17": (
        "a mirror copy is made of what the Source's Outbound side lets pass, and before its Inbound ACLs; "
        "the Destination's VLAN mode and Inbound ACLs apply to it"
    ),
    "U18": "the NIC's own switch holds a virtual function (SR-IOV) to the adapter's MAC and VLAN settings",
}
