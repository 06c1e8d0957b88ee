"""What a policy becomes: entries, weights, groups, warnings."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.support.model_files import LAYOUT, reader, site
from vswitch.errors import InputErrors
from vswitch.model import load_site
from vswitch.model.site import BasicAcl, ExtendedAcl
from vswitch.model.types import TCP, UDP, AnyAddress, Direction, PortRange, Side

WEB, SQL = "web01/Network Adapter", "sql01/Network Adapter"


def entries(policy: str, adapter: str = WEB) -> tuple[ExtendedAcl, ...]:
    return {each.id: each for each in site(policy).adapters}[adapter].extended_acls


def rule(rest: str, name: str = "r", adapters: str = "web01") -> str:
    return f"  - {{name: {name}, adapters: {adapters}, direction: Inbound, action: Allow, {rest}}}\n"


def policy(*rules: str) -> str:
    return "extended_acls:\n" + "".join(rules)


def weights(policy_text: str, adapter: str = WEB) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entry in entries(policy_text, adapter):
        found.setdefault(entry.name, []).append(entry.weight)
    return found


def test_lists_expand_to_single_entries() -> None:
    found = entries(
        policy(
            rule(
                "protocol: TCP, local_port: [http, 8080-8081], remote_ip_address: [10.0.0.0/8, 10.1.1.1],"
                " weight: 500"
            )
        )
    )
    assert [(str(each.remote_ip_address), str(each.local_port), each.weight) for each in found] == [
        ("10.0.0.0/8", "80", 500),
        ("10.0.0.0/8", "8080-8081", 499),
        ("10.1.1.1/32", "80", 498),
        ("10.1.1.1/32", "8080-8081", 497),
    ]
    assert {each.origin.line for each in found} == {2}


def test_both_makes_an_entry_each_way() -> None:
    text = policy(rule("protocol: ICMP, weight: 7")).replace("Inbound", "Both")
    assert [(each.direction, each.weight) for each in entries(text)] == [
        (Direction.INBOUND, 7),
        (Direction.OUTBOUND, 7),
    ]


def test_combinations_of_mixed_families_are_left_out() -> None:
    found = entries(
        policy(rule("local_ip_address: [10.0.0.1, '2001:db8::1'], remote_ip_address: [10.0.0.0/8, '::/0']"))
    )
    assert [(str(each.local_ip_address), str(each.remote_ip_address)) for each in found] == [
        ("10.0.0.1/32", "10.0.0.0/8"),
        ("2001:db8::1/128", "::/0"),
    ]


def test_a_name_means_the_port_of_each_protocol() -> None:
    found = entries(policy(rule("protocol: [TCP, UDP], local_port: dns")))
    assert [(each.protocol, each.local_port) for each in found] == [
        (TCP, PortRange(53, 53)),
        (UDP, PortRange(53, 53)),
    ]


@pytest.mark.parametrize(
    ("written", "number"),
    [("ICMP", 1), ("icmpv6", 58), ("IGMP", 2), ("47", 47), ("ANY", None), ("Tcp", 6), ("17", 17)],
)
def test_protocols(written: str, number: int | None) -> None:
    assert entries(policy(rule(f"protocol: {written}")))[0].protocol == number


def test_idle_timeouts() -> None:
    def timeout(rest: str) -> int:
        return entries(policy(rule(f"protocol: TCP{rest}")))[0].idle_session_timeout

    assert timeout("") == 0
    assert timeout(", stateful: true") == 255
    assert timeout(", stateful: On, idle_session_timeout: 60") == 60


def test_automatic_weights_keep_file_order_and_leave_room() -> None:
    ports = ", ".join(map(str, range(1, 13)))
    text = policy(
        rule("protocol: TCP", "first"),
        rule(f"protocol: TCP, local_port: [{ports}]", "twelve"),
        rule("protocol: UDP", "last"),
        rule("protocol: UDP", "floor").replace("}", ", weight: 1}"),
        rule("protocol: UDP", "top").replace("}", ", weight: 65535}"),
    )
    found = weights(text)
    assert found == {
        "top": [65535],
        "first": [60000],
        "twelve": list(range(59990, 59978, -1)),
        "last": [59970],
        "floor": [1],
    }


def test_automatic_weights_step_around_written_ones() -> None:
    text = policy(
        rule("weight: 60000", "a"), rule("weight: 59998", "b"), *(rule("", f"r{i}") for i in range(6000))
    )
    found = weights(text)
    assert found["r0"] == [59999]
    assert found["r1"] == [59997]  # too many rules to leave room between them
    assert len({weight for each in found.values() for weight in each}) == 6002


def test_weights_are_per_adapter_and_direction() -> None:
    text = policy(rule("", "web"), rule("", "sql", "sql01"), rule("", "out").replace("Inbound", "Outbound"))
    assert weights(text) == {"web": [60000], "out": [60000]}
    assert weights(text, SQL) == {"sql": [60000]}


def test_running_out_of_weights() -> None:
    text = policy(
        *(
            rule(f"protocol: TCP, local_port: [{', '.join(map(str, range(1, 61)))}]", f"r{i}")
            for i in range(1001)
        )
    )
    with pytest.raises(InputErrors, match="no automatic weight is left") as caught:
        site(text)
    assert caught.value.where is not None
    assert caught.value.where.line == 1002


def test_the_same_weight_on_different_adapters_is_fine() -> None:
    text = policy(rule("weight: 5", "a"), rule("weight: 5", "b", "sql01"))
    assert weights(text) == {"a": [5]}


def test_rules_of_several_files_keep_the_order_of_the_files() -> None:
    read = reader(**{"a.yaml": policy(rule("", "a")), "b.yaml": policy(rule("", "b"))})
    names = [
        [each.name for each in load_site("l.yaml", files, read=read).guest["web01"].adapters[0].extended_acls]
        for files in (["a.yaml", "b.yaml"], ["b.yaml", "a.yaml"])
    ]
    assert names == [["a", "b"], ["b", "a"]]


def test_a_rule_without_name_is_called_by_its_place() -> None:
    text = policy("  # a comment\n", rule("").replace("name: r, ", ""))
    assert entries(text)[0].name == "p:3"


def test_a_group_of_adapters_as_addresses() -> None:
    text = "groups: {web: [web*], all: [web, 10.9.0.0/16]}\n" + policy(
        rule("remote_ip_address: all, weight: 9", adapters="sql01")
    )
    assert [str(each.remote_ip_address) for each in entries(text, SQL)] == [
        "10.9.0.0/16",
        "10.0.10.11/32",
        "2001:db8:10::11/128",
        "10.0.10.12/32",
    ]


def test_groups_belong_to_their_file() -> None:
    read = reader(
        **{
            "a.yaml": "groups: {g: [web01]}\n" + policy(rule("", "a", "g")),
            "b.yaml": "groups: {g: [sql01]}\n" + policy(rule("", "b", "g")),
        }
    )
    loaded = load_site("l.yaml", ["a.yaml", "b.yaml"], read=read)
    assert [each.name for each in loaded.guest["sql01"].adapters[0].extended_acls] == ["b"]


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ('"*"', ["web01/Network Adapter", "web01/Network Adapter 2", "web02/Network Adapter", SQL]),
        ("web0?", ["web01/Network Adapter", "web01/Network Adapter 2", "web02/Network Adapter"]),
        ("web*/Network Adapter", ["web01/Network Adapter", "web02/Network Adapter"]),
        ("web01/*2", ["web01/Network Adapter 2"]),
        ('"host:*"', ["hv01/vs-lan", "hv01/vs-int"]),
        ('"host:hv01/vs-int"', ["hv01/vs-int"]),
    ],
)
def test_patterns(pattern: str, ids: list[str]) -> None:
    loaded = site(policy(rule("", adapters=pattern)))
    assert [each.id for each in loaded.adapters if each.extended_acls] == sorted(
        ids, key=[each.id for each in loaded.adapters].index
    )


def basics(rest: str) -> tuple[BasicAcl, ...]:
    text = f"acls:\n  - {{name: b, adapters: web01, direction: Both, action: Deny, {rest}}}\n"
    return site(text).guest["web01"].adapters[0].acls


def test_basic_entries() -> None:
    found = basics("remote_ip_address: [10.0.0.0/8, '::/0']")
    assert [(each.direction, each.side, each.address) for each in found] == [
        (direction, Side.REMOTE, ip_network(address))
        for direction in Direction
        for address in ("10.0.0.0/8", "::/0")
    ]
    assert basics("local_ip_address: ANY")[0].address is AnyAddress.IP
    mac = basics("remote_mac_address: 00:15:5d:00:00:01")[0]
    assert (mac.address, mac.is_mac) == ("00-15-5D-00-00-01", True)
    anything = basics("local_mac_address: any")[0]
    assert (anything.address, anything.is_mac, anything.side) == (AnyAddress.MAC, True, Side.LOCAL)


def test_meter_entries_stand_beside_others() -> None:
    text = "acls:\n" + "".join(
        f"  - {{adapters: web01, direction: Inbound, action: {action}, remote_ip_address: ANY}}\n"
        for action in ("Meter", "Deny")
    )
    assert len(site(text).guest["web01"].adapters[0].acls) == 2


# --- warnings


def warnings(text: str, layout: str = LAYOUT) -> str:
    return "\n".join(site(text, layout=layout).warnings)


def test_a_shadowed_rule_is_suspicious() -> None:
    text = policy(
        rule("remote_ip_address: 10.0.0.0/8, weight: 9", "wide").replace("Allow", "Deny"),
        rule("remote_ip_address: 10.1.0.0/16, protocol: TCP, local_port: 80, weight: 5", "narrow"),
    )
    assert "p.yaml:3:5: 'narrow' (Allow, weight 5)" in warnings(text)
    assert "'wide' at p.yaml:2:5" in warnings(text)
    assert not warnings(text.replace("weight: 5", "weight: 10"))
    assert not warnings(text.replace("10.1.0.0", "11.1.0.0"))


def test_a_deny_of_ipv4_alone_is_suspicious() -> None:
    text = policy(rule("remote_ip_address: 0.0.0.0/0").replace("Allow", "Deny"))
    assert "leaves IPv6 open" in warnings(text)
    assert "IPv6 open" not in warnings(text.replace("0.0.0.0/0", "[0.0.0.0/0, '::/0']"))
    basic = "acls:\n  - {adapters: web01, direction: Inbound, action: Deny, remote_ip_address: 0.0.0.0/0}\n"
    assert "leaves IPv6 open" in warnings(basic)
    assert not warnings(basic.replace("0.0.0.0/0", "ANY"))


def test_denying_neighbour_discovery_is_suspicious_where_there_is_ipv6() -> None:
    text = policy(rule("weight: 1").replace("Allow", "Deny"))
    assert "neighbour discovery" in warnings(text)
    assert not warnings(text + rule("protocol: ICMPv6, weight: 2", "nd"))
    assert not warnings(text.replace("web01", "sql01"))


def test_many_entries_are_unusual() -> None:
    text = policy(rule(f"protocol: TCP, local_port: [{', '.join(map(str, range(1, 302)))}]"))
    assert "301 extended entries Inbound" in warnings(text)


def test_an_expectation_that_names_nothing() -> None:
    layout = LAYOUT.replace("verdict: Allow}", "verdict: Deny, by: deny-al}")
    text = policy(rule("weight: 1", "deny-all").replace("Allow", "Deny"))
    assert "neither a rule nor a drop reason; did you mean 'deny-all'?" in warnings(text, layout)
    assert "drop reason" not in warnings(text, layout.replace("deny-al}", "MacSpoofing}"))
