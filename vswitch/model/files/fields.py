"""The scalars and small values of users' files: each read from the text that was written.

A reader takes plain data (None, str, list or dict, see yamltext.py) and returns the typed value, or
raises FieldError saying what was found and what is allowed. Beside each reader stands the JSON
Schema of what it accepts, as a YAML editor sees it: there `10` is a number and `On` may be a boolean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails

from vswitch.model.files.file_limits import Budget, LayoutBudgets
from vswitch.model.names import NAME_LIMIT
from vswitch.model.problems import MOST_LISTED, FieldError, did_you_mean, listing, shorten

__all__ = [
    "EMPTY_LIST",
    "EMPTY_MAPPING",
    "EMPTY_TABLE",
    "FileModel",
    "GuestName",
    "LabName",
    "Many",
    "Name",
    "OnOff",
    "OneOrMany",
    "any_case",
    "budgets",
    "VlanId",
    "VlanOrUntagged",
    "Vlans",
    "integer",
    "number",
    "one_of",
    "scalar",
    "spend",
    "word",
    "words_schema",
]

T = TypeVar("T")
Schema = dict[str, Any]


class FileModel(BaseModel):
    """Base of all models of files: unknown keys are mistakes, results are frozen."""

    # defer_build: the whole is built once, when a file is read, and not each part when it is imported.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown_keys(cls, value: Any) -> Any:
        """A mapping with fewer unknown keys, where it has more than anybody reads about."""
        if not isinstance(value, dict) or len(value) <= MOST_LISTED:
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [key for key in value if key not in known]
        return {key: value[key] for key in (*(known & value.keys()), *unknown[:MOST_LISTED])}


_DIGITS = re.compile(r"0|[1-9][0-9]*")


def scalar(value: Any, what: str) -> str:
    """The text of a scalar; FieldError for lists, mappings and nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        raise FieldError(f"a value is missing: {what} is expected")
    found = "a mapping" if isinstance(value, dict) else "a list"
    raise FieldError(f"found {found} where {what} is expected")


# --- numbers -------------------------------------------------------------------------------------


def number(value: Any, low: int, high: int, what: str) -> int:
    """A whole decimal number from `low` to `high`."""
    text = scalar(value, f"{what}, a whole number from {low} to {high},").strip()
    if not _DIGITS.fullmatch(text):
        raise FieldError(f"{shorten(text)} is not {what}", f"allowed: a whole number from {low} to {high}")
    if len(text) > 12 or not low <= int(text) <= high:
        raise FieldError(f"{what} {shorten(text)[1:-1]} is out of range", f"allowed: {low} to {high}")
    return int(text)


def _integer_schema(low: int, high: int) -> Schema:
    return {
        "anyOf": [
            {"type": "integer", "minimum": low, "maximum": high},
            {"type": "string", "pattern": "^[0-9]+$"},
        ]
    }


def integer(low: int, high: int, what: str) -> Any:
    """Annotations of a field that holds a whole number."""
    return (
        PlainValidator(lambda value: number(value, low, high, what)),
        WithJsonSchema(_integer_schema(low, high)),
    )


# --- words ---------------------------------------------------------------------------------------


def word(value: Any, allowed: type[StrEnum] | tuple[str, ...], what: str) -> str:
    """One of a few words, in any case, as Hyper-V spells it."""
    text = scalar(value, f"{what} ({listing(allowed)})").strip()
    for candidate in allowed:
        if candidate.lower() == text.lower():
            return candidate
    guess = did_you_mean(text, allowed)
    raise FieldError(
        f"{shorten(text)} is not {what}", f"{guess}{' ' if guess else ''}allowed: {listing(allowed)}"
    )


def any_case(text: str) -> str:
    """A regular expression for a word in any case (JSON Schema has no flag for that)."""
    return "".join(
        f"[{letter.upper()}{letter.lower()}]" if letter.isalpha() else re.escape(letter) for letter in text
    )


def words_schema(allowed: type[StrEnum] | tuple[str, ...]) -> Schema:
    """JSON Schema of `word`: the usual spelling for completion, any case for checking."""
    pattern = "|".join(any_case(item) for item in allowed)
    return {
        "anyOf": [{"enum": [str(item) for item in allowed]}, {"type": "string", "pattern": f"^({pattern})$"}]
    }


def one_of(allowed: type[StrEnum] | tuple[str, ...], what: str) -> Any:
    """Annotations of a field that holds one of a few words."""
    convert: Callable[[str], Any] = allowed if isinstance(allowed, type) else str
    return (
        PlainValidator(lambda value: convert(word(value, allowed, what))),
        WithJsonSchema(words_schema(allowed)),
    )


_TRUE, _FALSE = ("on", "true", "yes", "$true"), ("off", "false", "no", "$false")


def _on_off(value: Any) -> bool:
    text = scalar(value, "On or Off").strip()
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    hint = "allowed: On, Off, true, false"
    if text in ("0", "1"):
        hint += "; Hyper-V itself writes 0 for On in some places and for false in others"
    raise FieldError(f"{shorten(text)} is neither On nor Off", hint)


OnOff = Annotated[
    bool,
    PlainValidator(_on_off),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {"enum": ["On", "Off"]},
                {"type": "string", "pattern": f"^({'|'.join(map(any_case, _TRUE + _FALSE))})$"},
            ]
        }
    ),
]


# --- names ---------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    text = scalar(value, "a name")
    if not text.strip():
        raise FieldError("a name is empty")
    if text != text.strip():
        raise FieldError(f"the name {shorten(text)} starts or ends with a space")
    if len(text) > NAME_LIMIT:
        raise FieldError(f"the name {shorten(text, 30)} has {len(text)} characters", "allowed: up to 100")
    bad = next((character for character in text if character == "/" or not character.isprintable()), None)
    if bad:
        raise FieldError(
            f"the name {shorten(text)} holds {bad!r}", "allowed: printable characters except '/'"
        )
    return text


def _guest_name(value: Any) -> str:
    text = _name(value)
    if text.lower().startswith("host:"):
        raise FieldError(f"the name {shorten(text)} starts with 'host:'", "policies use that word for hosts")
    return text


_LAB_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def _lab_name(value: Any) -> str:
    text = scalar(value, "a name")
    if not _LAB_NAME.fullmatch(text):
        raise FieldError(
            f"{shorten(text)} cannot name a lab",
            "allowed: up to 40 lower-case letters, digits and '-', with no '-' at the ends",
        )
    return text


# A YAML editor may see a name such as `2024` as a number.
_NAME_SCHEMA: Schema = {"type": ["string", "number", "boolean"]}
Name = Annotated[str, PlainValidator(_name), WithJsonSchema(_NAME_SCHEMA)]
GuestName = Annotated[str, PlainValidator(_guest_name), WithJsonSchema(_NAME_SCHEMA)]
LabName = Annotated[
    str,
    PlainValidator(_lab_name),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{_LAB_NAME.pattern}$"}, {"type": "integer"}]}),
]


# --- VLANs ---------------------------------------------------------------------------------------

_VLAN_RANGE = re.compile(r"([0-9]+)\s*-\s*([0-9]+)")


def vlan_id(value: Any) -> int:
    """A VLAN id, 1 to 4094."""
    return number(value, 1, 4094, "a VLAN id")


def vlan_or_untagged(value: Any) -> int:
    """A VLAN id, or 0 or `untagged` for untagged frames."""
    if isinstance(value, str) and value.strip().lower() == "untagged":
        return 0
    return number(value, 0, 4094, "a VLAN id")


def budgets(info: ValidationInfo) -> LayoutBudgets:
    """What the layout that is being read may still hold; a value read by itself has its own."""
    return info.context if isinstance(info.context, LayoutBudgets) else LayoutBudgets()


def spend(budget: Budget, count: int, what: str) -> bool:
    """Whether `count` more may be made. Raises FieldError the first time they may not."""
    was_exceeded = budget.exceeded
    if budget.take(count) or was_exceeded:
        return not was_exceeded
    raise FieldError(
        f"{what} of this layout hold more than {budget.most:,} up to here",
        "each number of a range counts, each time it is written or repeated by an alias",
    )


def vlans(value: Any, budget: Budget) -> tuple[int, ...]:
    """VLAN ids, sorted: numbers, ranges `10-12`, or Hyper-V's comma lists `1-100,200`.

    They are taken from `budget` before they are made.
    """
    found: set[int] = set()
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        path = (index,) if isinstance(value, list) else ()
        try:
            for part in scalar(item, "a VLAN id or range").split(","):
                span = _VLAN_RANGE.fullmatch(part.strip())
                first, last = span.groups() if span else (part, part)
                low, high = vlan_id(first), vlan_id(last)
                if low > high:
                    raise FieldError(f"the VLAN range {part.strip()} is reversed", f"write {high}-{low}")
                if spend(budget, high - low + 1, "the VLAN lists"):
                    found.update(range(low, high + 1))
        except FieldError as error:
            raise error.under(*path) from None
    return tuple(sorted(found))


_VLAN_ITEM: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 4094},
        {"type": "string", "pattern": "^[0-9, -]+$"},
    ]
}
VLANS_SCHEMA: Schema = {"anyOf": [_VLAN_ITEM, {"type": "array", "items": _VLAN_ITEM}]}
VLAN_SCHEMA: Schema = _integer_schema(1, 4094)
VlanId = Annotated[int, PlainValidator(vlan_id), WithJsonSchema(VLAN_SCHEMA)]
VlanOrUntagged = Annotated[
    int,
    PlainValidator(vlan_or_untagged),
    WithJsonSchema({"anyOf": [*_integer_schema(0, 4094)["anyOf"], {"enum": ["untagged"]}]}),
]
Vlans = Annotated[
    tuple[int, ...],
    PlainValidator(lambda value, info: vlans(value, budgets(info).vlan_ids)),
    WithJsonSchema(VLANS_SCHEMA),
]


# --- lists ---------------------------------------------------------------------------------------


def _one_by_one(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """A list or mapping, validated until it has as many mistakes as anybody reads.

    Pydantic itself makes all of them, and a list may have a million.
    """
    if not isinstance(value, list | dict) or len(value) < 2:
        return handler(value)
    parts: Iterator[tuple[Any, Any]] = (
        ((key, {key: item}) for key, item in value.items())
        if isinstance(value, dict)
        else ((place, [item]) for place, item in enumerate(value))
    )
    read: list[Any] = []
    mistakes: list[InitErrorDetails] = []
    for place, part in parts:
        try:
            read.append(handler(part))
        except ValidationError as error:
            mistakes += [_moved(each, place) for each in error.errors(include_url=False)]
            if len(mistakes) >= MOST_LISTED:
                break
    if mistakes:
        raise ValidationError.from_exception_data("list", mistakes)
    if isinstance(value, dict):
        return {key: item for part in read for key, item in part.items()}
    return tuple(item for part in read for item in part)


def _moved(mistake: ErrorDetails, place: int | str) -> InitErrorDetails:
    """A mistake of one part, where it is in the whole."""
    return InitErrorDetails(
        type=mistake["type"],
        loc=(place, *mistake["loc"][1:]),
        input=mistake["input"],
        ctx=mistake.get("ctx", {}),
    )


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [] if value is None else [value]


class OneOrMany:
    """Marks a list that may be written as its single item, for the JSON Schema."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The list's schema beside its item's."""
        listed = handler(core_schema)
        return {"anyOf": [listed["items"], listed]}


Many = Annotated[tuple[T, ...], WrapValidator(_one_by_one), BeforeValidator(_as_list), OneOrMany()]


class Nullable:
    """Marks a list or mapping that may be left empty, for the JSON Schema."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema beside null."""
        return {"anyOf": [handler(core_schema), {"type": "null"}]}


#: Annotations of a mapping and of a list that may be left empty (`vms:` with nothing behind it).
EMPTY_MAPPING = (BeforeValidator(lambda value: {} if value is None else value), Nullable())
EMPTY_LIST = (
    WrapValidator(_one_by_one),
    BeforeValidator(lambda value: [] if value is None else value),
    Nullable(),
)
#: The same of a mapping whose keys are the user's own names.
EMPTY_TABLE = (WrapValidator(_one_by_one), *EMPTY_MAPPING)
