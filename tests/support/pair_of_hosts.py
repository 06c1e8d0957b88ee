"""Two hosts, three VMs in one VLAN: the lab of the controller's tests."""

from __future__ import annotations

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
