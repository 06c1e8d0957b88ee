"""`vswitch hyperv` with several hosts, of which some fail: who goes on, and what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.host import HypervHost
from tests.support.winrm.endpoint import WinrmEndpoint, host_handler

DEAD = "  hv03: {address: 127.0.0.1, port: 9, https: Off, authentication: ntlm, user: admin}\n"


class Fleet:
    """hv01 and hv02, and the canary hv03, which is dead."""

    def __init__(self, shop: Shop, one: WinrmEndpoint, two: WinrmEndpoint, hosts: list[HypervHost]) -> None:
        self.shop = shop
        self.one, self.two = one, two
        self.hosts = hosts
        self.over = fleet_of(one, two)
        shop.run("import", "hv01", "hv02", "-o", "layout.yaml", "policy.yaml", *self.over)
        self.canary("hv03")

    def canary(self, name: str) -> None:
        fleet_of(self.one, self.two, more=f"{DEAD}canary: {name}\n")

    def written(self) -> list[bool]:
        return [bool(host.state()["records"]) for host in self.hosts]


@pytest.fixture
def fleet(shop: Shop) -> Iterator[Fleet]:
    other = json.loads(json.dumps(shop.state | {"computer": "HV02"}).replace("00155D", "00155E"))
    hosts = [HypervHost(shop.state), HypervHost(other)]
    with WinrmEndpoint(host_handler(hosts[0])) as one, WinrmEndpoint(host_handler(hosts[1])) as two:
        yield Fleet(shop, one, two, hosts)


@pytest.mark.parametrize(("armed", "other"), [("hv01", "hv02"), ("hv02", "hv01")])
def test_confirm_tries_every_host_whatever_the_canary_says(fleet: Fleet, armed: str, other: str) -> None:
    """A host that is left out undoes its change."""
    fleet.canary("hv02")
    words = ("apply", "layout.yaml", armed, "--adopt", "--yes", *fleet.over)
    fleet.shop.run(*words, "--confirm-within", "600")
    said = fleet.shop.run("confirm", "hv01", "hv02", "--limit", "1", *fleet.over, status=2).output
    assert f"{other}: no plan waits to be confirmed" in said
    assert "not started" not in said
    assert "confirmed" in fleet.shop.run("backups", armed, *fleet.over).output


@pytest.mark.parametrize("command", ["drift", "plan", "verify", "backups"])
def test_a_dead_canary_does_not_blind(fleet: Fleet, command: str) -> None:
    layout = () if command == "backups" else ("layout.yaml",)
    data = fleet.shop.json(command, *layout, "hv01", "hv02", "hv03", *fleet.over, status=2)
    assert [each["status"] for each in data["hosts"]] == ["done", "done", "failed"]


def test_import_names_every_host_it_cannot_read(fleet: Fleet) -> None:
    more = DEAD + DEAD.replace("hv03", "hv04")
    fleet_of(fleet.one, fleet.two, more=more)
    words = ("import", "hv*", "-o", "a.yaml", "b.yaml", "--limit", "1", *fleet.over)
    said = fleet.shop.run(*words, status=2).output
    assert "hv03: " in said
    assert "hv04: " in said
    assert not Path("a.yaml").exists()


@pytest.mark.parametrize(
    ("canary", "go_on", "failed"),
    [("hv03", (), "the canary hv03"), ("hv03", ("--continue",), "the canary hv03"), ("hv01", (), "hv03")],
)
def test_nothing_is_written_where_a_host_cannot_be_planned(
    fleet: Fleet, canary: str, go_on: tuple[str, ...], failed: str
) -> None:
    fleet.canary(canary)
    words = ("apply", "layout.yaml", "hv01", "hv02", "hv03", "--adopt", "--yes", *go_on, *fleet.over)
    said = fleet.shop.run(*words, status=2).output
    assert f"nothing was written on any host: {failed} could not be planned" in said
    assert fleet.written() == [False, False]


def test_the_hosts_behind_a_canary_that_fails_are_told_why(fleet: Fleet) -> None:
    fleet.shop.run(
        "plan", "layout.yaml", "hv01", "hv02", "--adopt", "--save", "plan.json", *fleet.over, status=1
    )
    fleet.canary("hv02")
    fleet.shop.run("apply", "layout.yaml", "hv02", "--adopt", "--yes", *fleet.over)  # the plan is old now
    fleet.hosts[1].add_entry(*_another(fleet.hosts[1]))
    words = ("apply", "--plan", "plan.json", "--yes", "--continue", *fleet.over)
    assert "hv01: not started: the canary hv02 failed" in fleet.shop.run(*words, status=2).output
    first, second = fleet.shop.json(*words, status=2)["hosts"]
    assert (first["status"], first["reason"]) == ("not started", "the canary hv02 failed")
    assert second["status"] == "failed"
    assert fleet.written() == [False, True]


def _another(host: HypervHost) -> tuple[str, str, dict[str, object]]:
    from tests.support.modelled_host.states import extended

    (web,) = [each["Id"] for each in host.state()["adapters"] if each["extendedAcls"]]
    return web, "extended", extended("Deny", "Inbound", 40000, Protocol="TCP", LocalPort="443")


def test_apply_ends_with_the_command_that_keeps_it(fleet: Fleet) -> None:
    """In full, whatever the width of a line."""
    fleet.canary("hv01")
    words = (
        "apply",
        "layout.yaml",
        "hv01",
        "hv02",
        "--adopt",
        "--yes",
        "--confirm-within",
        "600",
        *fleet.over,
    )
    last = fleet.shop.run(*words).output.splitlines()[-1]
    said, command = last.split(" unless confirmed: vswitch hyperv ")
    assert said.startswith("undone at 20")
    fleet.shop.run(*command.split())
    for name in ("hv01", "hv02"):
        assert "confirmed" in fleet.shop.run("backups", name, *fleet.over).output


def test_a_plan_that_lacks_a_host_is_not_saved(fleet: Fleet) -> None:
    words = ("plan", "layout.yaml", "hv01", "hv03", "--adopt", "--save", "plan.json", *fleet.over)
    said = fleet.shop.run(*words, "--continue", status=2).output
    assert "not saved to plan.json: the canary hv03 could not be planned" in said
    fleet.canary("hv01")
    assert "not saved to plan.json: hv03 could not be planned" in fleet.shop.run(*words, status=2).output
    assert not Path("plan.json").exists()
    said = fleet.shop.run(*words, "--continue", status=2).output
    command = said.split("saved to plan.json; apply it with: vswitch hyperv ")[1]
    fleet.shop.run(*command.split(), "--yes", *fleet.over)
    assert fleet.written() == [True, False]


def test_without_a_terminal_no_password_is_asked_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VSWITCH_HYPERV_PASSWORD")
    monkeypatch.setattr("getpass.getpass", lambda _: pytest.fail("somebody was asked"))
    said = fleet.shop.run("backups", "hv01", "hv02", *fleet.over, status=2).output
    assert "there is no password for admin on hv01" in said
    assert "VSWITCH_HYPERV_PASSWORD" in said
    assert "keyring" in said


def test_what_is_said_of_a_saved_plan_is_not_in_the_json(fleet: Fleet) -> None:
    words = ("plan", "layout.yaml", "hv01", "--adopt", "--save", "plan.json", *fleet.over, "--output", "json")
    result = fleet.shop.run(*words, status=1)
    assert [each["host"] for each in json.loads(result.stdout)["hosts"]] == ["hv01"]
    assert "apply it with: vswitch hyperv apply --plan plan.json" in result.stderr


def test_one_write_is_one_write(fleet: Fleet) -> None:
    fleet.shop.run("apply", "layout.yaml", "hv01", "hv02", "--adopt", "--yes", *fleet.over)
    (web,) = [each for each in fleet.hosts[0].state()["adapters"] if each["extendedAcls"]]
    fleet.hosts[0].remove_entry(web["Id"], "extended", web["extendedAcls"][0])
    said = fleet.shop.run("apply", "layout.yaml", "hv01", "--yes", *fleet.over).output
    assert "hv01: 1 write\n" in said
    assert "applied and verified, 1 write on 1 adapter, plan" in said
    assert ", 1 write\n" in fleet.shop.run("backups", "hv01", *fleet.over).output


@pytest.mark.parametrize("command", [("backups",), ("drift", "layout.yaml")])
def test_errors_in_json_have_the_fields_of_the_reference(fleet: Fleet, command: tuple[str, ...]) -> None:
    (data,) = fleet.shop.json(*command, "hv03", *fleet.over, status=2)["hosts"]
    assert set(data["error"]) == {"error", "message", "file", "line", "column", "hint", "host", "cause"}
    assert (data["error"]["error"], data["error"]["cause"]) == ("WinrmError", "refused")
