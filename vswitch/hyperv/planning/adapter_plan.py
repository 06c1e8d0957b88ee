"""What becomes of one adapter of a host: its entries before and after, and the order of writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vswitch.acl_entries import Acls, Entry
from vswitch.compare.acl_diff import Hidden, SemanticDiff, hidden, semantic_diff
from vswitch.hyperv.host.host_state import HostAdapter
from vswitch.hyperv.host.plan_document import PlanStep
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.ordering import Order, order_given, order_of
from vswitch.hyperv.planning.plan_steps import steps_of, writes_of
from vswitch.model.types import Direction

__all__ = ["AdapterPlan"]


@dataclass(frozen=True)
class AdapterPlan:
    """One adapter: what is there, what is ours, and what becomes of it.

    `added` and `removed` are without the pairs in `changed` (same weight or prefix, old and new).
    `kept` are our entries that stay, `foreign` those of others, `adopted` foreign ones that the
    policy asks for and that become ours without a write, `present` the same where they stay foreign.
    """

    adapter: HostAdapter
    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]
    kept: tuple[Entry, ...]
    foreign: tuple[Entry, ...]
    adopted: tuple[Entry, ...]
    present: tuple[Entry, ...]
    owned_before: frozenset[Entry]
    recorded: bool  # the host's own record says the same as owned_before
    seen: frozenset[str] | None  # entries of others when the record was written; None if not known
    rules: Mapping[Entry, PolicyRule | None]
    sent: tuple[PlanStep, ...] | None = None  # of a saved plan: its steps, as they will be sent

    @cached_property
    def old(self) -> Acls:
        """All entries as they are."""
        return self.adapter.acls

    @cached_property
    def new(self) -> Acls:
        """All entries as they will be."""
        gone = {*self.removed, *(before for before, _ in self.changed)}
        come = [*self.added, *(after for _, after in self.changed)]
        return Acls.of([*(entry for entry in self.adapter.entries if entry not in gone), *come])

    @cached_property
    def owned_after(self) -> frozenset[Entry]:
        """Our entries once the plan is applied."""
        return frozenset([*self.kept, *self.adopted, *self.added, *(after for _, after in self.changed)])

    @property
    def writes(self) -> bool:
        """Whether entries change."""
        return bool(self.added or self.removed or self.changed)

    @cached_property
    def order(self) -> Order:
        """The writes in order: those of a saved plan as they stand there."""
        fixed = frozenset(self.adapter.entries.keys() - self.owned_before)
        if self.sent is not None:
            return order_given(self.old, self.new, fixed, self.adapter.walls, tuple(writes_of(self.sent)))
        return order_of(self.old, self.new, fixed, self.adapter.walls) if self.writes else Order(())

    @cached_property
    def steps(self) -> tuple[PlanStep, ...]:
        """The writes as the module takes them."""
        return tuple(steps_of(self.adapter, self.order, self.rules)) if self.sent is None else self.sent

    @property
    def temporary(self) -> tuple[Entry, ...]:
        """All entries that are added on the way, those that go again included."""
        return tuple(step.entry for step in self.order.steps if step.add)

    @property
    def effects(self) -> tuple[SemanticDiff, ...]:
        """Which traffic is treated differently afterwards, for each direction where some is."""
        found = (semantic_diff(self.old, self.new, direction) for direction in Direction)
        return tuple(diff for diff in found if diff)

    @property
    def conflicts(self) -> tuple[Hidden, ...]:
        """Foreign entries that shadow ours, or ours that shadow foreign ones."""
        foreign = Acls.of(self.foreign)
        return tuple(hidden(Acls.of(self.owned_after), foreign)) if self.foreign else ()

    @cached_property
    def beside(self) -> frozenset[str]:
        """Entries of others, as text."""
        return self.adapter.texts(self.foreign)

    @property
    def came(self) -> list[str]:
        """Entries of others that have come since the last apply."""
        return [] if self.seen is None else sorted(self.beside - self.seen)

    @property
    def went(self) -> list[str]:
        """Entries of others that have gone since the last apply."""
        return [] if self.seen is None else sorted(self.seen - self.beside)

    def rule_text(self, entry: Entry) -> str:
        """`allow-http (web.yaml:4:5)`, or "" if no policy rule is known for the entry."""
        rule = self.rules.get(entry)
        return f"{rule.name} ({rule.origin})" if rule else ""
