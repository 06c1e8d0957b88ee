"""The command line without a lab: help, wrong usage, wrong files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.support.command_line import LAYOUT, POLICY, Run
from vswitch.cli.main import app
from vswitch.lab import isolation
from vswitch.lab.process import client

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)  # type: ignore[union-attr]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a layout, its policy and some broken files; the current one."""
    (tmp_path / "good.yaml").write_text(LAYOUT + "policies: [policy.yaml]\n")
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "broken.yaml").write_text("name: x\nhosts: [\n")
    (tmp_path / "unknown.yaml").write_text(LAYOUT + "polices: [policy.yaml]\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labs that seem to run: change the list."""
    names: list[str] = []
    monkeypatch.setattr(client, "running", lambda: names)
    return names


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(run: Run, command: str) -> None:
    ran = run(command, "--help")
    assert ran.status == 0
    assert f"Example: vswitch {command}" in " ".join(ran.out.split())


def test_help_names_every_command(run: Run) -> None:
    ran = run("--help")
    assert ran.status == 0
    listed = [line.strip(" \u2502").partition(" ")[0] for line in ran.out.splitlines()]
    assert sorted(set(COMMANDS) - set(listed)) == []


WRONG_USAGE = [
    ("nonsense",),
    ("up",),
    ("probe", "a"),
    ("flows", "--bogus"),
    ("schema", "everything"),
    ("ps", "--output", "xml"),
    ("probe", "a", "b", "http", "--timeout", "soon"),
]


@pytest.mark.parametrize("words", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_status_2(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).status == 2


@pytest.mark.parametrize("words", [("up",), ("probe", "a"), ("flows", "--bogus")], ids=" ".join)
def test_wrong_usage_is_json_where_json_is_wanted(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words, "--output", "json")
    assert ran.status == 2
    assert ran.json["error"] == "InputError"
    assert ran.json["message"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.yaml", "missing.yaml: the file cannot be read: no such file"),
        ("folder", "folder: this is a folder, not a file"),
        ("broken.yaml", "broken.yaml:3:1"),
        ("unknown.yaml", "did you mean 'policies'"),
        ("binary.yaml", "this is not a layout"),
        ("empty.yaml", "empty.yaml"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "up", "test"])
def test_a_wrong_file_is_named(run: Run, files: Path, command: str, name: str, said: str) -> None:
    ran = run(command, name)
    assert ran.status == 2
    assert said.lower() in ran.err.lower()
    assert not ran.out


def test_errors_are_json_where_json_is_wanted(run: Run, files: Path) -> None:
    ran = run("validate", "unknown.yaml", "-o", "json")
    assert ran.status == 2
    (single,) = ran.json["errors"]
    assert (single["file"], single["error"]) == ("unknown.yaml", "InputError")
    assert single["line"] == LAYOUT.count("\n") + 1


def test_validate_counts_what_is_there(run: Run, files: Path) -> None:
    ran = run("validate", "good.yaml", "--output=json")
    assert ran.status == 0
    (report,) = ran.json
    assert (report["guests"], report["acls"], report["warnings"]) == (3, 3, [])
    assert "ok good.yaml" in run("validate", "good.yaml", "policy.yaml").out


def test_validate_of_a_policy_alone_says_what_to_do(run: Run, files: Path) -> None:
    ran = run("validate", "policy.yaml")
    assert ran.status == 2
    assert "--policy" in ran.err


@pytest.mark.parametrize("kind", ["layout", "policy"])
def test_schema_is_json(run: Run, kind: str) -> None:
    ran = run("schema", kind)
    assert ran.status == 0
    assert "properties" in ran.json


# ------------------------------------------------------------------ which lab

NEED_A_LAB = [
    ("apply", "policy.yaml"),
    ("down",),
    ("exec", "web01", "--", "true"),
    ("shell", "web01"),
    ("log",),
    ("probe", "a", "b", "http"),
    ("explain", "a", "b", "http"),
    ("flows",),
    ("counters",),
    ("mac-table",),
]


@pytest.mark.parametrize("words", NEED_A_LAB, ids=lambda words: words[0])
def test_no_lab_runs(run: Run, files: Path, labs: list[str], words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.status == 2
    assert "no lab runs" in ran.err
    assert "vswitch up" in ran.err


@pytest.mark.parametrize("words", NEED_A_LAB, ids=lambda words: words[0])
def test_two_labs_run(run: Run, files: Path, labs: list[str], words: tuple[str, ...]) -> None:
    labs += ["one", "two"]
    ran = run(*words)
    assert ran.status == 2
    assert "--lab: one, two" in ran.err


@pytest.mark.parametrize("words", NEED_A_LAB, ids=lambda words: words[0])
def test_a_lab_that_does_not_run(run: Run, files: Path, words: tuple[str, ...]) -> None:
    ran = run(words[0], "--lab", "surely-not-there", *words[1:])
    assert ran.status == 2
    assert "no lab named 'surely-not-there' runs" in ran.err


def test_ps_without_labs(run: Run, labs: list[str]) -> None:
    assert "vswitch up" in run("ps").out
    assert run("ps", "-o", "json").json == []


# ------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        ("htpt", "http"),
        ("tcp/70000", "70000"),
        ("tcp/90-80", "90-80"),
        ("tcp", "tcp"),
        ("", "''"),
        ("udp/53:99999", "99999"),
        ("ip/999", "999"),
    ],
)
@pytest.mark.parametrize("command", ["probe", "explain"])
def test_wrong_traffic(run: Run, labs: list[str], command: str, traffic: str, said: str) -> None:
    labs.append("one")
    ran = run(command, "a", "b", traffic)
    assert ran.status == 2
    assert said in ran.err.lower()


@pytest.mark.parametrize("command", ["probe", "explain"])
def test_both_ip_versions_exclude_each_other(run: Run, labs: list[str], command: str) -> None:
    labs.append("one")
    ran = run(command, "a", "b", "http", "-4", "-6")
    assert ran.status == 2
    assert "exclude each other" in ran.err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_no_time_to_wait(run: Run, labs: list[str], seconds: str) -> None:
    labs.append("one")
    for words in (("probe", "a", "b", "http"), ("exec", "web01")):
        ran = run(words[0], f"--timeout={seconds}", *words[1:], *([] if words[0] == "probe" else ["true"]))
        assert ran.status == 2
        assert "more than 0" in ran.err


def test_json_words_after_the_dashes_are_the_commands_own(run: Run, labs: list[str]) -> None:
    ran = run("exec", "web01", "--", "ip", "--output", "json")
    assert ran.err.startswith("error: no lab runs")


def test_explain_without_a_lab(run: Run, files: Path) -> None:
    ran = run("explain", "web02", "web01", "http", "--layout", "good.yaml")
    assert ran.status == 0
    assert "http-in (policy.yaml:3:5)" in ran.out
    ran = run("explain", "web02", "web01", "tcp/445", "-f", "good.yaml", "--steps")
    assert ran.status == 1
    assert "no-more (policy.yaml:5:5)" in ran.out
    assert "open vswitch" not in ran.out.lower()


def test_explain_answers_every_part_of_a_range(run: Run, files: Path) -> None:
    ran = run("explain", "web02", "web01", "tcp/79-81", "-f", "good.yaml", "-o", "json")
    assert ran.status == 1
    assert [(a["ports"], a["verdict"]) for a in ran.json["answers"]] == [
        ("79", "Deny"),
        ("80", "Allow"),
        ("81", "Deny"),
    ]


def test_explain_with_another_policy(run: Run, files: Path) -> None:
    (files / "open.yaml").write_text("{}\n")
    words = ("explain", "web02", "web01", "icmp")
    assert run(*words, "-f", "good.yaml").status == 1
    assert run(*words, "-f", "good.yaml", "-p", "open.yaml").status == 0
    assert run(*words, "-p", "open.yaml").status == 2


def test_an_unknown_guest_without_a_lab(run: Run, files: Path) -> None:
    ran = run("explain", "web3", "web01", "http", "-f", "good.yaml")
    assert ran.status == 2
    assert "web3" in ran.err
    assert "web02" in ran.err  # a name that would do, and is not one of the words


def test_a_test_without_expectations_proves_nothing(run: Run, files: Path) -> None:
    ran = run("test", "good.yaml")
    assert ran.status == 2
    assert "expect" in ran.err


def test_a_report_that_cannot_be_written_is_said_before_any_lab_starts(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "start", lambda *_, **__: pytest.fail("a lab was started"))
    (files / "good.yaml").write_text(
        (files / "good.yaml").read_text()
        + "expect: [{from: web01, to: web02, traffic: http, verdict: Allow}]\n"
    )
    ran = run("test", "good.yaml", "--junit", "nowhere/report.xml")
    assert ran.status == 2
    assert "nowhere/report.xml" in ran.err


def test_policies_and_none_exclude_each_other(run: Run, files: Path) -> None:
    assert run("up", "good.yaml", "--no-policy", "--policy", "policy.yaml").status == 2


# ------------------------------------------------------------------ this machine


@pytest.mark.parametrize("output", ["text", "json"])
def test_programs_that_are_not_installed(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setenv("PATH", str(files))
    monkeypatch.setattr(isolation, "_SBIN", ())
    ran = run("up", "good.yaml", "--output", output)
    assert ran.status == 1
    if output == "json":
        assert ran.json["error"] == "EnvironmentError"
        assert "openvswitch-switch" in ran.json["hint"]
    else:
        assert "ovs-vswitchd" in ran.err
        assert "apt install" in ran.err


def test_no_tun_device(run: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_TUN", files / "tun")
    ran = run("up", "good.yaml")
    assert ran.status == 1
    assert "modprobe tun" in ran.err


def test_a_tun_device_that_may_not_be_opened(run: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_TUN", files / "folder")  # not even root opens that for writing
    ran = run("up", "good.yaml")
    assert ran.status == 1
    assert "cannot be opened for reading and writing" in ran.err
    assert "chmod 666" in ran.err


def test_a_log_file_that_cannot_be_written(run: Run, files: Path) -> None:
    ran = run("up", "good.yaml", "--name", "never-up", "--log-file", "nowhere/log")
    assert ran.status == 1
    assert "nowhere/log" in ran.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("unshare: unshare failed: Operation not permitted", "kernel.apparmor_restrict_unprivileged_userns"),
        ("unshare: write failed /proc/self/uid_map: Operation not permitted", "user.max_user_namespaces"),
        ("unshare: mount /proc failed: Operation not permitted", "--privileged"),
        ("unshare: fork failed: Resource temporarily unavailable", "ulimit -u"),
    ],
)
def test_what_unshare_says_is_put_into_words(words: str, hint: str) -> None:
    error = isolation.explain_failure(f"something before\n{words}\n")
    assert error
    assert hint in error.hint


def test_what_nobody_knows_is_left_alone() -> None:
    assert isolation.explain_failure("") is None
    assert isolation.explain_failure("a flow was refused\n") is None


def test_a_fault_of_our_own_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from vswitch.cli import main as module

    def broken() -> list[str]:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(client, "running", broken)
    monkeypatch.setattr("sys.argv", ["vswitch", "ps", "-o", "json"])
    with pytest.raises(SystemExit) as raised:
        module.main()
    assert raised.value.code == 70
    out, err = capfd.readouterr()
    assert "ZeroDivisionError" in json.loads(out)["message"]
    assert "Traceback" not in out + err
    monkeypatch.setenv("VSWITCH_DEBUG", "1")
    with pytest.raises(SystemExit) as raised:
        module.main()
    assert raised.value.code == 70
    out, err = capfd.readouterr()
    assert not out
    assert "in broken" in err


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("command", ["drift", "plan", "verify"])
def test_a_fault_of_our_own_does_not_look_like_a_difference(
    files: Path, monkeypatch: pytest.MonkeyPatch, command: str, debug: str
) -> None:
    from vswitch.cli import hyperv
    from vswitch.cli import main as module

    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(hyperv, "load", broken)
    monkeypatch.setenv("VSWITCH_DEBUG", debug)
    monkeypatch.setattr("sys.argv", ["vswitch", "hyperv", command, "good.yaml"])
    with pytest.raises(SystemExit) as raised:
        module.main()
    assert raised.value.code == 70


def test_what_cannot_be_loaded_does_not_look_like_an_answer(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise RuntimeError('half installed')")
    done = subprocess.run(
        [sys.executable, "-c", "from vswitch.cli.entry import main; main()", "ps"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == "error: vswitch cannot be loaded: RuntimeError: half installed\n"


def test_saying_no_is_no_fault(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from vswitch.cli import main as module

    def ask() -> list[str]:
        raise typer.Abort

    monkeypatch.setattr(client, "running", ask)
    for words in (["ps"], ["ps", "-o", "json"]):
        monkeypatch.setattr("sys.argv", ["vswitch", *words])
        with pytest.raises(SystemExit) as raised:
            module.main()
        assert raised.value.code == 1
        assert "fault" not in "".join(capfd.readouterr())


def test_validate_finds_what_the_lab_would_refuse(run: Run, files: Path) -> None:
    rule = (
        "  - {{name: r{0}, adapters: web01, direction: Inbound, action: Allow, protocol: TCP,"
        " local_port: {0}, weight: {0}, stateful: true, idle_session_timeout: {0}}}\n"
    )
    (files / "policy.yaml").write_text("extended_acls:\n" + "".join(map(rule.format, range(60, 67))))
    ran = run("validate", "good.yaml")
    assert ran.status == 2
    assert "policy.yaml:" in ran.err
    assert "too many different idle_session_timeout values" in ran.err
