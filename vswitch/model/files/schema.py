"""JSON Schema of the two files, made from the models that read them.

`python -m vswitch.model.files.schema` writes them to the folder `vswitch/model/schema`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vswitch.model.files.layout_file import LayoutFile
from vswitch.model.files.policy_file import PolicyFile

__all__ = ["json_schema", "schema_text"]

_FILES: dict[str, type[BaseModel]] = {"layout": LayoutFile, "policy": PolicyFile}


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file, `kind` being `layout` or `policy`.

    It accepts what the loader accepts, as a YAML editor reads it, and refuses unknown keys. Raises
    ValueError for another kind.
    """
    if kind not in _FILES:
        raise ValueError(f"{kind!r} is neither layout nor policy")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_FILES[kind].model_json_schema(by_alias=True, mode="validation"),
    }


def schema_text(kind: str) -> str:
    """The text of the published schema file."""
    return json.dumps(json_schema(kind), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1] / "schema"
    folder.mkdir(exist_ok=True)
    for each in _FILES:
        (folder / f"{each}.schema.json").write_text(schema_text(each), encoding="utf-8")
