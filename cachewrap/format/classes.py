"""Classes by the names that entries have for them: found among what the program has, never made.

They are judged by what `type` itself knows of them: their metaclasses are never asked, nor are they
hashed or compared with ``==``.
"""

from __future__ import annotations

import sys
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from enum import Enum, EnumType
from types import (
    BuiltinFunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MethodDescriptorType,
    NoneType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.request.attributes import derives, static
from cachewrap.request.objects import BUILTINS
from cachewrap.request.values import (
    LEAVES,
    PACKED,
    by_identity,
    dict_of,
    importable_name,
    main_name,
    mend_int,
    mend_str,
    model_base,
    module_of,
    mro_of,
    namespace,
    slots_of,
)

Look: TypeAlias = tuple[Mapping[str, Any], str, Any]
"""A look into a namespace: for which name, and what is there."""


class Found:
    """A class, and where it was found.

    Attributes:
        cls: the class.
        own: what it has itself, as it is now.
        model: how an instance of a model is made, where one was.
        data: how one of a dataclass is.
        looks: in what it is found, under which names, and what is there.
    """

    __slots__ = ("cls", "data", "looks", "model", "own")

    def __init__(self, cls: type, name: str, module: Any, steps: list[Look]) -> None:
        self.cls = cls
        self.own: Mapping[str, Any] = dict_of(cls)
        self.model: Any = None
        self.data: Any = None
        self.looks: list[Look] = [(sys.modules, name, module), *steps]

    def holds(self) -> bool:
        """Whether the class is still found there, where the program's own module is the same."""
        # Two looks, mostly: a generator would cost as much again.
        for space, part, held in self.looks:  # noqa: SIM110
            if space.get(part) is not held:
                return False
        return True


found: Final[dict[str, Found]] = {}
"""The classes that were found, by their names in entries: `settle` first, and see that it holds."""

_MOST_FOUND: Final = 1024


# The program's own module, what it holds, and what tells how others would call it.
_main: tuple[Any, Mapping[str, Any], Any, Any] = (None, {}, None, None)


def settle() -> object:
    """Forget what was found where the program's own module is another, or is called otherwise.

    Gives the same object as long as nothing was forgotten.
    """
    global _main
    main, space, spec, file = _main
    if (
        sys.modules.get("__main__") is main
        and space.get("__spec__") is spec
        and space.get("__file__") is file
    ):
        return _main
    found.clear()
    main, space = sys.modules.get("__main__"), namespace("__main__")
    _main = main, space, space.get("__spec__"), space.get("__file__")
    return _main


def find(name: str) -> type:
    """The class of a name, by looks into namespaces alone: nothing is imported or run.

    Raises `MissingTypeError` where the program has none, `CorruptEntryError` for what is no class.
    """
    return place(name).cls


def place(name: str) -> Found:
    """The class of a name, and where it was found. Raises as `find` does."""
    settle()
    known = found.get(name)
    return known if known is not None and known.holds() else _look(name)


def _look(name: str) -> Found:
    module, _, path = name.partition(":")
    home = "__main__" if module == main_name() else module
    origin = sys.modules.get(home)
    space: Any = namespace(home)
    held: Any = None
    steps: list[Look] = []
    for part in path.split("."):
        if space is None or part not in space:
            raise MissingTypeError(
                f"the stored value is a {name.replace(':', '.')}, which this program has not "
                f"imported: import {module} before the call"
            )
        held = space[part]
        steps.append((space, part, held))
        space = dict_of(held) if issubclass(type(held), type) else None
    if space is None:
        raise CorruptEntryError(f"{name} is not a class")
    if len(found) >= _MOST_FOUND:
        found.clear()
    found[name] = known = Found(held, home, origin, steps)
    return known


def name_of(kind: type, where: str) -> str:
    """The name by which `find` finds a class. Raises `UnsupportedTypeError` if it does not."""
    module = module_of(kind)
    if module in ("__main__", "__mp_main__"):  # the latter in a spawned child
        module = importable_name(module)
    name = f"{module or 'builtins'}:{_qualname_of(kind)}"
    try:
        found: object = find(name)
    except MissingTypeError:
        found = None
    if is_mourned(kind):
        raise UnsupportedTypeError(f"{where} is a {called(kind)}, whose __del__ is not to run")
    if found is not kind:
        raise UnsupportedTypeError(
            f"{where} is a {called(kind)}, which could not be found again under that name: "
            "define the class at the top level of a module"
        )
    return name


_qualname_of: Final[Any] = vars(type)["__qualname__"].__get__


def called(kind: type) -> str:
    """The full name of a class, for messages."""
    return f"{module_of(kind)}.{_qualname_of(kind)}"


def among(kind: type, kinds: Iterable[type]) -> bool:
    """Whether it is one of these classes, which is asked of none of them."""
    return any(kind is one for one in kinds)


@by_identity
def is_bare(kind: type) -> bool:
    """Whether an instance is made by `object` alone, so that its attributes are its whole state."""
    return not any(
        type(dict_of(base).get("__new__")) is BuiltinFunctionType for base in mro_of(kind)[:-1]
    )


@by_identity
def attributes_of(cls: type) -> Any:
    """The descriptor of its instances' dictionaries, whatever the class has put in its place.

    None where they have none.
    """
    for base in mro_of(cls):
        if type(found := dict_of(base).get("__dict__")) is GetSetDescriptorType:
            return found
    return None


def attributes(value: Any) -> dict[str, Any]:
    """The dictionary of an object, which runs nothing. Raises `AttributeError` if it has none."""
    found = attributes_of(type(value))
    if found is None:
        raise AttributeError(f"a {called(type(value))} has no dictionary")
    held: dict[str, Any] = found.__get__(value)
    return held


def held_by(value: Any) -> dict[str, Any]:
    """The attributes of an object, in its dictionary and its slots, which runs nothing."""
    kind: Any = type(value)
    state = dict(attributes(value)) if attributes_of(kind) else {}
    for name, slot in slots_of(kind).items():
        try:
            state[name] = slot.__get__(value)
        except AttributeError:  # the slot is empty
            continue
    return state


class ModelFilling:
    """The way in which instances of a model are filled, root ones too, which hide two of the slots.

    Attributes:
        told: names of the fields that were set in the last instance, as they were stored and as the
            set of them.
    """

    __slots__ = ("cls", "extra", "own", "private", "put", "set_fields", "told")

    def __init__(self, cls: type) -> None:
        slots = slots_of(cls)
        self.cls, self.own = cls, dict_of(cls)
        self.put = attributes_of(cls).__set__
        self.extra = slots["__pydantic_extra__"].__set__
        self.set_fields = slots["__pydantic_fields_set__"].__set__
        self.private = slots["__pydantic_private__"].__set__
        self.told: tuple[list[Any], set[str]] = [], set()

    def tell(self, given: list[Any]) -> set[str]:
        """The set of names that are texts; it is to be copied."""
        names = set(given)
        if len(given) <= _MOST_TOLD:
            self.told = given, names
        return names


_MOST_TOLD: Final = 256


model_filling: Final = by_identity(ModelFilling)


def has(cls: type, name: str) -> bool:
    """Whether the class has an attribute; it is not run, as `hasattr` might."""
    return any(name in dict_of(base) for base in mro_of(cls))


@by_identity
def is_mourned(cls: type) -> bool:
    """Whether its instances would run code when they go."""
    return has(cls, "__del__")


@by_identity
def is_dataclass(cls: type) -> bool:
    """Whether it is a dataclass whose instances have no other state than their attributes."""
    return has(cls, "__dataclass_fields__") and is_bare(cls)


@by_identity
def is_model(cls: type) -> bool:
    """Whether it is a class of pydantic's models, in a program that has imported pydantic."""
    return derives(cls, model_base())


@by_identity
def is_attrs(cls: type) -> bool:
    """Whether it is a class that attrs has made, whose instances have no other state."""
    return has(cls, "__attrs_attrs__") and is_bare(cls)


def is_struct(cls: type) -> bool:
    """Whether it is a class of msgspec's structs that runs nothing when an instance is made."""
    return type(cls) is type(msgspec.Struct) and not has(cls, "__post_init__")


# What a subclass of a builtin type holds as one, of those that can be filled or made with it.
HELD: Final = {
    kind: BUILTINS[kind] for kind in (str, bytes, int, float, dict, list, tuple, set, frozenset)
}

_FACTORIES: Final = frozenset(
    {bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset}
    | {Counter, OrderedDict, deque, defaultdict}
)


def is_factory(cls: type) -> bool:
    """Whether it is a class of data, so that it may make the values that a `defaultdict` lacks."""
    return among(cls, _FACTORIES) or (
        is_model(cls) or has(cls, "__dataclass_fields__") or is_attrs(cls) or is_struct(cls)
    )


@by_identity
def builtin_of(cls: type) -> Any:
    """The builtin type that a class made in Python adds methods or attributes to; None for another.

    Not of named tuples and enums, which have a form of their own.
    """
    own = [base for base in mro_of(cls)[:-1] if not _is_made_in_python(base)]
    if len(own) != 1 or not among(own[0], HELD) or among(cls, HELD) or has(cls, "_fields"):
        return None
    return None if derives(cls, Enum) else own[0]


def _is_made_in_python(cls: type) -> bool:
    return not any(
        member.__objclass__ is cls
        for member in dict_of(cls).values()
        if type(member) is WrapperDescriptorType or type(member) is MethodDescriptorType
    )


_HOOKS: Final = ("__getattr__", "__getattribute__", "__setattr__", "_iter_member_by_value_")


@by_identity
def makes_flags(cls: Any) -> bool:
    """Whether `enum` itself makes a combination of these flags, and no code of theirs runs."""
    own = [one for one in mro_of(cls) if module_of(one) not in ("enum", "builtins")]
    return type(cls) is EnumType and not any(name in dict_of(one) for one in own for name in _HOOKS)


def default_of(default: Any, factory: Any, name: str, field: str) -> Any:
    """What a field has that a class has gained since, where no code makes it.

    That is a plain value, which cannot be changed, or an empty list, dict or set.
    """
    kind = factory if factory is not None else type(default)
    if among(kind, (list, dict, set)) and (factory is not None or not default):
        return kind()
    if factory is None and _is_plain_default(default):
        return default
    raise CorruptEntryError(f"{name} has the new field {field}, which has no plain default")


_PLAIN: Final = (NoneType, bool, int, float, complex, str, bytes, msgspec.UnsetType)


def _is_plain_default(value: Any) -> bool:
    kind = type(value)
    if kind is tuple:
        return all(map(_is_plain_default, value))
    return among(kind, _PLAIN) or (derives(kind, Enum) and value is not held_in("attr", "NOTHING"))


def held_in(module: str, name: str) -> Any:
    """What a module has under a name, where it is imported; None for nothing."""
    return namespace(module).get(name)


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same; objects are asked for nothing but their state."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is set or kind is frozenset:
        return bool(one == other)
    if kind is float or among(kind, PACKED) or among(kind, LEAVES):
        return bool(one == other) or repr(one) == repr(other)  # NaN
    if derives(kind, dict):
        return alike(list(dict.items(one)), list(dict.items(other)))
    if derives(kind, list) or derives(kind, tuple):
        items = list if derives(kind, list) else tuple
        count = items.__len__(one)
        return count == items.__len__(other) and all(
            map(alike, items.__iter__(one), items.__iter__(other))
        )
    return one is other if derives(kind, Enum) else alike(held_by(one), held_by(other))


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
        made = dict_of(form).get("__pydantic_generic_metadata__")
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
    if issubclass(type(form), type):
        return name_of(form, where)
    origin, args = typing.get_origin(form), typing.get_args(form)
    if origin is None:
        return _refuse(form, where)
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
    if kind is float or among(kind, PACKED):
        return mend_int(value) if kind is int else mend_str(value) if kind is str else value
    if kind is list or kind is tuple:
        return [kind.__name__, *(_constant(item, where) for item in value)]
    if derives(kind, Enum):
        return [name_of(kind, where), attributes(value)["_name_"]]
    if has(kind, "_attributes_set"):  # what pydantic's `Field` makes
        # Its bounds are in the metadata, and in some versions of pydantic in both.
        own, bounds = held_by(value), static(kind, "metadata_lookup")
        given = own["_attributes_set"].items()
        state = {name: held for name, held in given if name not in bounds}
        state["metadata"] = own["metadata"]
    elif has(kind, "__dataclass_fields__"):  # `Gt`, `MaxLen` and their like
        state = held_by(value)
    else:
        return spec_of(value, where)
    return [name_of(kind, where), [[name, _constant(state[name], where)] for name in sorted(state)]]


def _refuse(form: Any, where: str) -> Any:
    raise UnsupportedTypeError(f"{where} is a generic model of {form!r}, which no codec takes")
