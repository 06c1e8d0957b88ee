"""What keeps a guest's programs to their guest: `python cell.py make|hold|enter ...`.

`make` gives each guest a network namespace that belongs to a user namespace of the guest's own: its root
has every right over its own network, and none over anybody else's. `hold` is the first process of a
guest's cell: PID, mount and host name namespaces, a /proc that shows the guest's processes only, a /run
of its own, and no way to write the kernel's settings. `enter` runs a command in there, within limits.

Stands alone, with the standard library only: it must start fast and with any interpreter, and only a
process with a single thread may enter a user namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

_NEWNS, _NEWUTS, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_GET_USERNS = 0xB701  # linux/nsfs.h
_PLAIN = _NOSUID | _NODEV | _NOEXEC
# Root's files in /proc that act on the whole machine; the kernel asks for the user id alone.
_SETTINGS = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
_SETTING_KINDS = {"cgroup", "cgroup2", "proc", "sysfs"}
_RUN_SIZE = "size=64m,mode=0755"
_TOO_LATE, _NOT_EXECUTABLE, _NOT_FOUND = 124, 126, 127
_GRACE = 2.0  # seconds between the request to end and the order
_LONGEST = 1e9  # seconds; what the kernel takes for a timer ends somewhere above
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_SECCOMP, _FILTER, _ALLOW, _SUCCEED = 22, 2, 0x7FFF0000, 0x00050000  # linux/seccomp.h
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/filter.h
# set(re|res|fs)(u|g)id and setgroups: linux/audit.h, the numbers of asm/unistd.h
_CHANGES_OF_USER = {
    "x86_64": (0xC000003E, (105, 106, 113, 114, 116, 117, 119, 122, 123)),
    "aarch64": (0xC00000B7, (143, 144, 145, 146, 147, 149, 151, 152, 159)),
}

_libc = ctypes.CDLL(None, use_errno=True)


def _do(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError."""
    if getattr(_libc, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    _do("mount", os.fsencode(source), os.fsencode(target), kind and kind.encode(), flags, data.encode())


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


# ------------------------------------------------------------------ make


def make(folder: str) -> None:
    """For each name on standard input, make a network namespace and bind it to `folder`/name.

    Answers with one line each: `own` (it belongs to a user namespace of its own), `shared` (this machine
    does not let us make one) or `error <errno>`.
    """
    with open("/proc/self/uid_map") as uids, open("/proc/self/gid_map") as gids:
        maps = {"uid_map": _same(uids.read()), "gid_map": _same(gids.read())}
    for line in sys.stdin:
        try:
            answer = _make_one(os.path.join(folder, line.strip()), maps)
        except OSError as error:
            answer = f"error {error.errno}"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _same(id_map: str) -> str:
    """The map that shows in a new user namespace what `id_map` shows in this one."""
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in map(str.split, id_map.splitlines()))


def _make_one(target: str, maps: dict[str, str]) -> str:
    told, tell = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        if not _libc.unshare(_NEWUSER | _NEWNET):
            os.write(tell, b"own")
        elif not _libc.unshare(_NEWNET):
            os.write(tell, b"shared")
        else:
            os.write(tell, b"error %d" % ctypes.get_errno())
        os.read(wait, 1)
        os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        answer = os.read(told, 64).decode()
        if answer == "own":
            for name, text in maps.items():
                _write(f"/proc/{child}/{name}", text)
        if not answer.startswith("error"):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
            _mount(f"/proc/{child}/ns/net", target, None, _BIND)
        return answer
    finally:
        os.close(go)
        os.close(told)
        os.waitpid(child, 0)


# ------------------------------------------------------------------ hold


def hold(host_name: str, netns: str, most_processes: str) -> None:
    """Start the cell of the guest whose network namespace is at `netns`; print its first process's id.

    `most_processes` 0 leaves the number of processes to others to limit.
    """
    network = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    told, tell = os.pipe()
    _do("unshare", _NEWNS | _NEWPID | _NEWUTS)
    child = os.fork()
    if child:
        os.close(tell)
        if reason := os.read(told, 4096):
            sys.exit(reason.decode())
        print(child, flush=True)
        return
    try:
        _furnish(host_name, int(most_processes))
        _settle(network)
    except OSError as error:
        os.write(tell, str(error.strerror).encode())
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what becomes an orphan is reaped by the kernel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, 4096)
    while True:
        signal.pause()


def _furnish(host_name: str, most_processes: int) -> None:
    """What the guest sees of the machine. Still with the lab's rights: the guest cannot undo it."""
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("proc", "/proc", "proc", _PLAIN)
    if most_processes:
        _write("/proc/sys/kernel/pid_max", str(most_processes))
    for name in filter(os.path.exists, (f"/proc/{each}" for each in _SETTINGS)):
        _mount(name, name, None, _BIND)
        if name == "/proc/sys":
            _mount("/proc/sys/net", "/proc/sys/net", None, _BIND)  # the guest's own
        _make_read_only(name)
    for place in list(_places_of_settings()):
        try:
            _make_read_only(place)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise
            # Another mount covers it: no way leads there.
    _mount("vswitch", "/run", "tmpfs", _NOSUID | _NODEV, _RUN_SIZE)
    host = os.fsencode(host_name)[:64]
    _do("sethostname", host, len(host))


def _make_read_only(mount: str) -> None:
    _mount("none", mount, None, _REMOUNT | _BIND | _RDONLY | _PLAIN)


def _places_of_settings() -> Iterator[str]:
    """Where the kernel's settings are mounted, but for the guest's own /proc and what that covers.

    They are written with the rights of their files' owner. A guest of root's lab has the machine's root's
    user id, and could take itself out of its control groups.
    """
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            before, _, after = line.partition(b" - ")
            place = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), before.split(b" ")[4])
            name, kind = os.fsdecode(place), after.split(b" ")[0].decode()
            if _is_within(name, "/sys") or (kind in _SETTING_KINDS and not _is_within(name, "/proc")):
                yield name


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _settle(network: int) -> None:
    """Go where the guest is, with no more rights than it has."""
    user = fcntl.ioctl(network, _GET_USERNS)
    own = os.fstat(user).st_ino != os.stat("/proc/self/ns/user").st_ino
    _do("setns", network, _NEWNET)
    if own:
        _do("setns", user, _NEWUSER)
        _do("unshare", _NEWNS)  # in a copy that belongs to the guest, mounts of before are locked


# ------------------------------------------------------------------ enter


def enter(
    guest: str, places: str, processes: str, memory: str, idle: str, folder: str, limit: str, *argv: str
) -> None:
    """Run `argv` in `guest` and end as it does: with its exit status, or by its signal.

    `places` are KIND=DESCRIPTOR, by comma: namespaces in the order to enter them, and files that take a
    process into a control group. `processes` and `memory` (bytes of address space for each process) are
    the limits, 0: none; with `idle` 1 it gets the processor time that others leave. `limit` is SECONDS or
    SECONDS=DESCRIPTOR: what runs longer is ended, the exit status is 124, and something is written to the
    descriptor; empty: nothing is. When the process that asked for all this ends, `argv` is ended too.
    """
    asker = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what the terminal sends is for the command
    seconds, _, reported = limit.partition("=")
    report = [int(reported)] if reported else []
    own_group = bool(seconds) and not _has_terminal()
    pairs = [(kind, int(number)) for kind, number in (place.split("=") for place in places.split(","))]
    try:
        for kind, descriptor in pairs:
            if kind == "user" and os.fstat(descriptor).st_ino == os.stat("/proc/self/ns/user").st_ino:
                continue  # it is the one we are in
            if kind != "group":
                _do("setns", descriptor, 0)
    except OSError as error:
        _fail(1, f"cannot enter {guest}: {error.strerror}", "Its lab may have ended: `vswitch ps` says.")
    # A guest full of processes can still be entered: the limits are for what follows.
    child = _fork(guest)
    if child == 0:
        try:
            for kind, descriptor in pairs:
                if kind == "group":
                    os.write(descriptor, b"0")
            _limit(int(processes), int(memory), idle == "1")
        except OSError as error:
            _fail(1, f"{guest}: its limits cannot be set: {error.strerror}", "Its lab may have ended.")
        if own_group:
            os.setpgid(0, 0)
        for descriptor in [*(number for _, number in pairs), *report]:
            os.close(descriptor)
        _do("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):  # a kernel without seccomp
            _stay_one_user()
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # ignored: above, and by Python
            signal.signal(number, signal.SIG_DFL)
        os.chdir(folder if os.path.isdir(folder) else "/")
        _execute(guest, argv)
    for _, descriptor in pairs:
        os.close(descriptor)
    if own_group:
        with contextlib.suppress(OSError):  # it has done so itself, and runs its program
            os.setpgid(child, child)
    _Watch(child, -child if own_group else child, asker, report).end_like(float(seconds or 0))


def _has_terminal() -> bool:
    """Whether a terminal decides which group of processes it listens to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _fork(guest: str) -> int:
    try:
        return os.fork()
    except OSError as error:
        _fail(3, f"{guest}: no process can be started: {error.strerror}", "This machine has run out of them.")


def _limit(processes: int, memory: int, idle: bool) -> None:
    limits = ((resource.RLIMIT_NPROC, processes), (resource.RLIMIT_AS, memory))
    for kind, value in limits:
        _, hard = resource.getrlimit(kind)
        if value and (hard == resource.RLIM_INFINITY or value < hard):
            resource.setrlimit(kind, (value, value))
    if idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if processes:
        _write("/proc/self/oom_score_adj", "1000")  # when memory is short, guests' programs go first


def _stay_one_user() -> None:
    """Where the guest knows one user only, let programs believe that they have become another.

    Whoever drops root's rights (tcpdump does) would end instead; there is nobody it could become.
    """
    with open("/proc/self/uid_map") as uids:
        if sum(int(line.split()[2]) for line in uids) > 1:
            return
    machine = os.uname().machine
    if machine not in _CHANGES_OF_USER:
        return
    architecture, calls = _CHANGES_OF_USER[machine]
    # struct sock_filter: code, jumps if true and if false, operand; loads are of struct seccomp_data.
    program = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 0, len(calls) + 1, architecture), (_LOAD, 0, 0, 0)]
    program += [(_IF_EQUAL, len(calls) - number, 0, call) for number, call in enumerate(calls)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _SUCCEED)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(text))
    _do("prctl", _PR_SET_SECCOMP, _FILTER, filter_, 0, 0)


def _execute(guest: str, argv: tuple[str, ...]) -> NoReturn:
    program = argv[0]
    path = _find(program)
    if path is None:
        what = f"there is no {program}" if "/" in program else f"{program} is not installed"
        _fail(_NOT_FOUND, f"{guest}: {what} on this machine", "Guests run the programs of this machine.")
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        _fail(_NOT_EXECUTABLE, f"{guest}: {path} cannot be executed", "Is it a program, with `chmod +x`?")
    try:
        os.execv(path, argv)
    except OSError as error:
        if error.errno == errno.ENOEXEC:  # a script that does not name its interpreter
            os.execv("/bin/sh", ["sh", path, *argv[1:]])
        status = _NOT_FOUND if error.errno == errno.ENOENT else _NOT_EXECUTABLE
        _fail(status, f"{guest}: {program} cannot be executed: {error.strerror}")


def _find(program: str) -> str | None:
    """Where the program is, executable or not."""
    if "/" in program:
        return program if os.path.exists(program) else None
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    there = [path for folder in folders if os.path.isfile(path := os.path.join(folder, program))]
    return next((path for path in there if os.access(path, os.X_OK)), there[0] if there else None)


def _fail(status: int, message: str, hint: str = "") -> NoReturn:
    sys.stderr.write(f"error: {message}\n" + (f"  {hint}\n" if hint else ""))
    sys.stderr.flush()
    os._exit(status)


class _Watch:
    """Waits for the end of `child`; what is for it goes to `target`, which is it or its process group."""

    def __init__(self, child: int, target: int, asker: int, report: list[int]) -> None:
        self._child, self._target, self._asker, self._report = child, target, asker, report
        self._late = False

    def end_like(self, seconds: float) -> NoReturn:
        """Stop when the child is stopped, pass signals on, end as it ended.

        It is ended after so many seconds (0: never), and when whoever asked for it has gone.
        """
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: self._send(number))
        signal.signal(signal.SIGUSR1, lambda *_: self._put_an_end(signal.SIGHUP))
        signal.signal(signal.SIGALRM, lambda *_: self._time_is_over())
        signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST))
        _do("prctl", _PR_SET_PDEATHSIG, signal.SIGUSR1)
        if os.getppid() != self._asker:
            self._put_an_end(signal.SIGHUP)
        while True:
            _, status = os.waitpid(self._child, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(self._child, signal.SIGCONT)
        code = _TOO_LATE if self._late else os.waitstatus_to_exitcode(status)
        if code < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core of ours says nothing
            if -code != signal.SIGKILL:
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code & 255)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._target, number)

    def _time_is_over(self) -> None:
        self._late = True
        for descriptor in self._report:
            with contextlib.suppress(OSError):
                os.write(descriptor, b"late")
        self._put_an_end(signal.SIGTERM)

    def _put_an_end(self, first: int) -> None:
        """Ask it to end, and after a time of grace make it."""
        signal.signal(signal.SIGALRM, lambda *_: self._send(signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, _GRACE)
        self._send(first)
        self._send(signal.SIGCONT)


_ROLES: dict[str, Callable[..., None]] = {"make": make, "hold": hold, "enter": enter}

if __name__ == "__main__":
    try:
        _ROLES[sys.argv[1]](*sys.argv[2:])
    except OSError as error:
        sys.exit(f"vswitch: {error.strerror}")
