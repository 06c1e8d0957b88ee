"""One process serves the services of many guests."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.guest_sockets import socket_in
from tests.support.namespaces import Namespace
from vswitch.errors import LabError
from vswitch.lab.building.guest_services import GuestService, ServiceFailure, ServicesReply, plan_line
from vswitch.lab.isolation.netns import in_netns
from vswitch.model.service_names import HTTP_PORTS

pytestmark = pytest.mark.lab

V4, V6, OTHER_V4, OTHER_V6 = "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"


class Process:
    """The services process, as the lab runs it."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "vswitch.lab.building.guest_services", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

    def send(self, line: bytes) -> ServicesReply:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(line)
        self.popen.stdin.flush()
        return ServicesReply.parse(self.popen.stdout.readline())

    def plan(self, *services: GuestService) -> ServicesReply:
        return self.send(plan_line(services))

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.popen.pid}/fd"))


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def begin(*arguments: str) -> Process:
        made.append(Process(*arguments))
        return made[-1]

    yield begin
    for process in made:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.communicate()


@pytest.fixture(scope="module")
def guest(new_namespace: Callable[[], Namespace]) -> Namespace:
    """A guest with two addresses of each family; its own programs are the clients."""
    space = new_namespace()
    for address in (V4, OTHER_V4, V6, OTHER_V6):
        plen = "32" if "." in address else "128"
        space.run("ip", "address", "add", f"{address}/{plen}", "dev", "lo")
    return space


def connect(guest: Namespace, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket_in(guest.path, family)
    sock.settimeout(10)
    sock.connect((address, port))
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("address", [V4, V6])
def test_tcp_says_who_it_is_and_echoes(start: Callable[..., Process], guest: Namespace, address: str) -> None:
    process = start()
    assert process.plan(GuestService("web01", guest.path, "tcp", 22, "http")) == ServicesReply(1)
    with connect(guest, address, 22) as sock:
        lines = sock.makefile("rb")
        assert lines.readline() == b"vswitch web01 tcp/22\n"
        sock.sendall(b"hello\n")
        assert lines.readline() == b"hello\n"
        sock.shutdown(socket.SHUT_WR)
        assert lines.read() == b""  # the service closes after the other side has


@pytest.mark.parametrize("port", [80, 8000, 1433])
@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"POST /a%20b?c HTTP/1.0", b"HEAD / HTTP/1.1"])
def test_an_http_request_gets_an_http_answer(
    start: Callable[..., Process], guest: Namespace, port: int, request_line: bytes
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", port))
    body = b"x" * 300_000 if request_line.startswith(b"POST") else b""
    with connect(guest, V4, port) as sock:
        head = request_line + b"\r\nHost: web01\r\nContent-Length: %d\r\n\r\n" % len(body)
        for piece in (head[:7], head[7:25], head[25:]):  # in as many packets as it likes
            sock.sendall(piece)
            time.sleep(0.02)
        sock.sendall(body)
        answer = http.client.HTTPResponse(sock, method=request_line.split()[0].decode())
        answer.begin()
        said = answer.read().decode()
    assert (answer.version, answer.status) == (11, 200)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert said == ("" if request_line.startswith(b"HEAD") else f"vswitch web01 tcp/{port}\n")


def test_a_slow_http_request_is_waited_for(start: Callable[..., Process], guest: Namespace) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 80))
    with connect(guest, V4, 80) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.4)
        sock.sendall(b"Host: web01\r\n\r\n")
        assert read_to_end(sock).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("port", sorted(HTTP_PORTS))
def test_a_client_of_http_may_be_as_slow_as_it_likes(
    start: Callable[..., Process], guest: Namespace, port: int
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", port))
    with connect(guest, V4, port) as sock:
        assert not select.select([sock], [], [], 0.6)[0], "it speaks first"
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_to_end(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_of_http_that_only_listens_learns_who_is_there(
    start: Callable[..., Process], guest: Namespace
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 80))
    with connect(guest, V4, 80) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b"vswitch web01 tcp/80\n"


@pytest.mark.parametrize("port", [22, 80])
@pytest.mark.parametrize("first", [b"HELO web01\r\n", b"GET / HTTP/2\r\n", b"\x16\x03\x01"])
def test_what_is_not_http_gets_the_banner_and_its_echo(
    start: Callable[..., Process], guest: Namespace, port: int, first: bytes
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", port))
    with connect(guest, V4, port) as sock:
        sock.sendall(first)
        wanted = b"vswitch web01 tcp/%d\n" % port + first
        got = b""
        while len(got) < len(wanted):
            got += sock.recv(100)
        assert got == wanted
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")  # too late: this is an echo now
        assert sock.recv(100) == b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("first", [b"", b"GET"])
def test_where_http_is_not_usual_the_banner_comes_unasked(
    start: Callable[..., Process], guest: Namespace, first: bytes
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 22))
    with connect(guest, V4, 22) as sock:
        sock.sendall(first)
        assert sock.makefile("rb").readline() == b"vswitch web01 tcp/22\n"


@pytest.mark.requires("curl")
def test_curl_understands(start: Callable[..., Process], guest: Namespace) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 80, "http"))
    assert guest.run("curl", "--silent", "--show-error", f"http://{V4}/") == "vswitch web01 tcp/80\n"
    assert "200 OK" in guest.run("curl", "--silent", "--head", f"http://[{V6}]/")


def test_tcp_echoes_more_than_the_buffers_hold(start: Callable[..., Process], guest: Namespace) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 22))
    with connect(guest, V4, 22) as sock:
        sock.setblocking(False)
        data = bytes(range(256)) * 120_000
        sent = 0
        with memoryview(data) as rest, contextlib.suppress(BlockingIOError):
            while sent < len(data):  # until nothing moves any more: nobody reads
                sent += sock.send(rest[sent:])
        sock.settimeout(10)
        sock.shutdown(socket.SHUT_WR)
        got = read_to_end(sock)
    # Compared as a truth value: a failure must not print megabytes.
    assert (len(got), got == b"vswitch web01 tcp/22\n" + data[:sent]) == (21 + sent, True)


@pytest.mark.parametrize("address", [V4, OTHER_V4, V6, OTHER_V6])
def test_udp_answers_from_the_address_asked(
    start: Callable[..., Process], guest: Namespace, address: str
) -> None:
    process = start()
    assert process.plan(GuestService("dns01", guest.path, "udp", 53, "domain")) == ServicesReply(1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket_in(guest.path, family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind((V6 if ":" in address else V4, 0))
        sock.sendto(b"question", (address, 53))
        data, peer = sock.recvfrom(2048)
    assert data == b"vswitch dns01 udp/53\nquestion"
    assert peer[:2] == (address, 53)


def test_udp_leaves_answers_unanswered(start: Callable[..., Process], guest: Namespace) -> None:
    process = start()
    process.plan(GuestService("dns01", guest.path, "udp", 53), GuestService("ntp01", guest.path, "udp", 123))
    with socket_in(guest.path, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(b"vswitch ntp01 udp/123\n", (V4, 53))
        sock.sendto(b"question", (V4, 53))
        assert sock.recvfrom(2048)[0] == b"vswitch dns01 udp/53\nquestion"


def test_a_port_in_use_is_reported_and_the_rest_listens(
    start: Callable[..., Process], guest: Namespace
) -> None:
    process = start()
    with socket_in(guest.path) as other:
        other.bind((V4, 8443))
        other.listen()
        reply = process.plan(
            GuestService("web01", guest.path, "tcp", 8443, "pcsync-https"),
            GuestService("web01", guest.path, "tcp", 443),
        )
    assert reply.listening == 1
    assert reply.failed == (
        ServiceFailure("web01", "tcp", 8443, "something else in the guest already uses this port"),
    )
    connect(guest, V4, 443).close()


def test_a_missing_namespace_is_reported(
    start: Callable[..., Process], guest: Namespace, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    reply = start().plan(
        GuestService("gone", str(tmp_path / "gone"), "tcp", 22),
        GuestService("plain", str(plain), "tcp", 22),
        GuestService("web01", guest.path, "tcp", 22),
    )
    assert reply.listening == 1
    assert {failure.guest: failure.reason for failure in reply.failed} == {
        "gone": f"there is no network namespace at {tmp_path / 'gone'}",
        "plain": f"{plain} is not a network namespace",
    }


def test_a_later_plan_replaces_the_first_and_keeps_what_stays(
    start: Callable[..., Process], guest: Namespace
) -> None:
    process = start()
    web, tls, dns = (
        GuestService("web01", guest.path, "tcp", 22),
        GuestService("web01", guest.path, "tcp", 443),
        GuestService("web01", guest.path, "udp", 53),
    )
    assert process.plan(web, tls) == ServicesReply(2)
    kept, ended = connect(guest, V4, 22), connect(guest, V4, 443)
    with kept, ended:
        kept_lines = kept.makefile("rb")
        assert kept_lines.readline() == b"vswitch web01 tcp/22\n"
        assert ended.makefile("rb").readline() == b"vswitch web01 tcp/443\n"
        assert process.plan(web, dns) == ServicesReply(2)
        assert ended.recv(100) == b""
        kept.sendall(b"still here\n")
        assert kept_lines.readline() == b"still here\n"
        with pytest.raises(ConnectionRefusedError):
            connect(guest, V4, 443)
    assert process.plan() == ServicesReply(0)
    with pytest.raises(ConnectionRefusedError):
        connect(guest, V4, 22)


def test_a_guest_made_anew_under_its_old_path_is_served_again(
    start: Callable[..., Process], new_namespace: Callable[[], Namespace], tmp_path: Path
) -> None:
    path = tmp_path / "guest"
    process = start()
    for _ in range(2):
        space = new_namespace()
        path.unlink(missing_ok=True)
        path.symlink_to(space.path)
        assert process.plan(GuestService("web01", str(path), "tcp", 22)) == ServicesReply(1)
        with connect(space, "127.0.0.1", 22) as sock:
            assert sock.makefile("rb").readline() == b"vswitch web01 tcp/22\n"


@pytest.mark.parametrize(
    "line",
    [
        b"{\n",
        b"7\n",
        b"\xff\n",
        b'[{"guest": "a"}]\n',
        b'[{"guest": "a", "netns": "b", "protocol": "sctp", "port": 1}]\n',
    ],
)
def test_a_line_that_is_no_plan_changes_nothing(
    start: Callable[..., Process], guest: Namespace, line: bytes
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 22))
    reply = process.send(line)
    assert reply.listening == 1
    assert reply.error.startswith("not a plan: ")
    connect(guest, V4, 22).close()


def test_silent_connections_end(start: Callable[..., Process], guest: Namespace) -> None:
    process = start("--idle", "0.2")
    process.plan(GuestService("web01", guest.path, "tcp", 22))
    files = process.open_files()
    with connect(guest, V4, 22) as one, connect(guest, V4, 22) as other:
        assert read_to_end(one) == read_to_end(other) == b"vswitch web01 tcp/22\n"
    assert process.open_files() == files


def test_running_out_of_files_turns_callers_away_and_recovers(
    start: Callable[..., Process], guest: Namespace
) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 22))
    room = process.open_files() + 4
    resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (room, room))
    callers = [connect(guest, V4, 22) for _ in range(8)]
    try:
        greeted = [caller.recv(100) != b"" for caller in callers]
    finally:
        for caller in callers:
            caller.close()
    assert any(greeted)
    assert not all(greeted)
    with connect(guest, V4, 22) as sock:  # a turn of the loop sees the callers leave
        sock.recv(100)
    with connect(guest, V4, 22) as sock:
        assert sock.recv(100) == b"vswitch web01 tcp/22\n"
    reply = process.plan(*(GuestService("web01", guest.path, "tcp", 1000 + port) for port in range(20)))
    assert 0 < reply.listening < 20
    assert "open files is used up" in reply.failed[-1].reason


def test_it_ends_with_its_input(start: Callable[..., Process], guest: Namespace) -> None:
    process = start()
    process.plan(GuestService("web01", guest.path, "tcp", 22))
    process.popen.communicate(timeout=10)
    assert process.popen.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        connect(guest, V4, 22)


def test_a_thousand_services_of_many_guests(
    start: Callable[..., Process], new_namespace: Callable[[], Namespace]
) -> None:
    spaces = [new_namespace() for _ in range(20)]
    services = [
        GuestService(f"vm{number}", space.path, protocol, port)
        for number, space in enumerate(spaces)
        for protocol in ("tcp", "udp")
        for port in range(1, 26)
    ]
    assert start().plan(*services) == ServicesReply(1000)
    with connect(spaces[13], "::1", 25) as sock:
        assert sock.makefile("rb").readline() == b"vswitch vm13 tcp/25\n"


def test_it_serves_without_ipv6_addresses(
    start: Callable[..., Process], new_namespace: Callable[[], Namespace]
) -> None:
    space = new_namespace()
    in_netns(space.path, lambda: Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
    assert start().plan(GuestService("old", space.path, "tcp", 22)) == ServicesReply(1)
    with connect(space, "127.0.0.1", 22) as sock:
        assert sock.makefile("rb").readline() == b"vswitch old tcp/22\n"


def test_no_reply_is_a_clear_error() -> None:
    for line in (b"", b"null\n", b'{"listening": 1}\n'):
        with pytest.raises(LabError, match="gave no answer"):
            ServicesReply.parse(line)


def test_a_service_is_tcp_or_udp_with_a_port() -> None:
    for protocol, port in (("sctp", 80), ("tcp", 0), ("udp", 65536)):
        with pytest.raises(ValueError, match="no TCP or UDP service"):
            GuestService("a", "b", protocol, port)
