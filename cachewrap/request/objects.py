"""The canonical form of objects and classes: what they hold, and nothing of theirs is run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from cachewrap import plugins
from cachewrap.errors import UnkeyableError
from cachewrap.request.values import array_of, dump_enum, key_name, model_base, state_of

Form: TypeAlias = Callable[[Any, str], Any]
"""The canonical form of a value, given what it is called in an error."""

# What a subclass of a builtin type holds as one, past every method that it has redefined.
_BUILTINS: Final[dict[type, Callable[[Any], Any]]] = {
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


def object_form(value: Any, kind: type, where: str, form: Form) -> Any:
    """The canonical form of an object, or of a class.

    Args:
        value: the object.
        kind: its class.
        where: what it is called in an error.
        form: gives the canonical form of what it holds.

    Raises `UnkeyableError` for one that has none.
    """
    if hasattr(kind, "__cache_key__"):
        return {"!object": [key_name(kind), form(value.__cache_key__(), where)]}
    if isinstance(value, type):
        return {"!type": [key_name(value), _schema(value, form)]}
    if is_model(kind):
        state = value.__dict__
        fields = {n: state[n] for n in kind.model_fields if n in state}  # type: ignore[attr-defined]
        fields.update(value.__pydantic_extra__ or {})
        return {"!pydantic": [key_name(kind), form(fields, where)]}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        items = [form(v, f"{where}[{i}]") for i, v in enumerate(tuple.__iter__(value))]
        return {"!namedtuple": [key_name(kind), items, form(state_of(value), where)]}
    if kind is SimpleNamespace:
        return {"!namespace": form(vars(value), where)}
    if kind is OrderedDict:
        ordered: Any = value
        pairs = ordered.items()
        return {"!ordered": [[form(k, where), form(v, where)] for k, v in pairs]}
    try:
        if isinstance(value, Enum):
            return {"!enum": [key_name(kind), dump_enum(value)]}
        array = array_of(value)
    except TypeError as error:
        raise UnkeyableError(f"{where or 'the value'} is {error}, {ADVICE}") from None
    if array:
        dtype, shape, data = array
        return {"!array": [kind.__name__, dtype, shape, hashlib.sha256(data).hexdigest()]}
    for base, held in _BUILTINS.items():
        if isinstance(value, base):
            return _subclass(value, kind, held(value), where, form)
    if dataclasses.is_dataclass(kind):
        return {"!dataclass": [key_name(kind), form(_fields(value), where)]}
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


def _fields(value: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _subclass(value: Any, kind: type, held: object, where: str, form: Form) -> Any:
    state = state_of(value)
    if dataclasses.is_dataclass(kind):
        state.update(_fields(value))
    if isinstance(value, defaultdict):
        state["default_factory"] = value.default_factory
    return {"!subclass": [key_name(kind), form(held, where), form(state, where)]}


def is_model(kind: type) -> bool:
    """Whether it is a class of pydantic's models."""
    base = model_base()
    return base is not None and issubclass(kind, base)


@functools.lru_cache(maxsize=1024)
def _schema(cls: type, form: Form) -> Any:
    """What a pydantic model asks for: two of one name, or one that was edited, are different."""
    if not is_model(cls) or cls is model_base():
        return None
    errors = sys.modules["pydantic.errors"]
    try:
        return form(cls.model_json_schema(), "")  # type: ignore[attr-defined]
    except errors.PydanticUserError:  # it has none
        return None


ADVICE: Final = (
    "which has no canonical form: leave the argument out with ignore=, compute the key with key=, "
    "or give the class a __cache_key__ method"
)
