"""What the PowerShell module answers, as types: the one place where answers are read.

An answer counts only if it has the form of one and belongs to the question: to the plan that was sent,
to each of its adapters and to no other. Anything else is an UnreadableAnswer, which says nothing about
the host: neither that something was written nor that nothing was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import ValidationError

from vswitch.errors import HostError, InputError
from vswitch.hyperv.host.backup_document import Backup, BackupSummary
from vswitch.hyperv.host.document_parts import DocumentPart, JsonObject, Listed, TimeText
from vswitch.hyperv.host.host_state import HostState, read_state
from vswitch.hyperv.host.plan_document import PlanDocument
from vswitch.hyperv.host.shown_entries import EntryLists, read_lists
from vswitch.hyperv.winrm.interface import ScriptRequest, Transport
from vswitch.hyperv.winrm.refusals import hyperv_problem
from vswitch.json_values import Json
from vswitch.model.problems import shorten

__all__ = [
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
    "export_of",
]

A = TypeVar("A", bound=DocumentPart)


class UnreadableAnswer(HostError):
    """What a host answered is not an answer to what it was asked."""

    def __init__(self, operation: str, why: str, *, host: str) -> None:
        super().__init__(
            f"its answer to {operation!r} cannot be believed: {why}",
            host=host,
            hint="check which machine answers at its address; module and program may differ in version",
        )


class ErrorTarget(DocumentPart):
    """Where an error happened: an adapter's id and the place of a step, as far as there is one."""

    adapter: str | None = None
    step: int | None = None


class Problem(DocumentPart):
    """An error as the module reports it."""

    message: str = ""
    hresult: int | None = None
    category: str = ""
    fully_qualified_error_id: str = ""
    target: ErrorTarget = ErrorTarget()


class ReadBack(DocumentPart):
    """One adapter read after the writes: the module's own judgement, and the entries themselves."""

    id: str
    name: str = ""
    state: Literal["old", "new", "other", "gone", "unread"]
    acls: Annotated[tuple[JsonObject, ...], Listed]
    extended_acls: Annotated[tuple[JsonObject, ...], Listed]

    @property
    def lists(self) -> EntryLists:
        """What was read."""
        return read_lists(self.extended_acls, self.acls)


class PlanResult(DocumentPart):
    """What became of a plan that was applied or undone."""

    plan_id: str
    steps_done: int
    undone: bool
    adapters: Annotated[tuple[ReadBack, ...], Listed]
    armed_until: TimeText | None
    errors: Annotated[tuple[Problem, ...], Listed]
    repeated: bool = False


class Refused(DocumentPart):
    """An operation that was refused, or that failed; `result` is None if nothing is said of the host."""

    error: Problem
    result: PlanResult | None = None
    #: Whether there was something in place of a result that could not be read.
    spoiled: bool = False


class Confirmed(DocumentPart):
    """A plan that stays."""

    plan_id: str
    confirmed: Literal[True]
    was_armed: bool


class _Backups(DocumentPart):
    backups: Annotated[tuple[BackupSummary, ...], Listed]


class _WholeBackups(DocumentPart):
    backups: Annotated[tuple[Backup, ...], Listed]


# --- questions -----------------------------------------------------------------------------------


def export_of(transport: Transport, host: str) -> HostState:
    """The host's state. Raises HostError, and InputError where it cannot be understood."""
    result = _ask(transport, host, "export", {})
    if isinstance(result, Refused):
        raise hyperv_problem(result.error.to_dict(), host=host)
    try:
        return read_state(result)
    except InputError as error:
        raise UnreadableAnswer("export", error.message, host=host) from None


def ask_apply(transport: Transport, host: str, plan: PlanDocument) -> PlanResult | Refused:
    """Send a plan. Raises UnreadableAnswer, and what the transport raises."""
    plan_id, ids = plan.plan_id, plan.ids
    answer = _ask(transport, host, "apply", {"plan": plan.to_dict()}, plan_id, ids)
    if isinstance(answer, Refused):
        return answer
    result = _result(answer, plan_id, ids, "apply", host)
    if result.undone:
        raise UnreadableAnswer("apply", "it says both that it is done and that it was undone", host=host)
    if plan.confirm_within and not (result.repeated or result.armed_until):
        raise UnreadableAnswer("apply", "it does not say that its automatic undo is armed", host=host)
    return result


def ask_undo(transport: Transport, host: str, plan_id: str, ids: Collection[str]) -> PlanResult:
    """Have a plan taken back that touches the adapters `ids`. Raises HostError."""
    answer = _ask(transport, host, "undo", {"planId": plan_id}, plan_id, ids)
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.to_dict(), host=host)
    result = _result(answer, plan_id, ids, "undo", host)
    if not result.undone:
        raise UnreadableAnswer("undo", "it does not say that the plan was undone", host=host)
    return result


def ask_confirm(transport: Transport, host: str, plan_id: str) -> Confirmed:
    """Have a plan kept. Raises HostError."""
    answer = _ask(transport, host, "confirm", {"planId": plan_id})
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.to_dict(), host=host)
    found = _read(Confirmed, answer, "confirm", host)
    if found.plan_id != plan_id:
        raise UnreadableAnswer("confirm", _other(found.plan_id, plan_id), host=host)
    return found


def ask_backups(transport: Transport, host: str) -> tuple[BackupSummary, ...]:
    """The host's backups, newest first. Raises HostError."""
    answer = _ask(transport, host, "backups", {})
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.to_dict(), host=host)
    found = _read(_Backups, answer, "backups", host).backups
    if len({each.plan_id for each in found}) < len(found):
        raise UnreadableAnswer("backups", "it lists a plan twice", host=host)
    return found


def ask_backup(transport: Transport, host: str, plan_id: str) -> Backup:
    """The whole backup of one plan. Raises HostError."""
    answer = _ask(transport, host, "backups", {"planId": plan_id})
    if isinstance(answer, Refused):
        raise hyperv_problem(answer.error.to_dict(), host=host)
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
    arguments: Mapping[str, Json],
    plan_id: str = "",
    ids: Collection[str] = (),
) -> Json | Refused:
    """The `result` of an answer that says ok; a Refused for one that does not."""
    document: Json = transport.run(ScriptRequest(operation, dict(arguments)))
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


def _result(told: Json, plan_id: str, ids: Collection[str], operation: str, host: str) -> PlanResult:
    result = _read(PlanResult, told, operation, host)
    if result.plan_id != plan_id:
        raise UnreadableAnswer(operation, _other(result.plan_id, plan_id), host=host)
    if sorted(each.id for each in result.adapters) != sorted(ids):
        raise UnreadableAnswer(operation, "it is not about the adapters of the plan", host=host)
    return result


def _read(kind: type[A], told: Json, operation: str, host: str) -> A:
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"]))
        why = f"{at}: {first['msg']}" if at else first["msg"]
        raise UnreadableAnswer(operation, shorten(why, 160)[1:-1], host=host) from None


def _other(found: str, plan_id: str) -> str:
    return f"it is about plan {shorten(found, 80)[1:-1]}, not {plan_id}"
