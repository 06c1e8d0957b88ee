"""A short text that stands for more than a machine holds is refused before it is made."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.model_files import LAYOUT, reader
from vswitch.errors import InputError, InputErrors
from vswitch.model import load_site
from vswitch.model.files import yaml_text as yamltext
from vswitch.model.files.file_limits import MOST_ENTRIES, MOST_GROUP_DEPTH, MOST_VALUES, Budget, LayoutBudgets
from vswitch.model.resolving import loader as loader_module
from vswitch.model.resolving.memo import Memo
from vswitch.model.site import Site

HOSTS = "name: x\nhosts:\n  h:\n    switches: {vs: {type: Internal}}\n    vms:\n"
ADDRESSES = ", ".join(f"10.0.{number >> 8}.{number & 255}" for number in range(1000))
PORTS = ", ".join(map(str, range(1000, 2000)))
RULE = "adapters: web01/Network Adapter, direction: Inbound, action: Allow"


def layout(adapter: str, count: int, services: str = "[]") -> str:
    """A layout of `count` VMs with one adapter of these settings each."""
    return HOSTS + "".join(
        f"      v{number}: {{adapters: [{{switch: vs, mac: 02-00-00-00-{number >> 8:02x}-{number & 255:02x},"
        f" {adapter}}}], services: {services}}}\n"
        for number in range(count)
    )


def refused(text: str = LAYOUT, policy: str = "{}") -> list[InputError]:
    """The mistakes of a layout and a policy."""
    with pytest.raises(InputErrors) as caught:
        load_site("l.yaml", ["p.yaml"], read=reader(layout=text, policy=policy))
    return list(caught.value.errors)


def load(policy: str, memo: Memo | None = None) -> Site:
    return load_site("l.yaml", ["p.yaml"], read=reader(policy=policy), memo=memo)


@pytest.mark.parametrize(
    ("rule", "total"),
    [
        (f"{RULE}, protocol: [TCP, UDP], local_port: [{PORTS}], remote_port: [{PORTS}]", "2,000,000"),
        (f"{RULE}, local_ip_address: [{ADDRESSES}], remote_ip_address: [{ADDRESSES}, 10.1.0.0]", "1,001,000"),
        (f"{RULE}, remote_ip_address: g, local_ip_address: ['::1', 10.0.0.1], protocol: TCP, "
         f"local_port: [{PORTS}, 1]", "1,001,000"),
        ("adapters: '*', direction: Both, action: Deny, protocol: TCP, remote_ip_address: g, "
         f"local_port: [{PORTS}]", "8,000,000"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lead", ["  - ", "  - &a "], ids=["in pieces", "as a whole"])
def test_a_rule_that_multiplies_is_counted_first(lead: str, rule: str, total: str) -> None:
    policy = f"groups: {{g: [{ADDRESSES}]}}\nextended_acls:\n{lead}{{name: bomb, {rule}}}\n"
    tracemalloc.start()
    try:
        errors = refused(policy=policy)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert [str(error.where) for error in errors] == ["p.yaml:3:5"], errors
    assert errors[0].message == f"the rule 'bomb' makes {total} entries; all policies may make 1,000,000"
    assert errors[0].hint.startswith("it is ")


def counted(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(loader_module, "Budget", lambda: Budget(most))


def rules(*ports: int) -> str:
    """Rules of one adapter with so many ports each, and so many entries."""
    return "extended_acls:\n" + "".join(
        f"  - {{name: r{number}, {RULE}, protocol: TCP, local_port: {list(range(1, count + 1))}}}\n"
        for number, count in enumerate(ports)
    )


def test_the_limit_itself_is_accepted_and_one_more_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, 10)
    assert sum(len(adapter.extended_acls) for adapter in load(rules(3, 7)).adapters) == 10
    with pytest.raises(InputErrors, match=r"p.yaml:4:5: the rule 'r2' makes 1 entries and the rules before"):
        load(rules(3, 7, 1))


def test_what_rules_make_together_counts_in_all_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, 100)
    basic = "acls:\n  - {name: b, adapters: '*', direction: Both, action: Deny, remote_ip_address: [%s]}\n"
    texts = {"policy": rules(20, 30), "q.yaml": basic % "10.0.0.1, 10.0.0.2", "r.yaml": basic % "10.0.0.0/8"}
    load_site("l.yaml", ["p.yaml", "q.yaml"], read=reader(**texts))
    texts["q.yaml"] = basic % ", ".join(f"10.0.0.{number}" for number in range(7))
    with pytest.raises(InputErrors) as caught:
        load_site("l.yaml", ["p.yaml", "q.yaml", "r.yaml"], read=reader(**texts))
    (error,) = caught.value.errors
    assert str(error.where) == "q.yaml:2:5"
    assert "makes 56 entries and the rules before it 50; all policies may make 100" in error.message
    assert error.hint.startswith("it is 7 addresses x 2 directions x 4 adapters; write prefixes")


def test_what_is_remembered_of_the_last_load_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, 10)
    memo = Memo()
    steps = [(3, 7), (3, 7, 1), (3, 6, 1), (4, 6, 1), (4, 6), (6, 4, 2, 1), (6, 4), (1, 1, 8), (2, 1, 8)]
    for ports in steps:
        after_others = outcome(ports, memo)
        assert after_others == outcome(ports)
        assert (after_others is None) == (sum(ports) <= 10)


def outcome(ports: tuple[int, ...], memo: Memo | None = None) -> str | None:
    try:
        load(rules(*ports), memo)
    except InputErrors as errors:
        return str(errors)
    return None


def chain(depth: int, *, top_first: bool) -> str:
    """`depth` groups, each in the next."""
    lines = [f"  g{number}: [{f'g{number - 1}' if number else '10.0.0.1'}]\n" for number in range(depth)]
    return "groups:\n" + "".join(reversed(lines) if top_first else lines) + "extended_acls: []\n"


@pytest.mark.parametrize("top_first", [True, False])
def test_groups_may_contain_groups_to_a_depth(top_first: bool) -> None:
    load(chain(MOST_GROUP_DEPTH, top_first=top_first))
    (error,) = refused(policy=chain(MOST_GROUP_DEPTH + 1, top_first=top_first))
    assert f"groups more than {MOST_GROUP_DEPTH} deep" in error.message
    assert error.where is not None
    assert error.where.line
    assert len(refused(policy=chain(5000, top_first=top_first))) < 200


def test_members_of_groups_in_groups_count_each_time() -> None:
    lines = [f"  all: [{ADDRESSES}]\n", *(f"  g{number}: [all]\n" for number in range(1100))]
    (error,) = refused(policy="groups:\n" + "".join(lines) + "extended_acls: []\n")
    assert "groups of this file hold more than 1,000,000" in error.message


def test_ranges_of_vlans_and_services_are_counted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    trunks = layout("vlan: {trunk: {allowed: 1-4094}}", 300)
    assert "the VLAN lists of this layout hold more than 1,000,000 up to here" in refused(trunks)[0].message
    many = ", ".join(["1-4094"] * 300)
    assert "VLAN lists" in refused(f"name: x\nnetworks: {{lan: {{vlans: [{many}]}}}}\n")[0].message
    small = LayoutBudgets(listeners=Budget(200_000))
    monkeypatch.setattr(
        loader_module, "LayoutBudgets", lambda: replace(small, listeners=replace(small.listeners))
    )
    (error,) = refused(layout("vlan: untagged", 2, "[tcp/1-65535, {udp: 1-65535}]"))
    assert "the services of this layout hold more than 200,000 up to here" in error.message
    assert error.where is not None
    assert error.where.line == 7
    # a service listed twice is one mistake, not one for each port
    (error,) = refused(layout("vlan: untagged", 1, "[tcp/1-65535, tcp/1-65535]"))
    assert "tcp/1 is listed twice" in error.message


def test_a_file_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_VALUES == 2_000_000
    monkeypatch.setattr(yamltext, "MOST_VALUES", 1000)
    (error,) = refused("name: x\nhosts: [" + "a," * 1000 + "]\n")
    assert "the file holds more than 1,000 keys and values up to here" in error.message


def test_a_file_of_a_million_mistakes_lists_a_thousand() -> None:
    errors = refused("name: x\nhosts:\n" + "".join(f"  h{number}: {{x: 1}}\n" for number in range(3000)))
    assert len(errors) == 1001
    assert errors[-1].message == "these are the first 1,000 mistakes that were found"


def test_no_more_mistakes_are_made_than_are_listed() -> None:
    """Of 300,000 list items without sense: they took minutes and 600 MB to be called so."""
    code = """
from pathlib import Path
from tests.model.test_limits import LAYOUT, refused
from vswitch.hyperv.fleet.inventory import load_inventory
from vswitch.errors import InputErrors
for layout, policy in (
    (LAYOUT, "extended_acls:\\n" + "- x\\n" * 300_000),
    (LAYOUT, "groups: {g: [" + "{}, " * 300_000 + "]}\\n"),
    (LAYOUT + "  - {}\\n" * 200_000, "{}"),
):
    errors = refused(layout, policy)
    assert len(errors) == 1001, len(errors)
    assert len({error.where.line * 10_000_000 + error.where.column for error in errors[:1000]}) > 200
inventory = "hosts: {" + "".join(f"h{each}: [], " for each in range(3000)) + "}"
try:
    load_inventory("i.yaml", read=lambda _: inventory)
except InputErrors as error:
    assert len(error.errors) == 1000, len(error.errors)
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) < 350 << 10)
"""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True, timeout=90)
    assert done.stdout == "True\n", done.stdout + done.stderr


def test_entries_take_memory_in_proportion(tmp_path: Path) -> None:
    """A twentieth of the limit, no entry like another, in a twentieth of 2 GiB."""
    (tmp_path / "l.yaml").write_text(layout("vlan: untagged", 4), encoding="utf-8")
    policy = "extended_acls:\n" + "".join(
        f"  - {{name: r{number}, adapters: v{number % 4}, direction: Inbound, action: Allow, protocol: TCP,"
        f" remote_ip_address: 10.{number >> 8}.{number & 255}.0/24, local_port: [{PORTS}]}}\n"
        for number in range(50)
    )
    (tmp_path / "p.yaml").write_text(policy, encoding="utf-8")
    code = """
import resource
from vswitch.model import load_site
from vswitch.textfiles import read_text
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
import vswitch.model.resolving.loader
before = used()
site = load_site("l.yaml", ["p.yaml"], read=read_text)
print(sum(len(adapter.extended_acls) for adapter in site.adapters), used() - before)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
    entries, memory = map(int, done.stdout.split())
    assert entries == MOST_ENTRIES // 20
    assert memory < (2 << 30) // 20
