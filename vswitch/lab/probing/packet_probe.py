"""One question to the network, asked with real packets from inside a guest.

A probe uses the guest's own stack: a TCP connection, a UDP datagram, an ICMP echo, or a raw packet
of another IP protocol. Captures at the watch points are open before the first packet leaves, so
that "it never arrived" and "it arrived, and nothing came back" can be told apart. Nothing is
shared between probes: many may run at once, from threads.

ICMP errors are heard by a raw socket beside the probe's own, whatever the protocol: it tells type,
code and sender, which a TCP socket cannot.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address

from vswitch.errors import EnvironmentError_, LabError
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.capture import Capture, Match
from vswitch.lab.probing.captured_frames import Address, Packet, Seen, parse_icmpv6, parse_ip
from vswitch.lab.probing.evidence import (
    Asked,
    Cause,
    IcmpError,
    Outcome,
    ProbeRequest,
    ProbeResult,
    WatchPoint,
    describe,
    sighting,
)
from vswitch.lab.probing.guest_stack import next_hop_here
from vswitch.model.service_names import HTTP_PORTS
from vswitch.model.types import ICMPV6, TCP, UDP

__all__ = ["Cause", "IcmpError", "Outcome", "ProbeRequest", "ProbeResult", "WatchPoint", "probe"]

BANNER_SECONDS = 0.5  # a connection is proof; who answers is worth only a short wait
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: vswitch\r\nConnection: close\r\n\r\n"
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, so that a source port is free again at once
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1  # linux/icmp.h, linux/icmpv6.h
HEADER_INCLUDED = {4: (socket.IPPROTO_IP, 3), 6: (socket.IPPROTO_IPV6, 36)}  # IP_HDRINCL, IPV6_HDRINCL
HEARD = {4: (0, 3, 11, 12), 6: (1, 3, 4, 129)}  # ICMP types: echo replies and errors
TCP_INFO_TOTAL_RETRANS = 100  # offset in struct tcp_info


def probe(request: ProbeRequest) -> ProbeResult:
    """Ask, and say what happened. Takes at most about `request.timeout` seconds.

    Raises LabError where the question cannot be asked as put (the source address is not the
    guest's, its source port is in use, no such interface or namespace), EnvironmentError_ where
    this process may not enter the guest or open raw sockets.
    """
    with ExitStack() as stack:
        watches: list[tuple[WatchPoint, Capture]] = []
        for point in request.watch:
            seen = request.seen_at(point)
            match = Match(seen.source, seen.destination, seen.wire_protocol, seen.port)
            watches.append((point, stack.enter_context(Capture(point.netns, point.interface, match))))
        return in_netns(request.netns, lambda: _Probe(request, watches).run())


@dataclass(slots=True)
class _Finding:
    """What settled the question."""

    outcome: Outcome
    cause: Cause
    rtt: float | None = None
    code: int = 0  # errno
    icmp: IcmpError | None = None
    answer: str = ""


@dataclass(slots=True)
class _Probe:
    """One probe under way, in the source's namespace."""

    request: ProbeRequest
    watches: Sequence[tuple[WatchPoint, Capture]]
    asked: Asked = field(init=False)
    started: float = field(init=False)
    sockets: ExitStack = field(default_factory=ExitStack)
    listener: socket.socket = field(init=False)

    def run(self) -> ProbeResult:
        """Ask, then gather the evidence."""
        request = self.request
        self.asked = Asked(request, token=secrets.token_hex(8).encode(), identifier=secrets.randbits(16))
        with self.sockets:
            self.listener = self._open_listener()
            self.started = time.perf_counter()
            finding = self._ask()
            hop = next_hop_here(request.destination, request.source, request.device)
        found = ((point, sighting(self.asked, point, capture, hop)) for point, capture in self.watches)
        sightings = tuple(seen for point, seen in found if seen.requests or seen.replies or not point.if_met)
        if (
            finding.cause is Cause.NO_ANSWER
            and hop
            and hop.unanswered
            and not any(each.requests for each in sightings)
        ):
            finding = replace(finding, outcome=Outcome.UNREACHABLE, cause=Cause.NEIGHBOUR)
        result = ProbeResult(
            request=request,
            outcome=finding.outcome,
            cause=finding.cause,
            rtt=finding.rtt,
            sent=self.asked.sent,
            source_ports=tuple(self.asked.ports),
            error=errno.errorcode.get(finding.code, ""),
            icmp=finding.icmp,
            next_hop=hop,
            sightings=sightings,
            answer=finding.answer,
        )
        return replace(result, detail=describe(result))

    def _ask(self) -> _Finding:
        try:
            if self.request.wire_protocol == TCP:
                return self._tcp()
            if self.request.wire_protocol == UDP:
                return self._udp()
            if self.request.is_echo:
                return self._echo()
            return self._other()
        except OSError as error:
            return self._refusal(error.errno or 0, at_once=True)

    def _tcp(self) -> _Finding:
        """Connect; while nothing answers, connect again from another socket.

        The kernel would send its second SYN after a whole second only.
        """
        live: dict[int, tuple[socket.socket, float]] = {}
        for until in self._attempts():
            if self.request.source_port:  # two sockets cannot ask from one port
                self._end_tcp(live)
            sock = self._socket(socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            begin = time.perf_counter()
            code = sock.connect_ex(self._address(self.asked.destination, self.request.port or 0))
            if code not in (0, errno.EINPROGRESS):
                return self._refusal(code, at_once=True)
            self.asked.sent += 1
            live[sock.fileno()] = sock, begin
            while ready := self._wait(list(live), select.POLLOUT, until):
                now = time.perf_counter()
                finding = self._tcp_finding([live[fd] for fd in ready if fd in live], now)
                if finding:
                    self._end_tcp(live)
                    return finding
        self._end_tcp(live)
        return _Finding(Outcome.FILTERED, Cause.NO_ANSWER)

    def _tcp_finding(self, ready: list[tuple[socket.socket, float]], now: float) -> _Finding | None:
        """What the sockets that are ready, or ICMP, say of the connection."""
        for sock, begin in ready:
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self._refusal(code)
            return _Finding(Outcome.OPEN, Cause.ANSWER, now - begin, answer=self._banner(sock))
        error = self._heard_error()
        return self._icmp_finding(error) if error else None

    def _end_tcp(self, live: dict[int, tuple[socket.socket, float]]) -> None:
        """Close the sockets; count what the kernel sent again by itself."""
        for sock, _ in live.values():
            information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_TOTAL_RETRANS + 4)
            self.asked.sent += struct.unpack_from("=I", information, TCP_INFO_TOTAL_RETRANS)[0]
            sock.close()
        live.clear()

    def _udp(self) -> _Finding:
        sock = self._socket(socket.SOCK_DGRAM)
        sock.connect(self._address(self.asked.destination, self.request.port or 0))
        for until in self._attempts():
            begin = time.perf_counter()
            sock.send(b"probe " + self.asked.token)
            self.asked.sent += 1
            while self._wait([sock.fileno()], select.POLLIN, until):
                try:
                    answer = sock.recv(65536)
                except BlockingIOError:
                    if error := self._heard_error():
                        return self._icmp_finding(error)
                    continue
                return _Finding(
                    Outcome.OPEN, Cause.ANSWER, time.perf_counter() - begin, answer=_first_line(answer)
                )
        return _Finding(Outcome.FILTERED, Cause.NO_ANSWER)

    def _echo(self) -> _Finding:
        kind = 8 if self.request.version == 4 else 128
        begins: list[float] = []
        for number, until in enumerate(self._attempts()):
            message = struct.pack("!BBHHH", kind, 0, 0, self.asked.identifier, number) + self.asked.token
            if self.request.version == 4:  # the kernel sums up ICMPv6 only
                message = message[:2] + _checksum(message) + message[4:]
            begins.append(time.perf_counter())
            self.listener.sendto(message, self._address(self.asked.destination))
            self.asked.sent += 1
            while self._wait([], select.POLLIN, until):
                for packet, sequence in self._heard():
                    if self.asked.is_reply(packet) and sequence < len(begins):
                        return _Finding(Outcome.OPEN, Cause.ANSWER, time.perf_counter() - begins[sequence])
                    if self.asked.is_error(packet):
                        return self._icmp_finding(IcmpError.of(packet))
        return _Finding(Outcome.FILTERED, Cause.NO_ANSWER)

    def _other(self) -> _Finding:
        """Send raw packets; the watch point at the destination tells whether they arrive."""
        sock = self._socket(socket.SOCK_RAW)
        captures = [capture for point, capture in self.watches if point.at_destination]
        for until in self._attempts():
            begin = time.perf_counter()
            sock.sendto(self.asked.token, self._address(self.asked.destination))
            self.asked.sent += 1
            while self._wait([capture.fileno() for capture in captures], select.POLLIN, until):
                for frame in (frame for capture in captures for frame in capture.frames()):
                    if self.asked.is_request(frame) and frame.seen is not Seen.OTHER_HOST:
                        return _Finding(Outcome.DELIVERED, Cause.SEEN, time.perf_counter() - begin)
                if error := self._heard_error():
                    return self._icmp_finding(error)
        return _Finding(Outcome.FILTERED, Cause.NO_ANSWER)

    def _attempts(self) -> Iterator[float]:
        """For each attempt the time until which to wait for its answer."""
        request = self.request
        for number in range(1, request.attempts + 1):
            yield self.started + request.timeout * number / request.attempts

    def _wait(self, fds: list[int], event: int, until: float) -> list[int]:
        """Wait for an event on any of the sockets, or for ICMP; which of them, none at `until`."""
        poll = select.poll()
        for fd in fds:
            poll.register(fd, event)
        poll.register(self.listener, select.POLLIN)
        left = until - time.perf_counter()
        return [fd for fd, _ in poll.poll(left * 1000)] if left > 0 else []

    def _banner(self, sock: socket.socket) -> str:
        """The first line of who answered, if it says anything soon; HTTP has to be asked first."""
        if self.request.port in HTTP_PORTS:
            with suppress(OSError):  # reset right after the handshake
                sock.send(HTTP_REQUEST)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        left = self.started + self.request.timeout - time.perf_counter()
        if not poll.poll(max(0.0, min(left, BANNER_SECONDS)) * 1000):
            return ""
        try:
            answer = sock.recv(4096)
        except OSError:  # reset right after the handshake
            return ""
        head, _, body = answer.partition(b"\r\n\r\n")
        return _first_line(body if head.startswith(b"HTTP/") and body else answer)

    def _heard(self) -> Iterator[tuple[Packet, int]]:
        """The ICMP packets that came in meanwhile, each with its echo sequence number."""
        while True:
            try:
                data, peer = self.listener.recvfrom(65536)
            except BlockingIOError:
                return
            if self.request.version == 4:
                start = (data[0] & 15) * 4
                packet = parse_ip(data)
            else:
                start = 0
                sender = IPv6Address(peer[0].partition("%")[0])
                packet = parse_icmpv6(data, sender, self.asked.source) if len(data) >= 8 else None
            if packet:
                yield packet, int.from_bytes(data[start + 6 : start + 8])

    def _heard_error(self) -> IcmpError | None:
        """The first ICMP error about this probe that came in, if any."""
        for packet, _ in self._heard():
            if self.asked.is_error(packet):
                return IcmpError.of(packet)
        return None

    def _icmp_finding(self, error: IcmpError, code: int = 0) -> _Finding:
        """What an ICMP error means depends on who sent it."""
        if error.sender == self.asked.destination:
            if self.request.has_answers:
                return _Finding(Outcome.REFUSED, Cause.ICMP, code=code, icmp=error)
            return _Finding(Outcome.DELIVERED, Cause.ICMP, code=code, icmp=error)
        if error.sender == self.asked.source:  # the guest's own stack gave up on the neighbour
            return _Finding(Outcome.UNREACHABLE, Cause.NEIGHBOUR, code=code, icmp=error)
        return _Finding(Outcome.UNREACHABLE, Cause.ROUTER, code=code, icmp=error)

    def _refusal(self, code: int, *, at_once: bool = False) -> _Finding:
        """What an error of a socket means; `at_once`: of the call that sends, before any answer."""
        if error := self._heard_error():
            return self._icmp_finding(error, code)
        match code:
            case errno.ECONNREFUSED:
                return _Finding(Outcome.REFUSED, Cause.RESET, code=code)
            case errno.ECONNRESET | errno.ETIMEDOUT:
                return _Finding(Outcome.FILTERED, Cause.NO_ANSWER, code=code)
            case errno.EPERM:
                return _Finding(Outcome.FILTERED, Cause.OWN_FIREWALL, code=code)
            case errno.EADDRNOTAVAIL:  # the same connection, not yet forgotten
                raise self._port_in_use()
            # With EINVAL and EACCES the routes `blackhole` and `prohibit` answer.
            case errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EINVAL | errno.EACCES | errno.ENETDOWN:
                cause = Cause.NO_ROUTE if at_once else Cause.NEIGHBOUR
                return _Finding(Outcome.UNREACHABLE, cause, code=code)
            case _:
                raise LabError(f"the probe failed in the guest: {os.strerror(code)}")

    def _socket(self, kind: int) -> socket.socket:
        """A socket of the probe, bound to its source; closed with the probe."""
        request = self.request
        family = socket.AF_INET if request.version == 4 else socket.AF_INET6
        protocol = request.wire_protocol if kind == socket.SOCK_RAW else 0
        try:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        except PermissionError as error:
            raise _no_raw_sockets() from error
        except OSError as error:
            raise LabError(f"IP protocol {protocol} cannot be sent: {error.strerror}") from error
        self.sockets.enter_context(sock)
        if kind == socket.SOCK_RAW:  # off even for protocol 255, where the kernel begins with on
            sock.setsockopt(*HEADER_INCLUDED[request.version], 0)
        if request.source_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(sock, request.source_port or 0)
        if kind != socket.SOCK_RAW:
            port = sock.getsockname()[1]
            if port not in self.asked.ports:
                self.asked.ports.append(port)
        return sock

    def _bind(self, sock: socket.socket, port: int) -> None:
        request = self.request
        try:
            if request.device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, request.device.encode())
            sock.bind(self._address(self.asked.source, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise self._port_in_use() from error
            if error.errno == errno.EADDRNOTAVAIL:
                raise LabError(f"{request.source} is not an address of the source guest") from error
            if error.errno == errno.ENODEV:
                raise LabError(f"the source guest has no interface {request.device}") from error
            raise LabError(f"the probe cannot use {request.source}: {error.strerror}") from error

    def _address(self, address: Address, port: int = 0) -> tuple[str, int] | tuple[str, int, int, int]:
        """A socket address; one of IPv6 with its interface where it is link-local."""
        if address.version == 4:
            return str(address), port
        device = self.request.device if address.is_link_local else None
        return str(address), port, 0, socket.if_nametoindex(device) if device else 0

    def _port_in_use(self) -> LabError:
        port = self.request.source_port or self.asked.ports[-1]
        return LabError(
            f"source port {port} is in use in the source guest",
            hint="Choose another source port, or end what uses it (`ss -anp` in the guest).",
        )

    def _open_listener(self) -> socket.socket:
        """A raw socket that hears ICMP errors and echo replies, and sends echoes."""
        version = self.request.version
        try:
            if version == 4:
                sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            else:
                sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        except PermissionError as error:
            raise _no_raw_sockets() from error
        self.sockets.enter_context(sock)
        sock.setblocking(False)
        deaf = (1 << 256) - 1
        for kind in HEARD[version]:
            deaf &= ~(1 << kind)
        if version == 4:
            sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", deaf & 0xFFFFFFFF))
        else:
            words = [deaf >> 32 * word & 0xFFFFFFFF for word in range(8)]
            sock.setsockopt(ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))
        self._bind(sock, 0)
        return sock


def _no_raw_sockets() -> EnvironmentError_:
    return EnvironmentError_(
        "raw sockets are not permitted in the source guest",
        hint="A probe needs CAP_NET_RAW in the namespace: be root, or work inside the lab.",
    )


def _checksum(data: bytes) -> bytes:
    """The Internet checksum of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _first_line(data: bytes) -> str:
    return data.split(b"\n", 1)[0][:200].decode(errors="replace").rstrip()
