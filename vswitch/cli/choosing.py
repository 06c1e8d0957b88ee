"""Which lab a command means."""

from __future__ import annotations

from vswitch.errors import InputError, NoSuchLab
from vswitch.model.names import find_name

__all__ = ["TEST_MARK", "choose_lab", "running_labs"]

#: In the names of labs that `vswitch test` starts.
TEST_MARK = ".test."


def running_labs() -> list[str]:
    """The labs of this user that run.

    Labs of a `vswitch test` under way do not count: they are nobody's to look at, or to take down.
    """
    from vswitch.lab.process import client

    return [each for each in client.running() if TEST_MARK not in each]


def choose_lab(name: str | None) -> str:
    """The lab named, whatever the case if that leaves one, or the only one that runs.

    Raises NoSuchLab or InputError.
    """
    from vswitch.lab.process import client

    if name is not None:
        return find_name(name, client.running()) or name
    names = running_labs()
    if not names:
        raise NoSuchLab("no lab runs", hint="Start one with `vswitch up LAYOUT`.")
    if len(names) > 1:
        raise InputError("several labs run", hint=f"Name one with --lab: {', '.join(names)}")
    return names[0]
