"""The policy as a plain PowerShell script: data stays data."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.powershell.literals import read_literal
from vswitch.hyperv.planning.script import literal, powershell_script
from vswitch.model import load_site
from vswitch.model.site import Site

LAYOUT = """
name: lab
networks: {{lan: {{}}}}
hosts:
  hv01:
    switches: {{vs: {{type: External, network: lan}}}}
    vms:
      {name}:
        adapters: [{{switch: vs, mac: 00-15-5D-00-00-01}}]
policies: [policy.yaml]
"""
POLICY = """
extended_acls:
  - {name: in-http, adapters: "*", direction: Inbound, action: Allow, protocol: TCP, local_port: [80, 443],
     weight: 500, stateful: true, idle_session_timeout: 60}
acls:
  - {name: lan-only, adapters: "*", direction: Both, action: Deny, remote_ip_address: ANY}
  - {name: no-mac, adapters: "*", direction: Inbound, action: Deny, remote_mac_address: ANY}
"""


def site(name: str) -> Site:
    texts = {"layout.yaml": LAYOUT.format(name=name), "policy.yaml": POLICY}
    return load_site("layout.yaml", read=lambda path: texts[path])


@given(st.text(alphabet="ab'\u2018\u2019\u201a\u201b$`\"(){};\n\r\x1b\u202e\u2028\U000e0001+[] #"))
def test_literals_read_back_and_are_one_line_that_drives_no_terminal(text: str) -> None:
    assert read_literal(literal(text)) == text
    assert literal(text).isprintable()


def test_names_never_become_code() -> None:
    script = powershell_script(site('"a\'; Stop-VM *"'), "hv01")
    assert "-VMName 'a''; Stop-VM *' " in script


def test_every_entry_is_there_once() -> None:
    script = powershell_script(site("web01"), "hv01")
    assert len(re.findall("^Add-Extended ", script, re.MULTILINE)) == 2
    assert len(re.findall("^Add-Basic ", script, re.MULTILINE)) == 5
    assert "Stateful = $true; IdleSessionTimeout = 60" in script


def test_the_grammar_accepts_it() -> None:
    language = pytest.importorskip("tree_sitter_powershell").language()
    tree_sitter = pytest.importorskip("tree_sitter")
    parser = tree_sitter.Parser(tree_sitter.Language(language))
    script = powershell_script(site('"a\'; Stop-VM *"'), "hv01")
    tree = parser.parse(script.encode())
    assert not tree.root_node.has_error
