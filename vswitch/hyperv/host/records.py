"""The record of ownership: which entries of an adapter vswitch has written, as hosts and files keep it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from vswitch.acl_entries import Acls, Entry, to_host
from vswitch.hyperv.host.document_parts import DocumentPart, JsonValue, Listed
from vswitch.hyperv.host.raw_values import list_of, maps_of, text_of
from vswitch.hyperv.host.shown_entries import read_entry
from vswitch.json_values import Json

__all__ = ["OwnershipFile", "OwnershipRecord", "entries_in", "owned_by_adapter"]


class OwnershipRecord(DocumentPart):
    """What is ours at one adapter: `entries` as plain data, each with its kind, and `owned` as entries.

    `others` are the entries of others that were beside them, as text; None where that is not known.
    """

    adapter: str
    policy: str = ""
    entries: Annotated[tuple[JsonValue, ...], Listed] = ()
    others: Annotated[tuple[str, ...], Listed] | None = None

    @staticmethod
    def of(
        adapter: str, policy: str, entries: Iterable[Entry], others: Iterable[str] | None = None
    ) -> OwnershipRecord:
        """The record of some entries."""
        acls = Acls.of(entries)
        told = [{"kind": "basic", **to_host(entry)} for entry in sorted(acls.basic)]
        told += [{"kind": "extended", **to_host(entry)} for entry in sorted(acls.extended)]
        return OwnershipRecord(
            adapter=adapter,
            policy=policy,
            entries=tuple(told),
            others=None if others is None else tuple(sorted(others)),
        )

    @staticmethod
    def from_dict(told: Json) -> OwnershipRecord:
        """A record as a host or a file has it. Raises ValueError if it is not an object."""
        if not isinstance(told, Mapping):
            raise ValueError("this is not a record")
        return OwnershipRecord(
            adapter=text_of(told.get("adapter")),
            policy=text_of(told.get("policy")),
            entries=tuple(list_of(told.get("entries"))),
            others=tuple(map(text_of, list_of(told["others"]))) if "others" in told else None,
        )

    def to_dict(self) -> dict[str, Json]:
        """The record as hosts and files keep it."""
        found: dict[str, Json] = {"adapter": self.adapter, "policy": self.policy, "entries": [*self.entries]}
        return found if self.others is None else found | {"others": [*self.others]}

    @cached_property
    def owned(self) -> frozenset[Entry]:
        """The entries; what cannot be understood owns nothing."""
        return frozenset(entry for each in self.entries for entry in entries_in(each))


@dataclass(frozen=True, slots=True)
class OwnershipFile:
    """Records as hosts and this side keep them in a file."""

    schema_version: ClassVar[int] = 1

    records: tuple[OwnershipRecord, ...]

    @staticmethod
    def from_dict(told: Json) -> OwnershipFile:
        """The records of a file. Raises ValueError for what is none, or is of another version."""
        records = told.get("records") if isinstance(told, Mapping) else None
        if not isinstance(told, Mapping) or not isinstance(records, list):
            raise ValueError("this is not a record")
        if told.get("schema", OwnershipFile.schema_version) != OwnershipFile.schema_version:
            raise ValueError("the record is of another version")
        return OwnershipFile(tuple(map(OwnershipRecord.from_dict, maps_of(records))))

    def to_dict(self) -> dict[str, Json]:
        """The file's content."""
        return {"schema": self.schema_version, "records": [record.to_dict() for record in self.records]}


def entries_in(told: Json) -> tuple[Entry, ...]:
    """The entries that one item of a record names; none if it cannot be understood."""
    if not isinstance(told, Mapping):
        return ()
    match told.get("kind"):
        case "extended":
            return read_entry("extended", told).entries
        case "basic":
            return read_entry("basic", told).entries
        case _:
            return ()


def owned_by_adapter(records: Sequence[OwnershipRecord]) -> dict[str, frozenset[Entry]]:
    """The entries of records, by adapter id."""
    found: dict[str, frozenset[Entry]] = {}
    for record in records:
        found[record.adapter] = found.get(record.adapter, frozenset()) | record.owned
    return found
