"""The services of all guests, served by one process: `python -m vswitch.lab.building.guest_services`.

Each service is a real socket in its guest's network namespace, IPv4 and IPv6. TCP says one line,
`vswitch <guest> tcp/<port>`, then echoes; a client that begins with an HTTP request gets that line as an
HTTP answer. For its sake the line waits: on the ports of HTTP until the client has said something or
ended, on others for a moment. UDP answers each
datagram with the line `vswitch <guest> udp/<port>` followed by the datagram, from the address the
datagram was sent to.

The process reads plans on standard input, one line each: a JSON array of objects with the fields of
`Service`. A plan replaces the one before; what both have is left alone, connections included. Each
plan is answered on standard output with one line, a `Reply` as JSON, once all its services listen.
The process ends when its standard input does. A service holds its namespace alive until a plan
without it arrives.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from ipaddress import IPv6Address
from itertools import groupby, islice

from vswitch.errors import LabError, VswitchError
from vswitch.lab.isolation.netns import in_netns
from vswitch.log import log_whatever_happens
from vswitch.model.service_names import HTTP_PORTS

__all__ = ["ServiceFailure", "ServicesReply", "GuestService", "plan_line"]

IDLE_SECONDS = 60.0  # a connection silent for this long is closed
HOLD_SECONDS = 0.1  # how long a client may take to begin with an HTTP request where that is not usual
BACKLOG = 1024
CHUNK = 65536
LONGEST_REQUEST = 65536  # bytes of an HTTP request's head
ANSWERS_AT_ONCE = 64  # datagrams or connections taken from one socket before others get their turn
IP_PKTINFO = 8  # linux/in.h
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass(frozen=True, slots=True)
class GuestService:
    """One service of a guest. `netns` is the path of its namespace, `protocol` is tcp or udp."""

    guest: str
    netns: str
    protocol: str
    port: int
    name: str = ""  # IANA service name, for messages

    def __post_init__(self) -> None:
        if self.protocol not in KINDS or not 0 < self.port < 65536:
            raise ValueError(f"{self.protocol}/{self.port} of {self.guest} is no TCP or UDP service")

    @property
    def banner(self) -> bytes:
        """The line that tells who answered."""
        return f"vswitch {self.guest} {self.protocol}/{self.port}\n".encode()


@dataclass(frozen=True, slots=True)
class ServiceFailure:
    """A service that could not be opened, and why."""

    guest: str
    protocol: str
    port: int
    reason: str


@dataclass(frozen=True, slots=True)
class ServicesReply:
    """The answer to a plan: how many services listen now, and those that do not."""

    listening: int
    failed: tuple[ServiceFailure, ...] = ()
    error: str = ""  # the plan itself could not be read; the one before stays in force

    def line(self) -> bytes:
        """As written on standard output."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> ServicesReply:
        """The reply in a line of the process's output. Raises LabError if there is none."""
        try:
            fields = json.loads(line)
            failed = tuple(ServiceFailure(**failure) for failure in fields.pop("failed"))
            return cls(failed=failed, **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError("the process that serves the guests' services gave no answer") from error


def plan_line(services: Iterable[GuestService]) -> bytes:
    """A plan as the process reads it."""
    return json.dumps([asdict(service) for service in services]).encode() + b"\n"


class _Connection:
    """One accepted TCP connection: the banner, then an echo, never more than one chunk behind."""

    def __init__(self, listener: _Listener, sock: socket.socket) -> None:
        self.listener, self.server, self.sock = listener, listener.server, sock
        self.pending = b""
        self.opened = self.last = time.monotonic()
        self.asked: bytes | None = b""  # what came while it may be an HTTP request; None: decided
        self.discards = False  # the answer has been given, whatever else comes is not
        self.ended = False  # the other side sends no more
        sock.setblocking(False)
        self.interest = selectors.EVENT_READ
        self.server.selector.register(sock, self.interest, self.ready)
        if listener.service.port not in HTTP_PORTS:
            self.server.held[self] = None
        self._advance(read=True)

    def ready(self, mask: int) -> None:
        """Read what is there, write what fits."""
        self.last = time.monotonic()
        self.server.connections.pop(self)  # back in at the end: the order is that of activity
        self.server.connections[self] = None
        self._advance(read=bool(mask & selectors.EVENT_READ))

    def speak(self) -> None:
        """The time for an HTTP request is over: say the banner, unless one has begun."""
        self.server.held.pop(self, None)
        if self.asked is None or is_request(self.asked):
            return
        self._decide(self.listener.banner + self.asked)
        self._advance(read=False)

    def _decide(self, answer: bytes) -> None:
        self.server.held.pop(self, None)
        self.asked = None
        self.pending = answer

    def _take(self, data: bytes) -> None:
        if self.asked is None:
            self.pending += b"" if self.discards else data
            return
        self.asked += data
        if is_request(self.asked):
            if self.ended or len(self.asked) > LONGEST_REQUEST or re.search(rb"\n\r?\n", self.asked):
                self.discards = True
                self._decide(http_answer(self.asked, self.listener.banner))
        elif not may_become_request(self.asked) or self.ended:
            self._decide(self.listener.banner + self.asked)

    def _advance(self, *, read: bool) -> None:
        try:
            if read:
                data = self.sock.recv(CHUNK)
                self.ended = not data
                self._take(data)
            if self.pending:
                self.pending = self.pending[self.sock.send(self.pending) :]
                if self.discards and not self.pending:
                    self.sock.shutdown(socket.SHUT_WR)  # the connection ends with the answer
        except BlockingIOError:
            pass
        except OSError:  # reset by the other side
            self.close()
            return
        if self.ended and not self.pending:
            self.close()
            return
        interest = selectors.EVENT_WRITE if self.pending else selectors.EVENT_READ
        if interest != self.interest:
            self.interest = interest
            self.server.selector.modify(self.sock, interest, self.ready)

    def close(self) -> None:
        """End the connection."""
        self.server.held.pop(self, None)
        self.server.connections.pop(self, None)
        self.server.selector.unregister(self.sock)
        self.sock.close()


def is_request(data: bytes) -> bool:
    """Whether this begins with the whole first line of an HTTP/1 request."""
    return bool(re.match(rb"[A-Z]{3,20} \S+ HTTP/1\.[01]\r?\n", data))


def may_become_request(data: bytes) -> bool:
    """Whether this may be the beginning of the first line of an HTTP/1 request."""
    if b"\n" in data or len(data) > LONGEST_REQUEST:
        return False
    return bool(re.fullmatch(rb"[A-Z]{0,20}|[A-Z]{3,20} \S*( [HTP/1.0]*\r?)?", data))


def http_answer(request: bytes, banner: bytes) -> bytes:
    """The HTTP answer that says who answered."""
    head = (
        b"HTTP/1.1 200 OK\r\nServer: vswitch\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(banner)
    )
    return head if request.startswith(b"HEAD ") else head + banner


class _Listener:
    """The open socket of one service."""

    def __init__(self, server: _Server, service: GuestService, sock: socket.socket) -> None:
        self.server, self.service, self.sock = server, service, sock
        self.banner = service.banner
        take = self._accept if service.protocol == "tcp" else self._answer
        server.selector.register(sock, selectors.EVENT_READ, lambda _mask: self._take(take))

    def _take(self, one: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):  # nothing left, or an error of a peer long gone
            for _ in range(ANSWERS_AT_ONCE):
                one()

    def _accept(self) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self.server.turn_away(self.sock)
            raise
        connection = _Connection(self, sock)
        if sock.fileno() >= 0:
            self.server.connections[connection] = None

    def _answer(self) -> None:
        data, control, _, peer = self.sock.recvmsg(CHUNK, 256)
        if data.startswith(b"vswitch "):
            return  # an answer: two services that answered each other would never stop
        # A datagram this long leaves no room for the banner; the answer is cut, not lost.
        answer = (self.banner + data)[:65507]
        try:
            self.sock.sendmsg([answer], _reply_source(control), 0, peer)
        except OSError:  # sent to a multicast address, or to one that is gone again
            self.sock.sendto(answer, peer)

    def close(self) -> None:
        """Stop listening. Connections are the server's to close."""
        self.server.selector.unregister(self.sock)
        self.sock.close()


def _reply_source(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control messages that make an answer leave from the address the question was sent to."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            address, index = data[:16], struct.unpack("=i", data[16:20])[0]
            # Only link-local addresses need their interface; elsewhere routing decides.
            scoped = index if IPv6Address(address).is_link_local else 0
            return [(level, kind, address + struct.pack("=i", scoped))]
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return [(level, kind, struct.pack("=i", 0) + data[4:8] + bytes(4))]
    return []


def _open(service: GuestService) -> socket.socket:
    """The listening socket of a service, in the calling thread's namespace. Raises OSError."""
    kind = KINDS[service.protocol] | socket.SOCK_NONBLOCK
    try:
        sock = socket.socket(socket.AF_INET6, kind)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        sock = socket.socket(socket.AF_INET, kind)  # a kernel without IPv6
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if service.protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("", service.port))
        if service.protocol == "tcp":
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _open_all(services: list[GuestService]) -> list[tuple[GuestService, socket.socket | OSError]]:
    """Each service with its socket, or with what went wrong."""
    opened: list[tuple[GuestService, socket.socket | OSError]] = []
    for service in services:
        try:
            opened.append((service, _open(service)))
        except OSError as error:
            opened.append((service, error))
    return opened


def _reason(error: OSError) -> str:
    """Why a service could not be opened, as a sentence."""
    match error.errno:
        case errno.EADDRINUSE:
            return "something else in the guest already uses this port"
        case errno.EMFILE | errno.ENFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"the limit of {limit} open files is used up (raise it with ulimit -n)"
        case errno.EACCES:
            return "the guest may not use this port (see net.ipv4.ip_unprivileged_port_start)"
        case _:
            return os.strerror(error.errno or 0)


# A namespace is its inode, not its path: a guest made anew under an old name is another guest.
_Key = tuple[int, GuestService]


class _Server:
    """All listeners and connections, and the loop that serves them."""

    def __init__(self, idle: float) -> None:
        self.idle = idle
        self.selector = selectors.DefaultSelector()
        self.listeners: dict[_Key, _Listener] = {}
        self.connections: dict[_Connection, None] = {}  # the longest idle first
        self.held: dict[_Connection, None] = {}  # nothing said yet, the oldest first
        self.spare = os.open("/dev/null", os.O_RDONLY)

    def replace(self, plan: list[GuestService]) -> ServicesReply:
        """Make `plan` the one in force."""
        wanted: dict[_Key, GuestService] = {}
        failed: list[ServiceFailure] = []
        for service in plan:
            try:
                wanted[os.stat(service.netns).st_ino, service] = service
            except OSError:
                failed.append(_failure(service, f"there is no network namespace at {service.netns}"))
        self._close([key for key in self.listeners if key not in wanted])
        missing = sorted(wanted.keys() - self.listeners.keys(), key=lambda key: (key[0], key[1].netns))
        for (inode, netns), keys in groupby(missing, lambda key: (key[0], key[1].netns)):
            services = [service for _, service in keys]
            try:
                opened = in_netns(netns, partial(_open_all, services))
            except VswitchError as error:
                failed += [_failure(service, error.message) for service in services]
                continue
            for service, result in opened:
                if isinstance(result, OSError):
                    failed.append(_failure(service, _reason(result)))
                else:
                    self.listeners[inode, service] = _Listener(self, service, result)
        return ServicesReply(len(self.listeners), tuple(failed))

    def _close(self, keys: list[_Key]) -> None:
        gone = {self.listeners.pop(key) for key in keys}
        for listener in gone:
            listener.close()
        for connection in [each for each in self.connections if each.listener in gone]:
            connection.close()

    def turn_away(self, listener: socket.socket) -> None:
        """Out of file descriptors: close a waiting connection, or it would wake the loop for ever."""
        os.close(self.spare)
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        self.spare = os.open("/dev/null", os.O_RDONLY)

    def run(self, plans: int, replies: int) -> None:
        """Serve until `plans`, a file descriptor to read plans from, is at its end."""
        self.selector.register(plans, selectors.EVENT_READ, None)
        unread = b""
        while True:
            for key, mask in self.selector.select(self._pause()):
                if key.data is not None:
                    key.data(mask)
                    continue
                if not (data := os.read(plans, 1 << 20)):
                    return
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    _write(replies, self._obey(line).line())
                break  # the sockets of the other events may be closed by now
            now = time.monotonic()
            while (held := next(iter(self.held), None)) and held.opened + HOLD_SECONDS <= now:
                held.speak()
            while (oldest := next(iter(self.connections), None)) and oldest.last + self.idle <= now:
                oldest.close()

    def _pause(self) -> float | None:
        """Seconds until the next connection is due."""
        due = [each.last + self.idle for each in islice(self.connections, 1)]
        due += [each.opened + HOLD_SECONDS for each in islice(self.held, 1)]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _obey(self, line: bytes) -> ServicesReply:
        try:
            plan = [GuestService(**fields) for fields in json.loads(line)]
        except (ValueError, TypeError) as error:
            return ServicesReply(len(self.listeners), error=f"not a plan: {error}")
        return self.replace(plan)


def _failure(service: GuestService, reason: str) -> ServiceFailure:
    return ServiceFailure(service.guest, service.protocol, service.port, reason)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _raise_file_limit() -> None:
    """As many open files as allowed: each service is one, each connection another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: list[str] | None = None) -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(
        prog="python -m vswitch.lab.building.guest_services", description="Serve guests."
    )
    parser.add_argument(
        "--idle", type=float, default=IDLE_SECONDS, help="seconds after which a silent connection ends"
    )
    options = parser.parse_args(arguments)
    # Ctrl-C is for whoever started the lab; this process ends with its standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_whatever_happens()
    _raise_file_limit()
    _Server(options.idle).run(sys.stdin.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
