"""Service names and port numbers: the whole IANA registry, both ways, and its three ranges.

The registry is the file `services.csv` beside this module; its header names where it comes from.
Names are found without regard to case. `ALIASES` adds the words administrators type for services
that the registry knows under another name.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from vswitch.model.types import TCP, UDP

__all__ = ["ALIASES", "DCCP", "HTTP_PORTS", "SCTP", "common_names", "lookup", "name_of", "port_range"]

SCTP, DCCP = 132, 33

#: TCP ports whose clients expect HTTP, without TLS: http, WinRM's, http-alt and what else is used for it.
HTTP_PORTS = frozenset({80, 5985, 8000, 8008, 8080, 8888})

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "dccp": DCCP}
_BOTH = (TCP, UDP)

#: Common words for registered services: name -> (port, protocols). They win over the registry, which
#: matters for one of them: IANA's own `winrm` is 47001, a listener for local use, while everybody
#: who writes `winrm` means the remoting port, registered as `wsman`.
ALIASES: dict[str, tuple[int, tuple[int, ...]]] = {
    "dns": (53, _BOTH),
    "dhcp": (67, (UDP,)),
    "dhcp-client": (68, (UDP,)),
    "dhcpv6": (547, (UDP,)),
    "dhcpv6-client": (546, (UDP,)),
    "kerberos-password": (464, _BOTH),
    "rpc": (135, (TCP,)),
    "global-catalog": (3268, (TCP,)),
    "smb": (445, (TCP,)),
    "cifs": (445, (TCP,)),
    "rdp": (3389, _BOTH),
    "winrm": (5985, (TCP,)),
    "winrms": (5986, (TCP,)),
    "sql": (1433, (TCP,)),
    "mssql": (1433, (TCP,)),
    "mssql-browser": (1434, (UDP,)),
    "oracle": (1521, (TCP,)),
    "postgres": (5432, (TCP,)),
    "vmconnect": (2179, (TCP,)),
    "live-migration": (6600, (TCP,)),
}

# Of the registry's 6,000 names those that people type. A word that is none of them is not taken for one of
# the others, which few have ever heard of.
_USED = """
    bgp bootpc bootps domain epmap ftp ftp-data ftps http http-alt https imap imaps ipp isakmp
    iscsi-target kerberos kpasswd l2tp ldap ldaps microsoft-ds ms-sql-m ms-sql-s ms-wbt-server msft-gc
    msft-gc-ssl mysql netbios-dgm netbios-ns netbios-ssn nfs ntp pop3 pop3s postgresql pptp printer
    radius radius-acct redis rsync sip sips smtp snmp snmptrap ssh submission sunrpc syslog syslog-tls
    tacacs telnet tftp wsman wsmans x11
"""


def lookup(name: str, protocol: int) -> int | None:
    """The port of a service name for an IP protocol number, or None if it has none there.

    Of a name registered for several ports the lowest is meant.
    """
    key = name.lower()
    alias = ALIASES.get(key)
    if alias is not None:
        port, protocols = alias
        return port if protocol in protocols else None
    return _registered(key, protocol)


def name_of(port: int, protocol: int) -> str:
    """The main registered name of a port for an IP protocol number, "" if it has none."""
    return _registry()[1].get((port, protocol), "")


def port_range(port: int) -> str:
    """Which of the registry's three ranges a port number is in: System, User or Dynamic/Private.

    Raises ValueError for what is no port number.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is not a port number")
    if port < 1024:
        return "System"
    return "User" if port < 49152 else "Dynamic/Private"


@cache
def common_names(protocol: int | None = None) -> tuple[str, ...]:
    """The names people use, of one protocol or of all, sorted: what a mistyped one most likely means."""
    used = sorted({*ALIASES, *_USED.split()})
    return tuple(name for name in used if protocol is None or lookup(name, protocol) is not None)


@cache
def _registered(key: str, protocol: int) -> int | None:
    """As `lookup`, for the registry alone: looked for in its text, as most layouts name few services."""
    if "," in key or "\n" in key:
        return None
    text = _lower_text()
    end = text.find(f",{key}\n")
    while end >= 0:
        number, protocols = text[text.rindex("\n", 0, end) + 1 : end].split(",")
        if any(_PROTOCOLS[word] == protocol for word in protocols.split("/")):
            return int(number)
        end = text.find(f",{key}\n", end + 1)
    return None


@cache
def _lower_text() -> str:
    """The registry without its comments, in lower case; a line break is in front of and behind each line."""
    lines = _text().lower().splitlines(keepends=True)
    return "\n" + "".join(line for line in lines if not line.startswith("#"))


def _text() -> str:
    return files("vswitch.model").joinpath("services.csv").read_text(encoding="utf-8")


@cache
def _registry() -> tuple[dict[tuple[str, int], int], dict[tuple[int, int], str]]:
    ports: dict[tuple[str, int], int] = {}
    main: dict[tuple[int, int], str] = {}
    for line in _text().splitlines():
        if line.startswith("#"):
            continue
        number, protocols, name = line.split(",")
        port = int(number)
        for word in protocols.split("/"):
            protocol = _PROTOCOLS[word]
            ports.setdefault((name.lower(), protocol), port)
            main.setdefault((port, protocol), name)
    return ports, main
