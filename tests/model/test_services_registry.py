"""The registry of service names and port numbers."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from vswitch.errors import InputError, Origin
from vswitch.model import parse_traffic
from vswitch.model.service_names import ALIASES, DCCP, SCTP, common_names, lookup, name_of, port_range
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, PortRange

PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "dccp": DCCP}


def registry() -> list[tuple[int, int, str]]:
    text = files("vswitch.model").joinpath("services.csv").read_text(encoding="utf-8")
    rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    return [(int(port), PROTOCOLS[word], name) for port, words, name in rows for word in words.split("/")]


def test_the_whole_registry_both_ways() -> None:
    rows = registry()
    assert len(rows) > 11_000
    by_name: dict[tuple[str, int], set[int]] = {}
    by_port: dict[tuple[int, int], set[str]] = {}
    for port, protocol, name in rows:
        by_name.setdefault((name.lower(), protocol), set()).add(port)
        by_port.setdefault((port, protocol), set()).add(name)
    for (name, protocol), ports in by_name.items():
        if name not in ALIASES:
            assert lookup(name, protocol) == min(ports)
    for (port, protocol), known in by_port.items():
        assert name_of(port, protocol) in known


def test_rows_are_in_order_and_not_repeated() -> None:
    rows = registry()
    assert len(set(rows)) == len(rows)
    assert [port for port, _, _ in rows] == sorted(port for port, _, _ in rows)


@pytest.mark.parametrize(
    ("name", "port", "protocols"),
    [
        ("http", 80, (TCP, UDP)),
        ("https", 443, (TCP, UDP)),
        ("HTTP", 80, (TCP, UDP)),
        ("domain", 53, (TCP, UDP)),
        ("ssh", 22, (TCP, UDP)),
        ("ldap", 389, (TCP, UDP)),
        ("syslog", 514, (UDP,)),
        ("ms-sql-s", 1433, (TCP, UDP)),
        ("wsman", 5985, (TCP, UDP)),
        ("x11", 6000, (TCP, UDP)),
        ("dns", 53, (TCP, UDP)),
        ("rdp", 3389, (TCP, UDP)),
        ("smb", 445, (TCP,)),
        ("winrm", 5985, (TCP,)),
        ("winrms", 5986, (TCP,)),
        ("mssql", 1433, (TCP,)),
    ],
)
def test_names_administrators_use(name: str, port: int, protocols: tuple[int, ...]) -> None:
    for protocol in (TCP, UDP):
        assert lookup(name, protocol) == (port if protocol in protocols else None)


def test_names_that_people_use_are_names() -> None:
    assert set(common_names()) == {*common_names(TCP), *common_names(UDP)}
    assert {"http", "rdp", "ms-wbt-server", "winrm", "kerberos", "dns"} <= set(common_names(TCP))
    assert "winrm" not in common_names(UDP)
    assert len(common_names()) < 150


def test_unknown_names_and_ports() -> None:
    assert lookup("no-such-service", TCP) is None
    assert name_of(49152, TCP) == ""


@pytest.mark.parametrize(
    ("port", "name"),
    [
        (0, "System"),
        (1023, "System"),
        (1024, "User"),
        (49151, "User"),
        (49152, "Dynamic/Private"),
        (65535, "Dynamic/Private"),
    ],
)
def test_ranges(port: int, name: str) -> None:
    assert port_range(port) == name


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(ValueError, match="not a port number"):
        port_range(port)


# --- TRAFFIC


@pytest.mark.parametrize(
    ("text", "protocol", "ports", "source"),
    [
        ("icmp", ICMPV4, None, None),
        ("ICMP", ICMPV4, None, None),
        ("http", TCP, PortRange(80, 80), None),
        ("syslog", UDP, PortRange(514, 514), None),
        ("dns", TCP, PortRange(53, 53), None),
        ("tcp/445", TCP, PortRange(445, 445), None),
        ("TCP/445", TCP, PortRange(445, 445), None),
        ("udp/dns", UDP, PortRange(53, 53), None),
        ("tcp/1024-2048", TCP, PortRange(1024, 2048), None),
        ("tcp/445:50000", TCP, PortRange(445, 445), 50000),
        ("http:50000", TCP, PortRange(80, 80), 50000),
        ("ip/47", 47, None, None),
        ("ip/58", ICMPV4, None, None),
    ],
)
def test_traffic(text: str, protocol: int, ports: PortRange | None, source: int | None) -> None:
    found = parse_traffic(text)
    assert (found.protocol, found.ports, found.source_port, str(found)) == (protocol, ports, source, text)
    assert found.protocol_for(6) == (ICMPV6 if protocol == ICMPV4 else protocol)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("htp", "did you mean 'http'"),
        ("", "icmp"),
        ("tcp", "tcp/443"),
        ("tcp/", "not a port"),
        ("tcp/99999", "out of range"),
        ("tcp/9-3", "reversed"),
        ("tpc/9", "did you mean tcp/9"),
        ("udp/winrm", "TCP only"),
        ("ip/6", "tcp/443"),
        ("ip/256", "ip/255"),
        ("icmp:5", "only TCP and UDP"),
        ("tcp/80:http", "source port"),
        ("tcp/80:99999", "out of range"),
        ("tcp/²", "neither a port"),
    ],
)
def test_what_is_no_traffic(text: str, words: str) -> None:
    where = Origin("l.yaml", 3, 4)
    with pytest.raises(InputError) as caught:
        parse_traffic(text, where)
    assert words in str(caught.value)
    assert caught.value.where == where
