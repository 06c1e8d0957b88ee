"""Commands at a running lab: what they print, their exit status, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import LAYOUT, POLICY, Run
from tests.support.running_lab import RunningLab, wait_until
from vswitch.lab.process import client
from vswitch.pipeline import compile_site
from vswitch.wording import visible

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _lab_chosen(lab: RunningLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VSWITCH_LAB", lab.name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "layout.yaml").write_text(LAYOUT)


#: Commands, what their text has to show, and what their JSON has to hold, so that {} or [] will not do.
JSON_COMMANDS: list[tuple[tuple[str, ...], str, Callable[[Any], object]]] = [
    (
        ("ps",),
        "web01",
        lambda data: "web01" in [guest["name"] for lab in data for guest in lab["guests"]],
    ),
    (("probe", "web02", "web01", "http"), "open", lambda data: data["reports"][0]["outcome"] == "open"),
    (("explain", "web02", "web01", "http"), "http-in", lambda data: data["answers"][0]["verdict"] == "Allow"),
    (("apply", "policy.yaml"), "flows changed", lambda data: data["in_force"] == "new"),
    (("flows",), "hv01", lambda data: all(flows for flows in data.values())),
    (("counters", "--all"), "no-more", lambda data: "no-more" in json.dumps(data)),
    (("mac-table",), "hv01", lambda data: {"hv01/vs"} == {row["switch"] for row in data}),
    (("log",), "said", lambda data: isinstance(data["log"], str)),
]


@pytest.mark.parametrize(
    ("words", "shown", "holds"), JSON_COMMANDS, ids=[words[0] for words, *_ in JSON_COMMANDS]
)
def test_results_are_text_or_json(
    run: Run, words: tuple[str, ...], shown: str, holds: Callable[[Any], object]
) -> None:
    text = run(*words)
    assert (text.status, text.err) == (0, "")
    assert shown in text.out
    data = run(*words, "--output", "json")
    assert (data.status, data.err) == (0, "")
    assert holds(data.json), data.out


def test_ps_names_the_lab_and_its_guests(run: Run, lab: RunningLab) -> None:
    (entry,) = run("ps", "--lab", lab.name, "-o", "json").json
    assert entry["lab"] == lab.name
    assert {guest["name"] for guest in entry["guests"]} == {"hv01", "web01", "web02"}


def test_the_banner_of_a_guest_acts_on_nothing(run: Run, lab: RunningLab) -> None:
    banner = "\x1b[2J\u202e\u2028ok\r\nweb02 -> web01 tcp/8080: open [red]:a:"
    serve = (
        "import socket, sys, threading\n"
        "server = socket.create_server(('', 8080))\n"
        "def serve():\n"
        f"    while True: c, _ = server.accept(); c.sendall({banner.encode()!r}); c.close()\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", "from vswitch.cli.entry import main; main()", "exec", "web01", "--"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, sys.executable, "-c", serve], stdin=pipe, stdout=pipe, cwd=ROOT
    ) as server:
        assert server.stdin
        assert server.stdout
        try:
            assert server.stdout.readline() == b"up\n"
            ran = run("probe", "web02", "web01", "tcp/8080")
        finally:
            server.stdin.close()
    assert visible(banner.partition("\r")[0]) in ran.out
    lines = ran.out.split("\n")
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("web02 -> web01") for line in lines) == 1


def test_the_counters_of_a_range_are_those_of_its_groups(run: Run) -> None:
    data = run("probe", "web02", "web01", "tcp/79-82", "-o", "json").json
    assert [report["ports"] for report in data["reports"]] == ["79", "80", "81-82"]
    moves = [
        (move["before"], move["after"])
        for report in data["reports"]
        for move in report["counters"]
        if move["rule"]["name"] == "no-more" and move["moved"]
    ]
    (first, between), (again, last) = moves
    assert first < between == again < last  # asked one after the other: no packet is counted twice


def test_probe_says_open_filtered_or_refused(run: Run) -> None:
    found = {}
    for traffic in ("http", "tcp/445"):
        ran = run("probe", "web02", "web01", traffic, "--timeout", "0.4", "-o", "json")
        (report,) = ran.json["reports"]
        found[traffic] = (ran.status, report["outcome"], report["agrees"])
    refused = run("probe", "web02", "web01", "tcp/8080", "-o", "json")
    assert found == {"http": (0, "open", True), "tcp/445": (1, "filtered", True)}
    assert (refused.status, refused.json["reports"][0]["outcome"]) == (1, "refused")


def test_a_filtered_probe_shows_the_rule_and_its_counter(run: Run) -> None:
    ran = run("probe", "web02", "web01", "udp/53", "--timeout", "0.4")
    assert ran.status == 1
    assert "no-more (policy.yaml:5:5)" in ran.out
    assert "counter" in ran.out
    assert "fix" in ran.out


@pytest.mark.parametrize("command", ["probe", "explain"])
def test_an_unknown_guest_gets_the_nearest_match(run: Run, command: str) -> None:
    ran = run(command, "web2", "web01", "http")
    assert ran.status == 2
    assert "web02" in ran.err


def test_a_guest_and_itself(run: Run) -> None:
    assert "one machine" in run("probe", "web01", "web01", "http").err


@pytest.mark.parametrize("traffic", ["tcp/0", "udp/0-9", "tcp/1-60000"])
def test_ports_that_cannot_be_probed(run: Run, traffic: str) -> None:
    ran = run("probe", "web02", "web01", traffic)
    assert ran.status == 2
    assert "explain" in ran.err


def test_a_family_that_the_ends_do_not_share(run: Run) -> None:
    ran = run("probe", "web02", "web01", "http", "-6")
    assert ran.status == 1
    assert "no address of the same IP version" in ran.out


def test_flows_of_one_switch_and_table(run: Run) -> None:
    data = run("flows", "--switch", "hv01/vs", "--table", "inbound_extended", "-o", "json").json
    assert data.keys() == {"hv01/vs"}
    assert {flow["table"] for flow in data["hv01/vs"]} == {"inbound_extended"}
    assert any("no-more (policy.yaml:5:5) at web01" in flow["means"] for flow in data["hv01/vs"])


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("flows", "--table", "inbund"), 2, "inbound_extended"),
        (("flows", "--table", "999"), 2, "inbound_extended"),
        (("flows", "--switch", "hv09/vs"), 2, "hv01/vs"),
        (("counters", "--switch", "hv09/vs"), 2, "hv01/vs"),
    ],
)
def test_unknown_tables_and_switches(run: Run, words: tuple[str, ...], status: int, said: str) -> None:
    ran = run(*words)
    assert ran.status == status
    assert said in ran.err


def test_apply_of_a_broken_policy_changes_nothing(run: Run, lab: RunningLab, tmp_path: Path) -> None:
    before = lab.flows()
    (tmp_path / "bad.yaml").write_text(POLICY.replace("action: Deny", "action: Dney"))
    ran = run("apply", "bad.yaml")
    assert ran.status == 2
    assert "bad.yaml:5:" in ran.err
    assert "Deny" in ran.err
    as_json = run("apply", "bad.yaml", "-o", "json")
    assert as_json.status == 2
    assert as_json.json["errors"][0]["file"] == "bad.yaml"
    assert run("apply", "nowhere.yaml").status == 2
    assert lab.flows() == before


def test_apply_reports_what_changed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        POLICY.replace("action: Deny,", "action: Deny, local_ip_address: 10.0.10.1,")
    )
    changed = run("apply", "policy.yaml", "-o", "json").json
    assert changed["switches"][0]["switch"] == "hv01/vs"
    assert changed["flows_changed"] > 0
    (tmp_path / "policy.yaml").write_text(POLICY)
    assert "live sessions ended" in run("apply", "policy.yaml").out


# ------------------------------------------------------------------ exec


def test_exec_passes_output_and_status_on(run: Run) -> None:
    ran = run("exec", "web01", "--", "ip", "-brief", "-4", "address", "show", "eth0")
    assert (ran.status, "10.0.10.1/24" in ran.out) == (0, True)
    assert run("exec", "web01", "--", "sh", "-c", "exit 7").status == 7


@pytest.mark.parametrize("words", [("web3", "--", "true"), ("web0", "--", "true")])
def test_exec_in_an_unknown_guest(run: Run, words: tuple[str, ...]) -> None:
    ran = run("exec", *words)
    assert ran.status == 2
    assert "did you mean" in ran.err.lower()


def test_exec_of_a_command_that_hangs(run: Run) -> None:
    ran = run("exec", "--timeout", "0.3", "web01", "--", "sleep", "60")
    assert ran.status == 1
    assert ran.err.strip() == "error: sleep in web01 did not end within 0.3 s"


def test_exec_of_what_is_not_there(run: Run) -> None:
    ran = run("exec", "web01", "--", "no-such-program")
    assert ran.status == 127
    assert "no-such-program" in ran.err


# ------------------------------------------------------------------ disagreements


def test_a_disagreement_is_shouted(run: Run, lab: RunningLab) -> None:
    """A Deny flow deleted behind the controller's back lets packets through."""
    flows = compile_site(lab.site())["hv01"].switches["br0"].flows.values()
    denies = [flow for flow in flows if flow.rule and flow.rule.name == "no-more"]
    assert denies
    for flow in denies:
        lab.delete_flow(0, flow.cookie)
    try:
        ran = run("explain", "web02", "web01", "tcp/445")
        assert ran.status == 1
        assert "DISAGREEMENT" in ran.out
        assert run("explain", "web02", "web01", "tcp/445", "-o", "json").json["agrees"] is False
        ran = run("probe", "web02", "web01", "icmp")
        assert ran.status == 1, "it is open, and should not be"
        assert "DISAGREEMENT" in ran.out
    finally:
        lab.restart_controller()
    ran = run("explain", "web02", "web01", "tcp/445")
    assert "DISAGREEMENT" not in ran.out
    assert "Open vSwitch agrees" in ran.out


# ------------------------------------------------------------------ up and down


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from vswitch.cli.main import main; main()", *words]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_up_and_down(run: Run) -> None:
    name = f"updown-{os.getpid()}"
    try:
        ran = run("up", "layout.yaml", "--name", name, "--policy", "policy.yaml", "-o", "json")
        assert ran.status == 0
        assert ran.json["lab"] == name
        assert ran.json["files"] == ["layout.yaml", "policy.yaml"]
        again = run("up", "layout.yaml", "--name", name)
        assert again.status == 1
        assert f"a lab named '{name}' runs already" in again.err
        assert f"vswitch down {name}" in again.err
    finally:
        ran = run("down", name)
    assert (ran.status, ran.out) == (0, f"down: {name}\n")
    assert run("down", name).status == 2


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.6])
def test_an_interrupted_up_leaves_nothing(moment: float) -> None:
    """The sessions' own check finds processes, namespaces and interfaces that are left."""
    name = f"interrupted-{os.getpid()}"
    process = start("up", "layout.yaml", "--name", name)
    try:
        wait_until(lambda: name in client.running() or process.poll() is not None, "the lab is starting")
        time.sleep(moment)  # anywhere in the start, which takes about a second
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        if name in client.running() and process.returncode == 0:
            client.down(name)
    assert "Traceback" not in out + err
    if process.returncode:  # else it was up before it was interrupted
        assert process.returncode == 130
        # Whoever pressed Ctrl-C is not kept waiting: on a busy machine the kernel still clears away.
        wait_until(lambda: name not in client.running(), "the lab has gone")
