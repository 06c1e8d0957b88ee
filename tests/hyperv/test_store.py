"""The memory of this side: private, never outside of its folder, and never held up by one bad entry."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.ours_and_theirs import RULE, Wanted, host_with
from tests.support.modelled_host.states import sample_state
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from vswitch.acl_entries import ExtendedEntry
from vswitch.errors import EnvironmentError_, InputError
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_rollback
from vswitch.hyperv.applying.store import Store, default_folder
from vswitch.hyperv.host.host_state import read_state
from vswitch.hyperv.host.name_checks import computer_fault, plan_fault
from vswitch.hyperv.host.plan_document import PlanDocument
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.model.types import Action, Direction

ENTRY = ExtendedEntry(Direction.INBOUND, 5, Action.ALLOW)
ODD: list[Any] = [
    *(
        "NULL",
        "nul",
        "CON",
        "com1",
        "LPT9",
        "aux.corp",
        "",
        ".",
        "..",
        "...",
        "../../x",
        "/etc",
        "a/b",
        "a\\b",
    ),
    *("a\0b", "a\nb", "\x1b[2J", "a b", "hv01\u202e", "*", "x" * 64, "\u00e4" * 63, None, 5, [], {}),
]


@pytest.mark.parametrize("name", ODD)
def test_what_no_computer_is_called_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which no computer is called") as refused:
        read_state(sample_state() | {"computer": name})
    assert refused.value.message.isprintable()
    with pytest.raises(InputError, match="a computer cannot be called"):
        store_in(tmp_path).keep_records(name, ["a"], [])
    assert not list(tmp_path.iterdir())


def a_plan(plan_id: str) -> PlanDocument:
    return PlanDocument(
        schema=1,
        plan_id=plan_id,
        host="HV01",
        created_at="",
        policy_digest="",
        adapters=(),
        steps=(),
        records=(),
        records_during=(),
    )


def test_a_computer_is_refused_for_the_true_reason() -> None:
    assert "name that is missing" in computer_fault("NULL")
    assert "device" in computer_fault("NUL")


def test_an_odd_computer_is_refused_with_a_sentence_and_decides_no_path(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    before = sorted(shop.folder.rglob("*"))
    host = HypervHost(shop.state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        for name in ("NULL", "..", None):
            host.computer = name  # type: ignore[assignment]
            for words in (("plan", "layout.yaml"), ("apply", "layout.yaml", "--yes", "--adopt")):
                (one,) = shop.json(*words[:2], "hv01", *words[2:], *over, status=2)["hosts"]
                assert "which no computer is called" in one["error"]["message"]
    (shop.folder / "odd.json").write_text(json.dumps(shop.state | {"computer": "../x"}), encoding="utf-8")
    result = shop.run("drift", "layout.yaml", "--from-file", "odd.json", status=2)
    assert isinstance(result.exception, InputError)
    made = {path.name for path in sorted(shop.folder.rglob("*")) if path not in before}
    assert made == {"odd.json", "fleet.yaml"}


@pytest.mark.parametrize("name", ["HV01", "hv-01.corp.example", "SRV_1", "B\u00fcro", "x" * 63])
def test_what_windows_calls_computers_is_taken(name: str) -> None:
    assert computer_fault(name) == ""


@pytest.mark.parametrize("name", ["", "..", "a/b", "a.b", "NUL", "-a", "x" * 65, "a\n", None])
def test_a_plan_has_a_name_the_module_takes(name: Any) -> None:
    assert plan_fault(name)
    assert not plan_fault("20261128-0857-web")


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "\x1b[2J", "x" * 300])
def test_a_host_is_kept_under_no_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be called"):
        Store(name, tmp_path)


@pytest.mark.parametrize("name", ["VSWITCH_STATE", "XDG_STATE_HOME"])
def test_a_store_with_two_dots_in_its_path_is_refused(
    name: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VSWITCH_STATE")
    monkeypatch.setenv(name, str(shop.folder / "a" / ".." / "b"))
    result = shop.run("backups", "hv01", status=2)
    assert f"{name} is" in str(result.exception)
    assert ".." in str(result.exception)
    monkeypatch.setenv(name, "/tmp/x..y")
    assert default_folder().is_relative_to("/tmp/x..y")


def modes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in sorted([folder, *folder.rglob("*")])
    }


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_everything_in_the_store_is_the_users_alone(mask: int, tmp_path: Path) -> None:
    old = os.umask(mask)
    try:
        store = store_in(tmp_path / "made" / "here")
        keep(store)
        store.keep_plan(a_plan("plan-1"))
    finally:
        os.umask(old)
    found = modes(tmp_path / "made")
    assert len(found) == 9
    assert {mode for path, mode in found.items() if path.endswith(".json")} == {"0o600"}
    assert {mode for path, mode in found.items() if not path.endswith(".json")} == {"0o700"}


def test_wider_rights_are_narrowed_on_reading_and_on_writing(tmp_path: Path) -> None:
    base = tmp_path / "store"
    store = store_in(base)

    def widen() -> None:
        for path in [base, *base.rglob("*")]:
            path.chmod(0o777 if path.is_dir() else 0o666)

    keep(store)
    store.keep_plan(a_plan("plan-1"))
    widen()
    assert store.records("HV01", ["a"]) == {"a": {ENTRY}}
    found = modes(base)
    assert {found[path] for path in (".", "owned", "owned/hv01")} == {"0o700"}
    assert found["owned/hv01/a.json"] == "0o600"
    widen()
    keep(store)
    store.keep_plan(a_plan("plan-2"))
    assert not any(mode.endswith(("6", "7")) for mode in modes(base).values())


def test_a_folder_that_is_not_ours_is_left_as_it_is_and_named_if_others_may_write_to_it(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "someone's file").touch()
    shared.chmod(0o755)
    keep(store_in(shared))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert stat.S_IMODE((shared / "owned").stat().st_mode) == 0o700
    shared.chmod(0o777)
    with pytest.raises(EnvironmentError_, match="others may write to") as refused:
        keep(store_in(shared))
    assert "chmod" in refused.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder another user's")
def test_a_folder_of_another_user_is_not_believed(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    keep(store)
    os.chown(tmp_path / "owned", 12345, 12345)
    memory = store.recall("HV01", ["a"])
    assert memory.records == {}
    assert "belongs to another user" in memory.problems[0]
    with pytest.raises(EnvironmentError_, match="belongs to another user"):
        keep(store)
    os.chown(tmp_path / "owned", 0, 0)


@pytest.mark.parametrize("part", ["owned", "owned/hv01", "hosts", "hosts/hv01", "hosts/hv01/plans"])
def test_a_link_out_of_the_store_is_not_followed(part: str, tmp_path: Path) -> None:
    store, outside = store_in(tmp_path / "store"), tmp_path / "outside"
    keep(store)
    store.keep_plan(a_plan("plan-1"))
    (tmp_path / "store" / part).rename(outside)
    (tmp_path / "store" / part).symlink_to(outside)
    before = modes(outside)
    write = keep if part.startswith("owned") else keep_a_plan
    with pytest.raises(EnvironmentError_, match="a link out of the folder"):
        write(store)
    if part.startswith("owned"):
        memory = store.recall("HV01", ["a"])
        assert memory.records == {}
        assert "a link out of the folder" in memory.problems[0]
    assert modes(outside) == before


def test_a_linked_file_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    store, outside = store_in(tmp_path / "store"), tmp_path / "outside.json"
    keep(store)
    path = tmp_path / "store" / "owned" / "hv01" / "a.json"
    path.rename(outside)
    path.symlink_to(outside)
    assert store.recall("HV01", ["a"]).records == {}
    before = outside.read_text(encoding="utf-8")
    store.keep_records("HV01", ["a"], [])
    assert outside.read_text(encoding="utf-8") == before
    assert not path.is_symlink()


def test_the_store_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    keep(store_in(tmp_path / "link"))
    assert store_in(tmp_path / "link").records("HV01", ["a"]) == {"a": {ENTRY}}


def keep(store: Store, adapter: str = "a") -> None:
    store.keep_records("HV01", [adapter], [OwnershipRecord.of(adapter, "policy", [ENTRY])])


def keep_a_plan(store: Store) -> None:
    store.keep_plan(a_plan("plan-2"))


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate((64 << 20) + 1)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pipe": (os.mkfifo, "this is a pipe, not a file"),
    "a folder": (Path.mkdir, "this is a folder, not a file"),
    "huge": (huge, "larger than 64 MiB"),
    "damaged": (lambda path: path.write_bytes(b"{\xff"), "UTF-8"),
    "half": (lambda path: path.write_text('{"records": [', encoding="utf-8"), "not JSON"),
    "deep": (lambda path: path.write_text("[" * 100_000, encoding="utf-8"), "nested too deep"),
    "something else": (lambda path: path.write_text("[]", encoding="utf-8"), "not a record"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a link out of the folder"),
    "a circle": (lambda path: path.symlink_to(path), "cannot be"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_entry_is_named_and_the_others_are_read(name: str, tmp_path: Path) -> None:
    make, words = BAD[name]
    store = store_in(tmp_path)
    keep(store, "b")
    path = tmp_path / "owned" / "hv01" / "a.json"
    make(path)
    for memory in (store.recall("HV01", ["a", "b"]), store.recall()):
        assert memory.records == {"b": {ENTRY}}
        (problem,) = memory.problems
        assert words in problem
        assert str(path) in problem


def test_a_bad_entry_is_said_in_the_plan_and_stops_no_apply(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    wanted: Wanted = {adapter_id: {ENTRY: RULE}}
    apply_plan(fresh_plan(transport, store, wanted), transport, store)
    (path,) = tmp_path.glob("owned/*/*.json")
    path.write_text("{", encoding="utf-8")
    target = RemoteHost("HV01", transport, store)
    plan = plan_rollback(target)
    assert any(str(path) in warning for warning in plan.warnings)
    target.apply(plan)
    assert store.recall("HV01", [adapter_id]).problems == ()


def test_a_folder_in_place_of_a_record_stops_an_apply_before_anything_is_written(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, {adapter_id: {ENTRY: RULE}})
    keep(store, adapter_id)
    (path,) = tmp_path.glob("owned/*/*.json")
    path.unlink()
    path.mkdir()
    trips = transport.trips
    with pytest.raises(EnvironmentError_, match="not a regular file"):
        apply_plan(plan, transport, store)
    assert transport.trips == trips
