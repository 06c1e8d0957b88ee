"""Every benchmark: the lab's figures and the baselines they are measured against."""

from __future__ import annotations

from benchmarks import (
    command_line,
    flow_install,
    hyperv,
    hyperv_fleet,
    lab,
    mininet_user,
    ovs_normal,
    reactive_first_ping,
    veth,
)
from benchmarks.harness import Benchmark, Sample


def _throughput_with(rules: int) -> Sample:
    return lambda seconds: lab.throughput(rules, seconds=seconds)


def _compare(shape: str) -> Sample:
    return lambda _: hyperv.compare(1000, shape)


def _compare_edited(edit: str) -> Sample:
    return lambda _: hyperv.compare_edited(1000, edit)


BENCHMARKS = (
    Benchmark(
        "command-line",
        "processor time of one call, beside the bare interpreter",
        "ms",
        "interpreter",
        {
            "interpreter": command_line.interpreter,
            "help": command_line.overview,
            "completion": command_line.completion,
            "completion-of-a-guest": command_line.completion_of_a_guest,
            "explain": command_line.explain,
        },
    ),
    Benchmark(
        "tcp",
        "one TCP stream between two guests",
        "Gbit/s",
        "ovs-normal",
        {
            "veth": veth.throughput,
            "ovs-normal": ovs_normal.throughput,
            "mininet-user": mininet_user.throughput,
            "lab-1000-rules": lambda seconds: lab.throughput(1000, seconds=seconds),
        },
    ),
    Benchmark(
        "rules",
        "one TCP stream between two VMs with that many Stateful rules on each adapter",
        "Gbit/s",
        "lab-0",
        {f"lab-{rules}": _throughput_with(rules) for rules in (0, 10, 100, 1000, 10000)},
    ),
    Benchmark(
        "size",
        "one TCP stream between two VMs of one host, in labs of growing size",
        "Gbit/s",
        "lab-2",
        {
            "lab-2": lambda seconds: lab.throughput(10, seconds=seconds),
            "lab-100": lambda seconds: lab.throughput(10, 4, 25, seconds),
            "lab-1000": lambda seconds: lab.throughput(10, 20, 50, seconds),
        },
    ),
    Benchmark(
        "across-hosts",
        "one TCP stream between two VMs of different hosts",
        "Gbit/s",
        "one-host",
        {
            "one-host": lambda seconds: lab.throughput(10, 2, 2, seconds),
            "two-hosts": lambda seconds: lab.throughput(10, 2, 2, seconds, peer="vm01-00"),
        },
    ),
    Benchmark(
        "lab-up",
        "from the request until every switch and every service is ready",
        "s",
        "100-vms",
        {
            "2-vms": lambda _: lab.up_and_down(1, 2)[0],
            "100-vms": lambda _: lab.up_and_down(4, 25)[0],
            "1000-vms": lambda _: lab.up_and_down(20, 50)[0],
        },
    ),
    Benchmark(
        "lab-down",
        "until nothing of the lab is left",
        "s",
        "100-vms",
        {
            "2-vms": lambda _: lab.up_and_down(1, 2)[1],
            "100-vms": lambda _: lab.up_and_down(4, 25)[1],
            "1000-vms": lambda _: lab.up_and_down(20, 50)[1],
        },
    ),
    Benchmark(
        "apply",
        "an apply of 10,000 new rules on 10 VMs, from the request until the switches have confirmed",
        "s",
        "ofctl-bundle",
        {"ofctl-bundle": flow_install.bundle, "apply-100000-flows": lambda _: lab.apply_many()},
    ),
    Benchmark(
        "apply-one",
        "an apply that changes one rule of 10,000",
        "ms",
        "one-of-10000",
        {"one-of-10000": lambda _: lab.apply_one()},
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
            "lab": lambda _: lab.pings().over_steady,
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
            "lab": lambda _: lab.pings().first,
        },
    ),
    Benchmark(
        "flow-install",
        "100,000 flows: one ovs-ofctl bundle, and OS-Ken only serialising its messages",
        "s",
        "ofctl-bundle",
        {"ofctl-bundle": flow_install.bundle, "os-ken-serialise": flow_install.serialise},
    ),
    Benchmark(
        "hyperv-plan",
        "planning for a Hyper-V host without the network; comparing two policies",
        "s",
        "plan-100-adapters-10-rules",
        {
            "plan-100-adapters-10-rules": lambda _: hyperv.plan(100, 10),
            "plan-100-adapters-1000-rules-each": lambda _: hyperv.plan(100, 1000),
            **{f"compare-1000-rules-{shape}": _compare(shape) for shape in hyperv.SHAPES},
            **{f"compare-edited-{edit}": _compare_edited(edit) for edit in hyperv.EDITS},
        },
    ),
    Benchmark(
        "hyperv-fleet",
        "reading modelled Hyper-V hosts over WinRM, each taking 1.5 s by itself, 16 at a time",
        "s",
        "1-host",
        {"1-host": lambda _: hyperv_fleet.export(1), "50-hosts": lambda _: hyperv_fleet.export(50)},
    ),
)
