"""What is ours and what is not, where the two are hard to tell apart; hosts that cannot be read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import CmdletFault, HypervHost
from tests.support.modelled_host.ours_and_theirs import FOREIGN, RULE, Wanted, entries_on, host_with
from tests.support.modelled_host.states import basic
from vswitch.acl_entries import BasicEntry, Entry, ExtendedEntry
from vswitch.errors import HostError, InputErrors
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import ApplyError, Standing
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_rollback
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.model.types import Action, BasicAction, Direction, Side

INBOUND = Direction.INBOUND
ANY_V4, ANY_V6 = (BasicEntry(INBOUND, BasicAction.DENY, Side.REMOTE, each) for each in ("0.0.0.0/0", "::/0"))
ANY = basic("Deny", "Inbound", "Remote", 6, "ANY")
ANY_AS_TWO = [basic("Deny", "Inbound", "Remote", 4, "ANY"), basic("Deny", "Inbound", "Remote", 5, "ANY")]


def host_with_any(*, ours: bool, any_as_two: bool = False) -> tuple[HypervHost, str]:
    """A host that holds a basic ANY, as one entry or as two."""
    host, adapter_id = host_with(frozenset())
    state = host.state()
    state["adapters"][0]["acls"] += ANY_AS_TWO if any_as_two else [ANY]
    state["records"] = (
        [OwnershipRecord.of(adapter_id, "policy.yaml", {ANY_V4, ANY_V6}).to_dict()] if ours else []
    )
    return HypervHost(state, any_as_two=any_as_two), adapter_id


def planned(host: HypervHost, store: Store, wanted: Wanted, *, adopt: bool = False) -> HostPlan:
    return fresh_plan(DirectTransport(host), store, wanted, adopt=adopt)


def test_half_of_an_any_cannot_be_removed(tmp_path: Path) -> None:
    """Hyper-V would remove the other half with it."""
    host, adapter_id = host_with_any(ours=True)
    with pytest.raises(InputErrors, match=r"0\.0\.0\.0/0.*cannot be removed by itself.*::/0.*one entry"):
        planned(host, store_in(tmp_path), {adapter_id: {ANY_V6: RULE}})


@pytest.mark.parametrize("any_as_two", [False, True])
def test_a_whole_any_is_removed(tmp_path: Path, any_as_two: bool) -> None:
    host, adapter_id = host_with_any(ours=True, any_as_two=any_as_two)
    store = store_in(tmp_path)
    plan = planned(host, store, {})
    assert len(plan.document().steps) == (2 if any_as_two else 1)
    apply_plan(plan, DirectTransport(host), store)
    assert entries_on(host, adapter_id) == FOREIGN


def test_half_of_an_any_shown_as_two_is_removed(tmp_path: Path) -> None:
    host, adapter_id = host_with_any(ours=True, any_as_two=True)
    store = store_in(tmp_path)
    apply_plan(planned(host, store, {adapter_id: {ANY_V6: RULE}}), DirectTransport(host), store)
    assert entries_on(host, adapter_id) == FOREIGN | {ANY_V6}


def test_an_any_changes_its_action_whole(tmp_path: Path) -> None:
    host, adapter_id = host_with_any(ours=True)
    store = store_in(tmp_path)
    wanted: dict[Entry, PolicyRule | None] = {
        entry._replace(action=BasicAction.ALLOW): RULE for entry in (ANY_V4, ANY_V6)
    }
    apply_plan(planned(host, store, {adapter_id: wanted}), DirectTransport(host), store)
    assert entries_on(host, adapter_id) == FOREIGN | wanted.keys()


def test_an_any_is_adopted_whole_or_not_at_all(tmp_path: Path) -> None:
    host, adapter_id = host_with_any(ours=False)
    half = planned(host, store_in(tmp_path), {adapter_id: {ANY_V4: RULE}}, adopt=True).adapters[0]
    assert half.adopted == ()
    assert half.present == (ANY_V4,)
    assert {ANY_V4, ANY_V6} <= {*half.foreign}
    whole = planned(host, store_in(tmp_path), {adapter_id: {ANY_V4: RULE, ANY_V6: RULE}}, adopt=True)
    assert {*whole.adapters[0].adopted} == {ANY_V4, ANY_V6}


def test_what_was_adopted_is_given_back_not_removed(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    target = RemoteHost("HV01", transport, store)
    own: Entry = ExtendedEntry(INBOUND, 5, Action.ALLOW, "TCP")
    before = entries_on(host, adapter_id)
    wanted: Wanted = {adapter_id: dict.fromkeys([own, *FOREIGN], RULE)}
    apply_plan(fresh_plan(transport, store, wanted, adopt=True), transport, store)
    assert host.state()["records"]
    back = plan_rollback(target)
    assert {*back.adapters[0].removed} == {own}
    target.apply(back)
    assert entries_on(host, adapter_id) == before
    assert not any(record["entries"] for record in host.state()["records"])
    given = [warning for warning in back.warnings if "stops being ours" in warning]
    assert len(given) == len(FOREIGN)
    # Taking that rollback back makes them ours again, though others may own them now by the record.
    again = plan_rollback(target, back.plan_id)
    assert {*again.adapters[0].adopted} == {*FOREIGN}
    assert {*again.adapters[0].added} == {own}
    target.apply(again)
    assert {*plan_rollback(target, again.plan_id).adapters[0].removed} == {own}


def test_an_adapter_that_cannot_be_read_back_is_said_to_be_unknown(tmp_path: Path) -> None:
    """A write fails, and after it was undone so does reading: nothing is claimed of that adapter."""
    entry = ExtendedEntry(INBOUND, 500, Action.ALLOW, "TCP")

    def attempt(folder: str, *places: int) -> tuple[HypervHost, HostError, set[Entry]]:
        host, adapter_id = host_with(frozenset())
        transport, store = DirectTransport(host), store_in(tmp_path / folder)
        plan = fresh_plan(transport, store, {adapter_id: {entry: RULE}})
        host.faults.extend(CmdletFault(place, hresult=0x80041001, operation="apply") for place in places)
        with pytest.raises(ApplyError) as failure:
            apply_plan(plan, transport, store)
        return host, failure.value, {each for found in store.records().values() for each in found}

    host, adapter_id = host_with(frozenset())
    plan = fresh_plan(DirectTransport(host), store_in(tmp_path), {adapter_id: {entry: RULE}})
    steps = host.steps_of({"operation": "apply", "arguments": {"plan": plan.document().to_dict()}})
    add = steps.index("Add-VMNetworkAdapterExtendedAcl") + 1
    host, error, _ = attempt("one", add)
    assert isinstance(error, ApplyError)
    assert error.standing is Standing.OLD
    read_back = len(host.log) - [*reversed(host.log)].index("Get-VMNetworkAdapterExtendedAcl")
    _, error, ours = attempt("two", add, read_back)
    assert isinstance(error, ApplyError)
    assert [each.standing for each in error.adapters] == [Standing.UNKNOWN]
    assert "is not known" in error.message
    assert entry in ours  # it may be there
