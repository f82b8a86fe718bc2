"""Names and attributes of classes, read without running anything of theirs.

What pydantic makes of a model is the exception.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
from typing import Any, Final

from cachewrap.request.values import dict_of, key_name, model_base, mro_of


def is_model(kind: type) -> bool:
    """Whether it is a class of pydantic's models."""
    base = model_base()
    return base is not None and derives(kind, base)


def derives(kind: type, base: Any) -> bool:
    """Whether a class has the other among its bases, whatever these say of themselves."""
    return any(one is base for one in mro_of(kind))


def model_fields(kind: type) -> dict[str, Any]:
    """The fields that pydantic knows of a class, by name."""
    fields: dict[str, Any] | None = static(kind, "__pydantic_fields__")
    if fields is None and is_model(kind):  # before pydantic 2.10
        fields = getattr(kind, "model_fields", None)
    return fields or {}


def static(kind: type, name: str) -> Any:
    """What a class or its bases have under a name, without running anything; None for nothing."""
    for base in mro_of(kind):
        if name in (own := dict_of(base)):
            return own[name]
    return None


def is_class_like(value: Any, kind: type) -> bool:
    """Whether a value of this class is a class, or made of classes as annotations are."""
    if issubclass(kind, (type, types.GenericAlias)) or value is ...:
        return True
    if kind is types.UnionType or kind is dataclasses.InitVar:
        return True
    if kind.__module__ not in ("typing", "typing_extensions", "annotationlib"):
        return False
    if issubclass(kind, SPECIAL) or kind.__name__ in NAMED:
        return True
    return typing.get_origin(value) is not None


SPECIAL: Final = type(typing.Never)
VARIABLES: Final = ("TypeVar", "ParamSpec", "TypeVarTuple")
NAMED: Final = (*VARIABLES, "NewType", "TypeAliasType", "ForwardRef")


def is_descriptor(held: Any) -> bool:
    """Whether an attribute of a class decides by itself what is read from an object."""
    return static(type(held), "__get__") is not None


_HEAP: Final = 1 << 9


def is_made(kind: type) -> bool:
    """Whether a class was made by ``class`` or ``type()``, as those of C mostly are not."""
    return bool(kind.__flags__ & _HEAP)  # CPython's Py_TPFLAGS_HEAPTYPE


_FIXED: Final = frozenset({str, int, float, bool, bytes, complex, type(None)})
CONSTANTS: Final = _FIXED | {tuple, frozenset}
"""What constants are, as far as their type tells."""


def is_constant(value: Any) -> bool:
    """Whether it is a text, a number or the like, or a tuple or frozenset of these."""
    if type(value) in (tuple, frozenset):
        return all(map(is_constant, value))
    return type(value) in _FIXED


_MACHINERY: Final = frozenset({"_abc_impl", "_is_protocol", "_is_runtime_protocol"})


def is_own(name: str, kind: type) -> bool:
    """Whether the attribute of this name is one that the class's author gave it."""
    if (name[:2] == "__" == name[-2:]) or name in _MACHINERY:
        return False
    return not (issubclass(kind, tuple) and name in ("_fields", "_field_defaults"))


def is_missing(value: Any) -> bool:
    """Whether it stands for no value."""
    return type(value).__name__ in (
        "PydanticUndefinedType",
        "_MISSING_TYPE",
        "NoDefaultType",
        "NoExtraItemsType",
        "_Nothing",
    )


FUNCTIONS: Final = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType),
    *(types.WrapperDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType),
    type(functools.lru_cache(len)),
)


def is_behaviour(held: Any) -> bool:
    """Whether an attribute of a class is something that it does, or computes."""
    return is_descriptor(held) or issubclass(type(held), (functools.partial, *FUNCTIONS))


_LIBRARIES: Final = sys.stdlib_module_names | {
    *("attr", "attrs", "msgspec", "numpy", "pydantic", "pydantic_core", "typing_extensions")
}


def is_library(cls: type) -> bool:
    """Whether it is a class of Python's own, or of a library that others are made with."""
    if not is_made(cls):
        return True
    module: object = cls.__module__
    if not isinstance(module, str) or module.partition(".")[0] not in _LIBRARIES:
        return False
    if "[" in cls.__qualname__:  # pydantic's RootModel[Answer]
        return False
    found: Any = sys.modules.get(module)  # what is made at run time may be called by its maker's
    for name in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found is cls


def class_name(cls: type) -> str:
    """The name of a class, the same in every program and wherever it was made.

    A pydantic model with parameters is named by these: its own module is the one that asked first.
    """
    made = vars(cls).get("__pydantic_generic_metadata__") or {}
    if made.get("origin"):
        return f"{class_name(made['origin'])}[{', '.join(map(_parameter, made['args']))}]"
    name = key_name(cls)
    if "._" in name and is_library(cls):  # pathlib._local:Path, as Python 3.13 has it
        module, _, name = name.rpartition(":")
        name = f"{module.partition('._')[0]}:{name}"
    return name


def _parameter(hint: Any) -> str:
    kind = type(hint)
    if kind is list or kind is tuple:
        return f"[{', '.join(map(_parameter, hint))}]"
    if kind in CONSTANTS:
        return repr(hint)
    if issubclass(kind, SPECIAL):
        return f"typing:{hint._name}"
    if issubclass(kind, type) and not issubclass(kind, types.GenericAlias):
        return class_name(hint)
    if is_class_like(hint, kind) and (origin := typing.get_origin(hint)) is not None:
        return f"{_parameter(origin)}[{', '.join(map(_parameter, typing.get_args(hint)))}]"
    # An object's own text may hold its address.
    return getattr(hint, "__name__", None) or f"{class_name(kind)}.{getattr(hint, '_name_', '')}"


def alias_name(hint: Any) -> str:
    """The name of a new type, or of an alias of a type."""
    return key_name(types.SimpleNamespace(__module__=hint.__module__, __qualname__=hint.__name__))


def raw_annotations(cls: type) -> dict[str, Any]:
    """The class's own annotations, as they were written; nothing of them is looked up."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    found = vars(cls).get("__annotations__")
    return found if isinstance(found, dict) else {}


FIELD_PARTS: Final[dict[str, Any]] = {
    "default": dataclasses.MISSING,
    "default_factory": dataclasses.MISSING,
    "init": True,
    "kw_only": False,
    "metadata": None,
    "doc": None,
}
"""What the fields of dataclasses have that is read, each with what it usually is."""


def default_docs(cls: type) -> tuple[str, ...]:
    """The docstrings that classes of this kind have by themselves."""
    name = cls.__name__
    if issubclass(cls, tuple) and "_fields" in vars(cls):
        listed = ", ".join(vars(cls)["_fields"])
        return f"{name}({listed})", f"{name}({listed},)"
    if "__dataclass_fields__" in vars(cls) and (cls.__doc__ or "").startswith(f"{name}("):
        with contextlib.suppress(Exception):  # as where the dataclass was made
            return (name + str(inspect.signature(cls)).replace(" -> None", ""),)
    return ()


@functools.lru_cache(maxsize=4)
def _silent(generator: Any) -> Any:
    return type(generator.__name__, (generator,), {"emit_warning": lambda *_: None})


def json_schema(cls: Any) -> Any:
    """The JSON schema of a pydantic model; None where it has none."""
    usual = vars(model_base())["model_json_schema"]
    try:
        if static(cls, "model_json_schema") is not usual:
            return cls.model_json_schema()
        generator = sys.modules["pydantic.json_schema"].GenerateJsonSchema
        return cls.model_json_schema(schema_generator=_silent(generator))
    except Exception:  # of pydantic, or of the class's own hooks
        return None
