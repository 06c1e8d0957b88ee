"""Who an entry belongs to: what was given back meanwhile is nobody's to remove."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import HypervHost, shipped_module
from tests.support.modelled_host.ours_and_theirs import FOREIGN, RULE, Wanted, entries_on, host_with
from tests.support.modelled_host.states import plan, sample_state, step
from vswitch.acl_entries import Entry, ExtendedEntry, to_host
from vswitch.errors import HostError
from vswitch.hyperv.applying.answers import export_of
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import ApplyError, Standing
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_rollback
from vswitch.hyperv.applying.saved_plans import plan_of_document
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.model.types import Action, Direction

OWN = ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="443")
OTHER = ExtendedEntry(Direction.INBOUND, 600, Action.DENY)


def adopted(folder: Path) -> tuple[HypervHost, str, RemoteHost]:
    """A host on which we took over the entries of others; the second administrator's Target."""
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(folder / "one")
    wanted: Wanted = {adapter_id: dict.fromkeys([OWN, *FOREIGN], RULE)}
    apply_plan(fresh_plan(transport, store, wanted, plan_id="adopting", adopt=True), transport, store)
    return host, adapter_id, RemoteHost("HV01", transport, store_in(folder / "two"))


def test_a_saved_plan_does_not_remove_what_was_given_back_meanwhile(tmp_path: Path) -> None:
    host, adapter_id, _ = adopted(tmp_path)
    wanted: Wanted = {adapter_id: {OWN: RULE}}
    fresh = fresh_plan(DirectTransport(host), store_in(tmp_path / "one"), wanted, plan_id="saved")
    saved = plan_of_document(fresh.document())
    assert len(saved.document().steps) == len(FOREIGN)
    # The entries stay as they are, but some are given back: only the record changes.
    host.cmdlets.files["vswitch/owned.json"] = _document(
        [OwnershipRecord.of(adapter_id, "policy.yaml", [OWN]).to_dict()]
    )
    before = entries_on(host, adapter_id)
    with pytest.raises(ApplyError, match=r"record of what is ours.*changed.*nothing was written") as refused:
        apply_plan(saved, DirectTransport(host), store_in(tmp_path / "one"))
    assert refused.value.standing is Standing.OLD
    assert entries_on(host, adapter_id) == before
    assert before >= FOREIGN


def test_a_stale_copy_here_does_not_claim_what_was_given_back_elsewhere(tmp_path: Path) -> None:
    host, adapter_id, second = adopted(tmp_path)
    second.apply(plan_rollback(second))
    assert entries_on(host, adapter_id) == FOREIGN
    stale = store_in(tmp_path / "one")
    assert stale.records()[adapter_id] >= FOREIGN
    assert export_of(DirectTransport(host), "HV01").recorded
    again = fresh_plan(DirectTransport(host), stale, {adapter_id: {}}, plan_id="again")
    assert not any(adapter.removed or adapter.owned_before for adapter in again.adapters)
    assert not any("no record" in warning for warning in again.warnings)
    # Lost is something else: then the copy is all there is, and that is said.
    host.lose_record()
    assert not export_of(DirectTransport(host), "HV01").recorded
    lost = fresh_plan(DirectTransport(host), stale, {adapter_id: {}}, plan_id="lost")
    assert any("no record" in warning for warning in lost.warnings)


def test_a_record_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    host, adapter_id, _ = adopted(tmp_path)
    host.cmdlets.files["vswitch/owned.json"] = "{"
    wanted: Wanted = {adapter_id: {OWN: RULE}}
    with pytest.raises(HostError, match=r"record of which entries are ours cannot be read: .*owned"):
        fresh_plan(DirectTransport(host), store_in(tmp_path / "one"), wanted)


def test_a_host_that_never_had_a_record_is_told_from_one_whose_record_says_nothing() -> None:
    host = HypervHost(sample_state())
    assert host.state()["recorded"] is False
    host.cmdlets.files["vswitch/owned.json"] = _document([])
    assert host.state()["recorded"] is True


#: What the host's record says when a plan comes that was made when OWN and OTHER were ours, and whether
#: it is still the same.
RECORDS: list[tuple[list[list[Entry]], bool]] = [
    ([[OWN, OTHER]], True),
    ([[OTHER], [OWN]], True),
    ([[OWN, OTHER], [OWN]], True),
    ([[OWN]], False),
    ([], False),
    ([[OWN, OTHER, OWN._replace(weight=7)]], False),
]


@pytest.mark.parametrize(("now", "same"), RECORDS)
def test_what_is_ours_is_compared_entry_by_entry_at_the_adapters_of_the_plan(
    now: list[list[Entry]], same: bool
) -> None:
    state = copy.deepcopy(sample_state())
    ids = [one["Id"] for one in state["adapters"]]
    state["adapters"][0]["extendedAcls"] += [to_host(OWN), to_host(OTHER)]
    state["records"] = [OwnershipRecord.of(ids[0], "web", [OWN, OTHER]).to_dict()]
    wanted = plan(state, [step("removeExtended", ids[0], to_host(OTHER))])
    elsewhere = OwnershipRecord.of(ids[1], "web", [OWN]).to_dict()
    state["records"] = [
        OwnershipRecord.of(ids[0], f"policy {n}", each).to_dict() for n, each in enumerate(now)
    ] + [elsewhere]
    host = HypervHost(state)
    before = host.keys(ids[0])
    answer = host.execute(shipped_module(), {"operation": "apply", "arguments": {"plan": wanted}})
    assert answer["ok"] is same
    if not same:
        assert (answer["error"]["category"], answer["result"]) == ("StateChanged", None)
        assert answer["error"]["target"]["adapter"] == ids[0]
        assert host.keys(ids[0]) == before
        assert not [name for name in host.log if name.startswith("write")]


def _document(records: list[dict[str, Any]]) -> str:
    return json.dumps({"schema": 1, "records": records})


def test_entries_that_are_there_already_are_counted_in_words_that_fit(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    one, other = sorted(FOREIGN, key=repr)[:2]
    for wanted, words in (
        ([one], "1 entry of the policy is there already"),
        ([one, other], "2 entries of the policy are there already"),
    ):
        plan = fresh_plan(
            DirectTransport(host), store_in(tmp_path), {adapter_id: dict.fromkeys(wanted, RULE)}
        )
        assert any(words in each for each in plan.warnings), plan.warnings
