"""Saved plans: shown from the steps that will be sent, whatever else the file says; refused if unfit."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.direct import DirectTransport, fresh_plan, store_in
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.ours_and_theirs import RULE, Wanted, host_with
from tests.support.modelled_host.spoiled import JUNK, places
from tests.support.modelled_host.states import extended
from tests.support.saved_plan_files import plan_of_dict, saved, write
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from vswitch.acl_entries import BasicEntry, Entry, ExtendedEntry, describe
from vswitch.errors import InputError
from vswitch.hyperv.applying.saved_plans import read_plan_file
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.hyperv.planning.host_plan import HostPlan
from vswitch.model.types import Action, BasicAction, Direction, Side

Change = Callable[[dict[str, Any]], Any]


NOTHING = {
    "host": "HV01",
    "created_at": "2026-01-01T00:00:00Z",
    "adapters": [
        {"adapter": "web01/Network Adapter", "writes": 0, "changed": [], "removed": [], "added": []}
    ],
    "questions": [],
}


def test_what_is_stored_beside_the_steps_is_not_shown(shop: Shop) -> None:
    document = saved(shop)
    for review in (NOTHING, {"adapters": 5}, None, "0 writes"):
        document["plans"][0]["review"] = review
        write(document)
        said = shop.run("apply", "--plan", "plan.json", status=2).output
        assert "HV01: 4 writes, planned at" in said
        assert "- Inbound 500 Allow TCP local port 443" in said
        assert "+ Inbound 500 Allow TCP local port 443-444" in said
        assert "newly allowed" in said


def test_what_a_plan_asks_is_worked_out_from_its_steps(shop: Shop) -> None:
    """An older file kept the questions beside them: without those, nothing was asked."""
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    shop.edit(
        "extended_acls:",
        "extended_acls:\n"
        "  - {name: lock-out, adapters: 'host:HV01', direction: Inbound, action: Deny, weight: 9}",
    )
    shop.run("plan", "layout.yaml", "--from-file", "hv01.json", "--save", "plan.json", status=1)
    document = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    document["plans"][0]["review"] = NOTHING
    for step in document["plans"][0]["plan"]["steps"]:
        step.pop("rule")  # as older versions wrote them
    write(document)
    shown = shop.run("apply", "--plan", "plan.json", "--yes", status=2)
    assert "cuts WinRM" in shown.output
    assert "--accept" in str(shown.exception)


def test_a_plan_read_back_is_the_plan_that_was_saved(tmp_path: Path) -> None:
    """In everything that is shown: changes, effects, order, exposures, questions."""
    old: frozenset[Entry] = frozenset(
        {
            ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80"),
            ExtendedEntry(Direction.INBOUND, 400, Action.DENY),
            BasicEntry(Direction.INBOUND, BasicAction.ALLOW, Side.REMOTE, "0.0.0.0/0"),
            BasicEntry(Direction.INBOUND, BasicAction.ALLOW, Side.REMOTE, "::/0"),
        }
    )
    wanted: dict[Entry, PolicyRule | None] = {
        ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80-90"): RULE,
        ExtendedEntry(Direction.OUTBOUND, 7, Action.DENY, "UDP"): RULE,
        BasicEntry(Direction.INBOUND, BasicAction.DENY, Side.REMOTE, "10.0.0.0/8"): RULE,
    }
    host, adapter_id = host_with(old)
    fresh = fresh_plan(DirectTransport(host), store_in(tmp_path), {adapter_id: wanted})
    again = plan_of_dict(json.loads(json.dumps(fresh.document().to_dict())))
    assert shown(again) == shown(fresh)
    assert again.document() == fresh.document()


def test_steps_in_another_order_are_asked_about(tmp_path: Path) -> None:
    """The Deny below is added last, and the Allow above it goes first: in between everything passes."""
    rules = [
        ExtendedEntry(Direction.INBOUND, 500, Action.ALLOW, "TCP", local_port="80"),
        ExtendedEntry(Direction.INBOUND, 400, Action.DENY),
    ]
    host, adapter_id = host_with(frozenset())
    wanted: Wanted = {adapter_id: dict.fromkeys(rules, RULE)}
    wire: dict[str, Any] = fresh_plan(DirectTransport(host), store_in(tmp_path), wanted).document().to_dict()
    assert not plan_of_dict(wire).questions
    backwards = wire | {"steps": wire["steps"][::-1]}
    assert any("this is cut" in question for question in plan_of_dict(backwards).questions)


def shown(plan: HostPlan) -> dict[str, Any]:
    found: dict[str, Any] = plan.as_dict()
    for adapter in found["adapters"]:
        adapter.pop("present_but_foreign")
    return {name: found[name] for name in ("computer", "plan_id", "created_at", "adapters", "questions")}


def first(document: dict[str, Any], part: str) -> dict[str, Any]:
    found: dict[str, Any] = document["plans"][0]["plan"][part][0]
    return found


MISFITS: dict[str, tuple[Change, str]] = {
    "another adapter's step": (lambda d: first(d, "steps").update(adapter="x"), "does not list"),
    "another adapter's record": (lambda d: first(d, "records").update(adapter="x"), "does not list"),
    "an adapter twice": (
        lambda d: d["plans"][0]["plan"]["adapters"].append(first(d, "adapters")),
        "lists an adapter twice",
    ),
    "a step twice": (
        lambda d: d["plans"][0]["plan"]["steps"].append(d["plans"][0]["plan"]["steps"][-1]),
        "which is not there",
    ),
    "a step too few": (lambda d: d["plans"][0]["plan"]["steps"].pop(), "as nobody's"),
    "an entry that is not there": (
        lambda d: first(d, "adapters").update(expectedExtendedAcls=[]),
        "which is not there",
    ),
    "an entry of others": (lambda d: first(d, "recordsDuring").update(entries=[]), "does not call it ours"),
    "no entry": (lambda d: first(d, "steps").update(entry={}), "not an entry"),
    "no operation": (lambda d: first(d, "steps").update(op="addAll"), "steps.0.op"),
    "no computer": (lambda d: d["plans"][0]["plan"].update(host="../x"), "no computer is called"),
    "a device": (lambda d: d["plans"][0]["plan"].update(host="NUL"), "for a device"),
    "a plan's name": (lambda d: d["plans"][0]["plan"].update(planId="../../x"), "no plan is called"),
    "a time": (lambda d: d["plans"][0]["plan"].update(createdAt="\x1b[2J0 writes"), "createdAt"),
    "a number as text": (lambda d: d["plans"][0]["plan"].update(confirmWithin="60"), "confirmWithin"),
    "something else": (lambda d: d["plans"][0]["plan"].update(script="Stop-VM *"), "script"),
    "no adapters": (lambda d: d["plans"][0]["plan"].update(adapters=None), "adapters"),
    "two of a name": (lambda d: d["plans"].append(d["plans"][0]), "2 plans for HV01"),
    "two of a computer": (
        lambda d: d["plans"].append(copy.deepcopy(d["plans"][0]) | {"name": "other"}),
        "two plans write to one adapter of hv01",
    ),
}


@pytest.mark.parametrize("name", sorted(MISFITS))
def test_a_plan_whose_parts_do_not_fit_is_refused_with_a_sentence(name: str, shop: Shop) -> None:
    document = saved(shop)
    change, words = MISFITS[name]
    change(document)
    write(document)
    result = shop.run("apply", "--plan", "plan.json", "--yes", "--accept", status=2)
    assert isinstance(result.exception, InputError)
    assert "does not fit together" in result.exception.message
    assert words in result.exception.message
    assert "\x1b" not in result.exception.message


def test_whatever_is_spoiled_in_a_plan_it_is_refused_or_shown(shop: Shop) -> None:
    good = saved(shop)
    refused = 0
    for seed in range(100):
        chance, document = random.Random(seed), copy.deepcopy(good)
        *path, last = chance.choice([place for place in places(document["plans"]) if place])
        inner: Any = document["plans"]
        for key in path:
            inner = inner[key]
        inner[last] = copy.deepcopy(chance.choice(JUNK))
        try:
            plans = read_plan_file(write(document, "bad.json"))
        except (InputError, UnicodeEncodeError) as error:
            refused += isinstance(error, InputError)
            continue
        for each in plans:
            assert sum(len(one.steps) for one in each.adapters) == len(each.document().steps)
            assert all(map(describe, (entry for one in each.adapters for entry in one.added)))
            assert isinstance(each.questions, list)
    assert refused > 50


def test_a_saved_plan_of_an_older_version_is_applied(shop: Shop) -> None:
    """With a review beside it, and without the rules in its steps."""
    host = HypervHost(shop.state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        shop.run("plan", "layout.yaml", "hv01", "--adopt", "--save", "plan.json", *over, status=1)
        document = json.loads(Path("plan.json").read_text(encoding="utf-8"))
        document["plans"][0]["review"] = NOTHING
        write(document)
        said = shop.run("apply", "--plan", "plan.json", "--yes", *over).output
        assert "record of our entries only" in said
        assert host.state()["records"]


def test_an_error_at_a_step_of_a_saved_plan_names_its_rule(shop: Shop) -> None:
    host = HypervHost(shop.state)
    (web,) = [each["Id"] for each in host.state()["adapters"] if each["extendedAcls"]]
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        shop.edit(
            "extended_acls:",
            "extended_acls:\n"
            "  - {name: mine, adapters: web01, direction: Inbound, action: Deny, weight: 600}",
        )
        shop.run("plan", "layout.yaml", "hv01", "--save", "plan.json", *over, status=1)

        def taken(name: str) -> None:
            if name == "Add-VMNetworkAdapterExtendedAcl":
                host.cmdlets.on_step = lambda _: None
                host.add_entry(web, "extended", extended("Allow", "Inbound", 600))

        host.cmdlets.on_step = taken
        (one,) = shop.json("apply", "--plan", "plan.json", "--yes", *over, status=2)["hosts"]
        assert "'mine'" in one["error"]["message"]
        assert one["error"]["file"] == "policy.yaml", one


def test_a_pipe_a_folder_or_a_huge_file_is_no_plan_and_holds_nothing_up(shop: Shop) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with open("huge", "wb") as file:
        file.truncate(65 << 20)
    for name, words in (
        ("pipe", "this is a pipe, not a file"),
        ("folder", "this is a folder, not a file"),
        ("huge", "larger than 64 MiB"),
        ("/dev/zero", "this is a device, not a file"),
    ):
        assert words in str(shop.run("apply", "--plan", name, status=2).exception)
        result = shop.run("import", "--from-file", name, "-o", "a.yaml", "b.yaml", status=2)
        assert words in str(result.exception)
    Path("deep").write_text("[" * 200_000, encoding="utf-8")
    assert "nested too deep" in str(shop.run("apply", "--plan", "deep", status=2).exception)
