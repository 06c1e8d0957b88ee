"""A lab as a Mininet network: from a script, and from the `mn` command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vswitch.errors import EnvironmentError_
from vswitch.lab import isolation

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = """\
name: mininet
hosts:
  hv01:
    switches:
      vs-lab: {type: Private}
    vms:
      web-01:
        adapters: [{switch: vs-lab, addresses: [10.0.0.1/24]}]
      web-02:
        adapters: [{switch: vs-lab, addresses: [10.0.0.2/24, "2001:db8::2/64"]}]
      silent:
        adapters: [{switch: vs-lab}]
"""


@pytest.fixture
def layout(tmp_path: Path) -> str:
    try:
        isolation.check()
    except EnvironmentError_ as error:
        pytest.skip(str(error))
    if not shutil.which("mnexec"):
        pytest.skip("mnexec is not installed")
    path = tmp_path / "mininet.yaml"
    path.write_text(LAYOUT)
    return str(path)


def finish(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    before = (os.listdir("/sys/class/net"), os.listdir("/run"), Path("/proc/self/mounts").read_text())
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        cwd="/",
        env=isolation.environment(),
    )
    assert (os.listdir("/sys/class/net"), os.listdir("/run"), Path("/proc/self/mounts").read_text()) == before
    return done


def test_the_mininet_api_works_twice_in_one_script(layout: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import json, sys
        from vswitch.lab.isolation import enter
        enter()
        from vswitch.lab.mininet_net import LabNet
        from mininet.log import setLogLevel
        setLogLevel("warning")
        found = []
        for _ in range(2):
            with LabNet.load(sys.argv[1], switching="normal") as net:
                web = net.get("web-01")
                web.sendCmd("echo sent")
                found.append({
                    "sent": web.waitOutput().strip(),
                    "cmd": web.cmd("ip -4 -o addr show eth0"),
                    "ip": [host.IP() for host in net.hosts],
                    "mac": web.MAC() in web.cmd("ip link show eth0"),
                    "lost": net.pingAll("1"),
                    "popen": web.popen(["cat", "/proc/sys/net/ipv4/ip_forward"]).communicate()[0].decode(),
                    "pexec": web.pexec("false")[2],
                    "speeds": len(net.iperf([web, net["web-02"]], seconds=1)),
                    "flows": net["hv01/vs-lab"].dpctl("dump-flows"),
                    "links": [str(link) for link in net.links],
                    "shells": sum(bool(node.shell) for node in net.values()),
                })
        print(json.dumps(found))
        """)
    )
    done = finish([sys.executable, str(script), layout])
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1]):
        assert found["sent"] == "sent"
        assert "10.0.0.1/24" in found["cmd"]
        assert found["ip"] == [None, "10.0.0.1", "10.0.0.2"]
        assert found["mac"]
        assert found["lost"] == 0
        assert found["popen"] == "0\n"
        assert found["pexec"] == 1
        assert found["speeds"] == 2
        assert "actions=NORMAL" in found["flows"]
        assert len(found["links"]) == 3
        assert found["shells"] == 2  # only guests that were given a command have one


def _mn_commands() -> list[str]:
    own = Path(sys.executable).with_name("mn")
    found = [str(own)] if own.exists() else []
    system = Path("/usr/bin/mn")
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2] == tuple(map(int, sys.argv[1:])))",
         *map(str, sys.version_info[:2])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found + ([str(system)] if system.exists() and version.stdout == "True\n" else [])


@pytest.mark.parametrize("mn", _mn_commands())
def test_mn_loads_a_layout_and_leaves_nothing(layout: str, mn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    commands = "web-01 ping -c1 web-02\nhv01/vs-lab ip -br link\ndpctl dump-flows\npingall 1\nexit\n"
    custom = [
        "--custom",
        str(ROOT / "topologies/mn.py"),
        "--topo",
        f"layout,{layout}",
        "--controller",
        "none",
    ]
    done = finish([mn, *custom], commands)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "1 packets transmitted, 1 received" in said
    assert "0% dropped (2/2 received)" in said
    assert "p2@" in said
    assert "cookie=0x" in said
    assert "completed in" in said


def test_mn_reports_a_mistake_in_a_layout_with_its_place(layout: str) -> None:
    mn = Path(sys.executable).with_name("mn")
    if not mn.exists():
        pytest.skip("mn is not in this environment")
    Path(layout).write_text(LAYOUT.replace("type: Private", "type: Privat"))
    custom = [
        "--custom",
        str(ROOT / "topologies/mn.py"),
        "--topo",
        f"layout,{layout}",
        "--controller",
        "none",
    ]
    done = finish([str(mn), *custom])
    assert done.returncode == 2
    assert f"{layout}:5:" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "pkill" not in done.stdout + done.stderr
