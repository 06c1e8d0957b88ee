"""What every test can rely on: hypothesis profiles, missing programs, and a run that cleans up.

`HYPOTHESIS_PROFILE` chooses how hard property tests look: `default`, `ci` (the same examples on
every run) or `thorough`. Tests leave `max_examples` alone, so that the profile decides.

`@pytest.mark.requires("ip", "nft")`, or the `requires` fixture inside a test, skips with a visible
reason when a program is missing. In CI, where the set-up has brought every program, it fails
instead: a check that silently stopped running is worth nothing. `pwsh` is optional everywhere.

When the run ends, nothing it started may be alive and nothing it named may be left.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

CI = bool(os.environ.get("CI"))
OPTIONAL_PROGRAMS = {"pwsh"}
RUN_VARIABLE = "VSWITCH_TEST_RUN"
GRACE_SECONDS = 5.0

settings.register_profile("default", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "thorough", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if CI else "default"))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker and look for programs where an ordinary user's PATH does not."""
    config.addinivalue_line("markers", "requires(*programs): skipped where one of these programs is missing")
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    os.environ[RUN_VARIABLE] = uuid.uuid4().hex  # each pytest-xdist worker is a run of its own


def _require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)} (scripts/setup brings what the project uses)"
    if CI and not OPTIONAL_PROGRAMS.issuperset(missing):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Honour `requires` markers, and what the markers `ovs`, `lab` and `pwsh` imply."""
    implied = {
        "ovs": ("ovsdb-server", "ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ip"),
        "lab": ("ovsdb-server", "ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ip", "mnexec", "unshare"),
        "pwsh": ("pwsh",),
    }
    for marker in item.iter_markers():
        if marker.name == "requires":
            _require(*marker.args)
        elif marker.name in implied:
            _require(*implied[marker.name])


@pytest.fixture
def requires() -> Callable[..., None]:
    """A function that takes program names and skips the test if one is missing."""
    return _require


# ------------------------------------------------------------------ nothing is left behind


def _started_by_this_run() -> dict[int, str]:
    """Processes that inherited this run's mark, by pid, with their command line."""
    mark = f"{RUN_VARIABLE}={os.environ[RUN_VARIABLE]}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # ended meanwhile, or another user's
            continue
        if command:  # a process that has ended but is not yet reaped has none
            found[int(entry.name)] = command
    return found


def _named_things() -> set[str]:
    """Interfaces, namespaces, files and sockets outside any lab that carry our names."""
    interface = re.compile(r"ovs-netdev|vsw.*|br\d+|p\d+")
    found = {f"interface {name}" for _, name in socket.if_nameindex() if interface.fullmatch(name)}
    for folder in ("/run/netns", "/tmp", "/run", "/dev/shm"):
        found |= {f"{path}" for path in Path(folder).glob("vswitch*") if path.is_dir() or path.is_file()}
    for line in Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines():
        name = line.split()[-1]
        if name.startswith("@vswitch/"):
            found.add(f"socket {name}")
    return found


@pytest.fixture(scope="session", autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail the run if something it started outlives it.

    Processes are told from another run's by their environment. Names cannot be told apart, so they
    only count when no other run was at work: each run holds an abstract socket that the others see.
    """
    with socket.socket(socket.AF_UNIX) as presence:
        presence.bind(f"\0vswitch-tests/{os.environ[RUN_VARIABLE]}")
        before = _named_things()
        alone = not _other_runs()
        yield
        end = time.monotonic() + GRACE_SECONDS
        while (alive := _started_by_this_run()) and time.monotonic() < end:
            time.sleep(0.05)
        left = [f"process {pid}: {command}" for pid, command in sorted(alive.items())]
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
        if alone and not _other_runs():
            left += sorted(_named_things() - before)
    if left:
        pytest.fail("the test run left behind:\n  " + "\n  ".join(left), pytrace=False)


def _other_runs() -> bool:
    """Whether another test run is at work in this network namespace."""
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r"@vswitch-tests/(\w+)", sockets)) != {os.environ[RUN_VARIABLE]}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print scripts/test's total time; pytest's own summary line stays the last."""
    if began := os.environ.get("VSWITCH_TESTS_BEGAN"):
        terminalreporter.write_line(f"total time of scripts/test: {time.time() - float(began):.0f} s")
