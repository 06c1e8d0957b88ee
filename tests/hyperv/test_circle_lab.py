"""Two generated hosts, imported and run as a lab: real frames arrive where the hosts say, and only there."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from tests.support.modelled_host import random_states as hyperv_generate
from tests.support.modelled_host.as_site import site_of
from tests.support.modelled_host.circle import meaning, record_of
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import EXTERNAL, PRIVATE, adapter, extended
from tests.support.modelled_host.values import Document
from tests.support.running_lab import RunningLab, running_lab
from tests.support.scenarios.wire import as_bytes
from tests.support.sites import rules_of
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from tests.support.winrm.runs import transport_to
from vswitch.cli.main import app
from vswitch.errors import InputError
from vswitch.hyperv.applying.remote_host import RemoteHost, plan_policy
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.importing.importer import Imported, import_hosts
from vswitch.hyperv.winrm.shipped_module import module_text
from vswitch.model import load_site
from vswitch.model.site import Site
from vswitch.semantics import network
from vswitch.semantics.frame import TAG_TYPES, Frame
from vswitch.semantics.network import SiteResult, SiteState
from vswitch.semantics.verdict import DropReason

pytestmark = pytest.mark.lab

FRAMES = 300
#: Seconds a frame that must arrive may take; between frames; for what arrives though it must not.
PATIENCE, GAP, SETTLE = 1.0, 0.004, 0.3
POLICY = "policy.yaml"
SEEDS = range(1, 1 + settings().max_examples // 100)  # one by default, more in other profiles
#: Entries by which sessions begin, and nothing else gets out.
SESSIONS = (
    extended("Allow", "Inbound", 65000, Protocol="UDP", LocalPort="53-80", Stateful=True),
    extended("Allow", "Inbound", 64000, Protocol="TCP", Stateful=True),
    extended("Deny", "Outbound", 5),
)
#: The reasons of drops that virtual switches count; a flood never tries the port a frame came from.
COUNTED = {str(reason) for reason in DropReason} - {"PhysicalVlan", "OwnPort", "ACL"}


def a_host(random: Random, computer: str, first: int) -> Document:
    """A generated host whose first switch is on the same physical network as every other host's.

    Its first two adapters are ordinary ones there, so that there is always something to see: one with
    sessions, and one without rules to begin them.
    """
    state = hyperv_generate.state(random, computer, first=first, kinds=(EXTERNAL, PRIVATE))
    shared = state["switches"][0]
    shared["Name"] = "vs é/1"
    plain = adapter("", "", 0)
    for each, rules in zip(state["adapters"], (SESSIONS, ()), strict=False):
        each |= {"SwitchId": shared["Id"], "acls": [], "extendedAcls": copy.deepcopy(list(rules))}
        each |= {"vlan": plain["vlan"], "isolation": plain["isolation"]}
    for each in state["adapters"]:
        each["SwitchName"] = shared["Name"] if each["SwitchId"] == shared["Id"] else each["SwitchName"]
        for rule in each["extendedAcls"]:
            rule["IdleSessionTimeout"] = 300 if rule["Stateful"] else 0  # longer than the test
    return state


@dataclass
class Hosts:
    """The modelled hosts as one site with a memory: what they do with frames."""

    site: Site
    state: SiteState = field(default_factory=SiteState)
    answers: list[tuple[str, str, Frame]] = field(default_factory=list)

    def change(self, site: Site) -> None:
        self.site, self.state = site, self.state.for_site_change(site)

    def next(self, random: Random) -> tuple[str, str, Frame]:
        """A guest, its interface, and a frame for it to send that has one form on the wire."""
        while True:
            if self.answers and random.random() < 0.4:
                guest, interface, frame = random.choice(self.answers)
            else:
                switch = random.choice(
                    [one for one in self.site.switch.values() if self.site.adapters_of(one)]
                )
                port, frame = hyperv_generate.frame(random, self.site, switch)
                found = [each for each in self.site.adapters_of(switch) if each.number == port]
                if not found:
                    continue  # an uplink: what comes in there is sent on the other host
                guest, interface = found[0].guest, found[0].interface
            hidden = frame.ethertype in TAG_TYPES and frame.vlan is None
            if not hidden and frame.src_mac != frame.dst_mac and 0 not in (frame.src_port, frame.dst_port):
                # Connection tracking opens no flow for port 0, and sees more in a handshake than a timer.
                return guest, interface, replace(frame, tcp_flags="A" if frame.tcp_flags else "")

    def send(self, guest: str, interface: str, frame: Frame) -> SiteResult:
        result = network.send(self.site, guest, interface, frame, self.state)
        self.state = result.state
        self.answers = self.answers[-8:] + [
            (each.guest, each.interface.partition(".")[0], each.frame.reply(each.end.mac))
            for each in result.deliveries
            if each.frame.protocol in (6, 17)
        ]
        return result


class Lab:
    """The lab of the imported files, with the hosts' adapters told by their MAC addresses."""

    def __init__(self, running: RunningLab) -> None:
        self.running = running
        self.site = running.site()
        self.ends = {each.mac: (each.guest, each.interface) for each in self.site.adapters}
        self.macs = {each.id: each.mac for each in self.site.adapters}

    def exchange(self, sent: list[tuple[str, Frame, list[str]]]) -> list[list[str]]:
        """Send frames from adapters, by MAC; where each arrived. `sent` has where each must arrive."""
        asked = []
        for number, (mac, frame, wanted) in enumerate(sent):
            token = number.to_bytes(4).rjust(16, b"#")
            asked.append([*self.ends[mac], as_bytes(frame, token).hex(), token.hex(), len(wanted)])
        times = {"patience": PATIENCE, "settle": SETTLE, "gap": GAP}
        return self.running.call("exchange_all", frames=asked, **times)  # type: ignore[no-any-return]

    def dropped(self) -> Counter[tuple[str, str]]:
        """Packets dropped so far: by adapter's MAC and entry, and by reason alone."""
        rules = [rule for each in self.running.site().adapters for rule in rules_of(each)]
        denies = {rule.name: str(record_of(rule)) for rule in rules if rule.action == "Deny"}
        found: Counter[tuple[str, str]] = Counter()
        for entry in self.running.call("rule_counters"):
            if entry["name"] in denies:
                found[self.macs[entry["adapter"]], denies[entry["name"]]] += entry["packets"]
            elif entry["name"] in COUNTED:
                found["", entry["name"]] += entry["packets"]
        return found


def compare(random: Random, hosts: Hosts, lab: Lab, frames: int) -> Counter[str]:
    """Send the same generated frames on both sides; how many of which kind."""
    sent, results = [], []
    for _ in range(frames):
        guest, interface, frame = hosts.next(random)
        result = hosts.send(guest, interface, frame)
        sender = next(each for each in hosts.site.guest[guest].adapters if each.interface == interface)
        arrivals = sorted(
            "/".join(lab.ends[each.end.mac]) + (f".{each.frame.vlan}" if each.frame.vlan else "")
            for each in result.deliveries
        )
        sent.append((sender.mac, frame, arrivals))
        results.append(result)
    before = lab.dropped()
    arrived = lab.exchange(sent)
    after = lab.dropped()
    wrong = [
        f"{number}: {frame} from {mac}: the host delivers to {wanted}, the lab to {got}"
        for number, ((mac, frame, wanted), got) in enumerate(zip(sent, arrived, strict=True))
        if wanted != got
    ]
    assert not wrong, "\n".join(wrong)
    expected = Counter(each for result in results for each in drops_of(hosts.site, result))
    after.subtract(before)
    assert +after == expected
    return Counter(
        sent=len(sent),
        delivered=sum(map(bool, arrived)),
        denied=sum(count for (mac, _), count in expected.items() if mac),
        between_hosts=sum(len({passage.place for passage in each.passages}) > 2 for each in results),
        live=sum(
            "state" in str(step.stage) and step.rule is not None
            for each in results
            for passage in each.passages
            for step in passage.steps
        ),
    )


def drops_of(site: Site, result: SiteResult) -> Iterator[tuple[str, str]]:
    """The drops of virtual switches: adapter's MAC and entry, or no adapter and the reason."""
    for passage, drop in result.drops:
        if drop.rule:
            host = passage.place.partition("/")[0]
            found = (each for each in site.adapters if (each.host, each.number) == (host, drop.port))
            yield next(found).mac, str(record_of(drop.rule))
        elif str(drop.reason) in COUNTED:
            yield "", str(drop.reason)


@pytest.mark.parametrize("seed", SEEDS)
def test_real_frames_arrive_where_the_hosts_say(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    modelled = [
        HypervHost(a_host(random, name, first), any_as_two=first > 1)
        for name, first in (("HV01", 1), ("HV02", 40))
    ]
    with ExitStack() as stack:
        targets = []
        for host in modelled:
            endpoint = stack.enter_context(WinrmEndpoint(host_handler(host)))
            name = host.computer.lower()
            link = transport_to(endpoint, module=module_text(), name=name)
            targets.append(RemoteHost(name, link, Store(name, tmp_path / name)))
        imported = imported_from(targets)
        (tmp_path / "lab.yaml").write_text(imported.layout, encoding="utf-8")
        (tmp_path / POLICY).write_text(imported.policy, encoding="utf-8")
        assert CliRunner().invoke(app, ["validate", str(tmp_path / "lab.yaml")]).exit_code == 0
        hosts = Hosts(site_of(*(host.state() for host in modelled)))
        running = stack.enter_context(
            running_lab(imported.layout, {POLICY: imported.policy}, ["tests.support.scenarios.operations"])
        )
        lab = Lab(running)
        assert meaning(lab.site) == meaning(hosts.site)
        running.call("silence")
        running.call("start_over")
        seen = compare(random, hosts, lab, FRAMES)

        # The policy is changed in the lab, tested there, and then brought to the hosts.
        for target in targets:
            target.apply(plan_policy(target, lab.site, adopt=True))
        policy, site = changed_for(random, imported, targets)
        (tmp_path / POLICY).write_text(policy, encoding="utf-8")
        applied = CliRunner().invoke(app, ["apply", str(tmp_path / POLICY), "--lab", running.name])
        assert applied.exit_code == 0, applied.output
        running.policies = {POLICY: policy}
        for target in targets:
            target.apply(plan_policy(target, site))
            assert not plan_policy(target, site).changes
        hosts.change(site_of(*(host.state() for host in modelled)))
        seen += compare(random, hosts, lab, FRAMES)
        assert meaning(load(imported_from(targets))) == meaning(site)
    if seed == SEEDS[0]:
        assert min(seen[kind] for kind in ("delivered", "denied", "between_hosts", "live")) > 0, seen


def imported_from(targets: list[RemoteHost]) -> Imported:
    states = [(target.name, target.read()) for target in targets]
    return import_hosts(states, layout_file="lab.yaml", policy_file=POLICY)


def load(imported: Imported) -> Site:
    return load_site("lab.yaml", read={"lab.yaml": imported.layout, POLICY: imported.policy}.__getitem__)


def changed_for(random: Random, imported: Imported, targets: list[RemoteHost]) -> tuple[str, Site]:
    """A changed policy that can be planned for all hosts, and the site with it."""
    while True:
        policy = hyperv_generate.changed(random, imported.policy)
        try:
            site = load(replace(imported, policy=policy))
            if any(plan_policy(target, site).changes for target in targets):
                return policy, site
        except InputError:  # such as a weight that is taken
            continue
