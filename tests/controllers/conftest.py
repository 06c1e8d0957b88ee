"""One lab for each module: two hosts, three VMs in one VLAN."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.pair_of_hosts import LAYOUT
from tests.support.running_lab import RunningLab, running_lab
from tests.support.transaction_rig import rig

__all__ = ["rig"]


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(LAYOUT) as lab:
        yield lab
