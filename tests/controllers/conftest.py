"""One lab for each module: two hosts, three VMs in one VLAN."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.running_lab import RunningLab, running_lab
from tests.support.transaction_rig import rig

__all__ = ["rig"]

LAYOUT = """
name: pair
networks: {lan: {}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan, allow_management_os: false}}
    vms:
      a: {adapters: [{switch: vs, addresses: [10.0.0.1/24]}]}
      c: {adapters: [{switch: vs, addresses: [10.0.0.3/24]}], services: [http]}
  hv02:
    switches: {vs: {type: External, network: lan, allow_management_os: false}}
    vms:
      b: {adapters: [{switch: vs, addresses: [10.0.0.2/24]}], services: [http, {udp: 5300}]}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT) as lab:
        yield lab
