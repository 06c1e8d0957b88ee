"""The published JSON Schemas: current, and in agreement with the loader."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.model_files import LAYOUT, POLICY, reader
from vswitch.errors import InputErrors
from vswitch.model import json_schema, load_site
from vswitch.model.files.schema import schema_text
from vswitch.model.service_names import ALIASES

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
KEYWORDS = {
    *("$defs", "$ref", "$schema", "additionalProperties", "anyOf", "default", "description", "enum", "items"),
    *("maximum", "minimum", "pattern", "properties", "propertyNames", "required", "title", "type"),
}


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """What JSON Schema has against a value, for the keywords our schemas use."""
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, path)
    found: list[str] = []
    if "anyOf" in schema:
        tries: list[list[str]] = [problems(value, each, root, path) for each in schema["anyOf"]]
        if all(tries):
            found += sorted(tries, key=len)[0]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: not one of {schema['enum']}")
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        types = tuple(each for name in names for each in TYPES[name])
        if not isinstance(value, types) or (isinstance(value, bool) and "boolean" not in names):
            return [*found, f"{path}: {value!r} is not {names}"]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        found += [f"{path}: no {key}" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            here = f"{path}/{key}"
            if str(key) in known:
                found += problems(item, known[str(key)], root, here)
            elif rest is False:
                found.append(f"{here}: unknown key")
            elif rest is not True:
                found += problems(item, rest, root, here)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += problems(item, schema["items"], root, f"{path}/{index}")
    elif isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path}: {value!r} does not match")
    elif isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: {value} out of range")
    return found


def against(kind: str, text: str) -> list[str]:
    schema = json_schema(kind)
    return problems(yaml.safe_load(text), schema, schema)


@pytest.mark.parametrize("kind", ["layout", "policy"])
def test_published_files_are_current(kind: str) -> None:
    published = files("vswitch.model").joinpath(f"schema/{kind}.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(kind), "run python -m vswitch.model.files.schema"


def test_another_kind() -> None:
    with pytest.raises(ValueError, match="neither layout nor policy"):
        json_schema("site")


def test_every_property_is_described() -> None:
    for kind in ("layout", "policy"):
        schema = json_schema(kind)
        for model in [schema, *schema["$defs"].values()]:
            assert model["additionalProperties"] is False
            assert model["description"]
            assert all(each.get("description") for each in model["properties"].values())


SHIPPED = sorted((Path(__file__).resolve().parents[2] / "topologies").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_satisfy_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert against("layout" if "\nhosts:" in text else "policy", text) == []


LAYOUT_VARIANTS = [
    ("vlans: [10, 20, 200, 201]", 'vlans: "10,20-22,200-201"'),
    ("vlans: [10, 20, 200, 201]", "vlans: [10, '20', 200-201]"),
    ("vlan: 20, addresses", "vlan: '20', addresses"),
    ("network: lan}", "network: lan, allow_management_os: yes, aging_time: '60'}"),
    ("type: Internal", "type: internal"),
    ("mac: 00-15-5D-01-0A-01", "mac: 52:54:00:12:34:56"),
    ("mac: 00-15-5D-01-0A-01", "mac: 001122334455"),
    ("mac_address_spoofing: On", "mac_address_spoofing: 'on'"),
    ("mac_address_spoofing: On", "mac_address_spoofing: FALSE"),
    ("vlan: {access: 10}\n", "vlan: {trunk: {allowed: '10,20', native: 1}}\n"),
    ("vlan: {access: 10}\n", "vlan: untagged\n"),
    ("vlan: {access: 10}\n", "vlan: {promiscuous: {primary: 200, secondaries: 201}}\n"),
    ('"2001:db8:10::11/64"', "2001:db8:10::11/64"),
    ("{udp: dns}", "{udp: [dns, 5353]}"),
    ("services: [winrm]", "services:"),
    ("      web02:", "      2024:"),
    ("verdict: Allow}", "verdict: allow, by: 5}"),
    ("traffic: http", "traffic: icmp"),
]


@pytest.mark.parametrize(("old", "new"), [("", ""), *LAYOUT_VARIANTS])
def test_what_the_loader_accepts_in_a_layout(old: str, new: str) -> None:
    text = LAYOUT.replace(old, new)
    load_site("l.yaml", [], read=reader(layout=text))
    assert against("layout", text) == []


POLICY_VARIANTS = [
    ("weight: 500", "weight: '500'"),
    ("stateful: true", "stateful: On, idle_session_timeout: 300, isolation_id: 10"),
    ("protocol: TCP", "protocol: [tcp, 17]"),
    ("local_port: [http, 8080-8081]", "local_port: 80, remote_port: ANY"),
    ("direction: Inbound", "direction: inbound"),
    ("remote_ip_address: admin", "remote_ip_address: [10.0.0.1, 2001:db8::1]"),
    ("name: allow-http", "name: 80"),
    ("acls:\n  - {name: only-private", "acls:\n  - {name: 2024-01-01x"),
    ("groups: {web: [web*], admin: ", "groups: {web: web*, admin: "),
    ("remote_ip_address: 10.0.0.0/8", "remote_mac_address: [00-15-5D-00-00-01, 52:54:00:12:34:56]"),
]


@pytest.mark.parametrize(("old", "new"), [("", ""), *POLICY_VARIANTS])
def test_what_the_loader_accepts_in_a_policy(old: str, new: str) -> None:
    text = POLICY.replace(old, new)
    load_site("l.yaml", ["p.yaml"], read=reader(policy=text))
    assert against("policy", text) == []


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("layout", "switches:", "swithces:"),
        ("layout", "vlan: {access: 10}\n", "vlan: {acess: 10}\n"),
        ("layout", "vlan: {access: 10}\n", "vlan: {access: 4095}\n"),
        ("layout", "type: Internal", "type: Externel"),
        ("layout", "{tcp: 8080}", "{tpc: 8080}"),
        ("policy", "weight: 1}", "wieght: 1}"),
        ("policy", "weight: 1}", "weight: 0}"),
        ("policy", "action: Deny", "action: Drop"),
        ("policy", "extended_acls:", "extended_acl:"),
    ],
)
def test_what_both_refuse(kind: str, old: str, new: str) -> None:
    texts = {"layout": LAYOUT, "policy": POLICY}
    texts[kind] = texts[kind].replace(old, new)
    assert against(kind, texts[kind])
    with pytest.raises(InputErrors):
        load_site("l.yaml", ["p.yaml"], read=reader(**texts))


def test_the_reference_names_every_key_and_alias() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "reference" / "files.md"
    text = path.read_text(encoding="utf-8")
    words = set(ALIASES)
    for kind in ("layout", "policy"):
        schema = json_schema(kind)
        words |= {key for model in [schema, *schema["$defs"].values()] for key in model["properties"]}
    assert sorted(word for word in words if f"`{word}`" not in text) == []
