"""One value of every kind that keys and the codec take, and classes to make them of.

`VALUES` are arguments and answers, `CLASSES` are arguments alone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NewType,
    NotRequired,
    Protocol,
    Required,
    Self,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import numpy
import pydantic
import pydantic.dataclasses
import pydantic_core

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Shade(enum.Enum):
    RED = 1


class Planet(enum.Enum):
    EARTH = ("third", 1.0)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    HI = "hi"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass
class Spot:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int


@dataclasses.dataclass(slots=True, kw_only=True)
class Slotted:
    x: int
    later: list[int] = dataclasses.field(init=False, default_factory=list)


@dataclasses.dataclass
class Eager:
    """Computes in its constructor, and counts how often that ran."""

    x: int

    def __post_init__(self) -> None:
        RAN.append("Eager")
        self.double = 2 * self.x


RAN: list[str] = []


class City(NamedTuple):
    name: str
    people: int


Pair = namedtuple("Pair", "a b")  # noqa: PYI024


class Answer(TypedDict):
    text: str


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = 1
    inner: Model | None = None
    _private: int = pydantic.PrivateAttr(default=5)


class Twin(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = 1
    inner: Model | None = None


class Strict(pydantic.BaseModel):
    """Counts how often its validator ran."""

    a: int

    @pydantic.field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        RAN.append("Strict")
        return value


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Server(pydantic.BaseModel):
    url: pydantic.HttpUrl
    address: ipaddress.IPv4Address | None = None
    named: re.Pattern[str] | None = None


@attrs.define
class Ticket:
    """Computes, checks and makes a private attribute in its constructor."""

    title: str
    count: int = attrs.field(default=1, validator=lambda *_: RAN.append("Ticket"))
    _notes: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        RAN.append("Ticket")


@attrs.frozen(slots=False, cache_hash=True)
class Badge:
    name: str


@attrs.frozen
class Fee(Ticket):
    amount: float = 0.0


class Cost(msgspec.Struct, frozen=True, array_like=True, tag="cost"):
    tokens: int
    price: float | msgspec.UnsetType = msgspec.UNSET


class Order(msgspec.Struct, dict=True, kw_only=True):
    items: list[Cost] = []
    note: str = ""


@pydantic.dataclasses.dataclass
class Checked:
    """Computes in its constructor, and counts how often that ran."""

    x: int

    def __post_init__(self) -> None:
        RAN.append("Checked")


@dataclasses.dataclass
class Crate(Generic[T]):
    content: T


class NotedCity(City):
    note: str


class Labels(list[str]):
    """Counts how often its constructor ran."""

    def __init__(self, *args: Any) -> None:
        RAN.append("Labels")
        super().__init__(*args)


class Scores(dict[str, int]):
    def __setitem__(self, key: str, value: int) -> None:
        RAN.append("Scores")
        super().__setitem__(key, value)


class Name(str):
    __slots__ = ("given",)
    given: str


class Kilos(float):
    pass


class Members(frozenset[int]):
    pass


class Row(tuple[int, ...]):
    pass


def noted(made: Any, **state: Any) -> Any:
    for name, value in state.items():
        setattr(made, name, value)
    return made


def eager() -> Eager:
    made = Eager(2)
    made.note = "added"  # type: ignore[attr-defined]
    return made


def extended() -> Model:
    made = Model.model_validate({"a": 2, "more": [1, {"b": (2,)}]})
    made._private = 6
    made.added = 1.5  # type: ignore[attr-defined]
    made.__pydantic_fields_set__.add("added")  # newer versions of pydantic do so themselves
    return made


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
EAST = dt.timezone(dt.timedelta(hours=2))

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "minus one": -1,
    "largest 64-bit integer": 2**64 - 1,
    "large integer": 2**80,
    "large negative integer": -(2**70),
    "float one": 1.0,
    "float": 0.1,
    "minus zero": -0.0,
    "tiny": 5e-324,
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "complex": 1 + 2j,
    "complex with nan": complex(math.nan, -math.inf),
    "empty text": "",
    "text": "text",
    "digit": "1",
    "unicode": "grüß dich, 世界 🌍",
    "lone surrogate": "a\ud800b",
    "bytes": b"text",
    "empty bytes": b"",
    "bytearray": bytearray(b"text"),
    "empty list": [],
    "list": [1, "two", None],
    "nested list": [[1], [[2]]],
    "empty tuple": (),
    "tuple": (1, "two", None),
    "tuple in list": [(1,)],
    "set": {1, 2, 3},
    "empty set": set(),
    "frozenset": frozenset({1, 2, 3}),
    "empty dict": {},
    "dict": {"b": 1, "a": [2]},
    "dict of ints": {1: "a", 2: "b"},
    "dict of mixed keys": {1: "a", "1": "b", (1, 2): "c", None: "d", 1.5: "e", b"1": "f"},
    "dict with a surrogate key": {"\ud800": 1},
    "look-alike of a tag": {"!tuple": [1]},
    "look-alike of bytes": {"!bytes": "dGV4dA=="},
    "look-alike of a dict": {"!dict": [["a", 1]]},
    "two keys with marks": {"!a": 1, "!b": 2},
    "ordered dict": OrderedDict(b=1, a=2),
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 15, 123456),
    "datetime in UTC": dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    "datetime with an offset": dt.datetime(2024, 2, 29, tzinfo=EAST),
    "datetime with a named offset": dt.datetime(
        2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=2), "EET")
    ),
    "datetime in a zone": dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS),
    "datetime in a fold": dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=PARIS),
    "time": dt.time(12, 30),
    "time with an offset": dt.time(12, 30, tzinfo=EAST),
    "timedelta": dt.timedelta(days=-1, seconds=2, microseconds=3),
    "time zone": PARIS,
    "time zone with an offset": EAST,
    "time zone of UTC": dt.UTC,
    "uuid": uuid.UUID("12345678123456781234567812345678"),
    "decimal": decimal.Decimal("1.10"),
    "decimal of other digits": decimal.Decimal("1.1"),
    "decimal nan": decimal.Decimal("NaN"),
    "fraction": fractions.Fraction(1, 3),
    "pure posix path": pathlib.PurePosixPath("a/b"),
    "pure windows path": pathlib.PureWindowsPath("a\\b"),
    "path": pathlib.Path("a/b"),
    "enum": Colour.RED,
    "enum of another class": Shade.RED,
    "enum of tuples": Planet.EARTH,
    "int enum": Level.LOW,
    "str enum": Word.HI,
    "flag": Right.READ,
    "flags": Right.READ | Right.WRITE,
    "no flags": Right(0),
    "dataclass": Point(1, Point("a")),
    "dataclass of another class": Spot(1, Point("a")),
    "frozen dataclass": Frozen(1),
    "slotted dataclass": Slotted(x=1),
    "dataclass with added attributes": eager(),
    "named tuple": City("Paris", 2_100_000),
    "classic named tuple": Pair(1, [2]),
    "typed dict": Answer(text="hi"),
    "namespace": SimpleNamespace(cost=1.5, self=[1]),
    "model": Model(a=2),
    "model with defaults": Model(),
    "model of another class": Twin(a=2),
    "model with extras and privates": extended(),
    "nested model": Model(inner=Model(a=3)),
    "generic model": Box[int](content=1),
    "generic model of a model": Box[Model](content=Model()),
    "generic model of a list": Box[list[int]](content=[1]),
    "generic model of models": Box[dict[str, Model]](content={"a": Model()}),
    "generic model of what may be none": Box[int | None](content=None),
    "generic model of a literal": Box[Literal["a", 1, Colour.RED]](content="a"),
    "generic model of what is annotated": Box[Annotated[int, pydantic.Field(gt=0)]](content=1),
    "generic model in its like": Box[Box[list[Model]]](content=Box[list[Model]](content=[])),
    "root model": Numbers([1, 2]),
    "generic root model": pydantic.RootModel[list[int]]([1, 2]),
    "model of a URL": Server(url="https://a.b/c?d=e", named=re.compile("a")),  # type: ignore[arg-type]
    "pydantic dataclass": Checked(1),
    "generic dataclass": Crate[int](1),
    "URL": pydantic.AnyUrl("ftp://a.b/c"),
    "URL of another class": pydantic.AnyHttpUrl("http://a.b/c"),
    "URL of several hosts": pydantic.PostgresDsn("postgres://u:p@a:1,b:2/c"),
    "URL of the core": pydantic_core.Url("ftp://a.b/c"),
    "address": ipaddress.ip_address("10.0.0.1"),
    "address of version 6": ipaddress.ip_address("fe80::1%eth0"),
    "network": ipaddress.ip_network("10.0.0.0/8"),
    "network of version 6": ipaddress.ip_network("fe80::/64"),
    "interface": ipaddress.ip_interface("10.0.0.1/8"),
    "interface of version 6": ipaddress.ip_interface("fe80::1/64"),
    "pattern": re.compile("a+", re.IGNORECASE),
    "pattern of bytes": re.compile(b"a+"),
    "range": range(1, 2**70, 2),
    "deque": deque([1, (2,)]),
    "bounded deque": deque([1, (2,)], 5),
    "counter": Counter({"a": 2, "b": -1}),
    "default dictionary": defaultdict(list, a=[1]),
    "default dictionary of a class": defaultdict(Model, a=Model()),
    "default dictionary without a factory": defaultdict(None, a=1),
    "mapping proxy": MappingProxyType({"a": 1, 2: (3,)}),
    "attrs": Ticket("a", notes=["n"]),
    "frozen attrs": Badge("a"),
    "derived attrs": Fee("a", amount=1.5),
    "struct": Cost(1),
    "struct with more attributes": noted(Order(items=[Cost(1, 2.5)]), more=(1,)),
    "unset": msgspec.UNSET,
    "named tuple with more attributes": noted(NotedCity("Paris", 1), note="n"),
    "subclass of a list": noted(Labels(["a", "b"]), by="me"),
    "subclass of a dictionary": Scores(a=1),
    "subclass of text": noted(Name("Ada L."), given="Ada"),
    "subclass of a number": Kilos(1.5),
    "subclass of a frozen set": Members({1, 2}),
    "subclass of a tuple": Row((1, 2)),
    "array": numpy.arange(6, dtype="<i8").reshape(2, 3),
    "array of another shape": numpy.arange(6, dtype="<i8").reshape(3, 2),
    "array of another type": numpy.arange(6, dtype="<f4").reshape(2, 3),
    "empty array": numpy.zeros((0, 3)),
    "array of dates": numpy.array(["2024-02-29"], dtype="<M8[D]"),
    "numpy number": numpy.float32(1.5),
    "numpy text": numpy.str_("text"),
    "conversation": {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.7,
    },
}

# -- classes, and what is made of them: arguments alone, no answers --------------------------------


class Label(enum.Enum):
    """How a text sounds."""

    KIND = "kind"
    HARSH = "harsh"
    RUDE = "harsh"  # noqa: PIE796


class Sphere(enum.Enum):
    EARTH = (5.97, 6.4)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass


class Review(pydantic.BaseModel):
    """What a reader thinks."""

    reasoning: str = pydantic.Field(description="why")
    label: Label
    score: Annotated[int, pydantic.Field(ge=0, le=5)] = 3
    parts: list[Review] = []
    when: dt.date | None = pydantic.Field(default=None, alias="date")
    place: pathlib.Path | None = None
    tone: ClassVar[str] = "plain"


class Callback(pydantic.BaseModel):
    """It has no JSON schema."""

    call: Callable[[int], str]


class Words(pydantic.RootModel[list[str]]):
    pass


@pydantic.dataclasses.dataclass
class Verified:
    x: int = pydantic.Field(description="the first")


@dataclasses.dataclass
class Tree:
    leaves: list[Tree]
    label: Label = Label.KIND
    weight: float = dataclasses.field(default=1.5, metadata={"unit": "kg"})
    seed: dataclasses.InitVar[int] = 0
    prompt: ClassVar[str] = "Grow."


class Oak(Tree):
    """A tree of one kind."""

    rings = [1, 2]  # noqa: RUF012

    def __init__(self, age: int) -> None:
        super().__init__([])
        self.age = age


class Partial(TypedDict, total=False):
    """Some of it."""

    text: Required[str]
    note: Annotated[str, "what was left out"]


class Loose(TypedDict):
    text: str
    note: NotRequired[str]


class Town(NamedTuple):
    """A small one."""

    name: str
    people: int = 500


class Shelf(Generic[T]):
    content: T


class Speaker(Protocol):
    name: str

    def say(self) -> str: ...


class Agent:
    """Answers questions."""

    prompt = "Answer."
    stop = ["\n", {"a": (1, 2.0)}]  # noqa: RUF012
    answer = Review
    limits: dict[str, int] = {"tokens": 100}  # noqa: RUF012

    def ask(self) -> None: ...


UserId = NewType("UserId", int)
Chosen = TypeVar("Chosen", bound=Label)

CLASSES: dict[str, Any] = {
    "class of enum": Label,
    "class of enum with state": Sphere,
    "class of int enum": Level,
    "class of str enum": Word,
    "class of flag": Right,
    "class made by Enum()": enum.Enum("Made", ["A", "B"], module="kinds"),
    "class of model": Review,
    "class of model without schema": Callback,
    "class of root model": Words,
    "class of generic model": Box,
    "class of parametrised model": Box[int],
    "class of parametrised model of a model": Box[Review],
    "class of pydantic dataclass": Verified,
    "class of dataclass": Tree,
    "class of slotted dataclass": Slotted,
    "class of subclass of a dataclass": Oak,
    "class of typed dict": Partial,
    "class of other typed dict": Loose,
    "class of named tuple": Town,
    "class of classic named tuple": Pair,
    "class of generic class": Shelf,
    "class of protocol": Speaker,
    "class of one's own": Agent,
    "class of builtins": int,
    "class of the standard library": pathlib.Path,
    "class of None": type(None),
    "form of list": list[Review],
    "form of dict": dict[str, Label],
    "form of tuple": tuple[int, ...],
    "form of empty tuple": tuple[()],
    "form of union": int | str,
    "form of union in another order": str | int,
    "form of optional": Review | None,
    "form of literal": Literal["a", 1, True, b"x", Label.KIND],
    "form of annotated": Annotated[int, pydantic.Field(description="a number"), "text", 1],
    "form of validated": Annotated[str, pydantic.BeforeValidator(eager)],
    "form of class": type[Review],
    "form of callable": Callable[[int, str], bool],
    "form of any callable": Callable[..., None],
    "form of generic class": Shelf[int],
    "form of type variable": Chosen,
    "form of new type": UserId,
    "form of forward reference": list["Missing"],  # type: ignore[name-defined]  # noqa: F821
    "form of Any": Any,
    "form of Self": Self,
    "form of Never": Never,
    "form of Ellipsis": ...,
    "form of required": Required[int],
    "member with state": Sphere.EARTH,
    "member by its alias": Label.RUDE,
    "object with constants of its class": Oak(7),
}


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, all the way down; NaN is the same as NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, numpy.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, OrderedDict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, defaultdict) and one.default_factory is not other.default_factory:
        return False
    if isinstance(one, MappingProxyType):
        return same(dict(one), dict(other))
    if isinstance(one, deque):
        return one.maxlen == other.maxlen and same(list(one), list(other))
    if (
        isinstance(one, (str, list, tuple, dict))
        and (type(one) not in (str, list, tuple, dict))
        and not same(_state(one), _state(other))
    ):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) for a, b in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, pydantic.BaseModel):
        return all(
            same(getattr(one, part), getattr(other, part))
            for part in ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__")
        ) and same(one.__pydantic_private__, other.__pydantic_private__)
    if dataclasses.is_dataclass(one) and hasattr(one, "__dict__"):
        return same(_state(one), _state(other))
    if type(one).__module__ == "pydantic.networks":  # 2.10 finds two of one text to be different
        return str(one) == str(other)
    if isinstance(one, (dt.datetime, dt.time)):
        return one == other and one.fold == other.fold and repr(one.tzinfo) == repr(other.tzinfo)
    if isinstance(one, (float, complex, decimal.Decimal)):
        return repr(one) == repr(other)
    return bool(one == other)


def _state(value: Any) -> list[Any]:
    """The attributes of an object itself, but for what ``D[int](...)`` notes of how it was made."""
    state = {
        name: item for name, item in getattr(value, "__dict__", {}).items() if name[:2] != "__"
    }
    slots = {name: getattr(value, name) for name in getattr(type(value), "__slots__", ())}
    return sorted({**state, **slots}.items(), key=lambda member: member[0])
