"""Reading the files that users name: regular files only, with a limit, in the encodings Windows writes.

A FIFO, a device or a socket is refused before it is opened: opening some of them already does something.
"""

from __future__ import annotations

import codecs
import json
import os
import shlex
import stat
from typing import NoReturn

from vswitch.errors import InputError, Origin
from vswitch.json_values import Json

__all__ = ["JSON_LIMIT", "YAML_LIMIT", "read_json", "read_text"]

_MIB = 1 << 20
#: Most bytes of a YAML file and of a JSON document.
YAML_LIMIT, JSON_LIMIT = 16 * _MIB, 64 * _MIB
# Lists and objects of a JSON document at most: empty ones take thirty times the memory of their text.
_MOST_PARTS = 4_000_000

_ENDINGS = (".yaml", ".yml", ".json")  # what may have been left out of a name
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MARKS = (  # the longer ones first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | os.PathLike[str], limit: int = YAML_LIMIT) -> str:
    """The text of a regular file of at most `limit` bytes, in UTF-8 or, as PowerShell writes it, UTF-16.

    Raises InputError that names the file and quotes nothing of it: it may be no file of ours at all.
    """
    name = os.fspath(path)
    return _decoded(name, _content(name, limit))


def _decoded(name: str, content: bytearray) -> str:
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        _not_text(name, content, encoding, error)


def read_json(path: str | os.PathLike[str], what: str, *, hint: str = "") -> Json:
    """The JSON document in a file of at most JSON_LIMIT bytes; `what` it should be, such as "a saved plan".

    Raises InputError, also for what is not JSON; `hint` says where to get such a file.
    """
    try:
        return _json(path, what)
    except InputError as error:
        raise InputError(error.message, where=error.where, hint=error.hint or hint) from None


def _json(path: str | os.PathLike[str], what: str) -> Json:
    name = os.fspath(path)
    content = _content(name, JSON_LIMIT)
    where = Origin(name)
    # Counted as bytes: one emoji makes four bytes of each character of a text.
    if content.count(b"[") + content.count(b"{") > _MOST_PARTS:
        message = f"this is not {what}: it holds more than {_MOST_PARTS:,} lists and objects"
        raise InputError(message, where=where)
    text = _decoded(name, content)
    del content
    try:
        document: Json = json.loads(text, parse_constant=_no_number)
        return document
    except json.JSONDecodeError as error:
        where = Origin(where.file, error.lineno, error.colno)
        raise InputError(f"this is not {what}: it is not JSON", where=where) from None
    except RecursionError:
        raise InputError(f"this is not {what}: it is nested too deep", where=where) from None
    except ValueError:  # of `_no_number`, or a number of thousands of digits
        raise InputError(f"this is not {what}: it holds a number that is none", where=where) from None


def _no_number(_: str) -> NoReturn:
    raise ValueError


# As far as the system has them: Windows knows only the last one.
_OPENING = 0
for _flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _OPENING |= getattr(os, _flag, 0)


def _content(path: str, limit: int) -> bytearray:
    where = Origin(path)
    try:
        _check_kind(os.stat(path), where)
        # Without O_NONBLOCK, what has become a FIFO meanwhile would hold us; so would some files of /proc.
        descriptor = os.open(path, os.O_RDONLY | _OPENING)
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            _check_kind(found, where)
            if found.st_size > limit:
                _too_large(where, limit)
            content = bytearray()
            left = limit + 1
            # The size says nothing about a file that grows, or one of /proc.
            while left and (part := file.read(min(left, _MIB))):
                content += part
                left -= len(part)
    except OSError as error:
        there = [path + ending for ending in _ENDINGS if os.path.isfile(path + ending)]
        hint = f"did you mean {there[0]}?" if there and isinstance(error, FileNotFoundError) else ""
        message = f"the file cannot be read: {(error.strerror or str(error)).lower()}"
        raise InputError(message, where=where, hint=hint) from None
    except ValueError as error:
        raise InputError(f"this is not a file name: {error}", where=Origin(repr(path))) from None
    if not left:
        _too_large(where, limit)
    return content


def _check_kind(found: os.stat_result, where: Origin) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((word for is_kind, word in _KINDS if is_kind(found.st_mode)), "no regular file")
        hint = "name a file; put what comes from a pipe into one"
        raise InputError(f"this is {kind}, not a file", where=where, hint=hint)


def _too_large(where: Origin, limit: int) -> NoReturn:
    raise InputError(
        f"this file is larger than {limit // _MIB} MiB",
        where=where,
        hint="it may be another file than you meant; a policy can be split into several",
    )


def _encoding(content: bytearray) -> str:
    """The encoding by a text's byte order mark; without one UTF-16 if every other byte at its start is 0."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    even, odd = content[:64:2], content[1:64:2]
    if odd and len(content) % 2 == 0:
        if all(even) and not any(odd):
            return "utf-16-le"
        if all(odd) and not any(even):
            return "utf-16-be"
    return "utf-8"


def _not_text(path: str, content: bytearray, encoding: str, error: UnicodeDecodeError) -> NoReturn:
    where = Origin(path)
    if encoding.startswith("utf-8"):
        line = content.count(b"\n", 0, error.start) + 1
        where = Origin(path, line, error.start - content.rfind(b"\n", 0, error.start))
        fix = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(path)} > NEW"
        hint = f"save the file as UTF-8; if it is Windows-1252 (ANSI): {fix}"
        raise InputError("this is not UTF-8 text", where=where, hint=hint) from None
    shown = encoding.upper().removesuffix("-LE").removesuffix("-BE")
    hint = "the file is damaged or was cut off; save it as UTF-8"
    raise InputError(f"this begins like {shown} text and is none", where=where, hint=hint) from None
