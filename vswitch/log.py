"""What a process of the lab says on standard error must never be what stops it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOBase

__all__ = ["log_whatever_happens"]

_STANDARD_ERROR = 2


class _Log(TextIOBase):
    """Standard error; what cannot be written there, on a full disk, say, is lost."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(_STANDARD_ERROR, text.encode(errors="backslashreplace"))
        return len(text)


def log_whatever_happens() -> None:
    """Have this process go on when its standard error cannot be written."""
    sys.stderr = _Log()
