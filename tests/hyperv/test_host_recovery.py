"""What the module leaves behind when a plan, an undo, a file or the host itself ends half-way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host.host import CmdletError, CmdletFault, HostDied, HypervHost
from tests.support.modelled_host.sample_host import (
    ANY_IN,
    DENY_OUT,
    HTTPS,
    MAC_IN,
    SSH,
    TEXT,
    ok,
    record_keys,
    refused,
    run,
    sample,
    sample_plan,
)
from tests.support.modelled_host.states import basic, extended, plan, sample_state, step
from tests.support.modelled_host.values import error_code, keys_of

BACKUP, RECORD = "vswitch/backups/plan-1.json", "vswitch/owned.json"
HALVES = [basic("Deny", "Inbound", "Remote", 4, "0.0.0.0/0"), basic("Deny", "Inbound", "Remote", 5, "::/0")]


def requested(operation: str, **arguments: Any) -> dict[str, Any]:
    return {"operation": operation, "arguments": arguments}


def states(answer: dict[str, Any]) -> list[str]:
    return [one["state"] for one in answer["result"]["adapters"]]


# ------------------------------------------------------------------ which plans stand in the way of others


def test_a_plan_that_died_half_way_does_not_block_its_repair() -> None:
    host, ids = sample()
    first = sample_plan(host, ids, confirmWithin=60)
    names = host.steps_of(requested("apply", plan=first))
    host.faults.append(CmdletFault(names.index("Add-VMNetworkAdapterAcl") + 1, "die", "after"))
    with pytest.raises(HostDied):
        run(host, "apply", plan=first)
    (left,) = ok(host, "backups")["backups"]
    assert (left["state"], left["armedUntil"]) == ("applying", "2026-01-01T00:01:00Z")
    repair = plan(host.state(), [step("addExtended", ids[2], DENY_OUT)], planId="plan-2")
    assert ok(host, "apply", plan=repair)["stepsDone"] == 1
    assert refused(host, "apply", plan=first)["category"] == "Unfinished"


def test_a_plan_whose_undo_failed_does_not_block_another() -> None:
    host, ids = sample()
    ok(host, "apply", plan=plan(host.state(), [step("addBasic", ids[0], ANY_IN)], confirmWithin=60))
    names = host.steps_of(requested("undo", planId="plan-1"))
    host.faults.append(CmdletFault(names.index("Remove-VMNetworkAdapterAcl") + 1))
    assert states(run(host, "undo", planId="plan-1")) == ["new"]
    (left,) = ok(host, "backups")["backups"]
    assert left["state"] == "failed"
    assert left["armedUntil"]
    repair = plan(host.state(), [step("removeBasic", ids[0], ANY_IN)], planId="plan-2")
    assert ok(host, "apply", plan=repair)["adapters"][0]["state"] == "new"
    # Its own automatic undo, still armed, does not take the repair back.
    answers = host.advance(60)
    assert {answer["error"]["category"] for answer in answers} == {"Superseded"}
    assert host.adapter(ids[0])["acls"] == sample_state()["adapters"][0]["acls"]


def test_a_plan_in_force_blocks_others_until_it_is_answered() -> None:
    host, ids = sample()
    ok(host, "apply", plan=plan(host.state(), [step("addExtended", ids[0], SSH)], confirmWithin=60))
    other = plan(host.state(), [step("addExtended", ids[2], DENY_OUT)], planId="plan-2")
    before = dict(host.cmdlets.files)
    assert refused(host, "apply", plan=other)["category"] == "Armed"
    assert host.cmdlets.files == before
    ok(host, "undo", planId="plan-1")
    assert ok(host, "apply", plan=other)["stepsDone"] == 1


# ------------------------------------------------------------------ what an answer says


def test_an_adapter_that_cannot_be_read_after_a_failure_is_unread_and_hides_no_other() -> None:
    host, ids = sample()
    wanted = sample_plan(host, ids)

    def lose(name: str) -> None:
        if name == "Add-VMNetworkAdapterAcl":
            host.cmdlets.on_step = lambda _name: None
            host.remove_adapter(ids[2])
            raise CmdletError("The VM is moving away.", 0x80070015)

    host.cmdlets.on_step = lose
    answer = run(host, "apply", plan=wanted)
    assert answer["error"]["hresult"] == 0x80070015
    assert states(answer) == ["old", "old", "unread"]
    assert answer["result"]["adapters"][2]["acls"] == []


def test_repeating_a_plan_says_which_adapter_cannot_be_read() -> None:
    host, ids = sample()
    wanted = sample_plan(host, ids)
    ok(host, "apply", plan=wanted)
    host.adapter(ids[1])["acls"][0]["Direction"] = None
    answer = run(host, "apply", plan=wanted)
    assert (answer["error"]["category"], answer["error"]["target"]["adapter"]) == ("StateChanged", ids[1])
    assert states(answer) == ["new", "unread", "new"]


@pytest.mark.parametrize("name", ["Direction", "Action", "Weight", "Stateful"])
def test_an_entry_that_cannot_be_read_is_not_taken_for_another(name: str) -> None:
    host, ids = sample()
    host.adapter(ids[0])["extendedAcls"][0][name] = None
    error = refused(host, "export")
    assert (error["category"], name in error["message"]) == ("UnreadableEntry", True)


def test_the_code_of_an_error_is_the_last_one_of_its_message() -> None:
    text = "'x 0x800700B7' could not be modified: the device is not ready. (0x80070015)"
    assert error_code(text, 0) == 0x80070015
    assert error_code("'a0x800700B7' could not be modified.", -2147024809) == 0x80070057


# ------------------------------------------------------------------ undo


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_entry_of_ours_is_without_a_record_wherever_an_undo_dies(when: str) -> None:
    state = sample_state()
    one = state["adapters"][0]["Id"]
    state["records"] = [{"adapter": one, "policy": "web", "entries": [{"kind": "extended", **HTTPS}]}]
    after = [{"adapter": one, "policy": "web", "entries": [{"kind": "extended", **SSH}]}]
    steps = [step("addExtended", one, SSH), step("removeExtended", one, HTTPS)]
    fresh = HypervHost(state)
    ok(fresh, "apply", plan=plan(state, steps, records=after))
    ours = {key for entry in (SSH, HTTPS) for key in keys_of("extended", entry)}
    for number in range(1, len(fresh.steps_of(requested("undo", planId="plan-1"))) + 1):
        host = fresh.copy()
        host.faults.append(CmdletFault(number, "die", when))
        with pytest.raises(HostDied):
            run(host, "undo", planId="plan-1")
        recorded = {key for record in host.state()["records"] for key in record_keys(record)}
        assert ours & set(host.keys(one)) <= recorded, host.log
        ok(host, "undo", planId="plan-1")
        assert host.keys(one) == HypervHost(state).keys(one)
        assert host.state()["records"] == state["records"]


def test_a_full_disk_hides_neither_the_first_error_nor_the_states() -> None:
    host, ids = sample()
    wanted = sample_plan(host, ids)

    def full(name: str) -> None:
        if name == "Add-VMNetworkAdapterAcl":
            host.cmdlets.on_step = refuse_writes
            raise CmdletError("Access is denied.", 0x80070005)

    def refuse_writes(name: str) -> None:
        if name.startswith("write"):
            raise CmdletError("There is not enough space on the disk.", 0x80070070)

    before = [host.keys(one) for one in ids]
    host.cmdlets.on_step = full
    answer = run(host, "apply", plan=wanted)
    assert answer["error"]["hresult"] == 0x80070005
    assert (states(answer), answer["result"]["undone"]) == (["old"] * 3, False)
    assert {error["hresult"] for error in answer["result"]["errors"]} == {0x80070070}
    host.cmdlets.on_step = lambda _name: None
    assert ok(host, "undo", planId="plan-1")["undone"]
    assert [host.keys(one) for one in ids] == before
    assert ok(host, "backups")["backups"][0]["state"] == "undone"


@pytest.mark.parametrize("half", [0, 1])
def test_an_any_of_which_one_half_was_removed_is_whole_again_after_the_undo(half: int) -> None:
    host, ids = sample(any_as_two=True)
    host.add_entry(ids[0], "basic", ANY_IN)
    before = host.keys(ids[0])

    def remove_half(name: str) -> None:
        if name == "Remove-VMNetworkAdapterAcl":
            host.cmdlets.on_step = lambda _name: None
            host.remove_entry(ids[0], "basic", HALVES[half])
            raise CmdletError("The operation failed.", 0x80004005)

    host.cmdlets.on_step = remove_half
    answer = run(host, "apply", plan=plan(host.state(), [step("removeBasic", ids[0], ANY_IN)]))
    assert (states(answer), answer["result"]["undone"]) == (["old"], True)
    assert host.keys(ids[0]) == before


def test_an_any_of_which_somebody_removed_a_half_meanwhile_is_not_removed() -> None:
    host, ids = sample(any_as_two=True)
    host.add_entry(ids[0], "basic", ANY_IN)

    def meddle(name: str) -> None:
        if name.startswith("write vswitch/backups/plan-1.steps"):
            host.cmdlets.on_step = lambda _name: None
            host.remove_entry(ids[0], "basic", HALVES[0])

    host.cmdlets.on_step = meddle
    answer = run(host, "apply", plan=plan(host.state(), [step("removeBasic", ids[0], ANY_IN)]))
    assert (answer["error"]["category"], answer["error"]["target"]["step"]) == ("StateChanged", 0)
    assert "Remove-VMNetworkAdapterAcl" not in host.log


def test_of_equal_entries_one_is_removed_and_a_half_beside_an_any_stays() -> None:
    host, ids = sample()
    entries = host.adapter(ids[0])["acls"]
    twin = dict(entries[0])
    entries += [dict(HALVES[0]), dict(ANY_IN), twin]
    steps = [step("removeBasic", ids[0], twin), step("removeBasic", ids[0], ANY_IN)]
    assert ok(host, "apply", plan=plan(host.state(), steps))["adapters"][0]["state"] == "new"
    assert host.adapter(ids[0])["acls"] == [HALVES[0], twin]


@given(data=st.data())
def test_whatever_fails_foreign_entries_stay_ours_are_recorded_and_the_way_back_is_open(
    data: st.DataObject,
) -> None:
    state = sample_state()
    ids = [one["Id"] for one in state["adapters"]]
    state["records"] = [{"adapter": ids[0], "policy": "web", "entries": [{"kind": "extended", **HTTPS}]}]
    host = HypervHost(state, any_as_two=data.draw(st.booleans()))
    owned: list[tuple[int, str, dict[str, Any]]] = [
        (0, "extended", SSH),
        (1, "basic", ANY_IN),
        (1, "basic", MAC_IN),
        (2, "extended", DENY_OUT),
    ]
    records = [
        {
            "adapter": one,
            "policy": "web",
            "entries": [{"kind": kind, **e} for at, kind, e in owned if at == n],
        }
        for n, one in enumerate(ids)
    ]
    wanted = sample_plan(host, ids, records=records, confirmWithin=data.draw(st.sampled_from([0, 60])))
    old = [host.keys(one) for one in ids]
    ours = {(0, key) for key in keys_of("extended", HTTPS)}
    ours |= {(at, key) for at, kind, entry in owned for key in keys_of(kind, entry)}
    foreign = {(at, key) for at in range(3) for key in old[at]} - ours

    waiting, unrecorded = 0, False

    def look(_name: str) -> None:
        nonlocal waiting, unrecorded
        if len(host.faults) < waiting and RECORD in "".join(host.log[-2:-1]):
            unrecorded = True  # it cannot be written: going back all the same is worth more
        waiting = len(host.faults)
        there = {(at, key) for at, one in enumerate(ids) for key in host.keys(one)}
        recorded = {
            (ids.index(record["adapter"]), key) for record in held(host) for key in record_keys(record)
        }
        assert foreign <= there
        assert unrecorded or there - foreign <= recorded

    host.cmdlets.on_step = look
    for operation, arguments in (("apply", {"plan": wanted}), ("undo", {"planId": "plan-1"})):
        for _ in range(data.draw(st.integers(0, 3))):
            number, when = data.draw(st.integers(1, 60)), data.draw(st.sampled_from(["before", "after"]))
            host.faults.append(CmdletFault(number, data.draw(st.sampled_from(["error", "die"])), when))
        try:
            answer = run(host, operation, **arguments)
            assert answer["ok"] or answer["error"]["message"]
        except HostDied:
            pass
        host.faults.clear()
    backups = ok(host, "backups")["backups"]
    if backups:
        assert ok(host, "undo", planId="plan-1")["undone"]
    assert [host.keys(one) for one in ids] == old
    assert ok(host, "export")["records"] == state["records"]


def held(host: HypervHost) -> list[dict[str, Any]]:
    """The ownership record on the host's disk."""
    files = host.cmdlets.files
    text = files.get(RECORD) or files.get(f"{RECORD}.new")
    found: list[dict[str, Any]] = json.loads(text)["records"] if text else []
    return found


# ------------------------------------------------------------------ automatic undo


def armed(host: HypervHost, ids: list[str]) -> list[str]:
    """Applies a plan that the host will take back after a minute; the adapter's keys before."""
    before = host.keys(ids[0])
    ok(host, "apply", plan=plan(host.state(), [step("addExtended", ids[0], SSH)], confirmWithin=60))
    return before


def test_an_automatic_undo_that_fails_is_tried_again() -> None:
    host, ids = sample()
    before = armed(host, ids)
    host.faults.extend([CmdletFault(1, operation="undo"), CmdletFault(2, operation="undo")])
    assert [answer["ok"] for answer in host.advance(60)] == [False, False, True]
    assert host.keys(ids[0]) == before
    assert not host.cmdlets.tasks
    assert not [path for path in host.cmdlets.files if path.startswith("vswitch-armed/")]


def test_an_automatic_undo_that_a_crash_cut_short_is_finished_after_the_restart() -> None:
    fresh, ids = sample()
    before = armed(fresh, ids)
    fresh.now = fresh.now.replace(minute=1)
    for number in range(1, len(fresh.steps_of(requested("undo", planId="plan-1", ifDue=True))) + 1):
        host = fresh.copy()
        host.faults.append(CmdletFault(number, "die", "after"))
        with pytest.raises(HostDied):
            host.advance(0)
        host.restart()
        assert host.keys(ids[0]) == before, number
        assert host.state()["records"] == []
        assert ok(host, "backups")["backups"][0]["state"] == "undone"


def test_an_unconfirmed_repair_and_the_half_done_plan_before_it_are_both_undone() -> None:
    host, ids = sample()
    before = host.keys(ids[0])
    first = plan(host.state(), [step("addExtended", ids[0], SSH), step("addBasic", ids[0], ANY_IN)])
    names = host.steps_of(requested("apply", plan=first | {"confirmWithin": 60}))
    host.faults.append(CmdletFault(names.index("Add-VMNetworkAdapterAcl") + 1, "die"))
    with pytest.raises(HostDied):
        run(host, "apply", plan=first | {"confirmWithin": 60})
    repair = [step("addBasic", ids[0], ANY_IN)]
    ok(host, "apply", plan=plan(host.state(), repair, planId="plan-2", confirmWithin=600))
    half = host.keys(ids[0])
    assert {answer["error"]["category"] for answer in host.advance(60)} == {"Superseded"}
    assert host.keys(ids[0]) == half
    host.advance(540)
    host.restart()  # plan-1's script would have gone on trying
    assert host.keys(ids[0]) == before
    assert {one["state"] for one in ok(host, "backups")["backups"]} == {"undone"}


def test_a_restart_before_the_time_undoes_nothing_and_one_after_it_does() -> None:
    host, ids = sample()
    before = armed(host, ids)
    assert [answer["result"]["undone"] for answer in host.restart()] == [False]
    assert host.keys(ids[0]) != before
    host.now = host.now.replace(hour=9)  # the host was down when the time came
    host.restart()
    assert host.keys(ids[0]) == before


def test_wherever_an_armed_plan_dies_the_host_undoes_it_after_the_restart() -> None:
    fresh, ids = sample()
    before = fresh.keys(ids[0])
    wanted = plan(fresh.state(), [step("addExtended", ids[0], SSH)], confirmWithin=60)
    for number in range(1, len(fresh.steps_of(requested("apply", plan=wanted))) + 1):
        host = fresh.copy()
        host.faults.append(CmdletFault(number, "die", "after"))
        with pytest.raises(HostDied):
            run(host, "apply", plan=wanted)
        host.now = host.now.replace(hour=9)
        host.restart()
        assert host.keys(ids[0]) == before, number


def test_a_task_that_the_confirming_account_may_not_remove_removes_itself() -> None:
    host, ids = sample()
    armed(host, ids)
    after = host.keys(ids[0])
    host.cmdlets.administrator = False
    assert ok(host, "confirm", planId="plan-1")["wasArmed"]
    assert host.cmdlets.tasks
    host.advance(60)
    assert host.keys(ids[0]) == after
    assert not host.cmdlets.tasks
    assert ok(host, "backups")["backups"][0]["state"] == "confirmed"


def test_confirming_comes_too_late_or_in_time_whichever_is_first() -> None:
    host, ids = sample()
    before = armed(host, ids)
    host.now = host.now.replace(minute=2)  # due, but the task has not run yet
    after = host.keys(ids[0])
    ok(host, "confirm", planId="plan-1")
    assert host.advance(0) == []
    assert host.keys(ids[0]) == after
    ok(host, "undo", planId="plan-1")
    assert host.keys(ids[0]) == before
    assert refused(host, "confirm", planId="plan-1")["category"] == "NotApplied"


@pytest.mark.parametrize("name", ["NUL", "con", "Com1", "", "a_b", "a" * 65])
def test_a_plan_is_not_named_after_a_device(name: str) -> None:
    host, ids = sample()
    wanted = plan(host.state(), [step("addExtended", ids[0], SSH)], planId=name)
    assert refused(host, "apply", plan=wanted)["category"] == "BadPlan"
    assert refused(host, "undo", planId=name)["category"] == "BadPlan"
    assert ok(host, "apply", plan=wanted | {"planId": "nul-1"})["stepsDone"] == 1


def test_a_plan_for_another_host_is_refused_though_the_vm_has_moved_here() -> None:
    host, ids = sample()
    wanted = plan(host.state(), [step("addExtended", ids[0], SSH)])
    assert "HV02" in refused(host, "apply", plan=wanted | {"host": "HV02"})["message"]
    assert host.cmdlets.files == {}
    assert ok(host, "apply", plan=wanted | {"host": "hv01"})["stepsDone"] == 1


@pytest.mark.parametrize("seconds", [-1, 1, 9, 86401])
def test_a_time_that_would_pass_before_the_task_is_there_is_refused(seconds: int) -> None:
    host, ids = sample()
    wanted = plan(host.state(), [step("addExtended", ids[0], SSH)], confirmWithin=seconds)
    assert refused(host, "apply", plan=wanted)["category"] == "BadPlan"
    assert host.cmdlets.files == {}


# ------------------------------------------------------------------ files


def test_a_file_lost_between_two_renames_is_read_from_the_new_one() -> None:
    host, ids = sample()
    wanted = sample_plan(host, ids)
    names = host.steps_of(requested("apply", plan=wanted))
    last = len(names) - names[::-1].index(f"write {BACKUP}")
    host.faults.append(CmdletFault(last, "die", "after"))
    with pytest.raises(HostDied):
        run(host, "apply", plan=wanted)
    assert BACKUP not in host.cmdlets.files
    assert [one["state"] for one in ok(host, "backups")["backups"]] == ["applied"]
    assert ok(host, "apply", plan=wanted)["adapters"][0]["state"] == "new"
    assert ok(host, "undo", planId="plan-1")["undone"]


def test_a_new_file_that_is_not_whole_counts_for_nothing() -> None:
    host, ids = sample()
    host.cmdlets.files |= {f"{RECORD}.new": '{"schema": 1, "rec', f"{BACKUP}.new": "{"}
    assert ok(host, "export")["records"] == []
    assert ok(host, "backups")["backups"] == []
    assert ok(host, "apply", plan=sample_plan(host, ids))["stepsDone"] == 5


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"planId": "plan-0"}'])
def test_a_damaged_backup_stands_in_the_way_of_its_own_plan_only(text: str) -> None:
    host, ids = sample()
    before = armed(host, ids)
    host.cmdlets.files["vswitch/backups/plan-0.json"] = text
    listed = {one["planId"]: one["state"] for one in ok(host, "backups")["backups"]}
    assert listed == {"plan-1": "applied", "plan-0": "unreadable"}
    assert host.advance(60)[-1]["ok"]
    assert host.keys(ids[0]) == before
    ok(host, "apply", plan=plan(host.state(), [step("addExtended", ids[0], SSH)], planId="plan-2"))


def test_a_damaged_backup_of_the_plan_itself_is_named() -> None:
    host, ids = sample()
    ok(host, "apply", plan=sample_plan(host, ids))
    host.cmdlets.files[BACKUP] = json.dumps({"schema": 1})[:-1]
    for operation, arguments in (("undo", {"planId": "plan-1"}), ("apply", {"plan": sample_plan(host, ids)})):
        error = refused(host, operation, **arguments)
        assert (error["category"], "plan-1.json" in error["message"]) == ("UnreadableFile", True)


# ------------------------------------------------------------------ the form of a plan


@pytest.mark.parametrize(
    ("operation", "entry"),
    [
        ("addExtended", None),
        ("addExtended", {}),
        ("addExtended", SSH | {"Direction": 3}),
        ("addExtended", SSH | {"Action": -1}),
        ("addExtended", SSH | {"Weight": 0}),
        ("removeExtended", {name: value for name, value in SSH.items() if name != "RemotePort"}),
        ("addBasic", ANY_IN | {"Action": 4}),
        ("addBasic", ANY_IN | {"RemoteAddressType": 0}),
        ("addBasic", ANY_IN | {"LocalAddressType": 6}),
        ("removeBasic", ANY_IN | {"RemoteAddressType": 9}),
        ("addBasic", SSH),
    ],
)
def test_an_entry_that_is_none_is_refused_before_anything_is_written(operation: str, entry: Any) -> None:
    host, ids = sample()
    good = step("addExtended", ids[0], extended("Deny", "Inbound", 7))
    wanted = plan(host.state(), [good, step(operation, ids[0], entry)])
    answer = host.execute(TEXT, requested("apply", plan=wanted))
    assert answer["error"]["category"] == "BadPlan"
    assert answer["error"]["target"] == {"adapter": ids[0], "step": 1}
    assert host.cmdlets.files == {}
