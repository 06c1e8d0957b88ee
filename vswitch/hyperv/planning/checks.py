"""Reasons against a plan, all found before anything is written, and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from vswitch.acl_entries import BasicEntry, Entry, EntryKey, ExtendedEntry, describe
from vswitch.errors import InputError, Origin
from vswitch.hyperv.host.host_state import HostAdapter, HostState
from vswitch.hyperv.planning.adapter_plan import AdapterPlan
from vswitch.hyperv.planning.desired import PolicyRule
from vswitch.wording import counted

__all__ = ["collisions", "halves", "plan_warnings", "refusals", "refused"]

_LONGEST_ADDRESS = 40  # characters the host's own database has room for (§4.1)


def refused(adapter: HostAdapter, text: str, rule: PolicyRule | None) -> InputError:
    """A refusal as the user sees it, at the rule's line."""
    name = f"rule {rule.name!r} cannot be written to" if rule else "an entry cannot be written to"
    return InputError(f"{name} {adapter.label}: {text}", where=rule.origin if rule else None)


def refusals(entries: Mapping[Entry, PolicyRule | None]) -> Iterable[tuple[str, PolicyRule | None]]:
    """What Hyper-V would refuse, some of it only when the VM starts (§4.4)."""
    keys: dict[EntryKey, Entry] = {}
    for entry, rule in entries.items():
        first = keys.setdefault(entry.key, entry)
        if first != entry:
            yield f"it has the same weight or prefix as {describe(first)} (0x800700B7)", rule
        yield from ((text, rule) for text in _faults_of(entry))


@lru_cache(maxsize=1 << 16)
def _faults_of(entry: Entry) -> tuple[str, ...]:
    """What Hyper-V would refuse of an entry whatever else there is."""
    if isinstance(entry, BasicEntry):
        meters = entry.is_mac and str(entry.action) == "Meter"
        return ("a Meter entry needs an IP address",) if meters else ()
    found: list[str] = []
    if not 1 <= entry.weight <= 65535:
        found.append(f"weight {entry.weight} is not from 1 to 65535")
    if entry.stateful and (entry.protocol not in ("TCP", "UDP") or str(entry.action) != "Allow"):
        found.append(
            "only Allow with TCP or UDP can be stateful; Hyper-V would take it while the VM is off and"
            " then not start the VM (0x80070057)"
        )
    if entry.protocol not in ("TCP", "UDP") and (entry.local_port != "ANY" or entry.remote_port != "ANY"):
        found.append("ports need TCP or UDP")
    if entry.local != "ANY" and entry.remote != "ANY" and (":" in entry.local) != (":" in entry.remote):
        found.append("local and remote address are of different IP versions")
    return (
        *found,
        *(
            f"{text} is longer than the {_LONGEST_ADDRESS} characters Hyper-V has room for"
            for text in (entry.local, entry.remote)
            if len(text) > _LONGEST_ADDRESS
        ),
    )


def collisions(plan: AdapterPlan) -> Iterable[InputError]:
    """New entries that need the weight or prefix of a foreign one: those are never removed."""
    theirs = {entry.key: entry for entry in plan.foreign}
    for entry in (*plan.added, *(after for _, after in plan.changed)):
        other = theirs.get(entry.key)
        if other is None and entry.key not in plan.adapter.walls:
            continue
        rule = plan.rules.get(entry)
        what = "weight" if isinstance(entry, ExtendedEntry) else "prefix"
        yield InputError(
            f"{f'rule {rule.name!r}' if rule else 'an entry'} needs a {what} on {plan.adapter.label} that an"
            f" entry of somebody else has: {describe(other) if other else 'one that cannot be read'}",
            where=rule.origin if rule else Origin(plan.adapter.label),
            hint=("choose another weight" if what == "weight" else "remove one of the two by hand")
            + "; or, if it is to be ours, take it over as it is first: apply a policy that says the same"
            " (such as an import's) with --adopt",
        )


def halves(plan: AdapterPlan) -> Iterable[InputError]:
    """Removals of one IP version of an ANY entry: the host would remove the other one with it."""
    gone = {*plan.removed, *(before for before, _ in plan.changed)}
    for entry in (each for each in gone if isinstance(each, BasicEntry)):
        for other in plan.adapter.lists.together(entry):
            if other in gone:
                continue
            yield InputError(
                f"{describe(entry)} on {plan.adapter.label} cannot be removed by itself:"
                f" the host holds it and {describe(other)} as one entry, ANY",
                where=Origin(plan.adapter.label),
                hint="replace that ANY by one entry for each IP version by hand, or keep both",
            )


def plan_warnings(plan: AdapterPlan, state: HostState) -> Iterable[str]:
    """What an administrator should know about an adapter, though it stops nothing."""
    adapter = plan.adapter
    for text in adapter.unreadable:
        yield f"{adapter.label}: left alone and left out of the comparison: {text}"
    if plan.owned_after and adapter.virtual_function_active:
        yield (
            f"{adapter.label}: a virtual function is active (SR-IOV): its frames meet no ACL until"
            " IovWeight is 0"
        )
    elif plan.owned_after and adapter.iov_weight > 0:
        yield (
            f"{adapter.label}: IovWeight is {adapter.iov_weight}: once a virtual function is active (SR-IOV),"
            " its frames meet no ACL"
        )
    if adapter.vm_id and adapter.vm_id not in state.running:
        for entry in plan.foreign:
            if isinstance(entry, ExtendedEntry) and entry.stateful and entry.protocol not in ("TCP", "UDP"):
                yield (
                    f"{adapter.label}: the VM will not start (0x80070057) because of a foreign entry:"
                    f" {describe(entry)}"
                )
    replaced = [
        step.entry
        for step in plan.order.steps
        if not (step.add or step.stand_in) and step.entry not in plan.removed
    ]
    sessions = [entry for entry in replaced if isinstance(entry, ExtendedEntry) and entry.stateful]
    if sessions:
        yield (
            f"{adapter.label}: sessions that passed by the state of {describe(sessions[0])}"
            + (f" and {len(sessions) - 1} more" if len(sessions) > 1 else "")
            + " may stop until their side that began sends again (U6)"
        )
    if plan.present:
        one, several = "entry of the policy is there already", "entries of the policy are there already"
        yield (
            f"{adapter.label}: {counted(len(plan.present), one, several)}, but not ours: what is not ours"
            " stays when the policy drops it; --adopt takes it over"
        )
