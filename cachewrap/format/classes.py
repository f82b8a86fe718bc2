"""Classes by the names that entries have for them: found among what the program has, never made."""

from __future__ import annotations

import functools
import sys
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from types import (
    BuiltinFunctionType,
    GenericAlias,
    MethodDescriptorType,
    ModuleType,
    NoneType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any, Final

import msgspec

from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.plugins import type_name
from cachewrap.request.values import (
    PACKED,
    key_name,
    main_name,
    mend_int,
    mend_str,
    model_base,
    state_of,
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


def is_attrs(cls: type) -> bool:
    """Whether it is a class that attrs has made, whose instances have no other state."""
    return has(cls, "__attrs_attrs__") and is_bare(cls)


def is_struct(cls: type) -> bool:
    """Whether it is a class of msgspec's structs that runs nothing when an instance is made."""
    return type(cls) is type(msgspec.Struct) and not has(cls, "__post_init__")


# What a subclass of a builtin type holds as one, past every method that it has redefined.
BUILTINS: Final[dict[type, Callable[[Any], Any]]] = {
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

_FACTORIES: Final = frozenset(
    {bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset}
    | {Counter, OrderedDict, deque, defaultdict}
)


def is_factory(cls: type) -> bool:
    """Whether it is a class of data, so that it may make the values that a `defaultdict` lacks."""
    return cls in _FACTORIES or (
        is_model(cls) or has(cls, "__dataclass_fields__") or is_attrs(cls) or is_struct(cls)
    )


@functools.lru_cache(maxsize=1024)
def builtin_of(cls: type) -> Any:
    """The builtin type that a class made in Python adds methods or attributes to; None for another.

    Not of named tuples and enums, which have a form of their own.
    """
    own = [base for base in cls.__mro__[:-1] if not _is_made_in_python(base)]
    if len(own) != 1 or own[0] not in BUILTINS or cls in BUILTINS or has(cls, "_fields"):
        return None
    return None if Enum in cls.__mro__ else own[0]


def _is_made_in_python(cls: type) -> bool:
    return not any(
        getattr(member, "__objclass__", None) is cls
        for member in vars(cls).values()
        if type(member) in (WrapperDescriptorType, MethodDescriptorType)
    )


# -- names of parametrised classes -----------------------------------------------------------

_encoder: Final = msgspec.msgpack.Encoder()
_kept: Final[dict[bytes, type]] = {}
_MOST_KEPT: Final = 1024


def generic_spec(cls: type, where: str) -> Any:
    """The spec of a model's class that a generic one was parametrised for, as `spec_of` has it.

    From then on the class is held: pydantic itself forgets one that nothing else holds, and the
    next call could not be given what this one stored.
    """
    spec = spec_of(cls, where)
    _keep(cls, _encoder.encode(spec))
    return spec


def parametrised(origin: Any, spec: Any) -> Any:
    """The class of a spec among those that the program has made of a generic model; None if none.

    No class is made, whatever the spec holds: it is compared with those of classes that are there.
    """
    wanted = _encoder.encode(spec)
    kept = _kept.get(wanted)
    if kept is not None and _is_called(kept, origin, wanted):
        return kept
    for cls in reversed(type.__subclasses__(origin)):
        if _is_called(cls, origin, wanted):
            _keep(cls, wanted)
            return cls
    return None


def _is_called(cls: type, origin: Any, spec: bytes) -> bool:
    if generic_of(cls)[0] is not origin:
        return False
    try:
        return _encoder.encode(spec_of(cls, "")) == spec
    except UnsupportedTypeError:
        return False


def _keep(cls: type, spec: bytes) -> None:
    _kept.pop(spec, None)
    _kept[spec] = cls
    if len(_kept) > _MOST_KEPT:
        _kept.pop(next(iter(_kept)), None)


def generic_of(form: Any) -> tuple[Any, tuple[Any, ...]]:
    """The generic model that a class was made of, and with what; None and nothing for another."""
    if issubclass(type(form), type):
        made = type.__getattribute__(form, "__dict__").get("__pydantic_generic_metadata__")
        if made and made["origin"] is not None:
            return made["origin"], made["args"]
    return None, ()


def spec_of(form: Any, where: str) -> Any:
    """What a class or the form of a type is called in an entry: a name, or a list of such.

    Raises `UnsupportedTypeError` for what has no name by which another program could tell it.
    """
    if form is None or form is NoneType:
        return "None"
    if form is Ellipsis:
        return "..."
    origin, args = generic_of(form)
    if origin is not None:
        return [name_of(origin, where), [spec_of(arg, where) for arg in args]]
    origin, args = typing.get_origin(form), typing.get_args(form)
    if origin is None:
        return name_of(form, where) if issubclass(type(form), type) else _refuse(form, where)
    if origin is typing.Literal:
        return ["Literal", [_constant(arg, where) for arg in args]]
    if origin is typing.Annotated:
        notes = [_constant(note, where) for note in args[1:]]
        return ["Annotated", [spec_of(args[0], where), *notes]]
    if origin is typing.Union or origin is UnionType:
        return ["Union", [spec_of(arg, where) for arg in args]]
    # `list[int]` and `typing.List[int]` make two classes.
    word = "alias" if type(form) is GenericAlias else f"typing.{getattr(form, '_name', None)}"
    return [word, [spec_of(part, where) for part in (origin, *args)]]


def _constant(value: Any, where: str) -> Any:
    kind: Any = type(value)
    if kind in PACKED or kind is float:
        return mend_int(value) if kind is int else mend_str(value) if kind is str else value
    if kind is list or kind is tuple:
        return [kind.__name__, *(_constant(item, where) for item in value)]
    if isinstance(value, Enum):
        return [name_of(kind, where), value._name_]
    if has(kind, "_attributes_set"):  # what pydantic's `Field` makes
        # Its bounds are in the metadata, and in some versions of pydantic in both.
        given = value._attributes_set.items()
        state = {name: held for name, held in given if name not in value.metadata_lookup}
        state["metadata"] = value.metadata
    elif has(kind, "__dataclass_fields__"):  # `Gt`, `MaxLen` and their like
        state = state_of(value)
    else:
        return spec_of(value, where)
    return [name_of(kind, where), [[name, _constant(state[name], where)] for name in sorted(state)]]


def _refuse(form: Any, where: str) -> Any:
    raise UnsupportedTypeError(f"{where} is a generic model of {form!r}, which no codec takes")
