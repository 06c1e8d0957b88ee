"""Reading the files of a site once, for this process and for the lab it is handed to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vswitch.errors import InputError, InputErrors, Origin
from vswitch.model.files.file_kinds import KEYS, top_keys
from vswitch.textfiles import read_text

if TYPE_CHECKING:
    from vswitch.model.resolving.sources import Sources
    from vswitch.model.site import Site

__all__ = ["load", "looks_like_layout", "looks_like_policy"]


def looks_like_policy(path: str) -> bool:
    """Whether a file has the keys of a policy at its top level and none of a layout.

    Raises InputError for a file that cannot be read.
    """
    return _has_keys_of(path, "a policy", "a layout")


def looks_like_layout(path: str) -> bool:
    """Whether a file has the keys of a layout at its top level and none of a policy.

    Raises InputError for a file that cannot be read.
    """
    return _has_keys_of(path, "a layout", "a policy")


def _has_keys_of(path: str, what: str, other: str) -> bool:
    keys = top_keys(read_text(path))
    return bool(keys.intersection(KEYS[what])) and not keys.intersection(KEYS[other])


def load(layout: str, policies: Sequence[str] | None = None) -> tuple[Site, Sources]:
    """A site and its files. Raises InputErrors."""
    if looks_like_policy(layout):
        hint = "Name the layout; its policies come with it, or with --policy."
        raise InputErrors([InputError("this is a policy, not a layout", where=Origin(layout), hint=hint)])
    from vswitch.model.resolving.sources import Sources

    return Sources.read(layout, policies, read=read_text)
