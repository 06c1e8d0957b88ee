"""Refusals of Hyper-V, as the PowerShell module reports them, in one sentence with what to do.

Results are Windows' (HRESULT); the module's own errors carry `Vswitch.` in front of their identifier.
"""

from __future__ import annotations

from collections.abc import Mapping

from vswitch.errors import HostError, Origin
from vswitch.json_values import Json
from vswitch.model.problems import shorten

__all__ = ["hyperv_problem", "wrote_nothing"]

_EXISTS = 0x800700B7
_INVALID = frozenset({0x80070057, 0x80041008})
_DENIED = frozenset({0x80070005, 0x80041003})
_NOT_FOUND = frozenset({0x80070490, 0x80070002, 0x80041002})
_BUSY = frozenset({0x800700AA, 0x80070020, 0x8007139F, 0x80070015})
_STOPPING = frozenset({0x8007045B, 0x800706BA, 0x800706BE, 0x80070426})
_MAINTENANCE = frozenset({0x800713CE, 0x800713D1})  # cluster node paused, shutting down

_OWN = {
    "StateChanged": "make a new plan",
    "NotFound": "read the host again, and make a new plan",
    "AccessDenied": "make the user a member of the group named, then log on again",
    "Busy": "wait until the other operation on this host has ended",
    "HyperVMissing": "run `Install-WindowsFeature Hyper-V-PowerShell` on the host",
    "UnsafeFolder": "have an administrator of the host remove or take over that folder",
    "UnreadableEntry": "have an administrator of the host look at that adapter's port ACLs",
    "UnreadableFile": "have an administrator of the host look at that file; a copy is kept on this side",
    "BadPlan": "make a new plan with this version",
    "Armed": "wait for the host to undo it, or `vswitch hyperv confirm` it, then `rollback`",
    "Unfinished": "make a new plan and apply it: it completes what is missing",
    "NotAsPlanned": "read the host again to see what differs, and make a new plan",
    "NotApplied": "there is nothing to confirm; make a new plan",
    "Superseded": "undo the later plan first",
    "UnknownOperation": "module and program differ in version; reinstall vswitch",
}
#: Without a result of the adapters these come before the first write: from there on it has one.
_BEFORE_WRITING = frozenset(_OWN) - {"Unfinished", "NotAsPlanned"}


def wrote_nothing(error: Mapping[str, Json]) -> bool:
    """Whether an `error` that came without a result is one of the module's own, raised before it writes."""
    own = str(error.get("fullyQualifiedErrorId") or "").startswith("Vswitch.")
    return own and error.get("category") in _BEFORE_WRITING


def hyperv_problem(
    error: Mapping[str, Json],
    *,
    host: str,
    adapter: str = "",
    rule: str = "",
    where: Origin | None = None,
) -> HostError:
    """The `error` of a document that the module returned, as one sentence.

    `adapter` and `rule` are names for people (such as "web01 / Network Adapter" and "allow-http"),
    `where` is the rule's place in the policy.
    """
    raw = error.get("hresult")
    result = raw & 0xFFFFFFFF if isinstance(raw, int) else None
    category = str(error.get("category") or "")
    identifier = str(error.get("fullyQualifiedErrorId") or "")
    text = shorten(" ".join(str(error.get("message") or "").split()), 240)[1:-1]
    on = f" on adapter {adapter}" if adapter else ""
    what = f"rule {rule}" if rule else "an entry"
    lower = text.lower()

    def problem(message: str, hint: str) -> HostError:
        return HostError(message, host=host, where=where, hint=hint)

    if identifier.startswith("Vswitch."):
        # The module's own errors are whole sentences.
        return problem(text + on, _OWN.get(category, "see docs/reference/powershell.md"))
    if category == "Bootstrap":
        return problem(f"the module could not be started: {text}", "Windows PowerShell 5.1 is needed")
    if "CommandNotFoundException" in identifier or "Modules_ModuleNotFound" in identifier:
        return problem(
            f"Hyper-V's PowerShell module is missing: {text}",
            "run `Install-WindowsFeature Hyper-V-PowerShell` on the host",
        )
    if result == _EXISTS or category in ("AlreadyExists", "ResourceExists"):
        return problem(
            f"Hyper-V already has an entry of the same direction and weight as {what}{on} (0x800700B7)",
            "read the host again; choose a weight that no foreign rule holds",
        )
    if (
        result in _DENIED
        or category in ("AccessDenied", "PermissionDenied")
        or "required permission" in lower
    ):
        return problem(
            f"Hyper-V denies access{on}: {text}",
            "make the user a member of the host's Hyper-V Administrators",
        )
    if result in _MAINTENANCE or "maintenance" in lower or ("paused" in lower and "node" in lower):
        return problem(
            "the host is in maintenance: its cluster node is paused or draining",
            "resume it (`Resume-ClusterNode`), or leave it out for now",
        )
    if result in _STOPPING:
        return problem(
            f"Hyper-V's management service does not run: {text}", "start the service vmms, or wait"
        )
    if result in _NOT_FOUND or category in ("NotFound", "ObjectNotFound") or "unable to find" in lower:
        return problem(*_missing(adapter, lower, text))
    if result in _INVALID or category in ("InvalidArgument", "InvalidParameter"):
        return problem(
            f"Hyper-V does not accept {what}{on} (0x80070057): {text}",
            "stateful rules must be Allow with TCP or UDP; ports need TCP or UDP; both addresses one family",
        )
    if result in _BUSY or category in ("Busy", "ResourceBusy"):
        return problem(
            f"the VM or adapter is busy{on}: {text}", "wait until a migration, checkpoint or start has ended"
        )
    number = f" (0x{result:08X})" if result is not None else ""
    return problem(
        f"Hyper-V refused {what}{on}{number}: {text}", "see the log Hyper-V-VMMS-Admin on the host"
    )


def _missing(adapter: str, lower: str, text: str) -> tuple[str, str]:
    if "virtual machine" in lower:
        return (
            f"the VM is not there any more: {text}",
            "it may have been deleted or moved to another host; make a new plan",
        )
    if adapter:
        return (
            f"adapter {adapter} is not there any more",
            "it may have been removed, or its VM moved to another host; make a new plan",
        )
    return f"Hyper-V does not find what it was told to change: {text}", "make a new plan"
