"""How long others are waited for: every wait has an end, and whoever waits sets where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from vswitch.errors import InputError

__all__ = ["VARIABLES", "Patience"]

#: The environment variable that sets each field of `Patience`.
VARIABLES = {
    "connecting": "VSWITCH_CONNECT_TIMEOUT",
    "silence": "VSWITCH_SILENCE_TIMEOUT",
    "whole": "VSWITCH_TIMEOUT",
}

_LONGEST = 1_000_000.0  # days; what an operating system takes as a timeout ends somewhere above


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: until a connection stands, without a sign of life, and for one whole question."""

    connecting: float = 10.0
    silence: float = 30.0
    whole: float = 300.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Patience:
        """What the user has set, the defaults for the rest. Raises InputError for what is no time to wait."""
        return cls(
            **{
                field.name: _seconds(VARIABLES[field.name], environment[VARIABLES[field.name]])
                for field in fields(cls)
                if environment.get(VARIABLES[field.name])
            }
        )

    def at_most(self, whole: float) -> Patience:
        """The same for a question that has to end within `whole` seconds."""
        return Patience(self.connecting, self.silence, min(self.whole, whole))

    def longer(self, told: float) -> Patience:
        """The same for a question that was itself told to take up to `told` seconds."""
        return Patience(self.connecting, self.silence, self.whole + told)


def _seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise InputError(
            f"{variable}={text} in the environment is not a time to wait",
            hint=f"Write seconds, more than 0 and at most {_LONGEST:.0f}; "
            f"without it the default counts: unset {variable}",
        )
    return seconds
