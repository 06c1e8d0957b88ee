"""Names that decide where something is kept: computers and plans, checked before they are used.

A computer says itself what it is called, and a plan's name may come from a file. Neither may lead out of
a folder, name a device, or hold what a terminal or shell would obey.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from vswitch.json_values import Json

__all__ = ["computer_fault", "file_part", "plan_fault"]

# What Windows lets a computer be called, NetBIOS's signs included; no separators, no wildcards, no blanks.
_COMPUTER = re.compile(r"[\w!@#$%^&'(){}~-]+(?:\.[\w!@#$%^&'(){}~-]+)*")
_LONGEST_COMPUTER = 63
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
# As the module has it: letters, digits and hyphens.
_PLAN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_LONGEST_PART = 240  # bytes; file systems take 255, and a name gets an ending


def computer_fault(name: Json) -> str:
    """Why `name` is not what a computer can be called; "" if it is."""
    if not isinstance(name, str) or not name:
        return "it is empty"
    if len(name) > _LONGEST_COMPUTER:
        return f"it has {len(name)} characters, more than {_LONGEST_COMPUTER}"
    if fault := _meant_otherwise(name.partition(".")[0]):
        return fault
    if not _COMPUTER.fullmatch(name) or file_part(name) is None:
        return "it holds characters that no computer's name has"
    return ""


def plan_fault(name: Json) -> str:
    """Why `name` is not what a plan can be called; "" if it is."""
    if not isinstance(name, str) or not _PLAN.fullmatch(name):
        return "a plan's name has 1 to 64 letters, digits and hyphens"
    return _meant_otherwise(name)


def _meant_otherwise(name: str) -> str:
    """What else than a computer or a plan `name` means; "" if nothing."""
    if name.lower() == "null":
        return "it is what programs write in the place of a name that is missing"
    return "Windows keeps that name for a device" if name.lower() in _DEVICES else ""


def file_part(name: str) -> str | None:
    """One part of a path that says `name`, whatever is in it; None where there can be none."""
    part = quote(name, safe="", errors="replace")
    return None if part in ("", ".", "..") or len(part) > _LONGEST_PART else part
