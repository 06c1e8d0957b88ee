"""The numerators: what a lab does. Each function runs in a private world and returns one figure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import Pings, first_ping, tcp_throughput
from vswitch.lab.building.lab import Lab
from vswitch.lab.process import client
from vswitch.lab_answers import ApplyReport
from vswitch.model.resolving.sources import Sources

LAYOUT, POLICY = "layout.yaml", "policy.yaml"
EXTENSIONS = ("vswitch.diagnose.question_operations",)


def layout(hosts: int, vms: int) -> str:
    """A layout of `hosts` with `vms` each on one physical network."""
    lines = ["name: benchmark", "networks: {lan: {}}", "hosts:"]
    for host in range(hosts):
        lines += [f"  hv{host:02}:", "    switches: {vs: {type: External, network: lan}}", "    vms:"]
        for number in range(vms):
            address = f"10.{host}.{number // 250}.{number % 250 + 1}/8"
            lines.append(
                f"      vm{host:02}-{number:02}: "
                f"{{adapters: [{{switch: vs, addresses: [{address}]}}], services: [http]}}"
            )
    return "\n".join(lines) + "\n"


def policy(rules: int, vms: int = 2, changed: bool = False) -> str:
    """`rules` extended rules on each of `vms` VMs of the first host, Stateful; the last one admits all TCP.

    `changed`: one rule in the middle has another TCP port.
    """
    lines = ["extended_acls:"]
    for number in range(vms):
        for index in range(rules - 1):
            port = 9 if changed and number == 0 and index == rules // 2 else 1000 + index % 5000
            source = f"172.{16 + index // 62500}.{index // 250 % 250}.{index % 250 + 1}"
            lines.append(
                f"  - {{name: r{number}-{index}, adapters: vm00-{number:02}, direction: Inbound, "
                f"action: Allow, protocol: TCP, local_port: {port}, remote_ip_address: {source}, "
                f"weight: {60000 - index}, stateful: true}}"
            )
        if rules:
            lines.append(
                f"  - {{name: all{number}, adapters: vm00-{number:02}, direction: Inbound, action: Allow, "
                "protocol: TCP, weight: 2, stateful: true}"
            )
    return "\n".join(lines) + "\n" if rules else "extended_acls: []\n"


def sources(layout_text: str, policy_text: str | None = None) -> Sources:
    """A lab's files."""
    texts = {LAYOUT: layout_text}
    if policy_text is not None:
        texts[POLICY] = policy_text
    return Sources(LAYOUT, texts, (POLICY,) if policy_text else ())


@contextmanager
def running(layout_text: str, policy_text: str | None = None) -> Iterator[Lab]:
    """A lab in this very process and world."""
    files = sources(layout_text, policy_text)
    lab = Lab(files.site(), files)
    lab.up()
    try:
        yield lab
    finally:
        lab.down()


def place(lab: Lab, guest: str) -> tuple[str, ...]:
    """The command prefix that runs something in a guest."""
    return ("nsenter", f"--net={lab.guest_netns(guest)}")


def throughput(
    rules: int, hosts: int = 1, vms: int = 2, seconds: float = 3.0, peer: str = "vm00-01"
) -> float:
    """Gbit/s of one TCP stream from vm00-00 to `peer`, with `rules` on each of the two adapters."""
    with running(layout(hosts, vms), policy(rules)) as lab:
        address = str(lab.site.guest[peer].addresses[0].ip)
        return tcp_throughput(place(lab, peer), place(lab, "vm00-00"), address, seconds) / 1e9


def pings() -> Pings:
    """The first ping after start and the steady median, in a lab of two VMs with the policy of 10 rules."""
    ping = "  - {name: icmp, adapters: '*', direction: Both, action: Allow, protocol: ICMP, weight: 1}\n"
    with running(layout(1, 2), policy(10) + ping) as lab:
        return first_ping(place(lab, "vm00-00"), "10.0.0.2")


def up_and_down(hosts: int, vms: int) -> tuple[float, float]:
    """Seconds until a lab is up, and until nothing of it is left."""
    files = sources(layout(hosts, vms))
    began = time.perf_counter()
    client.start("benchmark", files, extensions=EXTENSIONS)
    up = time.perf_counter() - began
    began = time.perf_counter()
    client.down("benchmark")
    return up, time.perf_counter() - began


def apply_many(rules: int = 10_000, vms: int = 10) -> float:
    """Seconds from an apply's request until the switches have confirmed `rules` rules on each of the VMs."""
    lines = ["extended_acls:"]
    lines += [
        f"  - {{name: r{index}, adapters: 'vm00-*', direction: Inbound, action: Allow, protocol: TCP, "
        f"local_port: {1000 + index % 5000}, remote_ip_address: 172.16.{index // 250}.{index % 250 + 1}, "
        f"weight: {60000 - index}, stateful: true}}"
        for index in range(rules)
    ]
    with running(layout(1, vms), "extended_acls: []\n") as lab:
        report = _apply(lab, "\n".join(lines) + "\n")
        if (report.flows_changed or 0) < rules * vms:
            raise RuntimeError(f"only {report.flows_changed} flows changed")
        return report.seconds


def apply_one() -> float:
    """Milliseconds of an apply that changes one rule of 10,000, as the one who asks sees it."""
    vms = 10
    with running(layout(1, vms), policy(1000, vms)) as lab:
        _apply(lab, policy(1000, vms))
        began = time.perf_counter()
        report = _apply(lab, policy(1000, vms, changed=True))
        took = time.perf_counter() - began
        if report.flows_changed != 1:
            raise RuntimeError(f"{report.flows_changed} flows changed")
        return took * 1000


def _apply(lab: Lab, text: str) -> ApplyReport:
    return ApplyReport.from_dict(lab.ask_controller("apply", policies=[POLICY], texts={POLICY: text}))
