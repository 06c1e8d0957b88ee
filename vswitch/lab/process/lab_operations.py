"""What a running lab can be asked: operation name to function, called with the lab and JSON arguments.

Results are answers or JSON data, or `WithDescriptors`. Raise VswitchErrors; they reach whoever asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TypeAlias, TypeVar

from vswitch.answer_data import Reply
from vswitch.errors import InForceUnknown, LabError, LabFault, NotInForce
from vswitch.json_values import Json
from vswitch.lab.building.lab import Lab
from vswitch.lab_answers import (
    ApplyReport,
    ControllerStatus,
    GuestShown,
    Holding,
    LabStatus,
    PoliciesInForce,
    ServiceShown,
)
from vswitch.model.name_lookup import find_switch, names_of
from vswitch.model.site import Switch
from vswitch.openvswitch import SwitchClient
from vswitch.pipeline import MARK_COOKIE
from vswitch.wire import NoAnswer, WithDescriptors

__all__ = ["OPERATIONS", "operation", "status", "switches"]

Operation: TypeAlias = "Callable[..., Reply | WithDescriptors]"
F = TypeVar("F", bound=Operation)

OPERATIONS: dict[str, Operation] = {}

_LOG_FILE = 2  # the supervisor's standard error
_MOST_OF_LOG = 8 << 20  # bytes; JSON may make six of one, and an answer has an end

#: Seconds for an apply to end. Whoever asks sets a limit of their own; `apply_status` says what came of it.
_APPLY = 3600.0
_RETURN = 30.0  # seconds a controller that has died has to come back and settle what it was doing
_PAUSE = 0.05


def operation(function: F) -> F:
    """Offer `function` under its own name."""
    OPERATIONS[function.__name__] = function
    return function


def switches(lab: Lab, switch: str | None) -> list[tuple[Switch, SwitchClient]]:
    """The switches to look at: one, as `find_switch` finds it, or all. Raises InputError."""
    site = lab.site
    chosen = list(site.switch.values()) if switch is None else [site.switch[find_switch(site, switch)]]
    return [(each, lab.instance(each.host)) for each in chosen]


@operation
def ping(lab: Lab) -> str:
    """Whether the lab answers: "pong"."""
    del lab
    return "pong"


@operation
def status(lab: Lab) -> LabStatus:
    """What runs, since when and started where, what is in force; process ids in the lab's own numbering."""
    site = lab.site
    state = lab.policy.look()
    sources = state.sources or lab.policy.recorded()
    policies = sources.policies if sources else None
    return LabStatus(
        site=site.name,
        since=lab.since.isoformat(timespec="seconds"),
        folder=lab.folder,
        files=site.files if policies is None else (site.files[0], *policies),
        in_force=state.shown(),
        hosts=len(site.hosts),
        switches=len(site.switch),
        guests=len(site.guests),
        adapters=len(site.adapters),
        switching=lab.switching,
        restarts={worker.name: worker.restarts for worker in lab.workers},
        processes=lab.processes(),
    )


@operation
def guests(lab: Lab) -> list[GuestShown]:
    """The guests, in the site's order: name, kind, host, addresses, services."""
    return [
        GuestShown(
            name=guest.name,
            kind=guest.kind,
            host=guest.host,
            addresses=tuple(map(str, guest.addresses)),
            services=tuple(
                ServiceShown(service.protocol, service.port, service.name) for service in guest.services
            ),
        )
        for guest in lab.site.guests
    ]


@operation
def names(lab: Lab) -> Mapping[str, Json]:
    """What there is to name: guests with their adapters and services, hosts, switches."""
    return names_of(lab.site)


@operation
def sources(lab: Lab) -> Mapping[str, Json]:
    """The files in force: layout path, texts by path, policies."""
    in_force = lab.policy.agreed().sources
    return {} if in_force is None else in_force.to_dict()


@operation
def namespaces(lab: Lab, guest: str | None = None) -> WithDescriptors:
    """The way into a guest; without one, to the lab's own processes: kinds of the descriptors, limits."""
    way = lab.way_into(guest)
    limits = (way.processes, way.memory, int(way.idle))
    return WithDescriptors({"kinds": way.kinds, "limits": limits}, way.descriptors)


@operation
def flows(lab: Lab, switch: str | None = None, table: int | None = None) -> Mapping[str, Json]:
    """Switch id to its flows with counters, without the mark of its program."""
    found: dict[str, Json] = {}
    for each, client in switches(lab, switch):
        client.settle()
        held = client.dump_flows(each.bridge, table)
        found[each.id] = [asdict(flow) for flow in held if flow.cookie != MARK_COOKIE]
    return found


@operation
def counters(lab: Lab, switch: str | None = None) -> dict[str, dict[str, list[int]]]:
    """Switch id to {cookie in hexadecimal: [packets, bytes]}, flows of one cookie summed."""
    found: dict[str, dict[str, list[int]]] = {}
    for each, client in switches(lab, switch):
        client.settle()
        sums = client.counters(each.bridge)
        sums.pop(MARK_COOKIE, None)
        found[each.id] = {f"{cookie:#x}": list(pair) for cookie, pair in sums.items()}
    return found


@operation
def trace(lab: Lab, switch: str, flow: str, ct_next: list[str] | None = None) -> Mapping[str, Json]:
    """Follow a frame, written as an ovs-ofctl flow, through one switch."""
    ((each, client),) = switches(lab, switch)
    return asdict(client.trace(each.bridge, flow, ct_next or ()))


@operation
def connections(lab: Lab, host: str | None = None, zone: int | None = None) -> Mapping[str, Json]:
    """Host to the connections its switches track."""
    hosts = [each.name for each in lab.site.hosts] if host is None else [host]
    return {name: [asdict(entry) for entry in lab.instance(name).connections(zone)] for name in hosts}


@operation
def ports(lab: Lab, host: str) -> dict[str, dict[str, int]]:
    """Interface of a host's Open vSwitch to its counters."""
    return lab.instance(host).ports()


@operation
def apply(lab: Lab, policies: list[str], texts: dict[str, str]) -> ApplyReport:
    """Put policies in force; the controller's report, with numbers None if it died meanwhile.

    Raises as the controller's, and InForceUnknown if it cannot be found out whether they are in force.
    """
    with lab.policy.applying(policies):
        try:
            report = lab.ask_controller("apply", timeout=_APPLY, policies=policies, texts=texts)
        except (NoAnswer, LabFault) as error:
            return _find_out(lab, policies, texts, error)
    return ApplyReport.from_dict(report)


def _find_out(lab: Lab, policies: list[str], texts: dict[str, str], error: LabError) -> ApplyReport:
    """What became of an apply whose controller gave no proper answer: waits until one has settled it."""
    why = "the controller ended during the apply" if isinstance(error, NoAnswer) else error.message
    started = time.monotonic()
    while not _controller_has_settled(lab):
        if time.monotonic() > started + _RETURN:
            raise InForceUnknown(
                f"whether the new policy is in force is not known: {why}, and no other has settled it",
                hint="`vswitch log` has what the controller said.",
            ) from None
        time.sleep(_PAUSE)
    if _in_force(lab, policies, texts) != "new":
        raise NotInForce(
            f"the new policy is not in force, the one from before is, on every switch: {why}",
            hint="Apply it again; `vswitch log` has what the controller said.",
        ) from None
    return ApplyReport(
        switches=(),
        flows=None,
        flows_changed=None,
        sessions_ended=None,
        seconds=time.monotonic() - started,
        warnings=(why,),
    )


def _controller_has_settled(lab: Lab) -> bool:
    """Whether the controller is there, all switches are as it wants them, and no apply is under way."""
    try:
        status = ControllerStatus.from_dict(lab.ask_controller("status", timeout=_RETURN))
    except LabError:
        return False
    return not status.missing and lab.policy.look().settled


def _in_force(lab: Lab, policies: list[str], texts: dict[str, str]) -> Holding:
    """Whether these policies are in force ("new"), others are ("old"), or that is "unknown"."""
    sources = lab.policy.look().sources
    if sources is None:
        return "unknown"
    held = [sources.texts.get(path) for path in sources.policies or ()]
    return "new" if held == [texts[path] for path in policies] else "old"


@operation
def apply_status(
    lab: Lab, policies: list[str] | None = None, texts: dict[str, str] | None = None
) -> PoliciesInForce:
    """What is in force by what the switches carry, and whether it is these policies (by their texts)."""
    asked = None if policies is None else _in_force(lab, policies, texts or {})
    return replace(lab.policy.look().shown(), in_force=asked)


@operation
def controller_status(lab: Lab) -> ControllerStatus:
    """The controller's own status."""
    return ControllerStatus.from_dict(lab.ask_controller("status"))


@operation
def log(lab: Lab) -> str:
    """What the lab's processes have written so far; of much, the end."""
    del lab
    left_out = max(0, os.fstat(_LOG_FILE).st_size - _MOST_OF_LOG)
    try:
        end = os.pread(_LOG_FILE, _MOST_OF_LOG, left_out).decode(errors="replace")
    except OSError:
        return "the log is not kept by the lab\n"
    return f"the first {left_out} bytes of the log are left out\n{end}" if left_out else end
