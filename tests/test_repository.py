"""Rules about the repository itself, so that they hold without anybody remembering them."""

from __future__ import annotations

import re
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

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


#: One file by its nature: the module travels to a host as one text.
ONE_TEXT = {Path("powershell/Vswitch/Vswitch.psm1")}


def test_modules_stay_small() -> None:
    """Also those in PowerShell and in the shell, and the scenarios, which are code as well."""
    code = [*files(".py", ".ps1", ".psm1", ".sh"), *(ROOT / "tests" / "scenarios").rglob("*.yaml")]
    code += [path for path in files("") if path.parent.name == "scripts"]
    lengths = {path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in code}
    lengths = {path: lines for path, lines in lengths.items() if path not in ONE_TEXT}
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


def test_the_page_of_layouts_has_a_row_for_each_and_for_nothing_else() -> None:
    """With the policies it names; a layout whose name ends like another's is not mistaken for it."""
    text = (ROOT / "docs" / "reference" / "layouts.md").read_text(encoding="utf-8")
    shipped = {
        path.name: tuple(yaml.safe_load(path.read_text(encoding="utf-8"))["policies"])
        for path in (ROOT / "topologies").glob("*.yaml")
        if "hosts:" in path.read_text(encoding="utf-8")
    }
    rows = re.findall(r"^\| \[([\w-]+\.yaml)\]\(#[\w-]+\) \| ([^|]+) \|", text, flags=re.M)
    assert {name: tuple(policies.split(", ")) for name, policies in rows} == shipped
    named = {policy for policies in shipped.values() for policy in policies}
    assert {path.name for path in (ROOT / "topologies").glob("*.yaml")} == {*shipped, *named}


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/demo", "scripts/test", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    checked = subprocess.run(["bash", "-n", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first == "#!/usr/bin/env bash"
    commands = [line for line in rest if line.strip() and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail", "it goes on after a command that failed"
