"""The canonical form of a request, and its key: the same in every process, on every Python."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import math
import os
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap import plugins
from cachewrap.errors import UnkeyableError
from cachewrap.request.values import (
    LEAVES,
    SCALARS,
    array_of,
    dump_enum,
    is_plain,
    is_tag,
    key_name,
    mend_float,
    mend_int,
    mend_str,
    model_base,
    state_of,
)

_FORMAT: Final = b"cachewrap:1:"
_encoder = msgspec.msgpack.Encoder(order="deterministic")

# What a subclass of a builtin type holds as one, past every method that it has redefined.
_BUILTINS: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    int: int.__int__,
    float: float.__float__,
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


def salted(*salt: str) -> bytes:
    """What stands in front of a request when it is hashed: the format's version and the salt."""
    return _FORMAT + _encoder.encode(list(salt))


def key_of(prefix: bytes, request: bytes) -> str:
    """The key of an encoded request: SHA-256 in 64 hexadecimal characters.

    Args:
        prefix: what `salted` gave.
        request: what `encode` gave.
    """
    return hashlib.sha256(prefix + request).hexdigest()


def sample_key(key: str, sample: int) -> str:
    """The key of one sample of a request; sample 0 is the request itself."""
    return key_of(salted("sample", str(sample)), key.encode()) if sample else key


def inside_key(key: str, salt: str) -> str:
    """The key of a request that is made inside a sampled call, whose own key is ``salt``."""
    return key_of(salted("inside", salt), key.encode())


def refresh_name(key: str) -> str:
    """Under what name the calls that refresh a key find each other, apart from all others."""
    return key_of(salted("refresh"), key.encode())


def encode(request: Any) -> bytes:
    """A canonical request as bytes: MessagePack with sorted keys and smallest forms.

    Raises `UnkeyableError` where it is nested too deeply.
    """
    try:
        try:
            return _encoder.encode(request)
        except (OverflowError, UnicodeEncodeError):
            return _encoder.encode(_mend(request))
    except RecursionError:
        raise _endless("") from None


def hashed(prefix: bytes, request: Any) -> tuple[str, bytearray]:
    """The key of a canonical request, and what was hashed: the prefix and the encoded request.

    It is `key_of` of what `encode` gives, without a copy. Raises `UnkeyableError` as that does.
    """
    whole = bytearray(prefix)
    try:
        _encoder.encode_into(request, whole, len(prefix))
    except (OverflowError, UnicodeEncodeError, RecursionError):
        whole = bytearray(prefix + encode(request))
    return hashlib.sha256(whole).hexdigest(), whole


Keyer: TypeAlias = Callable[[Any], tuple[str, bytearray] | None]
"""Takes a plain value; gives the key of the request that holds it, and the bytes that were hashed.

They are the request, encoded, behind the prefix. None for a value that only `encode` can tell is
not plain.
"""


def make_keyer(prefix: bytes, shared: dict[str, Any], name: str) -> Keyer:
    """What gives the keys of requests that differ in one member: those of `key_of` and `encode`.

    What the requests have in common is encoded once, and nothing is copied to be hashed.

    Args:
        prefix: what `salted` gave.
        shared: the other members, in canonical form.
        name: the name of the member that differs.
    """
    mark = os.urandom(16)
    start, found, end = encode({**shared, name: mark}).partition(_encoder.encode(mark))
    assert found
    start = prefix + start
    begins = len(start)
    encode_into, sha256 = _encoder.encode_into, hashlib.sha256

    def keyer(value: Any) -> tuple[str, bytearray] | None:
        hashed = bytearray(start)
        try:
            encode_into(value, hashed, begins)
        except (OverflowError, UnicodeEncodeError, RecursionError):
            return None
        hashed += end
        return sha256(hashed).hexdigest(), hashed

    return keyer


def decode_request(request: bytes) -> Any:
    """The canonical request that `encode` gave as bytes. Raises `msgspec.DecodeError`."""
    return msgspec.msgpack.decode(request)


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
        return _dict(value, where, _LOOKS) if type(value) is dict else _canonical(value, where)
    except RecursionError:
        raise _endless(where) from None


def canonical_json(value: object, *, where: str = "") -> Any:
    """The canonical form of a JSON body: ``1`` and ``1.0`` are one number, a tuple is a list.

    Pydantic models, dates and enums stand for the JSON that the OpenAI SDK sends for them, and
    what it omits (`NotGiven`, `Omit`) is left out. Raises `UnkeyableError` for what is not JSON.
    """
    try:
        return value if _is_json(value) else _json(value, where, _LOOKS)
    except RecursionError:
        raise _endless(where) from None


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
def _canonical(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in SCALARS or kind is float:
        return _scalar(value)
    if kind is dict:
        return _dict(value, where, 0)
    if kind is list:
        return [_canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"!tuple": [_canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if leaf := LEAVES.get(kind):
        tag, dump = leaf
        try:
            return {tag: dump(value)}
        except TypeError as error:
            raise UnkeyableError(f"{where or 'the value'} has {error}, {_ADVICE}") from None
    if kind is set or kind is frozenset:
        items = [_canonical(item, f"{where}{{}}") for item in value]
        return {"!set" if kind is set else "!frozenset": sorted(items, key=encode)}
    return _object(value, kind, where)


def _scalar(value: Any) -> Any:
    if type(value) is str:
        return mend_str(value)
    if type(value) is int:
        return mend_int(value)
    return mend_float(value) if type(value) is float else value


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
                members[k] = _canonical(v, path)
        return members
    pairs = [
        [_canonical(k, f"a key of {where or 'the value'}"), _canonical(v, f"{where}[{k!r}]")]
        for k, v in value.items()
    ]
    return {"!dict": sorted(pairs, key=encode)}


def _object(value: Any, kind: type, where: str) -> Any:
    if hasattr(kind, "__cache_key__"):
        return {"!object": [key_name(kind), canonical(value.__cache_key__(), where=where)]}
    if isinstance(value, type):
        return {"!type": [key_name(value), _schema(value)]}
    if _is_model(kind):
        state = value.__dict__
        fields = {n: state[n] for n in kind.model_fields if n in state}  # type: ignore[attr-defined]
        fields.update(value.__pydantic_extra__ or {})
        return {"!pydantic": [key_name(kind), _dict(fields, where, 0)]}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        items = [_canonical(v, f"{where}[{i}]") for i, v in enumerate(tuple.__iter__(value))]
        return {"!namedtuple": [key_name(kind), items, _dict(state_of(value), where, 0)]}
    if kind is SimpleNamespace:
        return {"!namespace": _dict(vars(value), where, 0)}
    if kind is OrderedDict:
        ordered: Any = value
        pairs = ordered.items()
        return {"!ordered": [[_canonical(k, where), _canonical(v, where)] for k, v in pairs]}
    try:
        if isinstance(value, Enum):
            return {"!enum": [key_name(kind), dump_enum(value)]}
        array = array_of(value)
    except TypeError as error:
        raise UnkeyableError(f"{where or 'the value'} is {error}, {_ADVICE}") from None
    if array:
        dtype, shape, data = array
        return {"!array": [kind.__name__, dtype, shape, hashlib.sha256(data).hexdigest()]}
    for base, held in _BUILTINS.items():
        if isinstance(value, base):
            return _subclass(value, kind, held(value), where)
    if dataclasses.is_dataclass(kind):
        return {"!dataclass": [key_name(kind), _dict(_fields(value), where, 0)]}
    return _by_plugin(value, kind, where)


def _by_plugin(value: Any, kind: type, where: str) -> Any:
    try:
        found = plugins.codec_of(kind)
    except plugins.PluginError as error:
        raise UnkeyableError(f"{where or 'the value'} is a {kind.__qualname__}: {error}") from error
    if found is not None:
        name, codec = found
        try:
            plain = getattr(codec, "cache_key", codec.to_plain)(value)
        except Exception as error:
            raise UnkeyableError(
                f"{where or 'the value'}: {plugins.describe(name)} failed: {error!r}"
            ) from error
        return {"!object": [key_name(kind), canonical(plain, where=where)]}
    raise UnkeyableError(f"{where or 'the value'} is a {kind.__qualname__}, {_ADVICE}")


def _fields(value: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _subclass(value: Any, kind: type, held: object, where: str) -> Any:
    state = state_of(value)
    if dataclasses.is_dataclass(kind):
        state.update(_fields(value))
    if isinstance(value, defaultdict):
        state["default_factory"] = value.default_factory
    return {"!subclass": [key_name(kind), _canonical(held, where), _dict(state, where, 0)]}


def _is_model(kind: type) -> bool:
    base = model_base()
    return base is not None and issubclass(kind, base)


@functools.lru_cache(maxsize=1024)
def _schema(cls: type) -> Any:
    """What a pydantic model asks for: two of one name, or one that was edited, are different."""
    if not _is_model(cls) or cls is model_base():
        return None
    errors = sys.modules["pydantic.errors"]
    try:
        return _canonical(cls.model_json_schema(), "")  # type: ignore[attr-defined]
    except errors.PydanticUserError:  # it has none
        return None


_ADVICE: Final = (
    "which has no canonical form: leave the argument out with ignore=, compute the key with key=, "
    "or give the class a __cache_key__ method"
)


def _endless(where: str) -> UnkeyableError:
    return UnkeyableError(f"{where or 'the request'} refers to itself or is nested too deeply")


# -- JSON bodies -------------------------------------------------------------------------------


def _is_json(value: object) -> bool:
    return is_plain(value, float_is_plain=_is_fraction)


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and not value.is_integer()


def _json(value: Any, where: str, looks: int) -> Any:
    kind = type(value)
    if kind in SCALARS:
        return _scalar(value)
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
    if _is_model(kind):
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
    return _mend_dict(members)


def _number(value: float, where: str) -> Any:
    if not math.isfinite(value):
        raise UnkeyableError(f"{where or 'the body'} is {value}, which is not JSON")
    return value if _is_fraction(value) or abs(value) > 2**53 else int(value)


def _mend_dict(members: dict[str, Any]) -> Any:
    if (len(members) == 1 and is_tag(members)) or any(
        type(mend_str(key)) is not str for key in members
    ):
        pairs = [[mend_str(key), value] for key, value in members.items()]
        return {"!dict": sorted(pairs, key=encode)}
    return members


def _mend(value: Any) -> Any:
    if type(value) is dict:
        if len(value) == 1 and is_tag(value):
            return {tag: _mend(inner) for tag, inner in value.items()}
        return _mend_dict({key: _mend(inner) for key, inner in value.items()})
    if type(value) is list:
        return [_mend(inner) for inner in value]
    return _scalar(value)
