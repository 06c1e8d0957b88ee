"""Names and texts of a host that try to break out: of a YAML file, of a script, of a line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.direct import DirectTransport
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import extended, sample_state
from tests.support.powershell.literals import read_literal
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from vswitch.hyperv.applying.answers import export_of
from vswitch.hyperv.applying.outcomes import ways_out
from vswitch.hyperv.importing.importer import import_hosts
from vswitch.hyperv.planning.script import powershell_script
from vswitch.model import load_site

HOSTILE = [
    "web\npolicies: [../../etc/shadow]",
    "web\r\n# hv01: 0 writes",
    "web\x1b[2K\x1b[1A0 writes",
    "web\u202e\u2066drow\u2069",
    "web\u2028x\u2029y\x85z",
    "'; Stop-VM *; '",
    "\u2019; Stop-VM *; \u2018",
    '$(Stop-VM *)`n"; Stop-VM *',
    "#> Stop-VM * <#",
    "{a: b}, [c] & *d !e %f @g",
    ": - ? |",
    "\ud800half",
    "\0",
]


def hostile_state(name: str) -> dict[str, Any]:
    """The sample with `name` everywhere where a host tells text."""
    state = copy.deepcopy(sample_state())
    state["os"] = state["time"] = name
    state["teams"] = [{"Name": name, "NetAdapterInterfaceDescription": [name]}]
    state["nats"] = [
        {
            "Name": name,
            "InternalIPInterfaceAddressPrefix": name,
            "ExternalIPInterfaceAddressPrefix": name,
            "mappings": [{"Protocol": name, "ExternalIPAddress": name, "InternalIPAddress": name}],
        }
    ]
    state["unread"] = [{"part": name, "message": name}]
    for switch in state["switches"]:
        switch |= {"Name": name, "Notes": name, "NetAdapterInterfaceDescriptions": [name]}
        switch["Extensions"] = [{"Name": name, "Enabled": True}]
    for vm in state["vms"]:
        vm["Name"] = name
    for number, adapter in enumerate(state["adapters"]):
        adapter |= {"Name": name, "SwitchName": name, "IPAddresses": [name, f"fe80::1%{name}"]}
        adapter["VMName"] = None if adapter["IsManagementOs"] else name
        odd = extended("Allow", "Inbound", 700 + number, RemoteIPAddress=f"fe80::1%{name}", Protocol=name)
        adapter["extendedAcls"] = [*adapter["extendedAcls"], odd]
        scoped = extended("Allow", "Inbound", 800, RemoteIPAddress=f"fe80::1%{name}")
        adapter["extendedAcls"].append(scoped)
    return state


@pytest.mark.parametrize("name", HOSTILE)
def test_an_import_of_hostile_names_is_the_same_files_in_shape(name: str) -> None:
    """Line by line of printable characters, and the same keys as with harmless names."""
    shapes = []
    for text in (name, "harmless"):
        host = HypervHost(hostile_state(text))
        state = export_of(DirectTransport(host), "HV01")
        for adapter in state.adapters:
            assert all(each.isprintable() for each in adapter.texts(adapter.entries))
        found = import_hosts([("HV01", state)], layout_file="l.yaml", policy_file="p.yaml")
        for content in (found.layout, found.policy):
            assert all(line.isprintable() for line in content.split("\n"))
        site = load_site("l.yaml", read={"l.yaml": found.layout, "p.yaml": found.policy}.__getitem__)
        assert len(site.adapters) == len(state.adapters)
        shapes.append((shape(yaml.safe_load(found.layout)), shape(yaml.safe_load(found.policy))))
    assert shapes[0] == shapes[1]


def shape(value: Any) -> Any:
    """The kinds of things in a document, whatever they are called."""
    if isinstance(value, dict):
        return [(key if key in KEYS else "a name", shape(each)) for key, each in value.items()]
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


KEYS = {
    "hosts",
    "networks",
    "policies",
    "switches",
    "vms",
    "adapters",
    "management_os",
    "nat",
    "acls",
    "name",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_script_for_hostile_names_has_the_statements_of_a_harmless_one(name: str, tmp_path: Path) -> None:
    language = pytest.importorskip("tree_sitter_powershell").language()
    tree_sitter = pytest.importorskip("tree_sitter")
    parser = tree_sitter.Parser(tree_sitter.Language(language))
    found = []
    for text in (name, "harmless"):
        state = export_of(DirectTransport(HypervHost(hostile_state(text))), "HV01")
        files = import_hosts([("HV01", state)], layout_file="l.yaml", policy_file="p.yaml")
        site = load_site("l.yaml", read={"l.yaml": files.layout, "p.yaml": files.policy}.__getitem__)
        script = powershell_script(site, "HV01")
        tree = parser.parse(script.encode("utf-8", "surrogatepass"))
        assert not tree.root_node.has_error
        assert all(line.isprintable() for line in script.split("\n"))
        found.append([each.type for each in _commands(tree.root_node)])
    assert found[0] == found[1]


def _commands(node: Any) -> Any:
    if node.type == "command":
        yield node
    for each in node.children:
        yield from _commands(each)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_command_for_the_host_holds_a_hostile_id_as_a_literal(name: str) -> None:
    ways = ways_out(name, "plan-1", [f"Microsoft:{name}"])
    assert ways.on_host.isprintable()
    literal = ways.on_host.partition("Where-Object { ")[2].partition(" -contains $_.Id }")[0]
    assert read_literal(literal) == f"Microsoft:{name}"


def test_hostile_names_over_winrm_stay_names(shop: Shop) -> None:
    """Import, export, plan: names are what they are, and JSON has them as they are."""
    name = HOSTILE[0]
    with WinrmEndpoint(host_handler(HypervHost(hostile_state(name)))) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        assert "policies: [../../etc/shadow]" not in Path("layout.yaml").read_text("utf-8").splitlines()
        assert "Stop-VM" not in shop.run("export", "layout.yaml").output
        (one,) = shop.json("plan", "layout.yaml", "hv01", "--adopt", *over, status=1)["hosts"]
        assert any(name in each["adapter"] for each in one["result"]["adapters"])
