"""Documents with a mistake anywhere, and a host on which a plan has something to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.hyperv_shop import Shop
from vswitch.acl_entries import extended_from_host
from vswitch.hyperv.host.records import OwnershipRecord

JUNK: list[Any] = [
    *(None, True, 0, -1, 10**30, 1e400, 1.5, "", "x", "ANY", "\ud800", "²", "0-70000", "::1/200"),
    *([], {}, [[]], [None], {"Guid": 5}, {"value": {}}, ["a", {"b": 1}], "[red]{}\n"),
]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def prepare(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    shop.edit("local_port: 443", "local_port: 443-444")
    (adapter,) = [each for each in shop.state["adapters"] if each["extendedAcls"]]
    entries = [extended_from_host(raw) for raw in adapter["extendedAcls"]]
    shop.state["records"] = [OwnershipRecord.of(adapter["Id"], "policy", entries, ["one"]).to_dict()]
    Path("hv01.json").write_text(json.dumps(shop.state), encoding="utf-8")
