"""Rules about the repository itself, so that they hold without anybody remembering them."""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = {"build", "dist", "__pycache__", "node_modules"}
SOFT_LIMIT, HARD_LIMIT = 400, 600


def files(*suffixes: str) -> Iterator[Path]:
    """The repository's own files: no caches, no virtual environments, no hidden folders but .ci."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        ours = not any(
            part in NOT_OURS or part.endswith(".egg-info") or (part.startswith(".") and part != ".ci")
            for part in parts[:-1]
        )
        # In a worktree `.git` is a file with the path of this machine's repository.
        if ours and path.is_file() and path.name != ".git" and (not suffixes or path.suffix in suffixes):
            yield path


def modules() -> list[Path]:
    """Every Python file of the packages."""
    return [path for path in files(".py") if path.relative_to(ROOT).parts[0] == "vswitch"]


def dotted(path: Path) -> str:
    """`vswitch/model/site.py` as `vswitch.model.site`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_modules_stay_small() -> None:
    lengths = {path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in files(".py")}
    long = [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > SOFT_LIMIT]
    if long:
        warnings.warn(f"above the soft limit of {SOFT_LIMIT} lines: {', '.join(long)}", stacklevel=1)
    too_long = [str(path) for path, lines in lengths.items() if lines > HARD_LIMIT]
    assert not too_long, f"above {HARD_LIMIT} lines: {too_long}"


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = listed["tool"]["setuptools"]
    packages = set(setuptools["packages"]) - set(setuptools.get("package-dir", ()))  # those hold data only
    there = {dotted(path) for path in modules() if path.name == "__init__.py"}
    with_code = {dotted(path.parent / "__init__.py") for path in modules()}
    assert packages == there, "pyproject.toml's packages and the folders with __init__.py differ"
    assert with_code == there, "a folder with modules lacks its __init__.py"


# Character classes keep these patterns from finding themselves.
FOREIGN = {
    "a path of one machine": re.compile(r"(?<![\w.}~-])/(work|root|home|Users|opt|mnt|srv|tmp/venv)[/]"),
    "an installation source of one machine": re.compile(
        r"[-]-(extra-)?index-url|[-]-find-links|[-]-trusted-host"
    ),
}


def test_no_file_depends_on_one_machine() -> None:
    wrong = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in FOREIGN.items():
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {what}: {match.group()}")
    assert not wrong, "\n".join(wrong)


def anchors(text: str) -> set[str]:
    """The anchors that a rendered Markdown page offers for its headings."""
    titles = re.findall(r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def test_links_between_documents_resolve() -> None:
    broken = []
    for path in files(".md"):
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            document = (path.parent / name) if name else path
            if not document.exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
                continue
            if anchor and document.suffix == ".md" and anchor not in anchors(document.read_text("utf-8")):
                broken.append(f"{path.relative_to(ROOT)}: {target} (no such heading)")
    assert not broken, "\n".join(broken)


def test_every_layout_and_policy_is_mentioned_in_the_docs() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in files(".md"))
    shipped = [path for path in files(".yaml") if path.is_relative_to(ROOT / "topologies")]
    unmentioned = [path.name for path in shipped if path.name not in text]
    assert not unmentioned, f"no document names {unmentioned}"


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/demo", "scripts/test", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
