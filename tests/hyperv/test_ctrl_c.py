"""Ctrl-C ends every hyperv command at once, by a real signal to a real process, whatever the hosts do."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.host import HypervHost
from tests.support.winrm.endpoint import Hang, ShellOutput, WinrmEndpoint, host_handler, split_input
from tests.support.winrm.hostile import SLOW, Hostile
from tests.support.winrm.runs import Recorder
from vswitch.cli.hyperv import app

#: What is promised is a second; a busy machine needs some more to notice.
AT_ONCE = 10.0
RUN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from vswitch.cli.entry import main; main()"
)
COMMANDS = {
    "import": ("import", "hv01", "-o", "a.yaml", "b.yaml"),
    "plan": ("plan", "layout.yaml", "hv01"),
    "apply": ("apply", "layout.yaml", "hv01", "--yes"),
    "verify": ("verify", "layout.yaml", "hv01"),
    "drift": ("drift", "layout.yaml", "hv01"),
    "rollback": ("rollback", "hv01", "--yes"),
    "confirm": ("confirm", "hv01"),
    "backups": ("backups", "hv01"),
}


def interrupted(words: tuple[str, ...], met: threading.Event) -> str:
    """What a command says that is interrupted once `met` is set; it must end at once, with status 130."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "hyperv", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert met.wait(60), "the host was not asked"
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, out + err
    assert took < AT_ONCE
    assert "Traceback" not in out + err
    return err


def test_every_command_with_hosts_is_interrupted_here() -> None:
    names = {str(each.name or each.callback.__name__) for each in app.registered_commands}  # type: ignore[union-attr]
    assert names - {"export", "help"} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_though_the_host_never_does(command: str, shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    how = list(SLOW)[list(COMMANDS).index(command) % len(SLOW)]
    with Hostile(SLOW[how]) as hostile, WinrmEndpoint(Recorder()) as other:
        over = fleet_of(other)
        text = Path("fleet.yaml").read_text()
        Path("fleet.yaml").write_text(text.replace(str(other.port), str(hostile.port)))
        said = interrupted((*COMMANDS[command], *over), hostile.met)
    assert "interrupted while" in said
    assert "hv01: still at work" in said
    assert ("may still come into force" in said) is (command == "confirm")


def stuck_at(operation: str, host: HypervHost, met: threading.Event) -> WinrmEndpoint:
    """A host that takes an operation and never says anything of it."""
    handle = host_handler(host)

    def handler(stdin: bytes) -> ShellOutput | bytes:
        if split_input(stdin)[1]["operation"] == operation:
            met.set()
            raise Hang
        return handle(stdin)

    return WinrmEndpoint(handler)


@pytest.mark.parametrize("saved", [False, True])
def test_apply_names_the_hosts_at_work_and_what_it_asked_of_them(shop: Shop, saved: bool) -> None:
    met = threading.Event()
    other = json.loads(json.dumps(shop.state | {"computer": "HV02"}).replace("00155D", "00155E"))
    with (
        stuck_at("apply", HypervHost(shop.state), met) as one,
        stuck_at("apply", HypervHost(other), met) as two,
    ):
        over = fleet_of(one, two)
        shop.run("import", "hv01", "hv02", "-o", "layout.yaml", "policy.yaml", *over)
        words: tuple[str, ...] = ("apply", "layout.yaml", "hv01", "hv02", "--adopt")
        if saved:
            shop.run("plan", "layout.yaml", "hv01", "hv02", "--adopt", "--save", "plan.json", *over, status=1)
            words = ("apply", "--plan", "plan.json")
        said = interrupted((*words, "--yes", "--limit", "1", "--confirm-within", "60", *over), met)
        asked = [len(one.log), len(two.log)]
        plan = re.search(r"hv01 was asked to apply plan (\S+), which may still come into force", said)
        assert plan is not None, said
        assert "2 hosts: 1 not started, 1 still at work" in said
        assert "see what became of it: vswitch hyperv backups hv01 -i fleet.yaml" in said
        assert f"undo it: vswitch hyperv rollback hv01 -i fleet.yaml --to {plan[1]}" in said
        assert "hv01 undoes it by itself within 60 s of its writes" in said
        assert "hv02 was asked" not in said
        time.sleep(0.3)
        assert [len(one.log), len(two.log)] == asked, "something was sent after the end"


def test_what_was_asked_is_seen_and_undone_with_the_commands_named(shop: Shop) -> None:
    met = threading.Event()
    host = HypervHost(shop.state)
    handle = host_handler(host)

    def late(stdin: bytes) -> ShellOutput | bytes:
        done = handle(stdin)
        if split_input(stdin)[1]["operation"] == "apply" and not met.is_set():
            met.set()
            raise Hang  # it came into force, and nobody heard of it
        return done

    with WinrmEndpoint(late) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        said = interrupted(("apply", "layout.yaml", "hv01", "--adopt", "--yes", *over), met)
        see, undo = (re.search(rf"{what}: vswitch hyperv (.*)", said) for what in ("became of it", "undo it"))
        assert see is not None
        assert undo is not None
        assert host.state()["records"]
        assert re.search(r"hv01 \S+  \S+  applied, ", shop.run(*see[1].split()).output)
        shop.run(*undo[1].split(), "--yes")
        assert not any(each["entries"] for each in host.state()["records"])
