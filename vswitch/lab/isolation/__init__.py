"""A private world for a lab: user (where needed), network, mount and PID namespaces, by unshare(1).

`check` finds out what this machine lacks before anything is started; `command` is the command line
that runs something inside; `enter` starts the calling program again inside.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from vswitch.errors import EnvironmentError_, VswitchError
from vswitch.exhausted import exhausted_in

__all__ = [
    "check",
    "check_kernel_datapath",
    "command",
    "enter",
    "environment",
    "explain_failure",
    "inside",
    "needs_user_namespace",
    "passed_on",
    "raise_file_limit",
    "search_path",
]

_OUR_MOUNT = "vswitch /run tmpfs "  # as init.py makes it
_SBIN = ("/usr/sbin", "/sbin")
#: What the extra `lab` brings to the lab's own processes: module, package.
_PACKAGES = {"os_ken": "os-ken", "packaging": "packaging"}
_PROGRAMS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "ovsdb-server": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovs-ofctl": "openvswitch-switch",
}
_NETLINK_GENERIC = 16
_SECRETS = "VSWITCH_HYPERV_"  # the account of real hosts
_CAP_SYS_ADMIN = 1 << 21
_KERNEL_DATAPATH = "ovs_datapath"  # a family of generic netlink, by which the kernel's module is asked
_TUN = Path("/dev/net/tun")


def search_path() -> str:
    """PATH with the folders of system programs, which ordinary users often lack."""
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*parts, *(folder for folder in _SBIN if folder not in parts)])


def needs_user_namespace() -> bool:
    """Whether this process can make namespaces only inside a user namespace of its own."""
    if os.geteuid() != 0:
        return True
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return not int(line.split()[1], 16) & _CAP_SYS_ADMIN
    return False


def check() -> None:
    """Raise EnvironmentError_, with what to do, for the first thing a lab needs and this machine lacks."""
    _check_packages()
    path = search_path()
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=path)]
    if missing:
        packages = " ".join(sorted({_PROGRAMS[program] for program in missing}))
        raise EnvironmentError_(
            f"these programs are not installed: {', '.join(missing)}",
            hint=f"On Debian and Ubuntu: sudo apt install {packages}",
        )
    _check_tun()
    if needs_user_namespace():
        _check_user_namespaces()


def _check_packages() -> None:
    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise EnvironmentError_(
            f"labs need Python packages that are not installed: {', '.join(missing)}",
            hint="Install them: pip install 'vswitch[lab]'. Missing Debian packages are named after that.",
        )


def check_kernel_datapath() -> None:
    """Raise EnvironmentError_, with what to do, where the kernel's Open vSwitch cannot be used.

    A module that is there and not loaded yet is loaded by this.
    """
    without = "leave out --kernel-datapath: without it labs need no module, and verdicts are the same"
    if needs_user_namespace():
        text = "only root can use the kernel's Open vSwitch"
        raise EnvironmentError_(text, hint=f"Run as root, or {without}.")
    if not _has_family(_KERNEL_DATAPATH):
        raise EnvironmentError_(
            "this kernel has no Open vSwitch: it cannot load the module openvswitch",
            hint=f"Try `sudo modprobe openvswitch` (for a container, on its host), or {without}.",
        )


def _has_family(name: str) -> bool:
    """Whether the kernel knows this family of generic netlink, after loading a module that brings it."""
    get_family, family_name, controller, request, is_error = 3, 2, 0x10, 0x1 | 0x4, 2
    text = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(text), family_name) + text + bytes(-len(text) % 4)
    message = struct.pack("=BBH", get_family, 1, 0) + attribute
    header = struct.pack("=IHHII", 16 + len(message), controller, request, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as kernel:
        kernel.send(header + message)
        _, kind = struct.unpack_from("=IH", kernel.recv(65536))
    return bool(kind != is_error)


def _check_tun() -> None:
    if not _TUN.exists():
        raise EnvironmentError_(
            f"{_TUN} is missing; Open vSwitch needs it",
            hint="Load its module: sudo modprobe tun. A container needs --device /dev/net/tun.",
        )
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except OSError as error:
        raise EnvironmentError_(
            f"{_TUN} cannot be opened for reading and writing: {error.strerror}",
            hint=f"Run as root, or allow everybody as distributions do: sudo chmod 666 {_TUN}",
        ) from None


def _check_user_namespaces() -> None:
    limits = {
        "/proc/sys/user/max_user_namespaces": "sudo sysctl user.max_user_namespaces=10000",
        "/proc/sys/kernel/unprivileged_userns_clone": "sudo sysctl kernel.unprivileged_userns_clone=1",
    }
    if not Path("/proc/self/ns/user").exists():
        raise EnvironmentError_("this kernel has no user namespaces", hint="Run as root.")
    for setting, remedy in limits.items():
        if Path(setting).exists() and Path(setting).read_text().strip() == "0":
            raise EnvironmentError_("user namespaces are switched off", hint=f"Run as root, or: {remedy}")


def command(argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a private world; it ends with everything in it.

    The process it starts must stay alive: when it is killed, so is all inside.
    """
    user = ["--user", "--map-root-user"] if needs_user_namespace() else []
    unshare = shutil.which("unshare", path=search_path()) or "unshare"
    init = str(Path(__file__).with_name("init.py"))
    return [
        unshare, *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        sys.executable, "-I", "-S", init, *argv,
    ]  # fmt: skip


def passed_on() -> dict[str, str]:
    """This process's environment without the account of real hosts: nothing in a lab has a use for it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}


def environment() -> dict[str, str]:
    """The environment for what runs inside."""
    root = str(Path(__file__).resolve().parents[3])
    inherited = os.environ.get("PYTHONPATH")
    python_path = os.pathsep.join([root, *([inherited] if inherited else [])])
    return {**passed_on(), "PATH": search_path(), "PYTHONPATH": python_path}


def inside() -> bool:
    """Whether this process is in a private world."""
    return any(line.startswith(_OUR_MOUNT) for line in Path("/proc/self/mounts").read_text().splitlines())


def enter() -> None:
    """Make sure this program runs in a private world: where it does not, start it again inside.

    For scripts that build a lab in their own process; call it before anything else. Needs no root.
    Raises EnvironmentError_ as `check` does.
    """
    raise_file_limit()
    if inside():
        return
    check()
    argv = command([sys.executable, *sys.orig_argv[1:]])
    os.execvpe(argv[0], argv, environment())


def explain_failure(words: str) -> VswitchError | None:
    """The error for what unshare or init wrote when they could not make the private world, if it is known."""
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "")
    if exhausted := exhausted_in(last):
        return exhausted
    if "unshare failed" in last or "uid_map" in last or "setgroups" in last:
        return EnvironmentError_(
            f"this machine does not let you make namespaces ({last.strip()})",
            hint="Run as root, or allow user namespaces: sudo sysctl user.max_user_namespaces=10000; "
            "on Ubuntu also: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0. "
            "A container needs --privileged.",
        )
    if "mount" in last:
        return EnvironmentError_(
            f"a private /proc or /run cannot be mounted ({last.strip()})",
            hint="Containers hide parts of /proc, which forbids it: start the container with --privileged.",
        )
    return None


def raise_file_limit() -> None:
    """Allow this process and its children as many open files as the hard limit says."""
    import resource  # where there is none, the command line must still load

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
