"""PowerShell files as syntax trees: functions, commands with their arguments, splatted tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_powershell.language()))
CLOSURES = ("script_block_expression", "function_statement")


def text_of(node: Node) -> str:
    """The source a node covers."""
    return (node.text or b"").decode("utf-8", errors="replace")


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, in source order."""
    yield node
    for child in node.children:
        yield from walk(child)


def inner(node: Node) -> Node:
    """The node below wrappers that have nothing but one child (the grammar's levels of precedence)."""
    while node.named_child_count == 1 and node.child_count == 1 and not node.type.endswith("literal"):
        node = node.children[0]
    return node


@dataclass(frozen=True)
class Argument:
    """One parameter of a command. `value` is None where none is given; `attached` marks `-Name:value`."""

    name: str  # "" for a positional argument
    node: Node
    value: Node | None = None
    attached: bool = False


@dataclass(frozen=True)
class Command:
    """One call: `name` is "" where it is computed. `splats` are names of splatted variables."""

    name: str
    node: Node
    arguments: tuple[Argument, ...]
    splats: tuple[str, ...]
    piped: bool  # whether something is piped into it

    def argument(self, name: str) -> Argument | None:
        """The argument of that parameter, if it is given here (not by splatting)."""
        return next((argument for argument in self.arguments if argument.name == name), None)


@dataclass
class Function:
    """One function: its parameters by name (True for switches) and its tree."""

    name: str
    node: Node
    parameters: dict[str, bool] = field(default_factory=dict)
    mandatory: set[str] = field(default_factory=set)

    @cached_property
    def commands(self) -> list[Command]:
        """All calls in it, in source order."""
        return [command_of(node) for node in walk(self.node) if node.type == "command"]

    @cached_property
    def help(self) -> str:
        """The first block comment in it, or nothing."""
        blocks = [text_of(node) for node in walk(self.node) if node.type == "comment"]
        return next((block for block in blocks if block.startswith("<#")), "")

    def table(self, variable: str) -> dict[str, Node | None] | None:
        """The keys ever put into a hashtable variable, with their values; None if it is no table."""
        found: dict[str, Node | None] | None = None
        for node in walk(self.node):
            if node.type != "assignment_expression":
                continue
            left, right = inner(node.children[0]), inner(node.children[-1])
            if text_of(left).lower() == f"${variable}".lower() and right.type == "hash_literal_expression":
                found = (found or {}) | entries_of(right)
            elif left.type == "element_access" and text_of(left.children[0]) == f"${variable}":
                found = (found or {}) | {string_of(left.children[2]) or "?": right}
        return found


@dataclass
class Script:
    """One file."""

    path: str
    source: bytes

    @cached_property
    def root(self) -> Node:
        """The whole tree."""
        return _PARSER.parse(self.source).root_node

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Its functions by name, in order."""
        found = {}
        for node in walk(self.root):
            if node.type == "function_statement":
                function = _function(node)
                found[function.name] = function
        return found

    @cached_property
    def top(self) -> Function:
        """What stands outside all functions, as if it were one (its tree is the whole file)."""
        return _function(self.root)

    def functions_of(self, node: Node) -> Function:
        """The function a node stands in, or `top`."""
        parent: Node | None = node
        while parent is not None:
            if parent.type == "function_statement":
                return self.functions[_name_of(parent)]
            parent = parent.parent
        return self.top


def _name_of(function: Node) -> str:
    return next((text_of(child) for child in function.children if child.type == "function_name"), "")


def _function(node: Node) -> Function:
    function = Function(_name_of(node), node)
    for parameter in _own_parameters(node):
        name = text_of(next(child for child in parameter.children if child.type == "variable"))[1:]
        attributes = [text_of(child) for child in walk(parameter) if child.type == "attribute"]
        function.parameters[name] = any(text.lower() == "[switch]" for text in attributes)
        if any("mandatory" in text.lower() for text in attributes):
            function.mandatory.add(name)
    return function


def _own_parameters(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.type == "script_parameter":
            yield child
        elif child.type not in CLOSURES and child.type != "script_block_body":
            yield from _own_parameters(child)


def command_of(node: Node) -> Command:
    """A `command` node taken apart."""
    name = next((text_of(child) for child in node.children if child.type == "command_name"), "")
    elements = next((child for child in node.children if child.type == "command_elements"), None)
    arguments: list[Argument] = []
    splats: list[str] = []
    attached = False
    for child in elements.children if elements is not None else ():
        if child.type == "command_argument_sep":
            attached = text_of(child).strip() == ":"
        elif child.type == "command_parameter":
            arguments.append(Argument(text_of(child)[1:].rstrip(":"), child))
        elif inner(child).type == "variable" and text_of(child).startswith("@"):
            splats.append(text_of(child)[1:])
        else:
            last = arguments[-1] if arguments else None
            if last is not None and last.name and last.value is None:
                arguments[-1] = Argument(last.name, last.node, child, attached)
            else:
                arguments.append(Argument("", child, child))
    before = [child for child in (node.parent.children if node.parent else ()) if child.is_named]
    piped = bool(before) and before[0] != node
    return Command(name, node, tuple(arguments), tuple(splats), piped)


def string_of(node: Node | None) -> str | None:
    """The value of a literal without variables: a quoted string or a bare word; else None."""
    if node is None:
        return None
    node = inner(node)
    text = text_of(node)
    if node.type == "generic_token":
        return text
    if node.type == "string_literal" and text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if node.type == "string_literal" and text[:1] == '"' and "$" not in text and "`" not in text:
        return text[1:-1]
    return None


def entries_of(table: Node) -> dict[str, Node | None]:
    """The entries of a hashtable literal (not of tables within it)."""
    found: dict[str, Node | None] = {}
    bodies = [child for child in table.children if child.type == "hash_literal_body"]
    for entry in bodies[0].children if bodies else ():
        if entry.type == "hash_entry":
            key = text_of(entry.children[0]).strip("'\"")
            found[key] = entry.children[-1] if entry.children[-1].is_named else None
    return found
