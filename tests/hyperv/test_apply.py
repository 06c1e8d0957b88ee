"""Apply over the modelled host, interrupted at every step: old, new, or a state that is named."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import CmdletFault
from tests.support.modelled_host.ours_and_theirs import (
    FOREIGN,
    FOREIGN_KEYS,
    RULE,
    Wanted,
    entries_on,
    host_with,
    no_wait,
)
from tests.support.modelled_host.states import extended
from vswitch.acl_entries import BasicEntry, Entry, ExtendedEntry
from vswitch.errors import EnvironmentError_, HostError, InputErrors
from vswitch.hyperv.applying.answers import ask_confirm
from vswitch.hyperv.applying.apply import apply_plan
from vswitch.hyperv.applying.outcomes import ApplyError, Standing
from vswitch.hyperv.host.host_state import read_state
from vswitch.hyperv.planning.desired import Desired, PolicyRule
from vswitch.hyperv.planning.desired import Wanted as DesiredEntries
from vswitch.hyperv.planning.host_plan import plan_host
from vswitch.model.types import Action, BasicAction, Direction, Side


@st.composite
def our_entries(draw: st.DrawFn) -> frozenset[Entry]:
    """Entries that do not take the place of the foreign ones."""
    found: dict[tuple[object, ...], Entry] = {}
    for _ in range(draw(st.integers(0, 4))):
        action = draw(st.sampled_from(list(Action)))
        stateful = action is Action.ALLOW and draw(st.booleans())
        entry: Entry = ExtendedEntry(
            draw(st.sampled_from(list(Direction))),
            draw(st.integers(39_998, 40_003)),  # beside the foreign ones, and beside each other
            action,
            draw(st.sampled_from(["TCP", "UDP"])) if stateful else draw(st.sampled_from(["ANY", "TCP", "1"])),
            remote=draw(st.sampled_from(["ANY", "10.0.0.0/8", "2001:db8::5"])),
            stateful=stateful,
            timeout=300 if stateful else 0,
        )
        if entry.key not in FOREIGN_KEYS:
            found.setdefault(entry.key, entry)
    for address in draw(
        st.lists(st.sampled_from(["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0"]), max_size=2)
    ):
        entry = BasicEntry(
            draw(st.sampled_from(list(Direction))),
            draw(st.sampled_from([BasicAction.ALLOW, BasicAction.DENY])),
            Side.REMOTE,
            address,
        )
        found.setdefault(entry.key, entry)
    return frozenset(found.values())


@given(
    old=our_entries(),
    new=our_entries(),
    step=st.integers(1, 60),
    kind=st.sampled_from(["error", "die", "hang"]),
    when=st.sampled_from(["before", "after"]),
    stays_dead=st.booleans(),
    any_as_two=st.booleans(),
)
def test_interrupted_anywhere(
    old: frozenset[Entry],
    new: frozenset[Entry],
    step: int,
    kind: str,
    when: str,
    stays_dead: bool,
    any_as_two: bool,
) -> None:
    host, adapter_id = host_with(old, any_as_two=any_as_two)
    transport = DirectTransport(host, stays_dead=stays_dead)
    before = entries_on(host, adapter_id)
    others = {raw["Id"]: entries_on(host, raw["Id"]) for raw in host.state()["adapters"][1:]}
    wanted: Wanted = {adapter_id: dict.fromkeys(new, RULE)}

    def foreign_is_there(_name: str) -> None:
        assert entries_on(host, adapter_id) >= FOREIGN

    host.cmdlets.on_step = foreign_is_there
    with tempfile.TemporaryDirectory() as folder:
        store = store_in(Path(folder))
        plan = fresh_plan(transport, store, wanted)
        host.faults.append(CmdletFault(step, kind, when, operation="apply"))
        failure: HostError | None = None
        try:
            apply_plan(plan, transport, store, wait=no_wait)
        except HostError as error:
            failure = error
        there = entries_on(host, adapter_id)
        if failure is None:
            assert there == new | FOREIGN
        elif not isinstance(failure, ApplyError) or failure.standing is Standing.OLD:
            assert there == before
        elif failure.standing is Standing.UNKNOWN:
            # Only of a host that cannot be asked any more, and never that it is as it was or as planned.
            assert transport.dead
            assert plan.plan_id in failure.message
            assert there >= FOREIGN
            assert not any(each.standing in (Standing.OLD, Standing.NEW) for each in failure.adapters)
        else:
            said = {line for each in failure.adapters for line in each.details}
            assert len(said) == len(there ^ before)
        for other, entries in others.items():
            assert entries_on(host, other) == entries

        # A repeat completes, from whatever state; the record of the host may be lost in between.
        host.faults.clear()
        transport.dead = False
        again = fresh_plan(transport, store, wanted, plan_id="plan-2")
        apply_plan(again, transport, store, wait=no_wait)
        assert entries_on(host, adapter_id) == new | FOREIGN

        # And once more changes nothing.
        assert not fresh_plan(transport, store, wanted, plan_id="plan-3").changes


@pytest.mark.parametrize("kind", ["error", "die", "hang"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_every_single_step_of_one_plan(kind: str, when: str, tmp_path: Path) -> None:
    old: frozenset[Entry] = frozenset(
        {
            ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80"),
            ExtendedEntry(Direction.INBOUND, 1, Action.DENY),
            BasicEntry(Direction.INBOUND, BasicAction.ALLOW, Side.REMOTE, "10.0.0.0/8"),
        }
    )
    new: frozenset[Entry] = frozenset(
        {
            ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80-90"),
            ExtendedEntry(Direction.INBOUND, 400, Action.ALLOW, "1"),
            ExtendedEntry(Direction.INBOUND, 1, Action.DENY),
            BasicEntry(Direction.INBOUND, BasicAction.DENY, Side.REMOTE, "10.0.0.0/8"),
        }
    )
    host, adapter_id = host_with(old)
    wanted: Wanted = {adapter_id: dict.fromkeys(new, RULE)}
    probe = DirectTransport(host)
    plan = fresh_plan(probe, store_in(tmp_path / "probe"), wanted)
    total = len(host.steps_of({"operation": "apply", "arguments": {"plan": plan.document().to_dict()}}))
    seen = set()
    for step in range(1, total + 1):
        host, adapter_id = host_with(old)
        transport = DirectTransport(host)
        store = store_in(tmp_path / f"{step}")
        before = entries_on(host, adapter_id)
        plan = fresh_plan(transport, store, wanted)
        host.faults.append(CmdletFault(step, kind, when, operation="apply"))
        try:
            apply_plan(plan, transport, store, wait=no_wait)
            seen.add("new")
            assert entries_on(host, adapter_id) == new | FOREIGN
        except HostError:
            seen.add("old")
            assert entries_on(host, adapter_id) == before
    assert seen <= {"old", "new"}
    assert "old" in seen


def _one(**changes: Any) -> Wanted:
    _host, adapter_id = host_with(frozenset())
    return {adapter_id: {ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", **changes): RULE}}


def test_two_round_trips_and_repeating_changes_nothing(tmp_path: Path) -> None:
    host, _adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, _one())
    done = apply_plan(plan, transport, store)
    assert transport.trips == 2
    assert [each.standing for each in done.adapters] == [Standing.NEW]
    again = fresh_plan(transport, store, _one(), plan_id="plan-2")
    assert not again.changes
    assert apply_plan(again, transport, store).steps == 0


def test_a_host_that_changed_since_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    plan = fresh_plan(transport, store, _one())
    host.add_entry(adapter_id, "extended", extended("Deny", "Inbound", 7))
    before = entries_on(host, adapter_id)
    with pytest.raises(ApplyError, match=r"changed since the plan was made.*nothing was written"):
        apply_plan(plan, transport, store)
    assert entries_on(host, adapter_id) == before
    assert store.records() == {}


def test_an_error_of_hyperv_names_the_rule_and_its_line(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    before = entries_on(host, adapter_id)
    plan = fresh_plan(transport, store, _one())
    steps = host.steps_of({"operation": "apply", "arguments": {"plan": plan.document().to_dict()}})
    place = steps.index("Add-VMNetworkAdapterExtendedAcl") + 1
    host.faults.append(CmdletFault(place, hresult=0x80070057, operation="apply"))
    with pytest.raises(ApplyError, match=r"'rule'.*web01.*0x80070057.*everything was undone") as refused:
        apply_plan(plan, transport, store)
    assert refused.value.where == RULE.origin
    assert entries_on(host, adapter_id) == before


def test_an_unconfirmed_plan_is_undone_by_the_host(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    before = entries_on(host, adapter_id)
    done = apply_plan(fresh_plan(transport, store, _one()), transport, store, confirm_within=60)
    assert done.armed_until
    host.advance(120)
    assert entries_on(host, adapter_id) == before


def test_a_confirmed_plan_stays(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    done = apply_plan(fresh_plan(transport, store, _one()), transport, store, confirm_within=60)
    ask_confirm(transport, "HV01", done.plan_id)
    host.advance(120)
    assert len(entries_on(host, adapter_id)) == len(FOREIGN) + 1


def test_the_local_record_serves_where_the_hosts_is_lost(tmp_path: Path) -> None:
    host, _adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    apply_plan(fresh_plan(transport, store, _one()), transport, store)
    host.lose_record()
    plan = fresh_plan(transport, store, _one(local_port="443"), plan_id="plan-2")
    assert any("no record" in warning for warning in plan.warnings)
    assert [(a.weight, b.local_port) for a, b in plan.adapters[0].changed] == [(500, "443")]  # type: ignore[union-attr]
    apply_plan(plan, transport, store)
    assert host.state()["records"]


def test_without_any_record_equal_entries_are_adopted_only_when_asked(tmp_path: Path) -> None:
    host, _adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    apply_plan(fresh_plan(transport, store, _one()), transport, store)
    host.lose_record()
    nobody = store_in(tmp_path / "another machine")
    plan = fresh_plan(transport, nobody, _one(), plan_id="plan-2")
    assert not plan.changes
    assert len(plan.adapters[0].present) == 1
    adopted = fresh_plan(transport, nobody, _one(), plan_id="plan-3", adopt=True)
    assert adopted.changes
    assert not adopted.adapters[0].writes
    apply_plan(adopted, transport, nobody)
    gone = fresh_plan(transport, nobody, {}, plan_id="plan-4")
    assert len(gone.adapters[0].removed) == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ExtendedEntry(Direction.INBOUND, 5, Action.ALLOW, "1", stateful=True, timeout=60), "TCP or UDP"),
        (ExtendedEntry(Direction.INBOUND, 5, Action.DENY, "TCP", stateful=True, timeout=60), "only Allow"),
        (ExtendedEntry(Direction.INBOUND, 70000, Action.DENY), "65535"),
        (ExtendedEntry(Direction.INBOUND, 5, Action.DENY, local_port="80"), "ports need"),
        (ExtendedEntry(Direction.INBOUND, 5, Action.DENY, local="10.0.0.1", remote="::1"), "IP versions"),
        (ExtendedEntry(Direction.INBOUND, 40000, Action.ALLOW), "somebody else"),
        (BasicEntry(Direction.OUTBOUND, BasicAction.ALLOW, Side.REMOTE, "10.9.0.0/16"), "somebody else"),
    ],
)
def test_what_hyperv_would_refuse_late_is_refused_now(entry: Entry, words: str, tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport = DirectTransport(host)
    with pytest.raises(InputErrors, match=words) as refused:
        fresh_plan(transport, store_in(tmp_path), {adapter_id: {entry: RULE}})
    assert refused.value.where == RULE.origin
    assert transport.trips == 1


def test_foreign_entries_that_shadow_ours_are_named(tmp_path: Path) -> None:
    host, _adapter_id = host_with(frozenset())
    plan = fresh_plan(DirectTransport(host), store_in(tmp_path), _one(local_port="3389"))
    (conflict,) = plan.adapters[0].conflicts
    assert conflict.wholly
    assert conflict.winner in FOREIGN


def test_losing_winrm_is_asked_about(tmp_path: Path) -> None:
    host, _ = host_with(frozenset())
    management = next(raw["Id"] for raw in host.state()["adapters"] if raw["IsManagementOs"])
    wanted: Wanted = {management: {ExtendedEntry(Direction.INBOUND, 1, Action.DENY): RULE}}
    plan = fresh_plan(DirectTransport(host), store_in(tmp_path), wanted)
    assert any("cuts WinRM" in question for question in plan.questions)
    ok: Wanted = {
        management: {
            ExtendedEntry(Direction.INBOUND, 1, Action.DENY): RULE,
            ExtendedEntry(Direction.INBOUND, 5, Action.ALLOW, "TCP", local_port="5985-5986"): RULE,
        }
    }
    assert fresh_plan(DirectTransport(host), store_in(tmp_path), ok).questions == []


def test_losing_winrm_is_asked_about_among_many_other_losses(tmp_path: Path) -> None:
    """However much else is cut, the one thing that matters is not left out of the list."""
    host, _ = host_with(frozenset())
    management = next(raw["Id"] for raw in host.state()["adapters"] if raw["IsManagementOs"])
    rules: dict[Entry, PolicyRule | None] = {
        ExtendedEntry(
            Direction.INBOUND, weight, Action.DENY, "TCP", remote=f"10.{weight}.0.0/16", local_port=str(port)
        ): RULE
        for weight, port in enumerate([*range(1000, 1120, 2), 5986], start=1)
    }
    plan = fresh_plan(DirectTransport(host), store_in(tmp_path), {management: rules})
    assert [
        question for question in plan.questions if "cuts WinRM" in question and "10.61.0.0/16" in question
    ]


def test_a_full_disk_here_does_not_hide_what_happened_there(tmp_path: Path) -> None:
    host, adapter_id = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    kept = store.keep_records
    calls: list[int] = []

    def full_after_the_first(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise EnvironmentError_("no space left on device")
        kept(*arguments)

    setattr(store, "keep_records", full_after_the_first)  # noqa: B010  the method of one store
    done = apply_plan(fresh_plan(transport, store, _one()), transport, store)
    assert "no space left" in done.note
    assert len(entries_on(host, adapter_id)) == len(FOREIGN) + 1
    calls.clear()
    plan = fresh_plan(transport, store, _one(local_port="80"), plan_id="plan-2")
    steps = host.steps_of({"operation": "apply", "arguments": {"plan": plan.document().to_dict()}})
    place = steps.index("Add-VMNetworkAdapterExtendedAcl") + 1
    host.faults.append(CmdletFault(place, operation="apply"))
    with pytest.raises(ApplyError, match="everything was undone"):
        apply_plan(plan, transport, store)


@pytest.mark.parametrize(("port", "asks"), [(5986, False), (8443, True)])
def test_winrm_at_another_port_is_not_cut_unasked(port: int, asks: bool, tmp_path: Path) -> None:
    host, _ = host_with(frozenset())
    state = read_state(host.state())
    adapter = next(each for each in state.adapters if each.is_management_os)
    deny: dict[Entry, PolicyRule | None] = {
        ExtendedEntry(Direction.INBOUND, 1, Action.DENY, "TCP", local_port="8443"): RULE
    }
    plan = plan_host(Desired((DesiredEntries(adapter, deny),)), state, plan_id="p", created_at="", port=port)
    assert bool(plan.questions) is asks


def test_sessions_that_may_end_with_a_replaced_stateful_rule_are_named(tmp_path: Path) -> None:
    host, _ = host_with(frozenset())
    transport, store = DirectTransport(host), store_in(tmp_path)
    apply_plan(fresh_plan(transport, store, _one(stateful=True, timeout=300)), transport, store)
    wider = fresh_plan(transport, store, _one(stateful=True, timeout=600), plan_id="plan-2")
    assert any("sessions" in warning and "500" in warning for warning in wider.warnings)
    assert not any("sessions" in each for each in fresh_plan(transport, store, {}, plan_id="plan-3").warnings)


def test_the_weight_of_an_entry_that_cannot_be_read_is_taken(tmp_path: Path) -> None:
    """Hyper-V would say so only when it is written; nor is anything moved past such an entry."""
    state = host_with(frozenset())[0].state()
    odd = extended("Allow", "Inbound", 500, Protocol="QUIC?")
    state["adapters"][0]["extendedAcls"].append(odd)
    adapter = read_state(state).adapters[0]
    assert adapter.walls == {(Direction.INBOUND, 500)}
    rules: dict[Entry, PolicyRule | None] = {ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP"): RULE}
    wanted = Desired((DesiredEntries(adapter, rules),))
    with pytest.raises(InputErrors, match="somebody else has: one that cannot be read"):
        plan_host(wanted, read_state(state), plan_id="p", created_at="")
