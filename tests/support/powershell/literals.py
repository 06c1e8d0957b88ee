"""What PowerShell reads from a literal."""

from __future__ import annotations

import re


def read_literal(text: str) -> str:
    """What PowerShell reads from a single-quoted literal; fails if it ends early."""
    quotes = "'\u2018\u2019\u201a\u201b"
    if text.startswith("("):
        parts = re.findall(r"(?:'(?:[^']|'')*'|\[char\]\d+)(?= \+ |\)$)", text)
        assert f"({' + '.join(parts)})" == text
        units = [chr(int(part[6:])) if part.startswith("[") else read_literal(part) for part in parts]
        return "".join(units).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert text[0] in quotes
    assert text[-1] in quotes
    found, index, inner = "", 0, text[1:-1]
    while index < len(inner):
        if inner[index] in quotes:
            assert index + 1 < len(inner), "the literal ends early"
            assert inner[index + 1] in quotes, "the literal ends early"
            index += 1
        found += inner[index]
        index += 1
    return found
