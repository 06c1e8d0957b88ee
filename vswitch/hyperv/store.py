"""What this side remembers of hosts: which entries are ours, plans applied, states before them.

One folder for each host, readable by the user alone. Files are replaced whole, so that a crash leaves
the old or the new one. It is a second copy: hosts keep their own record and backups.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vswitch.errors import EnvironmentError_, InputError, Origin
from vswitch.hyperv.entries import Entry
from vswitch.hyperv.state import entries_of

__all__ = ["Store", "default_folder", "read_plan_file", "write_file"]


def default_folder() -> Path:
    """`$VSWITCH_STATE`, or `vswitch/hyperv` in the user's state folder."""
    named = os.environ.get("VSWITCH_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "vswitch" / "hyperv"


def write_file(path: Path, document: Any) -> None:
    """Put `document` as JSON into a file, whole or not at all. Raises EnvironmentError_."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1, default=str)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise EnvironmentError_(f"{path} cannot be written: {error.strerror or error}") from None


def read_plan_file(path: str) -> dict[str, Any]:
    """A saved plan. Raises InputError for anything else."""
    where = Origin(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror or error}", where=where) from None
    except ValueError:
        raise InputError("this is not a saved plan: no JSON", where=where) from None
    plans = document.get("plans") if isinstance(document, dict) else None
    if not isinstance(document, dict) or document.get("kind") != "vswitch-plan":
        raise InputError(
            "this is not a saved plan", where=where, hint="make one with `vswitch hyperv plan --save FILE`"
        )
    if document.get("schema") != 1 or not isinstance(plans, list):
        raise InputError("the saved plan is of another version", where=where, hint="make a new one")
    return document


class Store:
    """The memory of one host."""

    def __init__(self, host: str, folder: Path | None = None) -> None:
        self.folder = (folder or default_folder()) / quote(host.lower(), safe="")

    def records(self) -> dict[str, frozenset[Entry]]:
        """What is ours, by adapter id; nothing if the file is missing or cannot be read."""
        found: dict[str, set[Entry]] = {}
        for record in self._read("records.json").get("records", ()):
            if isinstance(record, Mapping):
                found.setdefault(str(record.get("adapter")), set()).update(entries_of(record))
        return {adapter: frozenset(entries) for adapter, entries in found.items()}

    def keep_records(self, adapters: Iterable[str], records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records of some adapters."""
        gone = set(adapters)
        kept = [
            record
            for record in self._read("records.json").get("records", ())
            if isinstance(record, Mapping) and record.get("adapter") not in gone
        ]
        write_file(self.folder / "records.json", {"schema": 1, "records": [*kept, *records]})

    def keep_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep a plan with the states before it, for looking at and for a rollback."""
        write_file(self.folder / "plans" / f"{quote(str(plan['planId']), safe='')}.json", plan)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}
