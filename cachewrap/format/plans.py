"""Plans by which an SDK's models are built from plain values, as the SDK builds them.

The SDKs of this family look a model's types up again for every field of every answer, which takes
ten times as long as the answer's JSON takes to read. A plan looks them up once for each class. What
has a meaning of its own in the SDK (unions that do not fit, dates, numbers that are to be floats,
generic models) is left to the SDK's ``construct_type``, value by value.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

Convert: TypeAlias = Callable[[Any], Any]
"""Makes of a JSON value what a field of some type holds."""

# Types whose values ``construct_type`` hands on as they are.
_AS_IT_IS: Final = frozenset({str, int, bool, bytes, object, Any})
_ONE_OF: Final = frozenset({str, int, bool, float})
_CONSTANT: Final = (str, int, float, bool, type(None))
_NEEDED: Final = ("BaseModel", "_get_extra_fields_type", "construct_type", "field_get_default")
_PARAMETERS: Final = ["value", "type_", "metadata"]
# What JSON may call a member, and ``construct`` its own parameters.
_TAKEN: Final = frozenset({"_fields_set", "_BaseModel__cls"})


class Models:
    """Builders of the models of one SDK.

    Args:
        module: the SDK's ``_models``.
    """

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._construct_type = module.construct_type
        self._known = _is_known(module)
        self.builder: Callable[[Any], Convert | None] = lru_cache(maxsize=1024)(self._builder)

    def _builder(self, type_: Any) -> Convert | None:
        """What builds a model, or one of a union of models, from a dictionary fresh from JSON.

        None for what is no model of the SDK's, for one that makes its instances in another way, and
        for a version of the SDK that is older than the way followed here.
        """
        if not self._known:
            return None
        if not isinstance(type_, type):
            return self._convert(type_, [])
        return self._make(type_) if self._is_usual(type_) and not hasattr(type_, "build") else None

    def _is_usual(self, cls: Any) -> bool:
        base = self._module.BaseModel
        if not (isinstance(cls, type) and issubclass(cls, base)) or get_args(cls):
            return False
        cls = typing.cast(Any, cls)
        return bool(
            _function(cls.construct) is _function(base.construct)
            and "__new__" not in {name for own in cls.__mro__[:-1] for name in vars(own)}
            and not getattr(cls, "__private_attributes__", None)
            and self._module._get_extra_fields_type(cls) is None
        )

    def _make(self, cls: Any) -> Convert:
        steps: list[tuple[str, str, Convert | None, Any, Any]] = []
        by_name = cls.model_config.get("populate_by_name")
        for name, field in cls.model_fields.items():
            alias = field.alias
            if alias is not None and alias != name and by_name:
                return self._anything(cls)
            default = self._module.field_get_default(field)
            # A default that could be changed by who gets it is made for each instance.
            renew = None if isinstance(default, _CONSTANT) else field
            steps.append((name, alias or name, self._field(field), default, renew))
        names = frozenset(cls.model_fields)
        plain = all(name == key for name, key, *_ in steps)
        get_default = self._module.field_get_default
        anything = self._anything(cls)
        new, put = cls.__new__, object.__setattr__

        def make(values: dict[str, Any]) -> Any:
            if not _TAKEN.isdisjoint(values):
                return anything(values)
            fields: dict[str, Any] = {}
            given = set()
            for name, key, convert, default, renew in steps:
                if key in values:
                    given.add(name)
                    value = values[key]
                    if value is not None:
                        fields[name] = value if convert is None else convert(value)
                        continue
                fields[name] = default if renew is None else get_default(renew)
            if plain and len(given) == len(values):
                extra = {}
            else:
                extra = {key: value for key, value in values.items() if key not in names}
            model = new(cls)
            put(model, "__dict__", fields)
            put(model, "__pydantic_private__", None)
            put(model, "__pydantic_extra__", extra)
            put(model, "__pydantic_fields_set__", given)
            return model

        return make

    def _field(self, field: Any) -> Convert | None:
        if field.annotation is None:
            return self._refuse
        return self._convert(field.annotation, list(field.metadata))

    @staticmethod
    def _refuse(value: Any) -> Any:
        raise TypeError("a field without a type")

    def _convert(self, type_: Any, metadata: list[Any]) -> Convert | None:
        """What makes a value of a type; None where it stays as it is."""
        anything = self._anything(type_, metadata)
        if hasattr(type_, "__metadata__"):  # Annotated
            type_ = get_args(type_)[0]
        origin = get_origin(type_)
        if type_ in _AS_IT_IS or origin is Literal:
            return None
        if type_ is float:
            return lambda value: value if type(value) is float else anything(value)
        if origin is typing.Union or origin is types.UnionType:
            return self._union(type_, anything)
        if origin is list and (inner := get_args(type_)):
            return self._list(inner[0], anything)
        if self._is_usual(type_):
            return self._model(type_, anything)
        return anything

    def _list(self, inner: Any, anything: Convert) -> Convert:
        convert = self._convert(inner, [])

        def many(value: Any) -> Any:
            if type(value) is not list:
                return anything(value)
            return value if convert is None else [convert(item) for item in value]

        return many

    def _model(self, cls: Any, anything: Convert) -> Convert:
        make: list[Convert] = []  # made at its first use: models refer to themselves

        def one(value: Any) -> Any:
            if type(value) is not dict:
                return anything(value)
            if not make:
                make.append(self._make(cls))
            return make[0](value)

        return one

    def _union(self, type_: Any, anything: Convert) -> Convert:
        exact, texts = _scalars(type_)
        validators: list[Convert] = []

        def choose(value: Any) -> Any:
            kind = type(value)
            if kind in exact or (kind is str and value in texts):
                return value
            if not validators:
                adapter = sys.modules["pydantic"].TypeAdapter(type_)
                validators.append(adapter.validator.validate_python)
            try:
                return validators[0](value)
            except ValueError:  # what pydantic raises; the SDK knows what to do
                return anything(value)

        return choose

    def _anything(self, type_: Any, metadata: list[Any] | None = None) -> Convert:
        construct_type = self._construct_type
        if not metadata:
            return lambda value: construct_type(value=value, type_=type_)
        return lambda value: construct_type(value=value, type_=type_, metadata=metadata)


def _is_known(module: types.ModuleType) -> bool:
    if getattr(module, "PYDANTIC_V1", True) or not all(hasattr(module, name) for name in _NEEDED):
        return False
    return list(inspect.signature(module.construct_type).parameters) == _PARAMETERS


def _scalars(union: Any) -> tuple[frozenset[type], frozenset[str]]:
    """The types, and the texts, of which a union takes every value as it is.

    Only of a union of nothing else: another member might be closer to the value.
    """
    exact: set[type] = set()
    texts: set[str] = set()
    for member in get_args(union):
        if member in _ONE_OF:
            exact.add(member)
        elif get_origin(member) is Literal and all(type(one) is str for one in get_args(member)):
            texts.update(get_args(member))
        elif member is not type(None):
            return frozenset(), frozenset()
    return frozenset(exact), frozenset(texts)


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)
