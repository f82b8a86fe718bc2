"""Values from their tagged form: of objects the state is set, and nothing of theirs is run."""

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

from cachewrap import plugins
from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.plugins import type_name
from cachewrap.request.values import (
    LOADERS,
    PACKED,
    is_tag,
    key_name,
    load_enum,
    main_name,
    model_base,
    slots_of,
)


def find(name: str) -> type:
    """The class of a name, by looks into namespaces alone: nothing is imported or run.

    Raises `MissingTypeError` where the program has none, `CorruptEntryError` for what is no class.
    """
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


def name_of(kind: type, where: str) -> str:
    """The name by which `find` finds a class. Raises `UnsupportedTypeError` if it does not."""
    name = key_name(kind)
    try:
        found: object = find(name)
    except MissingTypeError:
        found = None
    if hasattr(kind, "__del__"):
        raise UnsupportedTypeError(f"{where} is a {type_name(kind)}, whose __del__ is not to run")
    if found is not kind:
        raise UnsupportedTypeError(
            f"{where} is a {type_name(kind)}, which could not be found again under that name: "
            "define the class at the top level of a module"
        )
    return name


@functools.lru_cache(maxsize=1024)
def is_bare(kind: type) -> bool:
    """Whether an instance is made by `object` alone, so that its attributes are its whole state."""
    return not any(
        type(vars(base).get("__new__")) is BuiltinFunctionType for base in kind.__mro__[:-1]
    )


def has(cls: type, name: str) -> bool:
    """Whether the class has an attribute; it is not run, as `hasattr` might."""
    return any(name in vars(base) for base in cls.__mro__)


def is_model(cls: type) -> bool:
    """Whether it is a class of pydantic's models, in a program that has imported pydantic."""
    return model_base() in cls.__mro__


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
    name, members = inner
    return load_enum(_class(name, lambda cls: Enum in cls.__mro__), members)


def _load_namedtuple(inner: Any) -> Any:
    name, items = inner
    cls = _class(name, lambda cls: tuple in cls.__mro__ and has(cls, "_fields"))
    if len(items) != len(cls._fields):
        raise CorruptEntryError(f"{name} has other fields now")
    return tuple.__new__(cls, [untag(item) for item in items])


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
    members = untag(state)
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
    text = untag(plain)
    if not isinstance(text, str):
        raise CorruptEntryError("a name that is not text")
    return text


def _model_class(spec: Any) -> Any:
    if isinstance(spec, str):
        return _class(spec, lambda cls: is_model(cls) and is_bare(cls))
    name, arguments = spec
    origin = _class(name, lambda cls: is_model(cls) and is_bare(cls))
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
    value = codec.from_plain(untag(tagged))
    if type_name(type(value)) != name:
        raise CorruptEntryError(
            f"{plugins.describe(name)} made a {type_name(type(value))} and not a {name}"
        )
    return value


def _load_dict(inner: Any) -> dict[Any, Any]:
    return {untag(key): untag(value) for key, value in inner}


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
    "!array": _load_array,
    "!number": _load_number,
    "!plugin": _load_by_plugin,
}
