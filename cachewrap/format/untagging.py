"""Values from their tagged form: of objects the state is set, and nothing of theirs is run."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

import msgspec

from cachewrap import plugins
from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.format.classes import (
    builtin_of,
    find,
    has,
    is_attrs,
    is_bare,
    is_factory,
    is_model,
    is_struct,
    parametrised,
)
from cachewrap.plugins import type_name
from cachewrap.request.values import (
    ADDRESSES,
    LEAVES,
    LOADERS,
    PACKED,
    core_of,
    is_tag,
    load_enum,
    slots_of,
    state_of,
)


def untag(plain: Any) -> Any:
    """The value of a tagged form.

    Raises `MissingTypeError` for a class that the program has not imported, `CorruptEntryError` for
    what is no tagged form, and whatever else comes of a hostile one.
    """
    kind = type(plain)
    if kind is list:
        return [untag(item) for item in plain]
    if kind is dict:
        if len(plain) == 1 and is_tag(plain):
            ((tag, inner),) = plain.items()
            return _build(tag, inner)
        return {key: untag(item) for key, item in plain.items()}
    if kind in PACKED or kind is float:
        return plain
    raise CorruptEntryError(f"a {kind.__qualname__} where none belongs")


def _build(tag: str, inner: Any) -> Any:
    if loader := LOADERS.get(tag):
        return loader(inner)
    if builder := _BUILDERS.get(tag):
        return builder(inner)
    raise CorruptEntryError(f"an unknown tag {tag!r}")


def _class(name: Any, fits: Callable[[type], bool]) -> Any:
    if not isinstance(name, str):
        raise CorruptEntryError("a class without a name")
    cls = find(name)
    # An instance with a state that a stranger chose would run it as soon as it goes.
    if hasattr(cls, "__del__") or not fits(cls):
        raise CorruptEntryError(f"{name} is not a class of the stored sort")
    return cls


def _load_enum(inner: Any) -> Any:
    name, members, *value = inner
    member = load_enum(_class(name, lambda cls: Enum in cls.__mro__), members)
    if value and (len(value) > 1 or not _alike(untag(value[0]), member._value_)):
        raise CorruptEntryError(f"{name} has another value for {members} now")
    return member


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are the same; objects are asked for nothing but their state."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in LEAVES or kind in PACKED or kind in (float, set, frozenset):
        return bool(one == other) or repr(one) == repr(other)  # NaN
    if isinstance(one, dict):
        return _alike(list(dict.items(one)), list(dict.items(other)))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one is other if isinstance(one, Enum) else _alike(state_of(one), state_of(other))


def _load_namedtuple(inner: Any) -> Any:
    name, items, *state = inner
    cls = _class(name, lambda cls: tuple in cls.__mro__ and has(cls, "_fields"))
    if len(items) != len(cls._fields) or len(state) > 1:
        raise CorruptEntryError(f"{name} has other fields now")
    instance = tuple.__new__(cls, [untag(item) for item in items])
    return _fill(instance, cls, _members(state[0])) if state else instance


def _load_dataclass(inner: Any) -> Any:
    name, stored = inner
    cls = _class(name, lambda cls: has(cls, "__dataclass_fields__") and is_bare(cls))
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
            raise _new_field(name, field.name)
    return _fill(object.__new__(cls), cls, state)


def _new_field(name: str, field: str) -> CorruptEntryError:
    return CorruptEntryError(f"{name} has the new field {field}, which has no default")


def _fill(instance: Any, cls: type, state: dict[str, Any]) -> Any:
    slots = slots_of(cls)
    for attribute, value in state.items():
        if slot := slots.get(attribute):
            slot.__set__(instance, value)
        else:
            object.__getattribute__(instance, "__dict__")[attribute] = value
    return instance


def _members(state: Any) -> dict[str, Any]:
    members = untag(state)
    if type(members) is not dict or any(type(name) is not str for name in members):
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
        "__pydantic_extra__": None if extra is None else _members(extra),
        "__pydantic_fields_set__": {_text(name) for name in fields_set},
        "__pydantic_private__": None if private is None else _members(private),
    }
    # Root models have the slots, and hide two of them.
    model = _fill(object.__new__(cls), cls, state)
    object.__setattr__(model, "__dict__", members)
    return model


def _text(plain: Any) -> str:
    text = untag(plain)
    if type(text) is not str:
        raise CorruptEntryError("a name that is not text")
    return text


def _model_class(spec: Any) -> Any:
    fits = lambda cls: is_model(cls) and is_bare(cls)  # noqa: E731
    if isinstance(spec, str):
        return _class(spec, fits)
    name, arguments = spec
    origin = _class(name, fits)
    if len(arguments) != len(origin.__pydantic_generic_metadata__["parameters"]):
        raise CorruptEntryError(f"{name} takes another number of parameters")
    if found := parametrised(origin, spec):
        return found
    raise MissingTypeError(
        f"the stored value is a {name.replace(':', '.')} of types for which this program has not "
        "made that class: annotate the function with what it returns"
    )


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
    value = codec.from_plain(untag(tagged))
    if type_name(type(value)) != name:
        raise CorruptEntryError(
            f"{plugins.describe(name)} made a {type_name(type(value))} and not a {name}"
        )
    return value


def _load_dict(inner: Any) -> dict[Any, Any]:
    return {untag(key): untag(value) for key, value in inner}


def _load_deque(inner: Any) -> deque[Any]:
    items, most = inner
    if most is not None and len(items) > most:
        raise CorruptEntryError(f"{len(items)} items in a deque of {most}")
    return deque([untag(item) for item in items], most)


def _load_defaultdict(inner: Any) -> defaultdict[Any, Any]:
    factory, pairs = inner
    return defaultdict(factory and _class(factory, is_factory), _load_dict(pairs))


def _load_range(inner: Any) -> range:
    numbers = untag(inner)
    if any(type(number) is not int for number in numbers):
        raise CorruptEntryError("a range of what are no integers")
    return range(*numbers)


def _load_pattern(inner: Any) -> re.Pattern[Any]:
    pattern, flags = untag(inner)
    if type(pattern) not in (str, bytes) or type(flags) is not int:
        raise CorruptEntryError("a pattern that is none")
    if flags & re.DEBUG or is_slow(pattern, flags):
        raise CorruptEntryError("a pattern that is not to be compiled")
    return re.compile(pattern, flags)


_WIDE: Final = re.compile(r"-(?:[^\0-\x7f]|\\[uUN])")
_MOST_OF_A_PATTERN: Final = 10_000
_MOST_WIDE_RANGES: Final = 100


def is_slow(pattern: str | bytes, flags: int) -> bool:
    """Whether a pattern may be slow to compile, for its length or the ranges of characters in it.

    Every character of a range is looked at where case is ignored.
    """
    if len(pattern) > _MOST_OF_A_PATTERN:
        return True
    if isinstance(pattern, bytes):
        return False
    wide = len(_WIDE.findall(pattern))
    ignores_case = flags & re.IGNORECASE or re.search(r"\(\?[a-zA-Z]*i", pattern)
    return wide > (0 if ignores_case else _MOST_WIDE_RANGES)


def _load_address(plain: Any) -> Any:
    name, text = plain
    if name not in ADDRESSES:
        raise CorruptEntryError(f"an address of {name!r}")
    module = sys.modules.get("ipaddress")
    if module is None:
        raise MissingTypeError(f"the stored value is an ipaddress.{name}: import ipaddress")
    return getattr(module, name)(_text(text))


def _load_url(inner: Any) -> Any:
    name, text = inner
    cls = _class(name, lambda cls: core_of(cls) is not None)
    core, text = core_of(cls), _text(text)
    url = core(text)
    if str(url) != text:  # with a path that is empty, and is to be left so
        url = core(text, preserve_empty_path=True)
    if str(url) != text:
        raise CorruptEntryError("a URL that is written in another way")
    return url if cls is core else _fill(object.__new__(cls), cls, {"_url": url})


def _load_attrs(inner: Any) -> Any:
    name, stored = inner
    cls = _class(name, is_attrs)
    state = _members(stored)
    for field in cls.__attrs_attrs__:
        if field.name not in state and field.init:
            state[field.name] = _plain_default(field.default, name, field.name)
    return _fill(object.__new__(cls), cls, state)


def _load_struct(inner: Any) -> Any:
    name, stored = inner
    cls = _class(name, is_struct)
    state = _members(stored)
    defaults = dict(zip(cls.__struct_fields__[::-1], cls.__struct_defaults__[::-1], strict=False))
    fields = {
        field: state.pop(field)
        if field in state
        else _plain_default(defaults.get(field, msgspec.NODEFAULT), name, field)
        for field in cls.__struct_fields__
    }
    return _fill(cls(**fields), cls, state)


def _plain_default(default: Any, name: str, field: str) -> Any:
    """The default of a field that a class has gained since, where no code makes it."""
    sort = type(default).__name__
    if sort == "Factory" and default.factory in (list, dict, set):
        return default.factory()
    if sort in ("Factory", "NoDefaultType", "_Nothing"):
        raise _new_field(name, field)
    return default


def _load_subclass(inner: Any) -> Any:
    name, held, state = inner
    cls = _class(name, lambda cls: builtin_of(cls) is not None)
    base = builtin_of(cls)
    make: Any = base.__new__
    content = untag(held)
    if type(content) is not base:
        raise CorruptEntryError(f"a {type(content).__qualname__} for a {name}")
    if fill := _FILLED.get(base):
        instance = make(cls)
        fill(instance, content)
    else:
        instance = make(cls, content)
    return _fill(instance, cls, _members(state))


_FILLED: Final[dict[type, Callable[[Any, Any], None]]] = {
    list: list.extend,
    dict: dict.update,
    set: set.update,
}


_BUILDERS: Final[dict[str, Callable[[Any], Any]]] = {
    "!tuple": lambda inner: tuple(untag(item) for item in inner),
    "!set": lambda inner: {untag(item) for item in inner},
    "!frozenset": lambda inner: frozenset(untag(item) for item in inner),
    "!dict": _load_dict,
    "!ordered": lambda inner: OrderedDict(_load_dict(inner)),
    "!namespace": lambda inner: SimpleNamespace(**_members(inner)),
    "!enum": _load_enum,
    "!namedtuple": _load_namedtuple,
    "!dataclass": _load_dataclass,
    "!pydantic": _load_model,
    "!deque": _load_deque,
    "!defaultdict": _load_defaultdict,
    "!mappingproxy": lambda inner: MappingProxyType(_load_dict(inner)),
    "!range": _load_range,
    "!pattern": _load_pattern,
    "!ip": _load_address,
    "!url": _load_url,
    "!attrs": _load_attrs,
    "!struct": _load_struct,
    "!subclass": _load_subclass,
    "!array": _load_array,
    "!number": _load_number,
    "!plugin": _load_by_plugin,
}
