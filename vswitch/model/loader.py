"""From the files users write to the frozen site, all mistakes at once.

Loading is a pure function of the texts. What was loaded last is remembered (see memo.py) so that
loading again after a small edit costs little; a remembered part is only used for the same text in
the same place, so the result never depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from vswitch.errors import InputError, InputErrors, Origin
from vswitch.model.invalid import report_invalid
from vswitch.model.layout import Bare, resolve_layout
from vswitch.model.layout_file import LayoutFile
from vswitch.model.memo import LayoutMemo, Memo
from vswitch.model.policies import assemble
from vswitch.model.policy import Policy, load_policy
from vswitch.model.problems import Report
from vswitch.model.site import Site
from vswitch.model.yamltext import Node, parse_yaml

__all__ = ["load_site", "read_text"]

# What is remembered, taken out while a load uses it: a load beside another one starts from nothing.
_memory = [Memo()]


def read_text(path: str) -> str:
    """The text of a UTF-8 file. Raises InputError for what is not one."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=Origin(path)) from None
    except ValueError as error:
        raise InputError(f"not a file name: {error}", where=Origin(repr(path))) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise InputError(
            f"byte 0x{content[error.start]:02X} is not UTF-8",
            where=Origin(path, line, column),
            hint="save the file as UTF-8",
        ) from None


def load_site(
    layout: str, policies: Sequence[str] | None = None, *, read: Callable[[str], str] = read_text
) -> Site:
    """The site that a layout file and its policy files describe.

    `policies` replaces the list in the layout (whose paths are relative to the layout's folder);
    None means that list. `read` gives the text behind a path. Raises InputErrors with every mistake
    found, in file order.
    """
    memo = _memory.pop() if _memory else Memo()
    try:
        site = _load(layout, policies, read, memo)
    except InputErrors:
        _memory[:] = [memo]
        raise
    _memory[:] = [memo]
    return site


def _load(layout: str, policies: Sequence[str] | None, read: Callable[[str], str], memo: Memo) -> Site:
    report = Report()
    _remember_layout(layout, read, memo, report)
    known = memo.layout if memo.layout is not None and not report else None
    named = known.policies if known is not None else ()
    files = [layout, *(named if policies is None else policies)]
    if known is not None:
        report += known.mistakes
    context = memo.context if known is not None else None
    read_policies: list[Policy] = []
    for index, file in enumerate(files[1:], 1):
        if file in files[:index]:
            report.add(Origin(file), "this policy is named twice", "name it once")
            continue
        text = _text(file, read, report)
        if text is not None:
            read_policies.append(load_policy(file, text, context, memo.policy(file), report))
    if context is None or report:
        raise _errors(report, files)
    expected = policies is None or set(named) <= set(files)
    assembly = assemble(context.bare, context, read_policies, files, report, expected=expected)
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

    return InputErrors(sorted(report, key=place))


def _text(file: str, read: Callable[[str], str], report: Report) -> str | None:
    """The text of a file with plain line breaks; None if it cannot be had (told to `report`)."""
    try:
        text = read(file)
    except InputError as error:
        report.append(error)
        return None
    except (OSError, ValueError) as error:
        report.add(Origin(file), f"cannot be read: {error}")
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _remember_layout(file: str, read: Callable[[str], str], memo: Memo, report: Report) -> None:
    """Make `memo.layout` the layout in `file`; what keeps its text from being had goes to `report`."""
    text = _text(file, read, report)
    if text is None:
        return
    known = memo.layout
    if known is None or known.file != file or known.text != text:
        memo.remember(_read_layout(file, text))


def _read_layout(file: str, text: str) -> LayoutMemo:
    report = Report()
    bare: Bare | None = None
    policies: tuple[str, ...] = ()
    try:
        root = parse_yaml(text, file, report)
    except InputError as error:
        return LayoutMemo(file, text, None, (), (*report, error))
    if root is None:
        report.add(Origin(file), "the file is empty", "a layout has at least `name:` and `hosts:`")
        return LayoutMemo(file, text, None, (), tuple(report))
    try:
        layout = LayoutFile.model_validate(root.data)
    except ValidationError as error:
        report_invalid(error, LayoutFile, root, file, report, what="a layout")
        policies = _policies_alone(root)
    else:
        policies = layout.policies
        if not report:
            bare = resolve_layout(layout, root, file, report)
    folder = os.path.dirname(file)
    return LayoutMemo(
        file,
        text,
        None if report else bare,
        tuple(os.path.join(folder, policy) for policy in policies),
        tuple(report),
    )


def _policies_alone(root: Node) -> tuple[str, ...]:
    """The policies a layout names, though it has mistakes: so that theirs are found as well."""
    listed = root.data.get("policies") if isinstance(root.data, dict) else None
    items = listed if isinstance(listed, list) else [listed]
    return tuple(item for item in items if isinstance(item, str) and item.strip())
