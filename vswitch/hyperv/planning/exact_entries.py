"""Entries of saved plans that are the same to the PowerShell module as they are here.

What a file holds is sent as it is, and PowerShell converts what it is given: `"false"` is true to it, 500.6
is 501, and `remoteipaddress` is RemoteIPAddress. So an entry counts only in the one form that vswitch itself
gives it, or in the host's own words, and whatever else a reader could make of it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from vswitch.acl_entries import Entry, ExtendedEntry, describe, to_host
from vswitch.hyperv.host.shown_entries import EntryKind
from vswitch.json_values import Json
from vswitch.model.problems import shorten

__all__ = ["check_as_read", "check_recorded", "check_written"]

# The keys of an entry as the module reads it from a host, and the types of their values.
_NUMBERS: Mapping[EntryKind, tuple[str, ...]] = {
    "extended": ("Direction", "Action", "Weight", "IdleSessionTimeout", "IsolationID"),
    "basic": ("Direction", "Action", "LocalAddressType", "RemoteAddressType"),
}
_TEXTS: Mapping[EntryKind, tuple[str, ...]] = {
    "extended": ("LocalIPAddress", "RemoteIPAddress", "LocalPort", "RemotePort", "Protocol"),
    "basic": ("LocalAddress", "RemoteAddress", "MeteredMegabytes"),
}
_FLAGS: Mapping[EntryKind, tuple[str, ...]] = {"extended": ("Stateful",), "basic": ()}
_MAY_BE_MISSING = frozenset({"MeteredMegabytes"})


def check_as_read(kind: EntryKind, raw: Mapping[str, Json]) -> None:
    """Raises ValueError for an entry that is not in the form in which the module reads entries of a host.

    Its texts are the host's own: the host compares them with what it has before it writes anything.
    """
    types: dict[str, type] = {
        **dict.fromkeys(_NUMBERS[kind], int),
        **dict.fromkeys(_TEXTS[kind], str),
        **dict.fromkeys(_FLAGS[kind], bool),
    }
    for name in raw:
        if name not in types:
            raise ValueError(f"{shorten(name)} is not a property of an {kind} entry of a host")
    for name, wanted in types.items():
        if name not in raw and name in _MAY_BE_MISSING:
            continue
        if type(raw.get(name)) is not wanted:  # to isinstance, True is a number
            raise ValueError(f"{name} of an {kind} entry of the host is {shorten(raw.get(name))}")


def check_written(raw: Mapping[str, Json], entries: Sequence[Entry], known: Iterable[Json] = ()) -> None:
    """Raises ValueError unless the entry of a step is spelled as vswitch spells it, or as one of `known`.

    `entries` are what was read from it: several only where the host shows an ANY as one, in its own words.
    """
    own = [to_host(entry) for entry in entries] if len(entries) == 1 else []
    if not any(_same(raw, each) for each in (*own, *known)):
        what = " and ".join(map(describe, entries))
        raise ValueError(f"a step writes {what} in other words than vswitch: {shorten(dict(raw), 160)}")


def check_recorded(raw: Mapping[str, Json], entries: Sequence[Entry]) -> None:
    """The same for an entry of a record, which says its kind as well."""
    own = [
        {"kind": "extended" if isinstance(entry, ExtendedEntry) else "basic", **to_host(entry)}
        for entry in entries
    ]
    if len(own) != 1 or not _same(raw, own[0]):
        what = " and ".join(map(describe, entries))
        raise ValueError(f"a record names {what} in other words than vswitch: {shorten(dict(raw), 160)}")


def _same(one: Json, other: Json) -> bool:
    """Whether two pieces of JSON are the same one: 1, 1.0 and true are three."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
