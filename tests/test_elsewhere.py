"""The core where this machine's modules and calls are missing: on Windows, on macOS, without the extra `lab`.

It was not run there; here what they lack is taken away before the first import.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = ROOT / "topologies" / "two-hosts.yaml"

#: Of POSIX or of Linux, and what the extra `lab` brings.
POSIX = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
LAB = ("mininet", "os_ken", "ovs", "packaging", "setuptools", "pkg_resources")

START = """
import os, signal, socket, sys
for name in {blocked!r}:
    sys.modules[name] = None
for module, names in {missing!r}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
sys.path.insert(0, {root!r})
sys.argv = ["vswitch", *{words!r}]
from vswitch.cli.entry import main
main()
"""
MISSING = {
    "os": ("fork", "getuid", "geteuid", "getgid", "getegid", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"),
    "signal": ("SIGALRM", "setitimer", "ITIMER_REAL", "SIGHUP", "SIGPIPE"),
    "socket": ("AF_UNIX", "AF_NETLINK", "AF_PACKET"),
}


def run(
    tmp_path: Path, *words: str, blocked: tuple[str, ...] = (*POSIX, *LAB), lacking: bool = True
) -> subprocess.CompletedProcess[str]:
    """`vswitch` where these modules cannot be imported, and what MISSING names is not there if `lacking`."""
    code = START.format(blocked=blocked, missing=MISSING if lacking else {}, root=str(ROOT), words=words)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--help",), 0, "Commands:"),
        (("validate", str(LAYOUT)), 0, "ok "),
        (("explain", "client", "web01", "tcp/445", "-f", str(LAYOUT)), 1, "deny-the-rest"),
        (("layouts",), 0, "two-hosts"),
        (("hyperv", "export", str(LAYOUT), "--host", "hv01"), 0, "Add-VMNetworkAdapterExtendedAcl"),
        (("hyperv", "plan", "--help"), 0, "Usage: vswitch hyperv plan"),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else None,
)
def test_the_core_runs(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    done = run(tmp_path, *words)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout


@pytest.mark.parametrize(
    "words", [("up", str(LAYOUT)), ("test", str(LAYOUT)), ("ps",)], ids=lambda words: words[0]
)
def test_a_lab_says_what_it_lacks(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, *words)
    assert done.returncode in (1, 3)
    said = done.stdout + done.stderr  # of a failed start, `test` makes a line of its report
    assert "labs need Linux" in said
    assert "Traceback" not in said
    assert "fault of vswitch" not in said


@pytest.mark.parametrize("words", [("up", str(LAYOUT)), ("test", str(LAYOUT))], ids=lambda words: words[0])
def test_a_lab_says_that_the_extra_is_missing(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, *words, blocked=LAB, lacking=False)
    assert done.returncode in (1, 3)
    assert "pip install 'vswitch[lab]'" in done.stdout + done.stderr
