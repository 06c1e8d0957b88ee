"""Working inside network namespaces named by a path."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.guest_sockets import socket_in
from tests.support.namespaces import Namespace
from vswitch.errors import EnvironmentError_, LabError, VswitchError
from vswitch.lab.isolation.netns import in_netns

pytestmark = pytest.mark.lab


def interfaces() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex())


def test_the_work_runs_inside_and_this_process_stays_outside(new_namespace: Callable[[], Namespace]) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    space = new_namespace()
    space.run("ip", "link", "add", "only-here", "type", "veth", "peer", "name", "peer-here")
    assert in_netns(space.path, interfaces) == ["lo", "only-here", "peer-here"]
    assert in_netns(Path(space.path), interfaces) == ["lo", "only-here", "peer-here"]
    assert "only-here" not in interfaces()
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_what_the_work_raises_arrives(new_namespace: Callable[[], Namespace]) -> None:
    def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        in_netns(new_namespace().path, fail)


def test_a_socket_stays_in_its_namespace(new_namespace: Callable[[], Namespace]) -> None:
    space = new_namespace()
    space.run("ip", "address", "add", "192.0.2.77/32", "dev", "lo")
    with socket_in(space.path) as server, socket_in(space.path) as client:
        server.bind(("192.0.2.77", 0))  # an address that exists in there only
        server.listen()
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"inside")
            assert client.recv(16) == b"inside"
    with socket_in(new_namespace().path) as elsewhere, pytest.raises(OSError, match="requested address"):
        elsewhere.bind(("192.0.2.77", 0))


def test_sysctls_and_children_are_those_of_the_namespace(new_namespace: Callable[[], Namespace]) -> None:
    one, other = new_namespace(), new_namespace()
    setting = Path("/proc/sys/net/ipv4/ip_default_ttl")
    outside = setting.read_text()
    in_netns(one.path, lambda: setting.write_text("33"))
    assert in_netns(one.path, setting.read_text) == "33\n"
    assert in_netns(other.path, setting.read_text) == "64\n"
    assert setting.read_text() == outside
    child = in_netns(
        one.path,
        lambda: subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True),
    )
    assert child.stdout.strip() == in_netns(one.path, lambda: os.readlink("/proc/thread-self/ns/net"))


def test_many_threads_at_once(new_namespace: Callable[[], Namespace]) -> None:
    spaces = [new_namespace() for _ in range(4)]
    for number, space in enumerate(spaces):
        space.sysctl("ipv4/ip_default_ttl", str(100 + number))
    read = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda n: in_netns(spaces[n % 4].path, read), range(200)))
    assert seen == [f"{100 + n % 4}\n" for n in range(200)]
    assert threading.active_count() <= before + 1  # the last one may still be ending


def test_a_missing_namespace_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"no network namespace at .*gone"):
        in_netns(tmp_path / "gone", interfaces)


def test_a_file_that_is_no_namespace_is_a_clear_error(
    new_namespace: Callable[[], Namespace], tmp_path: Path
) -> None:
    new_namespace()  # skips where namespaces cannot be made
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(LabError, match="is not a network namespace"):
        socket_in(plain)


def test_another_kind_of_namespace_is_a_clear_error(new_namespace: Callable[[], Namespace]) -> None:
    new_namespace()
    with pytest.raises(LabError, match="is not a network namespace"):
        in_netns("/proc/self/ns/uts", interfaces)


def test_without_the_privilege_the_error_names_it(new_namespace: Callable[[], Namespace]) -> None:
    """In a child that gives up its capabilities: the namespaces of others are closed to it."""
    space = new_namespace()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
            assert ctypes.CDLL(None).capset(header, bytes(24)) == 0
            try:
                in_netns(f"/proc/self/fd/{space.fd}", interfaces)
            except VswitchError as error:
                os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as answer:
        text = answer.read()
    assert text.startswith(EnvironmentError_.__name__)
    assert "CAP_SYS_ADMIN" in text
