"""Whatever is in the files `vswitch hyperv` reads: an error in a sentence, never a traceback."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.hyperv_shop import Shop
from tests.support.modelled_host.direct import store_in
from tests.support.modelled_host.spoiled import JUNK, places, prepare
from vswitch.acl_entries import ExtendedEntry
from vswitch.errors import InputError, VswitchError
from vswitch.hyperv.applying.saved_plans import digest_of, read_plan_file, saved_plans
from vswitch.hyperv.host.records import OwnershipRecord
from vswitch.model.types import Action, Direction

INVENTORY = {
    "defaults": {"authentication": "ntlm", "user": "me", "timeout": 1},
    "groups": {"edge": {"port": 5986}},
    "hosts": {"hv01": {"address": "127.0.0.1", "https": False, "groups": "edge"}, "hv02": None},
    "canary": "hv01",
}


def spoiled(document: Any, random_: random.Random) -> str:
    """The document as JSON with one to three places replaced or gone."""
    found = copy.deepcopy(document)
    for _ in range(random_.randint(1, 3)):
        *path, last = random_.choice([place for place in places(found) if place] or [("",)])
        inner = found
        for key in path:
            inner = inner[key]
        if last == "":
            break
        if random_.random() < 0.2:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(random_.choice(JUNK))
    return json.dumps(found)


def run(shop: Shop, names: tuple[str, ...], *words: str) -> bool:
    """Whether a command takes a spoiled file. It names what it refuses, and says what is wrong with it."""
    result = shop.attempt(*words)
    assert "defect" not in result.output
    if isinstance(result.exception, VswitchError):
        said = str(result.exception)
        assert result.exception.exit_status == 2
        assert any(name in said and len(said) > len(name) + 15 for name in names), said
        return False
    assert result.exit_code in (0, 1, 2)
    assert result.output.strip()
    return result.exit_code < 2


def test_spoiled_states_of_hosts(shop: Shop) -> None:
    prepare(shop)
    taken: list[bool] = []
    for seed in range(60):
        random_ = random.Random(seed)
        Path("bad.json").write_text(spoiled(shop.state, random_), encoding="utf-8")
        command, output = random_.choice(["plan", "drift", "verify"]), random_.choice(["text", "json"])
        taken.append(
            run(shop, ("bad.json",), command, "layout.yaml", "--from-file", "bad.json", "-o", output)
        )
    assert 10 < sum(taken) < 50  # most of a state decides nothing for this policy; what does is checked


def test_spoiled_inventories(shop: Shop) -> None:
    prepare(shop)
    for seed in range(60):
        Path("bad.yaml").write_text(spoiled(INVENTORY, random.Random(seed)), encoding="utf-8")
        assert not run(shop, ("bad.yaml", "no-such-host"), "backups", "no-such-host", "-i", "bad.yaml")


def test_spoiled_plans_are_refused(shop: Shop) -> None:
    prepare(shop)
    shop.run("plan", "layout.yaml", "--from-file", "hv01.json", "--save", "plan.json", status=1)
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    assert [each.document().to_dict() for each in read_plan_file("plan.json")] == [
        each["plan"] for each in plan["plans"]
    ]
    for seed in range(60):
        Path("bad.json").write_text(spoiled(plan, random.Random(seed)), encoding="utf-8")
        with pytest.raises(InputError, match="plan"):
            read_plan_file("bad.json")
    # Nor does a digest that fits make a plan of something else.
    for junk in (*JUNK, [{"name": "hv01", "plan": []}]):
        document = {"schema": 1, "kind": "vswitch-plan", "plans": junk, "digest": digest_of(junk)}
        Path("bad.json").write_text(json.dumps(document), encoding="utf-8")
        if junk != []:
            with pytest.raises(InputError):
                read_plan_file("bad.json")


def test_a_plan_edited_by_hand_is_refused(shop: Shop) -> None:
    """What was reviewed is what is applied: an edit could even remove entries of others."""
    prepare(shop)
    shop.run("plan", "layout.yaml", "--from-file", "hv01.json", "--save", "plan.json", status=1)
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    plan["plans"][0]["plan"]["steps"][0]["entry"]["Weight"] = 1
    Path("plan.json").write_text(json.dumps(plan), encoding="utf-8")
    result = shop.run("apply", "--plan", "plan.json", "--yes", status=2)
    assert "changed after it was made" in str(result.exception)


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(saved_plans([]) | {"schema": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="another version"):
        read_plan_file(str(tmp_path / "plan.json"))


def test_a_spoiled_memory_says_nothing(tmp_path: Path) -> None:
    entry = ExtendedEntry(Direction.INBOUND, 5, Action.ALLOW)
    store = store_in(tmp_path)
    store.keep_records("HV01", ["a/1"], [OwnershipRecord.of("a/1", "policy", [entry])])
    (path,) = tmp_path.glob("owned/*/*.json")
    good = json.loads(path.read_text(encoding="utf-8"))
    for seed in range(100):
        path.write_text(spoiled(good, random.Random(seed)), encoding="utf-8")
        assert len(store.records("HV01", ["a/1"]).get("a/1", ())) <= 1
    for text in ("", "[", "[" * 100_000, "5", '{"records": 5}', "\xff"):
        path.write_text(text, encoding="latin-1")
        assert store.records() == {}


def test_what_is_ours_is_known_under_every_name_of_a_host(tmp_path: Path) -> None:
    """And of a replica, which has the same adapter, apart."""
    entry = ExtendedEntry(Direction.INBOUND, 5, Action.ALLOW)
    store_in(tmp_path, "hv01").keep_records("HV01", ["a"], [OwnershipRecord.of("a", "policy", [entry])])
    other = store_in(tmp_path, "hv01.corp.example")
    assert other.records("HV01", ["a", "b"]) == {"a": {entry}}
    assert other.records("HV02", ["a", "b"]) == {}
    other.keep_records("HV01", ["a"], [])
    assert store_in(tmp_path, "hv01").records() == {}
