"""What a policy wants on one host: the entries of each adapter, and which real adapter that is.

Adapters of the layout are found on the host by VM name and adapter name, or else by MAC address
(names may differ where the layout had to make them unique). One found by both ways must be the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vswitch.acl_entries import Entry, basic_from_model, extended_from_model
from vswitch.errors import InputError, InputErrors, Origin
from vswitch.hyperv.host.host_state import HostAdapter, HostState
from vswitch.model.names import same
from vswitch.model.problems import did_you_mean, listing
from vswitch.model.site import Adapter, BasicAcl, ExtendedAcl, Site

__all__ = ["Desired", "PolicyRule", "Wanted", "desired", "host_of", "wanted_entries"]


Rules = tuple[tuple[ExtendedAcl, ...], tuple[BasicAcl, ...]]


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """The policy rule an entry comes from."""

    name: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Wanted:
    """The entries one adapter should have, each with its rule (None: from a backup, not a policy).

    `released` are entries that, if they are ours, stay on the host and are somebody else's from now on;
    `reclaimed` those that, if they are there, are ours again.
    """

    adapter: HostAdapter
    entries: Mapping[Entry, PolicyRule | None]
    released: frozenset[Entry] = frozenset()
    reclaimed: frozenset[Entry] = frozenset()


@dataclass(frozen=True)
class Desired:
    """What one host should have. Adapters that are not listed should have nothing of ours.

    `policies` are the files it comes from.
    """

    adapters: tuple[Wanted, ...]
    policies: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def host_of(site: Site, state: HostState, name: str = "") -> str:
    """The layout's name of the host whose state this is: `name` itself, or the computer's name.

    Case and domain do not matter; a layout with a single host means that one. Raises InputError, also
    where the two are different hosts of the layout: then what answers there is not the host meant.
    """
    known = {host.name.lower(): host.name for host in site.hosts}
    named, itself = (
        known.get(each.lower()) or known.get(each.partition(".")[0].lower())
        for each in (name, state.computer)
    )
    if named and itself and named != itself:
        raise InputError(
            f"the host that answers as {name!r} is {state.computer}, another host of the layout",
            where=Origin(site.files[0]) if site.files else None,
            hint=f"check the `address` of {name} in the inventory, and the DNS",
        )
    if named or itself:
        return named or itself or ""
    if len(known) == 1 and not name:
        return next(iter(known.values()))
    guess = did_you_mean(name or state.computer, known.values())
    raise InputError(
        f"the layout has no host {name or state.computer!r}",
        where=Origin(site.files[0]) if site.files else None,
        hint=f"{guess} its hosts: {listing(known.values())}".strip(),
    )


def wanted_entries(extended: Iterable[ExtendedAcl], basic: Iterable[BasicAcl]) -> dict[Entry, PolicyRule]:
    """A policy's entries for one adapter as a host holds them. Of equal ones the first names the rule."""
    found: dict[Entry, PolicyRule] = {}
    for acl in extended:
        found.setdefault(extended_from_model(acl), PolicyRule(acl.name, acl.origin))
    for plain in basic:
        for entry in basic_from_model(plain):
            found.setdefault(entry, PolicyRule(plain.name, plain.origin))
    return found


def desired(site: Site, host: str, state: HostState) -> Desired:
    """What `site` wants on its host `host`, whose state was read.

    Raises InputErrors for adapters that have rules and cannot be found, or found twice.
    """
    errors: list[InputError] = []
    warnings: list[str] = []
    wanted: list[Wanted] = []
    taken: dict[str, Adapter] = {}
    known = _KnownEntries()
    find = _Finder(state)
    for adapter in site.adapters:
        if adapter.host != host:
            continue
        has_rules = bool(adapter.acls or adapter.extended_acls)
        try:
            found = find.adapter(adapter)
        except InputError as error:
            if has_rules:
                errors.append(error)
            else:
                warnings.append(str(error).splitlines()[0])
            continue
        other = taken.setdefault(found.id, adapter)
        if other is not adapter:
            errors.append(
                InputError(
                    f"{adapter.id!r} and {other.id!r} are the same adapter on the host: {found.label}",
                    where=adapter.origin,
                    hint="give each its own MAC address or its name as on the host",
                )
            )
            continue
        wanted.append(Wanted(found, known.of(adapter)))
    if errors:
        raise InputErrors(errors)
    return Desired(tuple(wanted), tuple(site.files[1:]), tuple(warnings))


class _KnownEntries:
    """The entries of adapters, worked out once for those that have the same rules."""

    def __init__(self) -> None:
        self._known: list[tuple[Rules, dict[Entry, PolicyRule]]] = []

    def of(self, adapter: Adapter) -> dict[Entry, PolicyRule]:
        rules = adapter.extended_acls, adapter.acls
        # Compared, not looked up: to hash hundreds of rules takes longer than to see that two lists are one.
        found = next((entries for known, entries in self._known if known == rules), None)
        if found is None:
            found = wanted_entries(*rules)
            self._known.append((rules, found))
        return found


class _Finder:
    """Finds the layout's adapters among a host's, by names without regard to case, or by MAC."""

    def __init__(self, state: HostState) -> None:
        self.state = state
        self.by_mac: dict[str, list[HostAdapter]] = {}
        self.by_name: dict[tuple[bool, str, str], list[HostAdapter]] = {}
        self.by_guest: dict[tuple[bool, str], list[HostAdapter]] = {}
        for each in state.adapters:
            guest = "" if each.is_management_os else each.vm_name.lower()
            self.by_mac.setdefault(each.mac, []).append(each)
            self.by_name.setdefault((each.is_management_os, guest, each.name.lower()), []).append(each)
            self.by_guest.setdefault((each.is_management_os, guest), []).append(each)

    def adapter(self, wanted: Adapter) -> HostAdapter:
        """The host's adapter. Raises InputError at the layout's line."""
        guest = "" if wanted.is_management_os else wanted.guest.lower()
        named = self.by_name.get((wanted.is_management_os, guest, wanted.name.lower()), [])
        spelt = [
            each
            for each in named
            if each.name == wanted.name and (each.is_management_os or each.vm_name == wanted.guest)
        ]
        same_mac = [
            each
            for each in self.by_mac.get(wanted.mac, [])
            if each.is_management_os == wanted.is_management_os
        ]
        both = [each for each in named if each in same_mac]
        for candidates in (both, spelt, named, same_mac):
            if len(candidates) == 1:
                return candidates[0]
        if not named and not same_mac:
            alone = self.by_guest.get((wanted.is_management_os, guest), [])
            if len(alone) == 1 and wanted.is_management_os and same(alone[0].switch_name, wanted.switch):
                return alone[0]
            raise self.missing(wanted, alone)
        raise InputError(
            f"several adapters on {self.state.computer} could be {wanted.id!r}",
            where=wanted.origin,
            hint="write its `mac:` into the layout; VM names need not be unique on a host",
        )

    def missing(self, wanted: Adapter, of_guest: Sequence[HostAdapter]) -> InputError:
        if of_guest:
            hint = f"that VM's adapters there: {listing(each.name for each in of_guest)}"
        else:
            names = dict.fromkeys(each.vm_name for each in self.state.adapters if each.vm_name)
            hint = f"{did_you_mean(wanted.guest, names)} VMs there: {listing(names)}".strip()
        return InputError(
            f"{self.state.computer} has no adapter {wanted.id!r}, neither by name nor by MAC {wanted.mac}",
            where=wanted.origin,
            hint=hint,
        )
