"""The NAT network of a host, as nftables rules in the management OS's namespace and nowhere else.

What Linux's connection tracking does by itself is: answers are translated back, the source port is kept
where it is free, an external port serves several sessions as long as their remote ends differ. The two
maps add whom else an open session admits, which is WinNAT's filtering behavior (§6).
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence

from vswitch.errors import EnvironmentError_, LabError
from vswitch.lab.building.lab_plan import Cable
from vswitch.lab.isolation import search_path
from vswitch.model.site import Nat, NatFiltering, StaticMapping
from vswitch.model.types import TCP

__all__ = ["forget", "install", "ruleset", "settings"]

_SECONDS = 30.0
_SESSION = "ipv4_addr . inet_service"
# linux/netlink.h; linux/netfilter/nfnetlink_conntrack.h: IPCTNL_MSG_CT_DELETE without a filter is for all.
_NETLINK_NETFILTER, _DELETE_CONNECTIONS, _REQUEST_ACK = 12, 1 << 8 | 2, 0x5
_TRANSIENT = ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait", "close")


def install(nat: Nat, cables: Sequence[Cable]) -> None:
    """Put the rules in force, all or none, in the network namespace of the calling thread.

    Raises EnvironmentError_ without `nft`, LabError if it refuses.
    """
    nft = shutil.which("nft", path=search_path())
    if nft is None:
        raise EnvironmentError_(
            "nft is not installed; a host's NAT needs it",
            hint="On Debian and Ubuntu: sudo apt install nftables",
        )
    done = subprocess.run(
        [nft, "-f", "-"],
        input=ruleset(nat, cables),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise LabError(f"the NAT {nat.name!r} cannot be set up: {reason}")


def forget(nat: Nat, cables: Sequence[Cable]) -> None:
    """End all sessions of the NAT in the network namespace of the calling thread. Raises as `install`."""
    install(nat, cables)  # anew, with empty maps
    # One message without a body: not worth a library (docs/decisions/0015).
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(_SECONDS)
        netlink.send(struct.pack("=IHHIIBBH", 20, _DELETE_CONNECTIONS, _REQUEST_ACK, 1, 0, 0, 0, 0))
        (error,) = struct.unpack("=i", netlink.recv(4096)[16:20])
    if error:
        raise LabError(f"the sessions of the NAT {nat.name!r} cannot be ended: {os.strerror(-error)}")


def settings(nat: Nat, cables: Sequence[Cable]) -> dict[str, str]:
    """The sysctls of the namespace: it forwards, redirects nobody, and sessions end as the NAT's do."""
    interfaces = ("all", *(cable.interface for cable in cables))
    times = {
        "icmp_timeout": nat.icmp_query_timeout,
        "udp_timeout": nat.udp_idle_session_timeout,
        "udp_timeout_stream": nat.udp_idle_session_timeout,
        "tcp_timeout_established": nat.tcp_established_connection_timeout,
    }
    times |= {f"tcp_timeout_{state}": nat.tcp_transient_connection_timeout for state in _TRANSIENT}
    return {
        **{f"ipv4/conf/{interface}/send_redirects": "0" for interface in interfaces},
        **{f"netfilter/nf_conntrack_{name}": str(value) for name, value in times.items()},
        "ipv4/ip_forward": "1",
    }


def ruleset(nat: Nat, cables: Sequence[Cable]) -> str:
    """The rules as `nft` reads them. `cables` are those of the management OS."""
    leaving = {cable.interface: _first(nat, cable) for cable in cables}
    external = {interface: address for interface, address in leaving.items() if address}
    lines = ["table ip vswitch_nat", "delete table ip vswitch_nat", "table ip vswitch_nat {"]
    for protocol in ("tcp", "udp"):
        key = _SESSION + (" . ipv4_addr" if _by_address(nat, protocol) else "")
        lines.append(f"map {protocol}_open {{ type {key} : {_SESSION}; flags dynamic,timeout; size 65535; }}")
    lines.append("chain prerouting { type nat hook prerouting priority dstnat;")
    lines += [_mapping(mapping, nat) for mapping in nat.mappings if nat.external]
    for protocol in ("tcp", "udp"):
        sender = " . ip saddr" if _by_address(nat, protocol) else ""
        lines.append(
            f"ip saddr != {nat.internal} dnat ip to ip daddr . {protocol} dport{sender} map @{protocol}_open;"
        )
    lines.append("}")
    lines.append("chain postrouting { type nat hook postrouting priority srcnat;")
    lines += [
        f'ip saddr {nat.internal} ip daddr != {nat.internal} oifname "{interface}" snat to {address};'
        for interface, address in external.items()
    ]
    lines.append("}")
    lines.append("chain sessions { type filter hook postrouting priority srcnat + 10;")
    lines += _sessions(nat)
    lines.append("}")
    lines.append("chain forward { type filter hook forward priority filter; policy drop;")
    lines.append("ct state invalid drop; ct status dnat accept; ct status snat accept;")
    lines += [
        f"ip saddr {nat.internal} ip daddr != {nat.internal} ip protocol {{ icmp, tcp, udp }}"
        f' oifname "{interface}" accept;'
        for interface in external
    ]
    lines.append("}")
    # A host that only translates does not tell others that it found no way.
    lines.append("chain output { type filter hook output priority filter;")
    lines.append('oifname != "lo" icmp type destination-unreachable icmp code { 0, 1 } drop; }')
    lines.append("}")
    return "\n".join(lines) + "\n"


def _first(nat: Nat, cable: Cable) -> str:
    return next((str(each.ip) for each in cable.addresses if each.ip in nat.external), "")


def _by_address(nat: Nat, protocol: str) -> bool:
    filtering = nat.tcp_filtering if protocol == "tcp" else nat.udp_filtering
    return filtering is NatFiltering.ADDRESS_DEPENDENT


def _mapping(mapping: StaticMapping, nat: Nat) -> str:
    """A mapping is for what comes from outside: hairpins are not made (U12)."""
    protocol = "tcp" if mapping.protocol == TCP else "udp"
    addresses = (mapping.external_address,) if mapping.external_address else nat.external
    remote = f"ip saddr {mapping.remote} " if mapping.remote is not None else ""
    return (
        f"ip saddr != {nat.internal} {remote}ip daddr {{ {', '.join(map(str, addresses))} }}"
        f" {protocol} dport {mapping.external_port}"
        f" dnat to {mapping.internal_address}:{mapping.internal_port};"
    )


def _sessions(nat: Nat) -> Iterator[str]:
    """Every packet outward notes, or refreshes, where its session leads back to."""
    closing = "tcp flags & (syn | fin | rst) != 0"
    for protocol, fits, seconds in (
        ("tcp", closing, nat.tcp_transient_connection_timeout),
        ("tcp", closing.replace("!=", "=="), nat.tcp_established_connection_timeout),
        ("udp", "meta l4proto udp", nat.udp_idle_session_timeout),
    ):
        remote = " . ip daddr" if _by_address(nat, protocol) else ""
        yield (
            f"ct direction original ct status snat {fits}"
            f" update @{protocol}_open {{ ip saddr . {protocol} sport{remote} timeout {seconds}s"
            " : ct original ip saddr . ct original proto-src };"
        )
