"""The Python model of the module and the module itself call the same things in the same order."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.modelled_host.cmdlets import Cmdlets
from tests.support.modelled_host.module_functions import Module
from tests.support.powershell.tree import Script, command_of, string_of, text_of, walk

ROOT = Path(__file__).resolve().parents[2]
MODULE = Script("Vswitch.psm1", (ROOT / "powershell/Vswitch/Vswitch.psm1").read_bytes())

# Functions without an effect on the host, or with one that the model has in another form (files,
# folders, rights); values.py and the model's files stand for them.
NOT_MIRRORED = set(
    """Assert-VswitchPlan Assert-VswitchReadable ConvertFrom-VswitchJson ConvertTo-VswitchAddress
    ConvertTo-VswitchBackup ConvertTo-VswitchBasicEntry ConvertTo-VswitchError
    ConvertTo-VswitchExtendedEntry ConvertTo-VswitchJson ConvertTo-VswitchMac
    ConvertTo-VswitchPort ConvertTo-VswitchProtocol Get-VswitchArmedPath Get-VswitchBackupPath
    Get-VswitchBasicKey Get-VswitchErrorCode Get-VswitchExtendedKey Get-VswitchFlag
    Get-VswitchGuid Get-VswitchKey Get-VswitchKeyText Get-VswitchList Get-VswitchMissing
    Get-VswitchModuleText Get-VswitchNumber Get-VswitchPath Get-VswitchPlannedText
    Get-VswitchProgressPath Get-VswitchRecordDuring Get-VswitchRecordText Get-VswitchStepKind Get-VswitchText
    Get-VswitchTime Get-VswitchTimeText Get-VswitchUndoScript Get-VswitchValue
    Invoke-VswitchPlan New-VswitchError Open-VswitchFile Read-VswitchText Stop-VswitchOperation
    Test-VswitchAddition Test-VswitchEntry Test-VswitchFolder Test-VswitchInUse
    Write-VswitchText""".split()  # noqa: SIM905
)


def methods(owner: type, mark: str) -> dict[str, Any]:
    found = {}
    for name in dir(owner):
        method = getattr(owner, name)
        if hasattr(method, mark):
            found[name] = method
    return found


CMDLETS = {name: method.cmdlet for name, method in methods(Cmdlets, "cmdlet").items()}
MIRRORS = {name: method.mirrors for name, method in methods(Module, "mirrors").items()}


def in_order(node: ast.AST) -> Iterator[ast.AST]:
    """As `ast.walk`, but in the order of execution: what a comprehension iterates over comes first."""
    yield node
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.ListComp | ast.DictComp | ast.SetComp | ast.GeneratorExp):
        rest = [child for child in children if not isinstance(child, ast.comprehension)]
        children = [*node.generators, *rest]
    for child in children:
        yield from in_order(child)


def python_calls(method: Any) -> list[str]:
    """PowerShell's names for what a method of the model calls; private helpers are looked into."""
    found = []
    for node in in_order(ast.parse(textwrap.dedent(inspect.getsource(method)))):
        if not isinstance(node, ast.Attribute):
            continue
        if isinstance(node.value, ast.Attribute) and node.value.attr == "host":
            found += [CMDLETS[node.attr]] if node.attr in CMDLETS else []
        elif isinstance(node.value, ast.Name) and node.value.id == "self":
            if node.attr in MIRRORS:
                found.append(MIRRORS[node.attr])
            elif node.attr.startswith("_"):
                found += python_calls(getattr(Module, node.attr))
    return found


def powershell_calls(name: str, script: Script = MODULE) -> list[str]:
    names = {*CMDLETS.values(), *MIRRORS.values()}
    return [command.name for command in script.functions[name].commands if command.name in names]


@pytest.mark.parametrize("method", sorted(MIRRORS))
def test_calls_are_the_same(method: str) -> None:
    assert python_calls(getattr(Module, method)) == powershell_calls(MIRRORS[method])


#: What decides: states of plans and of adapters, and the module's own error categories.
DECIDING = set(
    """applied applying confirmed failed gone new old other undone unread AccessDenied Armed BadPlan Busy
    HyperVMissing NotApplied NotAsPlanned NotFound StateChanged Superseded Unfinished UnknownOperation
    UnreadableFile UnsafeFolder export apply undo confirm""".split()  # noqa: SIM905
)


def python_words(method: Any) -> list[str]:
    found = []
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))))
    keys = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
    for node in nodes:
        if id(node) in keys:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            found += python_words(getattr(Module, node.attr))
    return [word for word in found if word in DECIDING]


def powershell_words(name: str, script: Script = MODULE) -> list[str]:
    found = (string_of(node) for node in walk(script.functions[name].node) if node.type == "string_literal")
    return [word for word in found if word in DECIDING]


@pytest.mark.parametrize("method", sorted(MIRRORS))
def test_words_that_decide_are_the_same(method: str) -> None:
    assert sorted(python_words(getattr(Module, method))) == sorted(powershell_words(MIRRORS[method]))


READERS = {f"Get-Vswitch{kind}" for kind in ("Value", "Text", "Number", "Flag", "List", "Guid", "TimeText")}
SUPPORT = ["module_functions", "reading", "values", "states", "as_site", "cmdlets"]
#: What only the module has: tables of its own, and fields of teams and NAT mappings.
OWN_FIELDS = set(
    """key acl error NetAdapterInterfaceDescription TeamingMode LoadBalancingAlgorithm ExternalIPAddress
    ExternalPort InternalIPAddress InternalPort InternalIPInterfaceAddressPrefix
    ExternalIPInterfaceAddressPrefix RemoteExternalIPAddressPrefix TcpFilteringBehavior UdpFilteringBehavior
    IcmpQueryTimeout TcpEstablishedConnectionTimeout TcpTransientConnectionTimeout
    UdpIdleSessionTimeout""".split()  # noqa: SIM905
)


def fields(script: Script) -> Iterator[str]:
    """Names of fields the module reads or writes as text; what is splatted is checked as parameters."""
    for node in walk(script.root):
        name = None
        if node.type == "element_access" and text_of(node.children[0]) != "$arguments":
            name = string_of(node.children[2])
        elif node.type == "command" and command_of(node).name in READERS:
            argument = command_of(node).argument("Name")
            name = string_of(argument.value) if argument is not None else None
        if name is not None:
            yield name


def known_fields() -> set[str]:
    trees = (
        ast.parse((ROOT / "tests" / "support" / "modelled_host" / f"{name}.py").read_text(encoding="utf-8"))
        for name in SUPPORT
    )
    return OWN_FIELDS.union(*map(keys_in, trees))


def keys_in(tree: ast.Module) -> Iterator[str]:
    """Texts that stand where a field's name does: keys, subscripts, lists of names, named arguments."""
    for node in ast.walk(tree):
        places: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            places = [*node.keys]
        elif isinstance(node, ast.Subscript):
            places = [node.slice]
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            places = [*node.elts]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            places = [*node.args[:1]] if node.func.attr in ("get", "pop", "setdefault") else []
        elif isinstance(node, ast.keyword | ast.arg):
            yield node.arg or ""
        for place in places:
            if isinstance(place, ast.Constant) and isinstance(place.value, str):
                yield place.value


def test_every_field_the_module_names_is_one_of_the_model() -> None:
    known = known_fields()
    assert set(fields(MODULE)) - known == set()
    for wrong in ("armeduntil", "AccessDenied"):  # the model says the second one too, but not as a field
        damaged = Script("damaged", MODULE.source.replace(b"'armedUntil'", f"'{wrong}'".encode()))
        assert set(fields(damaged)) - known == {wrong}


DEFECTS = yaml.safe_load((Path(__file__).parent / "defects.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("defect", DEFECTS["against_the_model"], ids=lambda defect: defect["name"])
def test_planted_difference_from_the_model_is_caught(defect: dict[str, str]) -> None:
    source, name = MODULE.source.decode("ascii"), defect["function"]
    start = source.index(f"function {name} {{")
    at = source.index(defect["before"], start)
    damaged = source[:at] + defect["after"] + source[at + len(defect["before"]) :]
    script = Script("damaged", damaged.encode("ascii"))
    method = getattr(Module, next(method for method, mirrored in MIRRORS.items() if mirrored == name))
    calls = powershell_calls(name, script) != python_calls(method)
    words = sorted(powershell_words(name, script)) != sorted(python_words(method))
    assert calls or words


def test_every_function_is_mirrored_or_named_as_not() -> None:
    assert set(MODULE.functions) == {*MIRRORS.values(), *NOT_MIRRORED}
    assert not NOT_MIRRORED & set(MIRRORS.values())


def test_functions_that_are_not_mirrored_touch_no_host() -> None:
    for name in NOT_MIRRORED - {"Invoke-VswitchPlan"}:
        assert powershell_calls(name) == [], name


def test_every_host_cmdlet_of_the_module_is_modelled() -> None:
    prefixes = ("Add-VM", "Remove-VM", "Get-VM", "Get-Net", "New-Scheduled", "Register-", "Unregister-")
    used = {command.name for function in MODULE.functions.values() for command in function.commands}
    on_host = {name for name in used if name.startswith(prefixes) and "Vswitch" not in name}
    assert on_host <= set(CMDLETS.values())


def test_nothing_runs_when_the_module_is_loaded() -> None:
    outside = [node for node in walk(MODULE.root) if node.type == "command"]
    top = [node for node in outside if MODULE.functions_of(node) is MODULE.top]
    names = [child.text for node in top for child in node.children if child.type == "command_name"]
    assert names == [b"Set-StrictMode", b"Export-ModuleMember"]
