"""What the loader remembers between loads of one layout, so that an edit costs what it changes.

Everything here is looked up by the very text it was made from (and its place, where places show),
so a remembered part is what reading the text again would give.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pydantic import BaseModel

from vswitch.errors import InputError, Origin
from vswitch.model.files.policy_text import Piece, Section
from vswitch.model.resolving.adapter_names import AdapterNames, Targets
from vswitch.model.resolving.layout_resolver import Bare
from vswitch.model.resolving.programs import Program
from vswitch.model.resolving.rules import Basic, Extended
from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl, Guest
from vswitch.model.types import Direction

__all__ = ["Context", "LayoutMemo", "Memo", "PolicyMemo", "RuleMemo"]

R = TypeVar("R", bound=Extended | Basic)
E = TypeVar("E", bound=ExtendedAcl | BasicAcl)
_SLACK = 1000


@dataclass(slots=True, eq=False)
class Context:
    """A site without policies, and what was worked out on it last."""

    bare: Bare
    adapters: tuple[Adapter, ...]
    targets: dict[frozenset[int], Targets] = field(default_factory=dict)
    extended: dict[Direction, dict[tuple[Targets, ...], Program[Extended, ExtendedAcl]]] = field(
        default_factory=lambda: {direction: {} for direction in Direction}
    )
    basic: dict[tuple[Targets, ...], Program[Basic, BasicAcl]] = field(default_factory=dict)
    _adapters: dict[int, tuple[tuple[object, ...], Adapter]] = field(default_factory=dict)
    _guests: dict[str, Guest] = field(default_factory=dict)

    def adapter(
        self,
        index: int,
        bare: Adapter,
        inbound: Program[Extended, ExtendedAcl],
        outbound: Program[Extended, ExtendedAcl],
        acls: Program[Basic, BasicAcl],
    ) -> Adapter:
        """The adapter with its entries; the last one again if its programs are the same objects."""
        programs = (inbound, outbound, acls)
        known = self._adapters.get(index)
        if known is not None and all(old is new for old, new in zip(known[0], programs, strict=True)):
            return known[1]
        made = replace(bare, acls=acls.entries, extended_acls=inbound.entries + outbound.entries)
        self._adapters[index] = programs, made
        return made

    def guest(self, bare: Guest, adapters: tuple[Adapter, ...]) -> Guest:
        """The guest with these adapters; the last one again if they are the same objects."""
        if not adapters:
            return bare
        known = self._guests.get(bare.name)
        if known is not None and all(old is new for old, new in zip(known.adapters, adapters, strict=True)):
            return known
        made = self._guests[bare.name] = replace(bare, adapters=adapters)
        return made


@dataclass(slots=True)
class RuleMemo(Generic[R]):
    """The rules of one section: as last read, by text and line, and by text alone.

    By text alone the item as read is kept as well, and how many lines below the dash it starts.
    """

    section: Section | None = None
    rules: list[R] = field(default_factory=list)
    placed: dict[Piece, R] = field(default_factory=dict)
    anywhere: dict[str, tuple[BaseModel, int, R]] = field(default_factory=dict)

    def trim(self, size: int) -> None:
        """Forget everything once much more is kept than the `size` rules in use."""
        if len(self.placed) > 2 * size + _SLACK:
            self.placed.clear()
        if len(self.anywhere) > 2 * size + _SLACK:
            self.anywhere.clear()


@dataclass(slots=True)
class PolicyMemo:
    """The rules of one policy file as last read, valid for one context and one text of its groups."""

    context: Context | None = None
    groups: str | None = None
    inventory: AdapterNames | None = None
    extended: dict[str, RuleMemo[Extended]] = field(default_factory=dict)  # by what stands before items
    basic: dict[str, RuleMemo[Basic]] = field(default_factory=dict)

    def forget(self) -> None:
        """Start anew."""
        self.context = self.groups = self.inventory = None
        self.extended.clear()
        self.basic.clear()


@dataclass(frozen=True, slots=True)
class LayoutMemo:
    """A layout as read: without mistakes there is a site."""

    file: str
    text: str
    bare: Bare | None
    policies: tuple[tuple[str, Origin], ...]  # paths, and where the layout names them
    mistakes: tuple[InputError, ...]


@dataclass(slots=True)
class Memo:
    """Everything remembered: one layout with its policies."""

    layout: LayoutMemo | None = None
    context: Context | None = None
    policies: dict[str, PolicyMemo] = field(default_factory=dict)

    def remember(self, layout: LayoutMemo) -> None:
        """Take another layout in place of the one before."""
        self.layout = layout
        self.policies.clear()
        self.context = None
        if layout.bare is not None:
            adapters = tuple(adapter for guest in layout.bare.guests for adapter in guest.adapters)
            self.context = Context(layout.bare, adapters)

    def policy(self, file: str) -> PolicyMemo:
        """What is remembered of one policy file."""
        return self.policies.setdefault(file, PolicyMemo())

    def forget_all_but(self, files: Collection[str]) -> None:
        """Forget policies that are no longer used."""
        for file in [file for file in self.policies if file not in files]:
            del self.policies[file]
