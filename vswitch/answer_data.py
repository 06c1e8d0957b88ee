"""Answers that are JSON: frozen classes, each made and read in one place.

A subclass is a frozen dataclass. Its fields are the keys of the JSON object (a name that is a keyword of
Python has an underscore behind it, `from_`), and their types say what is read back: text, numbers, enums,
other answers, tuples and mappings of such, each of them or None. A class that stands at the top of what
users get has a `SCHEMA`, which is raised when a key changes its meaning or goes; new keys do not raise it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from vswitch.json_values import Json
from vswitch.wire import NotUnderstood

__all__ = ["AnswerData", "Reply", "as_json", "each_in", "named_in"]

#: What can be made JSON by `as_json`.
Reply: TypeAlias = "AnswerData | str | int | float | bool | Sequence[Reply] | Mapping[str, Reply] | None"

_HINT = "The lab may run another version of vswitch: take it down and start it again."


class _Field(NamedTuple):
    """A field: its name, its key in JSON, what reads it, and whether it may be left out."""

    name: str
    key: str
    read: Callable[[Any], Any]
    optional: bool


class AnswerData:
    """The base of all answers."""

    __slots__ = ()
    SCHEMA: ClassVar[int | None] = None

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The answer that `to_dict` made the data of. Keys it does not know are passed over.

        Raises NotUnderstood for what is not such data, or of another schema.
        """
        try:
            if cls.SCHEMA is not None and data["schema"] != cls.SCHEMA:
                raise ValueError(f"schema {data['schema']}, not {cls.SCHEMA}")
            return cls._inner_from(data)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise _not_understood(cls.__name__, error) from None

    @classmethod
    def _inner_from(cls, data: Any) -> Self:
        """The answer as a part of another one."""
        return cls(
            **{
                field.name: field.read(data[field.key])
                for field in _fields(cls)
                if not field.optional or field.key in data
            }
        )

    @classmethod
    def each_of(cls, data: Json) -> tuple[Self, ...]:
        """The answers in a list. Raises NotUnderstood as `from_dict`."""
        return tuple(cls.from_dict(each) for each in each_in(data))

    def to_dict(self) -> dict[str, Any]:
        """As plain data, with `schema` where the class has one."""
        schema = {} if self.SCHEMA is None else {"schema": self.SCHEMA}
        return schema | self._as_inner()

    def _as_inner(self) -> dict[str, Any]:
        """As plain data that is a part of another answer."""
        return {field.key: _inner(getattr(self, field.name)) for field in _fields(type(self))}


def each_in(data: Json) -> Sequence[Json]:
    """What a list of JSON holds. Raises NotUnderstood for what is not a list."""
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise _not_understood("a list", TypeError(repr(data)))
    return data


def named_in(data: Json) -> Mapping[str, Json]:
    """What an object of JSON holds, by name. Raises NotUnderstood for what is not an object."""
    if not isinstance(data, Mapping):
        raise _not_understood("an object", TypeError(repr(data)))
    return data


def _not_understood(what: str, error: Exception) -> NotUnderstood:
    return NotUnderstood(f"an answer cannot be understood ({what}): {error!r}", hint=_HINT)


def as_json(value: Reply) -> Any:
    """Answers, and containers of them, as plain data."""
    return _as_plain(value, lambda answer: answer.to_dict())


def _inner(value: Reply) -> Any:
    return _as_plain(value, lambda answer: answer._as_inner())


def _as_plain(value: Reply, answer: Callable[[AnswerData], dict[str, Any]]) -> Any:
    if isinstance(value, AnswerData):
        return answer(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {key: _as_plain(each, answer) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [_as_plain(each, answer) for each in value]
    raise TypeError(f"{type(value).__name__} is not JSON")


def _fields(kind: type) -> tuple[_Field, ...]:
    """The fields of a class of answers."""
    return _worked_out(kind)


@cache
def _worked_out(kind: type) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(
        _Field(each.name, each.name.rstrip("_"), _reader(hints[each.name]), each.default is not MISSING)
        for each in fields(kind)
    )


def _reader(hint: Any) -> Callable[[Any], Any]:
    """What makes a value of this type of plain data. Its errors are of `from_dict`'s kinds."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _one_of(args)
    if origin is tuple:
        each = _reader(args[0])
        return lambda data: tuple([each(item) for item in _checked(data, list | tuple)])
    if origin is Literal:
        return lambda data: args[args.index(data)]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value = _reader(args[1])
        return lambda data: {key: value(item) for key, item in data.items()}
    if isinstance(hint, type) and issubclass(hint, AnswerData):
        return hint._inner_from
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if hint is float:
        return lambda data: _checked(data, float | int)
    if hint in (str, int, bool):
        return lambda data: _checked(data, hint)
    raise TypeError(f"no answer has a field of the type {hint}")


def _one_of(hints: Sequence[Any]) -> Callable[[Any], Any]:
    """The reader for one of several types: one and None, or answers that differ in their keys."""
    others = [hint for hint in hints if hint is not NoneType]
    if len(others) == 1:
        only = _reader(others[0])
        return lambda data: None if data is None else only(data)

    def read(data: Any) -> Any:
        if data is None and NoneType in hints:
            return None
        kinds = (kind for kind in others if all(key in data for _, key, _, _ in _fields(kind)))
        return next(kinds)._inner_from(data)

    return read


def _checked(data: Any, kind: Any) -> Any:
    if not isinstance(data, kind):
        raise TypeError(f"{data!r} is not {kind}")
    return data
