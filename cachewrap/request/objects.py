"""The canonical form of objects and classes: what they hold, and nothing of theirs is run.

An object is its class's name and its whole state, whatever of it was declared; a member of an enum
is its class, its name and its value.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import struct
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, Flag
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, Final, TypeAlias

from cachewrap import plugins
from cachewrap.errors import UnkeyableError
from cachewrap.request.attributes import (
    CONSTANTS,
    FUNCTIONS,
    class_name,
    derives,
    is_class_like,
    is_constant,
    is_descriptor,
    is_library,
    is_missing,
    is_model,
    is_own,
    model_fields,
    static,
)
from cachewrap.request.classes import Form, apart, class_form
from cachewrap.request.values import key_name, state_of

# What a subclass of a builtin type holds as one, past every method that it has redefined.
BUILTINS: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytes(memoryview(value)),
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    OrderedDict: lambda value: [
        [key, dict.__getitem__(value, key)] for key in OrderedDict.__iter__(value)
    ],
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    collections.deque: lambda value: [
        list(collections.deque.__iter__(value)),
        vars(collections.deque)["maxlen"].__get__(value),
    ],
}


_HASHES: Final = frozenset({"_attrs_cached_hash", "__msgspec_cached_hash__"})
"""Where attrs and msgspec keep an object's hash, which is another in each process."""


def object_form(value: Any, kind: type, where: str, form: Form) -> Any:
    """The canonical form of an object, or of a class.

    All that an object holds counts, and of pydantic models the extras and private attributes too;
    which of its fields were set does not, as it does not where pydantic compares them. What a
    ``cached_property`` keeps in it does not count.

    Args:
        value: the object.
        kind: its class.
        where: what it is called in an error.
        form: gives the canonical form of what it holds.

    Raises `UnkeyableError` for one that has none.
    """
    if (own := static(kind, "__cache_key__")) is not None:
        bound = own.__get__(value, kind) if hasattr(own, "__get__") else own
        return {"!object": [key_name(kind), form(apart(bound), where)]}
    known = _known[id(kind)] if is_known(kind) else _learn(kind)
    return (known.describe if known else _other)(value, kind, where, form)


def is_known(kind: type) -> bool:
    """Whether the class was seen before, and is no leaf type."""
    known = _known.get(id(kind))
    return known is not None and known.cls() is kind


# -- what an object holds ----------------------------------------------------------------------


_Describe: TypeAlias = Callable[[Any, type, str, Form], Any]


class _Facts:
    """Facts that the bases of a class tell about its objects. They do not keep the class.

    Attributes:
        name: its name, where that takes long to find.
        describe: gives the canonical form of an object.
        own: where in the order of its bases those are that are no library's.
        slots: the names of the slots, and where their base is.
    """

    __slots__ = ("cls", "describe", "name", "own", "slots")

    def __init__(self, kind: type, describe: _Describe) -> None:
        number, bases = id(kind), kind.__mro__
        self.cls = weakref.ref(kind, lambda _: _known.pop(number, None))
        self.describe = describe
        self.name = class_name(kind) if "[" in kind.__qualname__ else ""
        # Pydantic says itself what models have; they may have other bases beside these.
        self.own = [
            at for at, base in enumerate(bases) if not is_model(base) and not is_library(base)
        ]
        caches = _cached_slots(kind)
        slots = {
            name: at
            for at in reversed(range(len(bases)))
            for name, held in list(vars(bases[at]).items())
            if type(held) is MemberDescriptorType and name != "__dict__" and name not in caches
        }
        self.slots = slots


# By identity: what equals what among classes is up to their metaclass.
_known: Final[dict[int, _Facts]] = {}


def _learn(kind: type) -> _Facts | None:
    describe = _describe(kind)
    if describe is None:  # for now: it may yet be decorated
        return None
    facts = _known[id(kind)] = _Facts(kind, describe)
    return facts


def _describe(kind: type) -> _Describe | None:
    """What gives the canonical form of an object, where its class is enough to tell."""
    if kind.__module__ == "numpy":
        return None
    if issubclass(kind, (type, types.GenericAlias)) or kind is types.UnionType:
        return _class
    if is_model(kind):
        return _model
    if issubclass(kind, Enum):
        return _member
    if kind is OrderedDict:
        return _ordered
    if base := _builtin(kind):
        return _named_tuple if base is tuple and static(kind, "_fields") is not None else _subclass
    if "msgspec" in sys.modules and derives(kind, sys.modules["msgspec"].Struct):
        return functools.partial(_record, "!struct")
    hidden = [base for base in kind.__mro__[:-1] if _hides(base)]
    if all(issubclass(base, BaseException) for base in hidden):
        if static(kind, "__dataclass_fields__") is not None:
            return functools.partial(_record, "!dataclass")
        if static(kind, "__attrs_attrs__") is not None:
            return functools.partial(_record, "!attrs")
    if kind is SimpleNamespace:
        return _namespace
    if derives(kind, SimpleNamespace) and not hidden:
        return functools.partial(_record, "!namespace")
    return None


def _hides(base: Any) -> bool:
    """Whether the objects of a class hold more, in C, than its attributes show."""
    shown = sum(
        name in ("__dict__", "__weakref__") or type(held) is MemberDescriptorType
        for name, held in list(vars(base).items())
    )
    return bool(base.__basicsize__ - base.__base__.__basicsize__ > shown * _POINTER)


_POINTER: Final = struct.calcsize("P")


def _builtin(kind: type) -> Any:
    return next((base for base in BUILTINS if issubclass(kind, base)), None)


def _class(value: Any, kind: type, where: str, form: Form) -> Any:
    return class_form(value, form)


def _ordered(value: Any, kind: type, where: str, form: Form) -> Any:
    return {"!ordered": [[form(k, where), form(v, where)] for k, v in value.items()]}


def _named_tuple(value: Any, kind: type, where: str, form: Form) -> Any:
    items = [form(v, f"{where}[{i}]") for i, v in enumerate(tuple.__iter__(value))]
    return {"!namedtuple": [key_name(kind), items, form(_state(value, kind, where), where)]}


def _subclass(value: Any, kind: type, where: str, form: Form) -> Any:
    held = form(BUILTINS[_builtin(kind)](value), where)
    return {"!subclass": [key_name(kind), held, form(_state(value, kind, where), where)]}


def _namespace(value: Any, kind: type, where: str, form: Form) -> Any:
    return {"!namespace": form(vars(value), where)}


def _record(tag: str, value: Any, kind: type, where: str, form: Form) -> Any:
    return {tag: [key_name(kind), form(_state(value, kind, where), where)]}


def _other(value: Any, kind: type, where: str, form: Form) -> Any:
    if is_class_like(value, kind):
        return class_form(value, form)
    try:
        array = array_of(value)
    except TypeError as error:
        raise UnkeyableError(f"{where or 'the value'} is {error}, {ADVICE}") from None
    if array:
        dtype, shape, data = array
        return {"!array": [kind.__name__, dtype, shape, hashlib.sha256(data).hexdigest()]}
    return _by_plugin(value, kind, where, form)


def _by_plugin(value: Any, kind: type, where: str, form: Form) -> Any:
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
        return {"!object": [key_name(kind), form(plain, where)]}
    raise UnkeyableError(f"{where or 'the value'} is a {kind.__qualname__}, {ADVICE}")


ADVICE: Final = (
    "which has no canonical form: leave the argument out with ignore=, compute the key with key=, "
    "or give the class a __cache_key__ method"
)


def _state(value: Any, kind: type, where: str) -> dict[str, Any]:
    """What can be read from an object itself, and the constants that its classes add to that."""
    fields = static(kind, "__dataclass_fields__") or {}
    facts = _known[id(kind)]
    state = _attributes(value, kind, facts, fields)
    _add_constants(state, kind, facts.own)
    for name, field in fields.items():
        if name in state or field._field_type is not _FIELD:
            continue
        default = static(kind, name)
        if not is_descriptor(default):
            if default is not None:
                state[name] = default
        elif type(default) is not MemberDescriptorType and not any(n.endswith(name) for n in state):
            kept = f"{where}.{name} is kept" if where else f"{name} is kept"
            raise UnkeyableError(f"{kept} by a {type(default).__qualname__}, {ADVICE}")
    if issubclass(kind, BaseException):
        state["args"] = vars(BaseException)["args"].__get__(value)
    return state


def _add_constants(state: dict[str, Any], kind: type, own: list[int]) -> None:
    """The constants that can be read from an object because its classes have them."""
    for at in own:
        for name, held in list(vars(kind.__mro__[at]).items()):
            if type(held) not in CONSTANTS or name[:2] == "__" or name in state:
                continue
            if is_own(name, kind) and is_constant(held) and static(kind, name) is held:
                state[name] = held


def _attributes(value: Any, kind: type, facts: _Facts, declared: Any) -> dict[str, Any]:
    """The attributes of an object, without those that only keep what was computed of others."""
    state: dict[str, Any] = {}
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:  # it has slots alone
        held = {}
    for name, inner in list(held.items()):
        if name in declared or not (name in _HASHES or _is_cache(static(kind, name))):
            state[name] = inner
    for name, at in facts.slots.items():
        try:
            state[name] = vars(kind.__mro__[at])[name].__get__(value)
        except AttributeError:  # it is empty
            continue
    return state


_FIELD: Final = dataclasses.field.__globals__["_FIELD"]
_CALLED: Final = (*FUNCTIONS, functools.partial, type)
_METHODS: Final = (classmethod, functools.partialmethod, functools.singledispatchmethod)


def _is_cache(held: Any) -> bool:
    """Whether this attribute of a class is a ``cached_property``, or the like of one."""
    kind = type(held)
    if static(kind, "__get__") is None or issubclass(kind, _METHODS):
        return False
    if issubclass(kind, property):  # those of Werkzeug
        return kind is not property and held.fset is None
    if static(kind, "__set__") is not None or static(kind, "__call__") is not None:
        return False
    # One that holds no function has nothing to compute with: it may be a default.
    return issubclass(kind, functools.cached_property) or any(
        issubclass(type(inner), _CALLED) for inner in state_of(held).values()
    )


def _cached_slots(kind: type) -> set[str]:
    """The slots in which attrs and msgspec keep what they have computed."""
    caches = {*_HASHES}
    for base in kind.__mro__:
        own = vars(base)
        code = getattr(own.get("__getattr__"), "__code__", None)
        if "__attrs_attrs__" in own and code and code.co_filename.startswith("<attrs"):
            caches |= {*own.get("__slots__", ())} - {a.name for a in own["__attrs_attrs__"]}
    return caches


def _model(value: Any, kind: type, where: str, form: Form) -> Any:
    facts = _known[id(kind)]
    name_of = facts.name or key_name(kind)
    state = _attributes(value, kind, facts, model_fields(kind))
    state.pop("__pydantic_fields_set__", None)
    extra = state.pop("__pydantic_extra__", None) or {}
    private = state.pop("__pydantic_private__", None) or {}
    for name in static(kind, "__class_vars__") or ():
        if name not in state and is_constant(shared := static(kind, name)):
            state[name] = shared
    _add_constants(state, kind, facts.own)
    if not extra and not private:
        return {"!pydantic": [name_of, form(state, where)]}
    private = {name: held for name, held in private.items() if not is_missing(held)}
    for name, held in [*extra.items(), *private.items()]:
        if name in state:  # it is hidden by another
            state.setdefault("!hidden", []).append([name, held])
        else:
            state[name] = held
    return {"!pydantic": [name_of, form(state, where), sorted(extra), sorted(private)]}


def reader_of(kind: type) -> Callable[[Any], dict[str, Any] | None] | None:
    """What reads the models of a class in which nothing is unusual; None for another class.

    It gives what counts of a model by `object_form`, under its tag, with its values as they are;
    None for a model that has more than its fields. It holds for as long as the class stays as it
    is: for one walk through a list of models.
    """
    facts = _known.get(id(kind))
    if facts is None or facts.cls() is not kind or facts.describe is not _model:
        return None
    if static(kind, "__cache_key__") is not None or facts.slots.keys() != _SLOTS:
        return None
    name = facts.name or key_name(kind)
    fields = model_fields(kind).keys()
    more: dict[str, Any] = {}
    for shared in static(kind, "__class_vars__") or ():
        if is_constant(held := static(kind, shared)):
            more[shared] = held
    _add_constants(more, kind, facts.own)
    extra_of, private_of = (
        vars(kind.__mro__[facts.slots[slot]])[slot].__get__
        for slot in ("__pydantic_extra__", "__pydantic_private__")
    )
    held_of = object.__getattribute__

    def read(value: Any) -> dict[str, Any] | None:
        try:
            state = held_of(value, "__dict__")
            if extra_of(value) or private_of(value) or not state.keys() <= fields:
                return None
        except AttributeError:  # it was never validated
            return None
        return {"!pydantic": [name, {**more, **state} if more else state]}

    return read


_SLOTS: Final = {"__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"}


def _member(value: Any, kind: type, where: str, form: Form) -> Any:
    inner = value._value_
    bare = type(inner) is object  # nobody can read anything from it
    path = f"{where}.value" if where else "value"
    plain = {"!object": ["builtins:object", None]} if bare else form(inner, path)
    try:
        found = [key_name(kind), dump_enum(value), plain]
    except TypeError as error:
        raise UnkeyableError(f"{where or 'the value'} is {error}, {ADVICE}") from None
    state = {
        name: held
        for name, held in vars(value).items()
        if name == "__doc__" or not (name[0] == "_" == name[-1] or _is_cache(static(kind, name)))
    }
    base = _builtin(kind)
    held = inner if base is None else BUILTINS[base](value)
    if base is not None and (type(inner) is not base or held != inner):
        found += [form(state, where), form(held, where)]
    elif state:
        found.append(form(state, where))
    return {"!enum": found}


# -- enums and arrays, which are told by more than their exact type ---------------------------


def dump_enum(value: Enum) -> Any:
    """The names of the members that make up an enum's or flag's value. Raises `TypeError`."""
    kind = type(value)
    if value._name_ in kind.__members__:
        return value._name_
    if isinstance(value, Flag):
        names = [member._name_ for member in kind if member._value_ & value._value_]
        bits = 0
        for name in names:
            bits |= kind.__members__[name]._value_
        if bits == value._value_:
            return names
    raise TypeError(f"a {kind.__qualname__} with a value that has no name")


def array_of(value: Any) -> tuple[str, list[int], bytes] | None:
    """dtype, shape and bytes of a numpy array or scalar; None for anything else.

    Raises `TypeError` for arrays of objects, structured ones, and long doubles (stray bytes).
    """
    numpy = sys.modules.get("numpy")  # nothing is imported by asking
    if numpy is None or type(value).__module__ != "numpy":
        return None
    if type(value) is not numpy.ndarray and not isinstance(value, numpy.generic):
        return None
    dtype, sides = value.dtype, value.ndim
    if dtype.kind not in "biufcmMSU" or dtype.char in "gG" or dtype.itemsize * sides < sides:
        raise TypeError(f"a numpy array of {dtype}")
    return dtype.str, list(value.shape), value.tobytes()
