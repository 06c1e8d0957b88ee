"""The files of a site with their texts: what a lab is handed, what is in force, what an apply brings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vswitch.errors import InputError, Origin

if TYPE_CHECKING:
    from vswitch.model.resolving.memo import Memo
    from vswitch.model.site import Site

__all__ = ["Sources"]


@dataclass(frozen=True)
class Sources:
    """A layout's path, the texts of all files by path, and the policy files in force.

    `policies` is None for those that the layout names.
    """

    layout: str
    texts: Mapping[str, str]
    policies: tuple[str, ...] | None

    @classmethod
    def read(
        cls, layout: str, policies: Sequence[str] | None = None, *, read: Callable[[str], str]
    ) -> tuple[Site, Sources]:
        """The site of these files, and the files themselves, each read once.

        `policies` are policy files in the place of those the layout names; `read` is as for `load_site`.
        Raises InputErrors as that does.
        """
        from vswitch.model.resolving.loader import load_site

        texts: dict[str, str] = {}

        def remember(path: str) -> str:
            if path not in texts:
                texts[path] = read(path)
            return texts[path]

        site = load_site(layout, policies, read=remember)
        return site, cls(layout, texts, site.files[1:])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sources:
        """From what `to_dict` gives."""
        policies = data["policies"]
        return cls(data["layout"], data["texts"], None if policies is None else tuple(policies))

    def to_dict(self) -> dict[str, Any]:
        """As plain data: `layout`, `texts` by path, `policies`."""
        policies = None if self.policies is None else list(self.policies)
        return {"layout": self.layout, "texts": dict(self.texts), "policies": policies}

    def with_policies(self, policies: Sequence[str], texts: Mapping[str, str]) -> Sources:
        """The same layout with other policies, and their texts with it; those of old policies go."""
        known = {**self.texts, **texts}
        wanted = {path: known[path] for path in (self.layout, *policies) if path in known}
        return Sources(self.layout, wanted, tuple(policies))

    def site(self, memo: Memo | None = None) -> Site:
        """The site these files describe; `memo` as for `load_site`. Raises InputErrors."""
        from vswitch.model.resolving.loader import load_site

        return load_site(self.layout, self.policies, read=self._text, memo=memo)

    def _text(self, path: str) -> str:
        try:
            return self.texts[path]
        except KeyError:
            raise InputError("this file was not handed to the lab", where=Origin(path)) from None

    def digest(self) -> str:
        """What tells these files from others: equal for equal files, in any process."""
        data = json.dumps(self.to_dict(), sort_keys=True).encode()
        return hashlib.sha256(data).hexdigest()
