"""Values from their tagged form: of objects the state is set, and nothing of theirs is run."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from enum import Enum, Flag
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

import msgspec

from cachewrap import plugins
from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.format.classes import (
    among,
    attributes,
    builtin_of,
    called,
    default_of,
    find,
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
    parametrised,
    set_attributes,
)
from cachewrap.plugins import type_name
from cachewrap.request.attributes import derives, model_fields, static
from cachewrap.request.values import (
    ADDRESSES,
    LEAVES,
    LOADERS,
    PACKED,
    core_of,
    is_tag,
    namespace,
    slots_of,
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
    if is_mourned(cls) or not fits(cls):
        raise CorruptEntryError(f"{name} is not a class of the stored sort")
    return cls


def _load_enum(inner: Any) -> Any:
    name, members, *value = inner
    member = _member(_class(name, lambda cls: derives(cls, Enum)), members)
    if value and (len(value) > 1 or not _alike(untag(value[0]), attributes(member)["_value_"])):
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


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are the same; objects are asked for nothing but their state."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is set or kind is frozenset:
        return bool(one == other)
    if kind is float or among(kind, PACKED) or among(kind, LEAVES):
        return bool(one == other) or repr(one) == repr(other)  # NaN
    if derives(kind, dict):
        return _alike(list(dict.items(one)), list(dict.items(other)))
    if derives(kind, list) or derives(kind, tuple):
        items = list if derives(kind, list) else tuple
        count = items.__len__(one)
        return count == items.__len__(other) and all(
            map(_alike, items.__iter__(one), items.__iter__(other))
        )
    return one is other if derives(kind, Enum) else _alike(held_by(one), held_by(other))


def _load_namedtuple(inner: Any) -> Any:
    name, items, *state = inner
    cls = _class(name, lambda cls: derives(cls, tuple) and has(cls, "_fields"))
    if len(items) != len(static(cls, "_fields")) or len(state) > 1:
        raise CorruptEntryError(f"{name} has other fields now")
    instance = tuple.__new__(cls, [untag(item) for item in items])
    return _fill(instance, cls, _members(state[0])) if state else instance


def _load_dataclass(inner: Any) -> Any:
    name, stored = inner
    cls = _class(name, is_dataclass)
    state = _members(stored)
    missing = dataclasses.MISSING
    for field in static(cls, "__dataclass_fields__").values():
        if field.name in state or field._field_type is not _FIELD:
            continue
        # The class has gained the field since.
        made = field.default_factory is not missing
        if made or field.init or field.default is not missing:
            factory = field.default_factory if made else None
            state[field.name] = default_of(field.default, factory, name, field.name)
    return _fill(object.__new__(cls), cls, state)


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


def _load_model(inner: Any) -> Any:
    spec, stored, extra, fields_set, private = inner
    cls = _model_class(spec)
    members = _members(stored)
    for name, field in model_fields(cls).items():
        # As for a dataclass; a model without a field that it should have is left as it was.
        if name not in members:
            own = held_by(field)
            default, factory = own["default"], own["default_factory"]
            if default is not held_in("pydantic_core", "PydanticUndefined") or factory is not None:
                members[name] = default_of(default, factory, called(cls), name)
    state = {
        "__pydantic_extra__": None if extra is None else _members(extra),
        "__pydantic_fields_set__": {_text(name) for name in fields_set},
        "__pydantic_private__": None if private is None else _members(private),
    }
    # Root models have the slots, and hide two of them.
    model = _fill(object.__new__(cls), cls, state)
    set_attributes(model, members)
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
    if dtype.kind == "U":
        # numpy looks at the characters only when they are read, here without the lists of its sides
        array.ravel().tolist()
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
    pairs = [(untag(key), untag(value)) for key, value in inner]
    check_hashes([key for key, _ in pairs])
    return dict(pairs)


def _load_set(inner: Any) -> set[Any]:
    members = [untag(item) for item in inner]
    check_hashes(members)
    return set(members)


MOST_OF_ONE_HASH: Final = 32
"""Members of a set that may have one hash: each is compared with all others of it."""


def check_hashes(members: Collection[Any]) -> None:
    """Raise `CorruptEntryError` where so many members of a set have one hash that it is slow.

    The hashes of text and bytes are others in each process, so that nobody can choose them.
    """
    if len(members) <= MOST_OF_ONE_HASH:
        return
    hashes = [hash(one) for one in members if type(one) is not str and type(one) is not bytes]
    if max(Counter(hashes).values(), default=0) > MOST_OF_ONE_HASH:
        raise CorruptEntryError(
            f"more than {MOST_OF_ONE_HASH} members of a set, or keys of a dictionary, have one hash"
        )


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
    """Whether a pattern may be slow to compile, for its length or its ranges of characters."""
    return _slowness(pattern, flags) > 1


def _slowness(pattern: str | bytes, flags: int) -> float:
    """How slow a pattern may be to compile, of what a single one may be: some 0.3 seconds.

    Every character of a range is looked at where case is ignored.
    """
    length = len(pattern) / _MOST_OF_A_PATTERN
    if isinstance(pattern, bytes):
        return length
    wide = len(_WIDE.findall(pattern))
    ignores_case = flags & re.IGNORECASE or re.search(r"\(\?[a-zA-Z]*i", pattern)
    return max(length, wide * 2 if ignores_case else wide / _MOST_WIDE_RANGES)


def are_slow(tagged: Any) -> bool:
    """Whether the patterns in a tagged form may together be slower than five single ones may be.

    Or its fractions: Python keeps their hashes by parts of them, of which many may have one hash.
    """
    spent = 0.0
    ahead = [tagged]
    while ahead:
        plain = ahead.pop()
        if type(plain) is dict:
            if type(inner := plain.get("!pattern")) is list and len(inner) == 2:
                pattern, flags = untag(inner)
                spent += _slowness(pattern, flags)
            elif type(inner := plain.get("!fraction")) is list:
                spent += any(len(part) > _UNIQUE for part in inner) * _FRACTION
            ahead += plain.values()
        elif type(plain) is list:
            ahead += plain
    return spent > _MOST


_MOST: Final = 5
_FRACTION: Final = _MOST / 1024
_UNIQUE: Final = 17  # hexadecimal digits, with what stands in front, whose hashes are their own


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
    "!tuple": lambda inner: tuple(untag(item) for item in inner),
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
