"""The shipped module over the transport: bootstrap, framing, and the modelled host behind the endpoint."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.support.modelled_host.host import CmdletFault, HypervHost
from tests.support.modelled_host.states import sample_state
from tests.support.winrm.endpoint import WinrmEndpoint, answer, host_handler, split_input
from tests.support.winrm.runs import transport_to
from vswitch.hyperv.winrm import framing
from vswitch.hyperv.winrm.guard import TooLarge
from vswitch.hyperv.winrm.shipped_module import module_text
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import OutcomeUnknown

NAMES = "Büro-VM Ω 'a'; Stop-VM * \u2028 \U0001f600"


def test_the_shipped_module_and_the_modelled_host() -> None:
    state = sample_state()
    state["vms"][0]["Name"] = NAMES
    host = HypervHost(state)
    with WinrmEndpoint(host_handler(host)) as endpoint:
        document: dict[str, Any] = transport_to(endpoint, module=module_text()).run(ScriptRequest("export"))
        assert not endpoint.defects
        assert endpoint.count("Create") == 1
    assert document["ok"]
    assert NAMES in [vm["Name"] for vm in document["result"]["vms"]]


def test_another_script_is_no_module() -> None:
    with WinrmEndpoint(host_handler(HypervHost(sample_state()))) as endpoint:
        with pytest.raises(OutcomeUnknown):
            transport_to(endpoint, module=module_text() + b"\n").run(ScriptRequest("apply"))
        assert type(endpoint.defects[0]).__name__ == "NotTheModule"


@pytest.mark.parametrize("kind", ["die", "hang"])
def test_a_modelled_host_that_goes_wrong(kind: str) -> None:
    host = HypervHost(sample_state(), faults=[CmdletFault(1, kind=kind)])
    with WinrmEndpoint(host_handler(host)) as endpoint:
        transport = transport_to(endpoint, module=module_text(), timeout=1.5)
        with pytest.raises(OutcomeUnknown) as caught:
            transport.run(ScriptRequest("undo", {"planId": "none"}))
        assert caught.value.may_still_run == (kind == "die")


def test_the_bootstrap_is_powershell() -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_powershell")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    assert not parser.parse(framing.BOOTSTRAP.encode()).root_node.has_error


def test_input_survives_the_framing() -> None:
    module = "function f { 'ü' }\n{".encode()
    stdin = framing.encode_request(module, "apply", {"name": NAMES})
    assert split_input(stdin) == (module, {"operation": "apply", "arguments": {"name": NAMES}})


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_a_reply_with_a_missing_piece_is_no_reply(cut: int) -> None:
    whole = answer({"schema": 1, "ok": True, "result": {"names": [NAMES]}}).stdout
    assert _reply(whole).complete
    for damaged in (whole[:-cut], whole[:30] + whole[30 + cut :], whole[cut:]):
        assert not _reply(damaged).complete
        with pytest.raises(framing.IncompleteReply):
            _reply(damaged).document()


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_reply_may_come_in_pieces_after_other_text(size: int) -> None:
    document = {"schema": 1, "ok": True, "result": {"names": [NAMES] * 20}}
    reply = _reply(b"Welcome {\r\n" * 30 + answer(document).stdout + b"bye", size)
    assert reply.document() == document
    assert reply.complete


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"[]", b"\xff", b"{"])
def test_what_is_no_json_object_is_no_reply(text: bytes) -> None:
    with pytest.raises(framing.IncompleteReply):
        _reply(b'{"documentBytes":%d}\n' % len(text) + text).document()


def test_a_reply_is_limited_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "LARGEST_REPLY", 1000)
    for flood in ((b'{"documentBytes":1001}\n', b""), (b"x" * 500, b"x" * 501)):
        with pytest.raises(TooLarge):
            framing.FramedReply().add(*flood)
    reply = framing.FramedReply()
    for _ in range(10):
        reply.add(b"", b"x" * 100)
    with pytest.raises(TooLarge):
        reply.add(b"", b"x")


def _reply(output: bytes, size: int = 1 << 20) -> framing.FramedReply:
    reply = framing.FramedReply()
    for start in range(0, len(output), size):
        reply.add(output[start : start + size], b"")
    return reply


@pytest.mark.pwsh
@pytest.mark.parametrize("engine", ["pwsh", "powershell"])
@pytest.mark.parametrize("long", [False, True])
def test_the_bootstrap_runs(engine: str, long: bool) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"there is no {engine} here")
    text = NAMES * (30_000 if long else 1)
    module = """
        function Invoke-VswitchOperation {
            param([string] $Json)
            $request = ConvertFrom-Json $Json
            if ($request.operation -eq 'throw') { throw 'as asked' }
            ConvertTo-Json -Compress @{ schema = 1; ok = $true; echo = $request.arguments.text; is = 'ünï' }
        }
        Export-ModuleMember -Function 'Invoke-VswitchOperation'
    """.encode()
    _, arguments = framing.command_line()

    def run(operation: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [engine, *arguments],
            input=framing.encode_request(module, operation, {"text": text}),
            capture_output=True,
            timeout=120,
            check=False,
        )

    done = run("echo")
    assert framing.STARTED in done.stderr
    assert _reply(done.stdout).document() == {"schema": 1, "ok": True, "echo": text, "is": "ünï"}
    failed: dict[str, Any] = _reply(run("throw").stdout).document()
    assert failed["ok"] is False
    assert failed["error"]["message"] == "as asked"


def test_the_command_line_says_what_the_bootstrap_is() -> None:
    _, arguments = framing.command_line()
    assert "-InputFormat" in arguments
    assert base64.b64decode(arguments[-1]).decode("utf-16-le").count("Invoke-VswitchOperation") == 1
    assert json.loads(framing.encode_request(b"ab", "x", {}).partition(b"\n")[0])["scriptBytes"] == 2
