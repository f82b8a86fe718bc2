"""Values to their tagged form: what MessagePack has, and objects as their names and fields."""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict
from enum import Enum
from types import NoneType, SimpleNamespace
from typing import Any, Final

from cachewrap import plugins
from cachewrap.errors import UnsupportedTypeError
from cachewrap.format.untagging import is_bare, is_model, name_of, readable
from cachewrap.request.values import (
    LEAVES,
    PACKED,
    array_of,
    dump_enum,
    is_tag,
    mend_float,
    mend_int,
    mend_str,
    state_of,
)

_LEAVES: Final = {kind: leaf for kind, leaf in LEAVES.items() if kind is not bytes}

# Decoding takes up to two frames for each level, and is to succeed wherever encoding did.
_DEEPEST: Final = 200


def is_shallow(tagged: Any) -> bool:
    """Whether a tagged form is nested no deeper than can be decoded."""
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


def tag(value: Any, where: str) -> Any:
    """The tagged form of a value, which is ``where`` messages say.

    Raises `UnsupportedTypeError` for what has none, and `RecursionError`.
    """
    kind = type(value)
    if kind is str:
        return mend_str(value)
    if kind is int:
        return mend_int(value)
    if kind is float:
        return mend_float(value)
    if kind in PACKED:
        return value
    if kind is dict:
        return _tag_dict(value, where)
    if kind is list:
        return [tag(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"!tuple": [tag(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is set or kind is frozenset:
        mark = "!set" if kind is set else "!frozenset"
        return {mark: [tag(item, f"an item of {where}") for item in value]}
    if leaf := _LEAVES.get(kind):
        mark, dump = leaf
        try:
            return {mark: dump(value)}
        except TypeError as error:
            raise UnsupportedTypeError(f"{where} has {error}, which no codec takes") from None
    return _tag_object(value, kind, where)


def _tag_dict(value: dict[Any, Any], where: str) -> Any:
    simple = all(type(key) is str and type(mend_str(key)) is str for key in value)
    if simple and not (len(value) == 1 and is_tag(value)):
        return {key: tag(item, f"{where}.{key}") for key, item in value.items()}
    return {"!dict": _pairs(value, where)}


def _pairs(value: dict[Any, Any], where: str) -> list[Any]:
    return [
        [tag(key, f"a key of {where}"), tag(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]


def _tag_object(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, Enum):
        try:
            return {"!enum": [name_of(kind, where), dump_enum(value)]}
        except TypeError as error:
            raise UnsupportedTypeError(f"{where} is {error}, which no codec takes") from None
    if isinstance(value, tuple) and hasattr(kind, "_fields") and not state_of(value):
        items = [tag(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"!namedtuple": [name_of(kind, where), items]}
    if kind is SimpleNamespace:
        return {"!namespace": _tag_dict(vars(value), where)}
    if kind is OrderedDict:
        ordered: Any = value
        return {"!ordered": _pairs(ordered, where)}
    if is_model(kind) and is_bare(kind):
        return {"!pydantic": _tag_model(value, kind, where)}
    if dataclasses.is_dataclass(kind) and not hasattr(kind, "__del__") and is_bare(kind):
        return {"!dataclass": [name_of(kind, where), _tag_dict(state_of(value), where)]}
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
        raise UnsupportedTypeError(f"{where} is a {readable(kind)}: {error}") from error
    if found is not None:
        name, codec = found
        try:
            plain = codec.to_plain(value)
        except Exception as error:
            raise UnsupportedTypeError(
                f"{where} is a {name}, and {plugins.describe(name)} failed: {error!r}"
            ) from error
        return {"!plugin": [name, tag(plain, where)]}
    raise UnsupportedTypeError(f"{where} is a {readable(kind)}, which no codec takes")


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
            raise UnsupportedTypeError(f"{where} is a {readable(kind)}, which no codec takes")
        arguments = [_model_spec(argument, where) for argument in generic["args"]]
        return [name_of(generic["origin"], where), arguments]
    return "None" if kind is NoneType else name_of(kind, where)
