"""How far the code says what it takes and gives: `Any` and `object` say nothing.

Public names of a package are its functions, methods, fields and aliases without an underscore, in
modules and classes without one. Wherever foreign data comes in, its type is `Json`, and it is read in
one place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Packages in which nothing public is untyped, and how many lines may say `Any` at all.
MOST_ANY = {"vswitch/hyperv": 15}
#: What has no type by its nature, or whose type is not ours.
EXEMPT = {"from_dict", "to_dict", "__eq__", "__exit__"}
UNTYPED = {"Any", "object"}


def public(body: list[ast.stmt], hidden: str = "_") -> Iterator[tuple[str, int, list[ast.expr]]]:
    """(name, line, annotations) of what is public in a module or class: what begins as `hidden` is not."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name not in EXEMPT and not re.match(hidden, node.name):
                given = node.args
                arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
                found = [each.annotation for each in arguments if each is not None]
                yield node.name, node.lineno, [each for each in [*found, node.returns] if each is not None]
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node.lineno, node.bases
            for name, line, annotations in public(node.body, r"_(?!_)"):
                yield f"{node.name}.{name}", line, annotations
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                said = [node.annotation] if isinstance(node, ast.AnnAssign) else []
                yield target.id, node.lineno, said + ([node.value] if node.value is not None else [])


def says_nothing(annotation: ast.expr) -> bool:
    """Whether `Any` or `object` is in it, also inside a container or in quotes."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id in UNTYPED:
            return True
        if isinstance(node, ast.Attribute) and node.attr == "Any":
            return True
        quoted = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if "[" in quoted and UNTYPED & set(re.findall(r"\w+", quoted)):
            return True
    return False


def untyped_in(text: str) -> list[str]:
    """The public names of a module's text that say nothing, with their lines."""
    return [
        f"{line}: {name}"
        for name, line, annotations in public(ast.parse(text).body)
        if any(map(says_nothing, annotations))
    ]


@pytest.mark.parametrize("package", MOST_ANY)
def test_no_public_signature_is_untyped(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): untyped
        for path in sorted((ROOT / package).rglob("*.py"))
        if (untyped := untyped_in(path.read_text(encoding="utf-8")))
    }
    assert found == {}


FOUND = """
Alias = dict[str, Any]
def one(a: list[object]) -> int: ...
def two() -> "dict[str, Any]": ...
class Three:
    field: Mapping[str, typing.Any]
    def four(self, *more: Any) -> None: ...
    def __init__(self, five: object) -> None: ...
"""
LEFT = """
def _one(a: Any) -> object: ...
class _Two:
    field: Any
class Three:
    _field: Any
    def from_dict(self, told: Any) -> None: ...
    def __eq__(self, other: object) -> bool: ...
    def four(self, any: int) -> str: ...
def __getattr__(name: str) -> object: ...
"""


def test_what_is_untyped_is_found() -> None:
    assert [each.partition(" ")[2] for each in untyped_in(FOUND)] == [
        *("Alias", "one", "two", "Three.field", "Three.four", "Three.__init__")
    ]
    assert untyped_in(LEFT) == []


@pytest.mark.parametrize(("package", "most"), MOST_ANY.items())
def test_few_lines_say_any(package: str, most: int) -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"\bAny\b", line) and "import" not in line
    ]
    assert len(lines) <= most, lines
