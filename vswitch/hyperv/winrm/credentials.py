"""User names and passwords: from the environment, the keyring or a prompt, and nowhere else.

A password lives in memory only, inside a `Secret` that never shows itself: not in a repr, a format
string, a traceback with local variables, a pickle or JSON.
"""

from __future__ import annotations

import getpass
import importlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from vswitch.errors import InputError
from vswitch.wording import visible

__all__ = [
    "KEYRING_SERVICE",
    "PASSWORD_VARIABLE",
    "USER_VARIABLE",
    "CredentialFinder",
    "Credentials",
    "Keyring",
    "Secret",
    "system_keyring",
    "terminal_prompt",
]

USER_VARIABLE = "VSWITCH_HYPERV_USER"
PASSWORD_VARIABLE = "VSWITCH_HYPERV_PASSWORD"
KEYRING_SERVICE = "vswitch"

_MASK = "********"


class Secret:
    """A text that is only given out by `reveal`."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself."""
        return self.__value

    def hide_in(self, text: str) -> str:
        """`text` with every occurrence of the secret masked."""
        return text.replace(self.__value, _MASK) if self.__value else text

    def __repr__(self) -> str:
        return _MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a host is told; both are None where a Kerberos ticket or a certificate says it all."""

    username: str | None = None
    password: Secret | None = None

    def hide_in(self, text: str) -> str:
        """`text` without the password."""
        return self.password.hide_in(text) if self.password else text


class Keyring(Protocol):
    """What is used of the `keyring` package."""

    def get_password(self, service: str, username: str, /) -> str | None:
        """The stored password, or None."""


def system_keyring() -> Keyring | None:
    """The `keyring` package if it is installed (extra `keyring`)."""
    try:
        found: Keyring = importlib.import_module("keyring")
    except ImportError:
        return None
    return found


def terminal_prompt() -> Callable[[str], str] | None:
    """What asks the person at the terminal; None where standard input is no terminal."""
    # Without one, getpass warns, and reads what was meant for something else or waits in the background.
    return getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None


@dataclass(slots=True)
class CredentialFinder:
    """Finds credentials, asking for each only once.

    `prompt` shows a text and returns what was typed without echo; None where nobody can be asked.
    Safe for use by several threads; they wait for one another, so that prompts do not overlap.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    keyring: Keyring | None = field(default_factory=system_keyring, repr=False)
    prompt: Callable[[str], str] | None = field(default_factory=terminal_prompt, repr=False)
    _known: dict[tuple[str, str], Secret] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def user(self, username: str | None) -> str | None:
        """The user name from the inventory, or else from the environment."""
        return username or self.environment.get(USER_VARIABLE) or None

    def password(self, username: str, *, host: str, variable: str | None = None) -> Secret:
        """The password of `username`.

        Looked for in the environment variable named `variable` (which then must exist), in
        VSWITCH_HYPERV_PASSWORD, in the keyring (service "vswitch") and at the prompt, in this order.
        Raises InputError if it cannot be had.
        """
        with self._lock:
            known = self._known.get((username, variable or ""))
            if known is None:
                known = self._find(username, host, variable)
                self._known[username, variable or ""] = known
            return known

    def _find(self, username: str, host: str, variable: str | None) -> Secret:
        if variable is not None:
            if variable not in self.environment:
                raise InputError(
                    f"the environment variable {variable}, which holds the password of {username} on {host}, "
                    "is not set",
                    hint=f"set {variable}, or take `password_variable` out of the inventory",
                )
            return Secret(self.environment[variable])
        if PASSWORD_VARIABLE in self.environment:
            return Secret(self.environment[PASSWORD_VARIABLE])
        if (stored := self._from_keyring(username)) is not None:
            return stored
        if self.prompt is not None:
            try:
                return Secret(self.prompt(visible(f"Password of {username} on {host}: ")))
            except EOFError:
                pass
        raise InputError(
            f"there is no password for {username} on {host}",
            hint=f"set {PASSWORD_VARIABLE}, store it with `keyring set {KEYRING_SERVICE} '{username}'`, "
            "or run this in a terminal, where it is asked for",
        )

    def _from_keyring(self, username: str) -> Secret | None:
        if self.keyring is None:
            return None
        try:
            stored = self.keyring.get_password(KEYRING_SERVICE, username)
        except Exception:  # a locked or missing backend raises errors of its own kind
            return None
        return None if stored is None else Secret(stored)
