"""A transport that hands requests straight to a modelled host, as if WinRM were in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.modelled_host.host import Hang, HostDied, HypervHost
from vswitch.acl_entries import Entry
from vswitch.hyperv.applying.answers import export_of
from vswitch.hyperv.applying.store import Store
from vswitch.hyperv.planning.desired import Desired, PolicyRule, Wanted
from vswitch.hyperv.planning.host_plan import HostPlan, plan_host
from vswitch.hyperv.winrm.shipped_module import module_text
from vswitch.hyperv.winrm.transport import ScriptRequest
from vswitch.hyperv.winrm.winrm_errors import HostCause, OutcomeUnknown, WinrmError


class DirectTransport:
    """Runs the shipped module on the model. `stays_dead`: a host that died does not come back."""

    def __init__(self, host: HypervHost, *, stays_dead: bool = False) -> None:
        self.host = host
        self.stays_dead = stays_dead
        self.dead = False
        self.trips = 0

    def prepare(self) -> None:
        pass

    def run(self, request: ScriptRequest, *, timeout: float | None = None) -> dict[str, Any]:
        self.trips += 1
        name = self.host.computer
        if self.dead:
            raise WinrmError("it does not answer", host=name, cause=HostCause.UNREACHABLE)
        document = {"operation": request.operation, "arguments": dict(request.arguments)}
        try:
            return self.host.execute(module_text().decode(), document)
        except (HostDied, Hang) as end:
            self.dead = self.stays_dead
            if request.read_only:
                raise WinrmError("contact was lost", host=name, cause=HostCause.BROKEN) from None
            raise OutcomeUnknown(
                "contact was lost", host=name, cause=HostCause.BROKEN, may_still_run=isinstance(end, Hang)
            ) from None


def fresh_plan(
    transport: DirectTransport,
    store: Store,
    wanted: dict[str, dict[Entry, PolicyRule | None]],
    *,
    plan_id: str = "plan-1",
    adopt: bool = False,
) -> HostPlan:
    """The plan for what is wanted by adapter id."""
    state = export_of(transport, transport.host.computer)
    adapters = [(state.adapter(adapter_id), entries) for adapter_id, entries in wanted.items()]
    return plan_host(
        Desired(
            tuple(Wanted(adapter, entries) for adapter, entries in adapters if adapter), ("policy.yaml",)
        ),
        state,
        plan_id=plan_id,
        created_at="2026-01-01T00:00:00Z",
        local_records=store.records(),
        adopt=adopt,
    )


def store_in(folder: Path, host: str = "HV01") -> Store:
    return Store(host, folder)


class Answering(DirectTransport):
    """Performs each operation, then answers as `change` says."""

    change: Callable[[str, dict[str, Any]], dict[str, Any]] = staticmethod(lambda _operation, answer: answer)

    def run(self, request: ScriptRequest, *, timeout: float | None = None) -> dict[str, Any]:
        return self.change(request.operation, super().run(request, timeout=timeout))
