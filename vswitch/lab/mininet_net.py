"""A lab as a Mininet network: its guests are hosts, its virtual switches switches.

Everything Mininet offers on nodes works (`net.get("web01").cmd("ip addr")`, `popen`, `sendCmd`,
`net.ping`, `net.pingAll`, `net.iperf`, its command line); building and taking down is the lab's own.
Mininet's clean-up by process name is never called.

In a script:

    from vswitch.lab.isolation import enter
    from vswitch.lab.mininet_net import LabNet

    enter()                                   # first of all: starts this script again in a private world
    with LabNet.load("topologies/two-hosts.yaml") as net:
        print(net.get("client").cmd("ping -c1 web01"))
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any, Literal

from mininet.cli import CLI
from mininet.link import Intf, Link
from mininet.log import output
from mininet.net import Mininet
from mininet.node import Host, Node, Switch
from mininet.topo import Topo

from vswitch.errors import EnvironmentError_, LabError
from vswitch.lab.building import namespaces
from vswitch.lab.building.lab import Lab
from vswitch.lab.building.lab_plan import Cable
from vswitch.model.resolving.sources import Sources
from vswitch.model.types import Interface
from vswitch.textfiles import read_text

__all__ = ["GuestNode", "HyperVSwitch", "LabMininet", "LabNet", "LabTopo", "PhysicalSwitch"]

# The lab has a network namespace of its own and needs none of the machine's limits raised.
Mininet.inited = True
# Mininet's command line takes the first word for a node's name; names of guests and switches have these.
CLI.identchars = f"{CLI.identchars}-./"


class _LabNode(Node):
    """A node in a namespace of the lab. Its shell starts with the first command."""

    def __init__(self, name: str, *, netns: str, **params: Any) -> None:
        self.netns = netns
        params["inNamespace"] = False  # it is in one already: nothing to make, nothing to move
        Node.__init__(self, name, **params)

    @classmethod
    def checkSetup(cls) -> None:
        """Mininet would end the process for lack of a program; see `_ensure_shell`."""

    def startShell(self, mnopts: str | None = None) -> None:
        """Not yet: a shell costs 20 ms, and most guests never need one."""

    def _ensure_shell(self) -> None:
        if self.shell:
            return
        if not shutil.which("mnexec"):
            raise EnvironmentError_(
                "mnexec is not installed; Mininet's shells need it",
                hint="On Debian and Ubuntu: sudo apt install mininet",
            )
        super().startShell()

    def _popen(self, cmd: Sequence[str], **params: Any) -> subprocess.Popen[bytes]:
        params.setdefault("start_new_session", True)
        process: subprocess.Popen[bytes] = super()._popen(
            ["nsenter", f"--net={self.netns}", "--", *cmd], **params
        )
        return process

    def popen(self, *args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        """A process in this node; arguments as Mininet's."""
        os.environ.setdefault("SHELL", "/bin/sh")
        kwargs.setdefault("mncmd", [])
        process: subprocess.Popen[bytes] = super().popen(*args, **kwargs)
        return process

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        """Type a command into the node's shell; arguments as Mininet's."""
        self._ensure_shell()
        super().sendCmd(*args, **kwargs)

    def cmd(self, *args: Any, **kwargs: Any) -> str:
        """Run a command in the node's shell and return its output; arguments as Mininet's."""
        self._ensure_shell()
        return str(super().cmd(*args, **kwargs))

    def config(self, **_params: Any) -> dict[str, Any]:
        """Nothing: the lab has set everything."""
        return {}


class GuestNode(_LabNode, Host):
    """A guest: a VM, a management OS, or a machine on a physical network."""

    def IP(self, intf: Intf | None = None) -> str | None:
        """The address of an interface; without one, the guest's first address."""
        if intf is None:
            return next((str(each.IP()) for each in self.intfList() if each.IP()), None)
        address: str | None = super().IP(intf)
        return address


class _LabSwitch(_LabNode, Switch):
    """A bridge of the lab. Starting or stopping any one of them starts or stops the whole lab."""

    def __init__(self, name: str, *, netns: str, run: _Run, bridge: str, socket: str, **params: Any) -> None:
        self.dpid, self.opts, self.listenPort, self.controlIntf = "", "", None, None
        self.run, self.bridge, self.socket = run, bridge, socket
        _LabNode.__init__(self, name, netns=netns, **params)

    def start(self, controllers: Sequence[Any]) -> None:
        """Start the lab; it brings its own controller."""
        self.run.start()

    def stop(self, deleteIntfs: bool = True) -> None:
        """Stop the lab."""
        self.run.stop()

    def dpctl(self, *args: str) -> str:
        """`ovs-ofctl` for this bridge: the command, then its arguments."""
        command = ["ovs-ofctl", "-O", "OpenFlow15", args[0], f"unix:{self.socket}", *args[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


class HyperVSwitch(_LabSwitch):
    """A virtual switch of a Hyper-V host; the node's name is `host/switch`."""


class PhysicalSwitch(_LabSwitch):
    """A physical network; the node's name is `network/<name>`."""


class _LabIntf(Intf):
    """An interface the lab has made and set up."""

    def __init__(self, name: str, node: Node, link: Link, mac: str = "", addresses: Sequence[Interface] = ()):
        first = next((each for each in addresses if each.version == 4), next(iter(addresses), None))
        self.name, self.node, self.link, self.mac = name, node, link, mac or None
        self.ip = str(first.ip) if first else None
        self.prefixLen = first.network.prefixlen if first else None
        self.params: dict[str, Any] = {}
        node.addIntf(self, moveIntfFn=lambda *_: None)


class _LabLink(Link):
    """A cable of the lab."""

    def __init__(
        self, node1: Node, node2: Node, *, names: tuple[str, str], cable: Cable | None = None, **_: Any
    ):
        mac, addresses = (cable.mac, cable.addresses) if cable else ("", ())
        self.intf1 = _LabIntf(names[0], node1, self, mac, addresses)
        self.intf2 = _LabIntf(names[1], node2, self)

    def stop(self) -> None:
        """Nothing: it goes with its namespaces."""

    def delete(self) -> None:
        """Nothing: it goes with its namespaces."""


class _Run:
    """Starts and stops a lab once, whichever node is asked first."""

    def __init__(self, lab: Lab, *, is_up: bool = False) -> None:
        self.lab, self.is_up = lab, is_up

    def start(self) -> None:
        if not self.is_up:
            self.is_up = True
            self.lab.up()

    def stop(self) -> None:
        if self.is_up:
            self.is_up = False
            self.lab.down()


class LabTopo(Topo):
    """A lab as a Mininet topology: for `Mininet(topo=...)` and the `mn` command."""

    def build(self, lab: Lab, is_up: bool = False) -> None:
        """Name the nodes and links of `lab`; it comes up with the network's start, unless `is_up`."""
        run = _Run(lab, is_up=is_up)
        self.run = run
        plan, site = lab.plan, lab.site
        folder = {each.namespace: lab.rundir / each.rundir for each in plan.instances}
        owner: dict[tuple[str, str], str] = {}  # switch end of a cable to node

        def add_switch(
            name: str, cls: type[_LabSwitch], namespace: str, bridge: str, ports: list[str]
        ) -> None:
            socket = str(folder[namespace] / f"{bridge}.mgmt")
            netns = namespaces.path_of(namespace)
            self.addSwitch(name, cls=cls, netns=netns, run=run, bridge=bridge, socket=socket)
            owner.update({(namespace, port): name for port in ports})

        host_of = {each.name: each for each in plan.hosts}
        for switch in site.switch.values():
            namespace = host_of[switch.host].namespace
            ports = [f"p{switch.uplink}"]
            for adapter in site.adapters_of(switch):
                end = f"e{adapter.number}"
                ports += [adapter.port_name, end, *(f"{end}v{vlan}" for vlan, _ in adapter.tagged_addresses)]
            add_switch(switch.id, HyperVSwitch, namespace, switch.bridge, ports)
        for network in plan.networks:
            (bridge,) = network.bridges
            names = [port.name for port in bridge.ports]
            add_switch(f"network/{network.name}", PhysicalSwitch, network.namespace, bridge.name, names)
        for guest in plan.guests:
            name = guest.guest.name
            self.addHost(name, cls=GuestNode, netns=namespaces.path_of(guest.namespace))
            for cable in guest.cables:
                far, names2 = owner[cable.far, cable.far_name], (cable.interface, cable.far_name)
                self.addLink(name, far, cls=_LabLink, names=names2, cable=cable)
        for one, name, other, other_name in plan.uplinks:
            ends = (name, other_name)
            self.addLink(owner[one, name], owner[other, other_name], cls=_LabLink, names=ends)


class LabMininet(Mininet):
    """Mininet, with a TCP and UDP test that ends: its own waits for words today's iperf does not say."""

    def ping(self, hosts: Sequence[Host] | None = None, timeout: str | None = None) -> float:
        """Ping between all (or these) guests that have an address; the percentage lost."""
        return float(super().ping([host for host in hosts or self.hosts if host.IP()], timeout))

    def iperf(
        self,
        hosts: Sequence[Host] | None = None,
        l4Type: str = "TCP",
        udpBw: str = "10M",
        fmt: str | None = None,
        seconds: float = 5,
        port: int = 5001,
    ) -> list[str]:
        """Measure from `hosts[0]` to `hosts[1]` with iperf3; arguments and result as Mininet's.

        The result is the speeds the server and the client saw, after `udpBw` for UDP. Raises LabError if
        the client cannot reach the server.
        """
        client, server = hosts or (self.hosts[0], self.hosts[-1])
        output(f"*** Iperf: testing {l4Type} bandwidth between {client} and {server}\n")
        common = ["-p", str(port), "-f", fmt or "g"]
        load = ["-u", "-b", udpBw] if l4Type == "UDP" else []
        serving = server.popen(["iperf3", "-s", "-1", "--forceflush", *common])
        try:
            for line in serving.stdout or ():
                if b"listening" in line:
                    break
            length = str(max(1, round(seconds)))
            command = ["iperf3", "-c", server.IP(), "-t", length, "--connect-timeout", "5000", *common, *load]
            measuring = client.popen(command)
            out, error = (text.decode() for text in measuring.communicate(timeout=seconds + 30))
        except subprocess.TimeoutExpired:
            measuring.kill()
            raise LabError(f"iperf3 from {client} to {server} does not end") from None
        finally:
            serving.kill()
            serving.communicate()
        speeds = re.findall(r"([\d.]+ \S+/sec).*(?:sender|receiver)", out)
        if measuring.returncode or len(speeds) < 2:
            raise LabError(f"iperf3 from {client} to {server} failed: {(error or out).strip()}")
        result = [*([udpBw] if l4Type == "UDP" else []), speeds[-1], speeds[-2]]
        output(f"*** Results: {result}\n")
        return result


class LabNet(LabMininet):
    """The Mininet network of `lab`. `is_up` says that it runs already (then `stop` is not its job)."""

    def __init__(self, lab: Lab, *, is_up: bool = False) -> None:
        self.lab = lab
        super().__init__(topo=LabTopo(lab=lab, is_up=is_up), controller=None, build=True)

    @classmethod
    def load(
        cls,
        layout: str,
        policies: Sequence[str] | None = None,
        *,
        switching: Literal["hyper-v", "normal"] = "hyper-v",
        datapath: Literal["netdev", "system"] = "netdev",
    ) -> LabNet:
        """The network of a layout file (and policy files in the place of those it names), not started yet.

        `switching` and `datapath` are `Lab`'s. Raises InputErrors.
        """
        site, sources = Sources.read(layout, policies, read=read_text)
        return cls(Lab(site, sources, switching=switching, datapath=datapath))

    def start(self) -> None:
        """Build the lab and wait until it is up. Raises as `Lab.up`; nothing is left then."""
        try:
            super().start()
        except BaseException:
            self.topo.run.stop()
            raise

    def __enter__(self) -> LabNet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
