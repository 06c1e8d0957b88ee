"""What this side remembers of hosts: which entries are ours, plans applied, states before them.

Readable by the user alone. Files are replaced whole, so that a crash leaves the old or the new one. It
is a second copy: hosts keep their own record and backups. What is ours stands in one file for each
adapter, by its id and by the name that the computer itself goes by: it is found under whatever name the
host is called, and two processes that work on different adapters do not undo each other's writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vswitch.errors import EnvironmentError_, InputError, Origin
from vswitch.hyperv.entries import Entry
from vswitch.hyperv.state import entries_of
from vswitch.textfiles import read_json

__all__ = ["Store", "default_folder", "digest_of", "read_plan_file", "saved_plans", "write_file"]


def default_folder() -> Path:
    """`$VSWITCH_STATE`, or `vswitch/hyperv` in the user's state folder."""
    named = os.environ.get("VSWITCH_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "vswitch" / "hyperv"


def write_file(path: Path, document: Any) -> None:
    """Put `document` as JSON into a file, whole or not at all. Raises EnvironmentError_."""
    if path.exists() and not path.is_file():
        raise EnvironmentError_(f"{path} cannot be written: it is no regular file")
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


def digest_of(document: Any) -> str:
    """A digest of plain data, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def saved_plans(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plans as a file keeps them."""
    return {"schema": 1, "kind": "vswitch-plan", "plans": list(plans), "digest": digest_of(plans)}


def read_plan_file(path: str) -> list[dict[str, Any]]:
    """The plans of a file, as `saved_plans` was given them. Raises InputError for anything else."""
    where = Origin(path)
    document = read_json(path, "a saved plan")
    if not isinstance(document, dict) or document.get("kind") != "vswitch-plan":
        raise InputError(
            "this is not a saved plan", where=where, hint="make one with `vswitch hyperv plan --save FILE`"
        )
    if document.get("schema") != 1:
        raise InputError("the saved plan is of another version", where=where, hint="make a new one")
    plans: list[dict[str, Any]] = document.get("plans") or []
    if document.get("digest") != digest_of(plans) or not _are_plans(plans):
        raise InputError(
            "the saved plan was changed after it was made, or is damaged",
            where=where,
            hint="what was reviewed is what is applied: change the policy, and make a new plan",
        )
    return plans


def _are_plans(plans: Any) -> bool:
    wanted = {"name": str, "plan": dict, "review": dict}
    return isinstance(plans, list) and all(
        isinstance(plan, dict) and all(isinstance(plan.get(name), kind) for name, kind in wanted.items())
        for plan in plans
    )


class Store:
    """The memory of one host."""

    def __init__(self, host: str, folder: Path | None = None) -> None:
        base = folder or default_folder()
        self.folder = base / "hosts" / quote(host.lower(), safe="", errors="replace")
        self.owned = base / "owned"

    def records(
        self, computer: str | None = None, adapters: Iterable[str] = ()
    ) -> dict[str, frozenset[Entry]]:
        """What is ours by adapter id, of some adapters of a computer, or of all there are.

        A file that cannot be read says nothing.
        """
        paths = self.owned.glob("*/*.json") if computer is None else self._paths(computer, adapters)
        found: dict[str, set[Entry]] = {}
        for path in paths:
            records = _read(path).get("records")
            for record in records if isinstance(records, list) else ():
                if isinstance(record, Mapping) and _file_name(str(record.get("adapter"))) == path.name:
                    found.setdefault(str(record["adapter"]), set()).update(entries_of(record))
        return {adapter: frozenset(entries) for adapter, entries in found.items()}

    def keep_records(
        self, computer: str, adapters: Iterable[str], records: Iterable[Mapping[str, Any]]
    ) -> None:
        """Replace the records of some adapters of a computer."""
        of_adapter: dict[str, list[Mapping[str, Any]]] = {adapter: [] for adapter in adapters}
        for record in records:
            of_adapter.setdefault(str(record["adapter"]), []).append(record)
        for path, kept in zip(self._paths(computer, of_adapter), of_adapter.values(), strict=True):
            write_file(path, {"schema": 1, "records": kept})

    def keep_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep a plan with the states before it, for looking at."""
        write_file(self.folder / "plans" / f"{quote(str(plan['planId']), safe='')}.json", plan)

    def _paths(self, computer: str, adapters: Iterable[str]) -> list[Path]:
        folder = self.owned / quote(computer.lower(), safe="", errors="replace")
        return [folder / _file_name(adapter) for adapter in adapters]


def _file_name(adapter: str) -> str:
    return f"{quote(adapter, safe='', errors='replace')}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path, "what this program keeps")
    except InputError:
        return {}
    return document if isinstance(document, dict) else {}
