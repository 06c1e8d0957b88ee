"""What this side remembers of hosts: which entries are ours, plans applied, states before them.

Readable by the user alone: folders are 0700 and files 0600, and those found with wider rights are
narrowed. Files are replaced whole, so that a crash leaves the old or the new one. It is a second copy:
hosts keep their own record and backups. What is ours stands in one file for each adapter, by its id and
by the name that the computer itself goes by: it is found under whatever name the host is called, and two
processes that work on different adapters do not undo each other's writing. No name and no link leads out
of the store, and an entry that cannot be read is named and stands in the way of no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vswitch.acl_entries import Entry
from vswitch.errors import EnvironmentError_, InputError
from vswitch.hyperv.applying.json_files import write_file
from vswitch.hyperv.host.name_checks import computer_fault, file_part
from vswitch.hyperv.host.plan_document import PlanDocument
from vswitch.hyperv.host.records import OwnershipFile, OwnershipRecord, owned_by_adapter
from vswitch.model.problems import shorten
from vswitch.textfiles import read_json

__all__ = ["Memory", "Store", "default_folder"]

_KINDS = frozenset({"hosts", "owned"})
_OTHERS_RIGHTS = 0o077
_OTHERS_MAY_WRITE = 0o022


def default_folder() -> Path:
    """`$VSWITCH_STATE`, or `vswitch/hyperv` in the user's state folder. Raises InputError for `..` in it."""
    named = os.environ.get("VSWITCH_STATE")
    home = os.environ.get("XDG_STATE_HOME")
    base = Path(named or home or os.path.join(os.path.expanduser("~"), ".local", "state"))
    if ".." in base.parts or "\0" in str(base):
        raise InputError(
            f"{'VSWITCH_STATE' if named else 'XDG_STATE_HOME'} is {shorten(str(base))}: a path with `..` may"
            " lead anywhere",
            hint="write the folder's path without `..`",
        )
    return base if named else base / "vswitch" / "hyperv"


@dataclass(frozen=True)
class Memory:
    """What is ours by adapter id, and a sentence about each part of the store that cannot be read."""

    records: Mapping[str, frozenset[Entry]]
    problems: tuple[str, ...] = ()


class Store:
    """The memory of one host, called `host`. Raises InputError for a name nothing can be kept under."""

    def __init__(self, host: str, folder: Path | None = None) -> None:
        self.base = folder or default_folder()
        part = file_part(host.lower())
        if part is None or not host.isprintable():
            raise InputError(
                f"a host cannot be called {shorten(host)}: nothing can be kept under that name",
                hint="name it as the DNS or the inventory does",
            )
        self.folder = self.base / "hosts" / part
        self.owned = self.base / "owned"

    def recall(self, computer: str | None = None, adapters: Iterable[str] = ()) -> Memory:
        """What is ours, of some adapters of a computer, or of all there are.

        A file that cannot be read says nothing, and is named.
        """
        found: list[OwnershipRecord] = []
        problems: list[str] = []
        for path in self._paths(computer, adapters) if computer is not None else self._all(problems):
            try:
                found += self._records_in(path)
            except (EnvironmentError_, InputError) as error:
                problems.append(f"this side's record {path} is left out: {error.message}")
        return Memory(owned_by_adapter(found), tuple(dict.fromkeys(problems)))

    def records(
        self, computer: str | None = None, adapters: Iterable[str] = ()
    ) -> dict[str, frozenset[Entry]]:
        """The same without what there is to say about it."""
        return dict(self.recall(computer, adapters).records)

    def keep_records(
        self, computer: str, adapters: Iterable[str], records: Iterable[OwnershipRecord]
    ) -> None:
        """Replace the records of some adapters of a computer. Raises EnvironmentError_, InputError."""
        of_adapter: dict[str, list[OwnershipRecord]] = {adapter: [] for adapter in adapters}
        for record in records:
            of_adapter.setdefault(record.adapter, []).append(record)
        paths = self._paths(computer, of_adapter)
        if paths:
            self._make_private(paths[0].parent)
        for path, kept in zip(paths, of_adapter.values(), strict=True):
            write_file(path, OwnershipFile(tuple(kept)).to_dict())

    def keep_plan(self, plan: PlanDocument) -> None:
        """Keep a plan with the states before it, for looking at. Raises EnvironmentError_, InputError."""
        path = self.folder / "plans" / f"{_part(plan.plan_id, 'a plan')}.json"
        self._make_private(path.parent)
        write_file(path, plan.to_dict())

    def _paths(self, computer: str, adapters: Iterable[str]) -> list[Path]:
        if fault := computer_fault(computer):
            raise InputError(f"a computer cannot be called {shorten(computer)}: {fault}")
        folder = self.owned / _part(computer.lower(), "a computer")
        return [folder / f"{_part(adapter, 'an adapter')}.json" for adapter in adapters]

    def _all(self, problems: list[str]) -> list[Path]:
        try:
            return sorted(self.owned.glob("*/*.json"))
        except OSError as error:
            problems.append(f"{self.owned} cannot be read: {error.strerror or error}")
            return []

    def _records_in(self, path: Path) -> list[OwnershipRecord]:
        """The records of one file that are of its adapter; none where there is no file."""
        if not os.path.lexists(path):
            return []
        self._make_private(path.parent)
        self._keep_inside(path)
        document = read_json(path, "a record")
        try:
            found = OwnershipFile.from_dict(document).records
        except ValueError as error:
            raise InputError(str(error)) from None
        return [record for record in found if file_part(record.adapter) == path.stem]

    # --- who may read it, and where it is

    def _keep_inside(self, path: Path) -> None:
        """Raise EnvironmentError_ if links lead from `path` out of the store."""
        try:
            inside = path.resolve().is_relative_to(self.base.resolve())
        except (OSError, RuntimeError) as error:
            raise EnvironmentError_(f"{path} cannot be followed: {error}") from None
        if not inside:
            raise EnvironmentError_(
                f"{path} is a link out of the folder {self.base}",
                hint="remove the link, or set VSWITCH_STATE",
            )

    def _make_private(self, folder: Path) -> None:
        """Have a folder of the store be there, and it and those around it be the user's alone.

        Raises EnvironmentError_.
        """
        above = [each for each in self.base.parents if not each.exists()]
        inside = [each for each in folder.parents if each.is_relative_to(self.base) and each != self.base]
        try:
            for each in reversed(above):
                each.mkdir(mode=0o700, exist_ok=True)
            for each in (self.base, *reversed(inside), folder):
                if not os.path.lexists(each):
                    each.mkdir(mode=0o700, exist_ok=True)
                self._keep_inside(each)
                _narrow(each, ours=each != self.base or set(os.listdir(each)) <= _KINDS)
            for entry in os.scandir(folder):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_mode & _OTHERS_RIGHTS:
                    os.chmod(entry.path, 0o600)
        except OSError as error:
            raise EnvironmentError_(
                f"{error.filename or folder} cannot be used: {error.strerror or error}"
            ) from None


def _part(name: str, what: str) -> str:
    part = file_part(name)
    if part is None:
        raise InputError(f"{what} cannot be called {shorten(name)}")
    return part


def _narrow(folder: Path, *, ours: bool) -> None:
    """Take the rights of others away from a folder that is `ours`; of another, see that none may write it."""
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise EnvironmentError_(f"{folder} cannot be used: it is not a folder")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise EnvironmentError_(
            f"{folder} belongs to another user, who could change what is kept there",
            hint="set VSWITCH_STATE to a folder of your own",
        )
    if ours and found.st_mode & _OTHERS_RIGHTS:
        folder.chmod(0o700)
    elif found.st_mode & _OTHERS_MAY_WRITE and not found.st_mode & stat.S_ISVTX:
        raise EnvironmentError_(
            f"others may write to {folder}, and so change what is kept there",
            hint=f"chmod go-w {folder}, or set VSWITCH_STATE to another folder",
        )
