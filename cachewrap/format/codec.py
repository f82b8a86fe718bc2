"""Values to bytes and back, faithful in type, without ever running what was stored."""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

import msgspec

from cachewrap import plugins
from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.format.classes import (
    HELD,
    builtin_of,
    called,
    generic_of,
    generic_spec,
    is_allowed,
    is_attrs,
    is_bare,
    is_factory,
    is_model,
    is_struct,
    makes_flags,
    name_of,
    named,
)
from cachewrap.format.untagging import are_slow, check_hashes, is_slow, untag
from cachewrap.plugins import type_name
from cachewrap.request.objects import array_of, dump_enum
from cachewrap.request.values import (
    MOST_DIGITS,
    MOST_OF_A_FRACTION,
    PACKED,
    SecretError,
    is_plain,
    is_tag,
    leaf_of,
    main_name,
    mend_float,
    mend_int,
    mend_str,
    module_of,
    state_of,
)

_encoder = msgspec.msgpack.Encoder()


def _refuse_extension(code: int, data: memoryview) -> None:
    raise CorruptEntryError(f"an extension of type {code}")


_decoder = msgspec.msgpack.Decoder(ext_hook=_refuse_extension)

_UNTAGGED: Final = b"\x00"
_TAGGED: Final = b"\x01"
_PATTERN: Final = b"!pattern"
_FRACTION: Final = b"!fraction"


class _Http(msgspec.Struct, array_like=True):
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    lengths: list[int]
    delays: list[float]
    streamed: bool


class _Items(msgspec.Struct, array_like=True):
    values: list[tuple[int, bytes]]
    delays: list[float]
    returned: tuple[int, bytes]


_http_decoder = msgspec.msgpack.Decoder(_Http)
_items_decoder = msgspec.msgpack.Decoder(_Items)


def encode(value: object) -> tuple[Kind, bytes]:
    """A value as bytes, and how they are to be read.

    Args:
        value: None, numbers, text, bytes, ranges, patterns, UUIDs, decimals, dates, paths, URLs of
            pydantic, addresses of `ipaddress`, members of enums; lists, tuples, sets, dictionaries,
            `deque`, `Counter`, `OrderedDict`, `defaultdict` of a class of data, `MappingProxyType`,
            `SimpleNamespace`; dataclasses, named tuples, pydantic models, also generic ones, attrs,
            `msgspec.Struct` without a ``__post_init__``, subclasses of builtin types; numpy arrays;
            types for which an installed package has a codec; in one another; or an `HttpAnswer` or
            `Items`.

    Raises `UnsupportedTypeError`, and nothing else, for anything else: for a class that could not
    be found again (one defined inside a function) or has a ``__del__``, for a secret of pydantic,
    for a pattern that may be slow to compile, for what raises when it is looked at, and for a value
    that refers to itself or, unless it is what JSON has, is nested more than some 60 levels deep.
    References that are shared inside the value come back as separate copies. A date of freezegun or
    time-machine comes back as a date.
    """
    kind = type(value)
    if kind is str:
        try:
            return Kind.TEXT, value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            pass
    elif kind is HttpAnswer:
        return Kind.HTTP, _dump_http(value)  # type: ignore[arg-type]
    elif kind is Items:
        return Kind.ITEMS, _dump_items(value)  # type: ignore[arg-type]
    elif is_plain(value, PACKED):
        try:
            return Kind.VALUE, _UNTAGGED + _encoder.encode(value)
        except (OverflowError, UnicodeEncodeError, RecursionError):
            pass
    try:
        tagged = tag(value, "the value")
        if is_shallow(tagged):
            data = _encoder.encode(tagged)
            if (_PATTERN in data or _FRACTION in data) and are_slow(_decoder.decode(data)):
                raise UnsupportedTypeError(
                    "the value has patterns or fractions that may be slow to make again"
                )
            return Kind.VALUE, _TAGGED + data
    except RecursionError:
        pass
    except UnsupportedTypeError:
        raise
    except Exception as error:  # objects of the program's own can raise anything when looked at
        raise UnsupportedTypeError(f"the value cannot be read: {_told(error)}") from error
    raise UnsupportedTypeError("the value refers to itself or is nested too deeply")


def decode(kind: Kind, data: bytes) -> Any:
    """The value that `encode` was given, built anew.

    Builds only instances of classes that the program has imported, by setting their state: no
    constructor, validator, default factory, property or descriptor of theirs runs, nothing is
    imported, no class is made, and no metaclass is asked. A parametrised model (``Page[Item]``) is
    one of those that the program itself has made by then, as by the annotation of a decorated
    function. A field that the class has gained since is given its default where that is plain, or
    an empty list, dict or set; with any other default the entry is damaged.

    What does run is ``__hash__``, and ``__eq__``, of what was a member of a set or a key of a
    dictionary; for a type that an installed package has plugged a codec in for, that codec, which
    is imported for it; and for a combination of flags that the program has not made yet, `enum`.

    Takes at most 256 bytes of memory for each byte of the data, beside a constant, and time in
    proportion to them: numbers, patterns and equal hashes are bounded.

    Raises `MissingTypeError` for a class that the program has not imported or not made, and
    `CorruptEntryError` for bytes that `encode` did not give.
    """
    try:
        if kind == Kind.TEXT:
            return data.decode()
        if kind == Kind.VALUE:
            plain = _decoder.decode(memoryview(data)[1:])
            if data[:1] == _UNTAGGED:
                return plain
            if data[:1] == _TAGGED:
                if (_PATTERN in data or _FRACTION in data) and are_slow(plain):
                    raise CorruptEntryError("patterns or fractions that are slow to make")
                return untag(plain)
        elif kind == Kind.HTTP:
            return _load_http(data)
        elif kind == Kind.ITEMS:
            return _load_items(data)
    except (MissingTypeError, CorruptEntryError):
        raise
    except Exception as error:
        # Hashes of the program's own can raise anything.
        raise CorruptEntryError(f"the answer cannot be read: {_told(error)}") from error
    raise CorruptEntryError(f"an answer of the unknown kind {kind!r}")


def _told(error: Exception) -> str:
    """An error for messages: one of the program's own may run code to be shown."""
    kind = type(error)
    return repr(error) if module_of(kind) in ("builtins", "msgspec") else called(kind)


def plain_form(kind: Kind, data: bytes) -> Any:
    """A text or value as it is stored, for people: of objects their names and fields as tags.

    Needs none of the classes, and builds none. Bytes are left as they are.

    Raises `CorruptEntryError` for bytes that `encode` did not give, and for another kind.
    """
    if kind not in (Kind.TEXT, Kind.VALUE):
        raise CorruptEntryError(f"an answer of the kind {kind!r} is no single value")
    try:
        return data.decode() if kind == Kind.TEXT else _decoder.decode(memoryview(data)[1:])
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError, MemoryError) as error:
        raise CorruptEntryError(f"the answer cannot be read: {error!r}") from error


def check_types(kind: Kind, answer: bytes, types: frozenset[str]) -> None:
    """Raise `CorruptEntryError` for an answer with an object of a class that is not among them.

    Args:
        kind: how it is read.
        answer: what `encode` gave.
        types: full names of classes, or of modules and packages with ``.*`` behind them.
    """
    types |= {name.replace("__main__", main_name(), 1) for name in types if name[:3] == "__m"}
    try:
        if kind == Kind.ITEMS:
            items = _items_decoder.decode(answer)
            for inner, item in (*items.values, items.returned):
                if inner == Kind.VALUE:
                    check_types(Kind.VALUE, item, types)
        elif kind == Kind.VALUE and answer[:1] != _UNTAGGED:
            for name in named(_decoder.decode(memoryview(answer)[1:])):
                if not is_allowed(name, types):
                    raise CorruptEntryError(
                        f"it holds {name}, which is not among the types= of this cache"
                    )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, MemoryError) as error:
        raise CorruptEntryError(f"the answer cannot be read: {error!r}") from error


# -- HTTP answers and items --------------------------------------------------------------------


def _dump_http(answer: HttpAnswer) -> bytes:
    return _encoder.encode(
        _Http(
            answer.status,
            answer.headers,
            b"".join(answer.chunks),
            [len(chunk) for chunk in answer.chunks],
            [round(delay, 4) for delay in answer.delays],
            answer.streamed,
        )
    )


def _load_http(data: bytes) -> HttpAnswer:
    http = _http_decoder.decode(data)
    if len(http.lengths) == 1 and http.lengths[0] == len(http.body):  # what was read at once
        return HttpAnswer(http.status, http.headers, [http.body], http.delays, http.streamed)
    if sum(http.lengths) != len(http.body) or any(length < 0 for length in http.lengths):
        raise CorruptEntryError("the chunks of an answer do not make up its body")
    chunks: list[bytes] = []
    start = 0
    for length in http.lengths:
        chunks.append(http.body[start : start + length])
        start += length
    return HttpAnswer(http.status, http.headers, chunks, http.delays, http.streamed)


def _dump_items(items: Items) -> bytes:
    values: Any = items.values
    delays = [round(delay, 4) for delay in items.delays]
    return _encoder.encode(_Items(values, delays, items.returned))


def _load_items(data: bytes) -> Items:
    items = _items_decoder.decode(data)
    values = [(_item_kind(kind), item) for kind, item in items.values]
    kind, returned = items.returned
    return Items(values, items.delays, (_item_kind(kind), returned))


def _item_kind(kind: int) -> Kind:
    if kind not in (Kind.TEXT, Kind.VALUE):
        raise CorruptEntryError(f"an item of the kind {kind}")
    return Kind(kind)


# -- values to their tagged form ---------------------------------------------------------------


# Decoding takes up to two frames for each level, and is to succeed wherever encoding did.
_DEEPEST: Final = 200


def is_shallow(tree: Any, levels: int = _DEEPEST) -> bool:
    """Whether a tree of plain data has so many levels at most, by default as can be decoded."""
    level = [tree]
    for _ in range(levels):
        level = [
            inner
            for item in level
            for inner in (item.values() if type(item) is dict else item)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return True
    return False


def tag(value: Any, where: str) -> Any:
    """The tagged form of a value, which is ``where`` messages say.

    Raises `UnsupportedTypeError` for what has none, and `RecursionError`.
    """
    kind = type(value)
    if kind is str:
        return mend_str(value)
    if kind is int:
        return mend_int(_small(value, MOST_DIGITS, where))
    if kind is float:
        return mend_float(value)
    if kind in PACKED:
        return value
    if kind is dict:
        return _tag_dict(value, where)
    if kind is list:
        return [tag(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"!tuple": [tag(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is set or kind is frozenset:
        mark = "!set" if kind is set else "!frozenset"
        _check_hashes(value, where)
        return {mark: [tag(item, f"an item of {where}") for item in value]}
    return _tag_leaf(value, kind, where) or _tag_object(value, kind, where)


def _tag_leaf(value: Any, kind: type, where: str) -> Any:
    leaf = leaf_of(kind)
    if leaf is None:
        return None
    mark, dump = leaf
    if mark == "!url":
        name_of(kind, where)
    elif mark == "!fraction":
        _small(max(value.numerator, -value.numerator, value.denominator), MOST_OF_A_FRACTION, where)
    elif mark == "!range":
        _small(max(map(abs, (value.start, value.stop, value.step))), MOST_DIGITS, where)
    elif mark == "!pattern" and is_slow(value.pattern, value.flags):
        raise UnsupportedTypeError(f"{where} is a pattern that may be slow to compile")
    try:
        return {mark: dump(value)}
    except SecretError:
        raise UnsupportedTypeError(
            f"{where} is a {type_name(kind)}, and a secret is never stored: return what callers "
            "need without it, or turn the cache off for this function"
        ) from None
    except TypeError as error:
        raise UnsupportedTypeError(f"{where} has {error}, which no codec takes") from None


def _tag_dict(value: dict[Any, Any], where: str) -> Any:
    simple = all(type(key) is str and type(mend_str(key)) is str for key in value)
    if simple and not (len(value) == 1 and is_tag(value)):
        return {key: tag(item, f"{where}.{key}") for key, item in value.items()}
    return {"!dict": _pairs(value, where)}


def _small(number: int, digits: int, where: str) -> int:
    if number.bit_length() > 4 * digits:
        raise UnsupportedTypeError(f"{where} is a number of more than {digits} hexadecimal digits")
    return number


def _check_hashes(members: Collection[Any], where: str) -> None:
    try:
        check_hashes(members)
    except Exception as error:  # a hash of the program's own can raise anything
        raise UnsupportedTypeError(f"{where} could not be built again: {error}") from error


def _pairs(value: dict[Any, Any], where: str) -> list[Any]:
    _check_hashes(value, where)
    return [
        [tag(key, f"a key of {where}"), tag(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]


def _tag_object(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, Enum):
        return {"!enum": _tag_enum(value, kind, where)}
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        items = [tag(item, f"{where}[{i}]") for i, item in enumerate(tuple.__iter__(value))]
        if len(items) != len(kind._fields):  # pyright: ignore[reportAttributeAccessIssue]
            raise UnsupportedTypeError(
                f"{where} is a {type_name(kind)} with other fields than named"
            )
        state = state_of(value)
        stored = [_tag_dict(state, where)] if state else []
        return {"!namedtuple": [name_of(kind, where), items, *stored]}
    if kind is SimpleNamespace:
        return {"!namespace": _tag_dict(vars(value), where)}
    if kind is OrderedDict:
        return {"!ordered": _pairs(value, where)}
    if kind is deque:
        return {
            "!deque": [[tag(item, f"{where}[{i}]") for i, item in enumerate(value)], value.maxlen]
        }
    if kind is defaultdict:
        return {"!defaultdict": [_factory(value.default_factory, where), _pairs(value, where)]}
    if kind is MappingProxyType:
        return {"!mappingproxy": _pairs(value, where)}
    if is_model(kind) and is_bare(kind):
        return {"!pydantic": _tag_model(value, kind, where)}
    if dataclasses.is_dataclass(kind) and not hasattr(kind, "__del__") and is_bare(kind):
        return {"!dataclass": [name_of(kind, where), _tag_state(value, where)]}
    try:
        array = array_of(value)
    except TypeError as error:
        raise UnsupportedTypeError(f"{where} is {error}, which no codec takes") from None
    if array:
        return {"!array" if kind.__name__ == "ndarray" else "!number": list(array)}
    return _tag_by_plugin(value, kind, where)


def _tag_by_plugin(value: Any, kind: type, where: str) -> Any:
    try:
        found = plugins.codec_of(kind)
    except plugins.PluginError as error:
        raise UnsupportedTypeError(f"{where} is a {type_name(kind)}: {error}") from error
    if found is not None:
        name, codec = found
        try:
            plain = codec.to_plain(value)
        except Exception as error:
            raise UnsupportedTypeError(
                f"{where} is a {name}, and {plugins.describe(name)} failed: {error!r}"
            ) from error
        return {"!plugin": [name, tag(plain, where)]}
    if is_attrs(kind):
        return {"!attrs": [name_of(kind, where), _tag_state(value, where)]}
    if is_struct(kind):
        return {"!struct": [name_of(kind, where), _tag_state(value, where)]}
    if base := builtin_of(kind):
        held = tag(HELD[base](value), where)
        return {"!subclass": [name_of(kind, where), held, _tag_state(value, where)]}
    why = ", whose __post_init__ is not to run" if issubclass(kind, msgspec.Struct) else ""
    raise UnsupportedTypeError(
        f"{where} is a {type_name(kind)}{why}, which no codec takes: "
        "hand over what is needed of it instead, in a dataclass or a dict"
    )


def _tag_state(value: Any, where: str) -> Any:
    state = state_of(value)
    # What `D[int](...)` notes of how it was made, and a hash, which is another in each process.
    state.pop("__orig_class__", None)
    state.pop("__msgspec_cached_hash__", None)
    if "_attrs_cached_hash" in state:
        state["_attrs_cached_hash"] = None
    return _tag_dict(state, where)


def _tag_enum(value: Any, kind: type, where: str) -> list[Any]:
    try:
        form = [name_of(kind, where), dump_enum(value)]
        if type(form[1]) is list and not makes_flags(kind):
            raise TypeError("a combination of flags that have code of their own")
    except UnsupportedTypeError:
        raise
    except TypeError as error:
        raise UnsupportedTypeError(f"{where} is {error}, which no codec takes") from None
    try:
        return [*form, tag(value._value_, where)]
    except (UnsupportedTypeError, RecursionError):
        return form


def _factory(factory: Any, where: str) -> str | None:
    if factory is None:
        return None
    if isinstance(factory, type) and is_factory(factory):
        return name_of(factory, f"the default_factory of {where}")
    raise UnsupportedTypeError(
        f"{where} is a defaultdict whose default_factory is no class of data, which no codec "
        "takes: return a dict of it, or give it one such as list"
    )


def _tag_model(model: Any, kind: Any, where: str) -> list[Any]:
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    if private is not None:
        undefined = sys.modules["pydantic_core"].PydanticUndefined
        private = {name: value for name, value in private.items() if value is not undefined}
    return [
        name_of(kind, where) if generic_of(kind)[0] is None else generic_spec(kind, where),
        _tag_dict(model.__dict__, where),
        None if extra is None else _tag_dict(extra, where),
        [mend_str(name) for name in sorted(model.__pydantic_fields_set__)],
        None if private is None else _tag_dict(private, where),
    ]
