"""Denies that SR-IOV skips are causes (symptom 35): said where, and only where, one would have decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.sites import SiteBuilder, basic, extended
from vswitch.model.site import Site
from vswitch.model.traffic import parse_traffic
from vswitch.model.types import Action
from vswitch.semantics.cause import Layer
from vswitch.semantics.conversation import Conversation, Expected, converse, converse_range

DENY = extended("Deny", "Inbound", 1, name="deny")


def pair(*, fast: bool = True, slow_rules: object = (), **settings: object) -> Site:
    builder = SiteBuilder().network("lan").switch("vs", network="lan")
    builder.vm("slow", "10.0.0.1/24", services=["tcp/80"], rules=slow_rules)  # type: ignore[arg-type]
    builder.vm("fast", "10.0.0.2/24", services=["tcp/80"], virtual_function=fast, **settings)  # type: ignore[arg-type]
    return builder.build()


def ask(site: Site, source: str, destination: str, traffic: str) -> Conversation:
    return converse(site, source, destination, parse_traffic(traffic))


def test_a_skipped_deny_is_the_cause_and_iov_weight_the_fix() -> None:
    answer = ask(pair(rules=[DENY]), "slow", "fast", "tcp/80")
    assert (answer.verdict, answer.expected, answer.decided_by) == (Action.ALLOW, Expected.OPEN, None)
    assert answer.layer is Layer.SR_IOV
    assert (
        "Inbound rule deny (policy.yaml:1:3) at fast/Network Adapter would deny the request" in answer.cause
    )
    assert answer.fix == "set IovWeight of fast/Network Adapter to 0"
    assert answer.rules == ()


def test_so_is_a_basic_deny_of_what_it_sends() -> None:
    answer = ask(pair(acls=[basic("Deny", "Outbound", remote="ANY", name="out")]), "fast", "slow", "tcp/80")
    assert answer.layer is Layer.SR_IOV
    assert "Outbound rule out" in answer.cause


def test_so_is_a_denied_answer() -> None:
    rules = [extended("Deny", "Outbound", 1, name="out")]
    answer = ask(pair(rules=rules), "slow", "fast", "tcp/80")
    assert answer.layer is Layer.SR_IOV
    assert "Outbound rule out (policy.yaml:1:3) at fast/Network Adapter would deny the reply" in answer.cause


def test_so_is_a_guard() -> None:
    answer = ask(pair(dhcp_guard=True), "fast", "slow", "udp/68:67")
    assert answer.layer is Layer.SR_IOV
    assert answer.cause.startswith("DhcpGuard at fast/Network Adapter")
    assert "besides, nothing listens on udp/68" in answer.cause


@pytest.mark.parametrize(
    "site",
    [
        pair(),
        pair(rules=[extended("Allow", "Inbound", 9, protocol="TCP", stateful=True), DENY]),
        pair(rules=[extended("Deny", "Outbound", 1, protocol="UDP")]),
        pair(fast=False),
    ],
)
def test_where_no_deny_is_skipped_nothing_is_said(site: Site) -> None:
    answer = ask(site, "slow", "fast", "tcp/80")
    assert (answer.expected, answer.layer, answer.cause) == (Expected.OPEN, None, "")


def test_a_deny_that_holds_is_told_as_ever() -> None:
    answer = ask(pair(rules=[DENY], slow_rules=[DENY]), "fast", "slow", "tcp/80")
    assert answer.verdict is Action.DENY
    assert answer.layer is Layer.ACL
    assert answer.decided_by is not None
    assert answer.decided_by.adapter is not None
    assert answer.decided_by.adapter.id == "slow/Network Adapter"


def test_ranges_are_split_where_a_skipped_deny_begins_and_ends() -> None:
    site = pair(rules=[replace(DENY, protocol=6, local_port=parse_traffic("tcp/80-90").ports)])
    found = converse_range(site, "slow", "fast", parse_traffic("tcp/70-100"))
    told = {str(part): answer.layer for part, answer in found}
    assert told == {
        "70-79": Layer.SERVICE,
        "80": Layer.SR_IOV,
        "81-90": Layer.SR_IOV,
        "91-100": Layer.SERVICE,
    }
