"""What newcomers type first: help in every form, options in front, words in the wrong place."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT, POLICY, Run
from vswitch.cli.front import arranged
from vswitch.lab import isolation
from vswitch.lab.process import client
from vswitch.model.names import find_name

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a layout and its policy; the current one."""
    (tmp_path / "office.yaml").write_text(LAYOUT + "policies: [policy.yaml]\n")
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labs that seem to run: change the list."""
    names: list[str] = []
    monkeypatch.setattr(client, "running", lambda: names)
    return names


# ------------------------------------------------------------------ help

HELP = ["", "--", "-h", "--help", "help", "-o json", "-- --help", "-o json help"]


@pytest.mark.parametrize("line", HELP)
def test_who_names_no_command_gets_all_of_them(run: Run, line: str) -> None:
    ran = run(*line.split())
    assert (ran.status, ran.err) == (0, "")
    assert all(f" {command} " in ran.out for command in ("up", "ps", "explain", "help", "hyperv"))


@pytest.mark.parametrize("line", ["", "--", "help", "--version"])
def test_a_process_of_its_own_says_the_same_in_any_folder(tmp_path: Path, line: str) -> None:
    program = [sys.executable, "-c", "from vswitch.cli.entry import main; main()", *line.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("Usage" if line != "--version" else "vswitch ") in done.stdout


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        ("help probe", "vswitch probe [OPTIONS]"),
        ("help hyperv", "vswitch hyperv [OPTIONS] COMMAND"),
        ("help hyperv plan", "vswitch hyperv plan [OPTIONS]"),
        ("hyperv help plan", "vswitch hyperv plan [OPTIONS]"),
        ("hyperv help", "vswitch hyperv [OPTIONS] COMMAND"),
        ("hyperv", "vswitch hyperv [OPTIONS] COMMAND"),
        ("-o json hyperv", "vswitch hyperv [OPTIONS] COMMAND"),
        ("help help", "vswitch help [OPTIONS]"),
        ("PROBE -h", "vswitch probe [OPTIONS]"),
    ],
)
def test_help_for_one_command(run: Run, line: str, usage: str) -> None:
    ran = run(*line.split())
    assert ran.status == 0
    assert f"Usage: {usage}" in " ".join(ran.out.split())


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(run: Run, option: str) -> None:
    ran = run(option)
    assert ran.status == 0
    name, number = ran.out.split()
    assert (name, number[:1].isdigit()) == ("vswitch", True)


# ------------------------------------------------------------------ a word that is no command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("porbe a b http", "did you mean 'probe'?"),
        ("status", "did you mean `vswitch ps`?"),
        ("stop", "did you mean `vswitch down`?"),
        ("version", "did you mean `vswitch --version`?"),
        ("office.yaml", "vswitch up office.yaml"),
        ("hyperv pln", "did you mean 'plan'?"),
        ("help porbe", "did you mean 'probe'?"),
        ("--verison", "did you mean '--version'?"),
        ("-f office.yaml explain a b http", "vswitch COMMAND -f"),
        ("hyperv -i fleet.yaml plan x", "vswitch hyperv COMMAND -i"),
    ],
)
@pytest.mark.parametrize("output", [(), ("--output", "json")], ids=["text", "json"])
def test_what_is_no_command_is_answered_with_one(
    run: Run, line: str, said: str, output: tuple[str, ...]
) -> None:
    ran = run(*line.split(), *output)
    assert ran.status == 2
    assert said in (ran.json["hint"] if output else ran.err)


# ------------------------------------------------------------------ options in front of the command


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("-o json ps", "ps --output json"),
        ("--output json ps", "ps --output json"),
        ("--output=json ps -l x", "ps --output json -l x"),
        ("-ojson ps", "ps --output json"),
        ("-l LAB probe a b http", "probe --lab LAB a b http"),
        ("--lab=LAB -o json exec a -- ls -l x", "exec --lab LAB --output json a -- ls -l x"),
        ("-o json hyperv import hv01", "hyperv import --output json hv01"),
        ("hyperv -o json plan x", "hyperv plan --output json x"),
        ("-- ps", "ps"),
        ("ps -o json", "ps -o json"),
        ("-o", "-o"),
        ("--version ps", "--version ps"),
    ],
)
def test_options_in_front_are_those_of_the_command(line: str, meant: str) -> None:
    assert arranged(line.split()) == meant.split()


def test_options_in_front_work(run: Run, files: Path, labs: list[str]) -> None:
    assert run("-o", "json", "ps").json == []
    assert run("--output=json", "validate", "office.yaml").json[0]["guests"] == 3
    ran = run("-l", "never", "-o", "json", "probe", "a", "b", "http")
    assert (ran.status, ran.json["message"]) == (2, "no lab named 'never' runs")


@pytest.mark.parametrize(
    "line",
    ["-o json hv01", "hv01 -o json", "hv01 --out json", "hv01 --out=json x", "-ojson hv01", "-o text"],
)
def test_import_says_how_its_format_is_chosen(run: Run, files: Path, line: str) -> None:
    ran = run("hyperv", "import", *line.split())
    assert ran.status == 2
    said = ran.out + ran.err  # it may have been understood as a wish for JSON
    assert f"--output {'text' if 'text' in line else 'json'}" in said
    assert "-o layout.yaml policy.yaml" in said
    assert sorted(path.name for path in files.iterdir()) == ["office.yaml", "policy.yaml"]


@pytest.mark.parametrize("line", ["-o json", "--output json", "-o text"])
def test_a_schema_is_json_however_it_is_asked_for(run: Run, line: str) -> None:
    ran = run("schema", "policy", *line.split())
    assert ran.status == 0
    assert "properties" in ran.json


# ------------------------------------------------------------------ exec


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("-l LAB web01 ls -l /x", "-l LAB web01 -- ls -l /x"),
        ("web01 ip --brief address", "web01 -- ip --brief address"),
        ("web01 -o json ip -h", "web01 -o json -- ip -h"),
        ("--timeout 3 web01 sh -c 'ls -l'", "--timeout 3 web01 -- sh -c 'ls -l'"),
    ],
)
def test_exec_says_where_the_dashes_belong(run: Run, labs: list[str], line: str, meant: str) -> None:
    ran = run("exec", *shlex.split(line))
    assert ran.status == 2
    assert "-- is missing" in ran.out + ran.err
    assert f"Write: vswitch exec {meant}" in ran.out + ran.err


@pytest.mark.parametrize(
    "line",
    ["web01 true", "web01 -- ls -l", "web01 --timeout 3 true", "-o text web01 cat -", "web01 ls -- -l"],
)
def test_exec_without_options_of_its_own_needs_no_dashes(run: Run, labs: list[str], line: str) -> None:
    ran = run("exec", *line.split())
    assert "no lab runs" in ran.err


# ------------------------------------------------------------------ ends of a question, traffic


def explain(run: Run, *words: str) -> str:
    ran = run("explain", *words, "-f", "office.yaml")
    assert ran.status in (0, 1), ran.err
    return ran.out


@pytest.mark.parametrize(
    "ends",
    [
        ("10.0.10.2", "10.0.10.1"),
        ("10.0.10.2/24", "web01"),
        ("web02", "10.0.10.1"),
        ("WEB02", "Web01"),
        ("web02/network adapter", "web01/ETH0"),
        ("Web02/10.0.10.2", "web01"),
    ],
)
def test_ends_are_found_by_address_and_without_regard_to_case(
    run: Run, files: Path, ends: tuple[str, str]
) -> None:
    assert "http-in (policy.yaml:3:5)" in explain(run, *ends, "http")


def test_of_names_that_differ_in_case_alone_the_one_written_is_meant() -> None:
    names = ["web01", "WEB01", "sql01"]
    assert [find_name(word, names) for word in ("WEB01", "web01", "Web01", "SQL01", "sql")] == [
        "WEB01", "web01", None, "sql01", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("10.0.10.77", "in its subnet are: 10.0.10.1 (web01), 10.0.10.2 (web02)"),
        ("192.0.2.1", "there are:"),
        ("wbe01", "did you mean 'web01'?"),
        ("help", "there are:"),
        ("any", "there are:"),
        ("web01/10.0.0.1", "it has: 10.0.10.1"),
        ("web01/Netwerk Adapter", "did you mean 'Network Adapter'?"),
    ],
)
def test_an_end_that_is_not_there(run: Run, files: Path, end: str, said: str) -> None:
    ran = run("explain", end, "web02", "http", "-f", "office.yaml")
    assert ran.status == 2
    assert said in ran.err
    assert said.startswith("did you mean") or "did you mean" not in ran.err


def test_an_address_of_several_guests_asks_which(run: Run, files: Path) -> None:
    (files / "office.yaml").write_text(
        LAYOUT.replace("10}, addresses: [10.0.10.2", "20}, addresses: [10.0.10.1")
    )
    ran = run("explain", "10.0.10.1", "web02", "http", "-f", "office.yaml")
    assert ran.status == 2
    assert "web01/10.0.10.1, web02/10.0.10.1" in ran.err


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        ("445", "did you mean tcp/445 or udp/445?"),
        ("445:50000", "did you mean tcp/445:50000 or udp/445:50000?"),
        ("8000-8010", "did you mean tcp/8000-8010 or udp/8000-8010?"),
        ("tcp:445", "did you mean tcp/445?"),
        ("445/tcp", "did you mean tcp/445?"),
        ("htpt", "did you mean 'http'?"),
        ("icpm", "did you mean 'icmp'?"),
        ("pign", "did you mean 'ping'?"),
    ],
)
def test_traffic_that_is_nearly_right(run: Run, files: Path, traffic: str, said: str) -> None:
    ran = run("explain", "web02", "web01", traffic, "-f", "office.yaml")
    assert ran.status == 2
    assert said in ran.err


@pytest.mark.parametrize(
    "traffic", ["help", "any", "ANY", "all", "none", "--help", "*", "version", "test", "everything"]
)
def test_what_is_no_misspelt_name_gets_no_suggestion(run: Run, files: Path, traffic: str) -> None:
    ran = run("explain", "-f", "office.yaml", "--", "web02", "web01", traffic)
    assert ran.status == 2
    assert "did you mean" not in ran.err
    assert "tcp/445" in ran.err


@pytest.mark.parametrize(
    ("missing", "meant"), [("office", "did you mean office.yaml?"), ("fleet", "fleet.yml?"), ("other", "")]
)
def test_a_file_without_its_ending(run: Run, files: Path, missing: str, meant: str) -> None:
    (files / "fleet.yml").write_text("")
    ran = run("validate", missing)
    assert ran.status == 2
    assert "no such file" in ran.err
    assert meant in ran.err
    assert meant or "did you mean" not in ran.err


@pytest.mark.parametrize("words", [("schema", "Policy"), ("schema", "LAYOUT", "-o", "JSON")])
def test_words_of_a_choice_in_any_case(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).json["$schema"]


# ------------------------------------------------------------------ which lab


def test_a_lab_is_found_without_regard_to_case_where_that_leaves_one(run: Run, labs: list[str]) -> None:
    labs += ["Office", "OFFICE", "Shop"]
    for typed, meant in (("shop", "Shop"), ("Office", "Office"), ("office", "office")):
        ran = run("-l", typed, "log")
        assert f"no lab named {meant!r} runs" in ran.err


# ------------------------------------------------------------------ the kernel's datapath


def test_the_kernels_datapath_needs_root(
    run: Run, files: Path, labs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "check", lambda: None)
    monkeypatch.setattr(isolation, "needs_user_namespace", lambda: True)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    ran = run("up", "office.yaml", "--kernel-datapath")
    assert ran.status == 1
    assert "only root" in ran.err
    assert "leave out --kernel-datapath" in ran.err


def test_the_kernels_datapath_needs_its_module(
    run: Run, files: Path, labs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "check", lambda: None)
    monkeypatch.setattr(isolation, "needs_user_namespace", lambda: False)
    monkeypatch.setattr(isolation, "_KERNEL_DATAPATH", "ovs_nowhere")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    ran = run("up", "office.yaml", "--kernel-datapath", "-o", "json")
    assert ran.status == 1
    assert ran.json["error"] == "EnvironmentError"
    assert "no Open vSwitch" in ran.json["message"]
    assert "modprobe openvswitch" in ran.json["hint"]
    monkeypatch.setattr(isolation, "_KERNEL_DATAPATH", "nlctrl")  # every kernel has this one
    isolation.check_kernel_datapath()
