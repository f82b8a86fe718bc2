"""Plans by which an SDK's models are built from plain values, as the SDK builds them.

The SDKs of this family look a model's types up again for every field of every answer, which takes
ten times as long as the answer's JSON takes to read. A plan looks them up once for each class.

What is declared as a model, the SDK constructs: that takes whatever comes. What is declared as a
union, pydantic validates, and only what is not valid is constructed. So a class has two plans. The
one that validates makes what pydantic would of a value that needs no conversion, and knows which
values are not valid. All else (what pydantic would convert, or choose among several models; dates,
generic models) is left to pydantic and to the SDK's ``construct_type``, value by value.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

Convert: TypeAlias = Callable[[Any], Any]
"""Makes of a JSON value what a field of some type holds."""

Ways: TypeAlias = dict[Any, Convert | None]
"""What makes a field of a value of each type that JSON has; None where it stays as it is."""

# Types whose values ``construct_type`` hands on as they are.
_AS_IT_IS: Final = frozenset({str, int, bool, bytes, object, Any})
_CONSTANT: Final = (str, int, float, bool, type(None))
_FLOATS: Final = frozenset({float})
_DISCRIMINATED: Final = "_build_discriminated_union_meta"
_PARAMETERS: Final = {
    "construct_type": ["value", "type_", "metadata"],
    _DISCRIMINATED: ["union", "meta_annotations"],
}
_NEEDED: Final = ("BaseModel", "_get_extra_fields_type", "field_get_default", *_PARAMETERS)
# What JSON may call a member, and ``construct`` its own parameters.
_TAKEN: Final = frozenset({"_fields_set", "_BaseModel__cls"})
_COMPLETE: Final = "__pydantic_fields_complete__"
_EXTRA: Final = "__pydantic_extra__"
_STATE: Final = ("__dict__", "__pydantic_private__", _EXTRA, "__pydantic_fields_set__")

_JSON: Final = (str, int, float, bool, list, dict, type(None))
_LEFT_ALONE: Final = dict.fromkeys((str, int, float, bool))  # where a list or a model is declared
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_CONVERTED: Final = frozenset({int, float, bool})  # from one another, and from text
_EXACT: Final = 2**53  # below, every whole number is a float too
_CHECKS: Final = ("validators", "field_validators", "root_validators", "model_validators")


class Misfit(Exception):
    """Sign that only pydantic knows whether a value is valid, or what becomes of it."""


class Invalid(Misfit):
    """Sign that a value is not valid."""


class Models:
    """Builders of the models of one SDK.

    Args:
        module: the SDK's ``_models``.
    """

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._construct_type = module.construct_type
        self._known = _is_known(module)
        self._put: tuple[Any, ...] = _putters() if self._known else ()
        self._plans: dict[Any, Convert] = {}
        self._begun: set[Any] = set()
        self._is_usual: Callable[[Any], bool] = lru_cache(maxsize=4096)(self._is_as_usual)
        self.builder: Callable[[Any], Convert | None] = lru_cache(maxsize=1024)(self._builder)

    def _builder(self, type_: Any) -> Convert | None:
        """What builds a model, or one of a union of models, from a dictionary fresh from JSON.

        None for what is no model of the SDK's, for one that makes its instances in another way, and
        for a version of the SDK that is older than the way followed here.
        """
        if not self._known:
            return None
        if not isinstance(type_, type):
            return self._converter(type_)
        if not self._is_usual(type_) or hasattr(type_, "build"):
            return None
        return self._planned(self._constructor, type_)

    def _is_as_usual(self, cls: Any) -> bool:
        base = self._module.BaseModel
        if not (isinstance(cls, type) and issubclass(cls, base)) or get_args(cls):
            return False
        cls = typing.cast(Any, cls)
        own = [vars(one) for one in cls.__mro__[: cls.__mro__.index(base)]]
        return bool(
            getattr(cls.construct, "__func__", None) is base.construct.__func__
            and not any(name in one for one in own for name in ("__new__", *_STATE))
            and not getattr(cls, "__private_attributes__", None)
            and (
                # Else pydantic has to look at the class first, which takes it long.
                (getattr(cls, _COMPLETE, False) and not any(map(_may_type_extra, own)))
                or self._module._get_extra_fields_type(cls) is None
            )
        )

    def _planned(self, plan: Callable[[Any], Convert], cls: Any) -> Convert:
        """A plan of a class, made once; inside of itself, and on other threads, what finds it."""
        place = plan.__name__, cls
        if (made := self._plans.get(place)) is None:
            if place in self._begun:
                return lambda value: (self._plans.get(place) or plan(cls))(value)
            self._begun.add(place)
            made = self._plans[place] = plan(cls)
        return made

    # -- what is constructed ----------------------------------------------------------------------

    def _constructor(self, cls: Any) -> Convert:
        """What makes of a dictionary what ``construct`` makes."""
        fields, get_default = cls.model_fields, self._module.field_get_default
        aliases = {name: one.alias for name, one in fields.items() if one.alias not in (None, name)}
        anything = self._anything(cls)
        if aliases and cls.model_config.get("populate_by_name"):
            return anything
        defaults = {name: get_default(field) for name, field in fields.items()}
        ways = {name: self._ways(one.annotation, one.metadata) for name, one in fields.items()}
        steps = [(name, found) for name, found in ways.items() if found is not None]
        names, new = set(fields), cls.__new__
        keys = [(name, aliases.get(name, name)) for name in fields]
        # What could be changed by who gets it is made for each instance.
        renewed = [(name, fields[name]) for name in names if defaults[name] is not None]
        put, put_private, put_extra, put_given = self._put

        def make(values: Any) -> Any:
            if type(values) is not dict:
                return anything(values)
            given, extra = names.intersection(values), {}
            if len(given) != len(values) or aliases:
                if not _TAKEN.isdisjoint(values):
                    return anything(values)
                extra = {key: value for key, value in values.items() if key not in names}
                values = {name: values[key] for name, key in keys if key in values}
                given = set(values)
            held = {**defaults, **values}
            for name, found in steps:
                value = held[name]
                if (convert := found[type(value)]) is not None:
                    held[name] = convert(value)
            for name, field in renewed:
                if values.get(name) is None:
                    held[name] = get_default(field)
            model = new(cls)
            put(model, held)
            put_private(model, None)
            put_extra(model, extra)
            put_given(model, given)
            return model

        return make

    def _ways(self, type_: Any, metadata: list[Any] | None = None) -> Ways | None:
        """How values of a type are constructed; None where all of them stay as they are."""
        anything = self._anything(type_, metadata)
        if hasattr(type_, "__metadata__"):  # Annotated
            metadata = metadata or list(type_.__metadata__)
            type_ = get_args(type_)[0]
        origin, inner = get_origin(type_), get_args(type_)
        if type_ in _AS_IT_IS or origin is Literal:
            return None
        constructed = _refuse if type_ is None else anything
        found: Ways = {**dict.fromkeys(_JSON, constructed), type(None): None}
        if type_ is float:
            found |= {float: None, str: None, int: _to_float(anything)}
        elif _is_union(type_):
            return self._union(type_, metadata or [], anything)
        elif origin is list and inner:
            each = _each(self._ways(inner[0]))
            found |= {**_LEFT_ALONE, list: _numbers(each) if inner[0] is float else each}
        elif origin is dict and len(inner) == 2:
            found |= {**_LEFT_ALONE, dict: _each_member(self._ways(inner[1]))}
        elif self._is_usual(type_):
            found |= {**_LEFT_ALONE, dict: self._planned(self._constructor, type_)}
        return found

    def _converter(self, type_: Any) -> Convert:
        if (ways := self._ways(type_)) is None:
            return lambda value: value
        return lambda value: value if (make := ways[type(value)]) is None else make(value)

    def _union(self, type_: Any, metadata: list[Any], anything: Convert) -> Ways:
        """How a value is validated, and constructed where it is not valid."""
        ways = self._valid(type_)
        checks = {kind: check for kind, check in ways.items() if check is not None}
        made: list[Convert] = []  # at their first use
        validators: list[Convert] = []

        def choose(value: Any) -> Any:
            try:
                return checks[type(value)](value)
            except Invalid:
                pass
            except Misfit:
                try:
                    if not validators:
                        adapter = sys.modules["pydantic"].TypeAdapter(type_)
                        validators.append(adapter.validator.validate_python)
                    return validators[0](value)
                except Exception:  # whatever it is, the SDK constructs then
                    pass
            if not made:
                made.append(self._variant(type_, metadata, anything))
            return made[0](value)

        found: Ways = {kind: ways[kind] and choose for kind in _JSON}
        found[type(None)] = None
        if ways[bool] is _refute:  # nothing is made of a text: the first variant leaves it alone
            found[str] = None
        return found

    def _variant(self, union: Any, metadata: list[Any], anything: Convert) -> Convert:
        """What constructs what is not valid: as the variant that it names, or as the first."""
        discriminated = getattr(self._module, _DISCRIMINATED)
        details = discriminated(union=union, meta_annotations=tuple(metadata))
        key, named = "", {}
        if details is not None:
            key = details.field_alias_from or details.field_name
            named = {kind: self._converter(cls) for kind, cls in details.mapping.items()}
        first = get_args(union)[0]
        is_model, as_first = self._is_usual(first), self._converter(first)

        def make(value: Any) -> Any:
            if type(value) is dict and type(kind := value.get(key)) is str and kind in named:
                return named[kind](value)
            if type(value) is list and is_model:
                return anything(value)
            try:
                return as_first(value)
            except Exception:  # the next one's turn
                return anything(value)

        return make

    def _anything(self, type_: Any, metadata: list[Any] | None = None) -> Convert:
        construct_type = self._construct_type
        if not metadata:
            return lambda value: construct_type(value=value, type_=type_)
        return lambda value: construct_type(value=value, type_=type_, metadata=metadata)

    # -- what is validated ------------------------------------------------------------------------

    def _valid(self, type_: Any) -> Ways:
        """How values of a type are validated."""
        members = set(_members(type_)) - {type(None)}
        if members in ({object}, {Any}):
            return dict.fromkeys(_JSON)
        found: Ways = {}
        as_they_are: set[Any] = set()
        texts: set[str] = set()
        models: list[Any] = []
        for member in _members(type_):
            origin, inner = get_origin(member), get_args(member)
            if member in _SCALARS:
                as_they_are.add(member)
            elif _are_texts(member):
                texts.update(inner)
            elif origin is list and inner:
                found[list] = _ask if list in found else _each(self._valid(inner[0]))
            elif origin is dict and len(inner) == 2 and inner[0] is str:
                found[dict] = _ask if dict in found else _each_member(self._valid(inner[1]))
            elif self._is_checked(member):
                models.append(member)
            else:
                return dict.fromkeys(_JSON, _ask)
        if models:
            found[dict] = _ask if dict in found else self._choice(models)
        numbers = as_they_are & _CONVERTED
        other = _ask if numbers else _refute
        if texts:
            found[str] = lambda value: value if value in texts else other(value)
        if numbers == _FLOATS:
            found[int] = _to_float(_ask)
        return {**dict.fromkeys(_JSON, other), **found, **dict.fromkeys(as_they_are)}

    def _is_checked(self, cls: Any) -> bool:
        """Whether pydantic looks at the fields of a model and at nothing else."""
        if not self._is_usual(cls) or cls.model_config.keys() - {"defer_build"} != {"extra"}:
            return False
        own = cls.__mro__[: cls.__mro__.index(sys.modules["pydantic"].BaseModel)]
        return bool(
            cls.model_config["extra"] == "allow"
            and not any(getattr(cls.__pydantic_decorators__, name) for name in _CHECKS)
            and cls.__pydantic_post_init__ is None
            and not cls.__pydantic_custom_init__
            and not any("__get_pydantic_core_schema__" in vars(one) for one in own)
        )

    def _choice(self, models: list[Any]) -> Convert:
        """What makes of a dictionary the one model that it may be."""
        if len(models) == 1:
            return self._planned(self._validator, models[0])
        variants = [_Variant(cls) for cls in models]
        names = [name for variant in variants for name in variant.texts]
        name = max(names, key=names.count, default="")
        by_text: dict[str, list[_Variant]] = {}
        for text in {text for one in variants for text in one.texts.get(name, ())}:
            by_text[text] = [one for one in variants if text in one.texts.get(name, (text,))]
        rest = [one for one in variants if name not in one.texts]
        made: dict[Any, Convert] = {}
        sole: dict[str, Convert] = {}  # of the texts that name one model, at their first use

        def choose(value: Any) -> Any:
            if type(kind := value.get(name)) is str:
                if (make := sole.get(kind)) is not None:
                    return make(value)
                found = by_text.get(kind, rest)
            else:
                found = variants
            if len(found) != 1:
                found = [variant for variant in found if variant.may_be(value)]
                if len(found) != 1:
                    raise Misfit if found else Invalid
            cls = found[0].cls
            if (make := made.get(cls)) is None:
                make = made[cls] = self._planned(self._validator, cls)
            if type(kind) is str and len(by_text.get(kind, ())) == 1:
                sole[kind] = make
            return make(value)

        return choose

    def _validator(self, cls: Any) -> Convert:
        """What makes of a dictionary what pydantic makes of a valid one."""
        fields = cls.model_fields
        if not all(map(_is_plain, fields.values())):
            return _ask
        ways = {name: self._valid(field.annotation) for name, field in fields.items()}
        required = frozenset(name for name, field in fields.items() if field.is_required())
        defaults = {name: None if name in required else one.default for name, one in fields.items()}
        aliases = {one.alias: name for name, one in fields.items() if one.alias not in (None, name)}
        hidden = frozenset(aliases.values())
        names, new = set(fields), cls.__new__
        usual = None if aliases else names
        put, put_private, put_extra, put_given = self._put

        def make(values: Any) -> Any:
            given, extra = set(values), {}
            if given != usual:
                if aliases:
                    if not hidden.isdisjoint(values):
                        raise Misfit
                    values = {aliases.get(key, key): value for key, value in values.items()}
                given = names.intersection(values)
                if not given.issuperset(required):
                    raise Invalid
                if len(given) != len(values):
                    extra = {key: value for key, value in values.items() if key not in names}
                    values = {name: values[name] for name in given}
                    given.update(extra)
            held = {**defaults, **values}
            for name, value in values.items():
                if (convert := ways[name][type(value)]) is not None:
                    held[name] = convert(value)
            model = new(cls)
            put(model, held)
            put_private(model, None)
            put_extra(model, extra)
            put_given(model, given)
            return model

        return make


class _Variant:
    """A model in a union: what a dictionary must have to be it, and the texts that name it."""

    __slots__ = ("cls", "required", "texts")

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        self.required = {key for key, field in fields.items() if field.is_required()}
        types_ = ((key, _bare(field.annotation)) for key, field in fields.items())
        self.texts = {key: frozenset(get_args(type_)) for key, type_ in types_ if _are_texts(type_)}

    def may_be(self, value: dict[str, Any]) -> bool:
        return self.required <= value.keys() and all(
            type(value[key]) is str and value[key] in texts
            for key, texts in self.texts.items()
            if key in value
        )


def _to_float(anything: Convert) -> Convert:
    return lambda value: float(value) if -_EXACT < value < _EXACT else anything(value)


def _numbers(each: Convert) -> Convert:
    return lambda value: [*value] if _FLOATS.issuperset(map(type, value)) else each(value)


def _each(ways: Ways | None) -> Convert:
    if ways is None:
        return list
    return lambda value: [one if (make := ways[type(one)]) is None else make(one) for one in value]


def _each_member(ways: Ways | None) -> Convert:
    if ways is None:
        return dict
    return lambda value: {
        key: one if (make := ways[type(one)]) is None else make(one) for key, one in value.items()
    }


def _ask(value: Any) -> Any:
    raise Misfit


def _refute(value: Any) -> Any:
    raise Invalid


def _refuse(value: Any) -> Any:
    raise TypeError("a field without a type")


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (typing.Union, types.UnionType)


def _members(type_: Any) -> Iterator[Any]:
    """The members of a union, and of the unions in it."""
    type_ = _bare(type_)
    if not _is_union(type_):
        yield type(None) if type_ is None else type_
        return
    for member in get_args(type_):
        yield from _members(member)


def _bare(type_: Any) -> Any:
    """A type without what only the SDK reads of it."""
    while hasattr(type_, "__metadata__") and all(map(_is_unread, type_.__metadata__)):
        type_ = get_args(type_)[0]
    return type_


def _is_unread(metadata: Any) -> bool:
    return type(metadata).__name__ in ("PropertyInfo", "UnionDiscriminator")


def _are_texts(type_: Any) -> bool:
    return get_origin(type_) is Literal and all(type(one) is str for one in get_args(type_))


def _is_plain(field: Any) -> bool:
    """Whether a field has one name, one type, and a constant where it is not given."""
    return bool(
        field.default_factory is None
        and all(map(_is_unread, field.metadata))
        and not field.validate_default
        and field.discriminator is None
        and field.validation_alias == field.alias
        and (field.is_required() or isinstance(field.default, _CONSTANT))
    )


def _may_type_extra(own: Any) -> bool:
    """Whether a class may say what type its extra members have."""
    found = own.get("__annotations__")
    return any("__annotate" in name for name in own) if found is None else _EXTRA in found


def _is_known(module: types.ModuleType) -> bool:
    if getattr(module, "PYDANTIC_V1", True) or not all(hasattr(module, name) for name in _NEEDED):
        return False
    return all(
        list(inspect.signature(getattr(module, name)).parameters) == parameters
        for name, parameters in _PARAMETERS.items()
    )


def _putters() -> tuple[Any, ...]:
    """What puts a model's state into it, member by member."""
    base = vars(sys.modules["pydantic"].BaseModel)
    return tuple(base[name].__set__ for name in _STATE)
