"""Rules for PowerShell on what an expression does: .NET members, leaks into the output, swallowed errors.

The table (tests/powershell/members.yaml) says which members exist and which return nothing. A value
that a statement leaves behind becomes part of what its function returns: that is the one mistake no
strict mode reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tree_sitter import Node

from tests.support.powershell.tree import command_of, inner, string_of, text_of, walk

#: What these return is not wanted where the module calls them: it goes to $null or into a variable.
RETURNING = {"Add-Type", "New-Object", "New-Module", "Register-ScheduledTask", "Write-Output"}
BLOCKS = {"ForEach-Object", "Where-Object"}
PATTERNS = {"like", "match", "replace", "split"}
SCOPES = {"script", "env"}
PREFERENCE = re.compile(r"\$(\w+:)?\w+Preference", re.IGNORECASE)


def member_findings(node: Node, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rules broken at one node, as (rule, message)."""
    if node.type in ("invokation_expression", "member_access"):
        yield from _member(node, table)
    elif node.type == "command":
        yield from _command(node, table)
    elif node.type == "catch_clause" and not any(part.type == "statement_list" for part in walk(node)):
        yield "swallow", "an empty catch passes over every error"
    elif node.type == "comparison_expression" and len(node.children) == 3:
        yield from _comparison(node)
    elif node.type == "flow_control_statement":
        yield from _flow(node)
    elif node.type == "assignment_expression":
        yield from _preference(node)
        right = inner(node.children[-1])
        if right.type == "parenthesized_expression" and inner(right.children[1]).type == "command":
            yield "list", "a call in parentheses gives one object, a list or nothing: wrap it in @()"
    elif node.type == "expandable_string_literal":
        for scope in re.findall(r"(?<!`)\$(\w+):(?!:)", text_of(node)):
            if scope.lower() not in SCOPES:
                yield "scope", f"${scope}: is read as a scope; write ${{{scope}}}:"


def scope_findings(nodes: Iterator[Node]) -> Iterator[tuple[Node, str, str]]:
    """Variables of the script's scope that are read but never set in it, over a whole file."""
    read, known = [], set()
    for node in nodes:
        if node.type == "assignment_expression":
            known.add(text_of(inner(node.children[0])).lower())
        elif node.type == "variable" and text_of(node).lower().startswith("$script:"):
            read.append(node)
    for node in read:
        if text_of(node).lower() not in known:
            yield node, "scope", f"{text_of(node)} is never set"


def lock_findings(function: Node) -> Iterator[tuple[str, str]]:
    """Whoever takes the lock gives it back, whatever happens."""
    takes = any(
        node.type == "command" and command_of(node).name == "Enter-VswitchLock" for node in walk(function)
    )
    ends = [text_of(node) for node in walk(function) if node.type == "finally_clause"]
    if takes and not any("$lock.Dispose()" in end for end in ends):
        yield "lock", "the lock is not released in a finally"


def _member(node: Node, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    owner, name = node.children[0], next((c for c in node.children if c.type == "member_name"), None)
    member, called = text_of(name) if name else "", node.type == "invokation_expression"
    is_void = member in table["void"]
    if owner.type == "type_literal":
        kind = text_of(owner)[1:-1]
        is_void = f"{kind}.{member}" in table["void_static"]
        if member not in table["static"].get(kind, ()):
            yield "member", f"[{kind}]::{member} is not in the table of members"
    elif called and member not in (*table["void"], *table["value"]):
        yield "member", f".{member}() is not in the table of members"
    if called and not is_void and _alone(node):
        yield "output", f".{member}() returns something: it would become part of the function's output"


def _command(node: Node, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    command = command_of(node)
    if command.name in RETURNING - {"Add-Type"} and _alone(node) and _in_function(node):
        yield "output", f"what {command.name} returns would become part of the function's output"
    kind = command.argument("TypeName")
    if command.name == "New-Object" and kind is not None and string_of(kind.value) not in table["new"]:
        yield "member", f"New-Object: {string_of(kind.value)} is not in the table of members"
    depth = command.argument("Depth")
    levels = text_of(inner(depth.value)) if depth is not None and depth.value is not None else ""
    if command.name == "ConvertTo-Json" and levels.isdigit() and int(levels) < 20:
        yield "json", "ConvertTo-Json cuts off what is deeper: a backup with its plan needs 20 levels"
    if command.name == "Unregister-ScheduledTask" and command.argument("Confirm") is None:
        yield "confirm", f"{command.name} asks, and nobody answers: -Confirm:$false"


def _comparison(node: Node) -> Iterator[tuple[str, str]]:
    left, operator, right = node.children
    name = text_of(operator).lower().lstrip("-")
    if name.removeprefix("c").removeprefix("not").removeprefix("i") in PATTERNS and any(
        part.type == "variable" for part in walk(right)
    ):
        yield "pattern", f"-{name}: data on the right would be a pattern"
    if name in ("eq", "ne", "ceq", "cne") and inner(left).type == "array_expression":
        yield "list", f"-{name} with a list on the left picks members instead of comparing"


def _flow(node: Node) -> Iterator[tuple[str, str]]:
    parent = node.parent
    while parent is not None and parent.type not in (
        "function_statement",
        "foreach_statement",
        "while_statement",
    ):
        if parent.type == "command" and command_of(parent).name in BLOCKS:
            yield "flow", f"{text_of(node).split()[0]} does not leave a block of {command_of(parent).name}"
            return
        parent = parent.parent


def _preference(node: Node) -> Iterator[tuple[str, str]]:
    name = text_of(inner(node.children[0]))
    if PREFERENCE.fullmatch(name) and (
        _in_function(node) or (name.lower() == "$erroractionpreference" and "'Stop'" not in text_of(node))
    ):
        yield "preference", f"{name} is set once, for the whole file, so that no error passes"


def _alone(node: Node) -> bool:
    """Whether nothing is done with the value: the expression is a whole statement."""
    parent = node.parent
    while parent is not None and parent.child_count == 1 and parent.type != "statement_list":
        parent = parent.parent
    at = parent if parent is None or parent.type == "statement_list" else None
    if at is None:
        return False
    holder = at.parent
    return holder is not None and holder.type in ("statement_block", "script_block_body")


def _in_function(node: Node) -> bool:
    parent = node.parent
    while parent is not None and parent.type != "function_statement":
        parent = parent.parent
    return parent is not None
