"""What the switches are to hold: the layout and policies in force, kept in the lab's own memory.

The texts live in one file of the lab's private memory file system, so that a controller that comes
back after a crash knows what was in force.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vswitch.errors import InputError, Origin
from vswitch.model import load_site
from vswitch.model.site import Site

__all__ = ["Sources"]


@dataclass(frozen=True)
class Sources:
    """The files of a site with their texts.

    `policies` are the policy files in force, or None for those the layout names.
    """

    layout: str
    texts: Mapping[str, str]
    policies: tuple[str, ...] | None

    @classmethod
    def load(cls, path: Path) -> Sources:
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        policies = data["policies"]
        return cls(data["layout"], data["texts"], None if policies is None else tuple(policies))

    def save(self, path: Path) -> None:
        """Write to `path`, whole or not at all."""
        fresh = path.with_suffix(".new")
        policies = None if self.policies is None else list(self.policies)
        data = {"layout": self.layout, "texts": dict(self.texts), "policies": policies}
        fresh.write_text(json.dumps(data), encoding="utf-8")
        os.replace(fresh, path)

    def with_policies(self, policies: Sequence[str], texts: Mapping[str, str]) -> Sources:
        """The same layout with other policies, and their texts with it; those of old policies go."""
        known = {**self.texts, **texts}
        wanted = {path: known[path] for path in (self.layout, *policies) if path in known}
        return Sources(self.layout, wanted, tuple(policies))

    def site(self) -> Site:
        """The site these files describe. Raises InputErrors."""
        return load_site(self.layout, self.policies, read=self._reader())

    def _reader(self) -> Callable[[str], str]:
        def read(path: str) -> str:
            try:
                return self.texts[path]
            except KeyError:
                raise InputError("this file was not handed to the lab", where=Origin(path)) from None

        return read
