"""The bridge to real Hyper-V hosts: all that `vswitch hyperv` does, for Python.

    from vswitch.hyperv import choose_hosts, load_inventory

    fleet = choose_hosts(["hv01", "hv02"], load_inventory("fleet.yaml"))
    planned = fleet.plan(site)                        # of vswitch.model.load_site; nothing is changed
    done = fleet.apply(planned, confirm_within=120)
    fleet.confirm()

What is here stays; what is in the rooms below may change from version to version. A name is imported
when it is first asked for, so that reading a file does not load what talks to hosts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vswitch.hyperv.applying.answers import Confirmed, UnreadableAnswer
    from vswitch.hyperv.applying.apply import apply_plan
    from vswitch.hyperv.applying.outcomes import AdapterResult, Applied, ApplyError, NotVerified, Standing
    from vswitch.hyperv.applying.remote_host import RemoteHost, backups, plan_policy, plan_rollback
    from vswitch.hyperv.applying.saved_plans import read_plan_file, save_plan_file
    from vswitch.hyperv.applying.store import Store
    from vswitch.hyperv.fleet.fleet_plans import FleetPlans, saved_for
    from vswitch.hyperv.fleet.fleet_run import FleetResult, HostFault, HostOutcome, Progress, Status
    from vswitch.hyperv.fleet.fleet_work import Fleet, choose_hosts, hosts_from_files
    from vswitch.hyperv.fleet.inventory import Inventory, InventoryHost, load_inventory
    from vswitch.hyperv.host.backup_document import Backup, BackupSummary
    from vswitch.hyperv.host.host_state import HostAdapter, HostState, state_from_file
    from vswitch.hyperv.host.plan_document import PlanDocument, PlannedAdapter, PlanStep
    from vswitch.hyperv.host.records import OwnershipRecord
    from vswitch.hyperv.importing.importer import Imported, import_hosts
    from vswitch.hyperv.planning.adapter_plan import AdapterPlan
    from vswitch.hyperv.planning.host_plan import HostPlan
    from vswitch.hyperv.planning.script import powershell_script
    from vswitch.hyperv.winrm.connection import Authentication, HostConnection
    from vswitch.hyperv.winrm.credentials import CredentialFinder
    from vswitch.hyperv.winrm.interface import HostCause, OutcomeUnknown, ScriptRequest, Transport, WinrmError
    from vswitch.hyperv.winrm.transport import PywinrmTransport

_PLACES = {
    "applying.answers": ("Confirmed", "UnreadableAnswer"),
    "applying.apply": ("apply_plan",),
    "applying.outcomes": ("AdapterResult", "Applied", "ApplyError", "NotVerified", "Standing"),
    "applying.remote_host": ("RemoteHost", "backups", "plan_policy", "plan_rollback"),
    "applying.saved_plans": ("read_plan_file", "save_plan_file"),
    "applying.store": ("Store",),
    "fleet.fleet_plans": ("FleetPlans", "saved_for"),
    "fleet.fleet_run": ("FleetResult", "HostFault", "HostOutcome", "Progress", "Status"),
    "fleet.fleet_work": ("Fleet", "choose_hosts", "hosts_from_files"),
    "fleet.inventory": ("Inventory", "InventoryHost", "load_inventory"),
    "host.backup_document": ("Backup", "BackupSummary"),
    "host.host_state": ("HostAdapter", "HostState", "state_from_file"),
    "host.plan_document": ("PlanDocument", "PlanStep", "PlannedAdapter"),
    "host.records": ("OwnershipRecord",),
    "importing.importer": ("Imported", "import_hosts"),
    "planning.adapter_plan": ("AdapterPlan",),
    "planning.host_plan": ("HostPlan",),
    "planning.script": ("powershell_script",),
    "winrm.connection": ("Authentication", "HostConnection"),
    "winrm.credentials": ("CredentialFinder",),
    "winrm.interface": ("HostCause", "OutcomeUnknown", "ScriptRequest", "Transport", "WinrmError"),
    "winrm.transport": ("PywinrmTransport",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "AdapterPlan",
    "AdapterResult",
    "Applied",
    "ApplyError",
    "Authentication",
    "Backup",
    "BackupSummary",
    "Confirmed",
    "CredentialFinder",
    "Fleet",
    "FleetPlans",
    "FleetResult",
    "HostAdapter",
    "HostCause",
    "HostConnection",
    "HostFault",
    "HostOutcome",
    "HostPlan",
    "HostState",
    "Imported",
    "Inventory",
    "InventoryHost",
    "NotVerified",
    "OutcomeUnknown",
    "OwnershipRecord",
    "PlanDocument",
    "PlanStep",
    "PlannedAdapter",
    "Progress",
    "PywinrmTransport",
    "RemoteHost",
    "ScriptRequest",
    "Standing",
    "Status",
    "Store",
    "Transport",
    "UnreadableAnswer",
    "WinrmError",
    "apply_plan",
    "backups",
    "choose_hosts",
    "hosts_from_files",
    "import_hosts",
    "load_inventory",
    "plan_policy",
    "plan_rollback",
    "powershell_script",
    "read_plan_file",
    "save_plan_file",
    "saved_for",
    "state_from_file",
]


def __getattr__(name: str) -> object:
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{place}"), name)


def __dir__() -> list[str]:
    return __all__
