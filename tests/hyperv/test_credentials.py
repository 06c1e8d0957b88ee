"""Where passwords come from, and that they show nowhere."""

from __future__ import annotations

import copy
import getpass
import io
import json
import os
import pickle
import sys
import threading
from types import ModuleType

import pytest

from vswitch.errors import InputError
from vswitch.hyperv.winrm.credentials import (
    CredentialFinder,
    Credentials,
    Secret,
    system_keyring,
    terminal_prompt,
)


class FakeKeyring:
    def __init__(self, **known: str) -> None:
        self.known = known

    def get_password(self, service: str, username: str, /) -> str | None:
        assert service == "vswitch"
        return self.known.get(username)


class LockedKeyring:
    def get_password(self, service: str, username: str, /) -> str | None:
        raise RuntimeError(f"the keyring is locked: {service} {username}")


def silent(_: str) -> str:
    pytest.fail("asked at the prompt")


def test_a_variable_named_in_the_inventory_comes_first() -> None:
    finder = CredentialFinder(
        environment={"HV_PW": "one", "VSWITCH_HYPERV_PASSWORD": "two"}, keyring=None, prompt=silent
    )
    assert finder.password("admin", host="hv01", variable="HV_PW").reveal() == "one"
    assert finder.password("admin", host="hv01").reveal() == "two"


def test_a_named_variable_must_exist() -> None:
    finder = CredentialFinder(environment={"VSWITCH_HYPERV_PASSWORD": "two"}, keyring=None, prompt=silent)
    with pytest.raises(InputError, match="HV_PW") as caught:
        finder.password("admin", host="hv01", variable="HV_PW")
    assert "two" not in str(caught.value)


def test_the_keyring_comes_before_the_prompt() -> None:
    finder = CredentialFinder(environment={}, keyring=FakeKeyring(admin="three"), prompt=silent)
    assert finder.password("admin", host="hv01").reveal() == "three"


@pytest.mark.parametrize("keyring", [None, FakeKeyring(), LockedKeyring()])
def test_the_prompt_comes_last_and_once(keyring: FakeKeyring | None) -> None:
    asked: list[str] = []

    def prompt(text: str) -> str:
        asked.append(text)
        return "four"

    finder = CredentialFinder(environment={}, keyring=keyring, prompt=prompt)
    threads = [
        threading.Thread(target=finder.password, args=("admin",), kwargs={"host": f"hv{number}"})
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finder.password("admin", host="hv01").reveal() == "four"
    assert len(asked) == 1
    finder.password("other", host="hv01")
    assert asked[1:] == ["Password of other on hv01: "]


def test_nobody_to_ask() -> None:
    def ended(_: str) -> str:
        raise EOFError

    for prompt in (None, ended):
        finder = CredentialFinder(environment={}, keyring=None, prompt=prompt)
        with pytest.raises(InputError, match="no password for admin on hv01") as caught:
            finder.password("admin", host="hv01")
        assert "VSWITCH_HYPERV_PASSWORD" in caught.value.hint


def test_only_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = os.openpty()
    with os.fdopen(here) as terminal, os.fdopen(there, "wb"):
        monkeypatch.setattr(sys, "stdin", terminal)
        assert terminal_prompt() is getpass.getpass
    for stdin in (io.StringIO("hunter2\n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert terminal_prompt() is None


def test_an_interrupt_at_the_prompt_is_an_interrupt() -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    finder = CredentialFinder(environment={}, keyring=None, prompt=interrupted)
    with pytest.raises(KeyboardInterrupt):
        finder.password("admin", host="hv01")


def test_the_user_comes_from_the_inventory_or_the_environment() -> None:
    finder = CredentialFinder(environment={"VSWITCH_HYPERV_USER": "env"}, keyring=None, prompt=None)
    assert finder.user("written") == "written"
    assert finder.user(None) == "env"
    assert CredentialFinder(environment={}, keyring=None, prompt=None).user(None) is None


def test_the_keyring_package_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert system_keyring() is None
    installed = ModuleType("keyring")
    installed.get_password = lambda service, username: f"{service}/{username}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", installed)
    found = system_keyring()
    assert found is not None
    assert found.get_password("vswitch", "admin") == "vswitch/admin"


def test_a_secret_never_shows() -> None:
    secret = Secret("hunter2")
    finder = CredentialFinder(environment={"VSWITCH_HYPERV_PASSWORD": "hunter2"}, keyring=None, prompt=None)
    finder.password("admin", host="hv01")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>20}",
        f"{secret!r}",
        f"{secret!s}",
    ]
    shown += [repr(Credentials("admin", secret)), repr(finder), repr([secret])]
    assert not any("hunter2" in text for text in shown)
    for store in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            store(secret)


def test_hiding() -> None:
    assert Credentials("a", Secret("hunter2")).hide_in("it is hunter2!") == "it is ********!"
    assert Credentials("a", Secret("")).hide_in("abc") == "abc"
    assert Credentials().hide_in("abc") == "abc"
