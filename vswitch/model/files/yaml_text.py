"""YAML text as a tree of nodes with positions, built from parser events.

Scalars keep the text that was written: YAML 1.1 would turn `On` into true, `10:20` into 620 and
`1e3` into a string, so each field reads its own scalar instead (see fields.py). Anchors, aliases
and merge keys work; what could hang or crash a loader (aliases that contain themselves, aliases
that multiply, deep nesting) is an InputError like any other mistake.

`yaml.compose` gives nodes with positions, too. It takes more than twice as long, and has read all of a
file before its values can be counted: docs/decisions/0015.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from vswitch.errors import InputError, Origin
from vswitch.model.files.file_limits import MOST_VALUES
from vswitch.model.problems import shorten

__all__ = ["Node", "Problems", "parse_yaml"]

_MAX_DEPTH = 60
_MAX_REPEATED = 500_000
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_MERGE = "<<"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Problems(Protocol):
    """Where mistakes that do not end the reading are put."""

    def append(self, error: InputError, /) -> None:
        """Take one more."""


@dataclass(slots=True)
class Node:
    """One YAML value: its position (both from 1), plain data, and its parts if it has some.

    `data` is None, str, list or dict[str, ...], ready for a pydantic model. `size` counts the
    values it holds once aliases are written out.
    """

    line: int
    column: int
    data: Any = None
    size: int = 1
    items: list[Node] | None = None
    entries: dict[str, tuple[Node, Node]] | None = None  # key -> key's node, value's node

    def find(self, path: tuple[object, ...]) -> Node:
        """The deepest node on `path` (keys and indexes) that exists; a missing key: its mapping."""
        node = self
        for step in path:
            if node.entries is not None and str(step) in node.entries:
                node = node.entries[str(step)][1]
            elif node.items is not None and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                break
        return node

    def find_key(self, path: tuple[object, ...]) -> Node:
        """The node of the last key on `path`, or what `find` gives if that is no key."""
        parent = self.find(path[:-1])
        if path and parent.entries is not None and str(path[-1]) in parent.entries:
            return parent.entries[str(path[-1])][0]
        return self.find(path)


@dataclass(slots=True)
class _Builder:
    """Builds the node tree of one document from its events."""

    file: str
    line_offset: int
    problems: Problems
    parser: Any
    anchors: dict[str, Node | None] = field(default_factory=dict)
    repeated: int = 0
    values: int = 0

    def origin(self, mark: Any) -> Origin:
        return Origin(self.file, mark.line + 1 + self.line_offset, mark.column + 1)

    def fail(self, mark: Any, message: str, hint: str = "") -> InputError:
        return InputError(message, where=self.origin(mark), hint=hint)

    def build(self, event: Any, depth: int) -> Node:
        kind = event.__class__
        mark = event.start_mark
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.fail(
                mark,
                f"the file holds more than {MOST_VALUES:,} keys and values up to here",
                "a policy can be split into several; a prefix or a range takes the place of many values",
            )
        if kind is yaml.ScalarEvent:
            value: str | None = event.value
            if not event.style and value in _NULLS:
                value = None
            node = Node(mark.line + 1 + self.line_offset, mark.column + 1, value)
            if event.anchor:
                self.anchors[event.anchor] = node
            return node
        if kind is yaml.AliasEvent:
            return self.alias(event)
        if depth > _MAX_DEPTH:
            raise self.fail(mark, f"values are nested more than {_MAX_DEPTH} deep")
        if event.anchor:
            self.anchors[event.anchor] = None
        node = Node(mark.line + 1 + self.line_offset, mark.column + 1)
        if kind is yaml.SequenceStartEvent:
            self.sequence(node, depth)
        else:
            self.mapping(node, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> Node:
        name = event.anchor
        if name not in self.anchors:
            raise self.fail(
                event.start_mark,
                f"the alias *{name} has no anchor &{name} before it",
                f'if a pattern is meant, quote it: "*{name}"',
            )
        target = self.anchors[name]
        if target is None:
            raise self.fail(event.start_mark, f"the alias *{name} stands inside the value it repeats")
        self.repeated += target.size
        if self.repeated > _MAX_REPEATED:
            raise self.fail(
                event.start_mark,
                f"the aliases up to here repeat more than {_MAX_REPEATED:,} values",
                "aliases that repeat other aliases multiply; write the values out once",
            )
        return target

    def sequence(self, node: Node, depth: int) -> None:
        get = self.parser.get_event
        items: list[Node] = []
        event = get()
        while event.__class__ is not yaml.SequenceEndEvent:
            item = self.build(event, depth + 1)
            items.append(item)
            node.size += item.size
            event = get()
        node.items = items
        node.data = [item.data for item in items]

    def mapping(self, node: Node, depth: int) -> None:
        get = self.parser.get_event
        entries: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        event = get()
        while event.__class__ is not yaml.MappingEndEvent:
            mark = event.start_mark
            is_merge = event.__class__ is yaml.ScalarEvent and event.value == _MERGE and not event.style
            key = self.build(event, depth + 1)
            value = self.build(get(), depth + 1)
            node.size += key.size + value.size
            event = get()
            if is_merge:
                merged += self.merge_sources(mark, value)
            elif not isinstance(key.data, str):
                found = "an empty key" if key.data is None else "a list or mapping as a key"
                self.problems.append(self.fail(mark, f"{found} is not allowed here", "keys are plain words"))
            elif key.data in entries:
                first = entries[key.data][0]
                self.problems.append(
                    self.fail(
                        mark,
                        f"the key {shorten(key.data)} is written twice",
                        f"it is already on line {first.line}; keep one of them",
                    )
                )
            else:
                entries[key.data] = (key, value)
        for source in merged:
            for name, pair in (source.entries or {}).items():
                entries.setdefault(name, pair)
        node.entries = entries
        node.data = {name: value.data for name, (_, value) in entries.items()}

    def merge_sources(self, mark: Any, value: Node) -> list[Node]:
        sources = [value] if value.items is None else value.items
        if any(source.entries is None for source in sources):
            self.problems.append(
                self.fail(
                    mark, "the merge key << takes a mapping or a list of mappings", "as in `<<: *common`"
                )
            )
            return []
        return sources


def parse_yaml(text: str, file: str, problems: Problems, line_offset: int = 0) -> Node | None:
    """The one document in `text`, or None if it is empty.

    Mistakes that leave the rest readable (a key written twice) go to `problems`; any other raises
    InputError. `line_offset` is added to all line numbers.
    """
    parser = None
    try:
        parser = _Loader(text)
        builder = _Builder(file, line_offset, problems, parser)
        parser.get_event()  # stream start
        if parser.get_event().__class__ is yaml.StreamEndEvent:
            return None
        node = builder.build(parser.get_event(), 0)
        parser.get_event()  # document end
        last = parser.get_event()
        if last.__class__ is not yaml.StreamEndEvent:
            raise builder.fail(last.start_mark, "a second YAML document starts here", "keep one per file")
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file, line_offset) from None
    except yaml.reader.ReaderError as error:
        raise _character_error(error, text, file, line_offset) from None
    except UnicodeEncodeError:
        raise InputError("the text holds half of a surrogate pair", where=Origin(file)) from None
    finally:
        if parser is not None:
            parser.dispose()
    return None if node.data is None else node


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str, line_offset: int) -> InputError:
    problem = error.problem or "cannot be read"
    start, mark = error.context_mark, error.problem_mark or error.context_mark
    hint = "check indentation (spaces, no tabs), quotes and brackets around this place"
    if "nesting depth" in problem:  # of brackets; all other nesting is counted in `build`
        where = Origin(file, mark.line + 1 + line_offset, mark.column + 1) if mark else Origin(file)
        return InputError(f"values are nested more than {_MAX_DEPTH} deep", where=where)
    if mark and "cannot start any token" in problem:
        lines = text.split("\n")
        line = lines[mark.line] if mark.line < len(lines) else ""
        found = line[mark.column : mark.column + 1]
        problem = f"nothing can start with {found!r}"
        hint = "indent with spaces" if found == "\t" else "put the word in quotes"
    elif start and error.context == "while scanning an alias":
        problem, mark = "a * alone", start
        hint = 'a word that starts with * must be in quotes: "*"'
    if error.context:
        problem += f" {error.context}"
    if start and mark and start.line != mark.line:
        problem += f" (begun on line {start.line + 1 + line_offset})"
    where = Origin(file, mark.line + 1 + line_offset, mark.column + 1) if mark else Origin(file)
    return InputError(f"this is not YAML: {problem}", where=where, hint=hint)


def _character_error(error: yaml.reader.ReaderError, text: str, file: str, line_offset: int) -> InputError:
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if not (character.isprintable() or character in "\t\r\x85\u2028\u2029\xa0\ufeff"):
                return InputError(
                    f"the character U+{ord(character):04X} is not allowed in YAML",
                    where=Origin(file, number + line_offset, column),
                    hint="delete it; the file may be binary or damaged",
                )
    return InputError(f"this is not YAML: {error.reason}", where=Origin(file))
