"""A modelled host whose first adapter has entries of ours and entries of others, and what is wanted of it."""

from __future__ import annotations

import copy

from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import basic, extended, sample_state
from vswitch.acl_entries import BasicEntry, Entry, ExtendedEntry, basic_from_host, extended_from_host, to_host
from vswitch.errors import Origin
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.planning.desired import PolicyRule

RULE = PolicyRule("rule", Origin("policy.yaml", 3, 5))
FOREIGN_EXTENDED = [
    extended("Deny", "Inbound", 40000, Protocol="TCP", LocalPort="3389"),
    extended("Allow", "Outbound", 40001),
]
FOREIGN_BASIC = [basic("Deny", "Outbound", "Remote", 2, "10.9.0.0/16")]
FOREIGN_KEYS = {extended_from_host(raw).key for raw in FOREIGN_EXTENDED}


Wanted = dict[str, dict[Entry, PolicyRule | None]]


def no_wait(_seconds: float) -> None:
    """The modelled host needs no time."""


def host_with(old: frozenset[Entry], *, any_as_two: bool = False) -> tuple[HypervHost, str]:
    """A host whose first adapter has our old entries (recorded) and foreign ones."""
    state = copy.deepcopy(sample_state())
    adapter = state["adapters"][0]
    adapter["extendedAcls"] = [
        *FOREIGN_EXTENDED,
        *(to_host(entry) for entry in old if isinstance(entry, ExtendedEntry)),
    ]
    adapter["acls"] = [
        *FOREIGN_BASIC,
        *(to_host(entry) | {"MeteredMegabytes": ""} for entry in old if isinstance(entry, BasicEntry)),
    ]
    state["records"] = [OwnershipRecord.of(adapter["Id"], "policy.yaml", old).to_dict()]
    return HypervHost(state, any_as_two=any_as_two), adapter["Id"]


def entries_on(host: HypervHost, adapter_id: str) -> frozenset[Entry]:
    adapter = host.adapter(adapter_id)
    plain: list[Entry] = [extended_from_host(raw) for raw in adapter["extendedAcls"]]
    return frozenset(plain).union(*(basic_from_host(raw) for raw in adapter["acls"]))


FOREIGN: frozenset[Entry] = frozenset(map(extended_from_host, FOREIGN_EXTENDED)).union(
    *map(basic_from_host, FOREIGN_BASIC)
)
