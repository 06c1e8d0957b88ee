"""What runs in a guest is kept to it, and its guest's share: as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT
from tests.support.ordinary_user import ROOT, as_ordinary_user, require_ordinary_user
from tests.support.running_lab import wait_until
from vswitch.lab.isolation.cells import MOST_PROCESSES, most_memory

pytestmark = pytest.mark.lab

# Grows for as long as it can, then tries again in some of its processes; all of it ends by itself.
BOMB = """
import os, signal, time
while True:
    signal.alarm(30)
    try:
        os.fork()
    except OSError:
        time.sleep(0.01 if os.getpid() % 32 == 0 else 60)
"""
# Takes a quarter more memory than a guest may have, in pieces that are written to.
HOG = """
import sys
most = int(sys.argv[1]) * 5 // 4
kept = []
try:
    while sum(map(len, kept)) < most:
        kept.append(b"x" * (64 << 20))
except MemoryError:
    sys.exit("refused")
print("got it all")
"""

# Tries in every way to leave its control groups and to lift their limits, then starts what it may not.
ESCAPE = """
import ctypes, os, subprocess, sys
C = ctypes.CDLL(None)
WRITES = {"cgroup.procs": "0", "tasks": "0", "pids.max": "max", "memory.limit_in_bytes": "-1",
          "memory.max": "max", "cpu.shares": "99999", "cpu.weight": "9999"}

def write(path, text):
    try:
        with open(path, "w") as file: file.write(text)
    except OSError: pass

def try_all(folder):  # to leave for the top; and every limit of this lab, or of a hierarchy mounted here
    for root, _, files in os.walk(folder):
        for name in WRITES.keys() & set(files):
            top = root == folder and name in ("cgroup.procs", "tasks")
            if top or sys.argv[2] in root or root.startswith("/run/"): write(f"{root}/{name}", WRITES[name])

def mount(source, target, kind, flags=0, data=None):
    return C.mount(source.encode(), target.encode(), kind and kind.encode(), flags, data and data.encode())

def mine():
    with open("/proc/self/mountinfo") as mounts: return [line.split(" ")[4] for line in mounts]

def attempt():
    for place in ["/sys/fs/cgroup", *mine()]:
        if place.startswith("/sys"):
            mount("none", place, None, 32); mount("none", place, None, 32 | 4096); try_all(place)
    for place in reversed(mine()):
        if place.startswith(("/sys", "/proc")): C.umount2(place.encode(), 2)
    for name in ("sysfs", "proc"):
        os.makedirs(f"/run/{name}", exist_ok=True)
        mount(name, f"/run/{name}", name); try_all(f"/run/{name}")
    for kind, data in (("cgroup2", None), ("cgroup", "pids"), ("cgroup", "memory"), ("cgroup", "cpu")):
        target = f"/run/{kind}-{data}-{os.getpid()}"
        os.makedirs(target, exist_ok=True)
        if not mount("none", target, kind, 0, data):
            made = f"{target}/mine"
            try: os.mkdir(made)
            except OSError: pass
            try_all(target)

attempt()
C.unshare(0x02000000)  # a control group namespace
attempt()
C.unshare(0x10000000 | 0x20000 | 0x02000000)  # with a user namespace and mounts below the guest's
attempt()
write("/proc/sys/kernel/pid_max", "99999")
started = []
try:
    for _ in range(int(sys.argv[1])): started.append(subprocess.Popen(["sleep", "60"]))
except OSError: pass
print(len(started), flush=True)
for each in started: each.kill()
"""
# Files that root writes, and what it writes to them changes nothing: whether they can be opened counts.
SETTINGS = """
import os
places = ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"]
for top in ("/sys", "/proc/irq", "/proc/fs", "/proc/bus"):
    for folder, _, names in os.walk(top):
        places += [os.path.join(folder, name) for name in names]
for place in places:
    try:
        os.close(os.open(place, os.O_WRONLY | os.O_NONBLOCK))
        print(place)
    except OSError:
        pass
"""

Vswitch = Callable[..., "subprocess.CompletedProcess[str]"]


DIFFERENCES = Path(__file__).parents[2] / "docs/reference/known-differences.md"


def as_we_are(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vswitch.cli.main import main; main()", *words]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


class Site:
    """A lab, and how to run `vswitch` at it."""

    def __init__(self, vswitch: Vswitch) -> None:
        self.vswitch, self.name = vswitch, f"test-{uuid.uuid4().hex[:12]}"

    def exec(self, guest: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.vswitch("exec", "--lab", self.name, guest, "--", *argv)

    def python(self, guest: str, script: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.exec(guest, sys.executable, "-c", script, *argv)


def _running(mark: str) -> int:
    """How many processes of this machine have `mark` as an argument."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += mark.encode() in entry.read_bytes().split(b"\0")
    return found


@pytest.fixture(scope="module", params=["as we are", "as an ordinary user"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ordinary = request.param == "as an ordinary user"
    if ordinary:
        require_ordinary_user()
    site = Site(as_ordinary_user if ordinary else as_we_are)
    layout = Path("/tmp") / f"vswitch-{site.name}.yaml"  # where other users can read it
    layout.write_text(LAYOUT)
    try:
        up = site.vswitch("up", str(layout), "--name", site.name)
        layout.unlink()
        assert up.returncode == 0, up.stderr
        yield site
    finally:
        layout.unlink(missing_ok=True)
        site.vswitch("down", site.name)
    groups = Path("/sys/fs/cgroup")
    wait_until(lambda: not list(groups.rglob(f"vswitch-{site.name}-*")), "its control groups have gone")


def test_a_guest_has_its_own_processes_name_and_files(site: Site) -> None:
    seen = site.exec("web01", "sh", "-c", "hostname; cat /proc/1/cmdline | tr '\\0' ' '; ls /run; ls /proc")
    name, first, *rest = seen.stdout.splitlines()
    assert (name, "hold web01" in first) == ("web01", True)
    assert sum(entry.isdigit() for entry in rest) <= 5
    assert not {"vswitch", "netns"} & set(rest)  # the lab's sockets and other guests' networks


def test_a_guest_has_every_right_over_its_own_network_only(site: Site, requires: Callable[..., None]) -> None:
    requires("nft", "tcpdump")
    own = site.exec(
        "web01", "sh", "-ec",
        "ip addr add 10.9.9.9/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1; nft add table inet mine;"
        "nft list tables; nft delete table inet mine; ip addr del 10.9.9.9/24 dev eth0; ping -c1 -W2 web02",
    )  # fmt: skip
    assert own.returncode == 0, own.stderr
    assert "table inet mine" in own.stdout
    serving = site.python("web01", "import socket; socket.socket().bind(('', 81)); print('bound')")
    assert serving.stdout == "bound\n"
    sniffing = "timeout 10 tcpdump -c1 -lni eth0 ip & sleep 1; ping -c3 -i0.3 web02 >/dev/null; wait"
    captured = site.exec("web01", "sh", "-c", sniffing)
    assert "10.0.10.1" in captured.stdout, captured.stderr

    ours = os.readlink("/proc/self/ns/net")
    ways = "for way in /proc/[0-9]*/ns/net; do nsenter --net=$way readlink /proc/self/ns/net; done"
    hidden = "umount -l /proc; umount -l /run; ls /run/netns; cat /proc/1/cmdline"
    found = site.exec("web01", "sh", "-c", f"{ways}; readlink /proc/self/ns/net; {hidden}").stdout
    assert len({line for line in found.splitlines() if line.startswith("net:")}) == 1
    assert ours not in found
    assert "hold\0web01" in found


def test_killing_all_it_sees_ends_only_the_guests_own(site: Site) -> None:
    site.exec("web01", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
    site.exec("web02", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
    site.python("web01", "import os, signal; os.kill(-1, signal.SIGKILL)")
    assert "sleep 1000" not in site.exec("web01", "ps", "ax").stdout
    assert "sleep 1000" in site.exec("web02", "ps", "ax").stdout
    assert site.exec("web01", "ping", "-c1", "-W2", "web02").returncode == 0
    site.python("web02", "import os, signal; os.kill(-1, signal.SIGKILL)")


def test_a_fork_bomb_is_held_and_the_lab_answers(site: Site) -> None:
    mark = f"bomb-{site.name}"
    lit = 'exec "$@" >/dev/null 2>&1 &'
    assert site.exec("web01", "sh", "-c", lit, "sh", sys.executable, "-c", BOMB, mark).returncode == 0
    wait_until(lambda: _running(mark) > MOST_PROCESSES // 2, "the bomb has gone off")
    probing = ("probe", "--lab", site.name, "web02", "web01", "http", "--timeout", "10", "-o", "json")
    probed = site.vswitch(*probing)
    assert json.loads(probed.stdout)["reports"][0]["outcome"] == "open", probed.stdout + probed.stderr
    assert site.exec("web02", "ping", "-c1", "-W10", "web01").returncode == 0
    assert MOST_PROCESSES // 2 < _running(mark) <= MOST_PROCESSES
    # The way in stays open, and what the documentation says ends it.
    cure = re.search(r"vswitch exec GUEST -- sh -c '([^']+)'", DIFFERENCES.read_text(encoding="utf-8"))
    assert cure
    cured = site.exec("web01", "sh", "-c", cure[1])
    assert (cured.returncode, cured.stderr) == (0, "")
    wait_until(lambda: not _running(mark), "the bomb has been put out")
    assert site.exec("web01", "ping", "-c1", "-W5", "web02").returncode == 0


def _limits() -> dict[Path, str]:
    """What the control groups of guests are limited to."""
    names = ("pids.max", "memory.max", "memory.limit_in_bytes", "cpu.shares", "cpu.weight")
    found = {}
    for folder, _, files in os.walk("/sys/fs/cgroup"):  # passes over what goes meanwhile, with its lab
        if Path(folder).name.startswith("vswitch-"):
            for path in (Path(folder, name) for name in names if name in files):
                with suppress(OSError):
                    found[path] = path.read_text()
    return found


def test_a_guest_cannot_take_its_limits_off(site: Site) -> None:
    site.exec("web02", "true")
    ours = {path: limit for path, limit in _limits().items() if site.name in str(path)}
    ran = site.python("web01", ESCAPE, str(MOST_PROCESSES + 100), site.name)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < MOST_PROCESSES
    assert ours.items() <= _limits().items()


def test_a_guest_writes_no_setting_of_the_machine(site: Site) -> None:
    assert site.python("web01", SETTINGS).stdout.splitlines() == []


def test_a_guest_cannot_take_all_memory(site: Site) -> None:
    size = most_memory() if most_memory() < 4 << 30 else 0
    if not size:
        limits = site.exec("web01", "cat", "/proc/self/limits", "/proc/self/oom_score_adj").stdout
        groups = site.exec("web01", "cat", "/proc/self/cgroup").stdout
        (space,) = (line.split()[3] for line in limits.splitlines() if line.startswith("Max address space"))
        assert space == str(most_memory()) or "vswitch-" in groups
        assert limits.splitlines()[-1] == "1000"
        return
    assert "got it all" not in site.python("web01", HOG, str(size)).stdout


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("no-such-program", 127, "web01: no-such-program is not installed on this machine"),
        ("/no/such/file", 127, "web01: there is no /no/such/file on this machine"),
        ("/etc/passwd", 126, "web01: /etc/passwd cannot be executed"),
    ],
)
def test_what_cannot_be_run_is_named(site: Site, program: str, status: int, said: str) -> None:
    for words in ((), ("--timeout", "30")):
        ran = site.vswitch("exec", "--lab", site.name, *words, "web01", "--", program)
        assert ran.returncode == status
        assert said in ran.stderr
        assert "nsenter" not in ran.stderr


def test_nothing_of_a_guest_outlives_its_lab(tmp_path: Path) -> None:
    site = Site(as_we_are)
    layout = tmp_path / "layout.yaml"
    layout.write_text(LAYOUT)
    try:
        assert site.vswitch("up", str(layout), "--name", site.name).returncode == 0
        lit = 'exec "$@" >/dev/null 2>&1 &'
        sleeper = (sys.executable, "-c", "import time; time.sleep(1000)", site.name)
        site.exec("web01", "sh", "-c", lit, "sh", *sleeper)
        assert _running(site.name)
    finally:
        assert site.vswitch("down", site.name).returncode == 0
    wait_until(lambda: not _running(site.name), "what ran in the guest has ended")
    assert not list(Path("/sys/fs/cgroup").rglob(f"vswitch-{site.name}-*"))
