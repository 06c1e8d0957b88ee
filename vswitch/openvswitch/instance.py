"""One private Open vSwitch: its two processes, started and stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal

from vswitch.errors import EnvironmentError_, SwitchError
from vswitch.openvswitch.database import BridgeSpec, to_map
from vswitch.openvswitch.jsonrpc import connect
from vswitch.openvswitch.sockets import widen_receive_buffers
from vswitch.openvswitch.switch_client import PACKAGES_HINT, SwitchClient

__all__ = ["Instance", "start_all", "stop_all"]

_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_DPDK_BUILD = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where Debian keeps the daemons


class Instance(SwitchClient):
    """An ovsdb-server and an ovs-vswitchd of our own, as children of this process.

    `rundir` holds their sockets, database and logs; it is made if it is not there and must belong to
    this instance alone. `netns` is the path of the network namespace ovs-vswitchd runs in (None: the
    caller's); it finds its ports there, and two userspace instances cannot share one.
    The "dummy" datapath has no real ports and needs no privilege: flows can be traced in it.
    """

    def __init__(
        self,
        name: str,
        rundir: Path,
        *,
        netns: str | None = None,
        datapath: Literal["netdev", "system", "dummy"] = "netdev",
        timeout: float = 30.0,
    ) -> None:
        super().__init__(rundir, datapath=datapath, timeout=timeout)
        self.name = name
        self.netns = netns
        self._database: subprocess.Popen[bytes] | None = None
        self._vswitchd: subprocess.Popen[bytes] | None = None

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The processes that were started, by program name."""
        pairs = (("ovsdb-server", self._database), ("ovs-vswitchd", self._vswitchd))
        return {name: process for name, process in pairs if process is not None}

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of ovsdb-server and ovs-vswitchd."""
        return tuple(process.pid for process in self.processes.values())

    def alive(self) -> bool:
        """Whether both processes run."""
        return len(self.pids) == 2 and all(process.poll() is None for process in self.processes.values())

    def start(self) -> None:
        """Start both processes and wait until they answer.

        Raises EnvironmentError_ if Open vSwitch is not installed, SwitchError if it does not come up.
        """
        start_all([self])

    def stop(self) -> None:
        """End both processes and wait for their end. Harmless if they do not run."""
        stop_all([self])

    def add_bridges(self, bridges: Iterable[BridgeSpec]) -> None:
        """As SwitchClient.add_bridges; also widens the ports' receive buffers."""
        super().add_bridges(bridges)
        if self.datapath == "netdev" and self._vswitchd:
            widen_receive_buffers(self._vswitchd.pid)

    def _start_database(self) -> None:
        self.rundir.mkdir(parents=True, exist_ok=True)
        path = self.rundir / "conf.db"
        path.write_bytes(_fresh_database(self.rundir))
        remote = f"--remote=punix:{self.database_socket}"
        self._database = self._spawn("ovsdb-server", "ovsdb-server", "db", remote, str(path))

    def _start_vswitchd(self) -> None:
        deadline = monotonic() + self.timeout
        while True:  # ovs-vswitchd would wait a whole second before its second try
            try:
                connect(self.database_socket, self.timeout).close()
                break
            except OSError:
                self._check_alive(deadline)
                sleep(0.002)
        settings = to_map({"userspace-tso-enable": "true"})
        row = {"other_config": settings, "next_cfg": 1}
        self.transact({"op": "insert", "table": "Open_vSwitch", "row": row}, what="its first settings")
        program = str(_DPDK_BUILD) if _DPDK_BUILD.exists() else "ovs-vswitchd"
        options = ["--enable-dummy"] if self.datapath == "dummy" else []
        self._vswitchd = self._spawn(
            "ovs-vswitchd", program, "vswitchd", *options, f"unix:{self.database_socket}", netns=self.netns
        )

    def _wait_ready(self) -> None:
        deadline = monotonic() + self.timeout
        wait = {
            "op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"],
            "until": "==", "rows": [{"cur_cfg": 1}], "timeout": 250,
        }  # fmt: skip
        select = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]}
        while True:
            try:
                self.transact(wait)
                return
            except SwitchError:
                self._check_alive(deadline)
                if self.transact(select)[0]["rows"][0]["cur_cfg"] >= 1:
                    return

    def _check_alive(self, deadline: float) -> None:
        for program, process in self.processes.items():
            if process.poll() is not None:
                raise SwitchError(
                    f"{program} of {self.name} ended at once: {self._last_words(program)}",
                    hint=f"See the logs in {self.rundir}.",
                )
        if monotonic() > deadline:
            raise SwitchError(
                f"Open vSwitch of {self.name} is not up after {self.timeout:g} s",
                hint=f"See the logs in {self.rundir}.",
            )

    def _last_words(self, program: str) -> str:
        lines = (self.rundir / f"{program}.err").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _spawn(
        self, label: str, program: str, prefix: str, *args: str, netns: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a daemon in the foreground, with all its files in the rundir."""
        found = shutil.which(program, path=_PATH)
        if not found:
            raise EnvironmentError_(f"{program} is not installed", hint=PACKAGES_HINT)
        folder = self.rundir
        command = ["nsenter", f"--net={netns}", "--"] if netns else []
        command += [
            found, "-vconsole:off", "-vsyslog:off", *args,
            f"--pidfile={folder / prefix}.pid", f"--unixctl={folder / prefix}.ctl",
            f"--log-file={folder / prefix}.log",
        ]  # fmt: skip
        here = str(folder)
        environment: dict[str, Any] = {
            **os.environ, "OVS_RUNDIR": here, "OVS_LOGDIR": here, "OVS_DBDIR": here, "OVS_SYSCONFDIR": here
        }  # fmt: skip
        with (folder / f"{label}.err").open("wb") as errors:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=folder,
                env=environment,
                start_new_session=True,  # a Ctrl-C in the terminal is not meant for the switch
            )


def start_all(instances: Iterable[Instance]) -> None:
    """Start many instances side by side. On an error those that were started are stopped again."""
    started = list(instances)
    steps = (Instance._start_database, Instance._start_vswitchd, Instance._wait_ready)
    try:
        for step in steps:
            for instance in started:
                step(instance)
    except BaseException:
        stop_all(started)
        raise


def stop_all(instances: Iterable[Instance]) -> None:
    """End many instances side by side and wait for their end: each spends most of it in the kernel."""
    ending = list(instances)
    for instance in ending:
        if instance.datapath == "system" and instance.alive():  # the kernel would keep the datapath
            with suppress(SwitchError):
                instance.appctl("exit", "--cleanup")
    processes = [process for instance in ending for process in instance.processes.values()]
    for process in processes:
        if process.poll() is None:
            process.kill()
    for process in processes:
        process.wait()


@cache
def _fresh_database(folder: Path) -> bytes:
    """An empty database; made once, in `folder`, then copied."""
    path = folder / "empty.db"
    tool = shutil.which("ovsdb-tool", path=_PATH)
    if not tool or not _SCHEMA.exists():
        raise EnvironmentError_("Open vSwitch is not installed", hint=PACKAGES_HINT)
    try:
        subprocess.run([tool, "create", str(path), str(_SCHEMA)], check=True, capture_output=True, timeout=30)
        return path.read_bytes()
    except (subprocess.SubprocessError, OSError) as error:
        raise SwitchError(f"cannot create an Open vSwitch database: {error}") from None
    finally:
        path.unlink(missing_ok=True)
