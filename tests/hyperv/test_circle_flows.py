"""Generated hosts, imported: Open vSwitch with the compiled flows decides as the host, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import hyperv_generate
from tests.support.hyperv_circle import Circle, meaning
from tests.support.hyperv_direct import DirectTransport
from tests.support.hyperv_host import HypervHost
from tests.support.scenario_trace import FlowTrace, TracedSwitches
from vswitch.errors import InputError
from vswitch.hyperv.importing import Imported, import_hosts
from vswitch.hyperv.store import Store
from vswitch.hyperv.tasks import Target, plan_policy
from vswitch.model import load_site
from vswitch.model.site import Site

pytestmark = pytest.mark.ovs


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowTrace]:
    with TracedSwitches(tmp_path_factory.mktemp("ovs")) as running:
        yield FlowTrace(running)


def imported_from(target: Target) -> Imported:
    return import_hosts([("hv01", target.read())], layout_file="layout.yaml", policy_file="policy.yaml")


def load(layout: str, policy: str) -> Site:
    return load_site("layout.yaml", read={"layout.yaml": layout, "policy.yaml": policy}.__getitem__)


def change(random: Random, imported: Imported, target: Target) -> Site:
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


@given(st.integers(0, 2**32))
def test_lab_and_host_agree(engine: FlowTrace, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    random = Random(seed)
    host = HypervHost(hyperv_generate.state(random), any_as_two=random.random() < 0.5)
    target = Target("hv01", DirectTransport(host), Store("hv01", tmp_path_factory.mktemp("store")))

    imported = imported_from(target)
    site = load(imported.layout, imported.policy)
    circle = Circle(engine, host.state(), site)
    circle.run(random, 50)
    if random.random() < 0.1:
        circle.wait(random.choice((4, 31)))
        circle.run(random, 10)
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
