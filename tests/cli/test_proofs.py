"""`vswitch test`: what it accepts as proven, what not, and its reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.command_line import Ran, Run
from tests.support.shown_answers import PROOF, PROVEN
from vswitch.cli import testing
from vswitch.errors import LabError, NoSuchLab
from vswitch.lab.process import client

pytestmark = pytest.mark.lab

LAYOUT = """
name: proofs
networks: {lan: {vlans: [10, 20]}}
hosts:
  hv01:
    switches: {vs: {type: External, network: lan, allow_management_os: false}}
    vms:
      web: {adapters: [{switch: vs, vlan: {access: 10}, addresses: [10.0.0.1/24]}], services: [http]}
      near: {adapters: [{switch: vs, vlan: {access: 10}, addresses: [10.0.0.2/24], dhcp_guard: true}]}
      far: {adapters: [{switch: vs, vlan: {access: 20}, addresses: [10.0.0.3/24]}], services: [http]}
      fast:
        adapters: [{switch: vs, vlan: {access: 10}, addresses: [10.0.0.4/24], iov_weight: 1}]
        services: [http]
      six: {adapters: [{switch: vs, vlan: {access: 10}, addresses: ["2001:db8::1/64"]}]}
policies: [policy.yaml]
expect:
"""
POLICY = """
extended_acls:
  - {name: web-only, adapters: web, direction: Inbound, action: Allow, protocol: TCP,
     local_port: [http, 81], weight: 9}
  - {name: no-more, adapters: web, direction: Inbound, action: Deny, weight: 1}
  - {name: not-asked, adapters: fast, direction: Inbound, action: Deny, weight: 1}
  # Its denials prove nothing: without it, the DHCP guard drops the same packets.
  - {name: no-dhcp, adapters: near, direction: Outbound, action: Deny, protocol: UDP, local_port: 67}
"""
# Expectation -> what is wrong with it ("" if it is proven).
EXPECTATIONS = {
    "{from: near, to: web, traffic: http, verdict: Allow, by: web-only}": "",
    "{from: near, to: web, traffic: tcp/445, verdict: Deny, by: no-more}": "",
    "{from: near, to: web, traffic: tcp/443-446, verdict: Deny}": "",
    "{from: near, to: web, traffic: tcp/81, verdict: Refused}": "",
    "{from: web, to: far, traffic: http, verdict: Deny}": "",
    "{from: web, to: far, traffic: icmp, verdict: Deny}": "",
    "{from: web, to: far, traffic: ip/47, verdict: Deny}": "",
    "{from: near, to: six, traffic: icmp, verdict: Deny}": "",
    "{from: near, to: web, traffic: icmp, verdict: Allow}": "expected Allow, observed filtered",
    "{from: near, to: web, traffic: 'tcp/80:5000', verdict: Deny}": "expected Deny, observed open",
    "{from: near, to: fast, traffic: http, verdict: Deny}": "expected Deny, observed open",
    "{from: near, to: web, traffic: udp/53, verdict: Deny, by: web-only}": "decided by no-more, not by",
    "{from: near, to: web, traffic: tcp/81, verdict: Allow}": "expected Allow, observed refused",
    "{from: near, to: web, traffic: tcp/80, verdict: Allow, by: no-more}": "decided by web-only, not by",
    "{from: near, to: web, traffic: 'udp/68:67', verdict: Deny}": "no positive control: without",
    "{from: six, to: near, traffic: icmp, verdict: Deny, by: no-more}": "nothing was dropped, so not",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "layout.yaml").write_text(LAYOUT + "".join(f"  - {line}\n" for line in EXPECTATIONS))
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ran(run: Run, files: Path) -> Ran:
    return run("test", "layout.yaml", "--junit", "report.xml", "--output", "json")


def test_what_is_proven_and_what_not(ran: Ran, files: Path) -> None:
    assert ran.status == 1
    (result,) = ran.json
    assert not result["passed"]
    assert result["failure"] is None
    found = {name: proof["message"] for name, proof in zip(EXPECTATIONS, result["proofs"], strict=True)}
    for name, said in EXPECTATIONS.items():
        assert found[name].startswith(said), f"{name}: {found[name]}"
        assert bool(found[name]) == bool(said), f"{name}: {found[name]}"
    (skipped,) = (message for name, message in found.items() if "to: fast" in name)
    assert "layer SR-IOV: Inbound rule not-asked (policy.yaml:6:5) at fast/Network Adapter" in skipped

    controls = dict(zip(EXPECTATIONS, (proof["control"] for proof in result["proofs"]), strict=True))
    structural = controls["{from: web, to: far, traffic: http, verdict: Deny}"]
    assert [answer["outcome"] for answer in structural] == ["open"], "the destination answered itself"
    assert controls["{from: near, to: six, traffic: icmp, verdict: Deny}"] == []
    assert controls["{from: near, to: web, traffic: http, verdict: Allow, by: web-only}"] is None

    suite = ElementTree.parse(files / "report.xml").getroot().find("testsuite")
    assert suite is not None
    failed = sum(map(bool, EXPECTATIONS.values()))
    assert (suite.get("tests"), suite.get("failures")) == (str(len(EXPECTATIONS)), str(failed))
    assert len(suite.findall("testcase/failure")) == failed
    assert "layout.yaml:" in (suite.findtext("testcase/failure") or "")


def test_a_lab_that_ends_under_the_test_is_a_failure(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(name: str, op: str, **_: Any) -> Any:
        raise LabError(f"no answer to {op!r}: the other side has ended")

    def down(name: str) -> None:
        raise NoSuchLab("no lab of that name runs")

    monkeypatch.setattr(client, "start", lambda *_, **__: {})
    monkeypatch.setattr(client, "call", call)
    monkeypatch.setattr(client, "down", down)
    ran = run("test", "layout.yaml", "--junit", "report.xml")
    assert ran.status == 1
    assert "the other side has ended" in ran.out
    error = ElementTree.parse(files / "report.xml").getroot().find("testsuite/testcase/error")
    assert error is not None
    assert "the other side has ended" in str(error.get("message"))


def test_a_report_of_odd_characters_is_well_formed(tmp_path: Path) -> None:
    odd = "a\x00b\x1b[31m\ud800 <&> ]]> \U0001f600"
    proof = replace(PROOF, name=odd, where=odd, message=odd)
    result = replace(PROVEN, layout=odd, failure=odd, proofs=(proof,))
    testing._write_junit(tmp_path / "r.xml", [result])
    suite = ElementTree.parse(tmp_path / "r.xml").getroot().find("testsuite")
    assert suite is not None
    assert "<&> ]]> \U0001f600" in str(suite.get("name"))
