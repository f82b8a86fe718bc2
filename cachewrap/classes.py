"""Classes by their names, and what can be told of a class without running it."""

from __future__ import annotations

import functools
import sys
from types import BuiltinFunctionType, ModuleType
from typing import Any

from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.plain import key_name, main_name, model_base


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
        raise UnsupportedTypeError(f"{where} is a {readable(kind)}, whose __del__ is not to run")
    if found is not kind:
        raise UnsupportedTypeError(
            f"{where} is a {readable(kind)}, which could not be found again under that name: "
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


def readable(kind: type) -> str:
    """The name of a class in a message."""
    return f"{kind.__module__}.{kind.__qualname__}"
