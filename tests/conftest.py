"""What every test can rely on: hypothesis profiles, missing programs, and a run that cleans up.

`HYPOTHESIS_PROFILE` chooses how hard property tests look: `default`, `ci` (the same examples on
every run) or `thorough`. Tests leave `max_examples` alone, so that the profile decides.

`@pytest.mark.requires("ip", "nft")`, or the `requires` fixture inside a test, skips with a visible
reason when a program is missing. In CI, where the set-up has brought every program, it fails
instead: a check that silently stopped running is worth nothing. `pwsh` is optional everywhere.

When the run ends, nothing it started may be alive and nothing it named may be left.

Side by side (`-n 2`, pytest-xdist) the tests of one file share a process, as its fixtures are made for;
those of `test_scenarios.py` are parted by the file of the scenario, since most are of one lab.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

CI = bool(os.environ.get("CI"))
OPTIONAL_PROGRAMS = {"pwsh"}
RUN_VARIABLE = "VSWITCH_TEST_RUN"
#: The run that this process is a worker of, or itself.
WHOLE_VARIABLE = "VSWITCH_TEST_WHOLE_RUN"
WORKER = "PYTEST_XDIST_WORKER" in os.environ
GRACE_SECONDS = 20.0

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
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script it is ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not WORKER:
        os.environ[WHOLE_VARIABLE] = os.environ[RUN_VARIABLE]


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
def _leaves_no_process_behind() -> Iterator[None]:
    """Fail the run if a process it started outlives it: it is known by its environment."""
    yield
    end = time.monotonic() + GRACE_SECONDS
    while (alive := _started_by_this_run()) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):  # it has ended by now, but too late
            os.kill(pid, signal.SIGKILL)
    if alive:
        left = [f"process {pid}: {command}" for pid, command in sorted(alive.items())]
        pytest.fail("the test run left behind:\n  " + "\n  ".join(left), pytrace=False)


class _NamesLeft:
    """What has a name of ours when all workers have ended and had none before.

    Names do not say whose they are, so they only count when no other run was at work: each run holds an
    abstract socket that the others see.
    """

    def __init__(self) -> None:
        self.presence = socket.socket(socket.AF_UNIX)
        self.presence.bind(f"\0vswitch-tests/{os.environ[WHOLE_VARIABLE]}")
        self.before = _named_things()
        self.alone = not _other_runs()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Report them as an error of the run."""
        left = sorted(_named_things() - self.before) if self.alone and not _other_runs() else []
        self.presence.close()
        if left:
            report = pytest.TestReport(
                nodeid="the whole run", location=("tests", None, "the whole run"), keywords={},
                outcome="failed", longrepr="the test run left behind:\n  " + "\n  ".join(left),
                when="teardown",
            )  # fmt: skip
            session.config.hook.pytest_runtest_logreport(report=report)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what is there before the first test, once for all workers."""
    if not WORKER:
        session.config.pluginmanager.register(_NamesLeft())


def _other_runs() -> bool:
    """Whether another test run is at work in this network namespace."""
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r"@vswitch-tests/(\w+)", sockets)) != {os.environ[WHOLE_VARIABLE]}


# ------------------------------------------------------------------ side by side


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a worker, labs come first: what takes long is not left for the end, when one core is idle."""
    if WORKER:
        items.sort(key=lambda item: not any(item.iter_markers("lab")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, and the scenarios by the file they are written in."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            return file + test.partition(": ")[0] if file.endswith("test_scenarios.py") else file

    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print scripts/test's total time; pytest's own summary line stays the last."""
    if began := os.environ.get("VSWITCH_TESTS_BEGAN"):
        terminalreporter.write_line(f"total time of scripts/test: {time.time() - float(began):.0f} s")
