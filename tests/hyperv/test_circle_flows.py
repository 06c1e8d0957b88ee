"""Generated hosts, imported: Open vSwitch with the compiled flows decides as the host, frame by frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.modelled_host import random_states as hyperv_generate
from tests.support.modelled_host.circle import Circle, CircleDisagreement, meaning
from tests.support.modelled_host.direct import DirectTransport
from tests.support.modelled_host.host import HypervHost
from tests.support.scenarios.trace import FlowTrace, TracedSwitches
from vswitch.errors import InputError
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_policy
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.host.host_state import read_state
from vswitch.hyperv.importing.importer import Imported, import_hosts
from vswitch.model import load_site
from vswitch.model.site import Site, Switch
from vswitch.semantics import Frame, Result, SwitchState, process

pytestmark = pytest.mark.slow

#: What a mistaken importer would write: found in the texts, and what stands there in its place.
OTHER = {"Allow": "Deny", "Deny": "Allow", "local": "remote", "remote": "local"}
MISTAKES: dict[str, tuple[str, str | Callable[[re.Match[str]], str]]] = {
    "directions swapped": (r"(In|Out)bound", lambda m: "Outbound" if m[1] == "In" else "Inbound"),
    "actions swapped": (r"action: (Allow|Deny)\b(?!.*stateful)", lambda m: f"action: {OTHER[m[1]]}"),
    "order turned round": (r"weight: (\d+)", lambda m: f"weight: {65536 - int(m[1])}"),
    "ends swapped": (r"(local|remote)_(?=port|ip|mac)", lambda m: f"{OTHER[m[1]]}_"),
    "the last port lost": (r"port: (\d+)-(\d+)", lambda m: f"port: {m[1]}-{max(int(m[1]), int(m[2]) - 1)}"),
    "a host for its network": (r"ip_address: (\S+)/(?:30|31)\b", r"ip_address: \1"),
    "TCP for UDP": (r"protocol: UDP", "protocol: TCP"),
    "Stateful lost": (r", stateful: true, idle_session_timeout: \d+", ""),
    "IsolationID lost": (r", isolation_id: \d+", ""),
    "ANY for IPv4 alone": (r"ip_address: ANY", "ip_address: 0.0.0.0/0"),
    "every MAC for one": (r"mac_address: (?!ANY)[^,}]+", "mac_address: ANY"),
    "all adapters of the host": (r"(adapters: ).+?(, direction)", r'\1["*", "host:*"]\2'),
    "MacAddressSpoofing lost": (r", mac_address_spoofing: On", ""),
    "DhcpGuard lost": (r", dhcp_guard: On", ""),
    "RouterGuard lost": (r", router_guard: On", ""),
    "AllowTeaming lost": (r", allow_teaming: On", ""),
    "the VLAN lost": (r", vlan: \{access: \d+\}", ""),
    "the native VLAN lost": (r", native: [1-9]\d*", ", native: 0"),
    "a trunk's last VLANs lost": (r"allowed: \[(\d+).*?\]", r"allowed: [\1]"),
    "isolated for community": (r"community: ", "isolated: "),
    "a secondary VLAN lost": (r"secondaries: \[201-202\]", "secondaries: [201]"),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowTrace]:
    with TracedSwitches(tmp_path_factory.mktemp("ovs")) as running:
        yield FlowTrace(running)


def imported_from(target: RemoteHost) -> Imported:
    return import_hosts([("hv01", target.read())], layout_file="layout.yaml", policy_file="policy.yaml")


def load(layout: str, policy: str) -> Site:
    return load_site("layout.yaml", read={"layout.yaml": layout, "policy.yaml": policy}.__getitem__)


def change(random: Random, imported: Imported, target: RemoteHost) -> Site:
    """Change the policy on the host; the site with the changed policy."""
    while True:
        policy = hyperv_generate.changed(random, imported.policy)
        try:
            new = load(imported.layout, policy)
            plan = plan_policy(target, new)
        except InputError:  # such as a weight that is taken
            continue
        target.apply(plan)
        return new


@pytest.mark.ovs
@given(st.integers(0, 2**32))
def test_lab_and_host_agree(engine: FlowTrace, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    random = Random(seed)
    host = HypervHost(hyperv_generate.state(random), any_as_two=random.random() < 0.5)
    target = RemoteHost("hv01", DirectTransport(host), Store("hv01", tmp_path_factory.mktemp("store")))

    imported = imported_from(target)
    site = load(imported.layout, imported.policy)
    circle = Circle(engine, host.state(), site)
    circle.run(random, 50)
    if random.random() < 0.1:
        circle.wait(random.choice((4, 31)))
        circle.run(random, 10)
    assert meaning(site) == meaning(circle.host)
    if random.random() < 0.5:
        return

    taken_over = plan_policy(target, site, adopt=True)
    assert not any(each.writes for each in taken_over.adapters)
    target.apply(taken_over)
    new = change(random, imported, target)
    circle.change(host.state(), new)
    circle.run(random, 40)

    again = imported_from(target)
    assert meaning(load(again.layout, again.policy)) == meaning(new)
    assert not plan_policy(target, new).changes


class Reference:
    """The reference in place of Open vSwitch, which says the same and takes longer."""

    def start(self, site: Site) -> None:
        self.memory: dict[str, SwitchState] = {}
        self.now, self.texts = 1000.0, [""]

    def process(self, site: Site, switch: Switch, port: int, frame: Frame) -> Result:
        result = process(site, switch, port, frame, self.memory.get(switch.id), self.now)
        self.memory[switch.id] = result.state
        self.texts.append("")
        return result

    def apply(self, site: Site, policy: str) -> None:
        raise AssertionError("these circles keep their policy")

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_every_mistake_of_an_import_shows(mistake: str | None) -> None:
    """The comparison itself: texts with a mistake planted disagree with the host soon, others never."""
    found, put = MISTAKES[mistake] if mistake else ("", "")
    for seed in range(100 if mistake else 20):
        random = Random(seed)
        state = HypervHost(hyperv_generate.state(random)).state()
        imported = import_hosts(
            [("hv01", read_state(state))], layout_file="layout.yaml", policy_file="policy.yaml"
        )
        layout, policy = (re.sub(found, put, text) for text in (imported.layout, imported.policy))
        if mistake and (layout, policy) == (imported.layout, imported.policy):
            continue
        try:
            circle = Circle(Reference(), state, load(layout, policy))
        except InputError:  # such as two rules that have one weight now
            continue
        if not mistake:
            circle.run(random, 100)
            continue
        with suppress(CircleDisagreement):
            circle.run(random, 100)
            continue
        return
    assert mistake is None, "nothing showed"
