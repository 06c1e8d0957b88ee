"""What version 0.1.0 left on disks and hosts is read: `files/README.md` says what is there."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.modelled_host.direct import DirectTransport
from tests.support.modelled_host.host import HypervHost
from vswitch.acl_entries import BasicEntry, ExtendedEntry, describe
from vswitch.hyperv.applying.remote_host import RemoteHost, backups, plan_rollback
from vswitch.hyperv.applying.saved_plans import read_plan_file
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.host.backup_document import Backup
from vswitch.hyperv.host.host_state import state_from_file
from vswitch.hyperv.host.plan_document import PlanDocument
from vswitch.hyperv.host.records import OwnershipRecord, entries_in

FILES = Path(__file__).parent / "files"
FIRST, SECOND, THIRD = "20261101-120000-aaaaaa", "20261101-130000-bbbbbb", "20261101-140000-cccccc"


def content(name: str) -> Any:
    return json.loads((FILES / name).read_text(encoding="utf-8"))


@pytest.fixture
def host() -> HypervHost:
    """HV01 as that version left it: two plans applied, of which the second waits to be confirmed."""
    left = content("host.json")
    found = HypervHost(left["state"])
    for path, text in left["files"].items():
        found.cmdlets.files[path] = text if isinstance(text, str) else json.dumps(text)
    found.cmdlets.tasks = {name: (when, folder) for name, (when, folder) in left["tasks"].items()}
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for path, document in content("store.json").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps(document), encoding="utf-8")
    return Store("hv01", tmp_path)


def entries(host: HypervHost) -> list[Any]:
    return [each[part] for each in host.state()["adapters"] for part in ("acls", "extendedAcls")]


def test_a_saved_plan_is_shown_sent_and_carried_out(host: HypervHost, store: Store) -> None:
    (plan,) = read_plan_file(FILES / "saved-plan.json")
    assert (plan.host, plan.plan_id) == ("HV01", THIRD)
    (adapter,) = plan.adapters
    assert list(map(describe, adapter.added)) == ["Inbound 700 Deny TCP local port 22"]
    assert len(adapter.kept) == 5
    # It is sent as it was saved, to the last field.
    assert plan.document().to_dict() == content("saved-plan.json")["plans"][0]["plan"]
    target = RemoteHost("hv01", DirectTransport(host), store)
    target.confirm()
    done = target.apply(plan)
    assert (done.plan_id, done.steps) == (THIRD, 1)
    assert store.records()[adapter.adapter.id] == adapter.owned_after


def test_an_exported_state_says_what_is_there_and_what_is_ours() -> None:
    state = state_from_file(FILES / "exported-state.json")
    ((adapter_id, owned),) = state.records.items()
    adapter = state.adapter(adapter_id)
    assert adapter is not None
    assert owned < adapter.entries.keys()
    assert not adapter.unreadable
    assert (
        sorted(type(entry).__name__ for entry in owned)
        == [BasicEntry.__name__] + [ExtendedEntry.__name__] * 4
    )
    assert state.others[adapter_id] == adapter.texts(adapter.entries.keys() - owned)


def test_this_side_s_memory_is_recalled(store: Store) -> None:
    memory = store.recall()
    assert memory.problems == ()
    assert memory.records == state_from_file(FILES / "exported-state.json").records
    kept = {path: document for path, document in content("store.json").items() if "/plans/" in path}
    for document in kept.values():
        assert PlanDocument.from_dict(document).to_dict() == document
    assert len(kept) == 2


def test_backups_and_records_are_read_whole(host: HypervHost) -> None:
    files = content("host.json")["files"]
    for plan_id, writes in ((FIRST, 8), (SECOND, 1)):
        backup = Backup.model_validate(files[f"vswitch/backups/{plan_id}.json"])
        assert (backup.plan_id, len(backup.plan.steps)) == (plan_id, writes)
        assert all(step.entries for step in backup.plan.steps)
        records = (*backup.records, *backup.plan.records_during)
        assert all(entries_in(each) for record in records for each in record.entries)
        assert [each.lists.unreadable for each in backup.adapters] == [()]
    (told,) = files["vswitch/owned.json"]["records"]
    record = OwnershipRecord.from_dict(told)
    assert record.to_dict() == told
    assert len(record.owned) == len(record.entries) == 5
    listed = backups(RemoteHost("hv01", DirectTransport(host), Store("hv01")))
    assert [(each.plan_id, each.state, bool(each.armed_until)) for each in listed] == [
        (SECOND, "applied", True),
        (FIRST, "applied", False),
    ]


def test_both_plans_are_taken_back(host: HypervHost, store: Store) -> None:
    before = content("host.json")["files"][f"vswitch/backups/{FIRST}.json"]["adapters"][0]
    target = RemoteHost("hv01", DirectTransport(host), store)
    target.confirm(SECOND)
    target.apply(plan_rollback(target, FIRST))
    now = host.adapter(before["id"])
    for part in ("acls", "extendedAcls"):
        assert sorted(map(str, now[part])) == sorted(map(str, before[part]))


@pytest.mark.parametrize("confirmed", [True, False])
def test_an_armed_undo_is_confirmed_or_comes(host: HypervHost, store: Store, confirmed: bool) -> None:
    there = entries(host)
    if confirmed:
        assert RemoteHost("hv01", DirectTransport(host), store).confirm().plan_id == SECOND
    (until, _), *_ = content("host.json")["tasks"].values()
    host.advance((datetime.fromisoformat(until) - host.now).total_seconds() + 1)
    assert (entries(host) == there) is confirmed
    (newest, _) = backups(RemoteHost("hv01", DirectTransport(host), store))
    assert newest.state == ("confirmed" if confirmed else "undone")
