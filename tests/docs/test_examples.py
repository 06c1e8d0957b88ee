"""The examples in the documentation are run, and print what they show there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.host import HypervHost
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from tests.support.winrm.runs import PASSWORD
from vswitch.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SET_UP = re.compile(r"\./scripts/|source ")
EXPLAINED = "topologies/router-vm.yaml"  # where no layout is named beside an example of `explain`
PLAN_ID = re.compile(r"\b20\d{6}-\d{6}-[0-9a-f]{6}\b")
FROM_A_LAB = re.compile(r" +(evidence|flow|counter|observed|seen at|dropped) ")

# What differs from run to run, and what is written in its place before texts are compared.
VARYING = [
    (PLAN_ID, "PLAN"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)?( m?s\b)"), r"#\2"),
    (re.compile(r"\b\d+ -> \d+"), "# -> #"),
    (re.compile(r"\b(?!1 )\d+ (requests|replies|packets)"), r"# \1"),
    (re.compile(r"\(\d+ sent\)"), "(# sent)"),
    (re.compile(r"\bup \d+ (second|minute)s?\b"), "up # #"),
    (re.compile(r"started in /.*"), "started in FOLDER"),
    (re.compile(r" of \d+ flows"), " of # flows"),
    (re.compile(r"\b((my-[a-z-]+|two)\.yaml):\d+:\d+"), r"\1:#:#"),  # files of the reader's own
]

MINE = {
    "my-mistakes.yaml": """\
name: office
networks: {lan: {}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan}}
    vms:
      web01:
        adapters: [{switch: vs, mac: 00-15-5D-01-02-0X, adresses: [10.0.10.1/24]}]
""",
    "my-layout.yaml": """\
name: office
hosts: {hv01: {switches: {vs: {type: Private}}, vms: {a: {adapters: [{switch: vs}]}}}}
""",
    "my-policy.yaml": """\
extended_acls:
  - {name: icmp, adapters: a, direction: Inbound, action: Allow, protocol: 1, weight: 9, stateful: true}
  - {name: deny, adapters: a, direction: Inbound, action: Deny, protocol: TCP, weight: 8, stateful: true,
     local_port: 80}
  - {name: port, adapters: a, direction: Inbound, action: Allow, weight: 7,
     local_port: 80}
""",
    "two.yaml": """\
name: two
hosts:
  hv01:
    switches: {vs: {type: Internal}}
    management_os: {adapters: [{switch: vs, addresses: [172.20.0.1/24]}]}
    nat:
      - {name: one, internal_ip_interface_address_prefix: 172.20.0.0/24}
      - {name: two, internal_ip_interface_address_prefix: 172.21.0.0/24}
""",
    "my-other-policy.yaml": """\
extended_acls:
  - {name: one, adapters: a, direction: Inbound, action: Allow, weight: 10}
  - {name: two, adapters: a, direction: Inbound, action: Deny, weight: 10}
""",
}


@dataclass(frozen=True)
class Example:
    """A command at a prompt and what it is said to print; `place` is where that is said.

    `layout` is the shipped layout that the text after it names.
    """

    place: str
    command: str
    shown: tuple[str, ...]
    layout: str


def examples(path: Path) -> Iterator[Example]:
    """The commands of all ```console blocks of a file, also of those inside of lists."""
    text = path.read_text(encoding="utf-8")
    for block in re.finditer(r"^( *)```console\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        named = re.search(r"\*Reproduce\*: `(topologies/[\w-]+\.yaml)`", text[block.end() :])
        line = text.count("\n", 0, block.start()) + 2
        for command in re.finditer(rf"^{block[1]}\$ (.*\n)((?!{block[1]}\$ ).*\n)*", block[2], re.MULTILINE):
            first, *shown = (each.removeprefix(block[1]) for each in command[0].splitlines())
            place = f"{path.relative_to(ROOT)}:{line + block[2].count(chr(10), 0, command.start())}"
            yield Example(place, first.removeprefix("$ "), tuple(shown), named[1] if named else EXPLAINED)


def comparable(line: str) -> str:
    for pattern, instead in VARYING:
        line = pattern.sub(instead, line)
    return line.rstrip()


def differences(example: Example, printed: str) -> str:
    """Empty if this was printed; a line `...` stands for any lines."""
    patterns = [
        r"(?:.*\n)*" if line.strip() == "..." else re.escape(comparable(line)) + "\n"
        for line in example.shown
    ]
    got = "".join(f"{comparable(line)}\n" for line in printed.splitlines())
    if re.fullmatch("".join(patterns), got):
        return ""
    return f"{example.place}: $ {example.command}\nprints\n{printed}\nand not\n" + "\n".join(example.shown)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped layouts, the current one; no lab is chosen."""
    shutil.copytree(ROOT / "topologies", tmp_path / "topologies")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VSWITCH_LAB", raising=False)
    return tmp_path


def all_of(pattern: str) -> list[Example]:
    # The tutorial is run as a whole.
    found = [each for path in DOCS if path.name != "tutorial.md" for each in examples(path)]
    return [each for each in found if re.match(pattern, each.command)]


def printed(words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """What `vswitch` prints, run in this process."""
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        main()
    return "".join(capfd.readouterr())


@pytest.mark.parametrize("example", all_of("vswitch validate"), ids=lambda example: example.place)
def test_an_example_of_validate(
    example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, text in MINE.items():
        (folder / name).write_text(text)
    assert not differences(example, printed(shlex.split(example.command), monkeypatch, capfd))


@pytest.mark.parametrize("example", all_of("vswitch explain"), ids=lambda example: example.place)
def test_an_example_of_explain(
    example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it shows is said, in this order; it may leave out the rest, and what only a lab knows."""
    words = [*shlex.split(example.command), "--layout", example.layout]
    lines = iter(printed(words, monkeypatch, capfd).splitlines())
    missing = [line for line in example.shown if not FROM_A_LAB.match(line) and line not in lines]
    assert not missing, example.place


REFERENCE = ["import", "plan", "apply", "confirm", "verify", "drift", "backups", "rollback", "export"]
STORIES = {
    "reference": [ROOT / "docs/reference/hyperv" / f"{name}.md" for name in REFERENCE],
    "how-to": [ROOT / "docs/how-to/hyperv.md"],
}


@pytest.mark.parametrize("pages", STORIES.values(), ids=STORIES)
def test_the_examples_of_real_hosts_are_a_story_that_happens(
    pages: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On one modelled host, from the first page to the last; a plan is called what it was called before."""
    monkeypatch.setenv("VSWITCH_STATE", str(folder / "state"))
    monkeypatch.setenv("VSWITCH_HYPERV_PASSWORD", PASSWORD)
    monkeypatch.delenv("VSWITCH_INVENTORY", raising=False)
    shop = Shop(folder)
    names: dict[str, str] = {}  # of plans: in the text -> here
    wrong = []
    with WinrmEndpoint(host_handler(HypervHost(shop.state))) as endpoint:
        fleet_of(endpoint)
        for example in (each for page in pages for each in examples(page)):
            words = shlex.split(example.command.partition(" || ")[0], comments=True)
            words = [names.get(word, word) for word in words]
            if words[0] == "sed":
                subprocess.run(words, cwd=folder, check=True)
                continue
            assert words[:2] == ["vswitch", "hyperv"], example.place
            said = printed(words, monkeypatch, capfd)
            if " || " not in example.command:
                wrong.append(differences(example, said))
            # From the end, because what is left out stands at the beginning.
            texts = ("\n".join(example.shown), said)
            names.update(zip(*(PLAN_ID.findall(text)[::-1] for text in texts), strict=False))
    assert not any(wrong), "\n\n".join(filter(None, wrong))


def test_output_of_real_hosts_is_shown_only_where_it_is_compared() -> None:
    compared = [each for pages in STORIES.values() for page in pages for each in examples(page)]
    assert not [each for each in all_of("vswitch hyperv") if each.shown and each not in compared]


@pytest.mark.lab
def test_the_tutorial(folder: Path) -> None:
    steps = [each for each in examples(ROOT / "docs/tutorial.md") if not SET_UP.match(each.command)]
    mark = "----- next -----"
    commands = [f"{each.command}\necho '{mark}'" for each in steps]
    # A network namespace of their own hides other labs of this user, and this one from other tests.
    alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-current-user"])]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*alone, "bash", "-c", "\n".join(["trap 'vswitch down --all >/dev/null' EXIT", *commands])],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    parts = done.stdout.split(f"{mark}\n")
    wrong = [differences(*each) for each in zip(steps, parts, strict=False)]
    assert not any(wrong), "\n\n".join(filter(None, wrong))
    assert len(parts) == len(steps) + 1, parts[-1]


def test_a_difference_would_be_seen() -> None:
    example = Example("here", "command", ("up in 2.8 s: 1 host", "...", "0 -> 2, 4 requests"), "")
    assert not differences(example, "up in 13.1 s: 1 host\nmore\n0 -> 7, 2 requests\n")
    assert not differences(example, "up in 13.1 s: 1 host\n0 -> 7, 2 requests\n")
    assert differences(example, "up in 13.1 s: 1 hosts\n0 -> 7, 2 requests\n")
    assert differences(example, "up in 13.1 s: 1 host\n0 -> 7, 1 requests\n")
    assert len(all_of("vswitch explain")) > 8
    assert len(all_of("vswitch validate")) > 3
