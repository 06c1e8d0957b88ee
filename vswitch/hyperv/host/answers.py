"""What the PowerShell module answers, as types: the one place where answers are read.

An answer counts only if it has the form of one and belongs to the question: to the plan that was sent,
to each of its adapters and to no other. Anything else is an UnreadableAnswer, which says nothing about
the host: neither that something was written nor that nothing was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vswitch.errors import HostError, InputError, VswitchError
from vswitch.hyperv.host.host_state import HostState, read_state
from vswitch.hyperv.winrm.interface import ScriptRequest, Transport
from vswitch.hyperv.winrm.refusals import hyperv_problem
from vswitch.model.problems import shorten

__all__ = [
    "Backup",
    "BackupSummary",
    "Confirmed",
    "PlanResult",
    "ReadBack",
    "Refused",
    "UnreadableAnswer",
    "ask_apply",
    "ask_backup",
    "ask_backups",
    "ask_confirm",
    "ask_undo",
    "bare",
    "export_of",
]

A = TypeVar("A", bound="ModuleAnswer")


class UnreadableAnswer(HostError):
    """What a host answered is not an answer to what it was asked."""

    def __init__(self, operation: str, why: str, *, host: str) -> None:
        super().__init__(
            f"its answer to {operation!r} cannot be believed: {why}",
            host=host,
            hint="check which machine answers at its address; module and program may differ in version",
        )


def _listed(value: Any) -> Any:
    """A list also where PowerShell made a single object of it; nothing at all is not a list."""
    if isinstance(value, Mapping):
        return value["value"] if set(value) == {"value", "Count"} else [value]
    return value


class ModuleAnswer(BaseModel):
    """Base of all parts of answers: exact types, names as PowerShell has them, other fields left alone."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    @property
    def raw(self) -> dict[str, Any]:
        """The same as plain data, under the names it came with."""
        return self.model_dump(by_alias=True)


Raw = Annotated[list[dict[str, Any]], BeforeValidator(_listed)]
Time = Annotated[str, Field(pattern=r"^[0-9TZ:.+-]{0,40}$")]
State = Literal["applying", "applied", "confirmed", "undone", "failed", "unreadable"]


class ErrorTarget(ModuleAnswer):
    """Where an error happened: an adapter's id and the place of a step, as far as there is one."""

    adapter: str | None = None
    step: int | None = None


class Problem(ModuleAnswer):
    """An error as the module reports it."""

    message: str = ""
    hresult: int | None = None
    category: str = ""
    fully_qualified_error_id: str = ""
    target: ErrorTarget = ErrorTarget()


class ReadBack(ModuleAnswer):
    """One adapter read after the writes: the module's own judgement, and the entries themselves."""

    id: str
    name: str = ""
    state: Literal["old", "new", "other", "gone", "unread"]
    acls: Raw
    extended_acls: Raw


class PlanResult(ModuleAnswer):
    """What became of a plan that was applied or undone."""

    plan_id: str
    steps_done: int
    undone: bool
    adapters: Annotated[list[ReadBack], BeforeValidator(_listed)]
    armed_until: Time | None
    errors: Annotated[list[Problem], BeforeValidator(_listed)]
    repeated: bool = False


class Refused(ModuleAnswer):
    """An operation that was refused, or that failed; `result` is None if nothing is said of the host."""

    error: Problem
    result: PlanResult | None = None
    #: Whether there was something in place of a result that could not be read.
    spoiled: bool = False


class Confirmed(ModuleAnswer):
    """A plan that stays."""

    plan_id: str
    confirmed: Literal[True]
    was_armed: bool


class _Named(ModuleAnswer):
    """An adapter as a list of backups names it."""

    id: str
    name: str
    vm_name: str | None = None


class BackupSummary(ModuleAnswer):
    """One backup in the list of them."""

    plan_id: str
    created_at: Time
    sequence: int
    policy_digest: str
    state: State
    steps_done: int
    steps: int
    armed_until: Time | None
    adapters: Annotated[list[_Named], BeforeValidator(_listed)]


class _Backups(ModuleAnswer):
    backups: Annotated[list[BackupSummary], BeforeValidator(_listed)]


class _Before(ModuleAnswer):
    """An adapter's entries before a plan."""

    id: str
    acls: Raw
    extended_acls: Raw


class _Record(ModuleAnswer):
    """What is ours at an adapter."""

    adapter: str
    policy: str = ""
    entries: Raw = []


class _Step(ModuleAnswer):
    """A write of a plan."""

    op: Literal["addExtended", "removeExtended", "addBasic", "removeBasic"]
    adapter: str
    entry: dict[str, Any]


class _Plan(ModuleAnswer):
    """A plan, as far as going back needs it."""

    steps: Annotated[list[_Step], BeforeValidator(_listed)]
    records: Annotated[list[_Record], BeforeValidator(_listed)] = []
    records_during: Annotated[list[_Record], BeforeValidator(_listed)] = []


class Backup(ModuleAnswer):
    """A whole backup: the entries and the record before a plan, and the plan."""

    plan_id: str
    state: State
    adapters: Annotated[list[_Before], BeforeValidator(_listed)]
    records: Annotated[list[_Record], BeforeValidator(_listed)]
    plan: _Plan


class _WholeBackups(ModuleAnswer):
    backups: Annotated[list[Backup], BeforeValidator(_listed)]


# --- questions -----------------------------------------------------------------------------------


def export_of(transport: Transport, host: str) -> HostState:
    """The host's state. Raises HostError, and InputError where it cannot be understood."""
    result = _ask(transport, host, "export", {})
    if isinstance(result, Refused):
        raise hyperv_problem(result.error.raw, host=host)
    try:
        return read_state(result)
    except InputError as error:
        raise UnreadableAnswer("export", error.message, host=host) from None


def ask_apply(transport: Transport, host: str, plan: Mapping[str, Any]) -> PlanResult | Refused:
    """Send a plan. Raises UnreadableAnswer, and what the transport raises."""
    plan_id, ids = str(plan["planId"]), [str(each["id"]) for each in plan["adapters"]]
    answer = _ask(transport, host, "apply", {"plan": dict(plan)}, plan_id, ids)
    if isinstance(answer, Refused):
        return answer
    result = _result(answer, plan_id, ids, "apply", host)
    if result.undone:
        raise UnreadableAnswer("apply", "it says both that it is done and that it was undone", host=host)
    if plan.get("confirmWithin") and not (result.repeated or result.armed_until):
        raise UnreadableAnswer("apply", "it does not say that its automatic undo is armed", host=host)
    return result


def ask_undo(transport: Transport, host: str, plan_id: str, ids: Collection[str]) -> PlanResult:
    """Have a plan taken back that touches the adapters `ids`. Raises HostError."""
    answer = _ask(transport, host, "undo", {"planId": plan_id}, plan_id, ids)
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.raw, host=host)
    result = _result(answer, plan_id, ids, "undo", host)
    if not result.undone:
        raise UnreadableAnswer("undo", "it does not say that the plan was undone", host=host)
    return result


def ask_confirm(transport: Transport, host: str, plan_id: str) -> Confirmed:
    """Have a plan kept. Raises HostError."""
    answer = _ask(transport, host, "confirm", {"planId": plan_id})
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.raw, host=host)
    found = _read(Confirmed, answer, "confirm", host)
    if found.plan_id != plan_id:
        raise UnreadableAnswer("confirm", _other(found.plan_id, plan_id), host=host)
    return found


def ask_backups(transport: Transport, host: str) -> list[BackupSummary]:
    """The host's backups, newest first. Raises HostError."""
    answer = _ask(transport, host, "backups", {})
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.raw, host=host)
    found = _read(_Backups, answer, "backups", host).backups
    if len({each.plan_id for each in found}) < len(found):
        raise UnreadableAnswer("backups", "it lists a plan twice", host=host)
    return found


def ask_backup(transport: Transport, host: str, plan_id: str) -> Backup:
    """The whole backup of one plan. Raises HostError."""
    answer = _ask(transport, host, "backups", {"planId": plan_id})
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.raw, host=host)
    found = _read(_WholeBackups, answer, "backups", host).backups
    if [each.plan_id for each in found] != [plan_id]:
        names = ", ".join(each.plan_id for each in found) or "none"
        raise UnreadableAnswer("backups", _other(names, plan_id), host=host)
    return found[0]


# --- reading -------------------------------------------------------------------------------------


def _ask(
    transport: Transport,
    host: str,
    operation: str,
    arguments: Mapping[str, Any],
    plan_id: str = "",
    ids: Collection[str] = (),
) -> Any:
    """The `result` of an answer that says ok; a Refused for one that does not."""
    document = transport.run(ScriptRequest(operation, dict(arguments)))
    if not isinstance(document, Mapping) or document.get("schema") != 1:
        raise UnreadableAnswer(operation, "it is not a document of schema 1", host=host)
    if document.get("ok") is True:
        return document.get("result")
    if document.get("ok") is not False:
        raise UnreadableAnswer(operation, "it says neither that it is done nor that it failed", host=host)
    error = _read(Problem, document.get("error"), operation, host)
    if error.target.adapter and ids and error.target.adapter not in ids:
        raise UnreadableAnswer(operation, "its error is about an adapter that was not asked for", host=host)
    result, told = None, document.get("result")
    if told is not None and plan_id:
        try:
            result = _result(told, plan_id, ids, operation, host)
        except UnreadableAnswer:
            return Refused(error=error, spoiled=True)
    return Refused(error=error, result=result)


def _result(told: Any, plan_id: str, ids: Collection[str], operation: str, host: str) -> PlanResult:
    result = _read(PlanResult, told, operation, host)
    if result.plan_id != plan_id:
        raise UnreadableAnswer(operation, _other(result.plan_id, plan_id), host=host)
    if sorted(each.id for each in result.adapters) != sorted(ids):
        raise UnreadableAnswer(operation, "it is not about the adapters of the plan", host=host)
    return result


def _read(kind: type[A], told: Any, operation: str, host: str) -> A:
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"]))
        why = f"{at}: {first['msg']}" if at else first["msg"]
        raise UnreadableAnswer(operation, shorten(why, 160)[1:-1], host=host) from None


def _other(found: str, plan_id: str) -> str:
    return f"it is about plan {shorten(found, 80)[1:-1]}, not {plan_id}"


def bare(error: VswitchError, host: str) -> str:
    """An error's sentence without the host's name in front of it."""
    return error.message.removeprefix(f"{host}: ")
