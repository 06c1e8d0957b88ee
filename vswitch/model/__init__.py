"""The site as frozen data, and the loader for the files users write."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vswitch.model.files.schema import json_schema
    from vswitch.model.resolving.loader import load_site
    from vswitch.model.traffic import parse_traffic

__all__ = ["json_schema", "load_site", "parse_traffic"]

# The loader needs pydantic, which takes longer to import than the rest of the model: programs that
# are handed a site (the lab, the controller) start without it.
_HOMES = {"load_site": "resolving.loader", "json_schema": "files.schema", "parse_traffic": "traffic"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"vswitch.model.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
