"""Reading the files of a site once, for this process and for the lab it is handed to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vswitch.errors import InputError, InputErrors, Origin

if TYPE_CHECKING:
    from vswitch.model.site import Site

__all__ = ["load", "looks_like_layout", "looks_like_policy", "read_text"]

_POLICY_KEYS = frozenset({"acls", "extended_acls", "groups"})
_LAYOUT_KEYS = frozenset({"hosts", "networks", "name"})


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


def looks_like_policy(path: str) -> bool:
    """Whether a file has the keys of a policy at its top level and none of a layout.

    Raises InputError for a file that cannot be read.
    """
    keys = _top_keys(path)
    return bool(keys & _POLICY_KEYS) and not keys & _LAYOUT_KEYS


def looks_like_layout(path: str) -> bool:
    """Whether a file has the keys of a layout at its top level and none of a policy.

    Raises InputError for a file that cannot be read.
    """
    keys = _top_keys(path)
    return bool(keys & _LAYOUT_KEYS) and not keys & _POLICY_KEYS


def _top_keys(path: str) -> set[str]:
    return {line.split(":")[0] for line in read_text(path).splitlines() if line[:1].isalpha() and ":" in line}


def load(layout: str, policies: Sequence[str] | None = None) -> tuple[Site, dict[str, str]]:
    """A site and the texts of all its files by path. Raises InputErrors."""
    if looks_like_policy(layout):
        hint = "Name the layout; its policies come with it, or with --policy."
        raise InputErrors([InputError("this is a policy, not a layout", where=Origin(layout), hint=hint)])
    from vswitch.model import load_site

    texts: dict[str, str] = {}

    def read(path: str) -> str:
        if path not in texts:
            texts[path] = read_text(path)
        return texts[path]

    return load_site(layout, policies, read=read), texts
