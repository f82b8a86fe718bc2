"""The canonical form of values: of a function's arguments, and of the JSON that an API is sent."""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from cachewrap.errors import UnkeyableError
from cachewrap.request.key import encode, endless, mend_dict, mend_scalar
from cachewrap.request.objects import ADVICE, is_model, object_form
from cachewrap.request.values import (
    SCALARS,
    SecretError,
    is_plain,
    is_tag,
    leaf_of,
    mend_int,
    mend_str,
)


def canonical(value: object, *, where: str = "") -> Any:
    """The canonical form of Python values: equal for equal requests, different for different ones.

    ``1``, ``1.0``, ``True`` and ``"1"`` differ, as do lists and tuples, and objects of different
    classes with the same fields; the order of sets and dictionaries makes no difference.

    Args:
        value: numbers, text, bytes, containers, dates, paths, enums, classes, dataclasses, named
            tuples, pydantic models, numpy arrays, and objects with a ``__cache_key__`` method.
        where: what the value is called in an error.

    Raises `UnkeyableError` for anything else. A value that is plain already is returned as it is.
    """
    if is_plain(value):
        return value
    try:
        return _dict(value, where, _LOOKS) if type(value) is dict else _form(value, where)
    except RecursionError:
        raise endless(where) from None


def canonical_json(value: object, *, where: str = "") -> Any:
    """The canonical form of a JSON body: ``1`` and ``1.0`` are one number, a tuple is a list.

    Pydantic models, dates and enums stand for the JSON that the OpenAI SDK sends for them, and
    what it omits (`NotGiven`, `Omit`) is left out. Raises `UnkeyableError` for what is not JSON.
    """
    try:
        return value if _is_json(value) else _json(value, where, _LOOKS)
    except RecursionError:
        raise endless(where) from None


def plain_json(value: object) -> Any:
    """What `canonical_json` makes of a plain value; None for any other.

    Plain is what JSON has, in Python's own types: the SDKs send it as it is.
    """
    if _is_json(value):
        return value
    return canonical_json(value) if is_plain(value) else None


# -- Python values -----------------------------------------------------------------------------


# A long conversation beside one odd argument is still taken as it is. That is looked for in the
# outermost dictionaries alone: every look walks all that is below.
_LOOKS: Final = 2


# The functions that call themselves have no defaults: Python 3.13.0 does not count such calls, so
# that what refers to itself would fill the memory.
def _form(value: Any, where: str) -> Any:
    kind: Any = type(value)
    if kind in SCALARS or kind is float:
        return mend_scalar(value)
    if kind is dict:
        return _dict(value, where, 0)
    if kind is list:
        return [_form(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"!tuple": [_form(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is set or kind is frozenset:
        items = [_form(item, f"{where}{{}}") for item in value]
        return {"!set" if kind is set else "!frozenset": sorted(items, key=encode)}
    if leaf := leaf_of(kind):
        tag, dump = leaf
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
            if looks and is_plain(v):
                members[k] = v
            elif looks and type(v) is dict:
                members[k] = _dict(v, path, looks - 1)
            else:
                members[k] = _form(v, path)
        return members
    pairs = [
        [_form(k, f"a key of {where or 'the value'}"), _form(v, f"{where}[{k!r}]")]
        for k, v in value.items()
    ]
    return {"!dict": sorted(pairs, key=encode)}


# -- JSON bodies -------------------------------------------------------------------------------


def _is_json(value: object) -> bool:
    return is_plain(value, float_is_plain=_is_fraction)


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and not value.is_integer()


def _json(value: Any, where: str, looks: int) -> Any:
    kind = type(value)
    if kind in SCALARS:
        return mend_scalar(value)
    if isinstance(value, Enum):
        return _json(value.value, where, looks)
    if isinstance(value, float):
        return _number(float.__float__(value), where)
    if isinstance(value, Mapping):
        return _json_object(value, where, looks)
    if isinstance(value, (list, tuple)):
        return [_json(item, f"{where}[{i}]", 0) for i, item in enumerate(value)]
    if isinstance(value, str):
        return mend_str(str.__str__(value))
    if isinstance(value, int):
        return mend_int(int.__int__(value))
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if is_model(kind):
        return _json(value.model_dump(mode="json", by_alias=True, exclude_unset=True), where, 0)
    raise UnkeyableError(f"{where or 'the body'} is a {kind.__qualname__}, which is not JSON")


def _json_object(value: Mapping[Any, Any], where: str, looks: int) -> Any:
    members: dict[str, Any] = {}
    deeper = looks and looks - 1
    for key, item in value.items():
        if type(item).__name__ in ("NotGiven", "Omit"):
            continue
        if not isinstance(key, str):
            raise UnkeyableError(f"{where or 'the body'} has the key {key!r}, which is not text")
        path = f"{where}.{key}" if where else key
        members[str.__str__(key)] = item if looks and _is_json(item) else _json(item, path, deeper)
    return mend_dict(members)


def _number(value: float, where: str) -> Any:
    if not math.isfinite(value):
        raise UnkeyableError(f"{where or 'the body'} is {value}, which is not JSON")
    return value if _is_fraction(value) or abs(value) > 2**53 else int(value)
