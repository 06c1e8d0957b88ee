"""Values of an export as one type each, whatever PowerShell and its versions made of them (§5.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vswitch.acl_entries import enum_value
from vswitch.json_values import Json

__all__ = ["flag_of", "id_of", "list_of", "mapping_of", "maps_of", "number_of", "on_of", "text_of"]


def list_of(value: Json) -> list[Json]:
    """A list, whatever PowerShell made of it."""
    if value is None or value == "":
        return []
    if isinstance(value, Mapping) and "value" in value and set(value) <= {"value", "Count"}:
        return list_of(value["value"])
    return list(value) if isinstance(value, list | tuple) else [value]


def maps_of(value: Json) -> list[Mapping[str, Json]]:
    """The objects among a list's items."""
    return [
        item for item in (value if isinstance(value, list) else list_of(value)) if isinstance(item, Mapping)
    ]


def mapping_of(value: Json) -> Mapping[str, Json]:
    """An object, empty where there is none."""
    return value if isinstance(value, Mapping) else {}


def text_of(value: Json) -> str:
    """Text as it is, a GUID also where it is an object; "" for nothing."""
    if isinstance(value, Mapping):  # a Guid of Windows PowerShell 5.1
        value = value.get("Guid") or value.get("value")
    text = "" if value is None else str(value)
    # Half a character, which JSON may hold, cannot be printed.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def id_of(value: Json) -> str:
    """An id to compare: lower case, no braces."""
    return text_of(value).strip().strip("{}").lower()


def flag_of(value: Json) -> bool:
    """Whether it is true, in any of the spellings of PowerShell's versions."""
    return value is True or text_of(value).strip().lower() in ("true", "1")


def on_of(value: Json) -> bool:
    """An OnOffState: On is 0 (§5.1). Missing is Off."""
    if value is None or isinstance(value, bool):
        return value is True
    return enum_value(value, ("On", "Off"), "On or Off") == 0


def number_of(value: Json) -> int:
    """A whole number; 0 where there is none."""
    text = text_of(value).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else 0
