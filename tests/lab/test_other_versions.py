"""Labs that answer as none of this version does: said of each of them, and no other lab's concern."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import POLICY
from tests.support.hanging import ROOT, command
from tests.support.namespaces import Namespace
from vswitch.lab.isolation.netns import in_netns

pytestmark = pytest.mark.lab

# A lab under each name, which gives each request one answer as soon as all of them have got their first.
LABS = """
import os, socket, sys, threading
names = sys.argv[2:]
everybody = threading.Barrier(len(names))

def serve(listener):
    waits = sys.argv[1] == "together"
    while True:
        asked, _ = listener.accept()
        if asked.makefile("r").readline():  # else somebody looked whose socket this is
            if waits: everybody.wait()
            waits = False
            asked.sendall(answers[listener.getsockname()] + b"\\n")
        asked.close()

old = b'{"result": {"lab": "old", "files": ["x.yaml"], "folder": "/tmp", "hosts": 1, "guests": 1}}'
kinds = {"old": old, "junk": b"not json", "list": b"[1]", "null": b'{"result": null}'}
kinds["error"] = b'{"error": {}}'
answers = {}
for name in names:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\\0vswitch/{os.getuid()}/{name}")
    answers[listener.getsockname()] = kinds[name]
    listener.listen(64)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
print("bound", flush=True)
sys.stdin.read()
"""
NAMES = ["error", "junk", "list", "null", "old"]


@contextmanager
def labs(net: Namespace, manner: str, *names: str) -> Iterator[None]:
    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", LABS, manner, *names]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with in_netns(net.path, begin) as process:
        assert process.stdout
        assert process.stdout.readline() == "bound\n"
        try:
            yield
        finally:
            process.kill()


def vswitch(net: Namespace, *words: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "VSWITCH_LAB"}
    environment |= {"PYTHONPATH": str(ROOT), "VSWITCH_SILENCE_TIMEOUT": "20"}
    done = in_netns(
        net.path,
        lambda: subprocess.run(
            command(*words), capture_output=True, text=True, check=False, timeout=90,
            stdin=subprocess.DEVNULL, env=environment,
        ),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_ps_says_it_of_each_lab_and_asks_them_side_by_side(new_namespace: Callable[[], Namespace]) -> None:
    net = new_namespace()
    with labs(net, "together", *NAMES):  # asked one after the other, each would be silent
        status, out, _ = vswitch(net, "ps", "-o", "json")
    entries = json.loads(out)
    assert (status, [entry["lab"] for entry in entries]) == (1, NAMES)
    for entry in entries:
        assert "runs another version of vswitch" in entry["message"]
        assert entry["hint"].endswith(f"vswitch down {entry['lab']}")


@pytest.mark.parametrize("name", ["old", "junk"])
def test_each_question_says_so(new_namespace: Callable[[], Namespace], tmp_path: Path, name: str) -> None:
    net = new_namespace()
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with labs(net, "apart", name):
        for words, expected in ((("flows",), 1), (("exec", "web01", "true"), 1), (("apply", str(policy)), 3)):
            status, _, said = vswitch(net, words[0], "--lab", name, *words[1:])
            assert status == expected, said
            assert f"the lab '{name}' runs another version of vswitch" in said
            if words[0] == "apply":
                assert "whether the new policy is in force is not known" in said
                assert "vswitch apply --status" in said
