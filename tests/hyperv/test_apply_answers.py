"""What is said of a host whose answer to a plan is an error: no more than is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.modelled_host.direct import Answering, DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import CmdletError, CmdletFault
from tests.support.modelled_host.ours_and_theirs import RULE, Wanted, entries_on, host_with, no_wait
from vswitch.acl_entries import ExtendedEntry
from vswitch.cli import hyperv_text
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import ApplyError, Standing
from vswitch.hyperv.applying.saved_plans import plan_of_document
from vswitch.hyperv.winrm.winrm_errors import HostCause, WinrmError
from vswitch.model.types import Action, Direction

NEW = ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="443")
OTHER_ERROR = {"message": "out of memory", "category": "ResourceUnavailable", "fullyQualifiedErrorId": "x"}


def a_plan_for(adapter_id: str) -> Wanted:
    return {adapter_id: {NEW: RULE}}


@pytest.mark.parametrize("result", [None, {}, {"adapters": []}])
@pytest.mark.parametrize(
    "error", [OTHER_ERROR, {"category": "NotAsPlanned", "fullyQualifiedErrorId": "Vswitch.NotAsPlanned"}]
)
def test_an_error_without_a_result_is_not_taken_for_nothing_written(
    error: dict[str, Any], result: Any, tmp_path: Path
) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = Answering(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, a_plan_for(adapter_id))
    spoiled: list[str] = []

    def change(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        if operation == "apply" and not spoiled:
            spoiled.append(operation)
            return {"schema": 1, "ok": False, "error": error, "result": result}
        return answer

    transport.change = change
    done = apply_plan(plan, transport, store, wait=no_wait)
    assert [each.standing for each in done.adapters] == [Standing.NEW]
    assert "the host was read again" in done.note
    assert store.records()[adapter_id] == {NEW}


def test_an_error_without_a_result_from_a_host_that_then_is_silent_leaves_the_state_unknown(
    tmp_path: Path,
) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = Answering(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, a_plan_for(adapter_id))

    def change(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        if operation == "apply":
            return {"schema": 1, "ok": False, "error": OTHER_ERROR, "result": None}
        raise WinrmError("it does not answer", host="HV01", cause=HostCause.UNREACHABLE)

    transport.change = change
    with pytest.raises(ApplyError, match=r"out of memory.*could not be read again") as failure:
        apply_plan(plan, transport, store, wait=no_wait)
    assert failure.value.standing is Standing.UNKNOWN
    assert store.records()[adapter_id] == {NEW}


def test_an_error_of_windows_before_the_first_write_is_looked_into(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, a_plan_for(adapter_id))
    place = (
        host.steps_of({"operation": "apply", "arguments": {"plan": plan.document().to_dict()}}).index(
            "Get-VM"
        )
        + 1
    )
    host.faults.append(CmdletFault(place, hresult=0x80041001, operation="apply"))
    before, trips = entries_on(host, adapter_id), transport.trips
    with pytest.raises(ApplyError, match=r"read again: nothing was written") as failure:
        apply_plan(plan, transport, store, wait=no_wait)
    assert failure.value.standing is Standing.OLD
    assert [each.standing for each in failure.value.adapters] == [Standing.OLD]
    assert transport.trips == trips + 3  # the list of backups, and then the entries themselves
    assert entries_on(host, adapter_id) == before
    assert store.records() == {}


def test_a_record_that_could_not_be_put_back_is_named(tmp_path: Path) -> None:
    """The entries are as before, but the host still holds the record of what the plan writes."""
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, a_plan_for(adapter_id))
    before = entries_on(host, adapter_id)

    def refuse_writes(name: str) -> None:
        if name.startswith("write"):
            raise CmdletError("There is not enough space on the disk.", 0x80070070)

    def full(name: str) -> None:
        if name == "Add-VMNetworkAdapterExtendedAcl":
            host.cmdlets.on_step = refuse_writes
            raise CmdletError("Access is denied.", 0x80070005)

    host.cmdlets.on_step = full
    with pytest.raises(ApplyError, match=r"denied.*as before, but.*not enough space") as failure:
        apply_plan(plan, transport, store, wait=no_wait)
    assert "everything was undone" not in failure.value.message
    assert entries_on(host, adapter_id) == before
    assert store.records()[adapter_id] == {NEW}


def test_a_plan_that_is_in_force_already_is_not_said_to_be_written(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    saved = plan_of_document(fresh_plan(transport, store, a_plan_for(adapter_id)).document())
    first = apply_plan(saved, transport, store, confirm_within=60)
    assert (first.steps, first.note) == (1, "")
    assert "1 write on 1 adapter" in hyperv_text.applied(first)
    again = apply_plan(saved, transport, store, confirm_within=60)
    assert not [name for name in host.log if name.startswith(("write", "Add", "Remove"))]
    assert again.steps == 0
    assert [each.standing for each in again.adapters] == [Standing.NEW]
    said = hyperv_text.applied(again)
    assert "plan plan-1 was already in force" in said
    assert "1 write" not in said
    assert f"undone at {first.armed_until}" in said
