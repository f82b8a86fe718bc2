"""Values from their tagged form: of objects the state is set, and nothing of theirs is run."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum, Flag
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

import msgspec

from cachewrap import plugins
from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.format.classes import (
    Found,
    ModelFilling,
    alike,
    attributes,
    attributes_of,
    builtin_of,
    called,
    default_of,
    found,
    has,
    held_by,
    held_in,
    is_attrs,
    is_bare,
    is_dataclass,
    is_factory,
    is_model,
    is_mourned,
    is_struct,
    makes_flags,
    model_filling,
    parametrised,
    place,
)
from cachewrap.format.tagging import AS_IT_IS, HEAVY, MANY, check_hashes, is_flat
from cachewrap.plugins import type_name
from cachewrap.request.attributes import derives, model_fields, static
from cachewrap.request.values import (
    ADDRESSES,
    LOADERS,
    core_of,
    is_tag,
    namespace,
    slots_of,
)


def untag(plain: Any) -> Any:
    """The value of a tagged form, which is fresh: what is plain in it is used as it is.

    Raises `MissingTypeError` for a class that the program has not imported, `CorruptEntryError` for
    what is no tagged form, `UnweighedError` for patterns and fractions that
    `weighed` has not made, and whatever else comes of a hostile one.
    """
    kind = type(plain)
    if kind is dict:
        if len(plain) == 1:
            ((tag, inner),) = plain.items()
            if (build := _BUILDERS.get(tag)) is not None:
                return build(inner)
            if is_tag(plain):
                raise CorruptEntryError(f"an unknown tag {tag!r}")
        for key, item in plain.items():
            kind = type(item)
            if kind is not str and kind not in AS_IT_IS:
                plain[key] = untag(item)
        return plain
    if kind is list:
        if len(plain) < MANY or not is_flat(plain):
            for index, item in enumerate(plain):
                kind = type(item)
                if kind is not str and kind not in AS_IT_IS:
                    plain[index] = untag(item)
        return plain
    if kind in AS_IT_IS:
        return plain
    raise CorruptEntryError(f"a {kind.__qualname__} where none belongs")


class UnweighedError(Exception):
    """A pattern or a fraction in a form that has not been weighed."""


def _leave(inner: Any) -> Any:
    raise UnweighedError


def _class(name: Any, fits: Callable[[type], bool]) -> Any:
    return _known(name, fits).cls


def _known(name: Any, fits: Callable[[type], bool]) -> Found:
    if not isinstance(name, str):
        raise CorruptEntryError("a class without a name")
    known = place(name)
    # An instance with a state that a stranger chose would run it as soon as it goes.
    if is_mourned(known.cls) or not fits(known.cls):
        raise CorruptEntryError(f"{name} is not a class of the stored sort")
    return known


def _load_enum(inner: Any) -> Any:
    name, members, *value = inner
    member = _member(_class(name, lambda cls: derives(cls, Enum)), members)
    if value and (len(value) > 1 or not alike(untag(value[0]), attributes(member)["_value_"])):
        raise CorruptEntryError(f"{name} has another value for {members} now")
    return member


def _member(cls: Any, plain: Any) -> Any:
    """The member of a name, or the combination of a list of names."""
    known = static(cls, "_member_map_")
    if type(plain) is not list or not derives(cls, Flag) or not known:
        return known[_text(plain)]
    bits = 0
    for name in plain:
        bits |= attributes(known[_text(name)])["_value_"]
    found = static(cls, "_value2member_map_").get(bits)
    if found is None:
        if not makes_flags(cls):
            raise CorruptEntryError("a combination of flags that the program has not made")
        found = _combination(cls, bits)
    return found


_combination: Final[Callable[[type[Enum], int], Enum]] = vars(Flag)["_missing_"].__func__


def _load_namedtuple(inner: Any) -> Any:
    name, items, *state = inner
    cls = _class(name, lambda cls: derives(cls, tuple) and has(cls, "_fields"))
    if len(items) != len(static(cls, "_fields")) or len(state) > 1:
        raise CorruptEntryError(f"{name} has other fields now")
    instance = tuple.__new__(cls, [untag(item) for item in items])
    return _fill(instance, cls, _members(state[0])) if state else instance


class _DataFilling:
    """The way in which instances of a dataclass are filled.

    Attributes:
        put: gives an instance its dictionary; None where some of its state is in slots.
    """

    __slots__ = ("cls", "put")

    def __init__(self, cls: type) -> None:
        self.cls = cls
        held = attributes_of(cls)
        self.put = None if held is None or slots_of(cls) else held.__set__


def _load_dataclass(inner: Any) -> Any:
    name, state = inner
    known = found.get(name) if type(name) is str else None
    if known is None or known.data is None or not known.holds():
        known = _known(name, is_dataclass)
        known.data = _DataFilling(known.cls)
    fill = known.data
    fields = known.own.get("__dataclass_fields__")
    if fields is None:
        fields = static(fill.cls, "__dataclass_fields__")
    if (
        type(state) is not dict
        or state.keys() != fields.keys()
        or (len(state) == 1 and is_tag(state))
    ):
        state = _grown(name, fields, _members(state))
    else:
        for key, item in state.items():
            kind = type(item)
            if kind is not str and kind not in AS_IT_IS:
                state[key] = untag(item)
    instance = object.__new__(fill.cls)
    if fill.put is None:
        return _fill(instance, fill.cls, state)
    fill.put(instance, state)
    return instance


def _grown(name: str, fields: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a dataclass, with what its class has gained since."""
    missing = dataclasses.MISSING
    for field in fields.values():
        if field.name in state or field._field_type is not _FIELD:
            continue
        made = field.default_factory is not missing
        if made or field.init or field.default is not missing:
            factory = field.default_factory if made else None
            state[field.name] = default_of(field.default, factory, name, field.name)
    return state


_FIELD: Final = vars(dataclasses)["_FIELD"]  # and no `ClassVar` or `InitVar`


def _fill(instance: Any, cls: type, state: dict[str, Any]) -> Any:
    slots = slots_of(cls)
    held: dict[str, Any] | None = None
    for attribute, value in state.items():
        if slot := slots.get(attribute):
            slot.__set__(instance, value)
            continue
        if held is None:
            held = attributes(instance)
        held[attribute] = value
    return instance


def _members(state: Any) -> dict[str, Any]:
    members = untag(state)
    if type(members) is not dict or any(type(name) is not str for name in members):
        raise CorruptEntryError("the state of an object is not a dictionary of names")
    return members


def _is_bare_model(cls: type) -> bool:
    return is_model(cls) and is_bare(cls)


def _load_model(inner: Any) -> Any:
    spec, members, extra, given, private = inner
    known = found.get(spec) if type(spec) is str else None
    if known is not None and known.model is not None and known.holds():
        model = known.model
    elif isinstance(spec, str):
        known = _known(spec, _is_bare_model)
        model = known.model = ModelFilling(known.cls)
    else:
        model = model_filling(_generic_class(spec))
    fields = model.own.get("__pydantic_fields__")
    if (
        fields is None
        or type(members) is not dict
        or members.keys() != fields.keys()
        or (len(members) == 1 and is_tag(members))
    ):
        members = _with_defaults(model.cls, _members(members))
    else:
        for key, item in members.items():
            kind = type(item)
            if kind is not str and kind not in AS_IT_IS:
                members[key] = untag(item)
    if extra or (extra is not None and type(extra) is not dict):
        extra = _members(extra)
    if private is not None:
        private = _members(private)
    names, fields_set = model.told
    if given != names:
        fields_set = model.tell([_text(name) for name in given])
    instance = object.__new__(model.cls)
    model.put(instance, members)
    model.extra(instance, extra)
    model.set_fields(instance, fields_set.copy())
    model.private(instance, private)
    return instance


def _with_defaults(cls: Any, members: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model, with those that its class has gained since.

    A model without a field that it should have is left as it was.
    """
    for name, field in model_fields(cls).items():
        if name not in members:
            own = held_by(field)
            default, factory = own["default"], own["default_factory"]
            if default is not held_in("pydantic_core", "PydanticUndefined") or factory is not None:
                members[name] = default_of(default, factory, called(cls), name)
    return members


def _text(plain: Any) -> str:
    text = untag(plain)
    if type(text) is not str:
        raise CorruptEntryError("a name that is not text")
    return text


def _generic_class(spec: Any) -> Any:
    name, arguments = spec
    origin = _class(name, _is_bare_model)
    made = static(origin, "__pydantic_generic_metadata__")
    if len(arguments) != len(made["parameters"]):
        raise CorruptEntryError(f"{name} takes another number of parameters")
    if found := parametrised(origin, spec):
        return found
    raise MissingTypeError(
        f"the stored value is a {name.replace(':', '.')} of types for which this program has not "
        "made that class: annotate the function with what it returns"
    )


_MOST_SIDES: Final = 64
_DTYPE: Final = re.compile(r"[<>|=]?[biufcmMSU]\d+(\[\w+\])?")


def _load_array(inner: Any) -> Any:
    name, shape, data = inner
    if not _DTYPE.fullmatch(name):
        raise CorruptEntryError(f"an array of {name!r}")
    numpy = namespace("numpy")
    if "ndarray" not in numpy:
        raise MissingTypeError("the stored value is a numpy array: import numpy before the call")
    dtype = numpy["dtype"](name)
    if (
        len(shape) > _MOST_SIDES
        or any(type(side) is not int or side < 0 for side in shape)
        or (math.prod(shape) * dtype.itemsize != len(data) or (shape and not dtype.itemsize))
    ):
        raise CorruptEntryError(f"{len(data)} bytes for an array of {shape} {name}")
    array = numpy["ndarray"](shape, dtype, data).copy()
    if dtype.kind == "U" and data:
        # numpy looks at the characters only when they are read.
        codes = numpy["ndarray"](len(data) // 4, numpy["dtype"](f"{dtype.byteorder}u4"), data)
        if codes.max() > sys.maxunicode:
            raise CorruptEntryError("an array of characters that are none")
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


def _load_tuple(inner: Any) -> tuple[Any, ...]:
    return tuple(untag(inner) if type(inner) is list else map(untag, inner))


def _load_dict(inner: Any) -> dict[Any, Any]:
    pairs = [(untag(key), untag(value)) for key, value in inner]
    check_hashes([key for key, _ in pairs])
    return dict(pairs)


def _load_set(inner: Any) -> set[Any]:
    members = [untag(item) for item in inner]
    check_hashes(members)
    return set(members)


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


def _load_address(plain: Any) -> Any:
    name, text = plain
    if name not in ADDRESSES:
        raise CorruptEntryError(f"an address of {name!r}")
    module = namespace("ipaddress")
    if name not in module:
        raise MissingTypeError(f"the stored value is an ipaddress.{name}: import ipaddress")
    return module[name](_text(text))


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
    for field in static(cls, "__attrs_attrs__"):
        if field.name not in state and field.init:
            made = type(field.default) is held_in("attr", "Factory")
            factory = field.default.factory if made else None
            state[field.name] = default_of(field.default, factory, name, field.name)
    return _fill(object.__new__(cls), cls, state)


def _load_struct(inner: Any) -> Any:
    name, stored = inner
    cls = _class(name, is_struct)
    state = _members(stored)
    defaults = dict(zip(cls.__struct_fields__[::-1], cls.__struct_defaults__[::-1], strict=False))
    fields = {}
    for field in cls.__struct_fields__:
        if field in state:
            fields[field] = state.pop(field)
            continue
        default = defaults.get(field, msgspec.NODEFAULT)
        factory = default.factory if type(default) is _Factory else None
        fields[field] = default_of(default, factory, name, field)
    return _fill(cls(**fields), cls, state)


_Factory: Final = type(msgspec.defstruct("_One", [("x", list[int], [])]).__struct_defaults__[0])


def _load_subclass(inner: Any) -> Any:
    name, held, state = inner
    cls = _class(name, lambda cls: builtin_of(cls) is not None)
    base = builtin_of(cls)
    make: Any = base.__new__
    content = untag(held)
    if type(content) is not base:
        raise CorruptEntryError(f"a {called(type(content))} for a {name}")
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
    **LOADERS,
    **dict.fromkeys(HEAVY, _leave),
    "!tuple": _load_tuple,
    "!set": _load_set,
    "!frozenset": lambda inner: frozenset(_load_set(inner)),
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
    "!ip": _load_address,
    "!url": _load_url,
    "!attrs": _load_attrs,
    "!struct": _load_struct,
    "!subclass": _load_subclass,
    "!array": _load_array,
    "!number": _load_number,
    "!plugin": _load_by_plugin,
}
