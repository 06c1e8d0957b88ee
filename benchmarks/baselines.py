"""The baselines: what the lab's figures are measured against."""

from __future__ import annotations

from benchmarks import flow_install, mininet_user, ovs_normal, reactive_first_ping, veth
from benchmarks.harness import Benchmark

BENCHMARKS = (
    Benchmark(
        "tcp",
        "one TCP stream between two guests",
        "Gbit/s",
        "ovs-normal",
        {
            "veth": veth.throughput,
            "ovs-normal": ovs_normal.throughput,
            "mininet-user": mininet_user.throughput,
        },
    ),
    Benchmark("veth", "one TCP stream over a bare veth pair", "Gbit/s", "veth", {"veth": veth.throughput}),
    Benchmark(
        "ovs-normal",
        "one TCP stream through Open vSwitch with a single NORMAL flow",
        "Gbit/s",
        "veth",
        {"veth": veth.throughput, "ovs-normal": ovs_normal.throughput},
    ),
    Benchmark(
        "mininet-user",
        "one TCP stream through Mininet's OVSSwitch(datapath='user'), guest offloads off",
        "Gbit/s",
        "ovs-normal",
        {"ovs-normal": ovs_normal.throughput, "mininet-user": mininet_user.throughput},
    ),
    Benchmark(
        "reactive-first-ping",
        "first ping over the steady median, with a reactive OS-Ken learning switch",
        "times",
        "ovs-normal",
        {
            "ovs-normal": lambda _: ovs_normal.pings().over_steady,
            "reactive": lambda _: reactive_first_ping.pings().over_steady,
        },
    ),
    Benchmark(
        "first-ping",
        "first ping after start, address resolution included",
        "ms",
        "ovs-normal",
        {
            "ovs-normal": lambda _: ovs_normal.pings().first,
            "reactive": lambda _: reactive_first_ping.pings().first,
        },
    ),
    Benchmark(
        "flow-install",
        "100,000 flows: one ovs-ofctl bundle, and OS-Ken only serialising its messages",
        "s",
        "ofctl-bundle",
        {"ofctl-bundle": flow_install.bundle, "os-ken-serialise": flow_install.serialise},
    ),
)
