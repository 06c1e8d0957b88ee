"""The PowerShell module that ships with this program: the far end of the bridge."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from vswitch.errors import EnvironmentError_

__all__ = ["module_text"]

_NAME = "Vswitch.psm1"


@cache
def module_text() -> bytes:
    """The bytes of Vswitch.psm1, from the checkout or from the installed package.

    Raises EnvironmentError_ if neither has it.
    """
    checkout = Path(__file__).resolve().parents[3] / "powershell" / "Vswitch" / _NAME
    if checkout.is_file():
        return checkout.read_bytes()
    packaged = resources.files("vswitch.hyperv") / "powershell" / _NAME
    if packaged.is_file():
        return packaged.read_bytes()
    raise EnvironmentError_(
        f"the PowerShell module {_NAME} is not installed with this program", hint="reinstall vswitch"
    )
