"""Another user of this machine who holds a name of ours: what is not ours is left out everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT
from tests.support.hanging import ROOT, command
from tests.support.namespaces import Namespace
from vswitch.lab.isolation.netns import in_netns

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root"),
]

# As `nobody`, binds the names given as arguments; under the first one nobody else is taken in.
FOREIGNER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
kept = []
for name in sys.argv[1:]:
    listener = socket.socket(socket.AF_UNIX); listener.bind("\\0" + name); listener.listen(0)
    kept.append(listener)
    while name == sys.argv[1]:
        guest = socket.socket(socket.AF_UNIX); guest.setblocking(False); kept.append(guest)
        try: guest.connect("\\0" + name)
        except BlockingIOError: break
print("bound", flush=True)
sys.stdin.read()
"""
# A name that makes a line of its own in /proc/net/unix, which looks like our lab's socket.
FORGED = "x\n0000000000000000: 00000002 00000000 00010000 0001 01 1 @vswitch/0/forged"


@contextmanager
def foreigner(net: Namespace, *names: str) -> Iterator[None]:
    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", FOREIGNER, *names]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with in_netns(net.path, begin) as process:
        assert process.stdout
        assert process.stdout.readline() == "bound\n"
        try:
            yield
        finally:
            process.kill()


def vswitch(net: Namespace, *words: str) -> tuple[int, str]:
    """Exit status and output of a command in a network namespace, where only our labs and the other's are."""
    environment = {name: value for name, value in os.environ.items() if name != "VSWITCH_LAB"}
    environment["PYTHONPATH"] = str(ROOT)
    done = in_netns(
        net.path,
        lambda: subprocess.run(
            command(*words), capture_output=True, text=True, check=False, timeout=90,
            stdin=subprocess.DEVNULL, env=environment,
        ),
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_names_that_another_user_holds(new_namespace: Callable[[], Namespace], tmp_path: Path) -> None:
    net = new_namespace()
    layout = tmp_path / "layout.yaml"
    layout.write_text(LAYOUT)
    with foreigner(net, "vswitch/0/theirs", "vswitch/0/office", FORGED):
        status, said = vswitch(net, "ps")
        assert (status, said.partition(".")[0]) == (0, "No lab runs"), said
        status, said = vswitch(net, "log", "--lab", "theirs")
        assert (status, "another user of this machine holds that name" in said) == (2, True), said
        status, said = vswitch(net, "up", str(layout))
        assert status == 1
        assert "no lab can be named 'office': another user of this machine holds that name" in said
        assert "--name" in said
        try:
            assert vswitch(net, "up", str(layout), "--name", "ours")[0] == 0
            assert vswitch(net, "log")[0] == 0, "the only one that is ours is meant"
            status, said = vswitch(net, "down", "theirs")
            assert (status, "another user" in said) == (2, True), said
        finally:
            down = vswitch(net, "down", "--all")
        assert down == (0, "down: ours\n")
