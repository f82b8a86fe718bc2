"""Reading asks nothing of classes that are hostile in every hook, but what is said in `decode`."""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import kinds
import msgspec
import pydantic
import pytest

from cachewrap.entry import Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.format import codec

T = TypeVar("T")
ran: list[str] = []
armed = False


def note(name: str) -> None:
    if armed:
        ran.append(name)


def hook(name: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    def hooked(*args: Any, **kwargs: Any) -> Any:
        note(name)
        return otherwise(*args, **kwargs)

    return hooked


def absent(self: Any, name: str) -> Any:
    raise AttributeError(name)


def meta(base: type) -> Any:
    """A metaclass whose every hook is noted."""
    hooks: dict[str, Any] = {
        name: hook(f"metaclass {name}", getattr(base, name))
        for name in (
            "__call__ __dir__ __eq__ __getattribute__ __hash__ __instancecheck__ __ne__ __repr__ "
            "__setattr__ __subclasscheck__ __subclasses__ mro"
        ).split()
    }
    hooks["__getattr__"] = hook("metaclass __getattr__", getattr(base, "__getattr__", absent))
    return type(f"Hostile{base.__name__}", (base,), hooks)


class Hooks:
    """Every hook of an object and of its class, noted."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        note("__class__")
        return type(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        note("__init_subclass__")

    def __class_getitem__(cls, item: Any) -> Any:
        note("__class_getitem__")
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        note("__get_pydantic_core_schema__")
        return handler(source)


HOOKS: dict[str, Any] = {
    **{
        name: hook(name, getattr(object, name))
        for name in (
            "__delattr__ __dir__ __eq__ __format__ __getattribute__ __hash__ __init__ __ne__ "
            "__reduce_ex__ __repr__ __setattr__ __sizeof__ __str__"
        ).split()
    },
    **{
        name: hook(name, lambda *_: 1)
        for name in (
            "__bool__ __call__ __contains__ __copy__ __deepcopy__ __enter__ __index__ __int__ "
            "__iter__ __len__ __or__ __ror__ __post_init__ __attrs_post_init__ __setstate__ "
            "__getstate__ __set_name__ model_post_init __delitem__ __setitem__"
        ).split()
    },
    "__getattr__": hook("__getattr__", absent),
}


def arm(cls: Any, *without: str) -> Any:
    """Put every hook into a class that is made."""
    for name, hooked in HOOKS.items():
        if name not in without:
            type.__setattr__(cls, name, hooked)
    return cls


def factory() -> int:
    note("a default factory")
    return 1


@dataclasses.dataclass
class Record(Hooks, metaclass=meta(type)):
    one: Any
    two: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Grown(Hooks, metaclass=meta(type)):
    one: Any
    two: int = dataclasses.field(default_factory=factory)


class Model(pydantic.BaseModel, metaclass=meta(type(pydantic.BaseModel))):
    one: Any
    two: list[Any] = []


class Late(pydantic.BaseModel, metaclass=meta(type(pydantic.BaseModel))):
    one: Any
    two: int = pydantic.Field(default_factory=factory)


class Box(pydantic.BaseModel, Generic[T], metaclass=meta(type(pydantic.BaseModel))):
    content: T


@attrs.define(slots=False)
class Defined(Hooks, metaclass=meta(type)):
    one: Any
    two: Any = attrs.Factory(factory)


class Struct(msgspec.Struct):
    one: Any
    two: Any = msgspec.field(default_factory=factory)


class Colour(enum.Enum, metaclass=meta(enum.EnumMeta)):
    RED = 1


class Right(enum.Flag, metaclass=meta(enum.EnumMeta)):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    one: Any


class Wide(Pair, metaclass=meta(type)):
    pass


class Words(list[Any], metaclass=meta(type)):
    pass


class Text(str, metaclass=meta(type)):
    pass


class Table(dict[Any, Any], metaclass=meta(type)):
    pass


class Neither(Hooks, metaclass=meta(type)):
    """A class of no stored sort."""


SPEC = [f"{__name__}:Box", ["builtins:int"]]
PARAMETRISED = Box[int]
for made in (Record, Grown, Defined, Words, Table, Wide, Neither):
    arm(made)
arm(Model, "__getattr__")
arm(Late, "__getattr__")
arm(Box, "__getattr__")
arm(Text)
arm(Colour, "__set_name__")
arm(Right, "__set_name__")
for name in ("__init__", "__setattr__", "__getattribute__", "__eq__", "__hash__", "__setstate__"):
    type.__setattr__(Struct, name, HOOKS[name])


@pytest.fixture(autouse=True)
def watching() -> Iterator[None]:
    global armed
    ran.clear()
    armed = True
    yield
    armed = False


def read(plain: Any) -> str:
    try:
        codec.decode(Kind.VALUE, b"\x01" + msgspec.msgpack.encode(plain))
    except CorruptEntryError:
        return "corrupt"
    except MissingTypeError:
        return "missing"
    return "read"


def at(name: str) -> str:
    return f"{__name__}:{name}"


STATE = {"one": 1, "two": 2}
READ: dict[str, Any] = {
    "dataclass": {"!dataclass": [at("Record"), STATE]},
    "dataclass that gained a field": {"!dataclass": [at("Record"), {"one": 1}]},
    "dataclass with attributes": {"!dataclass": [at("Record"), {**STATE, "__class__": 1}]},
    "model": {"!pydantic": [at("Model"), STATE, None, ["one"], None]},
    "model that gained a field": {"!pydantic": [at("Model"), {}, None, [], None]},
    "generic model": {"!pydantic": [SPEC, {"content": 1}, None, [], None]},
    "attrs": {"!attrs": [at("Defined"), STATE]},
    "struct": {"!struct": [at("Struct"), STATE]},
    "enum": {"!enum": [at("Colour"), "RED", 1]},
    "flag": {"!enum": [at("Right"), ["READ"]]},
    "named tuple": {"!namedtuple": [at("Wide"), [1], {"more": 1}]},
    "list": {"!subclass": [at("Words"), [1, 2], {"more": 1}]},
    "text": {"!subclass": [at("Text"), "a", {"more": 1}]},
    "dictionary": {"!subclass": [at("Table"), {"a": 1}, {"more": 1}]},
    "default dictionary": {"!defaultdict": [at("Record"), []]},
    "one in another": {"!dataclass": [at("Record"), {"one": {"!attrs": [at("Defined"), STATE]}}]},
}


@pytest.mark.parametrize("name", READ)
def test_nothing_runs_where_it_is_read(name: str) -> None:
    assert (read(READ[name]), ran) == ("read", [])


REFUSED: dict[str, Any] = {
    "dataclass whose field has a factory": {"!dataclass": [at("Grown"), {"one": 1}]},
    "model whose field has a factory": {"!pydantic": [at("Late"), {"one": 1}, None, [], None]},
    "attrs whose field has a factory": {"!attrs": [at("Defined"), {"one": 1}]},
    "struct whose field has a factory": {"!struct": [at("Struct"), {"one": 1}]},
    "flags that were not combined": {"!enum": [at("Right"), ["READ", "WRITE"]]},
    "enum of another value": {
        "!enum": [at("Colour"), "RED", {"!dataclass": [at("Record"), STATE]}]
    },
    "another generic model": {
        "!pydantic": [[at("Box"), ["builtins:str"]], {"content": 1}, None, [], None]
    },
    "generic model of a hostile class": {
        "!pydantic": [[at("Box"), [at("Record")]], {"content": 1}, None, [], None]
    },
    "a subclass whose content is another": {
        "!subclass": [at("Text"), {"!dataclass": [at("Record"), STATE]}, {}]
    },
    "an attribute that a class cannot have": {"!dataclass": [at("Record"), [1]]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_runs_where_it_is_refused(name: str) -> None:
    assert (read(REFUSED[name]) in ("corrupt", "missing"), ran) == (True, [])


NAMES = "Record Grown Model Late Box Defined Struct Colour Right Wide Words Text Table Neither"
TAGS = "namedtuple enum pydantic dataclass attrs struct subclass url defaultdict".split()


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", NAMES.split())
def test_nothing_runs_where_a_class_is_judged(name: str, tag: str) -> None:
    for rest in ([], ["a"], [{}], [[], {}], [{}, None, [], None], [1, 2]):
        read({f"!{tag}": [at(name), *rest]})
    assert ran == []


def test_what_runs_are_the_hashes_of_members_and_keys() -> None:
    member = {"!dataclass": [at("Record"), STATE]}
    assert read({"!set": [member]}) == "read"
    assert set(ran) == {"__hash__"}
    ran.clear()
    assert read({"!dict": [[member, 1]]}) == "read"
    assert set(ran) == {"__hash__"}


def test_an_error_of_a_hash_is_not_shown_by_its_own_code() -> None:
    class Loud(Exception):
        def __repr__(self) -> str:
            ran.append("repr")
            return "loud"

        __str__ = __repr__

    def fail(self: Any) -> int:
        raise Loud

    type.__setattr__(Neither, "__hash__", fail)
    original = type.__getattribute__(Record, "__dict__")["__hash__"]
    type.__setattr__(Record, "__hash__", fail)
    try:
        with pytest.raises(CorruptEntryError, match=r"cannot be read: .*Loud$"):
            codec.decode(
                Kind.VALUE,
                b"\x01" + msgspec.msgpack.encode({"!set": [{"!dataclass": [at("Record"), STATE]}]}),
            )
    finally:
        type.__setattr__(Record, "__hash__", original)
    assert ran == []


def lazily(name: str) -> types.ModuleType:
    """A module that is loaded when it is looked into."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("module", "plain"),
    [
        pytest.param("numpy", {"!array": ["u1", [1], b"a"]}, id="array"),
        pytest.param("ipaddress", {"!ip": ["IPv4Address", "1.2.3.4"]}, id="address"),
        pytest.param("pydantic_core", {"!zone": {"pydantic": 60}}, id="zone"),
        pytest.param("wave", {"!dataclass": ["wave:Thing", {}]}, id="class"),
    ],
)
def test_a_lazy_module_stays_unloaded(
    module: str, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, module)
    lazy = lazily(module)
    assert read(plain) == "missing"
    assert type(lazy) is not types.ModuleType  # it would be one, had it been loaded


def test_the_hostile_classes_are_hostile() -> None:
    record: Any = object.__new__(Record)
    assert isinstance(record, kinds.Point) is False
    hasattr(Record, "nothing")
    assert {"__class__", "metaclass __getattr__", "metaclass __getattribute__"} <= set(ran)
