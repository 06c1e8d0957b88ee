"""Requests to a running Open vSwitch instance, given the folder of its sockets.

Any process may hold a client: the lab's supervisor and the controller use the same instance.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from vswitch.errors import EnvironmentError_, SwitchError, SwitchTimeout
from vswitch.openvswitch import database
from vswitch.openvswitch.conntrack import TrackedConnection, parse_connections
from vswitch.openvswitch.database import BridgeSpec
from vswitch.openvswitch.flows import FlowStats, parse_flows, sum_counters
from vswitch.openvswitch.jsonrpc import call
from vswitch.openvswitch.meters import parse_meter_drops, parse_meters
from vswitch.openvswitch.trace import Trace, parse_ports, parse_trace

__all__ = ["PACKAGES_HINT", "SwitchClient"]

PACKAGES_HINT = "Install the Debian or Ubuntu packages openvswitch-switch and openvswitch-switch-dpdk."

#: Characters of flow changes that a slow, busy machine takes in within a second.
_SLOWEST = 100_000

_BAD_LINE = re.compile(r"ovs-ofctl: -:(\d+): (.*)")
_REFUSED = re.compile(r"Error (\S+) for: OFPT_FLOW_MOD [^:]*: (.*)")


class SwitchClient:
    """Talks to the instance whose sockets are in `rundir`.

    `datapath` is "netdev" (userspace) or "system" (the kernel's module). `timeout` bounds every
    request, in seconds. All methods raise SwitchError when Open vSwitch refuses or does not answer.
    """

    def __init__(self, rundir: Path, *, datapath: str = "netdev", timeout: float = 30.0) -> None:
        self.rundir = rundir
        self.datapath = datapath
        self.timeout = timeout
        self._ports: dict[int, str] = {}

    # -- plain requests ------------------------------------------------------------------------

    @property
    def database_socket(self) -> Path:
        """Where ovsdb-server listens."""
        return self.rundir / "db.sock"

    def management_socket(self, bridge: str) -> Path:
        """Where `bridge` takes OpenFlow connections of tools such as ovs-ofctl."""
        return self.rundir / f"{bridge}.mgmt"

    def appctl(self, *args: str) -> str:
        """Run a control command of ovs-vswitchd (`ovs-appctl`'s words); returns what it prints."""
        command, *rest = args
        return str(call(self.rundir / "vswitchd.ctl", command, rest, self.timeout) or "")

    def transact(self, *operations: Mapping[str, Any], what: str = "a request") -> list[Any]:
        """One OVSDB transaction; returns one result for each operation.

        Raises SwitchError naming `what` if any operation failed (then none took effect).
        """
        reply = call(self.database_socket, "transact", ["Open_vSwitch", *operations], self.timeout)
        return database.results(reply, what)

    def configure(self, operations: Sequence[Mapping[str, Any]], what: str) -> None:
        """A transaction that changes the configuration; returns when ovs-vswitchd has acted on it."""
        *_, last = self.transact(*operations, *database.raise_next_cfg(), what=what)
        wanted = last["rows"][0]["next_cfg"]
        deadline = monotonic() + self.timeout
        select = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]}
        while True:
            current = self.transact(select)[0]["rows"][0]["cur_cfg"]
            if current >= wanted:
                return
            milliseconds = int((deadline - monotonic()) * 1000)
            if milliseconds <= 0:
                raise SwitchError(
                    f"Open vSwitch has not finished {what} after {self.timeout:g} s",
                    hint=f"See {self.rundir}/vswitchd.log.",
                )
            # Blocks in the database until the value is another one, at most a second.
            wait = {
                "op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"],
                "until": "!=", "rows": [{"cur_cfg": current}], "timeout": min(milliseconds, 1000),
            }  # fmt: skip
            call(self.database_socket, "transact", ["Open_vSwitch", wait], self.timeout)

    # -- bridges and ports ---------------------------------------------------------------------

    def add_bridges(self, bridges: Iterable[BridgeSpec]) -> None:
        """Add bridges with all their ports in one transaction.

        Returns when every port is forwarding under the OpenFlow number it asked for. Raises SwitchError
        naming the first interface of which that is not true.
        """
        specs = list(bridges)
        self.configure(database.add_bridges(specs, self.datapath), "adding bridges")
        columns = ["name", "ofport", "error"]
        select = {"op": "select", "table": "Interface", "where": [], "columns": columns}
        database.check_ports(specs, self.transact(select)[0]["rows"])
        if self.datapath == "netdev" and specs:
            # Frames reach the switch coalesced by offloads, so windows are not what conntrack expects.
            self.appctl("dpctl/ct-disable-tcp-seq-chk")

    def ports(self) -> dict[str, dict[str, int]]:
        """Interface name to its counters (rx_packets, tx_packets, rx_bytes, rx_dropped, ...).

        Open vSwitch refreshes them every five seconds.
        """
        select = {"op": "select", "table": "Interface", "where": [], "columns": ["name", "statistics"]}
        rows = self.transact(select)[0]["rows"]
        return {row["name"]: dict(row["statistics"][1]) for row in rows}

    # -- flows ---------------------------------------------------------------------------------

    def bundle(self, bridge: str, lines: str) -> None:
        """Apply flow changes to `bridge` all together or not at all.

        `lines` are in ovs-ofctl's syntax, one change a line, each beginning with add, modify, delete or
        delete_strict. Raises SwitchError showing the line at fault, and SwitchTimeout if there is no answer:
        the change may then still be made later.
        """
        if not lines.strip():
            return
        status, _, stderr = self._ofctl("OpenFlow14", "--bundle", "add-flows", bridge, "-", text=lines)
        if status == 0:
            return
        if bad := _BAD_LINE.search(stderr):
            line = lines.splitlines()[int(bad[1]) - 1]
            raise SwitchError(f"bridge {bridge}: {bad[2]} in the flow `{line}`")
        if refused := _REFUSED.search(stderr):
            raise SwitchError(f"bridge {bridge} refused the flow `{refused[2]}` ({refused[1]})")
        raise SwitchError(f"bridge {bridge}: changing flows failed: {stderr.strip()}")

    def match_fragments(self, bridge: str) -> None:
        """Have `bridge` match the first fragment of a packet by its ports; by default no fragment is."""
        status, _, stderr = self._ofctl("OpenFlow14", "set-frags", bridge, "nx-match")
        if status:
            raise SwitchError(f"bridge {bridge}: {stderr.strip()}")

    def dump_text(self, bridge: str, table: int | None = None) -> str:
        """The flows of `bridge` as ovs-ofctl prints them, all tables or one."""
        select = [] if table is None else [f"table={table}"]
        # OpenFlow 1.5 is the first standard version whose flow dumps carry the idle age.
        status, stdout, stderr = self._ofctl("OpenFlow15", "--no-names", "dump-flows", bridge, *select)
        if status:
            raise SwitchError(f"cannot read the flows of bridge {bridge}: {stderr.strip()}")
        return stdout

    def dump_flows(self, bridge: str, table: int | None = None) -> list[FlowStats]:
        """The flows of `bridge` with their counters, all tables or one."""
        return parse_flows(self.dump_text(bridge, table))

    def counters(self, bridge: str) -> dict[int, tuple[int, int]]:
        """Cookie to (packets, bytes), summed over the flows of `bridge`.

        Counters follow the datapath within about a second; call `settle` first to have them exact.
        """
        return sum_counters(self.dump_text(bridge))

    # -- meters --------------------------------------------------------------------------------

    def meters(self, bridge: str) -> dict[int, str]:
        """The meters of `bridge`: number to text as `change_meters` takes it."""
        return parse_meters(self._meter("dump-meters", bridge))

    def change_meters(self, bridge: str, changes: Iterable[tuple[str, str]]) -> None:
        """Change meters one after the other, each (add-meter, mod-meter or del-meter, text).

        In force at once. No bundle holds meters: a flow is refused while its meter is missing, and goes
        with it.
        """
        for command, text in changes:
            self._meter(command, bridge, text)

    def meter_drops(self, bridge: str) -> dict[int, tuple[int, int]]:
        """What each meter of `bridge` has dropped: number to (packets, bytes)."""
        return parse_meter_drops(self._meter("meter-stats", bridge))

    def _meter(self, command: str, bridge: str, *text: str) -> str:
        status, stdout, stderr = self._ofctl("OpenFlow14", command, bridge, *text)
        if status:
            raise SwitchError(f"bridge {bridge}: {' '.join((command, *text))} failed: {stderr.strip()}")
        return stdout

    # -- the datapath --------------------------------------------------------------------------

    def settle(self) -> None:
        """Make the datapath forget what it remembers of the flow tables, and count every packet it has seen.

        After it, no packet meets a verdict of flows changed before, and counters and learned entries
        are exact. Packets under way are not lost: the next of each flow looks the tables up again.
        In userspace one thread takes both packets and changes of the tables, so nothing that was being
        looked up before can be remembered after; the kernel's lookups are waited for, which takes up to
        half a second.
        """
        self.appctl("revalidator/purge")
        if self.datapath == "system":
            self.appctl("revalidator/wait")

    def trace(self, bridge: str, flow: str, ct_next: Sequence[str] = ()) -> Trace:
        """Follow a frame, written as an ovs-ofctl flow, through `bridge` without sending it.

        Write UDP ports as udp_src and udp_dst: here Open vSwitch reads tp_src as TCP's.
        `ct_next` holds the conntrack state ("trk,est") of each recirculation in order; where it ends,
        Open vSwitch assumes "trk,new". Learned flows are not changed.
        """
        states = [word for state in ct_next for word in ("--ct-next", state)]
        text = self.appctl("ofproto/trace", bridge, flow, *states)
        trace = parse_trace(text, self._ports)
        if any(output.isdigit() for output in trace.outputs):  # a port younger than the map
            self._ports = parse_ports(self.appctl("dpif/show"))
            trace = parse_trace(text, self._ports)
        return trace

    def _ofctl(self, version: str, *args: str, text: str | None = None) -> tuple[int, str, str]:
        """Run ovs-ofctl; the bridge's name in `args` (after the command) becomes its socket."""
        position = next(index for index, word in enumerate(args) if not word.startswith("-")) + 1
        words = [*args[:position], f"unix:{self.management_socket(args[position])}", *args[position + 1 :]]
        command = ["ovs-ofctl", "-vconsole:off", "-O", version, *words]
        return self._run(command, text)

    def _run(self, command: list[str], text: str | None) -> tuple[int, str, str]:
        # What is much to say takes long to do.
        timeout = self.timeout + len(text or "") / _SLOWEST
        standard_input: dict[str, Any] = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False, **standard_input
            )
        except FileNotFoundError:
            raise EnvironmentError_(f"{command[0]} is not installed", hint=PACKAGES_HINT) from None
        except subprocess.TimeoutExpired:
            raise SwitchTimeout(f"{command[0]} did not end within {timeout:g} s") from None
        return done.returncode, done.stdout, done.stderr

    # -- conntrack -----------------------------------------------------------------------------

    def set_zone_timeouts(self, zones: Mapping[int, int]) -> None:
        """Give exactly these conntrack zones an idle timeout in seconds; other zones get the defaults.

        One transaction, none if nothing changes. A connection takes the timeout of its zone when it is
        committed.
        """
        datapath, zone = self.transact(
            {"op": "select", "table": "Datapath", "where": [], "columns": ["_uuid", "ct_zones"]},
            {"op": "select", "table": "CT_Zone", "where": [], "columns": ["_uuid", "external_ids"]},
        )
        current = database.zone_timeouts(datapath["rows"], zone["rows"]) if datapath["rows"] else None
        operations = database.set_zone_timeouts(self.datapath, current=current, wanted=zones)
        if operations:
            self.configure(operations, "setting idle timeouts")

    def connections(self, zone: int | None = None) -> list[TrackedConnection]:
        """The tracked connections, of all zones or one."""
        select = [] if zone is None else [f"zone={zone}"]
        return parse_connections(self.appctl("dpctl/dump-conntrack", "-s", *select))

    def flush_connections(
        self, zone: int, unwanted: Callable[[TrackedConnection], bool] | int | None = None
    ) -> int:
        """End connections of `zone`: those with this ct_mark, those `unwanted` is true for, or (None) all.

        Returns how many were ended. Their packets meet the ACLs again from then on.
        """
        entries = self.connections(zone)
        if unwanted is None:
            self.appctl("dpctl/flush-conntrack", f"zone={zone}")
            return len(entries)
        if isinstance(unwanted, int):
            ended = [entry for entry in entries if entry.mark == unwanted]
        else:
            ended = [entry for entry in entries if unwanted(entry)]
        for entry in ended:
            try:
                self.appctl("dpctl/flush-conntrack", f"zone={zone}", entry.tuple_text)
            except SwitchError as error:
                if "No such file" not in error.message:  # it may have ended by itself meanwhile
                    raise
        return len(ended)
