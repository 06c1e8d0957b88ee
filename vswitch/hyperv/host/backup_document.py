"""What a host keeps of each plan it carried out: in short, as it lists them, and whole."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from vswitch.hyperv.host.document_parts import DocumentPart, JsonObject, Listed, TimeText
from vswitch.hyperv.host.plan_document import PlanStep
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.host.shown_entries import EntryLists, read_lists

__all__ = ["AdapterBefore", "AdapterName", "Backup", "BackupState", "BackupSummary", "KeptPlan"]

#: How far a host is with a plan.
BackupState: TypeAlias = Literal["applying", "applied", "confirmed", "undone", "failed", "unreadable"]


class AdapterName(DocumentPart):
    """An adapter as a list of backups names it."""

    id: str
    name: str
    vm_name: str | None = None


class BackupSummary(DocumentPart):
    """One backup in the list of them. `armed_until`: when the host undoes the plan by itself."""

    plan_id: str
    created_at: TimeText
    sequence: int
    policy_digest: str
    state: BackupState
    steps_done: int
    steps: int
    armed_until: TimeText | None
    adapters: Annotated[tuple[AdapterName, ...], Listed]


class AdapterBefore(DocumentPart):
    """An adapter's entries before a plan."""

    id: str
    acls: Annotated[tuple[JsonObject, ...], Listed]
    extended_acls: Annotated[tuple[JsonObject, ...], Listed]

    @cached_property
    def lists(self) -> EntryLists:
        """The entries."""
        return read_lists(self.extended_acls, self.acls)


class KeptPlan(DocumentPart):
    """A plan in a backup, as far as going back needs it."""

    steps: Annotated[tuple[PlanStep, ...], Listed]
    records: Annotated[tuple[OwnershipRecord, ...], Listed] = ()
    records_during: Annotated[tuple[OwnershipRecord, ...], Listed] = ()


class Backup(DocumentPart):
    """A whole backup: the entries and the record before a plan, and the plan."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    plan_id: str
    state: BackupState
    adapters: Annotated[tuple[AdapterBefore, ...], Listed]
    records: Annotated[tuple[OwnershipRecord, ...], Listed]
    plan: KeptPlan
