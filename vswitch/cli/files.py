"""Reading the files of a site once, for this process and for the lab it is handed to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vswitch.errors import InputError, Origin
from vswitch.model import load_site
from vswitch.model.site import Site

__all__ = ["load", "read_text"]


def read_text(path: str) -> str:
    """The text of a UTF-8 file. Raises InputError naming the file."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "Save the file as UTF-8."
        raise InputError(f"this is not UTF-8 text: {error.reason}", where=Origin(path), hint=hint) from None
    except OSError as error:
        text = f"the file cannot be read: {(error.strerror or str(error)).lower()}"
        raise InputError(text, where=Origin(path)) from None


def load(layout: str, policies: Sequence[str] | None = None) -> tuple[Site, dict[str, str]]:
    """A site and the texts of all its files by path. Raises InputErrors."""
    texts: dict[str, str] = {}

    def read(path: str) -> str:
        if path not in texts:
            texts[path] = read_text(path)
        return texts[path]

    return load_site(layout, policies, read=read), texts
