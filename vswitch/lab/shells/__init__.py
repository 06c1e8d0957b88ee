"""Shells in guests: the user's own, with the guest's name before its prompt."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vswitch.errors import EnvironmentError_

__all__ = ["shell_command"]

_FOLDER = Path(__file__).parent
_PLAIN = {"sh", "dash", "ash", "ksh", "mksh"}
_FISH = """\
functions --query fish_prompt; and functions --copy fish_prompt _vswitch_prompt
function fish_prompt
    echo -n "$VSWITCH_PROMPT"
    functions --query _vswitch_prompt; and _vswitch_prompt
end
"""


def shell_command(guest: str) -> list[str]:
    """The command line of an interactive shell for `guest`.

    It is the one that SHELL names if we know how to mark its prompt, else bash, else sh. Raises
    EnvironmentError_ without any.
    """
    wanted = os.environ.get("SHELL", "")
    names = (Path(wanted).name, "bash", "sh")
    for name, path in zip(names, (wanted, "bash", "sh"), strict=True):
        found = shutil.which(path) if path else None
        # Shells expand what is in a prompt, and names of guests come from files.
        prompt = "".join(each if each.isalnum() or each in "._-" else "?" for each in guest)
        if found and (marked := _marked(name, found)):
            return ["env", f"VSWITCH_PROMPT=({prompt}) ", *marked]
    raise EnvironmentError_("no shell is installed that could be opened", hint="Install bash.")


def _marked(name: str, path: str) -> list[str]:
    """Variables and the command for a shell of this name; empty for one we do not know."""
    if name == "bash":
        return [path, "--rcfile", str(_FOLDER / "bashrc"), "-i"]
    if name == "zsh":
        theirs = f"VSWITCH_ZDOTDIR={os.environ.get('ZDOTDIR', '')}"
        return [theirs, f"ZDOTDIR={_FOLDER / 'zsh'}", path, "-i"]
    if name == "fish":
        return [path, "--init-command", _FISH, "--interactive"]
    if name in _PLAIN:
        # Without job control: the process group it would give the terminal back to is not the guest's.
        return [f"VSWITCH_ENV={os.environ.get('ENV', '')}", f"ENV={_FOLDER / 'shrc'}", path, "-i", "+m"]
    return []
