"""What the shipped module's functions without effects do: errors, keys, spelling, forms.

Each function names the PowerShell function it stands for; `hyperv_module` has the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from tests.support.modelled_host.cmdlets import CmdletError, Entry

Document = dict[str, Any]


class OperationError(Exception):
    """What Stop-VswitchOperation throws: the error as data, and the host's state as far as known."""

    def __init__(self, error: Document, result: Any = None) -> None:
        super().__init__(error["message"])
        self.error = error
        self.result = result


def stop(category: str, message: str, adapter: str | None = None, *, result: Any = None) -> OperationError:
    """The error of one of the module's own categories."""
    error = {
        "message": message,
        "hresult": None,
        "category": category,
        "fullyQualifiedErrorId": f"Vswitch.{category}",
        "target": {"adapter": adapter, "step": None},
    }
    return OperationError(error, result)


def error_data(
    error: CmdletError | OperationError, adapter: str | None = None, step: int | None = None
) -> Document:
    """ConvertTo-VswitchError; `adapter` and `step` replace what the error says, if given."""
    if isinstance(error, OperationError):
        data: Document = json.loads(json.dumps(error.error))
    else:
        data = {
            "message": error.message,
            "hresult": error_code(error.message, error.hresult),
            "category": error.category,
            "fullyQualifiedErrorId": f"{error.category},{error.cmdlet}",
            "target": {"adapter": None, "step": None},
        }
    if adapter is not None:
        data["target"] = {"adapter": adapter, "step": step}
    return data


def time_text(now: datetime, add_seconds: float = 0) -> str:
    """Get-VswitchTime: UTC to the second."""
    return (now.astimezone(UTC) + timedelta(seconds=add_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def backup_path(plan_id: str) -> str:
    """Get-VswitchBackupPath."""
    device = "(?!(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])$)"
    if not re.fullmatch(device + "[A-Za-z0-9][A-Za-z0-9-]{0,63}", plan_id):
        text = "A plan id is 1 to 64 letters, digits and hyphens, and no name of a device"
        raise stop("BadPlan", text)
    return f"vswitch/backups/{plan_id}.json"


def armed_folder(plan_id: str) -> str:
    """Get-VswitchArmedPath."""
    return f"vswitch-armed/{plan_id}"


def unreadable_backup(path: str) -> Document:
    """How Get-VswitchBackup lists a backup that cannot be read."""
    plan_id = path.rpartition("/")[2].removesuffix(".json")
    texts = {"planId": plan_id, "createdAt": "", "policyDigest": "", "state": "unreadable"}
    return texts | {"sequence": 0, "stepsDone": 0, "steps": 0, "armedUntil": None, "adapters": []}


def progress_path(plan_id: str) -> str:
    """Get-VswitchProgressPath."""
    return f"vswitch/backups/{plan_id}.steps"


def step_kind(step: Document) -> str:
    """Get-VswitchStepKind."""
    match step.get("op"):
        case "addExtended" | "removeExtended":
            return "extended"
        case "addBasic" | "removeBasic":
            return "basic"
        case other:
            raise stop("BadPlan", f"A plan has no operation '{other}'")


def is_addition(step: Document) -> bool:
    """Test-VswitchAddition."""
    return bool(step["op"].startswith("add"))


def assert_plan(plan: Document, computer: str) -> None:
    """Assert-VswitchPlan."""
    if plan.get("schema") != 1:
        raise stop("BadPlan", "The plan is not of schema 1")
    backup_path(plan.get("planId", ""))
    if plan.get("host") and plan["host"].lower() != computer.lower():
        raise stop("BadPlan", f"The plan was made for the host {plan['host']}, and this is {computer}")
    seconds = plan.get("confirmWithin", 0)
    if seconds and not 10 <= seconds <= 86400:
        raise stop("BadPlan", "A plan is confirmed within 10 to 86400 seconds, or at once (0)")
    ids = [adapter["id"] for adapter in plan["adapters"]]
    for index, step in enumerate(plan["steps"]):
        wrong = ""
        if not is_entry(step_kind(step), step.get("entry")):
            wrong = "A step holds no entry that Hyper-V could take"
        elif step["adapter"] not in ids:
            wrong = "A step names an adapter that the plan does not list"
        if wrong:
            error = stop("BadPlan", wrong, step["adapter"])
            error.error["target"]["step"] = index
            raise error


def is_entry(kind: str, entry: Any) -> bool:
    """Test-VswitchEntry."""
    try:
        keys = keys_of(kind, entry)
        if kind == "extended":
            most, whole = 2, 1 <= int(entry["Weight"]) <= 65535
        else:
            most = 3
            whole = (int(entry["LocalAddressType"]) == 0) != (int(entry["RemoteAddressType"]) == 0)
        known = int(entry["Direction"]) in (1, 2) and 1 <= int(entry["Action"]) <= most
    except (KeyError, TypeError, ValueError):
        return False
    return whole and bool(keys) and known


def readable(kind: str, acl: Entry) -> Entry:
    """ConvertTo-VswitchExtendedEntry, ConvertTo-VswitchBasicEntry: a live entry as data."""
    names = ("Weight", "Stateful") if kind == "extended" else ("LocalAddressType", "RemoteAddressType")
    for name in ("Direction", "Action", *names):
        if acl.get(name) is None:
            raise stop("UnreadableEntry", f"Hyper-V does not say the {name} of an ACL entry")
    return dict(acl)


def missing_of(kind: str, entry: Entry, found: Sequence[Entry]) -> list[Entry]:
    """Get-VswitchMissing: all of an entry, nothing, or one half of an ANY."""
    if not found:
        return [entry]
    sides = [side for side in ("Local", "Remote") if kind == "basic" and entry[f"{side}AddressType"] == 6]
    if not sides:
        return []
    blank = {"LocalAddress": "", "LocalAddressType": 0, "RemoteAddress": "", "RemoteAddressType": 0}
    there = {key for acl in found for key in keys_of(kind, acl)}
    halves = [
        {
            "Direction": entry["Direction"],
            "Action": entry["Action"],
            **blank,
            f"{sides[0]}AddressType": number,
        }
        for number in (4, 5)
    ]
    return [half for half in halves if not there.issuperset(keys_of(kind, half))]


def records_during(backup: Document) -> list[Document]:
    """Get-VswitchRecordDuring: what may be ours while a plan is carried out or undone."""
    plan = backup["plan"]
    return [*backup["records"], *plan.get("records", []), *plan.get("recordsDuring", [])]


def error_code(message: str, own: int) -> int:
    """Get-VswitchErrorCode: the last code in a message, else the exception's own."""
    found = re.findall(r"(?<![0-9A-Za-z])0x[0-9A-Fa-f]{8}(?![0-9A-Za-z])", message)
    return int(found[-1], 16) if found else own % 2**32


def address_text(text: str) -> str:
    """ConvertTo-VswitchAddress."""
    if text.upper() in ("", "ANY", "*"):
        return "ANY"
    address, _, length = text.partition("/")
    try:
        parsed = ip_address(address)
    except ValueError:
        return text.upper()
    return str(parsed) if length in ("", str(parsed.max_prefixlen)) else f"{parsed}/{length}"


def mac_text(text: str) -> str:
    """ConvertTo-VswitchMac."""
    digits = re.sub("[^0-9A-Fa-f]", "", text).upper()
    return re.sub("(..)(?=.)", r"\1-", digits)


def protocol_text(text: str) -> str:
    """ConvertTo-VswitchProtocol."""
    return {"": "ANY", "6": "TCP", "17": "UDP"}.get(text, text.upper())


def keys_of(kind: str, entry: Entry) -> list[str]:
    """Get-VswitchKey: one key, or two for a basic ANY."""
    if kind == "extended":
        return [_extended_key(entry)]
    keys = []
    for side in ("Local", "Remote"):
        number, text = entry[f"{side}AddressType"], entry[f"{side}Address"]
        both = ["IP 0.0.0.0/0", "IP ::/0"]
        names = {1: [f"MAC {mac_text(text)}"], 4: both[:1], 5: both[1:], 6: both, 7: ["MAC ANY"]}
        if number in (2, 3):
            names[number] = [f"IP {address_text(text)}"]
        keys += [
            f"basic|{entry['Direction']}|{entry['Action']}|{side}|{name}" for name in names.get(number, [])
        ]
    return keys


def _extended_key(entry: Entry) -> str:
    parts = (
        "extended",
        _number(entry["Direction"]),
        _number(entry["Action"]),
        address_text(entry["LocalIPAddress"]),
        address_text(entry["RemoteIPAddress"]),
        entry["LocalPort"].upper() or "ANY",
        entry["RemotePort"].upper() or "ANY",
        protocol_text(entry["Protocol"]),
        _number(entry["Weight"]),
        bool(entry["Stateful"]),
        _number(entry.get("IdleSessionTimeout") or 0) if entry["Stateful"] else 0,
        _number(entry["IsolationID"]),
    )
    return "|".join(str(part) for part in parts)


def _number(value: Any) -> int:
    """`[int]`: true is 1, halves go to the even number, text is read without underscores."""
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):
        raise ValueError(f"{value!r} is not a number")
    return int(value) if isinstance(value, str) else round(value)


def key_text(basic: Iterable[Entry], extended: Iterable[Entry]) -> str:
    """Get-VswitchKeyText: all entries of an adapter, whatever their order."""
    keys = [key for entry in basic for key in keys_of("basic", entry)]
    keys += [key for entry in extended for key in keys_of("extended", entry)]
    return "\n".join(sorted(keys))


def record_text(records: Iterable[Document], adapter: str) -> str:
    """Get-VswitchRecordText: what records say is ours at an adapter."""
    entries = [entry for record in records if record["adapter"] == adapter for entry in record["entries"]]
    kinds = [(entry["kind"], entry) for entry in entries]
    keys = {key for kind, entry in kinds if is_entry(kind, entry) for key in keys_of(kind, entry)}
    return "\n".join(sorted(keys))


def planned_text(plan: Document, adapter: str, before: str) -> str:
    """Get-VswitchPlannedText: the same for what the plan makes of an adapter."""
    keys = before.split("\n") if before else []
    for step in plan["steps"]:
        if step["adapter"] == adapter:
            for key in keys_of(step_kind(step), step["entry"]):
                if is_addition(step):
                    keys.append(key)
                elif key in keys:
                    keys.remove(key)
    return "\n".join(sorted(keys))
