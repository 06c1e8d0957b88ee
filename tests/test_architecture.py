"""The architecture as the documentation has it, held against the code.

`docs/architecture.md` has the table of who may import whom; it is read from there, so that neither can
change without the other. What else keeps rooms clear is counted here: circles, floors, names that occur
twice.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PURE = ("vswitch.acl_entries", "vswitch.compare", "vswitch.model", "vswitch.semantics", "vswitch.pipeline")
EFFECTS = {"asyncio", "mininet", "multiprocessing", "os_ken", "random", "requests", "select", "shutil"}
EFFECTS |= {"signal", "socket", "subprocess", "tempfile", "threading", "time", "urllib", "winrm"}
#: The most floors of imports among the rooms of a package.
FLOORS = {"vswitch.hyperv": 4, "vswitch.lab": 3, "vswitch.model": 6}


def dotted(path: Path) -> str:
    """`vswitch/model/site/__init__.py` as `vswitch.model.site`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def sources(folder: str = "vswitch") -> dict[str, Path]:
    """Modules by dotted name."""
    return {dotted(path): path for path in sorted((ROOT / folder).rglob("*.py"))}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever in the file it stands; a known module by its whole name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in known else str(node.module)


def within(module: str, package: str) -> bool:
    """Whether a module is that package or inside it."""
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> str:
    """What stands directly below `vswitch`: the package or module that this one is or is in."""
    return ".".join(module.split(".")[:2])


def section(heading: str) -> str:
    return PAGE.read_text(encoding="utf-8").split(heading + "\n", 1)[1].split("\n#", 1)[0]


@cache
def table() -> dict[str, frozenset[str] | None]:
    """Who may import whom, from the page: room to rooms, None for everything."""
    found: dict[str, frozenset[str] | None] = {}
    for names, allowed in re.findall(
        r"^\| (`[^|]*?) \| (.*?) \|$", section("### Who may import whom"), flags=re.MULTILINE
    ):
        which = (
            None
            if allowed == "everything"
            else frozenset(f"vswitch.{name}" for name in re.findall(r"`(\w+)`", allowed))
        )
        found |= {f"vswitch.{name}": which for name in re.findall(r"`(\w+)`", names)}
    return found


ROOMS = {room_of(module) for module in sources() if module != "vswitch"}


def test_the_page_describes_every_room() -> None:
    described = re.findall(r"^\| `vswitch/(\w+)(?:\.py)?` ", section("## The parts"), flags=re.MULTILINE)
    assert sorted(f"vswitch.{name}" for name in described) == sorted(ROOMS)
    assert set(table()) == ROOMS


def test_rooms_import_only_what_the_page_allows() -> None:
    wrong = []
    for module, path in sources().items():
        allowed = table().get(room_of(module))
        if allowed is None:
            continue
        for line, target in imports(path, sources()):
            own = room_of(target) in {room_of(module), *allowed} or target == "vswitch"
            if within(target, "vswitch") and not own:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {room_of(module)} may not import {target}")
    assert not wrong, "\n".join(wrong)


def test_the_page_allows_nothing_that_nobody_uses() -> None:
    used: dict[str, set[str]] = defaultdict(set)
    for module, path in sources().items():
        used[room_of(module)] |= {room_of(target) for _, target in imports(path, sources())}
    spare = {
        room: sorted(allowed - used[room])
        for room, allowed in table().items()
        if allowed and allowed - used[room]
    }
    assert spare == {}


def test_pure_rooms_import_nothing_with_effects_and_open_nothing() -> None:
    wrong = []
    for module, path in sources().items():
        if not any(within(module, room) for room in PURE):
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{line}: imports {target}"
            for line, target in imports(path, sources())
            if target.split(".")[0] in EFFECTS
        ]
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno}: opens a file"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
        ]
    assert not wrong, "\n".join(wrong)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of more than one that all lead to each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(arrows.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


@pytest.mark.parametrize("folder", ["vswitch", "tests/support"])
def test_no_modules_import_each_other_in_a_circle(folder: str) -> None:
    known = sources(folder)
    assert (
        circles({m: {t for _, t in imports(p, known) if t in known and t != m} for m, p in known.items()})
        == []
    )


def test_no_test_module_is_imported() -> None:
    """What tests share is in tests/support, or a fixture, which a test asks for by its name."""
    known = sources("tests")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {target}"
        for path in known.values()
        for line, target in imports(path, known)
        if within(target, "tests") and not within(target, "tests.support")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("package", "most"), FLOORS.items())
def test_the_rooms_of_a_package_stand_on_few_floors(package: str, most: int) -> None:
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, path in sources().items():
        if module.startswith(package + "."):
            inside = (target for _, target in imports(path, sources()) if target.startswith(package + "."))
            arrows[module.split(".")[2]] |= {target.split(".")[2] for target in inside}
    arrows = {room: targets - {room} for room, targets in arrows.items()}
    assert circles(arrows) == []

    @cache
    def floor(room: str) -> int:
        return 1 + max(map(floor, arrows.get(room, ())), default=0)

    heights = {room: floor(room) for room in arrows}
    assert max(heights.values()) <= most, heights


@pytest.mark.parametrize("folder", ["vswitch", "tests/support"])
def test_names_occur_once(folder: str) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources(folder).values():
        if path.name not in {"__init__.py", "__main__.py"}:
            places[path.name].append(str(path.relative_to(ROOT)))
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: several for name, several in places.items() if len(several) > 1} == {}
