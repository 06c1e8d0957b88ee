"""JSON documents in files: read with an end to size and time, written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from vswitch.errors import EnvironmentError_, InputError, Origin

__all__ = ["LARGEST", "read_document", "write_file"]

#: Bytes of a JSON document that is read.
LARGEST = 64 << 20


def read_document(path: str | Path, *, hint: str = "") -> Any:
    """The JSON in a regular file of at most 64 MiB, UTF-8 with or without byte order mark.

    Waits for nothing, whatever the file is. Raises InputError at the file, with `hint`.
    """
    where = Origin(str(path))
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to takes for ever.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InputError("this is not a regular file", where=where, hint=hint)
            data = file.read(LARGEST + 1) if found.st_size <= LARGEST else b""
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"the file cannot be read: {why}", where=where, hint=hint) from None
    if max(found.st_size, len(data)) > LARGEST:
        raise InputError(f"the file is larger than {LARGEST >> 20} MiB", where=where, hint=hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("this is not UTF-8 text", where=where, hint=hint) from None
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError("this is not JSON: it is nested too deeply", where=where, hint=hint) from None
    except ValueError as error:
        at = Origin(str(path), getattr(error, "lineno", 0), getattr(error, "colno", 0))
        raise InputError("this is not JSON", where=at, hint=hint) from None


def write_file(path: Path, document: Any) -> None:
    """Put `document` as JSON into a file, whole or not at all. Raises EnvironmentError_."""
    try:
        if path.exists() and not path.is_file():
            raise EnvironmentError_(f"{path} cannot be written: it is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
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
