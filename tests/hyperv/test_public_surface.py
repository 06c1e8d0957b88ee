"""What Python programs may rely on: all that `vswitch hyperv` does, through `vswitch.hyperv` alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import vswitch.hyperv as hyperv
from tests.support.modelled_host.direct import DirectTransport
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import sample_state
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from tests.support.winrm.runs import PASSWORD
from vswitch.acl_entries import ExtendedEntry
from vswitch.errors import InputError
from vswitch.model import load_site
from vswitch.model.site import Site
from vswitch.textfiles import read_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "python.md"
RULE = "  - {name: new, adapters: web01, direction: Inbound, action: Deny, weight: 600}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSWITCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VSWITCH_HYPERV_PASSWORD", PASSWORD)


def fleet_of(*hosts: HypervHost, canary: tuple[str, ...] = ()) -> hyperv.Fleet:
    """Modelled hosts, called hv01, hv02 ..., without WinRM in between."""
    named = {f"hv{number:02}": host for number, host in enumerate(hosts, start=1)}
    return hyperv.Fleet(
        tuple(hyperv.InventoryHost(name, hyperv.HostConnection(name=name, address=name)) for name in named),
        canary,
        {
            name: hyperv.RemoteHost(name, DirectTransport(host), hyperv.Store(name))
            for name, host in named.items()
        },
    )


def imported(fleet: hyperv.Fleet, *more: str) -> Site:
    """The site that the hosts make, with further rules."""
    states = [(each.host.name, each.value) for each in fleet.read().outcomes if each.value is not None]
    found = hyperv.import_hosts(states, layout_file="layout.yaml", policy_file="policy.yaml")
    Path("layout.yaml").write_text(found.layout, encoding="utf-8")
    policy = found.policy.replace("extended_acls:\n", "\n".join(["extended_acls:", *more, ""]), 1)
    Path("policy.yaml").write_text(policy, encoding="utf-8")
    return load_site("layout.yaml", read=read_text)


def entries(host: HypervHost) -> list[Any]:
    return [each[part] for each in host.state()["adapters"] for part in ("acls", "extendedAcls")]


def test_the_whole_circle() -> None:
    host = HypervHost(sample_state())
    before = entries(host)
    fleet = fleet_of(host)
    site = imported(fleet, RULE)
    planned = fleet.plan(site)
    (plan,) = planned.plans.values()
    (added,) = [each for adapter in plan.adapters for each in adapter.added]
    assert isinstance(added, ExtendedEntry)
    assert added.weight == 600
    assert planned.exit_status() == 1

    hyperv.save_plan_file("change.json", planned.plans.values())
    saved = fleet.plans_from(hyperv.saved_for("change.json", ["hv01"]))
    done = fleet.apply(saved, confirm_within=60)
    assert [(each.word, each.value and each.value.steps) for each in done.outcomes] == [("done", 1)]
    assert entries(host) != before
    assert fleet.plan(site).exit_status() == 0
    (kept,) = [each.value for each in fleet.confirm().outcomes]
    assert kept == hyperv.Confirmed(plan_id=plan.plan_id, confirmed=True, was_armed=True)
    host.advance(120)
    assert fleet.plan(site).exit_status() == 0

    (backups,) = [each.value for each in fleet.backups().outcomes]
    assert backups is not None
    assert [(each.plan_id, each.state) for each in backups] == [(plan.plan_id, "confirmed")]
    assert fleet.apply(fleet.plan_rollback()).ok
    assert entries(host) == before
    assert fleet.plan(site).exit_status() == 1


def test_a_host_without_a_plan_keeps_the_others_from_being_written() -> None:
    """A canary always, any other unless it is said to go on; and two names of one host."""
    host = HypervHost(sample_state())
    site = imported(fleet_of(host), RULE)
    before = entries(host)
    for canary, go_on, words in (
        ((), False, "hv02 could not be planned"),
        (("hv02",), True, "the canary hv02 could not be planned"),
    ):
        fleet = fleet_of(host, HypervHost(sample_state()), canary=canary)
        unreachable = fleet.targets["hv02"].transport
        assert isinstance(unreachable, DirectTransport)
        unreachable.dead = True
        planned = fleet.plan(site)
        assert planned.exit_status() == 2
        with pytest.raises(InputError, match=words):
            fleet.apply(planned, go_on=go_on)
    twins = fleet_of(host, host)
    with pytest.raises(InputError, match="hv01 and hv02 are the same host, HV01"):
        twins.apply(twins.plan(site))
    assert entries(host) == before


def test_the_page_s_examples_run() -> None:
    """As they stand there, with an inventory that names a modelled host behind WinRM."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    host = HypervHost(sample_state())
    said: dict[str, Any] = {}
    with WinrmEndpoint(host_handler(host)) as endpoint:
        options = f"address: {endpoint.address}, port: {endpoint.port}, https: Off, authentication: ntlm"
        Path("fleet.yaml").write_text(f"hosts:\n  hv01: {{{options}, user: admin}}\n", encoding="utf-8")
        for number, block in enumerate(blocks, start=1):
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), said)
    assert said["done"].ok
    assert said["confirmed"].ok
    assert said["in_order"]
    assert len(said["applied"]) == 1
    assert said["back"].ok


def test_every_public_name_is_there_and_no_other_is_asked_for() -> None:
    assert sorted(hyperv.__all__) == sorted(hyperv._PLACE_OF)
    for name in hyperv.__all__:
        assert getattr(hyperv, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hyperv.nothing
    # What type checkers see is what is imported.
    tree = ast.parse(Path(str(hyperv.__file__)).read_text(encoding="utf-8"))
    seen = {
        (str(node.module).removeprefix("vswitch.hyperv."), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vswitch.hyperv.")
        for alias in node.names
    }
    assert seen == {(place, name) for name, place in hyperv._PLACE_OF.items()}
