"""TRAFFIC: what a user asks about, as written on the command line and in `expect`.

Forms: `icmp`, `http` (an IANA service name), `tcp/445`, `udp/53`, `tcp/1024-2048`, `ip/47` (a bare
IP protocol number); TCP and UDP take an optional source port: `tcp/445:50000` (from port 50000).
`icmp` means ICMPv4 or ICMPv6, whichever family the two ends talk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from vswitch.errors import InputError, Origin
from vswitch.model import service_names as services
from vswitch.model.problems import FieldError, did_you_mean, shorten
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, PortRange

__all__ = ["FORMS", "Traffic", "meant", "parse_traffic", "port_of", "port_range_of"]

FORMS = "allowed: icmp, a service name such as http, tcp/445, udp/53, tcp/1024-2048, tcp/445:50000, ip/47"
_PORT = re.compile(r"[0-9]{1,7}")
_PORT_RANGE = re.compile(r"([0-9]{1,7})\s*-\s*([0-9]{1,7})")
_WORDS = {TCP: "TCP", UDP: "UDP"}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Parsed TRAFFIC. `protocol` is the IP protocol number (1 stands for either ICMP)."""

    text: str
    protocol: int
    ports: PortRange | None = None  # destination ports; TCP and UDP only
    source_port: int | None = None

    def protocol_for(self, version: int) -> int:
        """The protocol number on the wire for IP version 4 or 6."""
        return ICMPV6 if self.protocol == ICMPV4 and version == 6 else self.protocol

    @property
    def has_ports(self) -> bool:
        """Whether this traffic has ports at all."""
        return self.protocol in (TCP, UDP)

    def __str__(self) -> str:
        return self.text


def parse_traffic(text: str, origin: Origin | None = None) -> Traffic:
    """Read TRAFFIC in one of the forms above; case does not matter.

    Raises InputError at `origin`, with the nearest service name if a name is unknown.
    """
    try:
        return _parse(text.strip())
    except FieldError as error:
        raise InputError(error.message, where=origin, hint=error.hint) from None


def _parse(text: str) -> Traffic:
    target, colon, source = text.partition(":")
    source_port = None
    if colon and target.strip().lower() in ("port", "ports"):
        raise FieldError(
            f"{shorten(text)} names no protocol", meant(f"tcp/{source}", f"udp/{source}") or FORMS
        )
    if colon and not (target.strip().lower() in ("tcp", "udp") and source):
        if not _PORT.fullmatch(source):
            raise FieldError(
                f"{shorten(source)} is not a source port", "as in tcp/445:50000, from port 50000"
            )
        source_port = _port_number(source)
    head, slash, rest = target.partition("/")
    word = head.strip().lower()
    if slash and word in ("tcp", "udp"):
        protocol = TCP if word == "tcp" else UDP
        return Traffic(text, protocol, port_range_of(rest, protocol), source_port)
    if slash and word == "ip":
        if not _PORT.fullmatch(rest) or int(rest) > 255:
            raise FieldError(f"{shorten(rest)} is not an IP protocol number", "allowed: ip/0 to ip/255")
        if int(rest) in _WORDS:
            name = _WORDS[int(rest)]
            raise FieldError(f"ip/{int(rest)} is {name}", f"name its ports: {name.lower()}/443")
        traffic = Traffic(text, ICMPV4 if int(rest) == ICMPV6 else int(rest))
    elif word in ("icmp", "icmpv6", "ping") and not slash:
        traffic = Traffic(text, ICMPV4)
    elif slash:
        turned = rest.strip().lower()
        if turned in ("tcp", "udp") and (guess := meant(f"{turned}/{word}{colon}{source}")):
            raise FieldError(f"{shorten(text)} is the wrong way round", guess)
        protocols = [each for each in ("tcp", "udp", "ip") if did_you_mean(word, (each,))]
        guess = meant(*(f"{each}/{rest}{colon}{source}" for each in protocols)) or FORMS
        raise FieldError(f"{shorten(head)} is not a protocol of TRAFFIC", guess)
    elif word in ("tcp", "udp"):
        if colon and (guess := meant(f"{word}/{source}")):
            raise FieldError(f"{shorten(text)} names no port", guess)
        raise FieldError(f"{word} alone names no port", f"write {word}/ and a port, such as {word}/443")
    elif _PORT.fullmatch(word) or _PORT_RANGE.fullmatch(word):
        guess = meant(*(f"{protocol}/{word}{colon}{source}" for protocol in ("tcp", "udp")))
        raise FieldError(f"{shorten(text)} names no protocol", guess or FORMS)
    else:
        protocol, port = port_of(target.strip(), FORMS, () if colon else ("icmp", "ping"))
        return Traffic(text, protocol, PortRange(port, port), source_port)
    if source_port is not None:
        raise FieldError(f"{head} has no source port", "only TCP and UDP do")
    return traffic


def meant(*texts: str) -> str:
    """`did you mean tcp/445?` with those of `texts` that are TRAFFIC, or "" if none is."""
    accepted = []
    for text in texts:
        with suppress(FieldError):
            accepted.append(" ".join(_parse(text).text.split()))
    return f"did you mean {' or '.join(accepted)}?" if accepted else ""


def port_of(name: str, forms: str, others: Sequence[str] = ()) -> tuple[int, int]:
    """Protocol and port of a bare service name: TCP where it is registered for TCP, else UDP.

    Raises FieldError for a name that is neither, with the nearest name of a service or of `others`, and
    with `forms`: what is allowed where the name is written.
    """
    for protocol in (TCP, UDP):
        port = services.lookup(name, protocol)
        if port is not None:
            return protocol, port
    guess = did_you_mean(name, (*services.common_names(), *others))
    if not guess and (protocols := [each for each in ("tcp", "udp") if did_you_mean(name, (each,))]):
        guess = f"did you mean {protocols[0]}/ and a port, such as {protocols[0]}/443?"
    raise FieldError(f"{shorten(name)} is not a known service", f"{guess} {forms}".strip())


def port_range_of(text: str, protocol: int, least: int = 0, *, single: bool = False) -> PortRange:
    """TCP or UDP ports: a number, a range `1024-2048` or the name of a service of that protocol.

    `least` is the lowest port that is allowed, `single` allows no range. Raises FieldError.
    """
    text = text.strip()
    allowed = f"allowed: {least} to 65535{'' if single else ', a range such as 8000-8010,'} or a service name"
    span = _PORT_RANGE.fullmatch(text)
    if span and not single:
        first, last = _port_number(span[1], least), _port_number(span[2], least)
        if first > last:
            raise FieldError(f"the port range {text} is reversed", f"write {last}-{first}")
        return PortRange(first, last)
    if _PORT.fullmatch(text):
        port = _port_number(text, least)
        return PortRange(port, port)
    if span:
        raise FieldError(f"{shorten(text)} is not one port", allowed)
    found = services.lookup(text, protocol)
    if found is not None:
        return PortRange(found, found)
    if re.fullmatch(r"[\d.,+-]+", text) or not text:
        raise FieldError(f"{shorten(text)} is not a port", allowed)
    other = next((each for each in (TCP, UDP) if services.lookup(text, each) is not None), None)
    if other is not None:
        raise FieldError(
            f"the service {text} has no {_WORDS[protocol]} port", f"it is registered for {_WORDS[other]} only"
        )
    raise FieldError(
        f"{shorten(text)} is neither a port nor a known service",
        did_you_mean(text, services.common_names(protocol)) or allowed,
    )


def _port_number(text: str, least: int = 0) -> int:
    if not least <= int(text) <= 65535:
        raise FieldError(f"port {text} is out of range", f"allowed: {least} to 65535")
    return int(text)
