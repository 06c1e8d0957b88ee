"""From the files users write to the frozen site, all mistakes at once.

Loading is a pure function of the texts. Whoever loads the same files again and again, as the controller
does, can keep a `Memo` of the last load, so that loading after a small edit costs little; a remembered
part is only used for the same text in the same place, so the result never depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from vswitch.errors import InputError, InputErrors, Origin
from vswitch.model.files.file_kinds import is_kind, not_the_kind, seems_kind
from vswitch.model.files.file_limits import Budget, LayoutBudgets
from vswitch.model.files.invalid import report_invalid
from vswitch.model.files.layout_file import LayoutFile
from vswitch.model.files.yaml_text import Node, parse_yaml
from vswitch.model.problems import MOST_LISTED, Report, TooManyMistakes, shorten
from vswitch.model.resolving.layout_resolver import Bare, resolve_layout
from vswitch.model.resolving.memo import LayoutMemo, Memo
from vswitch.model.resolving.policy_assembly import assemble
from vswitch.model.resolving.policy_expansion import Policy, load_policy
from vswitch.model.site import Site

__all__ = ["load_site"]


def load_site(
    layout: str,
    policies: Sequence[str] | None = None,
    *,
    read: Callable[[str], str],
    memo: Memo | None = None,
) -> Site:
    """The site that a layout file and its policy files describe.

    `policies` replaces the list in the layout (whose paths are relative to the layout's folder);
    None means that list. `read` gives the text behind a path, or raises InputError, OSError or
    ValueError. `memo` is what its owner keeps from load to load; one load at a time may use it. Raises
    InputErrors with every mistake found, in file order.
    """
    memo = Memo() if memo is None else memo
    report = Report()
    _remember_layout(layout, read, memo, report)
    known = memo.layout if memo.layout is not None and not report else None
    named = dict(known.policies) if known is not None else {}
    files = [
        layout,
        *([file for file, _ in known.policies] if known and policies is None else policies or ()),
    ]
    if known is not None:
        report += known.mistakes
    context = memo.context if known is not None else None
    read_policies: list[Policy] = []
    budget = Budget()
    try:
        for index, file in enumerate(files[1:], 1):
            if file in files[:index]:
                report.add(Origin(file), "this policy is named twice", "name it once")
                continue
            try:
                text = _text(file, read)
                read_policies.append(load_policy(file, text, context, memo.policy(file), report, budget))
            except InputError as error:
                report.append(_seen_from(named.get(file) if policies is None else None, file, error))
        if context is None or report:
            raise _errors(report, files)
        expected = policies is None or set(named) <= set(files)
        assembly = assemble(context.bare, context, read_policies, files, report, expected=expected)
    except TooManyMistakes:
        raise _errors(report, files) from None
    if report:
        raise _errors(report, files)
    memo.forget_all_but(files)
    return Site(
        name=context.bare.name,
        networks=context.bare.networks,
        hosts=context.bare.hosts,
        guests=assembly.guests,
        expectations=context.bare.expectations,
        files=tuple(files),
        warnings=(*context.bare.warnings, *assembly.warnings),
    )


def _errors(report: Report, files: Sequence[str]) -> InputErrors:
    order = {file: position for position, file in reversed(list(enumerate(files)))}

    def place(error: InputError) -> tuple[int, Origin]:
        where = error.where or Origin(files[0])
        return order.get(where.file, 0), where

    ordered = sorted(report, key=place)
    if len(ordered) >= MOST_LISTED:
        rest = InputError(
            f"these are the first {MOST_LISTED:,} mistakes that were found", where=Origin(files[0])
        )
        ordered = [*ordered[:MOST_LISTED], rest]
    return InputErrors(ordered)


def _text(file: str, read: Callable[[str], str]) -> str:
    """The text of a file with plain line breaks. Raises InputError if it cannot be had."""
    try:
        text = read(file)
    except (OSError, ValueError) as error:
        raise InputError(f"the file cannot be read: {error}", where=Origin(file)) from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _seen_from(layout: Origin | None, file: str, error: InputError) -> InputError:
    """A mistake about a whole policy file, where the layout names that."""
    if layout is None or (error.where and error.where.line):
        return error
    return InputError(f"the policy {shorten(file, 100)}: {error.message}", where=layout, hint=error.hint)


def _remember_layout(file: str, read: Callable[[str], str], memo: Memo, report: Report) -> None:
    """Make `memo.layout` the layout in `file`; what keeps its text from being had goes to `report`."""
    try:
        text = _text(file, read)
    except InputError as error:
        report.append(error)
        return
    known = memo.layout
    if known is None or known.file != file or known.text != text:
        memo.remember(_read_layout(file, text))


def _read_layout(file: str, text: str) -> LayoutMemo:
    report = Report()
    try:
        return _layout_in(file, text, report)
    except TooManyMistakes:
        return LayoutMemo(file, text, None, (), tuple(report))


def _layout_in(file: str, text: str, report: Report) -> LayoutMemo:
    bare: Bare | None = None
    try:
        root = parse_yaml(text, file, report)
    except InputError as error:
        if not seems_kind(text, "a layout"):
            return LayoutMemo(file, text, None, (), (not_the_kind(file, "a layout"),))
        return LayoutMemo(file, text, None, (), (*report, error))
    if root is None:
        report.add(Origin(file), "the file is empty", "a layout has at least `name:` and `hosts:`")
        return LayoutMemo(file, text, None, (), tuple(report))
    if not is_kind(root, "a layout"):
        return LayoutMemo(file, text, None, (), (not_the_kind(file, "a layout"),))
    try:
        layout = LayoutFile.model_validate(root.data, context=LayoutBudgets())
    except ValidationError as error:
        report_invalid(error, LayoutFile, root, file, report, what="a layout")
    else:
        if not report:
            bare = resolve_layout(layout, root, file, report)
    return LayoutMemo(file, text, None if report else bare, _policies(root, file), tuple(report))


def _policies(root: Node, file: str) -> tuple[tuple[str, Origin], ...]:
    """The policies a layout names, even if it has mistakes, and where."""
    folder = os.path.dirname(file)
    listed = root.find(("policies",))
    nodes = [] if listed is root else listed.items if listed.items is not None else [listed]
    return tuple(
        (os.path.join(folder, node.data.strip()), Origin(file, node.line, node.column))
        for node in nodes
        if isinstance(node.data, str) and node.data.strip()
    )
