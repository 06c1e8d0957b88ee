"""Pydantic's findings as mistakes with file, line and column."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vswitch.errors import Origin
from vswitch.model.files.yaml_text import Node
from vswitch.model.problems import FieldError, Report, did_you_mean, listing, shorten
from vswitch.wording import visible

__all__ = ["report_invalid"]


def report_invalid(
    error: ValidationError, model: type[BaseModel], root: Node, file: str, report: Report, *, what: str
) -> None:
    """Put each mistake pydantic found in `root` (read as `model`) into `report`.

    `what` names the whole value in messages, such as "a policy".
    """
    details = error.errors(include_url=False)
    misspelt = {
        (tuple(detail["loc"])[:-1], guess)
        for detail in details
        if detail["type"] == "extra_forbidden" and (guess := _guess(detail["loc"], model))
    }
    for detail in details:
        path: tuple[int | str, ...] = tuple(detail["loc"])
        if detail["type"] == "missing" and (path[:-1], f"did you mean {path[-1]!r}?") in misspelt:
            continue
        on_key = bool(path) and path[-1] == "[key]"
        if on_key:
            path = path[:-1]
        message, hint, inner = _explain(detail, model, path, what)
        whole = (*path, *inner)
        unknown = detail["type"] == "extra_forbidden" or message.startswith("unknown ")
        node = root.find_key(whole) if on_key or unknown else root.find(whole)
        report.add(Origin(file, node.line, node.column), message, hint)


# Words of Hyper-V's cmdlets and of other firewalls for keys that have another name here, written as `_plain`
# leaves them; those of the keys that are allowed in a place are suggested there.
_MEANT: dict[str, tuple[str, ...]] = {
    "port": ("local_port", "remote_port"),
    "ports": ("local_port", "remote_port"),
    "ip": ("local_ip_address", "remote_ip_address", "addresses"),
    "ipaddress": ("local_ip_address", "remote_ip_address", "addresses"),
    "ipaddresses": ("local_ip_address", "remote_ip_address", "addresses"),
    "address": ("local_ip_address", "remote_ip_address", "addresses"),
    "macaddress": ("mac", "local_mac_address", "remote_mac_address"),
    "staticmacaddress": ("mac",),
    "vm": ("adapters", "vms"),
    "vmname": ("adapters",),
    "vmnetworkadaptername": ("adapters", "name"),
    "managementos": ("adapters", "management_os"),
    "source": ("from",),
    "src": ("from",),
    "destination": ("to",),
    "dst": ("to",),
    "switchname": ("switch",),
    "switchtype": ("type",),
    "vlanid": ("vlan",),
    "accessvlanid": ("vlan",),
}


def _guess(path: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """The known key that an unknown one means, as Hyper-V or others write it, begun, or the nearest."""
    holder = _model_at(model, path[:-1])
    if holder is None:
        return ""
    keys, word = _keys(holder), _plain(str(path[-1]))
    found = (
        [key for key in keys if _plain(key) == word]
        or [key for key in _MEANT.get(word, ()) if key in keys]
        or [key for key in keys if len(word) > 2 and _plain(key).startswith(word)]
    )
    return f"did you mean {' or '.join(map(repr, found))}?" if found else did_you_mean(str(path[-1]), keys)


def _plain(key: str) -> str:
    """A key without case and separators: `LocalPort`, `local-port` and `local_port` are one."""
    return key.lower().replace("_", "").replace("-", "")


def _explain(
    detail: ErrorDetails, model: type[BaseModel], path: tuple[int | str, ...], what: str
) -> tuple[str, str, tuple[object, ...]]:
    """Message, hint and path inside the value for one of pydantic's errors."""
    kind = detail["type"]
    name = visible(next((step for step in reversed(path) if isinstance(step, str)), what))
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return cause.message, cause.hint, cause.path
    match kind:
        case "extra_forbidden":
            holder = _model_at(model, path[:-1])
            allowed = _keys(holder) if holder else []
            guess = _guess(path, model)
            hint = f"{guess} " if guess else ""
            return f"unknown key {shorten(path[-1])}", f"{hint}allowed here: {listing(allowed, 30)}", ()
        case "missing":
            return f"the key '{name}' is missing here", "", ()
        case "model_type" | "model_attributes_type" | "dict_type":
            holder = _model_at(model, path)
            keys = f" with the keys {listing(_keys(holder), 30)}" if holder else ""
            return f"{name} must be a mapping{keys}, found {_found(detail['input'])}", "", ()
        case "list_type" | "tuple_type":
            return f"{name} must be a list, found {_found(detail['input'])}", "start each item with '- '", ()
        case _:
            return f"{name}: {detail['msg']}, found {_found(detail['input'])}", "", ()


def _found(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return shorten(value)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that reads the value at `path` below `model`, if a model does."""
    current: Any = model
    for step in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            field = fields.get(str(step))
            current = field.annotation if field else None
        else:
            arguments = [item for item in get_args(current) if item is not Ellipsis]
            current = arguments[-1] if arguments else None
        current = _bare(current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _bare(annotation: Any) -> Any:
    """An annotation without `Annotated` and `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = next(item for item in get_args(annotation) if item is not type(None))
        else:
            return annotation
