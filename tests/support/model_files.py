"""Texts the model's tests load, and how they load them."""

from __future__ import annotations

from collections.abc import Callable

from vswitch.model import load_site
from vswitch.model.site import Site

LAYOUT = """\
name: two-hosts
networks:
  lan:
    vlans: [10, 20, 200, 201]
    gateways: {10: 10.0.10.1/24, 20: [10.0.20.1/24, "2001:db8:20::1/64"]}
    clients:
      client: {vlan: 20, addresses: [10.0.20.50/24], services: [http]}
hosts:
  hv01:
    switches:
      vs-lan: {type: External, network: lan}
      vs-int: {type: Internal}
    management_os:
      adapters: [{switch: vs-lan, vlan: {access: 20}, addresses: [10.0.20.2/24]}]
      services: [winrm]
    vms:
      web01:
        adapters:
          - switch: vs-lan
            mac: 00-15-5D-01-0A-01
            mac_address_spoofing: On
            vlan: {access: 10}
            addresses: [10.0.10.11/24, "2001:db8:10::11/64"]
          - {switch: vs-int}
        services: [http, {tcp: 8080}, {udp: dns}, {tcp: "8000-8003"}]
      web02:
        adapters:
          - {switch: vs-lan, vlan: {access: 10}, addresses: 10.0.10.12/24}
      sql01:
        adapters:
          - {switch: vs-lan, vlan: {access: 20}, addresses: 10.0.20.30/24}
expect:
  - {from: client, to: web01, traffic: http, verdict: Allow}
"""

POLICY = """\
groups: {web: [web*], admin: [10.0.20.0/24, "2001:db8:20::/64"]}
extended_acls:
  - {name: allow-http, adapters: web, direction: Inbound, action: Allow, protocol: TCP,
     local_port: [http, 8080-8081], weight: 500, stateful: true}
  - name: admin
    adapters: [web, "host:hv01"]
    direction: Both
    action: Allow
    remote_ip_address: admin
  - {name: deny-the-rest, adapters: web, direction: Inbound, action: Deny, weight: 1}
acls:
  - {name: only-private, adapters: web, direction: Both, action: Allow, remote_ip_address: 10.0.0.0/8}
"""


def reader(**texts: str) -> Callable[[str], str]:
    """A `read` for load_site: `layout` and `policy` are the texts behind l.yaml and p.yaml."""
    names = {"l.yaml": texts.get("layout", LAYOUT), "p.yaml": texts.get("policy", POLICY)}
    names |= {key: text for key, text in texts.items() if key not in ("layout", "policy")}

    def read(path: str) -> str:
        if path not in names:
            raise FileNotFoundError(path)
        return names[path]

    return read


def site(policy: str | None = None, layout: str = LAYOUT) -> Site:
    """The site of a layout's text with at most one policy's text."""
    if policy is None:
        return load_site("l.yaml", [], read=reader(layout=layout))
    return load_site("l.yaml", ["p.yaml"], read=reader(layout=layout, policy=policy))
