"""Saved plans as files: made by the command line, changed by a test, written with a digest that fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.hyperv_shop import Shop
from tests.support.modelled_host.spoiled import prepare
from vswitch.hyperv.applying.saved_plans import digest_of, plan_of_document
from vswitch.hyperv.host.plan_document import PlanDocument
from vswitch.hyperv.planning.host_plan import HostPlan


def saved(shop: Shop) -> dict[str, Any]:
    prepare(shop)
    shop.run("plan", "layout.yaml", "--from-file", "hv01.json", "--save", "plan.json", status=1)
    found: dict[str, Any] = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    return found


def write(document: dict[str, Any], name: str = "plan.json") -> str:
    """The document with a digest that fits."""
    document["digest"] = digest_of(document["plans"])
    Path(name).write_text(json.dumps(document), encoding="utf-8")
    return name


def plan_of_dict(wire: dict[str, Any]) -> HostPlan:
    return plan_of_document(PlanDocument.from_dict(wire))
