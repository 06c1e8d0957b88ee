"""What tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LAYOUT = """
name: office
networks: {lan: {vlans: [10, 20]}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan}}
    vms:
      web01:
        adapters: [{switch: vs, vlan: {access: 10}, addresses: [10.0.10.1/24]}]
        services: [http]
      web02:
        adapters: [{switch: vs, vlan: {access: 10}, addresses: [10.0.10.2/24]}]
        services: [http]
"""
POLICY = """
extended_acls:
  - {name: http-in, adapters: web01, direction: Inbound, action: Allow, protocol: TCP,
     local_port: [http, 8080], weight: 9}
  - {name: no-more, adapters: web01, direction: Inbound, action: Deny, weight: 1}
"""


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]
