"""What a mistyped word is taken for, and what is not said about files that are somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.model_files import LAYOUT, POLICY, reader
from vswitch.errors import InputError, InputErrors
from vswitch.hyperv.fleet.inventory import load_inventory
from vswitch.model import load_site
from vswitch.model.site import Service
from vswitch.textfiles import read_text

SECRET = "Zs3cr3t"
FOREIGN = {
    "shadow": f"root:$y$j9T${SECRET}:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "passwords": f"root:{SECRET}:0:0:{SECRET}\nname:{SECRET}\n",
    "yaml": f"token: {SECRET}\n{SECRET}: true\n",
    "list": f"- {SECRET}\n- {{a: {SECRET}}}\n",
    "json": f'{{"token": "{SECRET}", "{SECRET}": 1}}',
    "broken json": f'{{"token": "{SECRET}",',
    "ini": f"[database]\npassword = {SECRET}\n",
    "variables": f"export TOKEN='{SECRET}'\n",
    "workflow": f"name: {SECRET}\non: push\njobs:\n  a: {{b: '{SECRET}'}}\n",
    "twice": f"{SECRET}: 1\n{SECRET}: 2\n",
    "key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n",
    "alias": f"*{SECRET}\n",
    "tag": f"!{SECRET} &a {SECRET}\n",
    "nul": f"{SECRET}\0{SECRET}",
    "utf-16": f"\ufeff{SECRET}",
}


def said(file: str, policies: list[str] | None, **texts: str) -> str:
    with pytest.raises(InputErrors) as caught:
        load_site(file, policies, read=reader(**texts))
    return "\n".join(map(str, caught.value.errors))


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_nothing_is_quoted_of_a_file_that_is_something_else(text: str) -> None:
    layout = LAYOUT + "policies: [p.yaml, ../../etc/shadow]\n"
    for shown in (
        said("l.yaml", None, layout=layout, **{"../../etc/shadow": text}),
        said("l.yaml", ["../../etc/shadow"], **{"../../etc/shadow": text}),
    ):
        assert SECRET not in shown
        assert "../../etc/shadow" in shown
        assert "this is not a policy" in shown
    shown = said("../../etc/shadow", None, **{"../../etc/shadow": text})
    assert SECRET not in shown
    assert "this is not a layout" in shown
    with pytest.raises(InputError, match="this is not an inventory") as caught:
        load_inventory("hosts.yaml", read=lambda _: text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "quoted"),
    [
        ("extended_acl:\n  - {adapters: web}\n", "'extended_acl'"),
        ("ExtendedAcls: []\n", "'ExtendedAcls'"),
        (POLICY + "other: 1\n", "'other'"),
        (POLICY + "acls: @x\n", "'@'"),
        ("  groups: {a: [web*]\n", "not YAML"),
        ('{"acls": [}', "not YAML"),
    ],
)
def test_what_is_a_policy_with_mistakes_is_quoted(policy: str, quoted: str) -> None:
    assert quoted in said("l.yaml", ["p.yaml"], policy=policy)


def test_a_policy_that_cannot_be_had_names_the_line_of_the_layout(tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text(f"{LAYOUT}policies:\n  - missing.yaml\n  - .\n", encoding="utf-8")
    with pytest.raises(InputErrors) as caught:
        load_site(str(tmp_path / "l.yaml"), read=read_text)
    line = LAYOUT.count("\n") + 2
    assert [str(error.where) for error in caught.value.errors] == [
        f"{tmp_path}/l.yaml:{line}:5",
        f"{tmp_path}/l.yaml:{line + 1}:5",
    ]
    assert "missing.yaml': the file cannot be read: no such file" in caught.value.errors[0].message
    assert "this is a folder, not a file" in caught.value.errors[1].message
    with pytest.raises(InputErrors, match=r"^missing\.yaml: the file cannot be read"):
        load_site(str(tmp_path / "l.yaml"), ["missing.yaml"], read=read_text)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("port", "'local_port' or 'remote_port'"),
        ("LocalPort", "'local_port'"),
        ("RemoteIPAddress", "'remote_ip_address'"),
        ("remote-ip-address", "'remote_ip_address'"),
        ("IdleSessionTimeout", "'idle_session_timeout'"),
        ("IsolationID", "'isolation_id'"),
        ("VMName", "'adapters'"),
        ("ipaddress", "'local_ip_address' or 'remote_ip_address'"),
        ("remote_ip", "'remote_ip_address'"),
        ("wieght", "'weight'"),
    ],
)
def test_a_key_by_another_name_in_a_rule(word: str, meant: str) -> None:
    shown = said("l.yaml", ["p.yaml"], policy=POLICY.replace("weight: 500", f"{word}: 80"))
    assert f"unknown key {word!r}\n  did you mean {meant}? allowed here: name, adapters" in shown


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("SwitchName", "'switch'"),
        ("MacAddressSpoofing", "'mac_address_spoofing'"),
        ("VlanId", "'vlan'"),
        ("DhcpGuard", "'dhcp_guard'"),
        ("MacAddress", "'mac'"),
        ("IPAddress", "'addresses'"),
    ],
)
def test_a_key_by_another_name_in_an_adapter(word: str, meant: str) -> None:
    shown = said("l.yaml", [], layout=LAYOUT.replace("mac_address_spoofing: On", f"{word}: x"))
    assert f"unknown key {word!r}\n  did you mean {meant}? allowed here: switch" in shown


@pytest.mark.parametrize(("word", "value"), [("$true", True), ("$False", False), ("ON", True), ("no", False)])
def test_on_and_off_as_hyper_v_has_them(word: str, value: bool) -> None:
    layout = LAYOUT.replace("mac_address_spoofing: On", f"mac_address_spoofing: {word}")
    site = load_site("l.yaml", [], read=reader(layout=layout))
    assert site.guest["web01"].adapters[0].mac_address_spoofing is value


@pytest.mark.parametrize("word", ["0", "1"])
def test_numbers_are_neither_on_nor_off(word: str) -> None:
    """In Hyper-V's own JSON On is 0."""
    shown = said(
        "l.yaml", [], layout=LAYOUT.replace("mac_address_spoofing: On", f"mac_address_spoofing: {word}")
    )
    assert "is neither On nor Off\n  allowed: On, Off, true, false; Hyper-V itself writes 0 for On" in shown


def test_services_are_written_as_traffic_is() -> None:
    layout = LAYOUT.replace("services: [winrm]", "services: [tcp/80, UDP/dns, 'tcp/8000-8001']")
    guest = load_site("l.yaml", [], read=reader(layout=layout)).guest["hv01"]
    found = [(service.protocol, service.port) for service in guest.services]
    assert found == [(6, 80), (17, 53), (6, 8000), (6, 8001)]
    assert isinstance(guest.services[0], Service)
    for wrong, words in {
        "ip/47": "only TCP and UDP have ports",
        "tcp/0": "port 0",
        "tcp/": "not a port",
    }.items():
        assert words in said("l.yaml", [], layout=LAYOUT.replace("services: [winrm]", f"services: [{wrong}]"))
