"""The layouts that ship with this program: where they are, and what they are called."""

from __future__ import annotations

from pathlib import Path

from vswitch.errors import EnvironmentError_
from vswitch.model.files.file_kinds import KEYS, top_keys

__all__ = ["shipped_folder", "shipped_layouts"]


def shipped_folder() -> Path:
    """Where the shipped layouts and their policies are: in the checkout or in the installed package.

    Raises EnvironmentError_ if neither has them.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "topologies", package / "layouts"):
        if folder.is_dir():
            return folder
    raise EnvironmentError_("the shipped layouts are not installed", hint="reinstall vswitch")


def shipped_layouts() -> dict[str, list[str]]:
    """The names of the shipped layouts, each with the files of its policies."""
    import yaml

    found: dict[str, list[str]] = {}
    for path in sorted(shipped_folder().glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if top_keys(text).intersection(KEYS["a layout"]):
            found[path.stem] = yaml.safe_load(text).get("policies", [])
    return found
