"""Baseline: Mininet as it comes, with OVSSwitch(datapath='user') and two hosts.

The hosts' checksum and segmentation offloads are switched off: without that, TCP does not work at all
on that datapath with the plain build, because nobody fills in the checksums.
"""

from __future__ import annotations

from functools import partial

from mininet.net import Mininet
from mininet.node import OVSSwitch
from mininet.topo import SingleSwitchTopo

from benchmarks import rig
from benchmarks.measure import tcp_throughput


def throughput(seconds: float) -> float:
    """Gbit/s."""
    rig.start_plain_open_vswitch()
    Mininet.inited = True  # its own initialisation would write system-wide settings of this machine
    switch = partial(OVSSwitch, datapath="user", failMode="standalone")
    net = Mininet(topo=SingleSwitchTopo(2), switch=switch, controller=None)
    net.start()
    first, second = net.hosts
    for host in net.hosts:
        rig.call("mnexec", "-a", str(host.pid), "ethtool", "-K", f"{host.name}-eth0", "tx", "off")
    try:
        server, client = (("mnexec", "-a", str(host.pid)) for host in (second, first))
        return tcp_throughput(server, client, second.IP(), seconds) / 1e9
    finally:
        net.stop()
