"""Labs from outside: coming up, being asked, going down, and being killed in every way there is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.known import known
from tests.support.running_lab import wait_until
from vswitch.errors import EnvironmentError_, InputError, InputErrors, LabError, NoSuchLab, VswitchError
from vswitch.lab import isolation
from vswitch.lab.building.lab import Lab
from vswitch.lab.process import client, finding
from vswitch.model.resolving.sources import Sources
from vswitch.textfiles import read_text

pytestmark = pytest.mark.lab


def asked(name: str, op: str, **args: Any) -> Any:
    """What the lab answers, as JSON."""
    return client.call(name, op, **args)


LAYOUT = """\
name: tiny
networks:
  lan:
    vlans: [10]
    clients:
      client: {vlan: 10, addresses: [10.0.10.9/24]}
hosts:
  hv01:
    switches:
      vs-lan: {type: External, network: lan}
    vms:
      web01:
        adapters:
          - {switch: vs-lan, vlan: {access: 10}, addresses: [10.0.10.11/24, "2001:db8:10::11/64"]}
        services: [http]
      app01:
        adapters:
          - {switch: vs-lan, vlan: {access: 10}, addresses: [10.0.10.12/24, "2001:db8:10::12/64"]}
"""


@dataclass(frozen=True)
class Surroundings:
    """What a lab could leave behind on this machine."""

    interfaces: frozenset[str]
    mounts: str
    run: frozenset[str]

    @classmethod
    def now(cls) -> Surroundings:
        return cls(
            frozenset(os.listdir("/sys/class/net")),
            Path("/proc/self/mounts").read_text(),
            frozenset(os.listdir("/run")),
        )


def parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                found[int(entry.name)] = int(stat[stat.rindex(")") + 1 :].split()[1])
    return found


@dataclass(frozen=True)
class Running:
    """A lab and its processes, by this machine's process ids."""

    name: str
    pids: dict[int, str]

    @classmethod
    def find(cls, name: str) -> Running:
        family = set(finding.holders(name))
        tree = parents()
        while fresh := {pid for pid, parent in tree.items() if parent in family} - family:
            family |= fresh
        pids = {}
        for pid in family:
            with contextlib.suppress(OSError):
                pids[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return cls(name, pids)

    def pid(self, words: str) -> int:
        (found,) = (
            pid for pid, line in self.pids.items() if line.startswith(words) or f" -m {words}" in line
        )
        return found

    def wait_gone(self, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while alive := [line for pid, line in self.pids.items() if is_alive(pid)]:
            assert time.monotonic() < deadline, f"still there: {alive}"
            time.sleep(0.01)
        assert self.name not in client.running()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def layout(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(LAYOUT)
    return str(path)


@pytest.fixture
def start(layout: str) -> Iterator[Callable[..., str]]:
    """Starts labs of the tiny layout and returns their names; whatever happens, they end with the test."""
    try:
        isolation.check()
    except EnvironmentError_ as error:
        pytest.skip(str(error))
    before = Surroundings.now()
    started: list[str] = []

    def up(switching: str = "normal", path: str | None = None) -> str:
        name = f"test {uuid.uuid4().hex[:8]}"
        _, sources = Sources.read(path or layout, read=read_text)
        client.start(name, sources, options={"switching": switching})
        started.append(name)
        return name

    yield up
    for name in started:
        with contextlib.suppress(NoSuchLab):
            client.down(name)
    assert Surroundings.now() == before


def run(name: str, guest: str, *argv: str, timeout: float | None = 20) -> subprocess.CompletedProcess[str]:
    command, descriptors = client.guest_command(name, guest, argv, timeout=timeout)
    try:
        return subprocess.run(command, pass_fds=descriptors, capture_output=True, text=True, check=False)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def pings(name: str, source: str, target: str) -> bool:
    return run(name, source, "ping", "-c1", "-W2", target).returncode == 0


def test_a_lab_comes_up_answers_and_goes_down(start: Callable[..., str]) -> None:
    name = start()
    assert name in client.running()
    assert asked(name, "ping") == "pong"
    assert [guest["name"] for guest in asked(name, "guests")] == [
        "client",
        "hv01",
        "web01",
        "app01",
    ]
    assert pings(name, "client", "10.0.10.11")
    assert pings(name, "web01", "2001:db8:10::12")
    assert pings(name, "app01", "web01")  # by name
    (flows,) = asked(name, "flows").values()
    assert flows[0]["n_packets"] > 0
    lab = Running.find(name)
    client.down(name)
    lab.wait_gone(0)
    with pytest.raises(NoSuchLab, match="runs"):
        asked(name, "ping")


def test_commands_in_guests(start: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    name = start()
    assert client.exec_in_guest(name, "web01", ["sh", "-c", "ip -4 -o addr show eth0; exit 7"]) == 7
    assert "10.0.10.11/24" in capfd.readouterr().out
    assert client.exec_in_guest(name, "web01", ["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM
    with pytest.raises(LabError, match=r"sleep in web01 did not end within 0\.5 s"):
        client.exec_in_guest(name, "web01", ["sleep", "60"], timeout=0.5)
    with pytest.raises(InputError, match="no guest 'web02'") as caught:
        client.exec_in_guest(name, "web02", ["true"])
    assert "web01" in caught.value.hint
    ours = Path("/proc/self/ns")
    inside = run(name, "web01", "readlink", "/proc/self/ns/net", "/proc/self/ns/pid").stdout.split()
    assert os.readlink(ours / "net") not in inside
    assert os.readlink(ours / "pid") not in inside


def test_nothing_in_a_lab_inherits_the_password_of_real_hosts(
    start: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = {f"VSWITCH_HYPERV_{name}": f"no-{uuid.uuid4().hex}" for name in ("PASSWORD", "USER", "SITE2")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VSWITCH_OTHER", "passed on")
    lab = start()
    assert client.exec_in_guest(lab, "web01", ["env"]) == 0
    shown = capfd.readouterr().out
    assert "VSWITCH_OTHER=passed on" in shown
    seen = {pid: Path(f"/proc/{pid}/environ").read_bytes().decode() for pid in Running.find(lab).pids}
    assert sum("VSWITCH_OTHER=passed on" in text for text in seen.values()) > 4
    for text in (shown, *seen.values()):
        assert not [value for value in secrets.values() if value in text]


def test_services_listen(start: Callable[..., str]) -> None:
    name = start()
    script = (
        "import urllib.request; print(urllib.request.urlopen('http://10.0.10.11', timeout=3).read().decode())"
    )
    assert "web01 tcp/80" in run(name, "client", sys.executable, "-c", script).stdout


def test_two_labs_run_side_by_side_and_a_name_only_once(start: Callable[..., str], layout: str) -> None:
    one, other = start(), start()
    assert {one, other} <= set(client.running())
    client.down(one)
    assert pings(other, "client", "web01")
    _, sources = Sources.read(layout, read=read_text)
    with pytest.raises(LabError, match="runs already") as caught:
        client.start(other, sources)
    assert "vswitch down" in caught.value.hint
    assert pings(other, "client", "web01")


def test_unknown_requests_are_refused(start: Callable[..., str]) -> None:
    name = start()
    with pytest.raises(LabError, match="does not know 'nonsense'"):
        asked(name, "nonsense")
    with pytest.raises(NoSuchLab, match="no lab named 'another'"):
        asked("another", "ping")
    with pytest.raises(InputError, match="no switch 'hv09/x'"):
        asked(name, "flows", switch="hv09/x")


@pytest.mark.parametrize(
    "victim",
    ["unshare", "init", "vswitch.lab.process.supervisor", "ovs-vswitchd", "ovsdb-server"],
)
def test_killing_any_pillar_ends_all_of_the_lab(start: Callable[..., str], victim: str) -> None:
    name = start()
    run(name, "web01", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
    lab = Running.find(name)
    assert any("sleep 1000" in line for line in lab.pids.values())
    if victim == "init":
        pid = next(
            pid for pid, line in lab.pids.items() if "isolation/init.py" in line and "unshare" not in line
        )
    else:
        pid = next(
            pid
            for pid, line in lab.pids.items()
            if line.split(" ")[0].rpartition("/")[2].startswith(victim)
            or f"-m {victim} " in line.partition(" -- ")[0]
        )
    os.kill(pid, signal.SIGKILL)
    lab.wait_gone()


def test_a_lab_that_hangs_can_be_taken_down(
    start: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = start()
    lab = Running.find(name)
    hung = next(
        pid for pid, line in lab.pids.items() if "process.supervisor" in line and "init.py" not in line
    )
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(client, "_DOWN_PATIENCE", 0.5)
    client.down(name)
    lab.wait_gone()


def test_switches_can_be_asked(start: Callable[..., str]) -> None:
    name = start()
    assert pings(name, "client", "web01")
    (counters,) = asked(name, "counters").values()
    assert counters["0x0"][0] > 0
    trace = asked(name, "trace", switch="hv01/vs-lan", flow="in_port=1,dl_vlan=10,arp")
    assert [(flow["table"], flow["match"]) for flow in trace["flows"]] == [(0, "")]
    assert trace["outputs"]
    assert asked(name, "connections") == {"hv01": []}
    wait_until(
        lambda: sum(port["rx_packets"] > 0 for port in asked(name, "ports", host="hv01").values()) > 1,
        "the request and its answer are counted at two ports",
    )
    assert set(asked(name, "status")["processes"]) >= {"supervisor", "services", "ovs-vswitchd of lan"}
    os.kill(Running.find(name).pid("vswitch.lab.building.guest_services"), signal.SIGKILL)
    wait_until(lambda: "services has ended" in asked(name, "log"), "its end is in the log")


def test_a_killed_service_process_is_replaced(start: Callable[..., str]) -> None:
    name = start()
    os.kill(Running.find(name).pid("vswitch.lab.building.guest_services"), signal.SIGKILL)
    deadline = time.monotonic() + 10
    script = (
        "import urllib.request; print(urllib.request.urlopen('http://10.0.10.11', timeout=3).read().decode())"
    )
    while "web01" not in run(name, "client", sys.executable, "-c", script).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert asked(name, "status")["restarts"]["services"] == 1


def test_a_killed_controller_changes_no_verdict_and_comes_back(start: Callable[..., str]) -> None:
    name = start("hyper-v")
    assert pings(name, "client", "web01")
    os.kill(Running.find(name).pid("vswitch.controller"), signal.SIGKILL)
    assert pings(name, "client", "web01")
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(LabError):
            if asked(name, "controller_status")["missing"] == []:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert asked(name, "controller_status")["reconciled_flows"] == 0
    assert asked(name, "status")["restarts"]["controller"] == 1


def test_a_killed_guest_process_harms_nothing(start: Callable[..., str]) -> None:
    name = start()
    run(name, "web01", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
    lab = Running.find(name)
    os.kill(next(pid for pid, line in lab.pids.items() if line.startswith("sleep")), signal.SIGKILL)
    assert pings(name, "client", "web01")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_start_cut_short_leaves_nothing(
    start: Callable[..., str], layout: str, sent: signal.Signals
) -> None:
    del start  # for its check of the surroundings
    name = f"test {uuid.uuid4().hex[:8]}"
    script = (
        "import sys, time\n"
        "from vswitch.lab.process import client\n"
        "from vswitch.model.resolving.sources import Sources\n"
        "from vswitch.textfiles import read_text\n"
        "def say(text):\n"
        "    print(text, flush=True)\n"
        "    time.sleep(60)  # the start is not over before it is cut short, however slow the test is\n"
        "sources = Sources.read(sys.argv[2], read=read_text)[1]\n"
        "client.start(sys.argv[1], sources, options={'switching': 'normal'}, progress=say)\n"
        "print('up', flush=True)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, name, layout],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with starter:
        assert "starting" in known(starter.stdout).readline()
        lab = Running.find(name)
        assert lab.pids
        starter.send_signal(sent)
        assert "up" not in known(starter.stdout).read()
    lab.wait_gone()


def test_a_ctrl_c_while_the_process_is_made_leaves_none(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        made.append(popen(*words, **options))
        signal.raise_signal(signal.SIGINT)  # as it comes before whoever called has the process
        return made[-1]

    monkeypatch.setattr("subprocess.Popen", interrupted)
    name = f"test {uuid.uuid4().hex[:8]}"
    with pytest.raises(KeyboardInterrupt):
        client.start(name, Sources.read(layout, read=read_text)[1])
    assert [process.returncode for process in made] == [-signal.SIGKILL]
    wait_until(lambda: name not in client.running(), "the lab has gone")


def test_an_attached_lab_ends_with_whoever_started_it(start: Callable[..., str], layout: str) -> None:
    del start
    name = f"test {uuid.uuid4().hex[:8]}"
    script = (
        "import sys\n"
        "from vswitch.lab.process import client\n"
        "from vswitch.model.resolving.sources import Sources\n"
        "from vswitch.textfiles import read_text\n"
        "sources = Sources.read(sys.argv[2], read=read_text)[1]\n"
        "client.start(sys.argv[1], sources, options={'switching': 'normal'}, attached=True)\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, name, layout],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert known(starter.stdout).readline() == "up\n"
        lab = Running.find(name)
        assert pings(name, "client", "web01")
        starter.kill()
    lab.wait_gone()


def test_bad_input_reaches_whoever_started(start: Callable[..., str]) -> None:
    del start
    broken = Sources("a.yaml", {"a.yaml": "name: x\nhosts: {hv: {switchs: {}}}\n"}, None)
    with pytest.raises(InputErrors) as caught:
        client.start("test broken", broken)
    assert all(isinstance(error, InputError) for error in caught.value.errors)
    assert "test broken" not in client.running()


def test_a_lab_is_not_built_outside_a_private_world(layout: str) -> None:
    site, sources = Sources.read(layout, read=read_text)
    if isolation.inside():
        pytest.skip("these tests run in a private world themselves")
    with pytest.raises(LabError, match="private world only"):
        Lab(site, sources).up()


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "search_path", lambda: "/nonexistent")
    with pytest.raises(EnvironmentError_, match="ovs-vswitchd") as caught:
        isolation.check()
    assert "openvswitch-switch" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("unshare: unshare failed: Operation not permitted\n", "does not let you make namespaces"),
        ("unshare: write failed /proc/self/uid_map: Operation not permitted\n", "make namespaces"),
        ("unshare: mount /proc failed: Operation not permitted\n", "cannot be mounted"),
        ("unshare: fork failed: Resource temporarily unavailable\n", "run out of processes"),
    ],
)
def test_refused_namespaces_are_explained(words: str, message: str) -> None:
    error = isolation.explain_failure(words)
    assert isinstance(error, VswitchError)
    assert message in error.message
    assert error.hint
    assert isolation.explain_failure("something else") is None
