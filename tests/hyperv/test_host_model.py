"""The strict model of a Hyper-V host, and through it the algorithm of the shipped module."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host.host import (
    CmdletError,
    CmdletFault,
    Hang,
    HostDied,
    HypervHost,
    NotTheModule,
)
from tests.support.modelled_host.sample_host import (
    ANY_IN,
    DENY_OUT,
    SSH,
    TEXT,
    ok,
    record_keys,
    refused,
    run,
    sample,
    sample_plan,
)
from tests.support.modelled_host.states import OFF, adapter, extended, plan, sample_state, step, vm
from vswitch.semantics import frame

EXISTS, INVALID = 0x800700B7, 0x80070057


# ------------------------------------------------------------------ export


def test_export_shows_what_the_host_holds() -> None:
    host, _ = sample()
    exported, put_in = ok(host, "export"), sample_state()
    for part in ("switches", "vms", "adapters", "addresses", "nats", "teams", "records"):
        assert exported[part] == put_in[part], part
    assert exported["unread"] == []


def test_only_the_shipped_module_runs() -> None:
    host, _ = sample()
    with pytest.raises(NotTheModule):
        host.execute(TEXT + "\n", {"operation": "export", "arguments": {}})


def test_parts_beyond_the_accounts_rights_are_named() -> None:
    host, _ = sample()
    host.cmdlets.administrator = False
    assert [part["part"] for part in ok(host, "export")["unread"]] == ["nats"]


def test_missing_groups_do_not_look_like_an_empty_host() -> None:
    host, _ = sample()
    host.cmdlets.administrator = host.cmdlets.hyper_v_administrator = False
    assert refused(host, "export")["category"] == "AccessDenied"
    host.cmdlets.hyper_v_missing = True
    assert refused(host, "export")["category"] == "HyperVMissing"


def test_without_the_groups_the_cmdlets_return_nothing() -> None:
    cmdlets = sample()[0].cmdlets
    cmdlets.administrator = cmdlets.hyper_v_administrator = False
    found = [cmdlets.get_vm(), cmdlets.get_vm_network_adapter(ManagementOS=True), cmdlets.get_vm_switch()]
    assert found == [[], [], []]


def test_unknown_operation() -> None:
    host, _ = sample()
    assert refused(host, "format")["category"] == "UnknownOperation"


# ------------------------------------------------------------------ what the cmdlets accept


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Weight": 0}, INVALID),
        ({"Weight": 65536}, INVALID),
        ({"LocalPort": "80,443", "Protocol": "TCP"}, INVALID),
        ({"LocalPort": "90-80", "Protocol": "TCP"}, INVALID),
        ({"LocalPort": "80"}, INVALID),
        ({"LocalPort": "0080", "Protocol": "TCP"}, INVALID),
        ({"LocalPort": "\u0668\u0660", "Protocol": "TCP"}, INVALID),
        ({"Protocol": "06"}, INVALID),
        ({"Protocol": "\u0666"}, INVALID),
        ({"RemoteIPAddress": "10.0.0.1/8"}, INVALID),
        ({"RemoteIPAddress": "10.0.0.0/08"}, INVALID),
        ({"RemoteIPAddress": "fe80::1%4"}, INVALID),
        ({"RemoteIPAddress": "2001:db8:1111:2222:3333:4444:5555:6660/124"}, INVALID),
        ({"LocalPort": "80", "Protocol": "1"}, INVALID),
        ({"LocalIPAddress": "10.0.0.1", "RemoteIPAddress": "fd00::1"}, INVALID),
        ({"RemoteIPAddress": "10.0.0.0/33"}, INVALID),
        ({"Protocol": "256"}, INVALID),
        ({"Stateful": True, "IdleSessionTimeout": 60}, INVALID),
        ({"Stateful": True, "IdleSessionTimeout": 60, "Protocol": "1"}, INVALID),
        ({"Stateful": True, "IdleSessionTimeout": 60, "Protocol": "TCP", "Action": 2}, INVALID),
        ({"Stateful": True, "IdleSessionTimeout": 70000, "Protocol": "TCP"}, INVALID),
        ({"Weight": 500}, EXISTS),
    ],
)
def test_running_vm_refuses_an_extended_entry(fields: dict[str, Any], code: int) -> None:
    host, ids = sample()
    before = host.keys(ids[0])
    with pytest.raises(CmdletError) as caught:
        host.add_entry(ids[0], "extended", extended("Allow", "Inbound", 77) | fields)
    assert caught.value.hresult == code
    assert host.keys(ids[0]) == before


def test_ipv6_host_address_with_its_length_is_refused_and_ipv4_drops_it() -> None:
    host, ids = sample()
    add = host.cmdlets.add_vm_network_adapter_extended_acl
    live = host.adapter(ids[0])
    common: dict[str, Any] = {
        "VMNetworkAdapter": live,
        "Action": "Allow",
        "Direction": "Inbound",
        "Weight": 9,
    }
    with pytest.raises(CmdletError):
        add(**common, LocalIPAddress="fd00::1/128")
    add(**common, LocalIPAddress="10.0.0.1/32")
    assert live["extendedAcls"][-1]["LocalIPAddress"] == "10.0.0.1"
    with pytest.raises(CmdletError, match="Cannot convert"):
        add(**{**common, "Weight": 8, "Stateful": "true"})
    with pytest.raises(CmdletError, match="not a value"):
        add(VMNetworkAdapter=live, Action="Allow", Direction="Both", Weight=8)
    with pytest.raises(CmdletError, match="without Stateful"):
        add(VMNetworkAdapter=live, Action="Allow", Direction="Inbound", Weight=8, IdleSessionTimeout=60)


def test_weight_is_unique_per_direction_only() -> None:
    host, ids = sample()
    host.add_entry(ids[0], "extended", extended("Deny", "Outbound", 500))
    with pytest.raises(CmdletError):
        host.add_entry(ids[0], "extended", extended("Deny", "Outbound", 500, Protocol="UDP"))


def test_stateful_is_refused_late_while_the_vm_is_off() -> None:
    host, ids = sample()
    machine = host.adapter(ids[1])["VMId"]
    wrong = extended("Allow", "Inbound", 9, Protocol="1", Stateful=True, IdleSessionTimeout=60)
    host.add_entry(ids[1], "extended", wrong)
    with pytest.raises(CmdletError) as caught:
        host.cmdlets.start_vm(machine)
    assert caught.value.hresult == INVALID
    host.remove_entry(ids[1], "extended", wrong)
    host.cmdlets.start_vm(machine)


def test_stateful_is_refused_late_while_the_adapter_is_disconnected() -> None:
    state = sample_state()
    state["vms"].append(vm("idle"))
    state["adapters"].append(adapter("idle", None, 9))
    host, one = HypervHost(state), state["adapters"][-1]["Id"]
    wrong = extended("Deny", "Inbound", 9, Protocol="TCP", Stateful=True, IdleSessionTimeout=60)
    host.add_entry(one, "extended", wrong)
    with pytest.raises(CmdletError):
        host.cmdlets.connect(host.adapter(one), state["switches"][0]["Id"])
    assert not host.adapter(one)["Connected"]
    host.remove_entry(one, "extended", wrong)
    host.cmdlets.connect(host.adapter(one), state["switches"][0]["Id"])
    assert host.adapter(one)["Connected"]


def test_basic_entries() -> None:
    host, ids = sample()
    live, add = host.adapter(ids[2]), host.cmdlets.add_vm_network_adapter_acl
    add(VMNetworkAdapter=live, Action="Deny", Direction="Both", RemoteIPAddress="10.1.0.0/16")
    assert [entry["Direction"] for entry in live["acls"]] == [1, 2]
    with pytest.raises(CmdletError) as caught:
        add(VMNetworkAdapter=live, Action="Allow", Direction="Inbound", RemoteIPAddress="10.1.0.0/16")
    assert caught.value.hresult == EXISTS
    add(VMNetworkAdapter=live, Action="Meter", Direction="Inbound", RemoteIPAddress="10.1.0.0/16")
    for wrong in (
        {"Action": "Meter", "RemoteMacAddress": "00-15-5D-00-00-01"},
        {"Action": "Deny", "RemoteMacAddress": "00155D000001"},
        {"Action": "Deny", "RemoteIPAddress": "10.0.0.1", "LocalIPAddress": "10.0.0.2"},
        {"Action": "Deny", "RemoteAddress": "10.0.0.1"},
    ):
        with pytest.raises(CmdletError):
            add(VMNetworkAdapter=live, Direction="Inbound", **wrong)


@pytest.mark.parametrize("any_as_two", [False, True])
def test_any_is_one_entry_or_two_and_goes_as_a_whole(any_as_two: bool) -> None:
    host, ids = sample(any_as_two=any_as_two)
    ok(host, "apply", plan=plan(host.state(), [step("addBasic", ids[0], ANY_IN)]))
    assert len(host.adapter(ids[0])["acls"]) == (3 if any_as_two else 2)
    removal = plan(host.state(), [step("removeBasic", ids[0], ANY_IN)], planId="plan-2")
    assert ok(host, "apply", plan=removal)["adapters"][0]["state"] == "new"
    assert host.adapter(ids[0])["acls"] == sample_state()["adapters"][0]["acls"]


@pytest.mark.parametrize("any_as_two", [False, True])
@pytest.mark.parametrize("first", ["ANY", "0.0.0.0/0", "::/0"])
def test_any_and_one_of_its_halves_exclude_each_other(any_as_two: bool, first: str) -> None:
    host, ids = sample(any_as_two=any_as_two)
    live, add = host.adapter(ids[2]), host.cmdlets.add_vm_network_adapter_acl
    common: dict[str, Any] = {"VMNetworkAdapter": live, "Action": "Deny", "Direction": "Inbound"}
    add(**common, RemoteIPAddress=first)
    held = list(live["acls"])
    for second in ("0.0.0.0/0", "::/0") if first == "ANY" else ("ANY",):
        with pytest.raises(CmdletError) as caught:
            add(**common, RemoteIPAddress=second)
        assert caught.value.hresult == EXISTS
    assert live["acls"] == held
    add(**common, LocalIPAddress="ANY")


# ------------------------------------------------------------------ apply, undo, confirm


def test_apply_undo_and_repeat() -> None:
    host, ids = sample()
    before = [host.keys(one) for one in ids]
    wanted = sample_plan(host, ids)
    result = ok(host, "apply", plan=wanted)
    assert (result["stepsDone"], result["undone"], result["armedUntil"]) == (5, False, None)
    assert {one["state"] for one in result["adapters"]} == {"new"}
    assert host.state()["records"] == wanted["records"]
    after = [host.keys(one) for one in ids]

    again = ok(host, "apply", plan=wanted)
    assert [host.keys(one) for one in ids] == after
    assert not [name for name in host.log if name.startswith(("Add-", "Remove-", "write"))]
    assert again["adapters"] == result["adapters"]

    undone = ok(host, "undo", planId="plan-1")
    assert undone["undone"]
    assert {one["state"] for one in undone["adapters"]} == {"old"}
    assert [host.keys(one) for one in ids] == before
    assert host.state()["records"] == []
    assert ok(host, "undo", planId="plan-1")["undone"]
    assert ok(host, "backups")["backups"][0]["state"] == "undone"
    assert ok(host, "apply", plan=wanted)["stepsDone"] == 5


def test_backups_are_listed_newest_first_and_shown_whole() -> None:
    host, ids = sample()
    ok(host, "apply", plan=sample_plan(host, ids))
    ok(host, "apply", plan=plan(host.state(), [step("addBasic", ids[0], ANY_IN)], planId="plan-2"))
    listed = ok(host, "backups")["backups"]
    assert [one["planId"] for one in listed] == ["plan-2", "plan-1"]
    assert (listed[1]["steps"], listed[1]["stepsDone"], listed[1]["state"]) == (5, 5, "applied")
    (whole,) = ok(host, "backups", planId="plan-1")["backups"]
    assert whole["adapters"][0]["extendedAcls"] == sample_state()["adapters"][0]["extendedAcls"]
    assert refused(host, "backups", planId="plan-3")["category"] == "NotFound"
    assert refused(host, "undo", planId="plan-1")["category"] == "Superseded"
    assert refused(host, "undo", planId="../owned")["category"] == "BadPlan"


def test_changed_host_is_refused_with_nothing_written() -> None:
    host, ids = sample()
    wanted = sample_plan(host, ids)
    host.add_entry(ids[0], "extended", extended("Deny", "Inbound", 2))
    error = refused(host, "apply", plan=wanted)
    assert (error["category"], error["target"]["adapter"]) == ("StateChanged", ids[0])
    host.remove_adapter(ids[0])
    assert refused(host, "apply", plan=wanted)["category"] == "NotFound"
    assert host.cmdlets.files == {}


def test_spelling_and_order_of_what_was_expected_do_not_matter() -> None:
    host, ids = sample()
    wanted = plan(host.state(), [step("addExtended", ids[0], SSH)])
    rules = [dict(rule) for rule in reversed(wanted["adapters"][0]["expectedExtendedAcls"])]
    for rule in rules:
        del rule["IdleSessionTimeout"]
        rule["Protocol"] = {"TCP": "6"}.get(rule["Protocol"], rule["Protocol"])
    wanted["adapters"][0]["expectedExtendedAcls"] = rules
    wanted["adapters"][0]["expectedAcls"][0]["MeteredMegabytes"] = "17"
    assert ok(host, "apply", plan=wanted)["stepsDone"] == 1


def test_records_of_other_adapters_stay() -> None:
    state = sample_state()
    ids = [one["Id"] for one in state["adapters"]]
    other = {"adapter": ids[1], "policy": "web", "entries": []}
    state["records"] = [other]
    host = HypervHost(state)
    mine = {"adapter": ids[0], "policy": "web", "entries": [{"kind": "extended", **SSH}]}
    ok(host, "apply", plan=plan(state, [step("addExtended", ids[0], SSH)], records=[mine]))
    assert host.state()["records"] == [other, mine]
    ok(host, "undo", planId="plan-1")
    assert host.state()["records"] == [other]


def test_failure_in_the_middle_is_undone_and_says_where() -> None:
    host, ids = sample()
    before = [host.keys(one) for one in ids]
    wanted = sample_plan(host, ids)
    names = host.steps_of({"operation": "apply", "arguments": {"plan": wanted}})
    place = names.index("Add-VMNetworkAdapterAcl")
    host.faults.append(CmdletFault(place + 1, hresult=0x80070005, message="Denied. (0x80070005)"))
    answer = run(host, "apply", plan=wanted)
    assert answer["error"]["hresult"] == 0x80070005
    assert answer["error"]["target"] == {"adapter": ids[1], "step": 2}
    assert answer["result"]["undone"]
    assert {one["state"] for one in answer["result"]["adapters"]} == {"old"}
    assert [host.keys(one) for one in ids] == before


def test_foreign_entry_that_was_there_first_is_kept() -> None:
    host, ids = sample()
    wanted = plan(host.state(), [step("addExtended", ids[0], DENY_OUT), step("addExtended", ids[0], SSH)])

    def meddle(name: str) -> None:
        if name == "Add-VMNetworkAdapterExtendedAcl":
            host.cmdlets.on_step = lambda _name: None
            host.adapter(ids[0])["extendedAcls"].append(dict(DENY_OUT))

    host.cmdlets.on_step = meddle
    assert refused(host, "apply", plan=wanted)["hresult"] == EXISTS
    assert DENY_OUT in host.adapter(ids[0])["extendedAcls"]


def test_another_plan_waits_for_confirmation() -> None:
    host, ids = sample()
    first = plan(host.state(), [step("addExtended", ids[0], SSH)], confirmWithin=60)
    until = ok(host, "apply", plan=first)["armedUntil"]
    assert until == "2026-01-01T00:01:00Z"
    second = plan(host.state(), [step("addExtended", ids[2], DENY_OUT)], planId="plan-2")
    assert refused(host, "apply", plan=second)["category"] == "Armed"
    assert ok(host, "confirm", planId="plan-1") == {"planId": "plan-1", "confirmed": True, "wasArmed": True}
    assert host.advance(120) == []
    assert ok(host, "confirm", planId="plan-1")["wasArmed"] is False
    assert ok(host, "apply", plan=second)["stepsDone"] == 1


def test_unconfirmed_plan_is_undone_by_the_host() -> None:
    host, ids = sample()
    before = host.keys(ids[0])
    armed = plan(host.state(), [step("addExtended", ids[0], SSH)], confirmWithin=60)
    ok(host, "apply", plan=armed)
    assert host.advance(59) == []
    (answer,) = host.advance(1)
    assert answer["result"]["undone"]
    assert host.keys(ids[0]) == before
    assert refused(host, "confirm", planId="plan-1")["category"] == "NotApplied"


def test_automatic_undo_needs_an_administrator_before_anything_is_written() -> None:
    host, ids = sample()
    host.cmdlets.administrator = False
    armed = plan(host.state(), [step("addExtended", ids[0], SSH)], confirmWithin=60)
    assert refused(host, "apply", plan=armed)["category"] == "AccessDenied"
    assert host.cmdlets.files == {}
    assert ok(host, "apply", plan=armed | {"confirmWithin": 0})["stepsDone"] == 1


@pytest.mark.parametrize(("name", "category"), [("busy", "Busy"), ("unsafe_folder", "UnsafeFolder")])
def test_host_that_cannot_be_written_to(name: str, category: str) -> None:
    host, ids = sample()
    setattr(host, name, True)
    assert refused(host, "apply", plan=sample_plan(host, ids))["category"] == category


def test_malformed_plans() -> None:
    host, ids = sample()
    good = sample_plan(host, ids)
    wrong = [
        good | {"schema": 2},
        good | {"planId": "x y"},
        good | {"steps": [step("replace", ids[0], SSH)]},
        good | {"steps": [step("addExtended", "Microsoft:nowhere", SSH)]},
    ]
    assert {refused(host, "apply", plan=one)["category"] for one in wrong} == {"BadPlan"}


# ------------------------------------------------------------------ interruptions


@given(data=st.data())
def test_whatever_happens_at_any_step_the_host_is_old_new_or_named(data: st.DataObject) -> None:
    host, ids = sample(any_as_two=data.draw(st.booleans()))
    wanted = sample_plan(host, ids, confirmWithin=data.draw(st.sampled_from([0, 60])))
    old = [host.keys(one) for one in ids]
    request = {"operation": "apply", "arguments": {"plan": wanted}}
    steps = host.steps_of(request)
    fresh = host.copy()
    fresh.execute(TEXT, request)
    new = [fresh.keys(one) for one in ids]
    fault = CmdletFault(
        data.draw(st.integers(1, len(steps))),
        data.draw(st.sampled_from(["error", "die", "hang"])),
        data.draw(st.sampled_from(["before", "after"])),
    )
    host.faults.append(fault)
    try:
        answer = host.execute(TEXT, request)
    except (HostDied, Hang):
        answer = None
        if state_of(host) == "applying":
            recorded = {key for record in host.state()["records"] for key in record_keys(record)}
            added = {key for one in ids[:1] for key in host.keys(one)} - set(old[0])
            assert added <= recorded, "an entry of ours is on the host without a record"
            if host.cmdlets.tasks:
                host.advance(60)
            else:
                ok(host, "undo", planId="plan-1")
    now = [host.keys(one) for one in ids]
    assert now == (new if state_of(host) == "applied" else old)
    if answer is not None and not answer["ok"] and answer["result"]:
        assert {one["state"] for one in answer["result"]["adapters"]} == {"old"}
    # A repeat completes.
    host.advance(60)
    ok(host, "apply", plan=wanted)
    assert [host.keys(one) for one in ids] == new


def state_of(host: HypervHost) -> str:
    backups = ok(host, "backups")["backups"]
    return str(backups[0]["state"]) if backups else ""


def test_an_undo_that_fails_is_named_and_can_be_repeated() -> None:
    host, ids = sample()
    before = [host.keys(one) for one in ids]
    ok(host, "apply", plan=sample_plan(host, ids))
    first = host.steps_of({"operation": "undo", "arguments": {"planId": "plan-1"}})
    host.faults.append(CmdletFault(first.index("Remove-VMNetworkAdapterAcl") + 1))
    answer = run(host, "undo", planId="plan-1")
    assert not answer["ok"]
    assert [error["target"]["adapter"] for error in answer["result"]["errors"]] == [ids[1]]
    states = {one["id"]: one["state"] for one in answer["result"]["adapters"]}
    assert states == {ids[0]: "old", ids[1]: "other", ids[2]: "old"}
    assert ok(host, "backups")["backups"][0]["state"] == "failed"
    assert refused(host, "apply", plan=sample_plan(host, ids))["category"] == "Unfinished"
    assert ok(host, "undo", planId="plan-1")["undone"]
    assert [host.keys(one) for one in ids] == before


def test_steps_never_begun_are_not_undone() -> None:
    host, ids = sample()
    temporary = extended("Allow", "Inbound", 700)
    steps = [step("addExtended", ids[0], temporary), step("removeExtended", ids[0], temporary)]
    wanted = plan(host.state(), steps)
    names = host.steps_of({"operation": "apply", "arguments": {"plan": wanted}})
    host.faults.append(CmdletFault(names.index("Add-VMNetworkAdapterExtendedAcl") + 1, "die"))
    with pytest.raises(HostDied):
        run(host, "apply", plan=wanted)
    assert ok(host, "backups")["backups"][0]["stepsDone"] == 1
    ok(host, "undo", planId="plan-1")
    assert "Add-VMNetworkAdapterExtendedAcl" not in host.log


# ------------------------------------------------------------------ verdicts


def test_verdicts_come_from_the_reference() -> None:
    host, ids = sample()
    host.cmdlets.stop_vm(host.adapter(ids[0])["VMId"])
    web, other = "00-15-5D-0A-00-01", "00-15-5D-0A-00-02"

    def arrives(port: int) -> bool:
        probe = frame.tcp(other, web, ip_address("10.0.0.12"), ip_address("10.0.0.11"), 40000, port)
        return bool(host.verdict(ids[1], probe).outputs)

    assert arrives(443)
    assert not arrives(22)
    ok(host, "apply", plan=plan(host.state(), [step("addExtended", ids[0], SSH)]))
    assert arrives(22)
    assert host.cmdlets.content["vms"][1]["State"] == OFF
