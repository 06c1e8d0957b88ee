"""Whether an answer of a host is one to the question asked, and whether it is sealed."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import spnego.exceptions
from spnego._negotiate import NegotiateProxy
from spnego._ntlm import NTLMProxy
from spnego._ntlm_raw.messages import NegotiateFlags
from winrm.exceptions import WinRMError

from vswitch.hyperv.winrm.guard import GuardError, Unsealed

__all__ = ["Foreign", "SoapTransport", "check_answer", "check_log_on", "parse", "unseal"]

_DEPTH = 32
#: Without these a host, or somebody in between, could change what it did not write.
_NTLM_NEEDS = (
    NegotiateFlags.sign
    | NegotiateFlags.seal
    | NegotiateFlags.extended_session_security
    | NegotiateFlags.key_128
)
_HEAD = re.compile(
    rb"--Encrypted Boundary\r\n"
    rb"[ \t]*Content-Type: ?(application/HTTP-[A-Za-z]+-session-encrypted)\r\n"
    rb"[ \t]*OriginalContent:[^\r\n]{1,200}?;Length=(\d{1,9})\r\n"
    rb"--Encrypted Boundary\r\n"
    rb"[ \t]*Content-Type: ?application/octet-stream\r\n",
    re.IGNORECASE,
)
_BOUNDARY = b"--Encrypted Boundary"
_ENCODING = re.compile(r"""\ufeff?<\?xml[^>]*?encoding\s*=\s*["']([^"'>]*)""")


class Encryption(Protocol):
    """What pywinrm seals messages with, as far as it is used here."""

    protocol_string: bytes

    def _decrypt_message(self, encrypted_data: bytes, host: str | None) -> bytes: ...


class SoapTransport(Protocol):
    """What pywinrm sends messages with, as far as it is used here."""

    session: requests.Session
    auth_method: str
    endpoint: str
    encryption: Encryption | None

    def build_session(self) -> requests.Session:
        """The session, made if there is none."""

    def close_session(self) -> None:
        """Close the connections."""


class Foreign(GuardError):
    """An answer does not belong to the question asked, or is not one at all; `args[0]` says why."""


class _Builder(ET.TreeBuilder):
    """Builds no tree of endless depth."""

    depth = 0

    def start(self, tag: str, attributes: dict[str, str], /) -> ET.Element:
        self.depth += 1
        if self.depth > _DEPTH:
            raise Foreign(f"its XML is more than {_DEPTH} levels deep")
        return super().start(tag, attributes)

    def end(self, tag: str, /) -> ET.Element:
        self.depth -= 1
        return super().end(tag)


def parse(text: bytes | str) -> ET.Element:
    """The root of a SOAP message, which has no entities of its own. Raises Foreign."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        encoding = _ENCODING.match(text)
        if "<!DOCTYPE" in text or (encoding and encoding[1].lower() not in ("utf-8", "utf8")):
            raise Foreign("it is XML such as SOAP does not allow")
        root: ET.Element = ET.fromstring(text, ET.XMLParser(target=_Builder()))
    except (ET.ParseError, ValueError):
        raise Foreign("it is not XML") from None
    return root


def _texts(root: ET.Element, name: str) -> set[str]:
    """What stands in elements and attributes of that name, and in selectors for it."""
    found: set[str] = set()
    for node in root.iter():
        if node.tag.endswith(name) or node.get("Name") == name:
            found.add(_identifier(node.text))
        if name in node.attrib:
            found.add(_identifier(node.attrib[name]))
    return found


def _identifier(text: str | None) -> str:
    return (text or "").strip().lower().removeprefix("urn:").removeprefix("uuid:")


def check_answer(question: str | bytes, answer: bytes | str, *, fault: bool = False) -> None:
    """Raise Foreign unless `answer` belongs to `question`; `fault` says whether it must be a SOAP fault."""
    asked, said = parse(question), parse(answer)
    if _texts(said, "RelatesTo") != _texts(asked, "MessageID"):
        raise Foreign("RelatesTo in it is not the number of our question")
    if any(node.tag.endswith("}Fault") for node in said.iter()) is not fault:
        raise Foreign("it is a fault where a result was announced, or a result where a fault was")
    if fault:
        return
    action = next(iter(_texts(asked, "Action"))).rpartition("/")[2]
    for name, made_by in (("ShellId", "create"), ("CommandId", "command")):
        ours, theirs = _texts(asked, name), _texts(said, name)
        if (action == made_by and (len(theirs) != 1 or "" in theirs)) or (ours and theirs - ours):
            raise Foreign(f"{name} in it is not the one of our question")
    if action == "receive" and any(
        "CommandId" not in node.attrib
        for node in said.iter()
        if node.tag.endswith("Stream") or node.get("State")
    ):
        raise Foreign("it does not say of which command the output is")


def _is_strong(context: Any) -> bool:
    """Whether a log-on of pyspnego is complete, and its keys seal and sign."""
    if context is None or not context.complete:
        return False
    inner = context._context if isinstance(context, NegotiateProxy) else context
    return not isinstance(inner, NTLMProxy) or int(inner._context_attr) & _NTLM_NEEDS == _NTLM_NEEDS


def check_log_on(transport: SoapTransport) -> None:
    """Raise Unsealed unless the log-on of pywinrm's `transport` is complete, with keys that both ends proved.

    A 200 in mid-log-on leaves keys behind that whoever sent it knows as well.
    """
    auth: Any = transport.session.auth  # an object of pywinrm's or its libraries', by method
    match transport.auth_method:
        case "ntlm":
            strong = _is_strong(getattr(auth.session_security, "_context", None))
        case "credssp":
            found = auth.contexts.get(urlsplit(transport.endpoint).hostname)
            strong = found is not None and found._context.complete
            # The log-on within its TLS is what proves to whom that TLS goes.
            strong = strong and _is_strong(found._context._auth_context)
        case _:
            strong = bool(auth.auth_done)
    if transport.encryption is None or not strong:
        raise Unsealed(200, why="the log-on was cut short, or weakened")


def unseal(transport: SoapTransport, answer: requests.Response) -> bytes:
    """The message in a sealed answer, all of which must be sealed. Raises Unsealed."""
    body, encryption = answer.content, transport.encryption
    if encryption is None:
        raise Unsealed(answer.status_code, why="there are no keys to read it with")
    protocol = encryption.protocol_string
    host = urlsplit(transport.endpoint).hostname
    place, parts = 0, []
    while (head := _HEAD.match(body, place)) is not None:
        place = body.find(_BOUNDARY, head.end())
        data = body[head.end() : place]
        if place < 0 or head[1].lower() != protocol.lower() or len(data) < 4:
            break
        if not 0 < struct.unpack("<i", data[:4])[0] <= len(data) - 4:
            break
        try:
            plain = encryption._decrypt_message(data, host)
        except (spnego.exceptions.SpnegoError, WinRMError, OSError, ValueError, struct.error):
            raise Unsealed(answer.status_code, why="it was changed on its way") from None
        if len(plain) != int(head[2]):
            raise Unsealed(answer.status_code, why="its length is not the one announced")
        parts.append(plain)
    if not parts or body[place:].rstrip() != _BOUNDARY + b"--":
        raise Unsealed(answer.status_code, why="only a part of it is sealed")
    return b"".join(parts)
