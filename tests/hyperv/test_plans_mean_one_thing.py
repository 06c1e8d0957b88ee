"""What is shown of a saved plan is what PowerShell makes of it, whatever was done to the file."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hyperv_shop import Shop
from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.ours_and_theirs import RULE, host_with
from tests.support.modelled_host.states import basic, extended
from tests.support.modelled_host.values import key_text, planned_text
from tests.support.saved_plan_files import plan_of_dict, saved, write
from vswitch.acl_entries import (
    BasicEntry,
    Entry,
    ExtendedEntry,
    basic_from_host,
    describe,
    extended_from_host,
    to_host,
)
from vswitch.errors import InputError, VswitchError
from vswitch.model.types import Action, BasicAction, Direction, Side

OLD: frozenset[Entry] = frozenset(
    {
        ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80"),
        ExtendedEntry(Direction.INBOUND, 400, Action.DENY),
        BasicEntry(Direction.INBOUND, BasicAction.ALLOW, Side.REMOTE, "10.1.0.0/16"),
    }
)
NEW: list[Entry] = [
    ExtendedEntry(
        Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80-90", stateful=True, timeout=300
    ),
    ExtendedEntry(Direction.OUTBOUND, 7, Action.DENY, "UDP", remote="10.0.0.0/8"),
    ExtendedEntry(Direction.INBOUND, 400, Action.DENY),
    BasicEntry(Direction.INBOUND, BasicAction.DENY, Side.REMOTE, "10.0.0.0/8"),
]
KEYS = {key.lower(): key for one in NEW for key in to_host(one)} | {"meteredmegabytes": "MeteredMegabytes"}


def plan_to_mutate() -> dict[str, Any]:
    host, adapter_id = host_with(OLD)
    with tempfile.TemporaryDirectory() as folder:
        plan = fresh_plan(
            DirectTransport(host), store_in(Path(folder)), {adapter_id: dict.fromkeys(NEW, RULE)}
        )
    found: dict[str, Any] = json.loads(json.dumps(plan.document().to_dict()))
    return found


GOOD = plan_to_mutate()


def entries_in(wire: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every entry that is written down in a plan, wherever."""
    for adapter in wire["adapters"]:
        yield from adapter["expectedAcls"]
        yield from adapter["expectedExtendedAcls"]
    yield from (step["entry"] for step in wire["steps"])
    for part in ("records", "recordsDuring", "expectedRecords"):
        yield from (entry for record in wire[part] for entry in record["entries"])


def other_forms(value: Any) -> list[Any]:
    """What some reader or other takes for the same value, and what none does."""
    found: list[Any] = [None, [value], {"value": value}, "", True, False, 0, 1, 1.0, "no", "false", "True"]
    if isinstance(value, bool):
        return [*found, int(value), str(value), not value]
    if isinstance(value, int):
        text = str(value)
        found += [
            text,
            float(value),
            value + 0.4,
            value + 0.6,
            f" {text}",
            f"{text[:1]}_{text[1:]}",
            f"+{text}",
        ]
        return [*found, value + 1, f"0{text}", hex(value), "Inbound", -value, text.replace("5", "\u0665")]
    text = str(value)
    found += [
        f" {text}",
        f"{text} ",
        text.lower(),
        text.upper(),
        f"{text}/32",
        "*",
        "ANY",
        f"{text[:1]}_{text[1:]}",
    ]
    return [*found, f"0{text}", "17", "6", "tcp", "::/0", "0.0.0.0/0", "10.0.0.1/8", "10.0.0.0/255.0.0.0"]


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The plan with something done to one of its entries, in one place or wherever that entry is named."""
    wire = copy.deepcopy(GOOD)
    every = list(entries_in(wire))
    chosen = draw(st.sampled_from(every))
    before = {name: value for name, value in chosen.items() if name in KEYS.values()}
    key = draw(st.sampled_from(sorted(before)))
    value = before[key]
    if draw(st.booleans()):
        value = draw(st.sampled_from(other_forms(value)))
    spelling = draw(st.sampled_from([key, key, key, key.lower(), key.upper(), f"{key} "]))
    keeps = draw(st.booleans())
    together = draw(st.booleans())
    further = draw(
        st.sampled_from(["", "", "", "IdleSessionTimeout", "Stateful", "RemoteIPAddress", "weight"])
    )
    added = draw(st.sampled_from([300, 1, "10.9.9.9", True]))
    for entry in every:
        same = all(entry.get(name) == told for name, told in before.items() if name in KEYS.values())
        if entry is chosen or (together and same):
            if spelling != key and not keeps:
                entry.pop(key)
            entry[spelling] = value
            if further:
                entry[further] = added
    return wire


def as_powershell_reads(wire: dict[str, Any]) -> dict[str, Any]:
    """The plan with the names of properties as PowerShell finds them: in any case, the last one wins."""
    found = copy.deepcopy(wire)
    for entry in entries_in(found):
        for name in list(entry):
            entry[KEYS.get(name.lower(), name)] = entry.pop(name)
    return found


@given(wire=mutated())
def test_a_plan_whose_entry_was_changed_is_refused_or_shown_as_the_host_carries_it_out(
    wire: dict[str, Any],
) -> None:
    try:
        plan = plan_of_dict(wire)
    except (ValueError, VswitchError):
        return
    host_reads = as_powershell_reads(wire)
    for shown, there in zip(plan.adapters, host_reads["adapters"], strict=True):
        before = key_text(there["expectedAcls"], there["expectedExtendedAcls"])
        after = {*shown.adapter.entries, *shown.added, *(new for _, new in shown.changed)}
        after -= {*shown.removed, *(old for old, _ in shown.changed)}
        if not shown.adapter.unreadable:
            assert keys(after) == planned_text(host_reads, there["id"], before), list(map(describe, after))
        ours = [
            raw
            for record in host_reads["records"]
            if record["adapter"] == there["id"]
            for raw in record["entries"]
        ]
        assert keys(shown.owned_after) == record_keys(ours)


def keys(entries: Iterable[Entry]) -> str:
    found = list(map(to_host, entries))
    return key_text([raw for raw in found if "Weight" not in raw], [raw for raw in found if "Weight" in raw])


def record_keys(entries: list[dict[str, Any]]) -> str:
    by_kind = {kind: [raw for raw in entries if raw["kind"] == kind] for kind in ("basic", "extended")}
    return key_text(by_kind["basic"], by_kind["extended"])


def test_the_plan_itself_is_taken() -> None:
    plan = plan_of_dict(GOOD)
    assert sum(len(each.steps) for each in plan.adapters) == len(GOOD["steps"]) > 3


#: What is done to the entry for port 443-444, and what PowerShell would make of it.
CHANGES: dict[str, dict[str, Any]] = {
    "a number for true": {"Stateful": 1, "IdleSessionTimeout": 300},
    "a text that is true to PowerShell": {"Stateful": "false", "IdleSessionTimeout": 300},
    "another text that is": {"Stateful": "no", "IdleSessionTimeout": 300},
    "a time for what is stateless": {"IdleSessionTimeout": 300},
    "a weight that is rounded up": {"Weight": 500.6},
    "a weight with a point": {"Weight": 500.0},
    "a weight with an underscore": {"Weight": "5_00"},
    "a weight as text": {"Weight": "500"},
    "a weight that is true": {"Weight": True},
    "a port with an underscore": {"LocalPort": "4_43-444"},
    "a port with a blank": {"LocalPort": " 443-444"},
    "digits of another script": {"LocalPort": "\u0664\u0664\u0663-444"},
    "a key in lower case": {"remoteipaddress": "10.0.0.1"},
    "a key too many": {"Extra": 1},
    "an address with bits behind its prefix": {"RemoteIPAddress": "10.0.0.1/8"},
    "no address": {"RemoteIPAddress": None},
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_an_entry_in_other_words_is_refused_with_a_sentence(name: str, shop: Shop) -> None:
    """Also where steps and records were changed alike, and the digest was made new."""
    document = saved(shop)
    for entry in entries_in(document["plans"][0]["plan"]):
        if entry.get("LocalPort") == "443-444":
            entry.update(CHANGES[name])
            if "remoteipaddress" in entry:
                del entry["RemoteIPAddress"]
    write(document)
    result = shop.run("apply", "--plan", "plan.json", "--yes", "--accept", status=2)
    assert isinstance(result.exception, InputError)
    assert "does not fit together" in result.exception.message
    assert "make a new plan" in result.exception.hint


@pytest.mark.parametrize(
    "change", [{"Weight": 500.0}, {"Stateful": 0}, {"protocol": "UDP"}, {"Stateful": "false"}]
)
def test_a_host_s_entry_in_other_words_than_the_module_s_is_refused(
    change: dict[str, Any], shop: Shop
) -> None:
    document = saved(shop)
    for entry in entries_in(document["plans"][0]["plan"]):
        if entry.get("LocalPort") == "443":
            entry.update(change)
    write(document)
    result = shop.run("apply", "--plan", "plan.json", "--yes", "--accept", status=2)
    assert "does not fit together" in str(result.exception)


def test_what_a_host_says_is_told_apart_by_type_as_well() -> None:
    """1, 1.0 and True are equal to Python: what was made of one must not be taken for the others."""
    for stateful in (1, 1.0, "true", "false", "no", None, 0):
        with pytest.raises(ValueError, match="stateful"):
            extended_from_host(extended("Allow", "Inbound", 5, Protocol="TCP", Stateful=stateful))
    assert extended_from_host(extended("Allow", "Inbound", 5, Protocol="TCP", Stateful=True)).stateful
    assert extended_from_host(extended("Allow", "Inbound", 1)).weight == 1
    for weight in (True, 1.0, 1.6, "1_0", "\u0661", " 1", None, -1):
        with pytest.raises(ValueError, match="weight"):
            extended_from_host(extended("Allow", "Inbound", 0) | {"Weight": weight})


def test_an_address_type_that_hyper_v_does_not_have_is_not_an_address() -> None:
    for kind in (8, -1):
        with pytest.raises(ValueError, match="address type"):
            basic_from_host(basic("Allow", "Inbound", "Remote", kind, "10.0.0.1"))
