"""TRAFFIC: what a user asks about, as written on the command line and in `expect`.

Forms: `icmp`, `http` (an IANA service name), `tcp/445`, `udp/53`, `tcp/1024-2048`, `ip/47` (a bare
IP protocol number); TCP and UDP take an optional source port: `tcp/445:50000` (from port 50000).
`icmp` means ICMPv4 or ICMPv6, whichever family the two ends talk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vswitch.errors import InputError, Origin
from vswitch.model import service_names as services
from vswitch.model.problems import FieldError, did_you_mean, shorten
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, PortRange

__all__ = ["Traffic", "parse_traffic", "port_of", "port_range_of"]

_FORMS = "allowed: icmp, a service name such as http, tcp/445, udp/53, tcp/1024-2048, tcp/445:50000, ip/47"
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
        if turned in ("tcp", "udp") and not colon:
            raise FieldError(f"{shorten(text)} is the wrong way round", f"did you mean {turned}/{word}?")
        guess = did_you_mean(word, ("tcp", "udp", "ip", "icmp"))
        raise FieldError(f"{shorten(head)} is not a protocol of TRAFFIC", f"{guess} {_FORMS}".strip())
    elif word in ("tcp", "udp"):
        if colon:
            raise FieldError(f"{shorten(text)} names no port", f"did you mean {word}/{source}?")
        raise FieldError(f"{word} alone names no port", f"write {word}/ and a port, such as {word}/443")
    elif _PORT.fullmatch(word) or _PORT_RANGE.fullmatch(word):
        wanted = [f"{protocol}/{word}{colon}{source}" for protocol in ("tcp", "udp")]
        raise FieldError(f"{shorten(text)} names no protocol", f"did you mean {' or '.join(wanted)}?")
    else:
        protocol, port = port_of(target.strip())
        return Traffic(text, protocol, PortRange(port, port), source_port)
    if source_port is not None:
        raise FieldError(f"{head} has no source port", "only TCP and UDP do")
    return traffic


def port_of(name: str) -> tuple[int, int]:
    """Protocol and port of a bare service name: TCP where it is registered for TCP, else UDP.

    Raises FieldError for a name that is neither.
    """
    for protocol in (TCP, UDP):
        port = services.lookup(name, protocol)
        if port is not None:
            return protocol, port
    raise FieldError(f"{shorten(name)} is not a known service", f"{_nearest(name)} {_FORMS}".strip())


def _nearest(name: str) -> str:
    """The nearest service: a common one with the same first letter, any such, any common one."""
    common, first = (*services.common_names(), "icmp", "ping"), name[:1].lower()
    return (
        did_you_mean(name, [each for each in common if each[:1] == first])
        or did_you_mean(name, [each for each in services.names() if each[:1] == first])
        or did_you_mean(name, common)
    )


def port_range_of(text: str, protocol: int) -> PortRange:
    """TCP or UDP ports: a number, a range `1024-2048` or the name of a service of that protocol.

    Raises FieldError.
    """
    text = text.strip()
    if _PORT.fullmatch(text):
        port = _port_number(text)
        return PortRange(port, port)
    if span := _PORT_RANGE.fullmatch(text):
        first, last = _port_number(span[1]), _port_number(span[2])
        if first > last:
            raise FieldError(f"the port range {text} is reversed", f"write {last}-{first}")
        return PortRange(first, last)
    found = services.lookup(text, protocol)
    if found is not None:
        return PortRange(found, found)
    if re.fullmatch(r"[\d.,+-]+", text) or not text:
        raise FieldError(
            f"{shorten(text)} is not a port", "allowed: 0 to 65535, a range such as 8000-8010, or a name"
        )
    other = next((each for each in (TCP, UDP) if services.lookup(text, each) is not None), None)
    if other is not None:
        raise FieldError(
            f"the service {text} has no {_WORDS[protocol]} port", f"it is registered for {_WORDS[other]} only"
        )
    raise FieldError(
        f"{shorten(text)} is neither a port nor a known service",
        _nearest(text) or "allowed: 0 to 65535, a range such as 8000-8010, or a service name",
    )


def _port_number(text: str) -> int:
    if int(text) > 65535:
        raise FieldError(f"port {text} is out of range", "allowed: 0 to 65535")
    return int(text)
