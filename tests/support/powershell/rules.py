"""Rules for PowerShell files, checked on the syntax tree, with line and column.

The cmdlet table (tests/powershell/cmdlets.yaml) says which cmdlets and parameters exist; the other
rules keep data from becoming code and catch what Set-StrictMode would only catch on a host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tree_sitter import Node

from tests.support.powershell.members import lock_findings, member_findings, scope_findings
from tests.support.powershell.tree import (
    Argument,
    Command,
    Function,
    Script,
    command_of,
    inner,
    string_of,
    text_of,
    walk,
)

HOST_MODULES = {"Hyper-V", "NetAdapter", "NetNat", "NetTCPIP", "ScheduledTasks"}
AUTOMATIC = {
    "$", "?", "^", "_", "args", "consolefilename", "error", "event", "eventargs", "eventsubscriber",
    "executioncontext", "false", "foreach", "home", "host", "input", "iscoreclr", "islinux",
    "ismacos", "iswindows", "lastexitcode", "matches", "myinvocation", "nestedpromptlevel", "null",
    "pid", "profile", "psboundparameters", "pscmdlet", "pscommandpath", "psculture",
    "psdebugcontext", "pshome", "psitem", "psscriptroot", "pssenderinfo", "psuiculture",
    "psversiontable", "pwd", "sender", "shellid", "stacktrace", "switch", "this", "true",
}  # fmt: skip
PREFERENCES = {"erroractionpreference", "progresspreference", "warningpreference", "confirmpreference"}
CODE_FROM_DATA = {
    "invoke-expression", "iex", "invoke-command", "icm", "start-process", "saps", "start-job", "sajb",
    "cmd", "powershell", "pwsh", "invoke-item", "ii", "set-alias", "new-alias", "set-item", "set-variable",
}  # fmt: skip
CODE_METHODS = {"create", "newscriptblock", "invokescript", "expandstring", "getnewclosure", "addscript"}
REMOTE = {"ComputerName", "CimSession", "Credential"}
BY_NAME = {"Name", "VMName", "VMNetworkAdapterName", "SwitchName"}
BLOCK_PARAMETER = {"ForEach-Object": "Process", "Where-Object": "FilterScript"}  # may stand first, bare
# The one expandable string that becomes part of a command line holds a path made from a checked plan id.
COMMAND_LINES = {"Argument", "Execute", "Xml"}
COMMAND_LINE_VARIABLES = {"$file"}


@dataclass(frozen=True, order=True)
class Finding:
    """One broken rule. `line` and `column` count from 1."""

    path: str
    line: int
    column: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.rule}: {self.message}"


@dataclass
class Checker:
    """The rules with the table of cmdlets and the functions of other files that may be called."""

    table: Mapping[str, Any]
    functions: Mapping[str, Function]
    members: Mapping[str, Any]

    def check(self, script: Script) -> list[Finding]:
        """Every rule on one file, in source order."""
        found = list(self._form(script))
        if any(finding.rule == "grammar" for finding in found):
            return sorted(found)
        known = {**self.functions, **script.functions}
        for node in walk(script.root):
            if node.type == "command":
                found += self._command(script, command_of(node), known)
            else:
                found += [
                    self._at(script, node, rule, text) for rule, text in _expression(script, node) if rule
                ]
            found += [self._at(script, node, *each) for each in member_findings(node, self.members)]
        found += [self._at(script, *each) for each in scope_findings(walk(script.root))]
        for function in [*script.functions.values(), script.top]:
            found += _variables(script, function)
        for function in script.functions.values():
            found += [self._at(script, function.node, *each) for each in lock_findings(function.node)]
        return sorted(set(found))

    @staticmethod
    def _at(script: Script, node: Node, rule: str, message: str) -> Finding:
        return finding(script, node, rule, message)

    @staticmethod
    def _form(script: Script) -> Iterator[Finding]:
        for number, line in enumerate(script.source.split(b"\n"), start=1):
            for column, byte in enumerate(line, start=1):
                if byte > 126 or (byte < 32 and byte not in b"\r"):
                    yield Finding(script.path, number, column, "ascii", f"byte {byte:#04x}")
                    break
        for node in walk(script.root):
            if node.type == "ERROR" or node.is_missing:
                yield finding(script, node, "grammar", f"cannot be read: {text_of(node)[:40]!r}")
            elif node.type == "pipeline_chain_tail":
                yield finding(script, node, "grammar", "PowerShell 7 only")

    # -------------------------------------------------------------- commands

    def _command(self, script: Script, command: Command, known: Mapping[str, Function]) -> Iterator[Finding]:
        def at(rule: str, message: str, node: Node | None = None) -> Finding:
            return finding(script, node or command.node, rule, message)

        if not command.name:
            yield at("code", "a computed command: data could become code")
            return
        if command.name.lower() in CODE_FROM_DATA:
            yield at("code", f"{command.name}: data could become code")
            return
        for argument in command.arguments:
            block = inner(argument.node).type == "script_block_expression"
            if not argument.name and not (block and command.name in BLOCK_PARAMETER):
                yield at("positional", f"{command.name}: parameters are named", argument.node)
        function = script.functions_of(command.node)
        given, problems = _given(command, function)
        if len(given) < len(command.arguments) and command.name in BLOCK_PARAMETER:
            given[BLOCK_PARAMETER[command.name]] = command.arguments[0]
        yield from (at("splat", problem) for problem in problems)
        names = [argument.name for argument in command.arguments if argument.name]
        for name in {name for name in names if names.count(name) > 1}:
            yield at("parameter", f"{command.name}: -{name} is given twice")
        if command.name in known:
            yield from self._own(command, known[command.name], given, at)
        elif command.name in self.table["cmdlets"]:
            yield from self._cmdlet(command, given, at)
        else:
            yield at("command", f"{command.name} is neither a function here nor in the cmdlet table")

    def _own(
        self, command: Command, target: Function, given: dict[str, Argument], at: Callable[..., Finding]
    ) -> Iterator[Finding]:
        for name, argument in given.items():
            if name not in target.parameters:
                yield at("parameter", f"{command.name} has no parameter -{name}", argument.node)
            else:
                yield from _form_of_value(command, argument, target.parameters[name], at)
        for name in sorted(target.mandatory - given.keys()):
            yield at("parameter", f"{command.name} needs -{name}")

    def _cmdlet(
        self, command: Command, given: dict[str, Argument], at: Callable[..., Finding]
    ) -> Iterator[Finding]:
        cmdlet = self.table["cmdlets"][command.name]
        on_host = cmdlet["module"] in HOST_MODULES
        own = {name: argument for name, argument in given.items() if name not in self.table["common"]}
        for name, argument in own.items():
            kind = cmdlet["types"].get(name)
            if kind is None:
                yield at("parameter", f"{command.name} has no parameter -{name}", argument.node)
                continue
            yield from _form_of_value(command, argument, kind == "SwitchParameter", at)
            yield from _value(command, argument, kind, cmdlet.get("values", {}).get(name), at)
            if on_host and name in REMOTE:
                yield at("remote", f"{command.name} -{name} would reach for another machine", argument.node)
            if cmdlet["module"] == "Hyper-V" and name in BY_NAME:
                text = f"{command.name} -{name}: names are patterns; go by object"
                yield at("by-name", text, argument.node)
            if name in COMMAND_LINES and (bad := _variables_in(argument) - COMMAND_LINE_VARIABLES):
                yield at("code", f"{command.name} -{name} holds {', '.join(sorted(bad))}", argument.node)
        if own.keys() <= cmdlet["types"].keys() and not _fits(own.keys(), command.piped, cmdlet["sets"]):
            yield at("parameter-set", f"{command.name}: no parameter set takes {', '.join(own) or 'nothing'}")
        action = given.get("ErrorAction")
        if on_host and (action is None or string_of(action.value) != "Stop"):
            yield at("error-action", f"{command.name} needs -ErrorAction Stop")
        if command.name == "ConvertTo-Json" and not {"InputObject", "Depth"} <= given.keys():
            yield at("json", "ConvertTo-Json needs -InputObject and -Depth")


def finding(script: Script, node: Node, rule: str, message: str) -> Finding:
    """A finding at a node."""
    return Finding(script.path, node.start_point.row + 1, node.start_point.column + 1, rule, message)


def _given(command: Command, function: Function) -> tuple[dict[str, Argument], list[str]]:
    """Parameters given, splatted ones included; and what is wrong with the splats."""
    given = {argument.name: argument for argument in command.arguments if argument.name}
    problems = []
    for variable in command.splats:
        table = function.table(variable)
        if table is None:
            problems.append(f"@{variable} is not a hashtable of this function")
            continue
        for name, value in table.items():
            if name in given:
                problems.append(f"-{name} is given twice, once in @{variable}")
                continue
            given[name] = Argument(name, value or command.node, value, attached=True)
    return given, problems


def _form_of_value(
    command: Command, argument: Argument, is_switch: bool, at: Callable[..., Finding]
) -> Iterator[Finding]:
    if is_switch and argument.value is not None and not argument.attached:
        yield at("value", f"{command.name} -{argument.name} is a switch: it takes no value", argument.node)
    if not is_switch and argument.value is None:
        yield at("value", f"{command.name} -{argument.name} needs a value", argument.node)


def _value(
    command: Command, argument: Argument, kind: str, accepted: list[str] | None, at: Callable[..., Finding]
) -> Iterator[Finding]:
    if argument.value is None:
        return
    for text in _literals(argument.value):
        if accepted and text not in accepted and text != "":
            yield at("value", f"{command.name} -{argument.name} does not accept {text!r}", argument.node)
        elif kind in ("Int32", "UInt32") and not re.fullmatch(r"-?\d+", text):
            yield at("value", f"{command.name} -{argument.name} is a number, not {text!r}", argument.node)
        elif kind in ("Boolean", "SwitchParameter"):
            yield at("value", f"{command.name} -{argument.name} is a Boolean, not {text!r}", argument.node)


def _literals(node: Node) -> Iterator[str]:
    """The literal a value is, or the literals an array of choices holds."""
    node = inner(node)
    text = string_of(node)
    if text is not None:
        yield text
    elif node.type == "element_access":
        yield from (value for part in walk(node.children[0]) if (value := string_of(part)) is not None)


def _variables_in(argument: Argument) -> set[str]:
    if argument.value is None:
        return set()
    return {text_of(node) for node in walk(argument.value) if node.type == "variable"} - {"$engine"}


def _fits(names: Any, piped: bool, sets: Mapping[str, Any]) -> bool:
    for one in sets.values():
        missing = set(one["required"]) - set(names)
        if set(names) <= set(one["required"]) | set(one["optional"]) and len(missing) <= int(piped):
            return True
    return False


# ------------------------------------------------------------------ expressions


def _expression(script: Script, node: Node) -> Iterator[tuple[str, str]]:
    if node.type == "invokation_expression":
        member = next((text_of(child) for child in node.children if child.type == "member_name"), "")
        if member.lower() in CODE_METHODS:
            yield "code", f".{member}(): data could become code"
    elif node.type == "foreach_statement":
        for child in node.children:
            if child.type == "pipeline" and inner(child).type == "command":
                yield "list", "foreach over a command: wrap it in @()"
    elif node.type == "comparison_expression" and len(node.children) == 3:
        operator = text_of(node.children[1]).lower()
        if operator in ("-eq", "-ne") and text_of(node.children[2]).lower() == "$null":
            yield "null", "$null belongs on the left of a comparison"
    elif node.type == "command_invokation_operator":
        yield "code", f"{text_of(node)}: data could become code"


def _names(node: Node) -> str:
    return text_of(node).lstrip("$@").strip("{}").lower()


def _variables(script: Script, function: Function) -> Iterator[Finding]:
    """Variables read but never set (a runtime error under Set-StrictMode), and automatic ones set."""
    nodes = list(_own_nodes(function.node, is_top=function is script.top))
    known = {name.lower() for name in function.parameters} | AUTOMATIC | PREFERENCES
    targets = []
    for node in nodes:
        if node.type == "assignment_expression":
            left = inner(node.children[0])
            if left.type == "cast_expression":
                left = inner(left.children[-1])
            if left.type == "variable":
                targets.append(left)
        elif node.type == "foreach_statement":
            targets.append(next(child for child in node.children if child.type == "variable"))
        elif node.type == "script_parameter":
            known |= {_names(child) for child in node.children if child.type == "variable"}
    for target in targets:
        if _names(target) in AUTOMATIC - {"null"}:
            yield finding(script, target, "automatic", f"{text_of(target)} is PowerShell's own variable")
        known.add(_names(target))
    for node in nodes:
        if node.type != "variable" or ":" in text_of(node).replace("${", ""):
            continue
        if _names(node) not in known:
            place = function.name or "the file"
            yield finding(script, node, "variable", f"{text_of(node)} is never set in {place}")


def _own_nodes(node: Node, *, is_top: bool) -> Iterator[Node]:
    for child in node.children:
        if is_top and child.type == "function_statement":
            continue
        yield child
        yield from _own_nodes(child, is_top=is_top)


# ------------------------------------------------------------------ the module as a whole


def module_findings(script: Script, manifest: Script) -> list[Finding]:
    """What only shows on the whole module: settings, exports, help, dead functions."""
    found = []
    text = script.source.decode("ascii", errors="replace")
    for wanted in ("Set-StrictMode -Version", "$ErrorActionPreference = 'Stop'"):
        if wanted not in text:
            found.append(finding(script, script.root, "settings", f"{wanted} is missing"))
    exported = set(re.findall(r"'(\w+-Vswitch\w+)'", text[text.rindex("Export-ModuleMember") :]))
    listed = set(re.findall(r"'(\w+-Vswitch\w+)'", manifest.source.decode("ascii")))
    if exported != listed:
        found.append(finding(manifest, manifest.root, "exports", f"differs: {sorted(exported ^ listed)}"))
    called = {command.name for function in script.functions.values() for command in function.commands}
    for name in exported - script.functions.keys():
        found.append(finding(script, script.root, "exports", f"{name} is exported but not there"))
    for name, function in script.functions.items():
        if name in exported:
            found += _help_findings(script, function)
        elif name not in called:
            found.append(finding(script, function.node, "dead", f"{name} is never called"))
    return found


def _help_findings(script: Script, function: Function) -> Iterator[Finding]:
    wanted = [".SYNOPSIS", ".OUTPUTS", ".EXAMPLE", *(f".PARAMETER {name}" for name in function.parameters)]
    for part in wanted:
        if not re.search(rf"^\s*{re.escape(part)}\s*$", function.help, re.MULTILINE):
            yield finding(script, function.node, "help", f"{function.name} lacks {part}")
    if not any(text_of(node) == "[CmdletBinding()]" for node in walk(function.node)):
        yield finding(script, function.node, "help", f"{function.name} lacks [CmdletBinding()]")
