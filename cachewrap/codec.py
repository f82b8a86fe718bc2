"""Values to bytes and back, faithful in type, without ever running what was stored."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from types import BuiltinFunctionType, ModuleType, NoneType, SimpleNamespace
from typing import Any, Final

import msgspec

from cachewrap import plugins
from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.plain import (
    LEAVES,
    LOADERS,
    SCALARS,
    array_of,
    dump_enum,
    is_plain,
    is_tag,
    key_name,
    load_enum,
    main_name,
    mend_float,
    mend_int,
    mend_str,
    model_base,
    slots_of,
    state_of,
)

_encoder = msgspec.msgpack.Encoder()


def _refuse_extension(code: int, data: memoryview) -> None:
    raise CorruptEntryError(f"an extension of type {code}")


_decoder = msgspec.msgpack.Decoder(ext_hook=_refuse_extension)

# MessagePack has bytes of its own, so here they are as good as plain.
_SCALARS: Final[frozenset[type]] = SCALARS | {bytes}
_LEAVES: Final = {kind: leaf for kind, leaf in LEAVES.items() if kind is not bytes}

# Decoding takes up to two frames for each level, and is to succeed wherever encoding did.
_DEEPEST: Final = 200

_PLAIN: Final = b"\x00"
_TAGGED: Final = b"\x01"


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
        value: None, numbers, text, bytes, lists, tuples, sets, dictionaries, dates, UUIDs,
            decimals, paths, enums, dataclasses, named tuples, `SimpleNamespace`, pydantic models,
            numpy arrays, types for which an installed package has a codec, in one another; or an
            `HttpAnswer` or `Items`.

    Raises `UnsupportedTypeError` for anything else, for a class that could not be found again
    (one defined inside a function), and for a value that refers to itself or, unless it is what
    JSON has, is nested more than some 60 levels deep. References that are shared inside the value
    come back as separate copies.
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
    elif is_plain(value, _SCALARS):
        try:
            return Kind.VALUE, _PLAIN + _encoder.encode(value)
        except (OverflowError, UnicodeEncodeError, RecursionError):
            pass
    try:
        tagged = _tag(value, "the value")
        if _is_shallow(tagged):
            return Kind.VALUE, _TAGGED + _encoder.encode(tagged)
    except RecursionError:
        pass
    raise UnsupportedTypeError("the value refers to itself or is nested too deeply")


def decode(kind: Kind, data: bytes) -> Any:
    """The value that `encode` was given, built anew.

    Builds only classes that the program has imported, by setting their state: no constructor,
    validator, property or descriptor of theirs runs, and nothing is imported. What does run is
    ``__hash__`` and ``__eq__`` of what was a member of a set or a key of a dictionary, pydantic's
    own making of a generic model's class, the default factory of a field that the class has
    gained since, and for a type that an installed package has plugged a codec in for, that codec.
    Takes at most 256 bytes of memory for each byte of the data, beside a constant, and a class
    for each generic model.

    Raises `MissingTypeError` for a class that the program has not imported, and
    `CorruptEntryError` for bytes that `encode` did not give.
    """
    try:
        if kind == Kind.TEXT:
            return data.decode()
        if kind == Kind.VALUE:
            plain = _decoder.decode(memoryview(data)[1:])
            if data[:1] == _PLAIN:
                return plain
            if data[:1] == _TAGGED:
                return _untag(plain)
        elif kind == Kind.HTTP:
            return _load_http(data)
        elif kind == Kind.ITEMS:
            return _load_items(data)
    except (MissingTypeError, CorruptEntryError, MemoryError):
        raise
    except Exception as error:
        # Pydantic, parametrising a model, and hashes of the program's own can raise anything.
        raise CorruptEntryError(f"the answer cannot be read: {error!r}") from error
    raise CorruptEntryError(f"an answer of the unknown kind {kind!r}")


def plain_form(kind: Kind, data: bytes) -> Any:
    """A text or value as it is stored, for people: of objects their names and fields as tags.

    Needs none of the classes, and builds none. Bytes are left as they are.

    Raises `CorruptEntryError` for bytes that `encode` did not give, and for another kind.
    """
    if kind not in (Kind.TEXT, Kind.VALUE):
        raise CorruptEntryError(f"an answer of the kind {kind!r} is no single value")
    try:
        return data.decode() if kind == Kind.TEXT else _decoder.decode(memoryview(data)[1:])
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
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


# -- values to tagged form ---------------------------------------------------------------------


def _is_shallow(tagged: Any) -> bool:
    level = [tagged]
    for _ in range(_DEEPEST):
        level = [
            inner
            for item in level
            for inner in (item.values() if type(item) is dict else item)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return True
    return False


def _tag(value: Any, where: str) -> Any:
    kind = type(value)
    if kind is str:
        return mend_str(value)
    if kind is int:
        return mend_int(value)
    if kind is float:
        return mend_float(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return _tag_dict(value, where)
    if kind is list:
        return [_tag(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"!tuple": [_tag(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is set or kind is frozenset:
        tag = "!set" if kind is set else "!frozenset"
        return {tag: [_tag(item, f"an item of {where}") for item in value]}
    if leaf := _LEAVES.get(kind):
        tag, dump = leaf
        try:
            return {tag: dump(value)}
        except TypeError as error:
            raise UnsupportedTypeError(f"{where} has {error}, which no codec takes") from None
    return _tag_object(value, kind, where)


def _tag_dict(value: dict[Any, Any], where: str) -> Any:
    simple = all(type(key) is str and type(mend_str(key)) is str for key in value)
    if simple and not (len(value) == 1 and is_tag(value)):
        return {key: _tag(item, f"{where}.{key}") for key, item in value.items()}
    return {"!dict": _pairs(value, where)}


def _pairs(value: dict[Any, Any], where: str) -> list[Any]:
    return [
        [_tag(key, f"a key of {where}"), _tag(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]


def _tag_object(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, Enum):
        try:
            return {"!enum": [_findable(kind, where), dump_enum(value)]}
        except TypeError as error:
            raise UnsupportedTypeError(f"{where} is {error}, which no codec takes") from None
    if isinstance(value, tuple) and hasattr(kind, "_fields") and not state_of(value):
        items = [_tag(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"!namedtuple": [_findable(kind, where), items]}
    if kind is SimpleNamespace:
        return {"!namespace": _tag_dict(vars(value), where)}
    if kind is OrderedDict:
        ordered: Any = value
        return {"!ordered": _pairs(ordered, where)}
    if _is_model(kind) and _is_bare(kind):
        return {"!pydantic": _tag_model(value, kind, where)}
    if dataclasses.is_dataclass(kind) and not hasattr(kind, "__del__") and _is_bare(kind):
        return {"!dataclass": [_findable(kind, where), _tag_dict(state_of(value), where)]}
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
        raise UnsupportedTypeError(f"{where} is a {_readable(kind)}: {error}") from error
    if found is not None:
        name, codec = found
        try:
            plain = codec.to_plain(value)
        except Exception as error:
            raise UnsupportedTypeError(
                f"{where} is a {name}, and {plugins.describe(name)} failed: {error!r}"
            ) from error
        return {"!plugin": [name, _tag(plain, where)]}
    raise UnsupportedTypeError(f"{where} is a {_readable(kind)}, which no codec takes")


def _tag_model(model: Any, kind: Any, where: str) -> list[Any]:
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    return [
        _model_spec(kind, where),
        _tag_dict(model.__dict__, where),
        None if extra is None else _tag_dict(extra, where),
        [mend_str(name) for name in sorted(model.__pydantic_fields_set__)],
        None if private is None else _tag_dict(_without_undefined(private), where),
    ]


def _without_undefined(private: dict[str, Any]) -> dict[str, Any]:
    undefined = sys.modules["pydantic_core"].PydanticUndefined
    return {name: value for name, value in private.items() if value is not undefined}


def _model_spec(kind: Any, where: str) -> Any:
    """The name of a class, or of a generic model and of the classes in its brackets."""
    generic = getattr(kind, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        if not all(isinstance(arg, type) for arg in generic["args"]):
            raise UnsupportedTypeError(f"{where} is a {_readable(kind)}, which no codec takes")
        arguments = [_model_spec(argument, where) for argument in generic["args"]]
        return [_findable(generic["origin"], where), arguments]
    return "None" if kind is NoneType else _findable(kind, where)


@functools.lru_cache(maxsize=1024)
def _is_bare(kind: type) -> bool:
    """Whether an instance is made by `object` alone, so that its attributes are its whole state."""
    return not any(
        type(vars(base).get("__new__")) is BuiltinFunctionType for base in kind.__mro__[:-1]
    )


def _has(cls: type, name: str) -> bool:
    """Whether the class has an attribute; it is not run, as `hasattr` might."""
    return any(name in vars(base) for base in cls.__mro__)


def _is_model(cls: type) -> bool:
    return model_base() in cls.__mro__


def _findable(kind: type, where: str) -> str:
    name = key_name(kind)
    try:
        found: object = _find(name)
    except MissingTypeError:
        found = None
    if hasattr(kind, "__del__"):
        raise UnsupportedTypeError(f"{where} is a {_readable(kind)}, whose __del__ is not to run")
    if found is not kind:
        raise UnsupportedTypeError(
            f"{where} is a {_readable(kind)}, which could not be found again under that name: "
            "define the class at the top level of a module"
        )
    return name


def _readable(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


# -- tagged form to values ---------------------------------------------------------------------


def _untag(plain: Any) -> Any:
    kind = type(plain)
    if kind is list:
        return [_untag(item) for item in plain]
    if kind is dict:
        if len(plain) == 1 and is_tag(plain):
            ((tag, inner),) = plain.items()
            return _build(tag, inner)
        return {key: _untag(item) for key, item in plain.items()}
    if kind in _SCALARS or kind is float:
        return plain
    raise CorruptEntryError(f"a {kind.__qualname__} where none belongs")


def _build(tag: str, inner: Any) -> Any:
    if loader := LOADERS.get(tag):
        return loader(inner)
    if builder := _BUILDERS.get(tag):
        return builder(inner)
    raise CorruptEntryError(f"an unknown tag {tag!r}")


def _find(name: str) -> type:
    """The class of a name, by looks into namespaces alone: nothing is imported or run."""
    module, _, path = name.partition(":")
    # `type()` and not `isinstance()`, which asks an object for its class and may load a lazy one.
    found: Any = sys.modules.get("__main__" if module == main_name() else module)
    space: Any = None
    if issubclass(type(found), ModuleType):
        space = object.__getattribute__(found, "__dict__")
    for part in path.split("."):
        if space is None or part not in space:
            raise MissingTypeError(
                f"the stored value is a {name.replace(':', '.')}, which this program has not "
                f"imported: import {module} before the call"
            )
        found = space[part]
        space = type.__getattribute__(found, "__dict__") if issubclass(type(found), type) else None
    if space is None:
        raise CorruptEntryError(f"{name} is not a class")
    return found  # type: ignore[no-any-return]


def _class(name: Any, fits: Callable[[type], bool]) -> Any:
    if not isinstance(name, str):
        raise CorruptEntryError("a class without a name")
    cls = _find(name)
    # An instance with a state that a stranger chose would run it as soon as it goes.
    if hasattr(cls, "__del__") or not fits(cls):
        raise CorruptEntryError(f"{name} is not a class of the stored sort")
    return cls


def _load_enum(inner: Any) -> Any:
    name, members = inner
    return load_enum(_class(name, lambda cls: Enum in cls.__mro__), members)


def _load_namedtuple(inner: Any) -> Any:
    name, items = inner
    cls = _class(name, lambda cls: tuple in cls.__mro__ and _has(cls, "_fields"))
    if len(items) != len(cls._fields):
        raise CorruptEntryError(f"{name} has other fields now")
    return tuple.__new__(cls, [_untag(item) for item in items])


def _load_dataclass(inner: Any) -> Any:
    name, stored = inner
    cls = _class(name, lambda cls: _has(cls, "__dataclass_fields__") and _is_bare(cls))
    state = _members(stored)
    for field in dataclasses.fields(cls):
        if field.name in state:
            continue
        # The class has gained the field since: what it gives to those who do not say.
        if field.default is not dataclasses.MISSING:
            state[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            state[field.name] = field.default_factory()
        elif field.init:
            raise CorruptEntryError(f"{name} has the new field {field.name}, which has no default")
    slots = slots_of(cls)
    instance = object.__new__(cls)
    for attribute, value in state.items():
        if slot := slots.get(attribute):
            slot.__set__(instance, value)
        else:
            object.__getattribute__(instance, "__dict__")[attribute] = value
    return instance


def _members(state: Any) -> dict[str, Any]:
    members = _untag(state)
    if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
        raise CorruptEntryError("the state of an object is not a dictionary of names")
    return members


def _default(field: Any, members: dict[str, Any]) -> Any:
    if "validated_data" in _arguments(type(field).get_default):
        # From pydantic 2.10 on, a default factory may take the fields before it.
        return field.get_default(call_default_factory=True, validated_data=members)
    return field.get_default(call_default_factory=True)


@functools.cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _load_model(inner: Any) -> Any:
    spec, stored, extra, fields_set, private = inner
    cls = _model_class(spec)
    members = _members(stored)
    for name, field in cls.model_fields.items():
        # As for a dataclass; a model without a field that it should have is left as it was.
        if name not in members and not field.is_required():
            members[name] = _default(field, members)
    state = {
        "__dict__": members,
        "__pydantic_extra__": None if extra is None else _members(extra),
        "__pydantic_fields_set__": {_text(name) for name in fields_set},
        "__pydantic_private__": None if private is None else _members(private),
    }
    model = object.__new__(cls)
    for attribute, value in state.items():
        object.__setattr__(model, attribute, value)
    return model


def _text(plain: Any) -> str:
    text = _untag(plain)
    if not isinstance(text, str):
        raise CorruptEntryError("a name that is not text")
    return text


def _model_class(spec: Any) -> Any:
    if isinstance(spec, str):
        return _class(spec, lambda cls: _is_model(cls) and _is_bare(cls))
    name, arguments = spec
    origin = _class(name, lambda cls: _is_model(cls) and _is_bare(cls))
    classes = tuple(_argument_class(argument) for argument in arguments)
    if len(classes) != len(origin.__pydantic_generic_metadata__["parameters"]):
        raise CorruptEntryError(f"{name} takes another number of parameters")
    try:
        # Pydantic's own, whatever the class has made of it.
        return model_base().__class_getitem__.__func__(origin, classes)
    except Exception as error:  # making a class is up to pydantic, and to hooks of the parameters
        raise CorruptEntryError(f"{name} cannot be made of {arguments}: {error}") from error


def _argument_class(spec: Any) -> Any:
    if spec == "None":
        return NoneType
    return _class(spec, lambda cls: True) if isinstance(spec, str) else _model_class(spec)


_DTYPE: Final = re.compile(r"[<>|=]?[biufcmMSU]\d+(\[\w+\])?")


def _load_array(inner: Any) -> Any:
    name, shape, data = inner
    if not _DTYPE.fullmatch(name):
        raise CorruptEntryError(f"an array of {name!r}")
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise MissingTypeError("the stored value is a numpy array: import numpy before the call")
    dtype = numpy.dtype(name)
    if any(type(side) is not int or side < 0 for side in shape) or (
        math.prod(shape) * dtype.itemsize != len(data) or (shape and not dtype.itemsize)
    ):
        raise CorruptEntryError(f"{len(data)} bytes for an array of {shape} {name}")
    array = numpy.ndarray(shape, dtype, data).copy()
    if dtype.kind == "U":
        array.tolist()  # numpy looks at the characters only when they are read
    return array


def _load_number(inner: Any) -> Any:
    array = _load_array(inner)
    if array.shape:
        raise CorruptEntryError("a number with a shape")
    return array[()]


def _load_by_plugin(inner: Any) -> Any:
    name, tagged = inner
    if not isinstance(name, str):
        raise CorruptEntryError("a type without a name")
    try:
        codec = plugins.codec_named(name)
    except plugins.PluginError as error:
        raise MissingTypeError(f"the stored value is a {name}: {error}") from error
    if codec is None:
        raise MissingTypeError(
            f"the stored value is a {name}: install the package that has a codec for it"
        )
    value = codec.from_plain(_untag(tagged))
    if plugins.type_name(type(value)) != name:
        raise CorruptEntryError(
            f"{plugins.describe(name)} made a {_readable(type(value))} and not a {name}"
        )
    return value


def _load_dict(inner: Any) -> dict[Any, Any]:
    return {_untag(key): _untag(value) for key, value in inner}


_BUILDERS: Final[dict[str, Callable[[Any], Any]]] = {
    "!tuple": lambda inner: tuple(_untag(item) for item in inner),
    "!set": lambda inner: {_untag(item) for item in inner},
    "!frozenset": lambda inner: frozenset(_untag(item) for item in inner),
    "!dict": _load_dict,
    "!ordered": lambda inner: OrderedDict(_load_dict(inner)),
    "!namespace": lambda inner: SimpleNamespace(**_members(inner)),
    "!enum": _load_enum,
    "!namedtuple": _load_namedtuple,
    "!dataclass": _load_dataclass,
    "!pydantic": _load_model,
    "!array": _load_array,
    "!number": _load_number,
    "!plugin": _load_by_plugin,
}
