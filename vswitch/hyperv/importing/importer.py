"""Host states written as a layout and a policy that load, and run as a lab, at once.

What cannot be seen from outside is a comment: what listens in guests, their firewalls, prefix lengths
and gateways, which physical networks are one. What the files cannot hold is a comment too, so that
nothing is lost silently.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, ip_address, ip_interface

from vswitch.hyperv.host.host_state import HostAdapter, HostState, HostSwitch
from vswitch.hyperv.importing.nat_network import ImportedNat, Untold, first_nat
from vswitch.hyperv.importing.policy_writer import RuleTarget, policy_text
from vswitch.hyperv.importing.port_options import port_notes, port_parts
from vswitch.hyperv.importing.vlan_words import ranges, vlan_of, vlan_text
from vswitch.hyperv.importing.yaml_scalars import Names, comment, scalar
from vswitch.model.resolving.macs import made_up_macs
from vswitch.model.types import Interface, SwitchType, Vlan

__all__ = ["Imported", "import_hosts"]

_USUAL_EXTENSION = "Microsoft Windows Filtering Platform"


@dataclass(frozen=True, slots=True)
class Imported:
    """Texts of the two files, and what an administrator should know about them."""

    layout: str
    policy: str
    notes: tuple[str, ...]


def import_hosts(states: Sequence[tuple[str, HostState]], *, layout_file: str, policy_file: str) -> Imported:
    """A layout and a policy for hosts, each with the name users call it by."""
    return _Importer(states, os.path.relpath(policy_file, os.path.dirname(layout_file) or ".")).run()


def _in_order(state: HostState) -> HostState:
    """The state in an order of its own: a host may list its things in any order, any time."""
    return replace(
        state,
        switches=tuple(sorted(state.switches, key=lambda switch: (switch.name, switch.id))),
        vms=tuple(sorted(state.vms, key=lambda vm: (vm[1], vm[0]))),
        adapters=tuple(sorted(state.adapters, key=lambda each: (each.vm_name, each.name, each.id))),
    )


# --- the layout ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Importer:
    states: Sequence[tuple[str, HostState]]
    policy_path: str
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    targets: list[RuleTarget] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    macs: set[str] = field(default_factory=set)
    segments: set[tuple[str, int, str]] = field(default_factory=set)
    networks: dict[str, str] = field(default_factory=dict)  # by name of the external switch
    network_names: Names = field(default_factory=Names)

    def run(self) -> Imported:
        hosts = [
            (self.names.take(name or state.computer, "host"), _in_order(state)) for name, state in self.states
        ]
        body: list[str] = []
        networks: dict[str, set[int]] = {}
        for host, state in hosts:
            self.lines = []
            self.host(host, state, networks)
            body += self.lines
        times = ", ".join(f"{host} at {state.time or 'an unknown time'}" for host, state in hosts)
        head = [
            f"# Imported from {comment(times)}.",
            "# What listens in a guest, and what its firewall does, cannot be seen: write `services:`.",
            "# Prefix lengths of guests are guesses; gateways are not known: write `gateways:"
            " {VLAN: ADDRESS/LENGTH}`.",
            f"name: {_lab_name(hosts)}",
        ]
        if networks:
            head.append("networks:  # external switches of one name are taken to be on one physical network")
            for network, vlans in networks.items():
                head.append(f"  {scalar(network)}: {{vlans: {ranges(vlans - {0})}}}")
        layout = "\n".join([*head, "hosts:", *body, f"policies: [{scalar(self.policy_path)}]"]) + "\n"
        policy, untold = policy_text(self.targets, times)
        self.notes += [f"left out of the policy: {text}" for text in untold]
        return Imported(layout, policy, tuple(dict.fromkeys(self.notes)))

    def say(self, indent: int, text: str) -> None:
        """Something the layout has no word for."""
        self.lines.append(f"{' ' * indent}# {comment(text)}")

    def tell(self, indent: int, what: str, text: str) -> None:
        """The same, as a note as well."""
        self.say(indent, text)
        self.notes.append(f"{what}: {text}")

    def host(self, host: str, state: HostState, networks: dict[str, set[int]]) -> None:
        self.lines.append(f"  {scalar(host)}:")
        self.say(4, f"{state.computer}, {state.system}")
        for text in state.teams:
            self.say(4, f"team {text}")
        nat, untold = first_nat(state.nats)
        self.leave_out(host, untold)
        for unread in state.unread:
            self.say(4, f"not read: {unread}")
            self.notes.append(f"{host}: not read: {unread}")
        switches = self.switches(host, state, networks)
        management = [adapter for adapter in state.adapters if adapter.is_management_os]
        connected = [
            adapter
            for adapter in management
            if adapter.switch_id in switches and switches[adapter.switch_id][2].type is not SwitchType.PRIVATE
        ]
        unplugged = [adapter for adapter in management if adapter not in connected]
        used = {adapter.switch_id for adapter in connected}
        # An Internal switch always reaches the host; its adapter must not pass for another one.
        taken = {adapter.name for adapter in management}
        connected += [
            HostAdapter(
                f"{host}/{name}",
                f"{switch.name} (not listed)" if switch.name in taken else switch.name,
                is_management_os=True,
                switch_id=switch_id,
            )
            for switch_id, (name, _, switch) in switches.items()
            if switch.type is SwitchType.INTERNAL and switch_id not in used
        ]
        if nat:
            internal = [each for each in connected if switches[each.switch_id][2].type is SwitchType.INTERNAL]
            connected, untold = nat.with_inside(connected, internal, state.adapters)
            self.leave_out(host, untold)
        if connected:
            self.lines.append("    management_os:")
            self.lines.append("      # services: [winrm, rdp]")
        written = self.adapters(host, host, connected, switches, networks, 6, nat) if connected else []
        if nat:
            lines, untold = nat.written(written)
            self.leave_out(host, untold)
            self.lines += [f"{key}{scalar(value) if value else ''}" for key, value in lines]
        for adapter in unplugged:
            self.unconnected(4, adapter)
        by_vm: dict[str, list[HostAdapter]] = {vm: [] for vm, _ in state.vms}
        labels = dict(state.vms)
        for adapter in state.adapters:
            if not adapter.is_management_os:
                by_vm.setdefault(adapter.vm_id, []).append(adapter)
                labels.setdefault(adapter.vm_id, adapter.vm_name)
        if by_vm:
            self.lines.append("    vms:")
        for vm, adapters in by_vm.items():
            name = self.names.take(labels[vm], "vm")
            self.lines.append(f"      {scalar(name)}:")
            if name != labels[vm]:
                self.say(8, f"on the host: {labels[vm]} ({vm})")
                self.notes.append(f"{host}: the VM {labels[vm]!r} is called {name!r} in the layout")
            if vm not in state.running:
                self.say(8, "off on the host; here it runs")
            self.lines.append("        # services: []")
            plugged = [adapter for adapter in adapters if adapter.switch_id in switches]
            for adapter in adapters:
                if adapter not in plugged:
                    self.unconnected(8, adapter)
            written = self.adapters(host, name, plugged, switches, networks, 8, nat)
            gateway = nat.gateway_of(written) if nat else ""
            if gateway:
                self.lines.append(
                    f"        gateway: {gateway}  # assumed: the host's own address, for its NAT"
                )

    def leave_out(self, host: str, untold: Iterable[Untold]) -> None:
        """What the layout cannot have of a host, and why."""
        for what, why in untold:
            self.say(4, f"{what}: {why}")
            self.notes.append(f"{host}: {what}: {why}")

    def unconnected(self, indent: int, adapter: HostAdapter) -> None:
        count = len(adapter.entries)
        text = f"not connected, left out: adapter {adapter.name} with {count} ACL entries"
        self.tell(indent, adapter.label, text)

    def switches(
        self, host: str, state: HostState, networks: dict[str, set[int]]
    ) -> dict[str, tuple[str, str, HostSwitch]]:
        """Write a host's switches; their names in the layout and broadcast domains by id."""
        names = Names()
        found: dict[str, tuple[str, str, HostSwitch]] = {}
        self.lines.append("    switches:" if state.switches else "    switches: {}")
        for switch in state.switches:
            name = names.take(switch.name, "switch")
            domain = f"{host}/{name}"
            parts = [f"type: {switch.type}"]
            if switch.type is SwitchType.EXTERNAL:
                domain = self.networks.get(switch.name) or self.network_names.take(switch.name, "network")
                self.networks[switch.name] = domain
                networks.setdefault(domain, set())
                shared = any(
                    adapter.is_management_os and adapter.switch_id == switch.id for adapter in state.adapters
                )
                parts += [
                    f"network: {scalar(domain)}",
                    f"allow_management_os: {'true' if shared else 'false'}",
                ]
            self.lines.append(f"      {scalar(name)}: {{{', '.join(parts)}}}")
            about = [*switch.nics, *(["Switch Embedded Teaming"] if switch.teaming else [])]
            if about:
                self.say(8, f"on {', '.join(about)}")
            if switch.notes:
                self.say(8, f"notes: {switch.notes}")
            for extension in switch.extensions:
                if extension != _USUAL_EXTENSION:
                    self.tell(8, f"{host}/{name}", f"the extension {extension} is not emulated")
            if name != switch.name:
                self.tell(8, f"{host}/{name}", f"on the host: {switch.name}")
            found[switch.id] = (name, domain, switch)
        return found

    # --- adapters

    def adapters(
        self,
        host: str,
        guest: str,
        adapters: Sequence[HostAdapter],
        switches: dict[str, tuple[str, str, HostSwitch]],
        networks: dict[str, set[int]],
        indent: int,
        nat: ImportedNat | None,
    ) -> list[tuple[str, Interface]]:
        """Write the adapters of a guest; the addresses written, each with its switch's id."""
        space = " " * indent
        written: list[tuple[str, Interface]] = []
        if not adapters:
            self.lines.append(f"{space}adapters: []")
            return written
        self.lines.append(f"{space}adapters:")
        names = Names()
        for adapter in adapters:
            name = names.take(adapter.name, "Network Adapter")
            switch, domain, on_host = switches[adapter.switch_id]
            vlan = vlan_of(adapter)
            parts = [f"switch: {scalar(switch)}", f"name: {scalar(name)}", *self.mac(adapter, indent)]
            if vlan != Vlan():
                parts.append(f"vlan: {vlan_text(vlan)}")
            if domain in networks:
                networks[domain] |= vlan.receives | {vlan.send}
            found = list(self.addresses(adapter, domain, vlan, indent, nat))
            written += [(adapter.switch_id, each) for each in found]
            addresses = [str(each) for each in found]
            if addresses:
                parts.append(f"addresses: [{', '.join(map(scalar, addresses))}]")
            for key, value in (
                ("mac_address_spoofing", adapter.spoofing),
                ("dhcp_guard", adapter.dhcp_guard),
                ("router_guard", adapter.router_guard),
                ("allow_teaming", adapter.allow_teaming),
            ):
                if value:
                    parts.append(f"{key}: On")
            parts += port_parts(adapter, on_host)
            self.lines.append(f"{space}  - {{{', '.join(parts)}}}")
            if name != adapter.name:
                self.tell(indent + 4, f"{guest}/{name}", f"on the host: {adapter.name}")
            for text in (*port_notes(adapter, on_host), *_untold(adapter)):
                self.tell(indent + 4, f"{guest}/{name}", text)
            prefix = "host:" if adapter.is_management_os else ""
            pattern = f"{prefix}{_pattern(guest)}"
            if len(adapters) > 1 or adapter.is_management_os:
                pattern += f"/{glob.escape(name)}"
            self.targets.append(RuleTarget(pattern, f"{guest}/{name}", adapter))
        return written

    def mac(self, adapter: HostAdapter, indent: int) -> list[str]:
        """The `mac:` of an adapter; a made-up one where its own cannot be written."""
        mac = adapter.mac
        if not mac or int(mac[:2], 16) & 1 or mac in self.macs:
            what = f"its MAC {mac} is taken or no unicast one" if mac else "no MAC address given out yet"
            mac = next(each for each in made_up_macs(adapter.id) if each not in self.macs)
            self.tell(indent + 2, adapter.label, f"{what}; {mac} is made up")
        self.macs.add(mac)
        return [f"mac: {mac}"]

    def addresses(
        self, adapter: HostAdapter, domain: str, vlan: Vlan, indent: int, nat: ImportedNat | None
    ) -> Iterable[Interface]:
        """The guest's addresses that mean something outside of it, with a guessed prefix length."""
        segment = vlan.primary if vlan.is_private else vlan.send
        for text in adapter.addresses:
            try:
                address = ip_address(text.partition("%")[0])
            except ValueError:
                self.tell(indent + 2, adapter.label, f"its address {text} is none, and left out")
                continue
            useless = address.is_link_local or address.is_loopback or address.is_unspecified
            if useless or address.is_multicast:
                self.say(indent + 2, f"its address {address} means nothing outside of it, and is left out")
                continue
            key = (domain, segment, str(address))
            if key in self.segments:
                why = f"its address {address} is taken on this network, and left out"
                self.tell(indent + 2, adapter.label, why)
                continue
            length = adapter.lengths.get(text)
            interface = _told(str(address), length) if length else None
            if interface is None and nat is not None:
                interface = nat.interface(address, adapter.switch_id)
            interface = interface or _guess(str(address))
            if interface is None:
                why = f"its address {address} can be no interface's, and is left out"
                self.tell(indent + 2, adapter.label, why)
                continue
            self.segments.add(key)
            yield interface


def _lab_name(hosts: Sequence[tuple[str, HostState]]) -> str:
    text = re.sub(r"[^a-z0-9]+", "-", "-".join(name.lower() for name, _ in hosts[:3])).strip("-")
    return text[:40].strip("-") or "imported"


def _pattern(guest: str) -> str:
    """A glob that means exactly this guest; never taken for an address."""
    escaped = glob.escape(guest)
    return f"[{escaped[0]}]{escaped[1:]}" if re.fullmatch(r"[0-9a-fA-F.:]+", guest) else escaped


def _untold(adapter: HostAdapter) -> Iterable[str]:
    """Settings that matter and that the layout cannot express."""
    if adapter.isolation_mode not in ("None", "Vlan"):
        yield f"isolation mode {adapter.isolation_mode} is not emulated"
    if adapter.isolation_mode == "Vlan" and adapter.vlan != Vlan():
        yield f"VLAN isolation id {adapter.isolation_id} is set as well as a VLAN mode; the mode is taken"
    if adapter.vlan.receives != vlan_of(adapter).receives and adapter.isolation_mode != "Vlan":
        yield f"the VLAN setting {adapter.vlan.mode} lacks its ids; taken as untagged"
    yield from adapter.others


def _told(text: str, length: int) -> Interface | None:
    """An address with the prefix length the host tells; None where the two make no interface's."""
    try:
        interface = ip_interface(f"{text}/{length}")
    except ValueError:
        return None
    ends = (interface.network.network_address, interface.network.broadcast_address)
    return interface if interface.network.num_addresses <= 2 or interface.ip not in ends else None


def _guess(text: str) -> Interface | None:
    """An address with the usual prefix length, or a shorter one where it would be no interface's."""
    for length in (64,) if ":" in text else range(24, 7, -1):
        interface = ip_interface(f"{text}/{length}")
        network = interface.network
        broadcast = isinstance(interface, IPv4Interface) and interface.ip == network.broadcast_address
        if interface.ip != network.network_address and not broadcast:
            return interface
    return None
