"""What kind of file a text is, by the keys at its top level.

A file that is not of the kind asked for may be anybody's: a layout can name any file its reader may read.
Messages about such a file quote nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from vswitch.errors import InputError, Origin
from vswitch.model.files.yaml_text import Node
from vswitch.model.problems import listing

__all__ = ["KEYS", "is_kind", "not_the_kind", "seems_kind", "top_keys"]

#: The keys of each kind of file.
KEYS = {
    "a layout": ("name", "networks", "hosts", "policies", "expect"),
    "a policy": ("groups", "extended_acls", "acls"),
    "an inventory": ("defaults", "groups", "hosts", "canary"),
}

_FLOW_KEY = re.compile(r"""["']?(\w+)["']?\s*:""")
_MOST_KEYS = 1000  # looked at, of a text that may have a million


def top_keys(text: str) -> set[str]:
    """What stands like a key at the top level of a text, whether or not that is YAML."""
    first = re.search(r"^([ ]*)(?!---|%|#)([^\s#])", text, re.M)
    if first is None:
        return set()
    if first[2] == "{":
        return set(_FLOW_KEY.findall(text, first.start(), first.start() + 100_000))
    return set(re.findall(rf"""^{first[1]}["']?(\w+)["']?[ ]*:""", text, re.M))


def _mostly(keys: Collection[str], what: str) -> bool:
    known = [key.replace("_", "") for key in KEYS[what]]
    words = [key.lower().replace("_", "") for key in list(keys)[:_MOST_KEYS]]
    alike = sum(word in known or bool(get_close_matches(word[:40], known, 1, 0.75)) for word in words)
    return alike > 0 and 2 * alike >= len(words)


def is_kind(root: Node, what: str) -> bool:
    """Whether at least half of a document's keys are those of `what` (of KEYS), or nearly; or it has none."""
    return root.entries is not None and (not root.entries or _mostly(root.entries, what))


def seems_kind(text: str, what: str) -> bool:
    """The same of a text that is not YAML, as far as one can see."""
    return _mostly(top_keys(text), what)


def not_the_kind(file: str, what: str) -> InputError:
    """The mistake of naming a file that is something else."""
    hint = f"the keys at its top level are not those of {what}: {listing(KEYS[what])}"
    return InputError(f"this is not {what}", where=Origin(file), hint=hint)
