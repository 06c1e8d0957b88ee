"""The inventory file: which Hyper-V hosts there are, in which groups, and how each is reached.

    defaults: {authentication: ntlm, user: 'CORP\\netadmin', ca_file: corp-ca.pem}
    groups:
      edge: {authentication: certificate, certificate: me.pem, certificate_key: me.key}
    hosts:
      hv01: {address: hv01.corp.example, groups: edge}
      hv02:
    canary: hv02

An option is taken from the host itself, else from the first of its groups that has it, else from
`defaults`. Files are named relative to the inventory. Passwords are never written here.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema

from vswitch.errors import InputError, InputErrors, Origin
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.model.files.fields import EMPTY_MAPPING, EMPTY_TABLE, Many, Name, OnOff, integer, one_of, scalar
from vswitch.model.files.file_kinds import is_kind, not_the_kind, seems_kind
from vswitch.model.files.invalid import report_invalid
from vswitch.model.files.layout_file import FileModel
from vswitch.model.files.yaml_text import Node, parse_yaml
from vswitch.model.names import find_name, is_pattern, matched_by, matching
from vswitch.model.problems import FieldError, Report, TooManyMistakes, did_you_mean, listing, shorten
from vswitch.textfiles import read_text

__all__ = ["InventoryHost", "Inventory", "InventoryFile", "host_from_word", "load_inventory"]

_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class InventoryHost:
    """One host of the inventory."""

    name: str
    connection: HostConnection
    groups: tuple[str, ...] = ()


# --- the file ------------------------------------------------------------------------------------


def _address(value: object) -> str:
    text = scalar(value, "a DNS name or IP address").strip()
    if "@" in text:
        raise FieldError("an address holds no user name or password", "write `user` beside it")
    if not _ADDRESS.fullmatch(text):
        raise FieldError(
            f"{shorten(text)} is not a DNS name or IP address",
            "such as hv01.corp.example; the port is `port`",
        )
    return text


def _variable(value: object) -> str:
    text = scalar(value, "the name of an environment variable").strip()
    if not _VARIABLE.fullmatch(text):
        # Not quoted: somebody may have written the password itself here.
        raise FieldError("this is not the name of an environment variable", "such as HV_PASSWORD")
    return text


def _no_password(_: object) -> None:
    raise FieldError(
        "passwords are not written into files",
        "set VSWITCH_HYPERV_PASSWORD, name a variable with `password_variable`, or use the keyring",
    )


def _plain(what: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = scalar(value, what).strip()
        if not text:
            raise FieldError(f"{what} is empty")
        control = next((character for character in text if unicodedata.category(character) == "Cc"), None)
        if control:
            raise FieldError(
                f"{what} holds no control character, as {control!r} here",
                r"in double quotes \n is a line break: write single quotes, as in 'CORP\netadmin'",
            )
        return text

    return read


def _text(what: str) -> tuple[PlainValidator, WithJsonSchema]:
    return (PlainValidator(_plain(what)), WithJsonSchema({"type": ["string", "number", "boolean"]}))


_VALIDATION = ("validate", "ignore")


class _Options(FileModel):
    """What can be said of a host, a group, or all hosts."""

    https: OnOff | None = Field(default=None, description="Over TLS. Default: all but Kerberos.")
    port: Annotated[int, *integer(1, 65535, "a TCP port")] | None = Field(
        default=None, description="Default: 5986 with TLS, 5985 without."
    )
    authentication: Annotated[Authentication, *one_of(Authentication, "an authentication")] | None = Field(
        default=None, description="kerberos (default), ntlm, credssp, certificate or basic."
    )
    user: Annotated[str, *_text("a user name")] | None = Field(
        default=None, description=r"DOMAIN\user, user@domain, or a local account's name."
    )
    password_variable: (
        Annotated[str, PlainValidator(_variable), WithJsonSchema({"type": "string"})] | None
    ) = Field(default=None, description="The environment variable that holds the password.")
    password: Annotated[None, PlainValidator(_no_password), WithJsonSchema({"not": {}})] = Field(
        default=None, description="Not allowed: passwords are not written into files."
    )
    certificate: Annotated[str, *_text("a file name")] | None = Field(
        default=None, description="PEM file of the client certificate."
    )
    certificate_key: Annotated[str, *_text("a file name")] | None = Field(
        default=None, description="PEM file of its private key, without passphrase."
    )
    ca_file: Annotated[str, *_text("a file name")] | None = Field(
        default=None, description="PEM file of the authorities trusted for the hosts' certificates."
    )
    server_cert_validation: Annotated[str, *one_of(_VALIDATION, "a kind of validation")] | None = Field(
        default=None, description="validate (default) or ignore, which trusts any certificate."
    )
    kerberos_delegation: OnOff | None = Field(
        default=None, description="Pass the ticket on, for a second hop."
    )
    kerberos_hostname: Annotated[str, PlainValidator(_address), WithJsonSchema({"type": "string"})] | None = (
        Field(default=None, description="Name in the host's service ticket, if it is not `address`.")
    )
    connect_timeout: Annotated[int, *integer(1, 600, "a number of seconds")] | None = Field(
        default=None, description="Seconds to wait for a connection (10)."
    )
    silence_timeout: Annotated[int, *integer(1, 900, "a number of seconds")] | None = Field(
        default=None, description="Seconds to wait for the next bytes (30; operation_timeout + 10 if longer)."
    )
    operation_timeout: Annotated[int, *integer(1, 600, "a number of seconds")] | None = Field(
        default=None, description="Seconds one WinRM request may take at the host (20)."
    )
    timeout: Annotated[int, *integer(1, 86_400, "a number of seconds")] | None = Field(
        default=None, description="Seconds a whole script may take (300)."
    )


class HostOptions(_Options):
    """One host."""

    address: Annotated[str, PlainValidator(_address), WithJsonSchema({"type": "string"})] | None = Field(
        default=None, description="DNS name or IP address, if it is not the name."
    )
    groups: Many[Name] = Field(default=(), description="Groups it belongs to.")


class InventoryFile(FileModel):
    """The whole file."""

    defaults: Annotated[_Options, *EMPTY_MAPPING] = Field(
        default=_Options(), description="Options of all hosts."
    )
    groups: Annotated[dict[Name, Annotated[_Options, *EMPTY_MAPPING]], *EMPTY_TABLE] = Field(
        default={}, description="Options of groups of hosts."
    )
    hosts: dict[Name, Annotated[HostOptions, *EMPTY_MAPPING]] = Field(description="The hosts, by name.")
    canary: Many[Name] = Field(default=(), description="Hosts or groups that go first, one by one.")


# --- the result ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inventory:
    """The hosts of an inventory file, in its order."""

    hosts: tuple[InventoryHost, ...]
    groups: tuple[str, ...] = ()
    canary: tuple[str, ...] = ()

    def select(self, words: Iterable[str] = ()) -> tuple[InventoryHost, ...]:
        """The hosts that names, groups and patterns (`hv*`) stand for, in the inventory's order.

        No words means all. Raises InputError for a word that stands for nothing, or for one thing as a name
        and for another as a pattern.
        """
        chosen: set[str] = set()
        words = list(words)
        for word in words:
            try:
                chosen |= self._meant(word)
            except FieldError as error:
                raise InputError(error.message, hint=error.hint) from None
        return tuple(host for host in self.hosts if not words or host.name in chosen)

    def _meant(self, word: str) -> set[str]:
        names = [host.name for host in self.hosts]
        group = find_name(word, self.groups)
        if group is None:
            if found := matching(word, names):
                return set(found)
            known = [*names, *self.groups]
            raise FieldError(
                f"the inventory has no host or group {shorten(word)}",
                f"{did_you_mean(word, known)} it has: {listing(known)}".strip(),
            )
        members = {host.name for host in self.hosts if group in host.groups}
        others = set(matched_by(word, names)) - members if is_pattern(word) else set()
        if others:
            raise FieldError(
                f"{shorten(word)} is a group, and a pattern that matches {listing(sorted(others), 5)} too",
                "rename the group, or name the hosts in full",
            )
        return members


def host_from_word(word: str) -> InventoryHost:
    """A host named on the command line, without an inventory: `name`, all defaults. Raises InputError."""
    try:
        address = _address(word)
    except FieldError as error:
        raise InputError(error.message, hint=error.hint) from None
    return InventoryHost(address, HostConnection(name=address, address=address))


def load_inventory(file: str, *, read: Callable[[str], str] = read_text) -> Inventory:
    """The inventory in `file`. Raises InputErrors with every mistake found, in file order."""
    report = Report()
    text = read(file).replace("\r\n", "\n").replace("\r", "\n")
    try:
        root = parse_yaml(text, file, report)
    except InputError:
        if not seems_kind(text, "an inventory"):
            raise not_the_kind(file, "an inventory") from None
        raise
    if root is None:
        raise InputError("the file is empty", where=Origin(file), hint="an inventory has at least `hosts:`")
    if not is_kind(root, "an inventory"):
        raise not_the_kind(file, "an inventory")
    inventory: Inventory | None = None
    with suppress(TooManyMistakes):
        try:
            content = InventoryFile.model_validate(root.data)
        except ValidationError as error:
            report_invalid(error, InventoryFile, root, file, report, what="an inventory")
        else:
            inventory = _resolve(content, root, file, report)
    if report or inventory is None:
        raise InputErrors(sorted(report, key=lambda error: error.where or Origin(file)))
    return inventory


def _resolve(content: InventoryFile, root: Node, file: str, report: Report) -> Inventory:
    def place(*path: object, key: bool = False) -> Origin:
        node = root.find_key(path) if key else root.find(path)
        return Origin(file, node.line, node.column)

    hosts: list[InventoryHost] = []
    seen: dict[str, str] = {}
    for name, options in content.hosts.items():
        if name.lower() in seen:
            report.add(
                place("hosts", name, key=True),
                f"the host {shorten(name)} is named twice",
                f"Windows does not tell it from {seen[name.lower()]!r}",
            )
        seen[name.lower()] = name
        if name.lower() in (group.lower() for group in content.groups):
            report.add(
                place("hosts", name, key=True),
                f"{shorten(name)} names a host and a group",
                "rename one of them",
            )
        meant = {group: find_name(group, content.groups) for group in options.groups}
        unknown = [group for group, found in meant.items() if found is None]
        for group in unknown:
            report.add(
                place("hosts", name, "groups"),
                f"unknown group {shorten(group)}",
                f"{did_you_mean(group, content.groups)} groups: {listing(content.groups)}".strip(),
            )
        if not unknown:
            groups = tuple(found for found in meant.values() if found is not None)
            layers = [options, *(content.groups[group] for group in groups), content.defaults]
            try:
                hosts.append(InventoryHost(name, _connection(name, options, layers, file), groups))
            except FieldError as error:
                report.add(place("hosts", name, key=True), error.message, error.hint)
            except InputError as error:
                report.add(place("hosts", name, key=True), error.message, error.hint)
    inventory = Inventory(tuple(hosts), tuple(content.groups), content.canary)
    for index, word in enumerate(content.canary if not report else ()):
        try:
            inventory.select([word])
        except InputError as error:
            report.add(place("canary", index), error.message, error.hint)
    return inventory


def _connection(name: str, host: HostOptions, layers: Sequence[_Options], file: str) -> HostConnection:
    folder = os.path.dirname(file)

    def first(option: str) -> Any:
        return next((value for layer in layers if (value := getattr(layer, option)) is not None), None)

    def path(option: str) -> str | None:
        named = first(option)
        return None if named is None else os.path.join(folder, os.path.expanduser(named))

    given = {
        "https": first("https"),
        "port": first("port"),
        "authentication": first("authentication"),
        "username": first("user"),
        "password_variable": first("password_variable"),
        "certificate": path("certificate"),
        "certificate_key": path("certificate_key"),
        "ca_file": path("ca_file"),
        "verify_tls": first("server_cert_validation") != "ignore",
        "kerberos_delegation": first("kerberos_delegation"),
        "kerberos_hostname": first("kerberos_hostname"),
        "connect_timeout": first("connect_timeout"),
        "silence_timeout": first("silence_timeout"),
        "operation_timeout": first("operation_timeout"),
        "timeout": first("timeout"),
    }
    return HostConnection(
        name=name,
        address=host.address or _address(name),
        **{option: value for option, value in given.items() if value is not None},
    )
