"""Names from hosts, inventories and saved plans that try to act on the reader's terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.host import HypervHost, blank_state
from tests.support.modelled_host.states import EXTERNAL, adapter, basic, extended, switch, vm
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler
from vswitch.cli import hyperv_work
from vswitch.cli.output import Page, print_error
from vswitch.errors import HostError, VswitchError
from vswitch.hyperv.applying.answers import Confirmed
from vswitch.hyperv.applying.remote_host import RemoteHost
from vswitch.hyperv.host.backup_document import BackupSummary
from vswitch.wording import visible

ACTING = "\x1b[2K\x1b[1A\u202e\u2066\u200b\u2028\r\nhv01: nothing to do [red]:a:"
VM, ADAPTER, SWITCH = f"web{ACTING}", f"nic{ACTING}", f"vs{ACTING}"


def safe(text: str) -> None:
    """Fail if something in `text` acts on a terminal, or if a name has begun a line."""
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.lstrip().startswith("hv01: nothing to do"), repr(line)


@pytest.fixture
def hostile(shop: Shop) -> Shop:
    state = blank_state("HV01")
    state["switches"] = [switch(SWITCH, EXTERNAL)]
    state["vms"] = [vm(VM)]
    rules = [
        extended("Deny", "Inbound", 1),
        extended("Allow", "Inbound", 500, Protocol="TCP", LocalPort="443"),
    ]
    acls = [basic("Deny", "Outbound", "Remote", 2, "10.9.0.0/16")]
    state["adapters"] = [adapter(VM, SWITCH, 1, "10.0.0.11", name=ADAPTER, rules=rules, acls=acls)]
    shop.state = state
    Path("hv01.json").write_text(json.dumps(state), encoding="utf-8")
    return shop


def test_names_of_a_host_act_on_nothing(hostile: Shop) -> None:
    """Every command that shows names: of the way from import to rollback, and of an exported state."""
    said: dict[str, str] = {}
    host = HypervHost(hostile.state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)

        def run(command: str, *words: str, status: int = 0) -> None:
            options = () if command == "export" else over
            said[command] = (
                said.get(command, "") + hostile.run(command, *words, *options, status=status).output
            )

        run("import", "hv01", "-o", "layout.yaml", "policy.yaml")
        run("apply", "layout.yaml", "--adopt", "--yes")
        hostile.edit("local_port: 443", "local_port: 443-444")
        run("plan", "layout.yaml", "--all", status=1)
        run("verify", "layout.yaml", status=1)
        run("drift", "layout.yaml", status=1)
        run("plan", "layout.yaml", "--save", "change.json", status=1)
        run("apply", "--plan", "change.json", "--yes", "--confirm-within", "600")
        run("confirm", "hv01")
        run("backups", "hv01")
        run("rollback", "hv01", "--yes")
        run("export", "layout.yaml")
    for command, text in said.items():
        safe(text)
        if command not in ("confirm", "backups", "export"):
            assert visible(VM) in text, command
    for path in ("layout.yaml", "policy.yaml", "change.json"):
        safe(Path(path).read_text(encoding="utf-8"))


def test_an_exported_state_acts_on_nothing(hostile: Shop) -> None:
    file = ("--from-file", "hv01.json")
    safe(hostile.run("import", *file, "-o", "layout.yaml", "policy.yaml").output)
    hostile.edit("weight: 500", "weight: 501")
    for command in ("plan", "verify", "drift"):
        text = hostile.run(command, "layout.yaml", *file, status=1).output
        safe(text)
        assert visible(VM) in text


def test_answers_of_a_host_act_on_nothing(hostile: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan ids, times, states and words of errors, as a host that lies may give them."""
    shown = visible(ACTING)
    told: dict[str, Any] = {
        "plan_id": ACTING,
        "created_at": ACTING,
        "state": ACTING,
        "steps": 1,
        "armed_until": ACTING,
    }
    backup = BackupSummary.model_construct(**told)
    damaged = BackupSummary.model_construct(**told | {"state": "unreadable"})
    monkeypatch.setattr(hyperv_work, "backups", lambda _: (backup, damaged))
    monkeypatch.setattr(RemoteHost, "confirm", lambda *_: Confirmed.model_construct(plan_id=ACTING))
    for command, times in (("backups", 5), ("confirm", 1)):
        text = hostile.run(command, "hv01", "-u", "x", "-a", "ntlm").output
        safe(text)
        assert text.count(shown) == times

    def refuse(_: RemoteHost) -> None:
        raise HostError(ACTING, host="hv01", hint=ACTING)

    monkeypatch.setattr(hyperv_work, "backups", refuse)
    text = hostile.run("backups", "hv01", "-u", "x", "-a", "ntlm", status=2).output
    safe(text)
    assert text.count(shown) == 2


@pytest.mark.parametrize("command", ["backups", "confirm", "rollback", "import"])
def test_words_of_the_reader_s_own_act_on_nothing(hostile: Shop, command: str) -> None:
    """Names of hosts on the command line and in an inventory, groups and what they refuse."""
    quoted = json.dumps(f"hv{ACTING}")
    Path("fleet.yaml").write_text(f"hosts: {{{quoted}: {{address: {quoted}, port: 9}}}}\n", encoding="utf-8")
    for words in ([f"hv{ACTING}"], [f"hv{ACTING}", "-i", "fleet.yaml"], ["other", "-i", "fleet.yaml"]):
        result = hostile.attempt(command, *words)
        stream = io.StringIO()
        if isinstance(result.exception, VswitchError):
            print_error(result.exception, as_json=False, page=Page(stream))
        text = result.output + stream.getvalue()
        assert text
        safe(text)
