"""What all documents of the bridge are made of: frozen parts, read strictly, with PowerShell's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetPydanticSchema
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from vswitch.json_values import Json

__all__ = ["DocumentPart", "JsonObject", "JsonValue", "Listed", "TimeText", "WriteName"]


def _listed(value: object) -> object:
    """A list also where PowerShell made a single object of it; nothing at all is not a list."""
    if isinstance(value, Mapping):
        value = value["value"] if set(value) == {"value", "Count"} else [value]
    return tuple(value) if isinstance(value, list) else value


if TYPE_CHECKING:
    #: Plain data that is passed on as it is, and an object of such.
    JsonValue: TypeAlias = Json
    JsonObject: TypeAlias = Mapping[str, Json]
else:  # pydantic would take the alias apart, which says itself what it is made of
    JsonValue = Annotated[object, GetPydanticSchema(lambda _source, _handler: core_schema.any_schema())]
    JsonObject = Annotated[
        dict, GetPydanticSchema(lambda _source, _handler: core_schema.is_instance_schema(dict))
    ]
#: For a field that is a tuple here, and a list or a single object there.
Listed = BeforeValidator(_listed)
#: A time as the module writes it; "" where there is none.
TimeText: TypeAlias = Annotated[str, Field(pattern=r"^[0-9TZ:.+-]{0,40}$")]
#: What a step of a plan does.
WriteName: TypeAlias = Literal["addExtended", "removeExtended", "addBasic", "removeBasic"]


class DocumentPart(BaseModel):
    """Base of all parts: exact types, names as PowerShell has them, unknown fields left alone."""

    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    def to_dict(self) -> dict[str, Json]:
        """The same as plain data, under the names it came with."""
        return self.model_dump(by_alias=True, mode="json")
