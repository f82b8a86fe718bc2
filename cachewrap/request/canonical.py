"""The canonical form of values: of a function's arguments, and of the JSON that an API is sent."""

from __future__ import annotations

import datetime as dt
import hashlib
import marshal
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from cachewrap.errors import UnkeyableError
from cachewrap.request.attributes import is_model
from cachewrap.request.key import encode, endless, mend_dict, mend_scalar
from cachewrap.request.objects import ADVICE, is_known, object_form, reader_of
from cachewrap.request.states import LEAST, hexdigest
from cachewrap.request.values import (
    SCALARS,
    SCHEMAS,
    SecretError,
    is_plain,
    is_tag,
    leaf_of,
    mend_int,
    mend_str,
)

NO_NAMES: Final[frozenset[str]] = frozenset()

_EXACT: Final = SCALARS | {float, list, dict}


def canonical(value: object, *, where: str = "") -> Any:
    """The canonical form of Python values: equal for equal requests, different for different ones.

    ``1``, ``1.0``, ``True`` and ``"1"`` differ, as do lists and tuples, and objects of different
    classes with the same fields; the order of sets and dictionaries makes no difference, but for
    that of the ``properties`` of a JSON schema.

    Args:
        value: numbers, text, bytes, containers, dates, paths, URLs, addresses, patterns, enums,
            classes, dataclasses, named tuples, pydantic models, numpy arrays, and objects with a
            ``__cache_key__`` method.
        where: what the value is called in an error.

    Raises `UnkeyableError` for anything else. A value that is plain already is returned as it is.
    """
    if is_plain(value, special=SCHEMAS):
        return value
    try:
        return _dict(value, where, _LOOKS) if type(value) is dict else _form(value, where)
    except RecursionError:
        raise endless(where) from None


def canonical_json(value: object, *, where: str = "") -> Any:
    """The canonical form of JSON: ``1`` and ``1.0`` are one number, a tuple is a list.

    Pydantic models, dates and enums stand for the JSON that the OpenAI SDK sends for them, and
    what it omits (`NotGiven`, `Omit`) is left out. The order of an object's members makes no
    difference where no model reads it. Raises `UnkeyableError` for what is not JSON.
    """
    try:
        return value if _is_json(value) else _json(value, where, _LOOKS, _PLACE, strict=False)
    except RecursionError:
        raise endless(where) from None


def canonical_body(
    body: Any, keyed: Collection[str] = NO_NAMES, unkeyed: Collection[str] = NO_NAMES
) -> Any:
    """The canonical form of a request's JSON body, see `canonical_json`.

    What steers the provider's own prompt cache, or names the caller to it, is left out. The order
    in which a model reads or writes counts: of the members of a schema's ``properties``, of what a
    tool was called with, of documents.

    Args:
        body: the body.
        keyed: names, in lower case, of fields that count all the same.
        unkeyed: names, in lower case, of fields that do not.
    """
    if not isinstance(body, Mapping):
        return canonical_json(body)
    return _body(body, keyed, unkeyed, strict=False)


def plain_body(body: Mapping[str, Any], unkeyed: Collection[str] = NO_NAMES) -> Any:
    """What `canonical_body` makes of a plain body; None for any other.

    Plain is what JSON has, in Python's own types: the SDKs send it as it is. What it has of tools
    and schemas is encoded already.
    """
    try:
        return _body(body, NO_NAMES, unkeyed, strict=True)
    except (_NotPlain, UnkeyableError):
        return None


def packed(body: dict[str, Any]) -> dict[str, Any]:
    """A canonical body with its conversation encoded."""
    return {
        name: msgspec.Raw(encode(value)) if name in _MEMBERS and type(value) is list else value
        for name, value in body.items()
    }


class _NotPlain(Exception):
    """A value that is not plain, where only plain ones are taken."""


def _body(
    body: Mapping[str, Any], keyed: Collection[str], unkeyed: Collection[str], *, strict: bool
) -> Any:
    if not NEUTRAL.isdisjoint(body):
        left = NEUTRAL.difference(keyed) if keyed else NEUTRAL
        body = {name: value for name, value in body.items() if name not in left}
    if unkeyed:
        body = {name: value for name, value in body.items() if str(name).lower() not in unkeyed}
    if _DEEP.isdisjoint(body) and _is_json(body):
        return body
    try:
        return _json(body, "", _LOOKS, _BODY, strict)
    except RecursionError:
        raise endless("") from None


# -- Python values -----------------------------------------------------------------------------


# A long conversation beside one odd argument is still taken as it is. That is looked for in the
# outermost dictionaries alone: every look walks all that is below.
_LOOKS: Final = 2


# Longer bytes are hashed where they are, and not kept.
_BYTES: Final = frozenset({bytes, bytearray})
_SHORT: Final = 1024


def _digest(value: bytes | bytearray) -> str:
    # A bytearray that is kept could not grow any more.
    if type(value) is bytes and len(value) >= LEAST:
        return hexdigest(_BEGUN, value)
    return hashlib.sha256(value).hexdigest()


_BEGUN: Final = hashlib.sha256()


# The functions that call themselves have no defaults: Python 3.13.0 does not count such calls, so
# that what refers to itself would fill the memory.
def _form(value: Any, where: str) -> Any:
    kind: Any = type(value)
    if kind in SCALARS or kind is float:
        return mend_scalar(value)
    if kind is dict:
        return _dict(value, where, 0)
    if kind is list:
        return _items(value, where, 0)
    if kind is tuple:
        return {"!tuple": _items(value, where, 0)}
    if kind is set or kind is frozenset:
        items = [_form(item, f"{where}{{}}") for item in value]
        return {"!set" if kind is set else "!frozenset": sorted(items, key=encode)}
    if not is_known(kind) and (leaf := leaf_of(kind)):
        tag, dump = leaf
        if kind in _BYTES and len(value) > _SHORT:
            return {tag: [len(value), _digest(value)]}
        try:
            return {tag: dump(value)}
        except SecretError as error:
            raise UnkeyableError(f"{where or 'the value'} is a {error}, {SECRET}") from None
        except TypeError as error:
            raise UnkeyableError(f"{where or 'the value'} has {error}, {ADVICE}") from None
    if kind is deque:
        return {"!deque": [_form(list(value), where), value.maxlen]}
    if kind is MappingProxyType:
        return {"!mappingproxy": _dict(dict(value), where, 0)}
    return object_form(value, kind, where, _form)


SECRET: Final = (
    "whose secret is never hashed: leave the argument out with ignore=, or compute the key "
    "of what else there is with key="
)


def _dict(value: dict[Any, Any], where: str, looks: int) -> Any:
    if all(type(k) is str and type(mend_str(k)) is str for k in value) and not (
        len(value) == 1 and is_tag(value)
    ):
        members: dict[str, Any] = {}
        for k, v in value.items():
            path = f"{where}.{k}" if where else k
            if k in SCHEMAS and _has_schemas(v):
                pairs = [
                    [mend_str(name), _form(held, f"{path}.{name}")] for name, held in v.items()
                ]
                members[k] = {"!members": pairs}
            elif looks and is_plain(v, special=SCHEMAS):
                members[k] = v
            elif looks and type(v) is dict:
                members[k] = _dict(v, path, looks - 1)
            elif looks and type(v) is list:
                members[k] = _again(v, path, _list)
            else:
                members[k] = _form(v, path)
        return members
    pairs = [
        [_form(k, f"a key of {where or 'the value'}"), _form(v, f"{where}[{k!r}]")]
        for k, v in value.items()
    ]
    return {"!dict": sorted(pairs, key=encode)}


_SCHEMA_KINDS: Final = frozenset({dict, bool})


def _has_schemas(value: Any) -> bool:
    """Whether what stands under a schema's ``properties`` has an order."""
    return (
        type(value) is dict
        and len(value) > 1
        and all(type(name) is str for name in value)
        and all(type(held) in _SCHEMA_KINDS or is_model(type(held)) for held in value.values())
    )


def _list(value: list[Any], where: str) -> list[Any]:
    return _items(value, where, 1)


def _items(value: Collection[Any], where: str, looks: int) -> list[Any]:
    readers: dict[int, Any] = {}
    items = []
    for i, item in enumerate(value):
        kind = type(item)
        if kind not in _EXACT:
            number = id(kind)
            if number not in readers:
                readers[number] = reader_of(kind)
            read = readers[number]
            if read is not None and (model := read(item)) is not None:
                held = model["!pydantic"]
                if len(held[1]) < 2 or not SCALARS.issuperset(map(type, held[1].values())):
                    held[1] = _dict(held[1], f"{where}[{i}]", 0)
                items.append(model)
                continue
        elif looks and is_plain(item, special=SCHEMAS):
            items.append(item)
            continue
        items.append(_form(item, f"{where}[{i}]"))
    return items


# -- what was seen before ----------------------------------------------------------------------


# A program has few sets of tools, and sends them with every call. A plain value is told by its
# bytes as `marshal` writes them, which are of no other value: it takes exact types alone.
_seen: dict[tuple[Any, bytes], Any] = {}
_seen_bytes = 0
_MOST_SEEN: Final = 64
_LONGEST_SEEN: Final = 200_000
_ALL_SEEN: Final = 2_000_000


def _again(value: Any, where: str, walk: Callable[[Any, str], Any], plain: bool = False) -> Any:
    """What ``walk`` makes of a value; of one that is plain it may be what it once made.

    Args:
        value: the value.
        where: what it is called in an error.
        walk: makes its canonical form.
        plain: whether ``walk`` takes plain values alone.
    """
    global _seen_bytes
    try:
        told = walk, marshal.dumps(value, MARSHAL)
    except ValueError:
        return walk(value, where)
    found = _seen.get(told)
    if found is None:
        found = walk(value, where)
        size = len(told[1])
        if size <= _LONGEST_SEEN and (plain or is_plain(value)):
            if len(_seen) >= _MOST_SEEN or _seen_bytes + size > _ALL_SEEN:
                _seen.clear()
                _seen_bytes = 0
            _seen[told] = found
            _seen_bytes += size
    return found


MARSHAL: Final = 4
"""The version of `marshal` that writes texts as they stand in memory.

Equal values may differ in what they share, and are then walked through again.
"""


# -- JSON bodies -------------------------------------------------------------------------------


# Where a prompt is cached by the provider, for how long, and who asked, by an identifier that its
# checks for abuse go by: OpenAI's reference of chat completions and responses (`prompt_cache_key`,
# `prompt_cache_options`, `prompt_cache_retention`, `safety_identifier`); Anthropic's of messages,
# "Prompt caching" (`cache_control`, at the top and in each block); OpenAI's guide "Prompt caching"
# (`prompt_cache_breakpoint`, in each block); AWS's of Converse (`cachePoint`, a block of its own);
# Fireworks', "Prompt caching" (`prompt_cache_isolation_key`, `prompt_cache_max_len`); vLLM's of its
# server, and "Automatic Prefix Caching" (`cache_salt`, which is a secret besides); and by which
# number a gateway keeps what belongs together in its log: LiteLLM's, "Session Logs".
NEUTRAL: Final = frozenset(
    {
        "cache_control",
        "cache_salt",
        "litellm_session_id",
        "litellm_trace_id",
        "prompt_cache_isolation_key",
        "prompt_cache_key",
        "prompt_cache_max_len",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
_MARKS: Final[dict[str, frozenset[str]]] = {
    "cache_control": frozenset({"type", "ttl", "scope"}),
    "prompt_cache_breakpoint": frozenset({"mode", "ttl"}),
}
_BLOCK: Final = {"cachePoint"}

# What a model is given to read as it stands: what a tool was called with and what it gave, by
# Anthropic and Bedrock (`input`, `json`), Gemini (`args`, `response`), Cohere and Ollama
# (`arguments`), in the conversation; and Cohere's documents.
_GIVEN: Final = frozenset({"args", "arguments", "input", "json", "response"})
_READ: Final = frozenset({"documents", "tool_results"})

# Members of a body that hold schemas, mostly.
_TOOLS: Final = frozenset({"functions", "response_format", "tools"})
_DEEP: Final = _READ | _TOOLS
_EXAMPLES: Final = frozenset({"const", "default", "enum", "example", "examples"})
_SPECIAL: Final = SCHEMAS | _MARKS.keys() | _GIVEN | _BLOCK

# Where in a body a value stands.
_PLACE: Final = 0  # nowhere in particular
_BODY: Final = 1  # it is the body
_SPOKEN: Final = 2  # in the conversation
_SCHEMA: Final = 3  # below a schema's properties
_DATA: Final = 4  # in what is read as it stands

_MEMBERS: Final = {
    **dict.fromkeys(("messages", "input", "contents"), _SPOKEN),
    **dict.fromkeys(_READ, _DATA),
}


def _is_json(value: object) -> bool:
    return is_plain(value, float_is_plain=_is_fraction, special=_SPECIAL)


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and not value.is_integer()


def _json(value: Any, where: str, looks: int, place: int, strict: bool) -> Any:
    kind = type(value)
    if kind in SCALARS:
        return mend_scalar(value)
    if strict and kind not in _EXACT:
        raise _NotPlain
    if isinstance(value, Enum):
        return _json(value.value, where, looks, place, strict)
    if isinstance(value, float):
        return _number(float.__float__(value), where)
    if isinstance(value, Mapping):
        return _json_object(value, where, looks, place, strict)
    if isinstance(value, (list, tuple)):
        return _json_list(value, where, looks, place, strict)
    if isinstance(value, str):
        return mend_str(str.__str__(value))
    if isinstance(value, int):
        return mend_int(int.__int__(value))
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if is_model(kind):
        dumped = value.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return _json(dumped, where, 0, place, strict)
    raise UnkeyableError(f"{where or 'the body'} is a {kind.__qualname__}, which is not JSON")


def _json_list(value: Any, where: str, looks: int, place: int, strict: bool) -> list[Any]:
    looks = looks if place < _SCHEMA else 0
    return [
        item if looks and _is_json(item) else _json(item, f"{where}[{i}]", 0, place, strict)
        for i, item in enumerate(value)
        if place == _DATA or not (isinstance(item, Mapping) and item.keys() == _BLOCK)
    ]


def _json_object(value: Mapping[Any, Any], where: str, looks: int, place: int, strict: bool) -> Any:
    members: dict[str, Any] = {}
    deeper = looks and looks - 1
    for key, item in value.items():
        kind = type(item)
        if kind in SCALARS and type(key) is str:
            if item is None and key in _MARKS and place != _DATA:
                continue
            members[key] = item if looks else mend_scalar(item)
            continue
        if kind.__name__ in ("NotGiven", "Omit"):
            continue
        if not isinstance(key, str):
            raise UnkeyableError(f"{where or 'the body'} has the key {key!r}, which is not text")
        path = f"{where}.{key}" if where else key
        name = str.__str__(key)
        if place != _DATA and isinstance(item, Mapping):
            if name in _MARKS and item.keys() <= _MARKS[name]:
                continue
            if name in SCHEMAS:
                members[name] = _ordered(item, path, strict)
                continue
        inner = _member(name, item, place)
        holds = deeper and inner == _PLACE and (kind is list or kind is dict)
        if looks and inner < _SCHEMA and not (holds and name in _TOOLS) and _is_json(item):
            members[name] = item
        elif holds:
            members[name] = _again(item, path, _plain_member if strict else _json_member, strict)
        else:
            members[name] = _json(item, path, deeper, inner, strict)
    return _pairs(members) if place == _DATA and len(members) > 1 else mend_dict(members)


def _json_member(value: Any, where: str) -> Any:
    return _json(value, where, 1, _PLACE, strict=False)


def _plain_member(value: Any, where: str) -> Any:
    found = _json(value, where, 1, _PLACE, strict=True)
    try:
        return msgspec.Raw(encode(found))
    except (OverflowError, UnicodeEncodeError):
        return found


def _member(name: str, value: Any, place: int) -> int:
    """Where a member of an object stands that stands at this place."""
    if place == _BODY:
        return _MEMBERS.get(name, _PLACE)
    if place == _SPOKEN and name in _GIVEN and isinstance(value, Mapping):
        return _DATA
    return _DATA if place == _SCHEMA and name in _EXAMPLES else place


def _ordered(value: Mapping[Any, Any], where: str, strict: bool) -> Any:
    """An object the order of whose members counts, and none of whose names is a keyword."""
    members: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise UnkeyableError(f"{where} has the key {key!r}, which is not text")
        if type(item).__name__ not in ("NotGiven", "Omit"):
            members[str.__str__(key)] = _json(item, f"{where}.{key}", 0, _SCHEMA, strict)
    return _pairs(members) if len(members) > 1 else mend_dict(members)


def _pairs(members: dict[str, Any]) -> Any:
    return {"!members": [[mend_str(name), value] for name, value in members.items()]}


def _number(value: float, where: str) -> Any:
    if not math.isfinite(value):
        raise UnkeyableError(f"{where or 'the body'} is {value}, which is not JSON")
    return value if _is_fraction(value) or abs(value) > 2**53 else int(value)
