"""Requests to a running lab about itself, and their answers: the asking side of `lab_operations`.

All raise NoSuchLab, NoAnswer and TooSlow as `client.call`, and what their operation raises. `within` is the
user's patience, unless given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vswitch.answer_data import named_in
from vswitch.json_values import Json
from vswitch.lab.process import client
from vswitch.lab_answers import ApplyReport, GuestShown, LabStatus, PoliciesInForce
from vswitch.patience import Patience

__all__ = ["apply_to", "guests_of", "log_of", "names_in", "policies_in_force", "status_of"]


def status_of(lab: str, *, within: Patience | None = None) -> LabStatus:
    """What runs, since when, and what is in force."""
    return LabStatus.from_dict(client.call(lab, "status", within=within))


def guests_of(lab: str) -> tuple[GuestShown, ...]:
    """The guests, in the site's order."""
    return GuestShown.each_of(client.call(lab, "guests"))


def names_in(lab: str, *, within: Patience | None = None) -> Mapping[str, Json]:
    """What there is to name, as `vswitch.model.name_lookup.names_of` has it."""
    return named_in(client.call(lab, "names", within=within))


def log_of(lab: str) -> str:
    """What the lab's processes have written so far."""
    return str(client.call(lab, "log"))


def apply_to(
    lab: str,
    policies: Sequence[str],
    texts: Mapping[str, str],
    *,
    progress: Callable[[str], None] | None = None,
) -> ApplyReport:
    """Put policy files (paths, with their texts) in force.

    Raises NotInForce, InForceUnknown, SessionsLeft.
    """
    found = client.call(lab, "apply", progress=progress, policies=list(policies), texts=dict(texts))
    return ApplyReport.from_dict(found)


def policies_in_force(
    lab: str,
    policies: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    *,
    within: Patience | None = None,
) -> PoliciesInForce:
    """What is in force, and whether it is these policies by their texts, if any are named."""
    named = list(policies) or None
    found = client.call(lab, "apply_status", within=within, policies=named, texts=dict(texts or {}))
    return PoliciesInForce.from_dict(found)
