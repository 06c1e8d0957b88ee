"""JSON documents in files: written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from vswitch.errors import EnvironmentError_
from vswitch.json_values import Json

__all__ = ["write_file"]


def write_file(path: Path, document: Json) -> None:
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
