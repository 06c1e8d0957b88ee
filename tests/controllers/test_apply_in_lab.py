"""Applies on a running lab: minimal, all or nothing, and without a gap for packets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support.running_lab import RunningLab, Talker
from vswitch.errors import InForceUnknown, InputErrors, SwitchError, VswitchError

pytestmark = pytest.mark.lab


def rule(name: str, fields: str) -> str:
    return f"  - {{name: {name}, direction: Inbound, {fields}}}\n"


def policy(*rules: str) -> str:
    return "extended_acls:\n" + "".join(rules)


DENY = "adapters: b, action: Deny, weight: 7, remote_ip_address"
TALK = (
    "adapters: b, action: Allow, protocol: TCP, local_port: 80, stateful: on, weight: 90, remote_ip_address"
)
BASE = (rule("keep", f"{DENY}: 10.0.0.99"), rule("talk", f"{TALK}: 10.0.0.1"))


def assert_as_fresh(lab: RunningLab) -> None:
    """The switches hold what a lab started with the policies in force would hold."""
    assert lab.cookies() == lab.fresh_cookies()


def test_one_rule_changed_is_one_flow_changed(lab: RunningLab) -> None:
    lab.apply(policy(*BASE))
    report = lab.apply(policy(rule("keep", f"{DENY}: 10.0.0.98"), BASE[1]))
    assert report["flows_changed"] == 1
    assert report["switches"] == [{"switch": "hv02/vs", "added": 1, "removed": 1}]
    report = lab.apply(policy(rule("keep", f"{DENY}: 10.0.0.98"), rule("talk", f"{TALK}: 10.0.0.77")))
    assert report["flows_changed"] == 1
    more = rule("more", "adapters: a, action: Deny, weight: 8, remote_ip_address: 10.0.0.50")
    report = lab.apply(policy(rule("keep", f"{DENY}: 10.0.0.98"), rule("talk", f"{TALK}: 10.0.0.77"), more))
    assert report["switches"] == [{"switch": "hv01/vs", "added": 1, "removed": 0}]
    assert_as_fresh(lab)


def test_nothing_changed_is_no_flow_changed(lab: RunningLab) -> None:
    lab.apply(policy(*BASE))
    report = lab.apply(policy(*BASE))
    assert (report["flows_changed"], report["switches"], report["sessions_ended"]) == (0, [], 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([policy(*BASE)], ["{}"], id="last-rule-removed"),
        pytest.param(["{}"], [policy(*BASE)], id="first-rule-added"),
        pytest.param([policy(BASE[0]), policy(BASE[1])], [policy(BASE[1]), policy(BASE[0])], id="files"),
        pytest.param([policy(*BASE)], [policy(*reversed(BASE))], id="rules"),
        pytest.param(
            ["groups: {g: [b, c]}\n" + policy(rule("d", "adapters: g, action: Deny, weight: 7"))],
            ["groups: {h: [c, b]}\n" + policy(rule("e", "adapters: h, action: Deny, weight: 7"))],
            id="names",
        ),
    ],
)
def test_ends_as_after_a_fresh_start(lab: RunningLab, first: Sequence[str], second: Sequence[str]) -> None:
    lab.apply(*first)
    assert_as_fresh(lab)
    lab.apply(*second)
    assert_as_fresh(lab)


def test_only_names_and_places_changed_is_no_flow_changed(lab: RunningLab) -> None:
    lab.apply(policy(*BASE))
    renamed = policy(rule("talk2", f"{TALK}: 10.0.0.1"), rule("keep2", f"{DENY}: 10.0.0.99"))
    report = lab.apply_files({"elsewhere.yaml": renamed})
    assert (report["flows_changed"], report["sessions_ended"]) == (0, 0)
    names = {entry["name"] for entry in lab.call("rule_counters") if entry["where"]}
    assert names == {"talk2", "keep2"}


BROKEN = {
    "unknown key": policy(rule("x", "adapters: b, actoin: Deny")),
    "no YAML": "extended_acls: [",
    "unknown adapter": policy(rule("x", "adapters: bb, action: Deny")),
    "what Hyper-V cannot hold": policy(rule("x", "adapters: b, action: Deny, stateful: true")),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_policy_leaves_the_running_one_untouched(lab: RunningLab, text: str) -> None:
    lab.apply(policy(rule("closed", f"{DENY}: 10.0.0.1")))
    before = lab.flows()
    with pytest.raises(InputErrors) as raised:
        lab.call("apply", policies=["bad.yaml"], texts={"bad.yaml": text})
    assert all(error.where and error.where.file == "bad.yaml" for error in raised.value.errors)
    assert lab.flows() == before
    assert lab.call("controller_status")["policies"] == ["policy0.yaml"]
    assert lab.call("sources")["policies"] == ["policy0.yaml"]


def test_verdicts_stay_after_a_broken_policy(lab: RunningLab) -> None:
    lab.apply(policy(rule("closed", f"{DENY}: 10.0.0.1")))
    with pytest.raises(InputErrors):
        lab.call("apply", policies=["bad.yaml"], texts={"bad.yaml": BROKEN["unknown key"]})
    assert lab.probe("a", "b", "http", patience=0.4) == "filtered"
    assert lab.probe("c", "b", "http") == "open"


@pytest.mark.parametrize("host", [0, 1])
def test_a_switch_that_cannot_be_reached_leaves_the_old_policy_everywhere(lab: RunningLab, host: int) -> None:
    lab.apply(policy(*BASE))
    before = lab.flows()
    socket = f"/run/vswitch/hosts/{host}/br0.mgmt"
    everywhere = policy(rule("none", "adapters: [a, b, c], action: Deny, weight: 3"))
    lab.inside("mv", socket, f"{socket}.away")
    try:
        with pytest.raises(InForceUnknown, match=rf"the old policy .*except perhaps on hv0{host + 1}/vs"):
            lab.call("apply", policies=["p.yaml"], texts={"p.yaml": everywhere})
        with pytest.raises(SwitchError, match=rf"nothing was changed: hv0{host + 1}/vs does not answer"):
            lab.call("apply", policies=["p.yaml"], texts={"p.yaml": everywhere})
    finally:
        lab.inside("mv", f"{socket}.away", socket)
    assert lab.flows() == before
    assert lab.call("sources")["policies"] == ["policy0.yaml"]
    lab.apply(everywhere)
    assert_as_fresh(lab)


def test_a_flow_that_a_switch_refuses_is_put_back_everywhere(lab: RunningLab) -> None:
    """Tables full on the second host: what the first one took is taken back."""
    lab.apply(policy(*BASE))
    before = lab.flows()
    database = "--db=unix:/run/vswitch/hosts/1/db.sock"
    full = ("--", "--id=@full", "create", "Flow_Table", "flow_limit=1")
    tables = [f"flow_tables:{number}=@full" for number in range(60)]
    lab.inside("ovs-vsctl", database, *full, "--", "set", "Bridge", "br0", *tables)
    try:
        with pytest.raises(SwitchError, match=r"the old policy is still in force everywhere: .*br0"):
            lab.call("apply", policies=["p.yaml"], texts={"p.yaml": policy(*map(_many, range(20)))})
    finally:
        lab.inside("ovs-vsctl", database, "clear", "Bridge", "br0", "flow_tables")
    assert lab.flows() == before
    lab.apply(policy(*map(_many, range(20))))
    assert_as_fresh(lab)


def _many(number: int) -> str:
    fields = f"adapters: [a, b], action: Deny, weight: {100 + number}, remote_ip_address: 10.9.{number}.1"
    return rule(f"many{number}", fields)


def test_applies_at_the_same_time_take_turns(lab: RunningLab) -> None:
    texts = [policy(rule(f"r{n}", f"{DENY}: 10.7.0.{n}")) for n in range(1, 7)]
    failures: list[VswitchError] = []

    def run(text: str) -> None:
        try:
            lab.call("apply", policies=["policy0.yaml"], texts={"policy0.yaml": text})
        except VswitchError as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    lab.policies = {"policy0.yaml": lab.call("sources")["texts"]["policy0.yaml"]}
    assert lab.policies["policy0.yaml"] in texts
    assert_as_fresh(lab)


# ------------------------------------------------------------------ streams

RECEIVER = """
import json, select, socket, sys
socks = {}
for port in map(int, sys.argv[1:]):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    sock.bind(("", port))
    socks[sock] = port
seen = {port: [] for port in socks.values()}
print("ready")
while True:
    ready, _, _ = select.select([sys.stdin, *socks], [], [])
    for sock in ready:
        if sock is not sys.stdin:
            seen[socks[sock]].append(int(sock.recv(100)))
    if ready == [sys.stdin]:
        sys.stdin.readline()
        print(json.dumps(seen))
        seen = {port: [] for port in socks.values()}
"""
SENDER = """
import select, socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
targets = [(sys.argv[2], int(port)) for port in sys.argv[3:]]
sock.bind(("", 40000))
rate, number, begun = int(sys.argv[1]), 0, time.monotonic()
print("ready")
sys.stdin.readline()
print("sending")
begun = time.monotonic()
while not select.select([sys.stdin], [], [], 0.002)[0]:
    for number in range(number, int((time.monotonic() - begun) * rate)):
        for target in targets:
            sock.sendto(b"%d" % number, target)
        number += 1
sys.stdin.readline()
print(number)
"""
ALLOW_STREAM = "adapters: b, action: Allow, protocol: UDP, local_port: 5000"


def test_a_hundred_applies_let_nothing_through_and_lose_nothing(lab: RunningLab) -> None:
    """Two policies that agree on both streams and share no flow about them."""
    policies = [
        policy(
            rule("pass-one", f"{ALLOW_STREAM}, weight: 500"),
            rule("deny-one", "adapters: b, action: Deny, protocol: UDP, local_port: 5001, weight: 400"),
        ),
        policy(
            rule("pass-two", f"{ALLOW_STREAM}, weight: 50, remote_ip_address: 10.0.0.1"),
            rule("deny-two", "adapters: b, action: Deny, protocol: UDP, weight: 40"),
        ),
    ]
    applies = 100
    lab.apply("{}")
    with (
        lab.python("b", RECEIVER, "5000", "5001") as receiver,
        lab.python("a", SENDER, "1000", "10.0.0.2", "5000", "5001") as sender,
    ):
        assert (receiver.hear(), sender.hear()) == ("ready", "ready")
        with lab.python("a", SENDER.replace("40000", "40001"), "100", "10.0.0.2", "5000", "5001") as control:
            control.hear()
            control.say("go")
            control.say("stop")
        lab.apply(policies[0])
        open_to = json.loads(receiver.say("report"))
        assert open_to["5001"] == open_to["5000"], "the control: without a policy both streams arrive"

        sender.say("go")
        changed = {lab.apply(policies[number % 2])["flows_changed"] for number in range(1, applies + 1)}
        sent = int(sender.say("stop"))
        time.sleep(1.0)  # the last packets are still under way
        found = json.loads(receiver.say("report"))
    assert changed == {4}, "each shares no flow with the other"
    assert sent > applies, "the stream was under way during the applies"
    assert found["5001"] == []
    missing = sorted(set(range(sent)) - set(found["5000"]))
    assert not missing, f"{len(missing)} of {sent} lost"
    assert len(found["5000"]) == sent


# ------------------------------------------------------------------ live sessions

SERVER = """
import socket, threading
server = socket.create_server(("", 7000))
print("ready")
def answer(sock):
    while data := sock.recv(100):
        sock.sendall(data)
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
"""
CLIENT = """
import socket, sys
sock = socket.create_connection(("10.0.0.2", 7000), timeout=3)
print("connected")
for line in sys.stdin:
    sock.settimeout(float(line))
    try:
        sock.sendall(b"x")
        print("alive" if sock.recv(1) else "closed")
    except TimeoutError:
        print("silent")
"""
SESSION = "adapters: b, action: Allow, protocol: TCP, local_port: 7000, stateful: true, weight: 100"
NOTHING_ELSE = rule("nothing-else", "adapters: b, action: Deny, weight: 1")


def live(lab: RunningLab) -> list[object]:
    """The live flow states at b."""
    return [entry for entry in lab.call("connections")["hv02"] if entry["mark"]]


@pytest.fixture
def session(lab: RunningLab) -> Iterator[Talker]:
    """A connection from a to b, allowed by the rule SESSION.

    It may not be the only live flow: what is left of an earlier one may still be sent again.
    """
    lab.apply(policy(rule("session", SESSION), NOTHING_ELSE))
    lab.call("forget")
    with lab.python("b", SERVER) as server:
        assert server.hear() == "ready"
        with lab.python("a", CLIENT) as client:
            assert client.hear() == "connected"
            assert client.say("3") == "alive"
            yield client


def test_a_live_session_lives_as_long_as_its_rule(lab: RunningLab, session: Talker) -> None:
    higher = rule("higher", "adapters: b, action: Deny, protocol: TCP, local_port: 7000, weight: 200")
    report = lab.apply(policy(rule("session", SESSION), NOTHING_ELSE, higher))
    assert report["sessions_ended"] == 0
    assert session.say("3") == "alive"
    assert lab.probe("a", "b", "tcp/7000", patience=0.4) == "filtered", "a new one is denied"

    report = lab.apply(policy(rule("renamed", SESSION), NOTHING_ELSE, higher))
    assert (report["sessions_ended"], report["flows_changed"]) == (0, 0)
    assert session.say("3") == "alive"

    assert lab.apply(policy(NOTHING_ELSE))["sessions_ended"] >= 1
    assert not live(lab)
    assert session.say("1") == "silent"

    lab.apply(policy(rule("session", SESSION), NOTHING_ELSE))
    assert session.say("5") == "alive", "its rule is back, and any packet makes a state"


def test_a_changed_rule_is_another_rule(lab: RunningLab, session: Talker) -> None:
    elsewhere = f"{SESSION}, remote_ip_address: 10.0.0.3"
    assert lab.apply(policy(rule("session", elsewhere), NOTHING_ELSE))["sessions_ended"] >= 1
    assert session.say("1") == "silent"


def test_an_idle_timeout_changed_ends_the_sessions_of_the_old_one(lab: RunningLab, session: Talker) -> None:
    shorter = f"{SESSION}, idle_session_timeout: 20"
    assert lab.apply(policy(rule("session", shorter), NOTHING_ELSE))["sessions_ended"] >= 1
    assert session.say("3") == "alive", "the next packet is allowed anew"
    assert_as_fresh(lab)


def test_a_live_session_outlives_the_controller(lab: RunningLab, session: Talker) -> None:
    lab.restart_controller()
    assert session.say("3") == "alive"
    assert lab.apply(policy(NOTHING_ELSE))["sessions_ended"] >= 1
    assert session.say("1") == "silent"
