"""Any sequence of policies, sent as differences, ends as a fresh start; the same on every run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import generate
from vswitch.model.site import Site
from vswitch.model.types import PortMirroring
from vswitch.pipeline import Compiler, Flow, compile_site, difference

ROOT = Path(__file__).resolve().parents[2]
HOST = generate.HOST


def other_policy(random: Random, site: Site) -> Site:
    """The same machines; some of the adapters with other ACLs, or none, and with other settings."""
    guests = []
    for guest in site.guests:
        adapters = tuple(
            replace(
                adapter,
                acls=random.choice([adapter.acls, (), generate.basic_entries(random)]),
                extended_acls=random.choice([adapter.extended_acls, (), generate.extended_entries(random)]),
                port_mirroring=random.choice([adapter.port_mirroring, *PortMirroring]),
                virtual_function=random.random() < 0.2,
            )
            for adapter in guest.adapters
        )
        guests.append(replace(guest, adapters=adapters))
    return replace(site, guests=tuple(guests))


@given(seed=st.integers(0, 2**32), length=st.integers(1, 4))
def test_differences_add_up_to_a_fresh_start(seed: int, length: int) -> None:
    random = Random(seed)
    site = generate.site(random)
    compiler = Compiler()  # remembers, as the controller's does
    held: dict[int, Flow] = dict(compiler.compile(site)[HOST].switches["br0"].flows)
    for _ in range(length):
        site = other_policy(random, site)
        wanted = compiler.compile(site)[HOST].switches["br0"].flows
        change = difference(held, wanted)
        for cookie in change.remove:
            del held[cookie]
        held |= {flow.cookie: flow for flow in change.add}
        assert not difference(held, wanted)
    fresh = compile_site(site)[HOST]
    assert held == fresh.switches["br0"].flows
    assert compiler.compile(site)[HOST] == fresh


@given(seed=st.integers(0, 2**32))
def test_a_difference_is_as_small_as_it_can_be(seed: int) -> None:
    random = Random(seed)
    site = generate.site(random)
    old = compile_site(site)[HOST].switches["br0"].flows
    new = compile_site(other_policy(random, site))[HOST].switches["br0"].flows
    change = difference(old, new)
    said = {flow.text for flow in old.values()}, {flow.text for flow in new.values()}
    assert {flow.text for flow in change.add} == said[1] - said[0]
    assert {old[cookie].text for cookie in change.remove} == said[0] - said[1]
    assert difference(list(old), new) == change
    assert difference(set(old), new).text == change.text


@given(seed=st.integers(0, 2**32))
def test_names_and_places_of_rules_change_no_flow(seed: int) -> None:
    site = generate.site(Random(seed))
    guests = tuple(
        replace(
            guest,
            adapters=tuple(
                replace(
                    adapter,
                    # One name for each of the old ones: entries of one rule stay together.
                    extended_acls=tuple(
                        replace(e, name=f"x{e.name}", origin=replace(e.origin, file="z.yaml"))
                        for e in adapter.extended_acls
                    ),
                    acls=tuple(replace(e, name=f"y{e.name}") for e in reversed(adapter.acls)),
                )
                for adapter in guest.adapters
            ),
        )
        for guest in site.guests
    )
    renamed = compile_site(replace(site, guests=guests))[HOST]
    original = compile_site(site)[HOST]
    assert renamed.switches["br0"].flows == original.switches["br0"].flows
    assert renamed.marks == original.marks


COMPILE = """
import sys
from hashlib import sha256
from pathlib import Path
from vswitch.model import load_site
from vswitch.pipeline import compile_site
for path in sys.argv[1:]:
    programs = compile_site(load_site(path, read=lambda name: Path(name).read_text()))
    switches = [program for host in programs.values() for program in host.switches.values()]
    lines = [flow.text for program in switches for flow in program.flows.values()]
    lines += [f"{host.zones} {sorted(host.marks)}" for host in programs.values()]
    print(path, sha256("\\n".join(lines).encode()).hexdigest())
"""


def test_flows_are_the_same_bytes_in_every_process() -> None:
    layouts = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "topologies").glob("*.yaml"))
    layouts = [path for path in layouts if "hosts:" in (ROOT / path).read_text(encoding="utf-8")]
    assert layouts

    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", COMPILE, *layouts]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("0") == run("1") == run("4242")


@pytest.mark.parametrize("kind", [list, set, dict.fromkeys])
def test_what_is_held_may_be_any_collection(kind: object) -> None:
    flows = compile_site(generate.site(Random(1)))[HOST].switches["br0"].flows
    assert not difference(kind(flows), flows)  # type: ignore[operator]
