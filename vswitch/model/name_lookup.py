"""Names as people type them: found without regard to case, as Hyper-V has them, or the nearest one named."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from vswitch.errors import InputError
from vswitch.model.names import find_name
from vswitch.model.problems import did_you_mean, listing

if TYPE_CHECKING:
    from vswitch.model.site import Guest, Site

__all__ = ["find_guest", "find_switch", "names_of"]


def find_guest(site: Site, word: str) -> Guest:
    """The guest that `word` names, or that alone has the IP address `word`.

    Raises InputError, with the nearest names or those who have the address.
    """
    name = find_name(word, site.guest)
    if name is not None:
        return site.guest[name]
    try:
        address = ip_interface(word).ip
    except ValueError:
        hint = did_you_mean(word, site.guest) or f"there are: {listing(site.guest)}"
        raise InputError(f"there is no guest {word!r} in {site.name}", hint=hint) from None
    having = [guest for guest in site.guests if any(own.ip == address for own in guest.addresses)]
    if len(having) == 1:
        return having[0]
    if having:
        hint = f"say which: {listing(f'{guest.name}/{address}' for guest in having)}"
        raise InputError(f"several guests in {site.name} have the address {address}", hint=hint)
    near = [
        f"{own.ip} ({guest.name})"
        for guest in site.guests
        for own in guest.addresses
        if own.version == address.version and address in own.network
    ]
    hint = f"in its subnet are: {listing(near)}" if near else f"there are: {listing(site.guest)}"
    raise InputError(f"nobody in {site.name} has the address {address}", hint=hint)


def find_switch(site: Site, word: str) -> str:
    """The id `host/name` of the switch that `word` names; the host is needed only among several of a name.

    Raises InputError, with the nearest names.
    """
    found = find_name(word, site.switch)
    if found is not None:
        return found
    same = [id_ for id_, switch in site.switch.items() if switch.name.lower() == word.lower()]
    if len(same) == 1:
        return same[0]
    hint = f"{did_you_mean(word, site.switch)} the switches: {listing(site.switch)}".strip()
    what = "several switches are called" if same else "there is no switch"
    raise InputError(f"{what} {word!r} in {site.name}", hint=hint)


def names_of(site: Site) -> Mapping[str, Any]:
    """What there is to name, as JSON data, for completion.

    `guests` (name to `adapters` and `services`, as TRAFFIC), `hosts`, `switches`.
    """
    protocols = {6: "tcp", 17: "udp"}
    return {
        "guests": {
            guest.name: {
                "adapters": [adapter.name for adapter in guest.adapters],
                "services": [
                    service.name or f"{protocols[service.protocol]}/{service.port}"
                    for service in guest.services
                ],
            }
            for guest in site.guests
        },
        "hosts": [host.name for host in site.hosts],
        "switches": list(site.switch),
    }
