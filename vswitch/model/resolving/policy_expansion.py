"""One policy file read and expanded against the adapters of a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePath
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vswitch.errors import InputError, Origin
from vswitch.model.files.file_kinds import is_kind, not_the_kind, seems_kind
from vswitch.model.files.file_limits import Budget
from vswitch.model.files.invalid import report_invalid
from vswitch.model.files.policy_file import BasicRule, ExtendedRule, PolicyFile
from vswitch.model.files.policy_text import Section, SplitPolicy, split_policy
from vswitch.model.files.yaml_text import Node, parse_yaml
from vswitch.model.problems import Report, TooManyMistakes
from vswitch.model.resolving.adapter_names import AdapterNames
from vswitch.model.resolving.memo import Context, PolicyMemo, RuleMemo
from vswitch.model.resolving.rules import Basic, Extended, expand_basic, expand_extended

__all__ = ["Policy", "load_policy"]

R = TypeVar("R", Extended, Basic)
#: Expands an item as read: (item, its name, inventory, positions, mistakes, entries left).
Expand = Callable[..., R | None]


@dataclass(slots=True)
class Policy:
    """The rules of one file, in file order."""

    extended: list[Extended] = field(default_factory=list)
    basic: list[Basic] = field(default_factory=list)


# More edited items than this are read as if the file were new.
_FEW = 50


class _NotAlone(Exception):
    """A piece of a policy that does not stand for one item by itself."""


def load_policy(
    file: str, text: str, context: Context | None, memo: PolicyMemo, report: Report, budget: Budget
) -> Policy:
    """Read a policy. Without a context (the layout has mistakes) it is only checked by itself.

    `text` has `\\n` as line breaks. Mistakes go to `report`; the result is then incomplete. The entries
    of its rules are taken from `budget`. Raises InputError for what is no policy at all, TooManyMistakes.
    """
    before = replace(budget)
    reader = _PolicyReader(file, context, memo, report, budget)
    split = split_policy(text)
    if split is not None:
        try:
            return reader.pieces(split)
        except (_NotAlone, TooManyMistakes):  # cut wrongly, perhaps: as a whole it has the same, or none
            del report[reader.mistakes_before :]
            budget.used, budget.exceeded = before.used, before.exceeded
    return reader.whole(text)


class _PolicyReader:
    """Reads one policy file, cut into pieces or as a whole."""

    def __init__(
        self, file: str, context: Context | None, memo: PolicyMemo, report: Report, budget: Budget
    ) -> None:
        self.file = file
        self.stem = PurePath(file).stem
        self.context = context
        self.memo = memo
        self.report = report
        self.budget = budget
        self.mistakes_before = len(report)
        self.inventory: AdapterNames | None = None

    # --- in pieces

    def pieces(self, split: SplitPolicy) -> Policy:
        groups_text, line = split.groups or ("", 1)
        memo = self.memo
        if memo.context is not self.context or memo.groups != groups_text or memo.inventory is None:
            memo.forget()
            memo.context, memo.groups = self.context, groups_text
            root = self.parse_alone(groups_text, line - 1) if groups_text else None
            if root is not None and (root.entries is None or list(root.entries) != ["groups"]):
                raise _NotAlone
            self.define_groups(root)
            memo.inventory = self.inventory
        self.inventory = memo.inventory
        return Policy(
            self.section(split.extended_acls, ExtendedRule, expand_extended, memo.extended),
            self.section(split.acls, BasicRule, expand_basic, memo.basic),
        )

    def section(
        self, section: Section, model: type[BaseModel], expand: Expand[R], memos: dict[str, RuleMemo[R]]
    ) -> list[R]:
        memo = memos.setdefault(section.lead, RuleMemo())
        rules = self.edited(section, model, expand, memo)
        if rules is None:
            rules = self.placed(section, model, expand, memo)
        memo.section = section if len(rules) == len(section.texts) else None
        memo.rules = rules
        return rules

    def edited(
        self, section: Section, model: type[BaseModel], expand: Expand[R], memo: RuleMemo[R]
    ) -> list[R] | None:
        """The rules if all items start on the same lines as last time; None if not, or if in doubt."""
        last = memo.section
        if last is None or last.line != section.line or len(last.texts) != len(section.texts):
            return None
        changed = [
            place
            for place, (old, new) in enumerate(zip(last.texts, section.texts, strict=True))
            if old != new
        ]
        if len(changed) > _FEW or any(
            last.texts[place].count("\n") != section.texts[place].count("\n") for place in changed
        ):
            return None
        rules = list(memo.rules)
        before = len(self.report)
        for place in changed:
            piece = (section.texts[place], section.line_of(place))
            # Read by itself: whether there is room for all shows below.
            rule = memo.placed.get(piece) or self.piece(section.lead, *piece, model, expand, memo, Budget())
            if rule is None:
                del self.report[before:]  # `placed` finds the same and all further ones
                return None
            memo.placed[piece] = rules[place] = rule
        total = sum([rule.total for rule in rules])
        if not self.budget.fits(total):
            return None
        self.budget.take(total)
        memo.trim(len(rules))
        return rules

    def placed(
        self, section: Section, model: type[BaseModel], expand: Expand[R], memo: RuleMemo[R]
    ) -> list[R]:
        """The rules, each from memory if it stood on the same line before."""
        pieces = section.pieces()
        rules: list[R] = []
        for piece, known in zip(pieces, map(memo.placed.get, pieces), strict=True):
            rule = known
            if rule is not None and self.budget.fits(rule.total):
                self.budget.take(rule.total)
            else:
                rule = self.piece(section.lead, *piece, model, expand, memo, self.budget)
                if rule is None:
                    continue
                memo.placed[piece] = rule
            rules.append(rule)
        memo.trim(len(rules))
        return rules

    def piece(
        self,
        lead: str,
        text: str,
        line: int,
        model: type[BaseModel],
        expand: Expand[R],
        memo: RuleMemo[R],
        budget: Budget,
    ) -> R | None:
        known = memo.anywhere.get(text)
        if known is not None and budget.fits(known[2].total):
            item, offset, rule = known
            budget.take(rule.total)
            origin = Origin(self.file, line + offset, rule.origin.column)
            return rule.moved(self.name(item, origin), origin)
        root = self.parse_alone(f"{lead}{text}\n", line - 1)
        if root is None or root.items is None or len(root.items) != 1:
            raise _NotAlone
        read = self.read_item(root.items[0], model)
        if read is None or self.inventory is None:
            return None
        expanded = self.expand(root.items[0], read, expand, budget)
        if expanded is not None:
            memo.anywhere[text] = (read, expanded.origin.line - line, expanded)
        return expanded

    def parse_alone(self, text: str, line_offset: int) -> Node | None:
        problems: list[InputError] = []
        try:
            root = parse_yaml(text, self.file, problems, line_offset)
        except InputError:
            raise _NotAlone from None
        if problems:
            raise _NotAlone
        return root

    # --- as a whole

    def whole(self, text: str) -> Policy:
        problems: list[InputError] = []
        try:
            root = parse_yaml(text, self.file, problems)
        except InputError as error:
            if not seems_kind(text, "a policy"):
                raise not_the_kind(self.file, "a policy") from None
            self.report.append(error)
            return Policy()
        if root is not None and not is_kind(root, "a policy"):
            raise not_the_kind(self.file, "a policy")
        self.report += problems
        if root is None:
            self.report.add(
                Origin(self.file), "the file is empty", "a policy has `extended_acls:` and `acls:`"
            )
            return Policy()
        frame = root.data
        if isinstance(frame, dict):
            frame = {
                key: [] if isinstance(value, list) and key in ("extended_acls", "acls") else value
                for key, value in frame.items()
                if key != "groups"
            }
        try:
            PolicyFile.model_validate(frame)
        except ValidationError as error:
            report_invalid(error, PolicyFile, root, self.file, self.report, what="a policy")
        self.define_groups(root)
        return Policy(
            self.items(root, "extended_acls", ExtendedRule, expand_extended),
            self.items(root, "acls", BasicRule, expand_basic),
        )

    def items(self, root: Node, key: str, model: type[BaseModel], expand: Expand[R]) -> list[R]:
        rules: list[R] = []
        listed = (root.entries or {}).get(key)
        for node in (listed[1].items if listed else None) or ():
            item = self.read_item(node, model)
            if item is not None and self.inventory is not None:
                rule = self.expand(node, item, expand, self.budget)
                if rule is not None:
                    rules.append(rule)
        return rules

    # --- both

    def define_groups(self, root: Node | None) -> None:
        """Make the inventory rules are expanded with; there is none if the groups have mistakes."""
        groups = (root.entries or {}).get("groups") if root is not None else None
        before = len(self.report)
        read: dict[str, tuple[str, ...]] = {}
        if root is not None and groups is not None:
            try:
                read = PolicyFile.model_validate({"groups": groups[1].data}).groups
            except ValidationError as error:
                report_invalid(error, PolicyFile, root, self.file, self.report, what="a policy")
                return
        if self.context is None:
            return
        inventory = AdapterNames(self.context.adapters, self.context.targets)
        if groups is not None:
            inventory.define(read, partial(self.locate, groups[1]), self.report)
        self.inventory = inventory if len(self.report) == before else None

    def read_item(self, node: Node, model: type[BaseModel]) -> BaseModel | None:
        try:
            return model.model_validate(node.data)
        except ValidationError as error:
            report_invalid(error, model, node, self.file, self.report, what="a rule")
            return None

    def expand(self, node: Node, item: BaseModel, expand: Expand[R], budget: Budget) -> R | None:
        origin = Origin(self.file, node.line, node.column)
        locate = partial(self.locate, node)
        return expand(item, self.name(item, origin), self.inventory, locate, self.report, budget)

    def locate(self, node: Node, path: tuple[object, ...]) -> Origin:
        found = node.find(path)
        return Origin(self.file, found.line, found.column)

    def name(self, item: BaseModel, origin: Origin) -> str:
        """The rule's name: as written, or the file's and its line."""
        return getattr(item, "name", None) or f"{self.stem}:{origin.line}"
