"""The policy file: what users may write, key by key, as pydantic models.

Field names are the parameters of Add-VMNetworkAdapterExtendedAcl and Add-VMNetworkAdapterAcl
(§4.1, §3.1) in snake_case. What needs groups, adapters or other fields is read by rules.py.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from vswitch.model.files.fields import (
    EMPTY_LIST,
    EMPTY_TABLE,
    FileModel,
    Many,
    Name,
    OnOff,
    integer,
    number,
    one_of,
    scalar,
)
from vswitch.model.problems import FieldError, did_you_mean, shorten
from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, Action, BasicAction

__all__ = ["ANY", "BasicRule", "ExtendedRule", "PolicyFile"]

ANY = "ANY"
_DIRECTIONS = ("Inbound", "Outbound", "Both")
_PROTOCOLS: dict[str, int | None] = {
    "tcp": TCP,
    "udp": UDP,
    "icmp": ICMPV4,
    "icmpv4": ICMPV4,
    "icmpv6": ICMPV6,
    "igmp": 2,
    "any": None,
}


def _protocol(value: Any) -> int | None:
    text = scalar(value, "a protocol").strip()
    if text.lower() in _PROTOCOLS:
        return _PROTOCOLS[text.lower()]
    if text.isascii() and text.isdigit():
        return number(text, 0, 255, "an IP protocol number")
    allowed = "allowed: TCP, UDP, ICMP, ICMPv6, IGMP, ANY or an IP protocol number"
    raise FieldError(
        f"{shorten(text)} is not a protocol", f"{did_you_mean(text, _PROTOCOLS)} {allowed}".strip()
    )


def _text(value: Any) -> str:
    text = scalar(value, "a value").strip()
    if not text:
        raise FieldError("a value is empty")
    return text


_SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})
_Text = Annotated[str, PlainValidator(_text), _SCALAR]
_Port = Annotated[
    str,
    PlainValidator(_text),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, {"type": "string"}]}),
]
_Protocol = Annotated[
    int | None,
    PlainValidator(_protocol),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 255}, {"type": "string"}]}),
]
_Direction = Annotated[str, *one_of(_DIRECTIONS, "a direction")]


class ExtendedRule(FileModel):
    """One item of `extended_acls`: stands for one or more extended port ACL entries."""

    name: Name | None = Field(
        default=None, description="Name in reports, unique; <file>:<line> if not written."
    )
    adapters: Many[_Text] = Field(description="Adapters it applies to: VM patterns, host:..., groups.")
    direction: _Direction = Field(description="From the VM's viewpoint; Both makes entries for each.")
    action: Annotated[Action, *one_of(Action, "an action")] = Field(description="Allow or Deny.")
    protocol: Many[_Protocol] = Field(
        default=(None,), description="TCP, UDP, ICMP, ICMPv6, IGMP, a number or ANY."
    )
    local_ip_address: Many[_Text] = Field(default=(ANY,), description="The VM's own addresses.")
    remote_ip_address: Many[_Text] = Field(default=(ANY,), description="The other end's addresses.")
    local_port: Many[_Port] = Field(
        default=(ANY,), description="The VM's own ports: numbers, ranges, services."
    )
    remote_port: Many[_Port] = Field(default=(ANY,), description="The other end's ports.")
    weight: Annotated[int, *integer(1, 65535, "a weight")] | None = Field(
        default=None, description="Larger is evaluated first; by file order from 60000 down if not written."
    )
    stateful: OnOff = Field(default=False, description="Let the answers of an allowed flow pass.")
    idle_session_timeout: Annotated[int, *integer(0, 65535, "an idle timeout in seconds")] | None = Field(
        default=None, description="Seconds without traffic that end a flow; 255 if stateful."
    )
    isolation_id: Annotated[int, *integer(0, 16777215, "an isolation id")] = Field(
        default=0, description="VLAN or virtual subnet the entry is limited to; 0 for all."
    )


class BasicRule(FileModel):
    """One item of `acls`: stands for one or more basic port ACL entries; one endpoint only."""

    name: Name | None = Field(
        default=None, description="Name in reports, unique; <file>:<line> if not written."
    )
    adapters: Many[_Text] = Field(description="Adapters it applies to: VM patterns, host:..., groups.")
    direction: _Direction = Field(description="From the VM's viewpoint.")
    action: Annotated[BasicAction, *one_of(BasicAction, "an action")] = Field(
        description="Allow, Deny or Meter."
    )
    local_ip_address: Many[_Text] | None = Field(default=None, description="The VM's own addresses.")
    remote_ip_address: Many[_Text] | None = Field(default=None, description="The other end's addresses.")
    local_mac_address: Many[_Text] | None = Field(default=None, description="The VM's own MAC addresses.")
    remote_mac_address: Many[_Text] | None = Field(default=None, description="The other end's MAC addresses.")


class PolicyFile(FileModel):
    """Port ACLs for the adapters of a layout."""

    groups: Annotated[dict[Name, Many[_Text]], *EMPTY_TABLE] = Field(
        default={}, description="Names for sets of adapters or addresses, for use in this file."
    )
    extended_acls: Annotated[tuple[ExtendedRule, ...], *EMPTY_LIST] = Field(
        default=(), description="Extended port ACLs, by weight."
    )
    acls: Annotated[tuple[BasicRule, ...], *EMPTY_LIST] = Field(
        default=(), description="Basic port ACLs, by longest prefix."
    )
