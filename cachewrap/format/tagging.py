"""Values to their tagged form: of objects the class's name and the state, and nothing is run."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from enum import Enum
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

import msgspec

from cachewrap import plugins
from cachewrap.errors import CorruptEntryError, UnsupportedTypeError
from cachewrap.format.classes import (
    HELD,
    builtin_of,
    generic_of,
    generic_spec,
    is_attrs,
    is_bare,
    is_factory,
    is_model,
    is_mourned,
    is_struct,
    makes_flags,
    name_of,
)
from cachewrap.plugins import type_name
from cachewrap.request.objects import array_of, dump_enum
from cachewrap.request.values import (
    LOADERS,
    MOST_DIGITS,
    MOST_OF_A_FRACTION,
    PACKED,
    SecretError,
    by_identity,
    is_tag,
    leaf_of,
    mend_float,
    mend_int,
    mend_str,
    state_of,
)

HEAVY: Final = frozenset({"!pattern", "!fraction"})
"""The tags of what is weighed before it is made: see `weighed`."""

AS_IT_IS: Final = PACKED | {float, re.Pattern, Fraction}
"""What stands in a tagged form as it is: what MessagePack has, and what `weighed` has made."""

MANY: Final = 16
"""How many items a list has for which a loop of C is worth its call."""


def is_flat(items: list[Any]) -> bool:
    """Whether all items of a list, which has some, are as they are: seen in a loop of C."""
    if type(items[0]) is float:
        try:
            sum(items)  # takes numbers alone, and no look into a set for each
        except (TypeError, OverflowError):
            pass
        else:
            return True
    return AS_IT_IS.issuperset(map(type, items))


_BARE: Final = frozenset({bool, bytes, type(None)})


def is_bare_list(items: list[Any] | tuple[Any, ...]) -> bool:
    """Whether all items are known to be stored as they are: seen in loops of C, for one type."""
    kinds: set[Any] = set(map(type, items))
    if len(kinds) != 1:
        return kinds <= _BARE
    kind = kinds.pop()
    if kind is str:
        return all(map(str.isascii, items))
    if kind is float:
        return math.isfinite(sum(items))
    if kind is int:
        return bool(min(items) >= _SMALLEST and max(items) <= _LARGEST)
    return kind in _BARE


_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1


# Decoding takes up to two frames for each level, and is to succeed wherever encoding did.
_DEEPEST: Final = 200


def is_shallow(tree: Any, levels: int = _DEEPEST) -> bool:
    """Whether a tree of plain data has so many levels at most, by default as can be decoded."""
    level = [tree]
    for _ in range(levels):
        level = [
            inner
            for item in level
            if type(item) is dict or len(item) < MANY or not is_flat(item)
            for inner in (item.values() if type(item) is dict else item)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return True
    return False


def tag(value: Any, where: str) -> Any:
    """The tagged form of a value, which is ``where`` messages say.

    Raises `UnsupportedTypeError` for what has none, and `RecursionError`.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else mend_str(value)
    if kind is int:
        return mend_int(_small(value, MOST_DIGITS, where))
    if kind is float:
        return mend_float(value)
    if kind in PACKED:
        return value
    if kind is dict:
        return _tag_dict(value, where)
    if kind is list:
        return value if is_bare_list(value) else _tag_items(value, where)
    if kind is tuple:
        return {"!tuple": list(value) if is_bare_list(value) else _tag_items(value, where)}
    if kind is set or kind is frozenset:
        mark = "!set" if kind is set else "!frozenset"
        _check_hashes(value, where)
        return {mark: [tag(item, f"an item of {where}") for item in value]}
    if (build := _way_of(kind)) is not None:
        return build(value, kind, where)
    return _tag_leaf(value, kind, where) or _tag_object(value, kind, where)


def _tag_items(items: list[Any] | tuple[Any, ...], where: str) -> list[Any]:
    return [tag(item, f"{where}[{i}]") for i, item in enumerate(items)]


@by_identity
def _way_of(kind: type) -> Callable[[Any, Any, str], Any] | None:
    """How the objects of a class are tagged that are mostly returned; None for all others."""
    if leaf_of(kind) is not None or issubclass(kind, (Enum, tuple)):
        return None
    if is_model(kind) and is_bare(kind):
        return _tag_model
    if dataclasses.is_dataclass(kind) and not is_mourned(kind) and is_bare(kind):
        return _tag_data
    return None


def _tag_leaf(value: Any, kind: type, where: str) -> Any:
    leaf = leaf_of(kind)
    if leaf is None:
        return None
    mark, dump = leaf
    if mark == "!url":
        name_of(kind, where)
    elif mark == "!fraction":
        _small(max(value.numerator, -value.numerator, value.denominator), MOST_OF_A_FRACTION, where)
    elif mark == "!range":
        _small(max(map(abs, (value.start, value.stop, value.step))), MOST_DIGITS, where)
    elif mark == "!pattern" and is_slow(value.pattern, value.flags):
        raise UnsupportedTypeError(f"{where} is a pattern that may be slow to compile")
    try:
        return {mark: dump(value)}
    except SecretError:
        raise UnsupportedTypeError(
            f"{where} is a {type_name(kind)}, and a secret is never stored: return what callers "
            "need without it, or turn the cache off for this function"
        ) from None
    except TypeError as error:
        raise UnsupportedTypeError(f"{where} has {error}, which no codec takes") from None


def _tag_dict(value: dict[Any, Any], where: str) -> Any:
    if not value:
        return {}
    if len(value) == 1 and is_tag(value):
        return {"!dict": _pairs(value, where)}
    # Before anything in it is tagged: it is not to be done twice at each level.
    for key in value:
        if type(key) is not str:
            return {"!dict": _pairs(value, where)}
    if not "".join(value).isascii() and not all(type(mend_str(key)) is str for key in value):
        return {"!dict": _pairs(value, where)}
    tagged = value.copy()
    for key, item in value.items():
        kind = type(item)
        if kind is str:
            if item.isascii():
                continue
        elif kind in _BARE or (kind is int and _SMALLEST <= item <= _LARGEST):
            continue
        tagged[key] = tag(item, f"{where}.{key}")
    return tagged


def _small(number: int, digits: int, where: str) -> int:
    if number.bit_length() > 4 * digits:
        raise UnsupportedTypeError(f"{where} is a number of more than {digits} hexadecimal digits")
    return number


def _check_hashes(members: Collection[Any], where: str) -> None:
    try:
        check_hashes(members)
    except Exception as error:  # a hash of the program's own can raise anything
        raise UnsupportedTypeError(f"{where} could not be built again: {error}") from error


def _pairs(value: dict[Any, Any], where: str) -> list[Any]:
    _check_hashes(value, where)
    return [
        [tag(key, f"a key of {where}"), tag(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]


def _tag_object(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, Enum):
        return {"!enum": _tag_enum(value, kind, where)}
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        items = [tag(item, f"{where}[{i}]") for i, item in enumerate(tuple.__iter__(value))]
        if len(items) != len(kind._fields):  # pyright: ignore[reportAttributeAccessIssue]
            raise UnsupportedTypeError(
                f"{where} is a {type_name(kind)} with other fields than named"
            )
        state = state_of(value)
        stored = [_tag_dict(state, where)] if state else []
        return {"!namedtuple": [name_of(kind, where), items, *stored]}
    if kind is SimpleNamespace:
        return {"!namespace": _tag_dict(vars(value), where)}
    if kind is OrderedDict:
        return {"!ordered": _pairs(value, where)}
    if kind is deque:
        return {
            "!deque": [[tag(item, f"{where}[{i}]") for i, item in enumerate(value)], value.maxlen]
        }
    if kind is defaultdict:
        return {"!defaultdict": [_factory(value.default_factory, where), _pairs(value, where)]}
    if kind is MappingProxyType:
        return {"!mappingproxy": _pairs(value, where)}
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
        raise UnsupportedTypeError(f"{where} is a {type_name(kind)}: {error}") from error
    if found is not None:
        name, codec = found
        try:
            plain = codec.to_plain(value)
        except Exception as error:
            raise UnsupportedTypeError(
                f"{where} is a {name}, and {plugins.describe(name)} failed: {error!r}"
            ) from error
        return {"!plugin": [name, tag(plain, where)]}
    if is_attrs(kind):
        return {"!attrs": [name_of(kind, where), _tag_state(value, where)]}
    if is_struct(kind):
        return {"!struct": [name_of(kind, where), _tag_state(value, where)]}
    if base := builtin_of(kind):
        held = tag(HELD[base](value), where)
        return {"!subclass": [name_of(kind, where), held, _tag_state(value, where)]}
    why = ", whose __post_init__ is not to run" if issubclass(kind, msgspec.Struct) else ""
    raise UnsupportedTypeError(
        f"{where} is a {type_name(kind)}{why}, which no codec takes: "
        "hand over what is needed of it instead, in a dataclass or a dict"
    )


def _tag_state(value: Any, where: str) -> Any:
    state = state_of(value)
    # What `D[int](...)` notes of how it was made, and a hash, which is another in each process.
    state.pop("__orig_class__", None)
    state.pop("__msgspec_cached_hash__", None)
    if "_attrs_cached_hash" in state:
        state["_attrs_cached_hash"] = None
    return _tag_dict(state, where)


def _tag_enum(value: Any, kind: type, where: str) -> list[Any]:
    try:
        form = [name_of(kind, where), dump_enum(value)]
        if type(form[1]) is list and not makes_flags(kind):
            raise TypeError("a combination of flags that have code of their own")
    except UnsupportedTypeError:
        raise
    except TypeError as error:
        raise UnsupportedTypeError(f"{where} is {error}, which no codec takes") from None
    try:
        return [*form, tag(value._value_, where)]
    except (UnsupportedTypeError, RecursionError):
        return form


def _factory(factory: Any, where: str) -> str | None:
    if factory is None:
        return None
    if isinstance(factory, type) and is_factory(factory):
        return name_of(factory, f"the default_factory of {where}")
    raise UnsupportedTypeError(
        f"{where} is a defaultdict whose default_factory is no class of data, which no codec "
        "takes: return a dict of it, or give it one such as list"
    )


def _tag_model(model: Any, kind: Any, where: str) -> Any:
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    if private is not None:
        undefined = sys.modules["pydantic_core"].PydanticUndefined
        private = {name: value for name, value in private.items() if value is not undefined}
    names = sorted(model.__pydantic_fields_set__)
    form = [
        name_of(kind, where) if generic_of(kind)[0] is None else generic_spec(kind, where),
        _tag_dict(model.__dict__, where),
        None if extra is None else _tag_dict(extra, where),
        names if "".join(names).isascii() else [mend_str(name) for name in names],
        None if private is None else _tag_dict(private, where),
    ]
    return {"!pydantic": form}


def _tag_data(value: Any, kind: Any, where: str) -> Any:
    return {"!dataclass": [name_of(kind, where), _tag_state(value, where)]}


# -- what is slow to make again, and therefore neither stored nor made ---------------------------


def weighed(tagged: Any) -> Any:
    """A tagged form with its patterns and fractions made.

    Raises `CorruptEntryError` where these may be slow to make.
    """
    if are_slow(tagged):
        raise CorruptEntryError("patterns or fractions that are slow to make")
    root = [tagged]
    ahead: list[Any] = [root]
    while ahead:
        plain = ahead.pop()
        for at, item in plain.items() if type(plain) is dict else enumerate(plain):
            kind = type(item)
            if kind is dict and len(item) == 1 and (make := _MAKERS.get(*item)) is not None:
                plain[at] = make(*item.values())
            elif kind is dict or kind is list:
                ahead.append(item)
    return root[0]


def _leaf(plain: Any) -> Any:
    """A text, bytes or a number in a tagged form."""
    if type(plain) is dict and len(plain) == 1:
        ((tag, inner),) = plain.items()
        return LOADERS[tag](inner)
    return plain


def _load_pattern(inner: Any) -> re.Pattern[Any]:
    pattern, flags = map(_leaf, inner)
    if type(pattern) not in (str, bytes) or type(flags) is not int:
        raise CorruptEntryError("a pattern that is none")
    if flags & re.DEBUG or is_slow(pattern, flags):
        raise CorruptEntryError("a pattern that is not to be compiled")
    return re.compile(pattern, flags)


_MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "!fraction": LOADERS["!fraction"],
    "!pattern": _load_pattern,
}


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
                pattern, flags = map(_leaf, inner)
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
