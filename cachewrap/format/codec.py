"""Values to bytes and back, faithful in type, without ever running what was stored."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from cachewrap.entry import Entry, HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.format.aliases import AliasedError
from cachewrap.format.classes import called, settle
from cachewrap.format.moulds import MODEL, UNFIT, cast, learn
from cachewrap.format.tagging import are_slow, is_bare_list, is_shallow, tag, weighed
from cachewrap.format.untagging import UnweighedError, untag
from cachewrap.request.values import (
    PACKED,
    is_plain,
    main_name,
    module_of,
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
    elif (kind is list and is_bare_list(value)) or is_plain(value, PACKED):  # type: ignore[arg-type]
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

    A model whose class was read before is read by a mould, which gives the same: see `moulds`.

    Takes at most 256 bytes of memory for each byte of the data, beside a constant, and time in
    proportion to them: numbers, patterns and equal hashes are bounded.

    Raises `MissingTypeError` for a class that the program has not imported or not made, and
    `CorruptEntryError` for bytes that `encode` did not give.
    """
    try:
        if kind == Kind.TEXT:
            return data.decode()
        if kind == Kind.VALUE:
            if data[:1] == _UNTAGGED:
                return _decoder.decode(memoryview(data)[1:])
            if data[:1] == _TAGGED:
                settled = settle()
                if not data.startswith(MODEL):
                    return _load_tagged(data)
                if (value := cast(data, settled)) is UNFIT:
                    value = _load_tagged(data)
                    learn(data)
                return value
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


def _load_tagged(data: bytes) -> Any:
    try:
        return untag(_decoder.decode(memoryview(data)[1:]))
    except UnweighedError:
        return untag(weighed(_decoder.decode(memoryview(data)[1:])))


def _told(error: Exception) -> str:
    """An error for messages: one of the program's own may run code to be shown."""
    kind = type(error)
    return repr(error) if module_of(kind) in ("builtins", "msgspec") else called(kind)


def value_of(entry: Entry) -> Any:
    """What an entry stands for: of a generator's call the list of its items, of an HTTP request's
    the JSON in its answer, or its text, or its bytes; else the value itself.

    Raises what `decode` raises, and `CorruptEntryError` for an HTTP answer that is none, which for
    an alias is `AliasedError`.
    """
    if entry.kind is Kind.ALIAS:
        raise AliasedError(entry.answer)
    value = decode(entry.kind, entry.answer)
    if isinstance(value, Items):
        return [decode(*item) for item in value.values]
    if not isinstance(value, HttpAnswer):
        return value
    if value.status != 200:
        raise CorruptEntryError(f"it holds no answer: status {value.status}")
    return _content(b"".join(value.chunks))


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body


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
            for name in _named(_decoder.decode(memoryview(answer)[1:])):
                if not _is_allowed(name, types):
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


# -- which classes an entry names ------------------------------------------------------------

_NAMING: Final = frozenset(
    f"!{tag}"
    for tag in (
        "namedtuple enum pydantic dataclass attrs struct subclass url defaultdict plugin"
    ).split()
)
_ALWAYS: Final = frozenset(
    {
        *("builtins", "collections", "datetime", "decimal", "fractions", "ipaddress", "pathlib"),
        *("re", "types", "typing", "uuid", "zoneinfo"),
        *("pydantic.networks", "pydantic_core._pydantic_core"),  # URLs
    }
)


def _named(tagged: Any) -> set[str]:
    """The full names of the classes whose objects a tagged form has, wherever they stand in it."""
    found: set[str] = set()
    ahead = [tagged]
    while ahead:
        plain = ahead.pop()
        if type(plain) is dict:
            ahead += plain.values()
            if len(plain) == 1 and not plain.keys().isdisjoint(_NAMING):
                (inner,) = plain.values()
                if type(inner) is list and inner:
                    _add_names(inner[0], found)
        elif type(plain) is list:
            ahead += plain
    return found


def _add_names(spec: Any, found: set[str]) -> None:
    """Add the names in a spec, as `spec_of` has it."""
    if type(spec) is str:
        found.add(spec.replace(":", "."))
    elif type(spec) is list and spec and spec[0] != "Literal":
        word, *args = spec
        if type(word) is str and ":" in word:
            found.add(word.replace(":", "."))
        parts = args[0] if args and type(args[0]) is list else []
        for part in parts[:1] if word == "Annotated" else parts:
            if part not in ("None", "..."):
                _add_names(part, found)


def _is_allowed(name: str, types: frozenset[str]) -> bool:
    """Whether a class of this full name is one of the types, or one that Python itself brings."""
    if name in types or name.rpartition(".")[0] in _ALWAYS:
        return True
    parts = name.split(".")
    return any(".".join((*parts[:end], "*")) in types for end in range(1, len(parts)))
