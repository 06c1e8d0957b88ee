"""What can be asked has types: no `Any`, no `object` in a public signature, not inside containers either."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vswitch/diagnose", "vswitch/lab", "vswitch/semantics", "vswitch/controller/transaction.py")
#: These read and write plain data, or are what Python prescribes.
PLAIN = {"from_dict", "to_dict", "__eq__", "__exit__"}
VAGUE = {"Any", "object"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def annotations_of(function: Function) -> Iterator[ast.expr]:
    """The types of a function's arguments and of its result."""
    arguments = function.args
    for each in (
        *arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg
    ):  # fmt: skip
        if each is not None and each.annotation is not None:
            yield each.annotation
    if function.returns is not None:
        yield function.returns


def is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def public_annotations(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.expr]]:
    """(name, type) of all that is public: functions, methods, fields, variables, aliases."""
    for node in body:
        if isinstance(node, Function) and is_public(node.name) and node.name not in PLAIN:
            yield from ((f"{prefix}{node.name}", each) for each in annotations_of(node))
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from ((f"{prefix}{node.name}'s base", each) for each in node.bases)
            yield from public_annotations(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if is_public(node.target.id):
                yield f"{prefix}{node.target.id}", node.annotation
                if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias" and node.value:
                    yield f"{prefix}{node.target.id}", node.value
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if any(map(is_public, names)) and not prefix:
                yield ", ".join(names), node.value


def vague(annotation: ast.expr) -> bool:
    """Whether a type says `Any` or `object`, at whatever depth, in quotes too."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id in VAGUE:
            return True
        if isinstance(node, ast.Attribute) and node.attr in VAGUE:
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                continue
            if vague(inner):
                return True
    return False


def vague_in(source: str) -> list[str]:
    """The public names of a module whose types are vague."""
    found = public_annotations(ast.parse(source).body)
    return [f"{name}: {ast.unparse(each)}" for name, each in found if vague(each)]


def modules(package: str) -> list[Path]:
    place = ROOT / package
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_signature_is_vague(package: str) -> None:
    files = modules(package)
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}: {each}"
        for path in files
        for each in vague_in(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(x: Any) -> None: ...", ["f: Any"]),
        ("def f() -> list[dict[str, Any]]: ...", ["f: list[dict[str, Any]]"]),
        ("def f(*rest: object, **more: typing.Any) -> int: ...", ["f: object", "f: typing.Any"]),
        ("class A:\n    x: 'Sequence[Any]'\n    def g(self, *, y: object) -> int: ...", None),
        ("class A(Generic[Any]): ...", ["A's base: Generic[Any]"]),
        ("Handler = Callable[..., Any]", ["Handler: Callable[..., Any]"]),
        ("Data: TypeAlias = 'dict[str, Any]'", ["Data: 'dict[str, Any]'"]),
        ("def _f(x: Any) -> Any: ...", []),
        ("class A:\n    def from_dict(cls, data: Any) -> A: ...\n    def to_dict(self) -> Any: ...", []),
        ("class A:\n    def __eq__(self, other: object) -> bool: ...", []),
        ("def f(x: Anything) -> Literal['Any']: ...", ["f: Literal['Any']"]),  # the one false alarm
    ],
)  # fmt: skip
def test_what_is_vague_is_found(source: str, found: list[str] | None) -> None:
    expected = ["A.x: 'Sequence[Any]'", "A.g: object"] if found is None else found
    assert vague_in(source) == expected
