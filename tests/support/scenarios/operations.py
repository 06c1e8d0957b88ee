"""What the scenarios' real engine asks of a lab. Runs in the lab's own process, as an extension of it."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from tests.support.scenarios.frames import place
from vswitch.diagnose.question_operations import forget_sessions
from vswitch.lab.building.lab import Lab
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.packet_probe import Outcome, ProbeRequest, WatchPoint, probe
from vswitch.lab.process.lab_operations import operation
from vswitch.model import parse_traffic
from vswitch.pipeline import LEARNED_COOKIE, Table
from vswitch.semantics.endpoints import choose_addresses, endpoint, nics_of

_ETH_P_ALL = 3
_OUTGOING = 4  # linux/if_packet.h
_SOL_PACKET, _AUXDATA = 263, 8
_TAG_VALID = 0x10  # TP_STATUS_VLAN_VALID
_LONGEST = 70_000
_TOKEN = 16
_THREADS = 16

_Ear = tuple[str, socket.socket]
_ears: list[_Ear] = []


def _listen(lab: Lab) -> list[_Ear]:
    """A packet socket at every interface of every guest, named `guest/interface`; opened once."""
    if not _ears:
        for plan in lab.plan.guests:
            for cable in plan.cables:
                sock = in_netns(
                    lab.guest_netns(plan.guest.name),
                    lambda name=cable.interface: _ear(name),  # type: ignore[misc]
                )
                _ears.append((f"{plan.guest.name}/{cable.interface}", sock))
    return _ears


def _ear(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(_SOL_PACKET, _AUXDATA, 1)
    sock.bind((interface, _ETH_P_ALL))
    return sock


def _heard(ear: _Ear) -> Iterator[tuple[str, bytes]]:
    """The frames that came in since last asked: (where, as `place` says it; bytes).

    The kernel takes tags off.
    """
    name, sock = ear
    while True:
        try:
            data, control, _, address = sock.recvmsg(_LONGEST, 64)
        except BlockingIOError:
            return
        if address[2] == _OUTGOING:
            continue
        tag = priority = 0
        for level, kind, value in control:
            if (level, kind) == (_SOL_PACKET, _AUXDATA):
                status, _, _, _, _, tci, _ = struct.unpack("=IIIHHHH", value[:20])
                tag, priority = (tci & 0xFFF, tci >> 13) if status & _TAG_VALID else (0, 0)
        yield place(f"{name}.{tag}" if tag else name, priority), data


@operation
def exchange(
    lab: Lab,
    guest: str,
    interface: str,
    frame: str,
    token: str,
    times: int,
    wanted: int,
    patience: float,
    settle: float,
) -> list[str]:
    """Send a frame (hexadecimal) from a guest's interface; the places at which `token` was seen, each time.

    Returns `settle` seconds after `wanted` copies were seen, or after `patience` seconds.
    """
    ears = _listen(lab)
    for ear in ears:
        for _ in _heard(ear):
            pass
    by_fd = {sock.fileno(): (name, sock) for name, sock in ears}
    mark = bytes.fromhex(token)
    by_name = dict(ears)
    for _ in range(times):
        by_name[f"{guest}/{interface}"].send(bytes.fromhex(frame))
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    seen: list[str] = []
    end = monotonic() + (patience if wanted else settle)
    while (left := end - monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            for where, data in _heard(by_fd[fd]):
                if mark in data:
                    seen.append(where)
                    if len(seen) == wanted:
                        end = monotonic() + settle
    return sorted(seen)


@operation
def exchange_all(
    lab: Lab, frames: list[list[Any]], patience: float, settle: float, gap: float
) -> list[list[str]]:
    """Send frames one after the other; for each the places at which its token was seen.

    A frame is `[guest, interface, bytes, token, wanted]`, bytes and token hexadecimal. The next one is
    sent `gap` seconds after `wanted` copies were seen, or after `patience` seconds. Copies that come
    later than that are counted too, until `settle` seconds after the last frame.
    """
    ears = _listen(lab)
    by_name = dict(ears)
    by_fd = {sock.fileno(): (name, sock) for name, sock in ears}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    marks = {bytes.fromhex(token): index for index, (_, _, _, token, _) in enumerate(frames)}
    seen: list[list[str]] = [[] for _ in frames]

    def hear(seconds: float, enough: Callable[[], bool]) -> None:
        end = monotonic() + seconds
        while not enough() and (left := end - monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                for heard, data in _heard(by_fd[fd]):
                    if (index := marks.get(data[-_TOKEN:])) is not None:
                        seen[index].append(heard)

    for index, (guest, interface, data, _, wanted) in enumerate(frames):
        by_name[f"{guest}/{interface}"].send(bytes.fromhex(data))
        if wanted:
            hear(patience, lambda index=index, wanted=wanted: len(seen[index]) >= wanted)  # type: ignore[misc]
        hear(gap, lambda: False)
    hear(settle, lambda: False)
    return [sorted(places) for places in seen]


@operation
def silence(lab: Lab) -> None:
    """Take all addresses from all guests, so that they answer nothing and say nothing by themselves."""
    for guest in lab.site.guests:
        for command in (["ip", "addr", "flush", "scope", "global"], ["ip", "addr", "flush", "scope", "link"]):
            in_netns(
                lab.guest_netns(guest.name),
                lambda command=command: subprocess.run(command, check=True, capture_output=True),  # type: ignore[misc]
            )


@operation
def start_over(lab: Lab) -> None:
    """Have all switches, virtual and physical, and all guests forget what they have learned."""
    for switch in lab.site.switch.values():
        client = lab.instance(switch.host)
        client.bundle(switch.bridge, f"delete table={Table.LEARNED:d},cookie={LEARNED_COOKIE:#x}/-1")
        client.appctl("dpctl/flush-conntrack")
        client.settle()
    for plan in lab.plan.networks:
        lab._instances[plan.namespace].appctl("fdb/flush")
    forget_neighbours(lab)
    forget_sessions(lab)


@operation
def forget_neighbours(lab: Lab) -> None:
    """Have all guests forget their neighbours; switches keep what they know."""

    def flush(netns: str) -> None:
        command = ["ip", "neigh", "flush", "all"]
        in_netns(netns, lambda: subprocess.run(command, check=True, capture_output=True))

    guests = [lab.guest_netns(guest.name) for guest in lab.site.guests]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(flush, guests))
        # A guest that still asked meanwhile has told others its MAC: now nobody asks any more.
        list(pool.map(flush, guests))


@operation
def ask_together(lab: Lab, questions: list[dict[str, Any]], patience: float) -> list[list[str]]:
    """Real packets for all questions at the same time: for each the outcome and a sentence."""

    def one(question: dict[str, Any]) -> list[str]:
        source, destination = (endpoint(lab.site, question[end]) for end in ("source", "destination"))
        chosen = choose_addresses(source, destination, question["version"])
        if chosen is None:
            return [str(Outcome.UNREACHABLE), "no address of one IP version at both ends"]
        traffic = parse_traffic(question["traffic"])
        watch = tuple(
            WatchPoint(f"{guest.name} ({nic.interface})", lab.guest_netns(guest.name), nic.interface, goal)
            for guest, address, goal in (
                (source.guest, chosen[1], False),
                (destination.guest, chosen[2], True),
            )
            for nic in nics_of(guest)
            if nic.owns(address)
        )
        request = ProbeRequest(
            netns=lab.guest_netns(source.guest.name),
            source=chosen[1],
            destination=chosen[2],
            protocol=traffic.protocol,
            port=traffic.ports.first if traffic.ports else None,
            source_port=traffic.source_port,
            timeout=patience,
            watch=watch,
        )
        result = probe(request)
        return [str(result.outcome), result.detail]

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, questions))


@operation
def moved_counters(lab: Lab) -> dict[str, int]:
    """Packets so far by name of ACL rule or drop reason, over all switches and adapters."""
    from vswitch.diagnose.question_operations import rule_counters

    sums: dict[str, int] = {}
    for entry in rule_counters(lab):
        sums[entry.name] = sums.get(entry.name, 0) + entry.packets
    return sums
