"""The canonical form of classes, and of what is made of them, such as ``list[Answer] | None``.

A class is its name and its schema: members and values, fields, types, defaults, descriptions, in
the order that its owner gave them; and of each class the attributes that are data, as they are at
the time. What it does counts as little as the names and texts of the library's own classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, TypeAlias

from cachewrap.errors import UnkeyableError
from cachewrap.request.attributes import (
    FIELD_PARTS,
    FUNCTIONS,
    NAMED,
    SPECIAL,
    VARIABLES,
    alias_name,
    class_name,
    default_docs,
    derives,
    is_behaviour,
    is_class_like,
    is_constant,
    is_library,
    is_missing,
    is_model,
    is_own,
    json_schema,
    model_fields,
    raw_annotations,
    static,
)
from cachewrap.request.key import encode
from cachewrap.request.values import is_plain, key_name, state_of

Form: TypeAlias = Callable[[Any, str], Any]
"""The canonical form of a value, given what it is called in an error."""


def class_form(value: Any, form: Form) -> Any:
    """The canonical form of a class, or of a type form.

    Args:
        value: what `is_class_like` takes.
        form: gives the canonical form of the values in it.
    """
    plain = (_now.walk or _Walk(form, inside=False)).typed(value)
    return plain if type(plain) is dict else {"!type": [plain, None]}


class _Now(threading.local):
    """The walk over a class that is under way in this thread."""

    walk: _Walk | None = None


_now: Final = _Now()


def apart(call: Callable[[], Any]) -> Any:
    """Calls what is not ours, which may make requests of its own."""
    walk, _now.walk = _now.walk, None
    try:
        return call()
    finally:
        _now.walk = walk


# -- what is known of a class ------------------------------------------------------------------

_KNOWN: Final = "__cachewrap_form__"


class _Known:
    """The form of a class, good for as long as what it and the classes in it hold is the same.

    It is an attribute of the class, with which it goes: what it keeps refers to the class.
    """

    __slots__ = ("classes", "cls", "form", "held", "loose", "marks")

    def __init__(self, cls: type, form: Any, walk: _Walk) -> None:
        self.cls, self.form = cls, form
        self.loose = [
            (base, name, _encoded(vars(base)[name], walk.form)) for base, name in walk.loose
        ]
        self.classes = [thing for thing in walk.met if isinstance(thing, type)]
        self.held = _held(self.classes)  # so that no other object can have their marks
        self.marks = list(map(id, self.held))

    def is_true(self, form: Form) -> bool:
        """Whether nothing has changed since."""
        return list(map(id, _held(self.classes))) == self.marks and all(
            _encoded(vars(cls)[name], form) == found for cls, name, found in self.loose
        )

    def __reduce__(self) -> Any:
        return type(None), ()  # a class that is pickled by value takes nothing of it along


def _held(classes: list[type]) -> list[Any]:
    found: list[Any] = []
    for cls in classes:
        own = vars(cls)
        known = own.get(_KNOWN)
        found += [held for held in list(own.values()) if held is not known or held is None]
        if issubclass(cls, Enum):
            for member in own.get("_member_map_", {}).values():
                found += vars(member).values()
        for field in own.get("__pydantic_fields__", {}).values():
            found += [getattr(field, name) for name in _EDITED]
    return found


_EDITED: Final = "annotation default description title alias examples json_schema_extra".split()


def _encoded(value: Any, form: Form) -> bytes:
    walk = _Walk(form)
    with walk:
        return encode([walk.part(value), walk.rest(0)])


class _Walk:
    """One walk over a class, or over a type form: what it meets again is a number there.

    Args:
        form: gives the canonical form of values.
        inside: whether it is in a class; else each class that it meets has a walk of its own.
    """

    def __init__(self, form: Form, inside: bool = True) -> None:
        self.form, self.inside = form, inside
        self.met: list[Any] = []
        self.loose: list[tuple[Any, str]] = []  # attributes that can change in place
        self.scope: type | None = None  # where a name in quotes is looked up
        self.covered = False  # by the JSON schema of a class around this one
        self.within: list[bool] = []  # whether what was met is
        self.steady = True

    def __enter__(self) -> None:
        self.before, _now.walk = _now.walk, self

    def __exit__(self, *_: object) -> None:
        _now.walk = self.before

    def number(self, thing: Any) -> tuple[int, bool]:
        """The number of a thing in this walk, and whether it was met before."""
        for number, other in enumerate(self.met):
            if other is thing:
                return number, True
        self.met.append(thing)
        self.within.append(self.covered)
        return len(self.met) - 1, False

    def whole(self, cls: type) -> dict[str, Any]:
        """The form of a class, with that of each class in it."""
        self.number(cls)
        schema = self.schema(cls)
        if classes := self.rest(1):
            schema["classes"] = classes
        return {"!type": [class_name(cls), schema]}

    def rest(self, at: int) -> dict[str, Any]:
        """The classes that were met, from this number on; they stand side by side here, however
        deep one is in another.
        """
        classes: dict[str, Any] = {}
        while at < len(self.met):
            thing = self.met[at]
            if issubclass(type(thing), type):
                name = class_name(thing)
                self.covered = self.within[at]
                classes[f"{name} {at}" if name in classes else name] = self.schema(thing)
            at += 1
        return classes

    # -- type forms

    def typed(self, hint: Any) -> Any:
        """The form of a class, or of anything that stands in an annotation."""
        kind = type(hint)
        if hint is None:
            return "builtins:NoneType"
        if hint is ...:
            return "..."
        if kind is str or kind.__name__ == "ForwardRef":
            return self.forward(hint if kind is str else hint.__forward_arg__)
        if kind is list or kind is tuple:  # the parameters of a Callable
            return [self.typed(inner) for inner in hint]
        if not is_class_like(hint, kind):
            return self.part(hint)
        if issubclass(kind, type):
            return self.classed(hint)
        if issubclass(kind, SPECIAL):
            return f"typing:{hint._name}"
        if kind.__name__ in NAMED:
            return self.named(hint, kind.__name__)
        if kind is dataclasses.InitVar:
            return {"!generic": ["dataclasses:InitVar", [self.typed(hint.type)]]}
        return self.generic(hint)

    def generic(self, hint: Any) -> Any:
        """The form of what has parameters."""
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            more = [self.note(inner) for inner in hint.__metadata__]
            return {"!annotated": [self.typed(hint.__origin__), more]}
        if origin is typing.Literal:
            return {"!literal": [self.part(inner) for inner in hint.__args__]}
        if not hasattr(hint, "__args__"):  # typing.List
            return self.typed(origin)
        inner = [self.typed(inner) for inner in typing.get_args(hint)]
        if origin is typing.Union or origin is types.UnionType:
            return {"!union": inner}
        found = {"!generic": [self.typed(origin), inner]}
        unpacked = getattr(hint, "__unpacked__", False) is True
        return {"!generic": ["typing:Unpack", [found]]} if unpacked else found

    def named(self, hint: Any, kind: str) -> Any:
        """What a type variable, a new type or an alias of a type stands for."""
        name = hint.__name__ if kind in VARIABLES else alias_name(hint)
        number, again = self.number(hint)
        if again:
            return {"!alias": [kind, name, number]}
        parts: list[Any] = []
        for part in ("__supertype__", "__value__", "__bound__", "__constraints__", "__default__"):
            try:
                inner = getattr(hint, part, ())
            except Exception:  # it is lazy, and names what is not there
                self.steady, inner = False, "?"
            unbound = part == "__bound__" and (inner is None or inner is types.NoneType)
            if not (type(inner) is tuple and not inner) and not unbound and not is_missing(inner):
                parts.append([part.strip("_"), self.typed(inner)])
        return {"!alias": [kind, name, parts]}

    def forward(self, text: str) -> Any:
        """What a name in quotes means where it stands, or the text of it."""
        if (cls := self.scope) is not None:
            own = list(vars(cls).items())
            names = {name: held for name, held in own if isinstance(held, type)}
            names |= {one.__name__: one for one in (cls, *getattr(cls, "__type_params__", ()))}
            try:
                # As with `typing.get_type_hints`, what is in the module goes first.
                hint = eval(text, names, vars(sys.modules[cls.__module__]))
            except Exception:  # whatever becomes of text that was not meant to run
                self.steady = False
            else:
                if type(hint) is not str:
                    return self.typed(hint)
                if text[0] in "'\"":  # in quotes where annotations are texts already
                    return self.forward(hint)
        return {"!forward": text}

    def hinted(self, cls: type, name: str) -> Any:
        """The form of the annotation of an attribute, where it was given."""
        for base in cls.__mro__:
            hints = raw_annotations(base)
            if name in hints:
                scope, self.scope = self.scope, base
                try:
                    return self.typed(hints[name])
                finally:
                    self.scope = scope
        return None

    # -- classes

    def classed(self, cls: type) -> Any:
        """The form of a class: its name, and its schema where it has one."""
        if static(type(cls), "__cache_key__") is not None:
            return self.form(cls, "")
        if is_library(cls):
            return class_name(cls)
        if not self.inside:
            known = vars(cls).get(_KNOWN)
            if type(known) is _Known and known.cls is cls and known.is_true(self.form):
                return known.form
            walk = _Walk(self.form)
            with walk:
                plain = walk.whole(cls)
            if walk.steady:
                with contextlib.suppress(TypeError):  # its attributes cannot be set
                    type.__setattr__(cls, _KNOWN, _Known(cls, plain, walk))
            return plain
        return {"!type": [class_name(cls), self.number(cls)[0]]}

    def schema(self, cls: type) -> dict[str, Any]:
        """All that makes a class the one that it is, apart from what it does."""
        self.scope = cls
        found: dict[str, Any] = {}
        names: Iterable[str] = ()
        for is_one, describe in _KINDS:
            if is_one(cls):
                names = describe(self, cls, found)
                break
        else:
            found["annotations"] = [[n, self.typed(h)] for n, h in raw_annotations(cls).items()]
        if "total" not in found and "texts" not in found:
            bases = vars(cls).get("__orig_bases__", cls.__bases__)
            found["bases"] = [self.typed(base) for base in bases if base is not object]
        text = vars(cls).get("__doc__")
        if isinstance(text, str) and text not in default_docs(cls):
            found["doc"] = self.part(inspect.cleandoc(text))
        self.covered = False
        found["attributes"] = self.attributes(cls, set(names))
        return {name: part for name, part in found.items() if part not in (None, [], {})}

    def attributes(self, cls: type, described: set[str]) -> dict[str, Any]:
        """The attributes of the class itself that are data, apart from those described already."""
        found = {}
        for name, held in list(vars(cls).items()):  # another thread may add to it
            if name in described or not is_own(name, cls) or is_behaviour(held):
                continue
            if name[0] == "_" == name[-1] and issubclass(cls, Enum):
                continue
            found[name] = self.part(held)
            if not is_constant(held) and not isinstance(held, type):
                self.loose.append((cls, name))
        return found

    def members(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What an enum has."""
        found["members"] = []
        for name, member in cls.__members__.items():
            plain = self.part(member)
            more = plain["!enum"][1:] if "!enum" in plain else [name, self.part(member._value_)]
            found["members"].append([name, *more])
            self.loose += [(member, n) for n in _varying(member)]
        return list(cls.__members__)

    def modelled(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a pydantic model has: what its JSON schema says, and what that drops."""
        if not self.covered:
            found["json"] = self.part(apart(functools.partial(json_schema, cls)))
            self.covered = found["json"] is not None
        fields = model_fields(cls)
        computed = vars(cls).get("__pydantic_computed_fields__", {})
        found["fields"] = [[name, self.info(field)] for name, field in fields.items()]
        found["computed"] = [[name, self.info(field)] for name, field in computed.items()]
        found["config"] = self.part(dict(cls.model_config))
        kept = vars(cls).get("__private_attributes__", {})
        found["private"] = [[name, self.note(held)] for name, held in kept.items()]
        return [*fields, *computed, *kept, "model_config", "model_fields", "model_computed_fields"]

    def older(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a model of pydantic 1 has."""
        found["json"] = self.part(apart(cls.schema))
        return list(cls.__fields__)

    def typed_dict(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a class of typed dictionaries has."""
        required = cls.__required_keys__
        hints = raw_annotations(cls)
        found["fields"] = [
            [name, self.typed(hint), name in required] for name, hint in hints.items()
        ]
        found["total"] = [getattr(cls, name, None) for name in ("__total__", "__closed__")]
        if (extra := vars(cls).get("__extra_items__")) is not None and not is_missing(extra):
            found["extra"] = self.typed(extra)
        return ()

    def named_tuple(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a class of named tuples has."""
        hints, defaults = raw_annotations(cls), cls._field_defaults
        found["fields"] = [
            [name, self.typed(hints[name]) if name in hints else None]
            + ([self.part(defaults[name])] if name in defaults else [])
            for name in cls._fields
        ]
        texts = {name: getattr(vars(cls).get(name), "__doc__", None) for name in cls._fields}
        found["texts"] = {
            name: text for name, text in texts.items() if text and not text.startswith("Alias for ")
        }
        return list(cls._fields)

    def dataclass(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a dataclass has, pydantic's too."""
        found["fields"] = []
        for name, field in cls.__dataclass_fields__.items():
            parts = {"type": self.hinted(cls, name)}
            for part, usual in FIELD_PARTS.items():
                held = getattr(field, part, None)
                if held is not usual and held is not dataclasses.MISSING:
                    parts[part] = self.note(held)
            if not field.metadata:
                del parts["metadata"]
            found["fields"].append([name, parts])
        fields = vars(cls).get("__pydantic_fields__", {})
        found["described"] = [[name, self.info(field)] for name, field in fields.items()]
        found["config"] = self.part(vars(cls).get("__pydantic_config__"))
        return [*cls.__dataclass_fields__]

    def attrs(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a class of attrs has."""
        fields = cls.__attrs_attrs__
        found["fields"] = [[f.name, self.hinted(cls, f.name), self.info(f)] for f in fields]
        return [field.name for field in fields]

    def struct(self, cls: Any, found: dict[str, Any]) -> Iterable[str]:
        """What a msgspec Struct has."""
        names, config = cls.__struct_fields__, cls.__struct_config__
        found["fields"] = [
            [name, self.hinted(cls, name), encoded]
            for name, encoded in zip(names, cls.__struct_encode_fields__, strict=True)
        ]
        found["defaults"] = [self.note(default) for default in cls.__struct_defaults__]
        found["config"] = [self.part(getattr(config, name, None)) for name in _STRUCT_CONFIG]
        return list(names)

    def info(self, field: Any) -> dict[str, Any]:
        """What a library knows of a field."""
        found: dict[str, Any] = {}
        for name, held in state_of(field).items():
            if name[0] == "_" or name in _UNREAD or is_missing(held):
                continue
            if name in ("annotation", "return_type"):
                found[name] = self.typed(held)
            elif type(held) is list:
                if held:
                    found[name] = [self.note(inner) for inner in held]
            elif held is not None or name == "default":
                found[name] = self.note(held)
        return found

    # -- the values in them

    def part(self, value: Any) -> Any:
        """A value in a class: what has no canonical form counts by its name, or by its type's."""
        kind = type(value)
        if is_plain(value):
            return self.form(value, "")
        if kind is list:
            return [self.part(inner) for inner in value]
        if kind is tuple:
            return {"!tuple": [self.part(inner) for inner in value]}
        if kind is set or kind is frozenset:
            # Classes have an order of their own, or what is met first would be up to their hashes.
            items = sorted(value, key=lambda item: key_name(item) if isinstance(item, type) else "")
            return {f"!{kind.__name__}": sorted(map(self.part, items), key=encode)}
        if kind is dict or kind is types.MappingProxyType:
            pairs = [[self.part(key), self.part(inner)] for key, inner in value.items()]
            return {"!dict": sorted(pairs, key=encode)}
        if issubclass(kind, FUNCTIONS):
            return {"!function": key_name(value)}
        if kind is functools.partial:
            return {"!partial": [self.part(x) for x in (value.func, value.args, value.keywords)]}
        met = len(self.met)
        try:
            return self.form(value, "")
        except UnkeyableError:
            del self.met[met:], self.within[met:]  # nothing refers to what was met in vain
            return {"!opaque": key_name(kind)}

    def note(self, value: Any) -> Any:
        """A value that describes: one without a canonical form counts by its attributes too."""
        plain = self.part(value)
        if type(plain) is not dict or "!opaque" not in plain:
            return plain
        if type(value).__name__ in ("FieldInfo", "PrivateAttr", "ModelPrivateAttr"):
            info = self.info(value)
            info.pop("annotation", None)  # that of the field, where it has one already
            return {"!object": [plain["!opaque"], info]}
        state = {n: self.part(held) for n, held in state_of(value).items() if not is_missing(held)}
        return {"!object": [plain["!opaque"], state]}


def _varying(member: Any) -> list[str]:
    own = vars(member).items()
    return [name for name, held in own if not is_constant(held) and not isinstance(held, type)]


_UNREAD: Final = frozenset(
    "name type wrapped_property repr eq eq_key order order_key hash inherited on_setattr".split()
)
_STRUCT_CONFIG: Final = "tag tag_field array_like omit_defaults forbid_unknown_fields".split()
_v1 = functools.partial(sys.modules.get, "pydantic.v1.main")
_KINDS: Final[list[tuple[Callable[[type], bool], Any]]] = [
    (lambda cls: issubclass(cls, Enum), _Walk.members),
    (is_model, _Walk.modelled),
    (lambda cls: derives(cls, getattr(_v1(), "BaseModel", None)), _Walk.older),
    (lambda cls: type(cls).__name__ == "_TypedDictMeta", _Walk.typed_dict),
    (lambda cls: issubclass(cls, tuple) and "_fields" in vars(cls), _Walk.named_tuple),
    (lambda cls: "__dataclass_fields__" in vars(cls), _Walk.dataclass),
    (lambda cls: "__attrs_attrs__" in vars(cls), _Walk.attrs),
    (lambda cls: type(cls).__name__ == "StructMeta", _Walk.struct),
]
