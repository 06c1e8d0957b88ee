"""`vswitch hyperv`, from the command line to a modelled host over WinRM."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import typer

from tests.support.hyperv_shop import Shop, fleet_of
from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import extended
from tests.support.winrm.endpoint import ShellOutput, WinrmEndpoint, host_handler
from tests.support.winrm.runs import PASSWORD
from vswitch.cli import hyperv
from vswitch.hyperv.applying.remote_host import RemoteHost
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.fleet.inventory import host_from_word
from vswitch.hyperv.winrm.credentials import CredentialFinder


def test_import_plan_drift_and_export_from_a_file(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml", status=2)
    shop.run("plan", "layout.yaml", "--from-file", "hv01.json")
    shop.run("drift", "layout.yaml", "--from-file", "hv01.json")
    shop.edit(
        "extended_acls:",
        "extended_acls:\n  - {name: new, adapters: web01, direction: Inbound, action: Deny, weight: 600,"
        " protocol: TCP, local_port: 443}",
    )
    data = shop.json("plan", "layout.yaml", "--from-file", "hv01.json", status=1)
    (plan,) = [each["result"] for each in data["hosts"]]
    (changed,) = [each for each in plan["adapters"] if each["added"]]
    assert [each["rule"] for each in changed["added"]] == ["new"]
    assert changed["effects"][0]["changes"] == {
        "newly denied": [{"version": "IP", "protocol": "TCP", "local_port": "443"}]
    }
    assert changed["shadowing"][0]["wholly"]
    assert "1 missing" in shop.run("drift", "layout.yaml", "--from-file", "hv01.json", status=1).output
    assert "Weight = 600" in shop.run("export", "layout.yaml").output
    shop.run("verify", "layout.yaml", "--from-file", "nothing.json", status=2)


def test_the_whole_way_over_winrm(shop: Shop) -> None:
    host = HypervHost(shop.state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        assert endpoint.count("Create") == 1
        shop.run("apply", "layout.yaml", "--adopt", "--yes", *over)
        shop.run("verify", "layout.yaml", *over)
        shop.edit("local_port: 443", "local_port: 443-444")

        # A saved plan is applied in one round trip, and refused once the host has changed.
        shop.run("plan", "layout.yaml", "--save", "change.json", *over, status=1)
        trips = endpoint.count("Create")
        shop.run("apply", "--plan", "change.json", *over, status=2)  # nobody said --yes
        assert endpoint.count("Create") == trips
        shop.run("apply", "--plan", "change.json", "--yes", "--confirm-within", "600", *over)
        assert endpoint.count("Create") == trips + 1
        shop.run("confirm", "hv01", *over)
        shop.run("drift", "layout.yaml", *over)
        assert "confirmed" in shop.run("backups", "hv01", *over).output
        shop.run("rollback", "hv01", "--yes", *over)
        shop.run("drift", "layout.yaml", *over, status=1)
        data = shop.json("apply", "layout.yaml", "--yes", *over)
        assert data["hosts"][0]["result"]["steps"] > 0
        shop.run("apply", "layout.yaml", "--yes", *over)
        shop.run("drift", "layout.yaml", *over)


def test_a_host_that_does_not_answer_is_status_2(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    Path("fleet.yaml").write_text(
        "hosts: {hv01: {address: 127.0.0.1, port: 9, https: Off, authentication: ntlm, user: admin,"
        " connect_timeout: 1}}",
        encoding="utf-8",
    )
    result = shop.run("drift", "layout.yaml", "-i", "fleet.yaml", status=2)
    assert PASSWORD not in result.output


def test_drift_sees_what_others_did_and_verify_says_what_it_means(shop: Shop) -> None:
    """Entries of others that come or go are no breach of the policy, but the host is not as it was."""
    host = HypervHost(shop.state)
    rule = extended("Deny", "Inbound", 40000, Protocol="TCP", LocalPort="443")
    (web,) = [each["Id"] for each in host.state()["adapters"] if each["extendedAcls"]]
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        shop.run("apply", "layout.yaml", "--adopt", "--yes", *over)
        shop.run("drift", "layout.yaml", *over)

        host.add_entry(web, "extended", rule)
        (data,) = shop.json("drift", "layout.yaml", *over, status=1)["hosts"]
        (others,) = data["result"]["others"]
        assert (others["came"], others["went"]) == (["Inbound 40000 Deny TCP local port 443"], [])
        checked = shop.run("verify", "layout.yaml", *over).output
        assert "hv01: as the policy says" in checked
        assert "shadow: Inbound 40000 Deny TCP local port 443 decides in place of" in checked
        assert "write" not in checked
        shop.run("plan", "layout.yaml", *over)

        # Another machine, without a memory of its own, sees the same.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VSWITCH_STATE", str(shop.folder / "elsewhere"))
            shop.run("drift", "layout.yaml", *over, status=1)

        # The next apply takes note, writes no entry, and asks nobody.
        data = shop.json("apply", "layout.yaml", *over)
        assert data["hosts"][0]["result"]["steps"] == 0
        shop.run("drift", "layout.yaml", *over)
        host.remove_entry(web, "extended", rule)
        assert "0 came, 1 went" in shop.run("drift", "layout.yaml", *over, status=1).output
        # An entry of ours that went is a breach too, and said without the word `write`.
        host.remove_entry(web, "extended", extended("Allow", "Inbound", 500, Protocol="TCP", LocalPort="443"))
        assert "hv01: 1 missing, 0 too many" in shop.run("verify", "layout.yaml", *over, status=1).output
        # What was only taken note of is no plan to go back from: this gives back what was adopted.
        shop.run("rollback", "hv01", "--yes", *over)
        assert not any(record["entries"] for record in host.state()["records"])


def test_a_wrong_password_reaches_one_host_of_the_fleet(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWITCH_HYPERV_PASSWORD", "mistyped")
    with ExitStack() as stack:
        endpoints = [
            stack.enter_context(WinrmEndpoint(host_handler(HypervHost(shop.state)))) for _ in range(4)
        ]
        data = shop.json("backups", "hv*", *fleet_of(*endpoints), status=2)
        assert [each["status"] for each in data["hosts"]] == ["failed", *["not started"] * 3]
        assert [endpoint.total_connections > 0 for endpoint in endpoints] == [True, False, False, False]


def test_a_fleet_does_not_wait_for_the_first_host_to_finish(shop: Shop) -> None:
    """Only until that host has accepted the password: here it finishes after the second one has begun."""
    begun = threading.Event()
    first, second = (host_handler(HypervHost(shop.state)) for _ in range(2))

    def slow(stdin: bytes) -> bytes | ShellOutput:
        assert begun.wait(20)
        return first(stdin)

    def quick(stdin: bytes) -> bytes | ShellOutput:
        begun.set()
        return second(stdin)

    with WinrmEndpoint(slow) as one, WinrmEndpoint(quick) as two:
        shop.run("backups", "hv*", *fleet_of(one, two))


def test_a_password_is_asked_for_where_ctrl_c_is_heard(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, before the work begins, in the main thread."""
    asked: list[threading.Thread] = []

    def prompt(_: str) -> str:
        asked.append(threading.current_thread())
        return PASSWORD

    monkeypatch.delenv("VSWITCH_HYPERV_PASSWORD")
    finder = partial(CredentialFinder, environment={}, keyring=None, prompt=prompt)
    monkeypatch.setattr("vswitch.hyperv.fleet.fleet_work.CredentialFinder", finder)
    with (
        WinrmEndpoint(host_handler(HypervHost(shop.state))) as one,
        WinrmEndpoint(host_handler(HypervHost(shop.state))) as two,
    ):
        shop.run("backups", "hv*", *fleet_of(one, two))
    assert asked == [threading.main_thread()]


def test_a_host_under_two_names_is_not_written_twice(shop: Shop) -> None:
    host = HypervHost(shop.state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        over = fleet_of(endpoint, endpoint)
        shop.run("import", "hv01", "-o", "layout.yaml", "policy.yaml", *over)
        words = ("apply", "layout.yaml", "hv01", "hv02", "--adopt", "--yes", *over)
        result = shop.run(*words, status=2)
        assert "hv01 and hv02 are the same host" in str(result.exception)
        assert not host.state()["records"]


def test_a_plan_is_not_saved_in_place_of_a_device(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    Path("folder").mkdir()
    # Status 1 would mean that there is something to write.
    result = shop.run("plan", "layout.yaml", "--from-file", "hv01.json", "--save", "folder", status=2)
    assert "not a regular file" in str(result.exception)


def test_apply_tells_of_every_host_in_json(shop: Shop) -> None:
    """Of one on which there was nothing to do, one that was changed, and one that could not be read."""
    other = json.loads(json.dumps(shop.state | {"computer": "HV02"}).replace("00155D", "00155E"))
    hosts = [HypervHost(shop.state), HypervHost(other)]
    with ExitStack() as stack:
        endpoints = [stack.enter_context(WinrmEndpoint(host_handler(host))) for host in hosts]
        dead = "  hv03: {address: 127.0.0.1, port: 9, https: Off, authentication: ntlm, user: admin}\n"
        over = fleet_of(*endpoints, more=dead)
        shop.run("import", "hv01", "hv02", "-o", "layout.yaml", "policy.yaml", *over)
        shop.run("apply", "layout.yaml", "hv01", "--adopt", "--yes", *over)
        names = ("hv01", "hv02", "hv03")
        words = ("apply", "layout.yaml", *names, "--adopt", "--yes", "--continue", *over)
        data = shop.json(*words, status=2)
        assert [each["status"] for each in data["hosts"]] == ["done", "done", "failed"]
        assert [each.get("result", {}).get("note") for each in data["hosts"]] == ["nothing to do", "", None]


def test_ctrl_c_names_the_hosts_that_are_left(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    from vswitch.cli.hyperv_hosts import Hosts, work_on
    from vswitch.hyperv.fleet.fleet_work import Fleet

    names = ["hv01", "hv02", "hv03"]
    targets = {name: RemoteHost(name, None, Store(name)) for name in names}
    fleet = Hosts(Fleet(tuple(map(host_from_word, names)), (), targets))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vswitch.hyperv.fleet.fleet_run._Fleet._tell", _interrupt)
        with pytest.raises(typer.Exit) as left:
            work_on(fleet, "applying", lambda _: "changed", limit=1, go_on=True, describe=str)
    assert left.value.exit_code == 130
    said = capfd.readouterr().err
    assert "interrupted while applying" in said
    assert "hv01: changed" in said
    assert "hv02, hv03: not started" in said


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_a_saved_plan_is_shown_before_it_is_agreed_to(shop: Shop) -> None:
    """Also what it asks: nobody agrees to what is not on the screen."""
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    shop.edit(
        "extended_acls:",
        "extended_acls:\n"
        "  - {name: lock-out, adapters: 'host:HV01', direction: Inbound, action: Deny, weight: 9}",
    )
    words = ("layout.yaml", "--from-file", "hv01.json", "--save", "plan.json")
    assert "cuts WinRM" in shop.run("plan", *words, status=1).output
    shown = shop.run("apply", "--plan", "plan.json", "--yes", status=2)
    assert "asks:" in shown.output
    assert "cuts WinRM" in shown.output
    assert "+ Inbound 9 Deny ANY  lock-out (policy.yaml:" in shown.output
    assert "--accept" in str(shown.exception)


def test_export_answers_in_json(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    plain = shop.run("export", "layout.yaml").stdout
    assert shop.json("export", "layout.yaml") == {"host": "HV01", "script": plain}
    assert shop.json("export", "layout.yaml", "--out", "hv01.ps1") == {"host": "HV01", "file": "hv01.ps1"}
    assert "apply --adopt" in plain


def test_export_overwrites_when_told_to(shop: Shop) -> None:
    shop.run("import", "--from-file", "hv01.json", "-o", "layout.yaml", "policy.yaml")
    Path("hv01.ps1").write_text("mine", encoding="utf-8")
    result = shop.run("export", "layout.yaml", "--out", "hv01.ps1", status=2)
    assert "hv01.ps1 is there already" in str(result.exception)
    assert Path("hv01.ps1").read_text(encoding="utf-8") == "mine"
    shop.run("export", "layout.yaml", "--out", "hv01.ps1", "--force")
    assert "Weight = 500" in Path("hv01.ps1").read_text(encoding="utf-8-sig")


def test_import_takes_two_files_after_its_o(shop: Shop) -> None:
    result = shop.run("import", "--from-file", "hv01.json", "-o", "json", "policy.yaml", status=2)
    assert "--output json" in str(result.exception)
    assert not Path("json").exists()
    assert "LAYOUT POLICY" in shop.run("import", "--help").output


@pytest.mark.parametrize("words", [("--policy", "policy.yaml"), ("--adopt",)])
def test_a_saved_plan_takes_no_more_wishes(shop: Shop, words: tuple[str, ...]) -> None:
    assert "says all" in str(shop.run("apply", "--plan", "x.json", *words, status=2).exception)


COMMANDS = [each.name or each.callback.__name__ for each in hyperv.app.registered_commands if each.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(shop: Shop, command: str) -> None:
    said = " ".join(shop.run(command, "--help").output.split())
    assert f"Example: vswitch hyperv {command}" in said


@pytest.mark.parametrize("seconds", ["-1", "1", "9", "86401"])
def test_a_time_the_host_would_refuse_is_refused_at_once(shop: Shop, seconds: str) -> None:
    """No host is asked: there is none."""
    for words in (("apply", "layout.yaml"), ("apply", "--plan", "change.json"), ("rollback", "hv01")):
        shown = shop.run(*words, "--confirm-within", seconds, "-i", "none.yaml", status=2).output
        assert "10 to 86400 seconds" in " ".join(shown.replace("\u2502", "").split())
