"""Backups that are damaged or of plans half done: what can be gone back to, what is confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import CmdletFault, HostDied, HypervHost, shipped_module
from tests.support.modelled_host.ours_and_theirs import RULE, Wanted, entries_on, host_with
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from vswitch.acl_entries import Entry, ExtendedEntry
from vswitch.errors import HostError
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_rollback
from vswitch.model.types import Action, Direction

WEIGHTS = (100, 200, 300)


@dataclass
class Applied:
    """A host on which the plans `plan-100`, `plan-200` and `plan-300` added an entry each."""

    host: HypervHost
    adapter_id: str
    target: RemoteHost
    seen: list[frozenset[Entry]]  # before the first plan, before the second ...

    def damage(self, plan_id: str) -> None:
        self.host.cmdlets.files[f"vswitch/backups/{plan_id}.json"] = "{"


@pytest.fixture
def three(tmp_path: Path) -> Applied:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    target, seen = RemoteHost("HV01", transport, store), []
    rules: dict[Entry, Any] = {}
    for weight in WEIGHTS:
        seen.append(entries_on(host, adapter_id))
        rules[ExtendedEntry(Direction.INBOUND, weight, Action.DENY)] = RULE
        target.apply(fresh_plan(transport, store, {adapter_id: rules}, plan_id=f"plan-{weight}"))
    return Applied(host, adapter_id, target, seen)


def test_a_damaged_backup_cannot_be_gone_back_to(three: Applied) -> None:
    three.damage("plan-200")
    with pytest.raises(HostError, match="backup of plan plan-200 cannot be read") as refused:
        plan_rollback(three.target, "plan-200")
    assert "--to" in refused.value.hint
    assert "file" not in refused.value.message


@pytest.mark.parametrize(("to", "place"), [("plan-100", 0), ("plan-300", 2), ("", 2)])
def test_a_rollback_goes_past_a_damaged_backup_and_says_so(three: Applied, to: str, place: int) -> None:
    three.damage("plan-200")
    back = plan_rollback(three.target, to)
    assert any("plan-200" in warning for warning in back.warnings)
    three.target.apply(back)
    assert entries_on(three.host, three.adapter_id) == three.seen[place]


def test_what_a_rollback_took_back_must_be_known_to_go_further(three: Applied) -> None:
    three.target.apply(plan_rollback(three.target))
    three.damage("plan-300")
    with pytest.raises(HostError, match="took back plan plan-300, whose backup cannot be read"):
        plan_rollback(three.target)
    three.target.apply(plan_rollback(three.target, "plan-100"))
    assert entries_on(three.host, three.adapter_id) == three.seen[0]


def test_a_damaged_backup_is_listed_plainly(shop: Shop) -> None:
    host = HypervHost(shop.state)
    host.cmdlets.files["vswitch/backups/plan-0.json"] = "{"
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        shown = shop.run("backups", "hv01", *over).output
        assert "plan-0  unreadable: the file on the host is damaged" in shown
        (one,) = shop.json("backups", "hv01", *over)["hosts"][0]["result"]
        assert (one["state"], one["createdAt"]) == ("unreadable", "")
        shop.run("rollback", "hv01", "--to", "plan-0", "--yes", *over, status=2)


def test_a_plan_that_ended_half_way_is_not_the_one_to_confirm(tmp_path: Path) -> None:
    """Its undo is armed as well, but nobody has seen it in force."""
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    target = RemoteHost("HV01", transport, store)
    wanted: Wanted = {adapter_id: {ExtendedEntry(Direction.INBOUND, 100, Action.DENY): RULE}}
    half = fresh_plan(transport, store, wanted, plan_id="half-way").document(confirm_within=600).to_dict()
    request = {"operation": "apply", "arguments": {"plan": half}}
    place = host.steps_of(request).index("Add-VMNetworkAdapterExtendedAcl") + 1
    host.faults.append(CmdletFault(place, "die", "before"))
    with pytest.raises(HostDied):
        host.execute(shipped_module(), request)
    with pytest.raises(HostError, match="no plan waits to be confirmed"):
        target.confirm("")
    target.apply(fresh_plan(transport, store, wanted, plan_id="in-force"), confirm_within=600)
    assert target.confirm("").plan_id == "in-force"
