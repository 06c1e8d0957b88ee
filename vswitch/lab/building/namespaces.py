"""Making network namespaces and what is in them. For use inside a lab's private world only."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vswitch.errors import EnvironmentError_, LabError
from vswitch.lab.building import nat_tables as nat
from vswitch.lab.building.lab_plan import GuestPlan
from vswitch.lab.building.netlink import Netlink, address, link_up, route, veth
from vswitch.lab.isolation.cells import PROGRAM
from vswitch.lab.isolation.netns import in_netns

__all__ = [
    "FOLDER",
    "Maker",
    "bind",
    "build_guest",
    "build_switch_namespace",
    "each",
    "join",
    "netlink_of",
    "path_of",
    "remove",
    "unbind",
]

T = TypeVar("T")
S = TypeVar("S")

#: Where namespaces are kept, as `ip netns` expects them.
FOLDER = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 0x2
_WORKERS = 4  # the kernel serialises most of the work; this hides Python's share of it

_libc = ctypes.CDLL(None, use_errno=True)
_SYSCTL = Path("/proc/sys/net")

# Guests come up in silence: thousands of frames that nobody asked for would flood every switch.
_GUEST_SETTINGS = {
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/router_solicitations": "0",
    "ipv6/conf/default/mldv2_unsolicited_report_interval": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    # As Windows does: ARP is answered, and asked with an address, by the interface that has it.
    "ipv4/conf/all/arp_ignore": "1",
    "ipv4/conf/all/arp_announce": "2",
    # A closed UDP port answers every datagram, or a range of closed ports would look filtered.
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
}
_ROUTER_SETTINGS = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
_SHARED = "user namespaces cannot be made here: what runs in the lab's guests has all of the lab's rights"
# The switch's ends of the cables are no IP interfaces.
_SWITCH_SETTINGS = {"ipv6/conf/default/disable_ipv6": "1"}


def path_of(namespace: str) -> str:
    """The path of a namespace of the lab."""
    return str(FOLDER / namespace)


def each(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Do `work` for every item, several at a time; the results in order. Raises the first error."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def build_switch_namespace(name: str, cables: Iterable[tuple[str, str]]) -> None:
    """A namespace for an Open vSwitch instance, with `cables` of which both ends are in it."""

    def fill() -> None:
        _write(_SWITCH_SETTINGS)
        with Netlink() as netlink:
            netlink.send([link_up("lo"), *(veth(one, other) for one, other in cables)])

    _new_namespace(name, fill)


def netlink_of(namespace: str) -> Netlink:
    """A netlink socket of a namespace, to be closed after use."""
    return in_netns(path_of(namespace), Netlink)


def join(namespace: str, name: str, other_namespace: str, other_name: str) -> None:
    """Lay a cable between two namespaces of switches."""
    with _descriptor(other_namespace) as other:

        def lay() -> None:
            with Netlink() as netlink:
                netlink.send([veth(name, other_name, peer_netns=other)])

        in_netns(path_of(namespace), lay)


def build_guest(plan: GuestPlan, switches: Mapping[str, Netlink], maker: Maker) -> None:
    """A guest's namespace: interfaces cabled to their switches, addresses, routes, settings.

    `switches` are the netlink sockets of the switches' namespaces, `maker` makes the guest's. The
    switch's end comes up at once: what a guest says when it gets a carrier is said before a switch
    listens.
    """

    def fill() -> None:
        _write(_GUEST_SETTINGS)
        with Netlink() as netlink:
            netlink.send([link_up("lo")])
            for cable in plan.cables:
                with _descriptor(cable.far) as far:
                    netlink.send([veth(cable.interface, cable.far_name, mac=cable.mac, peer_netns=far)])
                switches[cable.far].send([link_up(cable.far_name)])
            messages = [address(cable.interface, value) for cable in plan.cables for value in cable.addresses]
            messages += [route(destination, hop) for destination, hop in plan.routes]
            netlink.send(messages)
        if plan.guest.forwarding:
            _write(_ROUTER_SETTINGS)
        if plan.guest.nat:
            nat.install(plan.guest.nat, plan.cables)  # before it forwards: they say what it does not
            _write(nat.settings(plan.guest.nat, plan.cables))

    try:
        maker.make(plan.namespace)
        in_netns(path_of(plan.namespace), fill)
    except LabError as error:
        raise LabError(f"guest {plan.guest.name}: {error.message}", hint=error.hint) from None


class Maker:
    """Makes network namespaces for guests, each in a user namespace of its own where the machine allows.

    By a process of its own (see `cell`): none with several threads can make a user namespace.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", PROGRAM, "make", str(FOLDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._all_own = True

    def __enter__(self) -> Maker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def make(self, name: str) -> None:
        """Make the namespace `name`. Raises EnvironmentError_."""
        pipes = self._process
        assert pipes.stdin
        assert pipes.stdout
        with self._lock:
            try:
                pipes.stdin.write(f"{name}\n")
                pipes.stdin.flush()
            except OSError:
                raise LabError("the process that makes the guests' namespaces has ended") from None
            answer = pipes.stdout.readline().split()
            if answer == ["shared"] and self._all_own:
                self._all_own = False
                print(_SHARED, file=sys.stderr)
        if answer[:1] == ["error"] or not answer:
            raise _no_namespace(name, int(answer[1]) if answer else errno.ECHILD)


def remove(namespaces: Iterable[str]) -> None:
    """Let go of namespaces; each ends with the last process in it."""
    for name in namespaces:
        path = FOLDER / name
        if path.exists():
            _libc.umount2(os.fsencode(path), _MNT_DETACH)
            path.unlink(missing_ok=True)


def bind(source: Path, target: Path) -> bool:
    """Show the file `source` in the place of the file `target`, in this mount namespace only."""
    return bool(_libc.mount(os.fsencode(source), os.fsencode(target), None, _MS_BIND, None) == 0)


def unbind(target: Path) -> None:
    """Undo `bind`, if there was one."""
    _libc.umount2(os.fsencode(target), _MNT_DETACH)


def _write(settings: dict[str, str]) -> None:
    """Set sysctls of the namespace the calling thread is in; those a kernel lacks are passed over."""
    for name, value in settings.items():
        try:
            (_SYSCTL / name).write_text(value)
        except FileNotFoundError:
            continue


@contextmanager
def _descriptor(namespace: str) -> Iterator[int]:
    descriptor = os.open(path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _new_namespace(name: str, fill: Callable[[], None]) -> None:
    """Make the namespace `name` and run `fill` in it; the calling thread stays where it is."""
    outcome: Future[None] = Future()

    def make() -> None:
        try:
            if _libc.unshare(_CLONE_NEWNET):
                raise _no_namespace(name, ctypes.get_errno())
            target = FOLDER / name
            target.touch()
            source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
            if _libc.mount(source, os.fsencode(target), None, _MS_BIND, None):
                raise _no_namespace(name, ctypes.get_errno())
            fill()
            outcome.set_result(None)
        except BaseException as error:  # the caller's to handle, whatever it is
            outcome.set_exception(error)

    threading.Thread(target=make, name=f"new {name}", daemon=True).start()
    outcome.result()


def _no_namespace(name: str, code: int) -> EnvironmentError_:
    return EnvironmentError_(
        f"cannot make network namespace {name}: {os.strerror(code)}",
        hint="Raise the limit: sudo sysctl user.max_net_namespaces=10000; free memory if it is short.",
    )
