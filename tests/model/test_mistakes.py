"""Every kind of mistake gives one error, at the right place, that says what is wrong and what is right.

A case replaces a part of a good file; `@@` in the replacement marks where the error must point.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.model_files import LAYOUT, POLICY, reader
from vswitch.errors import InputError, InputErrors
from vswitch.model import load_site
from vswitch.textfiles import read_text

VLANS = "vlans: [10, 20, 200, 201]"
GATEWAYS = 'gateways: {10: 10.0.10.1/24, 20: [10.0.20.1/24, "2001:db8:20::1/64"]}'
CLIENT = "{vlan: 20, addresses: [10.0.20.50/24], services: [http]}"
SWITCH = "vs-lan: {type: External, network: lan}"
INTERNAL = "vs-int: {type: Internal}"
MANAGEMENT = "{switch: vs-lan, vlan: {access: 20}, addresses: [10.0.20.2/24]}"
MAC = "mac: 00-15-5D-01-0A-01"
SPOOFING = "mac_address_spoofing: On"
VLAN = "vlan: {access: 10}\n"
ADDRESSES = 'addresses: [10.0.10.11/24, "2001:db8:10::11/64"]'
SERVICES = 'services: [http, {tcp: 8080}, {udp: dns}, {tcp: "8000-8003"}]'
WEB02 = "{switch: vs-lan, vlan: {access: 10}, addresses: 10.0.10.12/24}"
SQL01 = "{switch: vs-lan, vlan: {access: 20}, addresses: 10.0.20.30/24}"
EXPECT = "{from: client, to: web01, traffic: http, verdict: Allow}"

LAYOUT_MISTAKES: list[tuple[str, str, str]] = [
    # shape
    (
        "name: two-hosts\n",
        "@@nmae: two-hosts\n",
        "unknown key 'nmae'; did you mean 'name'; networks",
    ),
    ("name: two-hosts\n", "@@", "'name' is missing"),
    ("name: two-hosts", "name: @@Two_Hosts", "cannot name a lab; lower-case"),
    ("name: two-hosts", "name: @@[a]", "found a list; name"),
    ("hosts:\n  hv01:", "hosts:\n  hv01:\n    @@swithces: {}", "'swithces'; did you mean 'switches'"),
    (INTERNAL, "@@vs-lan: {type: Internal}", "'vs-lan' is written twice; line 11"),
    (INTERNAL, "vs-int: @@Internal", "vs-int must be a mapping with the keys type; found 'Internal'"),
    (INTERNAL, "vs-int: {type: @@Externl}", "'Externl' is not a switch type; did you mean 'External'"),
    (INTERNAL, "vs-int: @@{}", "'type' is missing"),
    (INTERNAL, "vs-int: {type: @@}", "value is missing; Private"),
    (INTERNAL, "vs-int: {type: Internal, aging_time: @@0}", "ageing time; out of range; 1 to"),
    (INTERNAL, "vs-int: {type: Internal, aging_time: @@5m}", "'5m' is not an ageing time; whole number"),
    (INTERNAL, "vs-int: {type: Internal, max_mac_addresses: @@1e3}", "'1e3' is not a number of MAC"),
    (INTERNAL, "vs-int: {type: Internal, max_mac_addresses: @@010}", "'010' is not"),
    (INTERNAL, f"vs-int: {{type: Internal, aging_time: @@{'9' * 5000}}}", "out of range"),
    (INTERNAL, "@@vs/int: {type: Internal}", "'vs/int' holds '/'"),
    (INTERNAL, f"@@{'x' * 101}: {{type: Internal}}", "101 characters; up to 100"),
    (INTERNAL, '@@" vs": {type: Internal}', "starts or ends with a space"),
    (INTERNAL, '@@"": {type: Internal}', "a name is empty"),
    (INTERNAL, '@@"a\\u0007": {type: Internal}', "holds '\\x07'"),
    # switches
    (SWITCH, "@@vs-lan: {type: External}", "'vs-lan' has no network; lan"),
    (SWITCH, "vs-lan: {type: External, network: @@lam}", "no network 'lam'; did you mean 'lan'"),
    (INTERNAL, "vs-int: {type: Internal, network: @@lan}", "cannot have a network; External"),
    (INTERNAL, "vs-int: {type: Internal, allow_management_os: @@false}", "always reaches the management OS"),
    (INTERNAL, "vs-int: {type: Private, allow_management_os: @@On}", "never reaches the management OS"),
    (SWITCH, "vs-lan: {type: External, network: lan, allow_management_os: @@maybe}", "neither On nor Off"),
    (MANAGEMENT, "{switch: @@vs-prv}", "no switch on host 'hv01' named 'vs-prv'; vs-int"),
    # networks
    (VLANS, "vlans: [10, @@4095]", "VLAN id 4095 is out of range; 1 to 4094"),
    (VLANS, "vlans: [@@0, 10]", "VLAN id 0 is out of range"),
    (VLANS, "vlans: [10, @@20-12]", "range 20-12 is reversed; 12-20"),
    (VLANS, "vlans: @@ten", "'ten' is not a VLAN id"),
    (GATEWAYS, "gateways: {@@30: 10.0.10.1/24}", "VLAN 30 is not carried by the network 'lan'; 10, 20"),
    (GATEWAYS, "gateways: {10: @@10.0.10.0/24}", "network's own address; 10.0.10.1"),
    (GATEWAYS, "gateways: {10: @@10.0.10.1}", "no prefix length; 10.0.10.1/24"),
    (GATEWAYS, "gateways: {10: @@10.0.10.1/33}", "not an address with prefix length"),
    (CLIENT, "{vlan: @@30}", "VLAN 30 is not carried"),
    (CLIENT, "{vlan: 20, addresses: [@@10.0.20.255/24]}", "broadcast address; 10.0.20.254"),
    (CLIENT, "{vlan: 20, addresses: [@@10.0.20.1/24]}", "10.0.20.1 is taken on VLAN 20; lan-gateway"),
    (CLIENT, "{vlan: 20, addresses: 10.0.20.50/24, gateway: @@10.0.10.1}", "not on link; 10.0.20.0/24"),
    (
        CLIENT,
        "{vlan: 20, addresses: 10.0.20.50/24, gateway: [10.0.20.1, @@10.0.20.2]}",
        "second IPv4 gateway",
    ),
    (CLIENT, "{vlan: 20, addresses: 10.0.20.50/24, gateway: @@10.0.20.50}", "the guest's own address"),
    (CLIENT, "{vlan: 20, addresses: 10.0.20.50/24, gateway: @@gw}", "'gw' is not an IP address"),
    (CLIENT, "{vlan: 20, addresses: 10.0.20.50/24, routes: {10.9.0.0/16: @@10.8.0.1}}", "next hop 10.8.0.1"),
    (CLIENT, "{vlan: 20, addresses: 10.0.20.50/24, routes: {@@10.9.0.1/16: 10.0.20.1}}", "10.9.0.0/16"),
    (CLIENT, '{vlan: 20, addresses: 10.0.20.50/24, routes: {"::/0": @@10.0.20.1}}', "IPv4 next hop"),
    # adapters
    (SQL01, "{switch: @@vs-lam}", "no switch; 'vs-lam'; did you mean 'vs-lan'"),
    (SQL01, "@@{vlan: {access: 20}}", "'switch' is missing"),
    (SQL01, "{switch: vs-lan, @@mac_adress: x}", "unknown key 'mac_adress'; dhcp_guard"),
    (MAC, "mac: @@00-15-5D-01-0A", "not a MAC address; twelve"),
    (MAC, "mac: @@01-15-5D-01-0A-01", "multicast address; even"),
    (MAC, "mac: @@00-00-00-00-00-00", "cannot be an adapter's address"),
    (MAC, "mac: @@FF-FF-FF-FF-FF-FF", "multicast"),
    (SQL01, "{switch: vs-lan, mac: @@'00:15:5d:01:0a:01'}", "00-15-5D-01-0A-01 is taken; l.yaml:20:18"),
    (SPOOFING, "mac_address_spoofing: @@Onn", "'Onn' is neither On nor Off; true"),
    (SPOOFING, "@@mac_adress_spoofing: On", "did you mean 'mac_address_spoofing'"),
    (SPOOFING, "storm_limit: @@-1", "'-1' is not a number of frames per second; 0 to 4294967295"),
    (SPOOFING, "storm_limit: @@4294967296", "out of range; 0 to 4294967295"),
    (SPOOFING, "@@stormlimit: 10", "did you mean 'storm_limit'"),
    (SPOOFING, "maximum_bandwidth: @@100M", "'100M' is not a bandwidth in bit/s; whole number"),
    (VLAN, "vlan: {access: @@4095}\n", "VLAN id 4095 is out of range"),
    (VLAN, "vlan: {access: @@30}\n", "VLAN 30 is not carried by the network 'lan'; vlans"),
    (VLAN, "vlan: @@{access: 10, trunk: {}}\n", "one mode, found 2"),
    (VLAN, "vlan: {@@acess: 10}\n", "unknown VLAN mode 'acess'; did you mean 'access'"),
    (VLAN, "vlan: @@10\n", "'10' is not a VLAN setting; {access: 10}"),
    (VLAN, "vlan: {trunk: {allowed: [@@12-10]}}\n", "reversed; 10-12"),
    (VLAN, "vlan: {trunk: @@{native: 1}}\n", "'allowed' is missing"),
    (VLAN, "vlan: {trunk: {allowed: 10, @@nativ: 1}}\n", "'nativ'; did you mean 'native'"),
    (VLAN, "vlan: {isolated: {primary: 200, secondary: @@200}}\n", "both 200; differ"),
    (VLAN, "vlan: {community: {primary: 200, secondary: @@300}}\n", "VLAN 300 is not carried"),
    (VLAN, "vlan: {promiscuous: {primary: 200, secondaries: @@[200-201]}}\n", "primary VLAN 200 is also"),
    (VLAN, f"{VLAN}            tagged: {{@@10: 10.0.10.9/24}}\n", "cannot use VLAN 10; trunk"),
    (ADDRESSES, "addresses: [@@10.0.10.300/24]", "not an address with prefix length"),
    (ADDRESSES, "addresses: [@@224.0.0.1/24]", "cannot be the address of an interface"),
    (ADDRESSES, "addresses: [@@127.0.0.1/8]", "cannot be the address of an interface"),
    (ADDRESSES, 'addresses: [@@"2001:db8:10::/64"]', "network's own address"),
    (ADDRESSES, 'addresses: [@@"fe80::1%eth0/64"]', "names an interface"),
    (ADDRESSES, "addresses: @@{a: 1}", "found a mapping; address"),
    ("- {switch: vs-int}", "- {switch: vs-int, name: @@Network Adapter}", "two adapters named"),
    (
        WEB02,
        "{switch: vs-lan, vlan: {access: 10}, addresses: @@10.0.10.11/24}",
        "is taken on VLAN 10; 'web01'",
    ),
    # services
    (SERVICES, "services: [@@htpp]", "'htpp' is not a known service; did you mean 'http'"),
    (SERVICES, "services: [@@8080]", "8080 says no protocol; tcp/8080"),
    (SERVICES, "services: [{@@tpc: 8080}]", "unknown key 'tpc'; tcp/8080"),
    (SERVICES, "services: [{tcp: @@70000}]", "port 70000 is out of range"),
    (SERVICES, "services: [{tcp: @@0}]", "port 0"),
    (SERVICES, "services: [{tcp: @@syslog}]", "syslog has no TCP port; UDP"),
    (SERVICES, "services: [http, @@{tcp: 80}]", "tcp/80 is listed twice"),
    (SERVICES, "services: @@http", "services must be a list"),
    # names
    ("      web02:\n", "      @@client:\n", "'client' of a VM is taken; l.yaml:7:7"),
    ("      web02:\n", "      @@lan-gateway:\n", "'lan-gateway' of a VM is taken"),
    ("      web02:\n", '      @@"host:x":\n', "starts with 'host:'"),
    ("      web02:\n", "      @@hv01:\n", "'hv01' of a VM is taken"),
    # expectations
    (EXPECT, "{from: @@clinet, to: web01, traffic: http, verdict: Allow}", "no guest 'clinet'; 'client'"),
    (EXPECT, "{from: client, to: @@web01/eth0, traffic: http, verdict: Allow}", "no adapter 'eth0'"),
    (EXPECT, "{from: client, to: @@web01/10.9.9.9, traffic: http, verdict: Allow}", "no address 10.9.9.9"),
    (
        EXPECT,
        "{from: client, to: web01, traffic: @@htp, verdict: Allow}",
        "'htp' is not a known service; icmp",
    ),
    (EXPECT, "{from: client, to: web01, traffic: tcp/1, verdict: @@Alow}", "did you mean 'Allow'; Refused"),
    (EXPECT, "@@{from: client, traffic: tcp/1, verdict: Deny}", "'to' is missing"),
    # YAML
    ("name: two-hosts", "name: @@@two", "nothing can start with '@'; quotes"),
    ("hosts:\n", "hosts:\n@@\thv00: {}\n", "nothing can start with '\\t'; spaces"),
    ("name: two-hosts", "name: @@*two", "alias *two has no anchor; quote"),
    ("name: two-hosts", "name: &two [@@*two]", "inside the value it repeats"),
    ("name: two-hosts", "name: two-hosts\n@@[a, b]: c", "a list or mapping as a key"),
    ("name: two-hosts", "name: two-hosts\n@@<<: 5", "merge key"),
    ("name: two-hosts", "name: @@\0two", "U+0000 is not allowed"),
    ("expect:", "@@---\nexpect:", "second YAML document"),
]

ALLOW_HTTP = """{name: allow-http, adapters: web, direction: Inbound, action: Allow, protocol: TCP,
     local_port: [http, 8080-8081], weight: 500, stateful: true}"""
GROUPS = 'groups: {web: [web*], admin: [10.0.20.0/24, "2001:db8:20::/64"]}'
DENY = "{name: deny-the-rest, adapters: web, direction: Inbound, action: Deny, weight: 1}"
BASIC = "{name: only-private, adapters: web, direction: Both, action: Allow, remote_ip_address: 10.0.0.0/8}"


def extended(rest: str) -> str:
    """A good rule with more keys."""
    return f"{{name: x, adapters: web, direction: Inbound, {rest}}}"


def basic(rest: str) -> str:
    """A good basic rule but for its address."""
    return f"{{name: x, adapters: web, direction: Inbound, {rest}}}"


TCP = "action: Allow, protocol: TCP"
POLICY_MISTAKES: list[tuple[str, str, str]] = [
    # shape
    ("extended_acls:", "@@extended_acl:", "unknown key 'extended_acl'; did you mean 'extended_acls'"),
    (f"acls:\n  - {BASIC}", f"acls:\n  @@x: {BASIC}", "acls must be a list, found a mapping"),
    ("\nacls:", "\n@@extended_acls:", "'extended_acls' is written twice; line 2"),
    (DENY, "@@deny", "must be a mapping with the keys name, adapters; found 'deny'"),
    (
        DENY,
        "{name: x, adapters: web, direction: Inbound, action: Deny, @@wieght: 1}",
        "did you mean 'weight'",
    ),
    (DENY, "@@{adapters: web, direction: Inbound}", "'action' is missing"),
    (DENY, "{adapters: web, direction: @@In, action: Deny}", "'In' is not a direction; Inbound, Outbound"),
    (DENY, "{adapters: web, direction: Inbound, action: @@Drop}", "'Drop' is not an action; Allow, Deny"),
    (DENY, extended("action: @@Meter"), "'Meter' is not an action"),
    (DENY, extended("action: Deny, weight: @@0"), "weight 0 is out of range; 1 to 65535"),
    (DENY, extended("action: Deny, weight: @@100000"), "out of range; 65535"),
    (DENY, extended("action: Deny, weight: @@high"), "'high' is not a weight"),
    (DENY, extended("action: Deny, protocol: @@TPC"), "'TPC' is not a protocol; did you mean 'tcp'; ICMPv6"),
    (DENY, extended("action: Deny, protocol: @@256"), "256 is out of range; 0 to 255"),
    (DENY, extended("action: Deny, isolation_id: @@-1"), "'-1' is not an isolation id"),
    # adapters
    (
        DENY,
        "{name: x, adapters: @@wbe*, direction: Inbound, action: Deny}",
        "'wbe*' matches no adapter; web01",
    ),
    (DENY, "{name: x, adapters: @@hv01, direction: Inbound, action: Deny}", '"host:hv01"'),
    (DENY, "{name: x, adapters: @@'host:hv1', direction: Inbound, action: Deny}", "did you mean 'hv01'"),
    (
        DENY,
        "{name: x, adapters: @@web01/eth0, direction: Inbound, action: Deny}",
        "its adapters: Network Adapter",
    ),
    (DENY, "{name: x, adapters: @@admin, direction: Inbound, action: Deny}", "'admin' holds addresses"),
    (
        DENY,
        "{name: x, adapters: @@10.0.0.1, direction: Inbound, action: Deny}",
        "is an address, not an adapter",
    ),
    (DENY, "@@{name: x, direction: Inbound, action: Deny}", "'adapters' is missing"),
    (DENY, "{name: x, adapters: @@[], direction: Inbound, action: Deny}", "names no adapters"),
    (DENY, "{name: x, adapters: [web, @@{a: b}], direction: Inbound, action: Deny}", "found a mapping"),
    # addresses and ports
    (DENY, extended("action: Deny, remote_ip_address: @@10.0.0.5/24"), "10.0.0.0/24; 10.0.0.5"),
    (DENY, extended("action: Deny, remote_ip_address: @@10.0.0.0/40"), "not an address or prefix"),
    (DENY, extended("action: Deny, remote_ip_address: @@amdin"), "no group 'amdin'; did you mean 'admin'"),
    (DENY, extended("action: Deny, remote_ip_address: [10.0.0.1, @@ANY]"), "ANY stands among other values"),
    (DENY, extended("action: Deny, remote_ip_address: @@[]"), "an empty list; ANY"),
    (
        DENY,
        extended("action: Deny, local_ip_address: 10.0.0.1, remote_ip_address: @@'2001:db8::1'"),
        "different IP versions",
    ),
    (DENY, extended("action: Deny, local_port: @@80"), "local_port needs protocol: TCP or UDP"),
    (DENY, extended("action: Deny, protocol: ICMP, remote_port: @@80"), "remote_port needs protocol"),
    (DENY, extended(f"{TCP}, local_port: @@70000"), "port 70000 is out of range"),
    (DENY, extended(f"{TCP}, local_port: @@81-80"), "port range 81-80 is reversed; 80-81"),
    (DENY, extended(f"{TCP}, local_port: [80, @@htpps]"), "did you mean 'https'"),
    (DENY, extended(f"{TCP}, local_port: @@syslog"), "syslog has no TCP port"),
    (DENY, extended(f"{TCP}, local_port: @@80;81"), "neither a port nor a known service"),
    # state
    (
        DENY,
        extended("action: Deny, protocol: TCP, stateful: @@true"),
        "Deny rule cannot be stateful; 0x80070057",
    ),
    (DENY, extended("action: Allow, protocol: ICMP, stateful: @@true"), "only TCP and UDP; 0x80070057"),
    (DENY, extended("action: Allow, stateful: @@true"), "only TCP and UDP"),
    (DENY, extended(f"{TCP}, idle_session_timeout: @@60"), "without stateful"),
    (DENY, extended(f"{TCP}, stateful: On, idle_session_timeout: @@0"), "needs a timeout; 1 to 65535"),
    (DENY, extended(f"{TCP}, stateful: On, idle_session_timeout: @@70000"), "out of range"),
    (DENY, extended(f"{TCP}, stateful: @@perhaps"), "neither On nor Off"),
    # weights and names
    (
        DENY,
        f"@@{extended('action: Deny, weight: 499')}",
        "'x' is taken; 500 to 499 (2 entries); 'allow-http'; :3:5",
    ),
    (
        DENY,
        extended("action: Deny, weight: @@1, remote_ip_address: [10.0.0.1, 10.0.0.2]"),
        "2 entries; at least 2",
    ),
    (
        DENY,
        "@@{name: allow-http, adapters: web, direction: Inbound, action: Deny}",
        "'allow-http' is taken; :3:5",
    ),
    # groups
    (GROUPS, "groups: {web: [web*, @@wab*], admin: 10.0.0.0/8}", "'wab*' matches no adapter"),
    (GROUPS, "groups: {web: web*, admin: @@10.0.0.1/8}", "10.0.0.0/8"),
    (GROUPS, "groups: {web: [web*, a], a: [@@web], admin: 10.0.0.0/8}", "contains itself"),
    (GROUPS, "groups: {web: web*, admin: 10.0.0.0/8, none: @@[]}", "'none' is empty"),
    (GROUPS, "groups: @@[web]", "groups must be a mapping"),
    # basic ACLs
    (BASIC, f"@@{basic('action: Allow')}", "names no address; exactly one of"),
    (
        BASIC,
        basic("action: Allow, local_ip_address: ANY, remote_ip_address: @@ANY"),
        "local_ip_address, remote_ip_address; exactly one",
    ),
    (BASIC, basic("action: Meter, remote_mac_address: @@ANY"), "Meter entry needs an IP address"),
    (BASIC, basic("action: Deny, remote_mac_address: @@00-15"), "not a MAC address; ANY"),
    (BASIC, basic("action: Deny, remote_ip_address: ANY, @@weight: 5"), "unknown key 'weight'"),
    (
        BASIC,
        f"{BASIC}\n  - @@{basic('action: Deny, remote_ip_address: 10.0.0.0/8')}",
        "already; Allow; 0x800700B7",
    ),
    (
        BASIC,
        f"{BASIC}\n  - @@{basic('action: Deny, remote_ip_address: [10.0.0.1, 10.0.0.0/8]')}",
        "'only-private' at p.yaml:12:5",
    ),
    # YAML
    (DENY, "{name: x, adapters: @@*, direction: Inbound, action: Deny}", "must be in quotes"),
    (DENY, "{name: x, adapters: [web, direction: Inbound, action: Deny@@}", "not YAML"),
    (DENY, "{name: x, @@name: y, adapters: web, direction: Inbound, action: Deny}", "written twice"),
]


def expected(old: str, new: str, base: str) -> tuple[str, tuple[int, int]]:
    assert base.count(old) == 1, old
    marked = base.replace(old, new)
    before = marked.partition("@@")[0]
    return marked.replace("@@", "", 1), (before.count("\n") + 1, len(before) - before.rfind("\n"))


def mistakes(policies: list[str] | None, layout: str, policy: str = POLICY) -> tuple[InputError, ...]:
    with pytest.raises(InputErrors) as caught:
        load_site("l.yaml", policies, read=reader(layout=layout, policy=policy))
    return caught.value.errors


def check(errors: tuple[InputError, ...], file: str, place: tuple[int, int], words: str) -> None:
    shown = "\n".join(map(str, errors))
    assert len(errors) == 1, shown
    where = errors[0].where
    assert where is not None
    assert (where.file, where.line, where.column) == (file, *place), shown
    for word in words.split("; "):
        assert word in shown, shown


@pytest.mark.parametrize(("old", "new", "words"), LAYOUT_MISTAKES)
def test_a_mistake_in_the_layout(old: str, new: str, words: str) -> None:
    layout, place = expected(old, new, LAYOUT)
    check(mistakes([], layout), "l.yaml", place, words)


@pytest.mark.parametrize(("old", "new", "words"), POLICY_MISTAKES)
def test_a_mistake_in_a_policy(old: str, new: str, words: str) -> None:
    policy, place = expected(old, new, POLICY)
    check(mistakes(["p.yaml"], LAYOUT, policy), "p.yaml", place, words)


def test_all_mistakes_come_at_once_in_file_order() -> None:
    layout = LAYOUT.replace("access: 10}\n", "access: 4095}\n").replace("[10, 20, 200", "[0, 20, 200")
    policy = POLICY.replace("weight: 1}", "wieght: 1}").replace("Both", "Bot")
    errors = mistakes(["p.yaml"], layout, policy)
    assert [(error.where.file, error.where.line) for error in errors if error.where] == [
        ("l.yaml", 4),
        ("l.yaml", 22),
        ("p.yaml", 7),
        ("p.yaml", 10),
        ("p.yaml", 12),
    ]


def test_every_broken_policy_is_reported() -> None:
    read = reader(**{"a.yaml": "acls: 5\n", "b.yaml": "[", "c.yaml": "", "d.yaml": "x: 1\n"})
    with pytest.raises(InputErrors) as caught:
        load_site("l.yaml", ["b.yaml", "a.yaml", "missing.yaml", "c.yaml", "a.yaml", "d.yaml"], read=read)
    assert [error.where.file for error in caught.value.errors if error.where] == [
        "b.yaml",
        "a.yaml",
        "a.yaml",
        "missing.yaml",
        "c.yaml",
        "d.yaml",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("# nothing but a comment\n", "empty"),
        ("null\n", "empty"),
        ("just words\n", "this is not a layout"),
        ("- a\n- b\n", "this is not a layout"),
        ("name: " + "[" * 100_000, "nested more than"),
        ("name:\n" + "- " * 50_000, "nested more than"),
        ("name: \ud800\n", "surrogate"),
        ("%YAML 9.9\n---\nname: b\n", "not YAML"),
        ("name: 'x\n", "not YAML"),
        ("name: \x00\x01\x02", "U+0000 is not allowed"),
        ("name: x\n? [a, b]\n: c\n", "a list or mapping as a key"),
        ("name: &a [x]\nhosts: &b [*a, *b]\n", "inside the value it repeats"),
    ],
)
def test_a_text_that_is_no_layout(text: str, words: str) -> None:
    shown = "\n".join(map(str, mistakes([], text)))
    for word in words.split("; "):
        assert word in shown


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert "repeat more than" in str(mistakes([], "name:\n  " + "\n  ".join(lines))[0])


def test_a_huge_number_is_out_of_range() -> None:
    layout = LAYOUT.replace("vlan: 20,", f"vlan: {'1' * 6000},")
    assert "out of range" in str(mistakes([], layout)[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"name: \xff\n", "not UTF-8"), (b"\xff\xfea\x00b", "begins like UTF-16")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "l.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputErrors, match=words) as caught:
        load_site(str(path), read=read_text)
    assert caught.value.where is not None
    assert caught.value.where.file == str(path)
    assert caught.value.exit_status == 2


def test_a_folder_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(InputErrors, match="this is a folder, not a file"):
        load_site(str(tmp_path), read=read_text)


def test_a_policy_named_with_a_nul_byte() -> None:
    layout = LAYOUT + 'policies: ["a\\0.yaml"]\n'
    with pytest.raises(InputErrors):
        load_site("l.yaml", read=lambda path: layout if path == "l.yaml" else read_text(path))


def test_the_dynamic_mac_pool_has_an_end() -> None:
    extra = "".join(f"      vm{i}: {{adapters: [{{switch: vs-int}}]}}\n" for i in range(256))
    errors = mistakes([], LAYOUT.replace("expect:", f"{extra}expect:"))
    assert {error.message for error in errors} == {"the dynamic MAC pool of host 'hv01' is exhausted"}
    # The pool holds 256 addresses; the layout's other adapters take five, so five of these get none.
    assert len(errors) == 5


def test_hosts_with_one_pool_clash() -> None:
    hosts = "".join(
        f"""  {name}:
    switches: {{vs: {{type: Internal}}}}
    management_os: {{adapters: [{{switch: vs, addresses: {address}}}]}}
"""
        for name, address in (("hv01", "10.0.1.7/24"), ("hv02", "10.2.1.7/24"))
    )
    errors = mistakes([], f"name: x\nhosts:\n{hosts}")
    assert [error.where.line for error in errors if error.where] == [8]
    assert "share a pool" in errors[0].hint
