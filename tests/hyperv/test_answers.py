"""Answers that are empty, of another form or of another question: none of them makes a host say yes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.direct import Answering, fresh_plan, store_in
from tests.support.modelled_host.host import HypervHost, shipped_module
from tests.support.modelled_host.ours_and_theirs import RULE, Wanted, entries_on, host_with, no_wait
from tests.support.modelled_host.spoiled import JUNK, places
from tests.support.winrm.endpoint import ShellOutput, WinrmEndpoint, answer, host_handler, split_input
from vswitch.acl_entries import Entry, ExtendedEntry
from vswitch.errors import HostError
from vswitch.hyperv.applying.answers import UnreadableAnswer
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import Applied, ApplyError, NotVerified, Standing
from vswitch.hyperv.applying.remote_host import RemoteHost, backups, plan_rollback
from vswitch.model.types import Action, Direction

NEW = ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="443")
Change = Callable[[str, dict[str, Any]], Any]


class Case:
    """A host with a plan that adds NEW."""

    def __init__(self, folder: Path) -> None:
        self.host, self.adapter_id = host_with(frozenset())
        self.transport, self.store = Answering(self.host), store_in(folder)
        wanted: Wanted = {self.adapter_id: {NEW: RULE}}
        self.plan = fresh_plan(self.transport, self.store, wanted)
        self.target = RemoteHost("HV01", self.transport, self.store)

    @property
    def entries(self) -> frozenset[Entry]:
        return entries_on(self.host, self.adapter_id)

    def apply(self, **options: Any) -> Applied:
        return apply_plan(self.plan, self.transport, self.store, wait=no_wait, **options)

    def lies(self, result: Any, *, of: str = "apply", also: str = "", done: bool = True) -> None:
        """Every answer to an operation says that it is done, with this in place of the result.

        If not `done`, the operation does not reach the host.
        """

        def change(operation: str, told: dict[str, Any]) -> dict[str, Any]:
            return {"schema": 1, "ok": True, "result": result} if operation in (of, also) else told

        self.transport.change = change
        if not done:
            setattr(self.host, "execute", _unreached(self.host, of))  # noqa: B010  the method of one host


def _unreached(host: HypervHost, operation: str) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    execute = host.execute

    def nothing(module_text: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"schema": 1} if request["operation"] == operation else execute(module_text, request)

    return nothing


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def result_of(case: Case) -> dict[str, Any]:
    """What the module says of this plan once it is applied, from a host like this one."""
    request = {"operation": "apply", "arguments": {"plan": case.plan.document().to_dict()}}
    found: dict[str, Any] = case.host.copy().execute(shipped_module(), request)["result"]
    return found


def lies_of(good: dict[str, Any]) -> dict[str, Any]:
    """Results that are none of the plan's."""
    (adapter,) = good["adapters"]
    return {
        "empty": {},
        "null": None,
        "a list": [],
        "text": "applied",
        "no adapters": good | {"adapters": []},
        "adapters that are null": good | {"adapters": None},
        "another plan": good | {"planId": "plan-9"},
        "another adapter": good | {"adapters": [adapter | {"id": "Microsoft:other"}]},
        "an adapter twice": good | {"adapters": [adapter, adapter]},
        "undone as well": good | {"undone": True},
        "no entries told": good | {"adapters": [{"id": adapter["id"], "name": "x", "state": "new"}]},
        "entries that are null": good | {"adapters": [adapter | {"extendedAcls": None}]},
        "a state there is not": good | {"adapters": [adapter | {"state": "fine"}]},
        "repeated and nothing else": {"repeated": True},
    }


LIES = sorted(lies_of({"adapters": [{"id": "a"}]}))


@pytest.mark.parametrize("name", LIES)
def test_an_answer_to_a_plan_that_never_ran_is_never_verified(name: str, case: Case) -> None:
    case.lies(lies_of(result_of(case))[name], done=False)
    before = case.entries
    with pytest.raises(ApplyError, match="read again: nothing was written") as failure:
        case.apply()
    assert failure.value.standing is Standing.OLD
    assert [each.standing for each in failure.value.adapters] == [Standing.OLD]
    assert case.entries == before
    assert case.store.records() == {}


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.parametrize("name", LIES)
def test_an_answer_that_stays_unreadable_says_what_was_sent_and_how_to_see_and_undo_it(
    name: str, confirmed: bool, case: Case
) -> None:
    case.lies(lies_of(result_of(case))[name], also="export")
    with pytest.raises(NotVerified) as failure:
        case.apply(confirm_within=600)
    error = failure.value
    assert NEW in case.entries
    assert error.standing is Standing.UNKNOWN
    assert "plan plan-1 with 1 write on 1 adapter" in error.message
    assert "defect" not in error.message
    data: dict[str, Any] = error.as_dict()
    assert data["error"] == "NotVerified"
    assert data["state"] == "not known"
    assert data["see"][0] == "vswitch hyperv backups HV01"
    assert case.adapter_id in data["see"][1]
    undo = ["vswitch hyperv confirm HV01 --plan-id plan-1", "vswitch hyperv rollback HV01 --to plan-1"]
    assert data["undo"] == undo
    assert "within 600 s" in str(data["undone_by_itself"])
    assert all(str(part) in error.hint for part in (*data["see"], *data["undo"]))
    # What may have been written is still known as ours.
    assert case.store.records()[case.adapter_id] == {NEW}
    case.transport.change = lambda _, told: told
    if confirmed:
        case.target.confirm("plan-1")
        case.target.apply(plan_rollback(case.target, "plan-1"))
    else:
        case.host.advance(1200)
    assert NEW not in case.entries


def test_a_plan_that_was_in_force_already_is_known_to_the_host(case: Case) -> None:
    """What repeats a plan must have a backup of it: here all is as planned, and the plan never ran."""
    good = result_of(case)
    case.host.add_entry(case.adapter_id, "extended", good["adapters"][0]["extendedAcls"][-1])
    assert NEW in case.entries
    case.lies(good | {"repeated": True}, done=False)
    with pytest.raises(ApplyError, match=r"no backup of it") as failure:
        case.apply()
    assert failure.value.standing is Standing.OTHER


def test_a_host_that_calls_old_entries_new_is_not_believed(case: Case) -> None:
    good = result_of(case)
    (adapter,) = good["adapters"]
    (planned,) = case.plan.document().adapters
    sent = planned.to_dict()
    old: dict[str, Any] = {name: sent[wire] for name, wire in NAMES.items()}
    case.lies(good | {"adapters": [adapter | old]}, done=False)
    with pytest.raises(ApplyError, match="the host says it is done, but web01/Network Adapter is as before"):
        case.apply()


NAMES = {"acls": "expectedAcls", "extendedAcls": "expectedExtendedAcls"}


def test_an_undo_that_is_not_said_to_be_armed_is_looked_for(case: Case) -> None:
    def change(operation: str, told: dict[str, Any]) -> dict[str, Any]:
        if operation == "apply" and not told["result"].get("repeated"):
            told["result"]["armedUntil"] = None
        return told

    case.transport.change = change
    done = case.apply(confirm_within=600)
    assert done.armed_until
    assert "read again" in done.note


def test_unreadable_answers_to_a_write_are_made_good_by_reading_the_entries(case: Case) -> None:
    case.lies({})
    done = case.apply(confirm_within=600)
    assert [each.standing for each in done.adapters] == [Standing.NEW]
    assert "cannot be believed" in done.note
    assert done.armed_until


NO_ERRORS: list[Any] = [None, "no", [], {"target": 5}]


@pytest.mark.parametrize(
    "told",
    [
        *({}, {"schema": 1}, {"schema": 1, "ok": "yes", "result": {}}, {"schema": 2, "ok": True}),
        *({"schema": 1, "ok": False, "error": error} for error in NO_ERRORS),
        {"schema": 1, "ok": False, "error": {"target": {"adapter": "another"}}},
    ],
)
def test_what_is_no_answer_at_all_leaves_the_state_unknown(told: Any, case: Case) -> None:
    case.transport.change = lambda *_: told
    with pytest.raises(NotVerified, match="could not be read again"):
        case.apply()


def test_whatever_is_spoiled_in_an_answer_no_run_says_verified_or_speaks_of_a_defect(tmp_path: Path) -> None:
    for seed in range(120):
        case, chance = Case(tmp_path / str(seed)), random.Random(seed)
        case.transport.change = lambda _, told, chance=chance: spoilt(told, chance)  # type: ignore[misc]
        done, error = None, None
        try:
            done = case.apply()
        except HostError as refused:
            error = refused
        if error is None:
            assert done is not None
            assert NEW in case.entries
            assert [each.standing for each in done.adapters] == [Standing.NEW]
            continue
        assert "unexpected" not in error.message
        if isinstance(error, ApplyError) and error.standing is Standing.OLD:
            assert NEW not in case.entries


def spoilt(told: dict[str, Any], chance: random.Random) -> Any:
    """An answer with one place replaced by something else."""
    found = copy.deepcopy(told)
    *path, last = chance.choice([place for place in places(found) if place])
    inner: Any = found
    for key in path:
        inner = inner[key]
    inner[last] = copy.deepcopy(chance.choice(JUNK))
    return found


# --- the other operations ------------------------------------------------------------------------

NO_LISTS: list[Any] = [None, {}, [], {"backups": None}, {"backups": [{}]}, {"backups": ["plan-1"]}]


@pytest.mark.parametrize("result", NO_LISTS)
def test_a_list_of_backups_that_is_none_is_not_an_empty_one(result: Any, case: Case) -> None:
    case.apply()
    case.lies(result, of="backups")
    for ask in (backups, plan_rollback, lambda target: target.confirm("")):
        with pytest.raises(UnreadableAnswer):
            ask(case.target)


def test_a_backup_of_another_plan_is_not_gone_back_to(case: Case) -> None:
    case.apply()

    def change(operation: str, told: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(told).replace("plan-1", "plan-2")) if whole(operation, told) else told

    def whole(operation: str, told: dict[str, Any]) -> bool:
        return operation == "backups" and "plan" in told["result"]["backups"][0]

    case.transport.change = change
    with pytest.raises(UnreadableAnswer, match="about plan plan-2, not plan-1"):
        plan_rollback(case.target)


@pytest.mark.parametrize(
    "result",
    [
        *(None, {}, {"planId": "plan-9", "confirmed": True, "wasArmed": True}),
        {"planId": "plan-1", "confirmed": False, "wasArmed": True},
        {"planId": "plan-1", "confirmed": True, "wasArmed": True},
    ],
)
def test_a_plan_stays_only_if_the_host_then_lists_it_so(result: Any, case: Case) -> None:
    case.apply(confirm_within=600)
    case.lies(result, of="confirm", done=False)
    with pytest.raises(NotVerified, match=r"lists it as applied, to be undone at ") as failure:
        case.target.confirm("plan-1")
    assert "vswitch hyperv backups HV01" in failure.value.hint
    case.host.advance(1200)
    assert NEW not in case.entries


def test_a_confirmation_whose_answer_is_lost_is_read_back(case: Case) -> None:
    case.apply(confirm_within=600)
    case.lies({}, of="confirm")
    assert case.target.confirm("").confirmed
    case.host.advance(1200)
    assert NEW in case.entries


def test_a_confirmation_that_cannot_be_read_back_is_not_verified(case: Case) -> None:
    case.apply(confirm_within=600)
    case.lies(None, of="backups")
    with pytest.raises(NotVerified, match="sent was to keep plan plan-1"):
        case.target.confirm("plan-1")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(adapters=None),
        lambda state: state.update(adapters=""),
        lambda state: state["adapters"].append(None),
        lambda state: state["adapters"][0].pop("extendedAcls"),
        lambda state: state["adapters"][0].update(acls=None),
        lambda state: state["adapters"].append(state["adapters"][0]),
        lambda state: state["adapters"][0].update(Id=None),
    ],
)
def test_a_state_that_leaves_something_out_is_not_as_wanted(change: Any, case: Case) -> None:
    def changed(operation: str, told: dict[str, Any]) -> dict[str, Any]:
        change(told["result"])
        return told

    case.transport.change = changed
    with pytest.raises(UnreadableAnswer, match="cannot be understood"):
        case.target.read()


def test_what_is_no_entry_counts_as_one_that_cannot_be_read(case: Case) -> None:
    def changed(_: str, told: dict[str, Any]) -> dict[str, Any]:
        told["result"]["adapters"][0]["extendedAcls"].append("Allow everything\x1b[2J\n")
        return told

    case.transport.change = changed
    (text,) = case.target.read().adapters[0].unreadable
    assert text.startswith("extended entry that is not one:")
    assert text.isprintable()


# --- from the command line, over WinRM -----------------------------------------------------------


class Liar:
    """A host over WinRM that answers some operations with something else."""

    def __init__(self, host: HypervHost, lies: dict[str, Any]) -> None:
        self.honest, self.lies = host_handler(host), lies

    def __call__(self, stdin: bytes) -> bytes | ShellOutput:
        operation = split_input(stdin)[1]["operation"]
        honest = self.honest(stdin)
        return answer(self.lies[operation]) if operation in self.lies else honest


def test_not_verified_is_an_outcome_of_its_own(shop: Shop) -> None:
    liar = Liar(HypervHost(shop.state), {})
    with WinrmEndpoint(liar) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        liar.lies |= {"apply": {"schema": 1, "ok": True, "result": {}}, "backups": {"schema": 1}}
        words = ("apply", "layout.yaml", "hv01", "--adopt", "--yes", *over)
        said = " ".join(shop.run(*words, status=2).output.split())
        assert "1 not verified" in said
        assert "applied and verified" not in said
        assert "defect" not in said
        assert "vswitch hyperv backups hv01" in said
        assert "vswitch hyperv rollback hv01 --to " in said
        liar.lies["apply"] = {"schema": 1, "ok": True, "result": None}
        shop.edit("local_port: 443", "local_port: 443-444")
        (one,) = shop.json(*words, status=2)["hosts"]
        assert one["status"] == "not verified"
        assert one["error"]["error"] == "NotVerified"
        assert one["error"]["undo"][0].startswith("vswitch hyperv rollback hv01 --to ")
        liar.lies = {"confirm": {"schema": 1, "ok": True, "result": {}}, "backups": {"schema": 1}}
        (one,) = shop.json("confirm", "hv01", "--plan-id", "plan-1", *over, status=2)["hosts"]
        assert one["status"] == "not verified"


def test_a_defect_after_something_was_sent_says_so_and_what_to_do(case: Case) -> None:
    def breaks(_: str, told: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("of a library\x1b[2J")

    case.transport.change = breaks
    with pytest.raises(NotVerified, match="a defect of vswitch, please report it: ") as failure:
        case.apply()
    assert failure.value.message.isprintable()
    assert "vswitch hyperv rollback HV01 --to plan-1" in failure.value.hint
