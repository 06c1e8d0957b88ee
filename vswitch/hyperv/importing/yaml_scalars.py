"""Names and words of a host as text of a YAML file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

__all__ = ["LONGEST_NAME", "Names", "comment", "listed", "scalar"]

#: Characters of a name in the files that an import writes.
LONGEST_NAME = 90
_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_. -]*[A-Za-z0-9_])?")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "any", "untagged"}


def scalar(text: str) -> str:
    """A YAML scalar that reads back as `text`."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def comment(text: str) -> str:
    """Text for a comment: one line, nothing that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _clean_name(text: str, default: str) -> str:
    """A name the files can hold, as close to `text` as can be."""
    cleaned = "".join("-" if c == "/" else c if c.isprintable() else "?" for c in text).strip()
    if cleaned.lower().startswith("host:"):
        cleaned = cleaned.replace(":", "-", 1)
    return cleaned[:LONGEST_NAME].strip() or default


class Names:
    """Hands out names, each once, as Windows compares them."""

    def __init__(self) -> None:
        self.taken: set[str] = set()  # in lower case

    def take(self, text: str, default: str = "unnamed") -> str:
        """A name the files can hold, as close to `text` as is still free."""
        base = name = _clean_name(text, default)
        number = 2
        while name.lower() in self.taken:
            name, number = f"{base} {number}", number + 1
        self.taken.add(name.lower())
        return name


def listed(texts: Iterable[str]) -> str:
    """A YAML list, or its only item."""
    found = [scalar(text) for text in texts]
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]"
