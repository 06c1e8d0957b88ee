"""What a message suggests or allows is accepted at the place it is said for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from vswitch.errors import InputError
from vswitch.model import parse_traffic
from vswitch.model.files.layout_file import (
    AdapterEntry,
    ClientEntry,
    ExpectationEntry,
    HostEntry,
    LayoutFile,
    NetworkEntry,
    SwitchEntry,
)
from vswitch.model.files.nat_file import NatEntry, StaticMappingEntry
from vswitch.model.files.policy_file import BasicRule, ExtendedRule
from vswitch.model.problems import FieldError
from vswitch.model.service_names import common_names
from vswitch.model.traffic import port_range_of
from vswitch.model.types import TCP, UDP

# What is said of a kind of values, and stands for none.
PROSE = re.compile(
    r"a service name|a range|a whole number( from \d+)?|up to .*|printable .*|"
    r"Hyper-V itself writes .*|one of .*|.*\bseconds|from port \d+|(tcp|udp)/ and a port|"
    r"digits and .*|with no .*|an IP protocol number|"
)
RECOMMENDING = re.compile(
    r"(?:did you mean|allowed:|write(?: it as)?(?: [a-z ]+:)?|such as|as in) (.*?)(?:\?|$| allowed:)"
)
EXAMPLE = re.compile(r"\{[^}]*\}+|[^,;]+")


@dataclass(frozen=True)
class Key:
    """The place of a value in a file. Values are YAML."""

    model: type[BaseModel]
    name: str

    def __call__(self, text: str) -> None:
        try:
            value = _data(text)
            self.model.model_validate({self.name: [value] if self.name == "services" else value})
        except ValidationError as error:
            for detail in error.errors():
                if detail["loc"][0] == self.name:
                    raise detail.get("ctx", {}).get("error") or FieldError(detail["msg"]) from None


def _data(text: str) -> object:
    """A mapping written as YAML as data, with its scalars as text; other text as it is."""
    return yaml.load(text, yaml.BaseLoader) if text.startswith("{") else text


Read = Callable[[str], object]
SERVICES: dict[str, Read] = {
    "TRAFFIC": parse_traffic,
    "services": Key(ClientEntry, "services"),
    "a TCP port": lambda text: port_range_of(text, TCP),
    "a UDP port": lambda text: port_range_of(text, UDP),
    "external_port": Key(StaticMappingEntry, "external_port"),
}
KEYS: dict[str, Read] = {
    f"{model.__name__}.{name}": Key(model, name)
    for model in (
        LayoutFile, NetworkEntry, ClientEntry, SwitchEntry, HostEntry, AdapterEntry, ExpectationEntry,
        NatEntry, StaticMappingEntry, BasicRule, ExtendedRule,
    )
    for name in model.model_fields
}  # fmt: skip


def recommended(hint: str) -> Iterator[str]:
    """The values that a hint recommends, taken out of its words."""
    for found in RECOMMENDING.finditer(hint):
        for part in EXAMPLE.findall(re.sub(r"one of .*such as ", "", found[1])):
            if PROSE.fullmatch(part.strip()):
                continue
            for word in re.split(r" or | to | such as |^such as |^or ", part.strip()):
                if not PROSE.fullmatch(word.strip()):
                    yield word.strip().strip("'")


def accepts(read: Read, text: str, value: str) -> str:
    """Why neither the value nor the text with its ports replaced by the value is accepted; "" if one is."""
    refusal = ""
    beside = text.partition("/")[0].strip("{") + f"/{value}"
    key = re.sub(r"^\{\w+", f"{{{value}", text)
    for each in (value, beside, key, re.sub(r"\d+-\d+|(?<=:)\d+$|(?<=: )[^}]*(?=\}$)", value, text)):
        try:
            read(each)
        except (InputError, FieldError) as error:
            refusal = str(error)
        else:
            return ""
    return refusal


def check(read: Read, text: str) -> None:
    try:
        read(text)
    except (InputError, FieldError) as error:
        for value in recommended(error.hint):
            refusal = accepts(read, text, value)
            if refusal:
                pytest.fail(f"{text!r}: {error.message}; {error.hint}: but {value!r} is refused: {refusal}")


WRONG = [
    "", "icmp", "ip/47", "ip/6", "ip/999", "tcp", "udp", "tcp:80", "tcp:foo", "tcp:99999", "80/tcp",
    "foo/tcp", "99999/tcp", "80", "0", "99999", "8000-8010", "9-3", "tcp/9-3", "9-0", "udp/0", "tcp/0",
    "tcp/", "tcp/1-2-3", "tcp/80:99999", "tpc/80", "tpc/foo", "upd/winrm", "smbb", "pign", "icpm", "wirnm",
    "udp/wirnm", "port", "port:80", "port:foo", "nonsense", "http:80", "tcp/445:50000", "{tpc: 80}",
    "{tcp: 0}", "{tcp: 99999}", "{udp: wirnm}", "{}", "icmp:5", "dhpc", "{tcp: 9-3}",
]  # fmt: skip


@pytest.mark.parametrize("place", SERVICES)
def test_what_is_recommended_for_traffic_services_and_ports_is_accepted_there(place: str) -> None:
    for text in WRONG:
        check(SERVICES[place], text)


PIECES = st.sampled_from(
    [*common_names(), "tcp", "udp", "ip", "icmp", "/", ":", "-", "0", "80", "70000", "x"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=5).map("".join), st.integers(0, 20), st.sampled_from([*SERVICES]))
def test_whatever_is_typed(text: str, lost: int, place: str) -> None:
    check(SERVICES[place], text)
    check(SERVICES[place], text[:lost] + text[lost + 1 :])


@pytest.mark.parametrize("key", KEYS)
def test_what_is_recommended_for_a_key_is_accepted_there(key: str) -> None:
    for text in ("nonsense", "Alow", "Externl", "Inbuond", "0", "99999999999", "10.0.0.1/33", "00:15", "9-3"):
        check(KEYS[key], text)


# ------------------------------------------------------------------ names that people use


def hint_of(read: Read, text: str) -> str:
    with pytest.raises((InputError, FieldError)) as caught:
        read(text)
    return caught.value.hint  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rpd", "did you mean 'rdp'?"),
        ("port:80", "did you mean tcp/80 or udp/80?"),
        ("tcpp", "did you mean tcp/ and a port, such as tcp/443?"),
        ("upd", "did you mean udp/ and a port, such as udp/443?"),
        ("smbb", "did you mean 'smb'?"),
        ("kerberso", "did you mean 'kerberos'?"),
        ("mssq", "did you mean 'mssql'?"),
    ],
)
def test_a_slip_of_the_finger(text: str, meant: str) -> None:
    assert hint_of(parse_traffic, text).startswith(meant)


@pytest.mark.parametrize(
    "text", ["port", "share", "file", "nothing", "quit", "iis", "db", "web", "server", "host", "test", "ok"]
)
def test_no_word_is_taken_for_a_service_that_nobody_knows(text: str) -> None:
    for place in ("TRAFFIC", "services"):
        assert "did you mean" not in hint_of(SERVICES[place], text)
    with suppress(FieldError):
        pytest.fail(f"{port_range_of(text, TCP)}")


def test_suggestions_are_names_that_people_use() -> None:
    assert set(common_names()).isdisjoint(
        {"psrt", "rrp", "snare", "rfile", "novation", "audit", "tpip", "urd", "dbm"}
    )


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("icmp", "only TCP and UDP have ports"),
        ("ip/47", "only TCP and UDP have ports"),
        ("tcp:80", "did you mean tcp/80?"),
        ("80", "did you mean tcp/80 or udp/80?"),
        (
            "smbb",
            "did you mean 'smb'? allowed: a service name such as http, tcp/8080, udp/dns, or",
        ),
    ],
)
def test_what_is_said_of_a_service(text: str, allowed: str) -> None:
    with pytest.raises(FieldError) as caught:
        SERVICES["services"](text)
    assert allowed in f"{caught.value.message} {caught.value.hint}"
    assert "icmp" not in caught.value.hint
