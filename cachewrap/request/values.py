"""Plain values: what JSON has, and the tagged forms of the leaf types that it lacks.

Plain are None, bool, int of 64 bits, finite float, str, list, and dict with str keys. Anything
else is a dictionary with one key, which starts with "!": ``{"!bytes": "aGk="}``. A dictionary that
could be taken for one of these is itself written as ``{"!dict": [[key, value]]}``.
"""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import math
import os
import pathlib
import re
import sys
import uuid
import zoneinfo
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath
from types import MemberDescriptorType, ModuleType
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from cachewrap.errors import MissingTypeError

SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})

# MessagePack has bytes of its own, so there they are as good as plain.
PACKED: Final[frozenset[type]] = SCALARS | {bytes}

R = TypeVar("R")

# A structure that refers to itself would never be walked to its end.
_MOST_CONTAINERS: Final = 50_000

SCHEMAS: Final = frozenset(
    "properties patternProperties $defs definitions parameter_definitions".split()
)
"""Names of objects in a JSON schema whose members a model reads, and writes, in their order."""

_NONE: Final[frozenset[str]] = frozenset()


def is_plain(
    value: object,
    scalars: Collection[type] = SCALARS,
    float_is_plain: Callable[[float], bool] = math.isfinite,
    special: Collection[str] = _NONE,
) -> bool:
    """Whether the value is plain as it stands, apart from what only the encoder can tell.

    Left to the encoder are integers beyond 64 bits and lone surrogates in text.

    Args:
        value: what is asked about; it is walked once, without recursion.
        scalars: the exact types that need no look, ``str`` among them.
        float_is_plain: which floats count as plain.
        special: names under which no object is plain, nor null.
    """
    if type(value) in scalars:
        return True
    stack = [value]
    budget = _MOST_CONTAINERS
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            if len(item) == 1 and is_tag(item):  # type: ignore[arg-type]
                return False
            for key, inner in item.items():  # type: ignore[attr-defined]
                if type(key) is not str:
                    return False
                # Text is most of what there is, and told without a look into a set.
                if type(inner) is str:
                    continue
                if type(inner) not in scalars:
                    if key in special and type(inner) is dict:
                        return False
                    stack.append(inner)
                elif inner is None and key in special:
                    return False
        elif kind is list:
            for inner in item:  # type: ignore[attr-defined]
                if type(inner) is dict and len(inner) > 1:
                    # A message of a conversation, mostly: it need not go over the stack.
                    budget -= 1
                    for key, value in inner.items():
                        if type(value) is not str:
                            if type(value) not in scalars:
                                if key in special and type(value) is dict:
                                    return False
                                stack.append(value)
                            elif value is None and key in special:
                                return False
                        if type(key) is not str:
                            return False
                elif type(inner) is not str and type(inner) not in scalars:
                    stack.append(inner)
        elif kind is float:
            if not float_is_plain(item):  # type: ignore[arg-type]
                return False
        else:
            return False
        budget -= 1
        if budget < 1:
            return False
    return True


def are_plain(arguments: dict[str, Any]) -> bool:
    """Whether all arguments of a call are plain, in a walk made for them.

    Objects in which a model reads the order of members are not.
    """
    for name, value in arguments.items():
        kind = type(value)
        if kind is str or kind in SCALARS:
            continue
        if kind is float:
            if not math.isfinite(value):
                return False
        elif kind is list:
            for inner in value:
                if type(inner) is dict and len(inner) > 1:
                    for key, held in inner.items():
                        if type(held) is not str and (
                            (key in SCHEMAS and type(held) is dict)
                            or not is_plain(held, special=SCHEMAS)
                        ):
                            return False
                        if type(key) is not str:
                            return False
                elif type(inner) is not str and not is_plain(inner, special=SCHEMAS):
                    return False
        elif (name in SCHEMAS and kind is dict) or not is_plain(value, special=SCHEMAS):
            return False
    return True


def is_tag(value: dict[Any, Any]) -> bool:
    """Whether a dictionary with one key has the form of a tagged value."""
    (key,) = value
    return type(key) is str and key.startswith("!")


def mend_int(value: int) -> Any:
    """An integer; tagged where it does not fit 64 bits."""
    return value if -(2**63) <= value < 2**64 else {"!int": hex(value)}


def mend_str(value: str) -> Any:
    """A text; tagged where it holds lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"!str": b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def mend_float(value: float) -> Any:
    """A float; tagged where it is not finite."""
    return value if math.isfinite(value) else {"!float": repr(value)}


# -- names of types and functions -----------------------------------------------------------


def importable_name(module: str) -> str:
    """The name under which another program would import the program that runs as this module."""
    namespace = vars(sys.modules[module]) if module in sys.modules else {}
    spec = namespace.get("__spec__")
    if spec is not None and spec.name != "__main__":
        return str(spec.name)
    file = namespace.get("__file__")
    if not file:
        return "__main__"
    folder, name = os.path.split(str(file))
    stem = os.path.splitext(name)[0]
    # A folder or an archive that is run is called by its own name.
    return os.path.basename(folder) or stem if stem == "__main__" else stem


def main_name() -> str:
    """What the program's own module is called when another program imports it."""
    return importable_name("__main__")


def key_name(thing: Any) -> str:
    """``module:qualname`` of a class or function, the same whoever runs or imports its module.

    ``__main__`` is replaced by the name under which it could be imported, so that two programs
    with a function of one name do not share keys.
    """
    module = getattr(thing, "__module__", None) or "builtins"
    if module in ("__main__", "__mp_main__"):  # the latter in a spawned child
        module = importable_name(module)
    name = getattr(thing, "__qualname__", None)
    return f"{module}:{name}" if name else key_name(type(thing))


function_name = key_name


# What `type` itself says of a class: its metaclass may have code of its own, and is not asked.
mro_of: Final[Callable[[type], tuple[type, ...]]] = vars(type)["__mro__"].__get__
dict_of: Final[Callable[[Any], Mapping[str, Any]]] = vars(type)["__dict__"].__get__
module_of: Final[Callable[[type], str]] = vars(type)["__module__"].__get__
_name_of: Final[Callable[[type], str]] = vars(type)["__name__"].__get__
_module_dict: Final[Callable[[ModuleType], dict[str, Any] | None]] = vars(ModuleType)[
    "__dict__"
].__get__
_MOST_KEPT: Final = 1024


def by_identity(function: Callable[[type], R]) -> Callable[[type], R]:
    """The function, which keeps what it gives for a class without asking for the class's hash."""
    known: dict[int, tuple[type, R]] = {}

    def look(cls: type) -> R:
        found = known.get(id(cls))
        if found is None:
            if len(known) >= _MOST_KEPT:
                known.clear()
            found = known[id(cls)] = cls, function(cls)
        return found[1]

    return look


@by_identity
def slots_of(cls: type) -> dict[str, Any]:
    """The descriptors of a class's slots, by the names of their attributes."""
    return {
        name: member
        for base in reversed(mro_of(cls))
        for name, member in dict_of(base).items()
        if type(member) is MemberDescriptorType
    }


def state_of(value: object) -> dict[str, Any]:
    """The attributes of an object itself, in its dictionary and its slots; nothing is computed."""
    state = dict(getattr(value, "__dict__", ()))
    kind: Any = type(value)
    for name, slot in slots_of(kind).items():
        try:
            state[name] = slot.__get__(value)
        except AttributeError:  # the slot is empty
            continue
    return state


def model_base() -> Any:
    """Pydantic's `BaseModel` where the program has imported it; nothing is imported by asking."""
    return namespace("pydantic.main").get("BaseModel")


def namespace(module: str) -> Mapping[str, Any]:
    """What a module of that name holds; nothing where it is not imported, or is a lazy one."""
    found = sys.modules.get(module)
    # `type()` and not `isinstance()`, which asks an object for its class and may load a lazy one.
    return (issubclass(type(found), ModuleType) and _module_dict(found)) or {}  # type: ignore[arg-type]


# -- leaf types: one row each ---------------------------------------------------------------


def _dump_zone(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        whole = [offset.days, offset.seconds, offset.microseconds]
        return whole if name == dt.timezone(offset).tzname(None) else [*whole, mend_str(name)]
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    if type(zone) is _pydantic_zone():
        offset = zone.utcoffset(None) or dt.timedelta(0)
        return {"pydantic": int(offset.total_seconds())}
    raise TypeError(f"a time zone of type {type(zone).__qualname__}")


def _pydantic_zone() -> Any:
    """The class of the time zones that pydantic makes, where the program has imported it."""
    return namespace("pydantic_core").get("TzInfo")


def _load_zone(zone: Any) -> dt.tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        return zoneinfo.ZoneInfo(zone)
    if isinstance(zone, dict):
        make = _pydantic_zone()
        if make is None:
            raise MissingTypeError("the stored value has a time zone of pydantic: import pydantic")
        made: dt.tzinfo = make(zone["pydantic"])
        return made
    days, seconds, microseconds, *name = zone
    offset = dt.timedelta(days, seconds, microseconds)
    if name:
        return dt.timezone(offset, *map(_text, name))
    return dt.timezone(offset) if offset else dt.UTC


def _dump_moment(value: dt.datetime | dt.time) -> Any:
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _dump_zone(value.tzinfo)]


def _moment(cls: type[Any]) -> Callable[[Any], Any]:
    def load(plain: Any) -> Any:
        text, fold, zone = plain
        return cls.fromisoformat(text).replace(fold=fold, tzinfo=_load_zone(zone))

    return load


def _dump_path(value: PurePath) -> Any:
    return [type(value).__name__, mend_str(str(value))]


def _path(plain: Any) -> PurePath:
    name, text = plain
    if name not in _PATHS:
        raise ValueError(name)
    try:
        path: PurePath = getattr(pathlib, name)(_text(text))
    except NotImplementedError as error:  # a path of another system
        raise ValueError(str(error)) from None
    return path


_PATHS: Final = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")


def _dump_pattern(value: re.Pattern[Any]) -> Any:
    pattern, flags = value.pattern, value.flags & ~re.DEBUG
    if type(pattern) not in (str, bytes):
        raise TypeError(f"a pattern of type {type(pattern).__qualname__}")
    tagged = mend_str(pattern) if type(pattern) is str else {"!bytes": b64encode(pattern).decode()}
    return [tagged, flags]


def _real(kind: type[Any]) -> type[Any]:
    # A test that has stopped the clock may have another class in its place.
    return next(base for base in kind.__mro__ if base.__module__ == "datetime")


Dump = Callable[[Any], Any]
LEAVES: Final[dict[type, tuple[str, Dump]]] = {
    bytes: ("!bytes", lambda v: b64encode(v).decode()),
    bytearray: ("!bytearray", lambda v: b64encode(v).decode()),
    complex: ("!complex", lambda v: [v.real.hex(), v.imag.hex()]),
    _real(dt.date): ("!date", dt.date.isoformat),
    _real(dt.datetime): ("!datetime", _dump_moment),
    dt.time: ("!time", _dump_moment),
    dt.timezone: ("!zone", _dump_zone),
    zoneinfo.ZoneInfo: ("!zone", _dump_zone),
    dt.timedelta: ("!timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    uuid.UUID: ("!uuid", lambda v: v.hex),
    # Whether the exponent's "E" is a capital is up to the context.
    decimal.Decimal: ("!decimal", lambda v: str(v).upper()),
    fractions.Fraction: ("!fraction", lambda v: [hex(v.numerator), hex(v.denominator)]),
    range: ("!range", lambda v: [mend_int(v.start), mend_int(v.stop), mend_int(v.step)]),
    re.Pattern: ("!pattern", _dump_pattern),
    msgspec.UnsetType: ("!unset", lambda v: None),
    **{getattr(pathlib, name): ("!path", _dump_path) for name in _PATHS},
}

LOADERS: Final[dict[str, Callable[[Any], Any]]] = {
    "!int": lambda p: int(_digits(p, MOST_DIGITS), 16),
    "!float": lambda p: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[p],
    "!str": lambda p: b64decode(p, validate=True).decode("utf-8", "surrogatepass"),
    "!bytes": lambda p: b64decode(p, validate=True),
    "!bytearray": lambda p: bytearray(b64decode(p, validate=True)),
    "!complex": lambda p: complex(float.fromhex(p[0]), float.fromhex(p[1])),
    "!date": _real(dt.date).fromisoformat,
    "!datetime": _moment(_real(dt.datetime)),
    "!time": _moment(dt.time),
    "!zone": _load_zone,
    "!timedelta": lambda p: dt.timedelta(*p),
    "!uuid": uuid.UUID,
    "!decimal": lambda p: decimal.Decimal(_text(p)),
    "!fraction": lambda p: fractions.Fraction(
        *(int(_digits(part, MOST_OF_A_FRACTION), 16) for part in p)
    ),
    "!path": _path,
    "!unset": lambda p: msgspec.UNSET,
}


MOST_DIGITS: Final = 65_536
"""Hexadecimal digits of an integer that is stored: to compare larger ones with others is slow."""
MOST_OF_A_FRACTION: Final = 4096
"""Hexadecimal digits of both parts of a fraction that is stored: reading reduces it."""


def _digits(plain: Any, most: int) -> Any:
    if len(plain) > most + len("-0x"):
        raise ValueError(f"a number of more than {most} hexadecimal digits")
    return plain


def _text(plain: Any) -> str:
    if isinstance(plain, dict):
        return str(LOADERS["!str"](plain["!str"]))
    if not isinstance(plain, str):
        raise ValueError("text expected")
    return plain


# -- leaf types that are told by more than what they are -------------------------------------


class SecretError(TypeError):
    """A value that holds a credential, which is neither hashed nor stored."""


def leaf_of(kind: type) -> tuple[str, Dump] | None:
    """The tag of a leaf type, and what dumps its values; None for any other type.

    What dumps raises `TypeError` for a value that is more than a leaf, `SecretError` for a
    credential. Of types with a ``__cache_key__`` that is what counts.
    """
    if leaf := LEAVES.get(kind):
        return leaf
    try:
        return _leaves[kind]
    except KeyError:
        found = _leaves[kind] = _leaf_by_bases(kind)
        return found


# Of types that are no leaves by themselves; none is kept.
_leaves: Final[WeakKeyDictionary[type, tuple[str, Dump] | None]] = WeakKeyDictionary()


def _leaf_by_bases(kind: type) -> tuple[str, Dump] | None:
    if any("__cache_key__" in vars(base) for base in kind.__mro__):
        return None
    module = kind.__module__
    if module == "freezegun.api":  # what it puts in the place of dates, where it has stopped time
        return next((LEAVES[base] for base in kind.__mro__ if base in LEAVES), None)
    if module == "ipaddress" and kind.__name__ in ADDRESSES:
        return "!ip", lambda v: [type(v).__name__, mend_str(str(v))]
    names = _names(kind)
    if not _URLS.keys().isdisjoint(names):
        return "!url", lambda v: [key_name(type(v)), mend_str(_url_text(v))]
    return None if _SECRETS.isdisjoint(names) else ("!secret", _refuse_secret)


ADDRESSES: Final = tuple(
    f"IPv{version}{sort}" for version in "46" for sort in ("Address", "Network", "Interface")
)
_SECRETS: Final = frozenset({"pydantic.types._SecretBase", "pydantic.types._SecretField"})
_URLS: Final = {
    "pydantic_core._pydantic_core.Url": "Url",
    "pydantic_core._pydantic_core.MultiHostUrl": "MultiHostUrl",
    "pydantic.networks._BaseUrl": "Url",
    "pydantic.networks._BaseMultiHostUrl": "MultiHostUrl",
}


def _names(kind: type) -> list[str]:
    return [f"{module_of(base)}.{_name_of(base)}" for base in mro_of(kind)]


def _refuse_secret(value: object) -> Any:
    raise SecretError(type(value).__qualname__)


def core_of(kind: type) -> Any:
    """The class of pydantic's core that a type of URLs is, or wraps; None for any other type."""
    name = next((_URLS[name] for name in _names(kind) if name in _URLS), None)
    return name and namespace("pydantic_core")[name]


def _url_text(value: Any) -> str:
    url, core = value, core_of(type(value))
    # Some versions of pydantic wrap a URL that was wrapped.
    while type(url) is not core and [*(state := state_of(url))] == ["_url"]:
        url = state["_url"]
    if type(url) is not core:
        raise TypeError(f"a {type(value).__qualname__} with more in it than a URL")
    return str(url)
