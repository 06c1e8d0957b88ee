"""A plan as it is sent to a host, kept there, and saved in files: the one place that knows its form."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vswitch.acl_entries import Entry
from vswitch.hyperv.host.document_parts import DocumentPart, JsonObject, Listed, TimeText, WriteName
from vswitch.hyperv.host.name_checks import computer_fault, plan_fault
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.host.shown_entries import EntryLists, read_entry, read_lists
from vswitch.json_values import Json
from vswitch.model.problems import shorten

__all__ = ["PlanDocument", "PlanStep", "PlannedAdapter", "StepRule", "label_of"]

Id = Annotated[str, Field(min_length=1)]


def _is_computer(name: str) -> str:
    if fault := computer_fault(name):
        raise ValueError(f"no computer is called {shorten(name)}: {fault}")
    return name


def _is_plan(name: str) -> str:
    if fault := plan_fault(name):
        raise ValueError(f"no plan is called {shorten(name)}: {fault}")
    return name


def label_of(vm_name: str | None, name: str) -> str:
    """How people call an adapter: `web01/Network Adapter` or `ManagementOS/vs-lan`."""
    return f"{vm_name or 'ManagementOS'}/{name}"


class StepRule(DocumentPart):
    """The policy rule that a step comes from, and where that is."""

    name: str
    file: str
    line: int
    column: int


class PlanStep(DocumentPart):
    """One write. `entry` is the object that is added, or removed as the host showed it."""

    op: WriteName
    adapter: Id
    entry: JsonObject
    rule: StepRule | None = None

    @property
    def adds(self) -> bool:
        """Whether it adds; else it removes."""
        return self.op.startswith("add")

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The entries it adds or removes: two for an ANY that is one on the host."""
        return read_entry("extended" if self.op.endswith("Extended") else "basic", self.entry).entries

    def to_dict(self) -> dict[str, Json]:
        """The step as it is sent."""
        found: dict[str, Json] = {"op": self.op, "adapter": self.adapter, "entry": dict(self.entry)}
        return found if self.rule is None else found | {"rule": self.rule.to_dict()}


class PlannedAdapter(DocumentPart):
    """An adapter that a plan touches, with the lists for which the plan was made."""

    id: Id
    name: str
    vm_name: str | None
    is_management_os: bool
    expected_acls: Annotated[tuple[JsonObject, ...], Listed]
    expected_extended_acls: Annotated[tuple[JsonObject, ...], Listed]

    @property
    def label(self) -> str:
        """How people call it."""
        return label_of(self.vm_name, self.name)

    @cached_property
    def lists(self) -> EntryLists:
        """The entries for which the plan was made."""
        return read_lists(self.expected_extended_acls, self.expected_acls)

    def to_dict(self) -> dict[str, Json]:
        """The adapter as it is sent."""
        return {
            "id": self.id,
            "name": self.name,
            "vmName": self.vm_name,
            "isManagementOs": self.is_management_os,
            "expectedAcls": [*self.expected_acls],
            "expectedExtendedAcls": [*self.expected_extended_acls],
        }


class PlanDocument(DocumentPart):
    """A whole plan for one computer. `confirm_within` is in seconds; 0 is without.

    `records` are what is ours afterwards, `records_during` what may be ours on the way, and
    `expected_records` what was ours when the plan was made (None: not said, and not checked).
    """

    schema_version: Literal[1] = Field(alias="schema")
    plan_id: Annotated[str, AfterValidator(_is_plan)]
    host: Annotated[str, AfterValidator(_is_computer)]
    created_at: TimeText
    policy_digest: str
    adapters: Annotated[tuple[PlannedAdapter, ...], Listed]
    steps: Annotated[tuple[PlanStep, ...], Listed]
    records: Annotated[tuple[OwnershipRecord, ...], Listed]
    records_during: Annotated[tuple[OwnershipRecord, ...], Listed]
    expected_records: Annotated[tuple[OwnershipRecord, ...], Listed] | None = None
    confirm_within: Annotated[int, Field(ge=0, le=86400)] = 0

    @staticmethod
    def from_dict(told: Json) -> PlanDocument:
        """A plan from plain data. Raises ValueError (pydantic's ValidationError is one).

        Whatever a plan does not have is refused as well: it would be sent, and nobody would have seen it.
        """
        plan = PlanDocument.model_validate(told, extra="forbid")
        plan._check_adapters()
        return plan

    def _check_adapters(self) -> None:
        ids = [each.id for each in self.adapters]
        if len({each.lower() for each in ids}) < len(ids):  # as the host finds them
            raise ValueError("it lists an adapter twice")
        records = (*self.records, *self.records_during, *(self.expected_records or ()))
        for adapter in (*(step.adapter for step in self.steps), *(each.adapter for each in records)):
            if adapter not in ids:
                raise ValueError(f"a part of it is for the adapter {adapter}, which it does not list")

    def to_dict(self) -> dict[str, Json]:
        """The plan as the PowerShell module takes it."""
        expected: dict[str, Json] = {}
        if self.expected_records is not None:
            expected["expectedRecords"] = [
                {"adapter": each.adapter, "entries": [*each.entries]} for each in self.expected_records
            ]
        return {
            "schema": self.schema_version,
            "planId": self.plan_id,
            "host": self.host,
            "createdAt": self.created_at,
            "policyDigest": self.policy_digest,
            "adapters": [each.to_dict() for each in self.adapters],
            "steps": [each.to_dict() for each in self.steps],
            "records": [each.to_dict() for each in self.records],
            "recordsDuring": [each.to_dict() for each in self.records_during],
            **expected,
            "confirmWithin": self.confirm_within,
        }

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the adapters it touches."""
        return tuple(each.id for each in self.adapters)

    def adapter(self, adapter_id: str) -> PlannedAdapter:
        """The adapter of that id. Raises KeyError."""
        return {each.id: each for each in self.adapters}[adapter_id]

    def steps_on(self, adapter_id: str) -> tuple[PlanStep, ...]:
        """The writes on one adapter, in order."""
        return tuple(step for step in self.steps if step.adapter == adapter_id)

    def undone_after(self, seconds: int) -> PlanDocument:
        """The same plan, undone by the host after so many seconds unless confirmed; 0 leaves it as it is."""
        return self.model_copy(update={"confirm_within": seconds}) if seconds else self
