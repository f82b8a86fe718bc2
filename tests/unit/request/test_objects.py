"""Objects in a request: all that they hold counts, and nothing of theirs is run."""

from __future__ import annotations

import collections
import enum
import functools
import itertools
import threading
import types
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from unittest import mock

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, computed_field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from cachewrap import Cache, llm_cached
from cachewrap.errors import UnkeyableError
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode, key_of, salted

T = TypeVar("T")


def key(value: object) -> str:
    return key_of(salted("41"), encode(canonical(value)))


def with_(value: Any, **state: Any) -> Any:
    """The value, with attributes of its own."""
    for name, held in state.items():
        object.__setattr__(value, name, held)
    return value


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any = 1
    unit: ClassVar[str] = "mm"
    _history: list[str] = PrivateAttr(default_factory=list)
    _late: str = PrivateAttr()

    def said(self, *texts: str) -> Model:
        self._history.extend(texts)
        return self

    def later(self, text: str) -> Model:
        self._late = text
        return self


class Odd(Model):
    def __init__(self, x: Any, tone: str) -> None:
        super().__init__(x=x)
        self._history = [tone]


@dataclass
class Point:
    x: Any
    unit: ClassVar[str] = "mm"
    scale = 2


@dataclass
class Prepared:
    x: int
    seed: InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self.drawn = self.x * 100 + seed


class Undecorated(Point):
    def __init__(self, x: Any, tone: str) -> None:
        super().__init__(x)
        self.tone = tone


@dataclass(slots=True)
class Slotted:
    x: Any
    later: Any = field(init=False)


@dataclass(slots=True)
class MoreSlots(Slotted):
    y: Any = 0


class OwnSlots(Slotted):
    __slots__ = ("tone",)

    def __init__(self, x: Any, tone: str) -> None:
        super().__init__(x)
        self.tone = tone


@dataclass
class Late:
    x: int = field(init=False, default=3)


@pydantic_dataclass
class Checked:
    x: Any

    def __post_init__(self) -> None:
        self.seen = [self.x]


@dataclass
class Page(Generic[T]):
    item: T


@dataclass
class Failure(Exception):
    code: int


class Named(NamedTuple):
    x: Any


class Noted(Named):
    note: str


class Text(str):
    note: str


class Row(list[Any]):
    pass


class Bag(dict[str, Any]):
    pass


class Ordered(collections.OrderedDict[str, Any]):
    pass


class Defaults(collections.defaultdict[str, Any]):
    pass


class Queue(collections.deque[Any]):
    pass


class Space(types.SimpleNamespace):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1  # noqa: PIE796


class Planet(enum.Enum):
    EARTH = (5.97, 6.4)
    MARS = (0.64, 3.4)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Shown(str, enum.Enum):  # noqa: UP042
    A = "a"
    B = "b"


def made(name: str, **state: Any) -> Any:
    """A class of this name, another each time."""
    return type(name, (), {"__module__": "made", **state})


def edited(members: dict[str, Any], base: Any = enum.Enum) -> Any:
    return base("Edited", members, module="made")


def member_with(**state: Any) -> Any:
    return with_(edited({"A": 1}).A, **state)


def shown(text: str) -> Any:
    """A member whose text is another than its value."""
    namespace = enum.EnumType.__prepare__("Shown", (str, enum.Enum))

    def new(cls: Any, value: str) -> Any:
        member = str.__new__(cls, text)
        member._value_ = value
        return member

    namespace["__new__"], namespace["A"] = new, "a"
    namespace["__module__"] = "made"
    return enum.EnumType("Shown", (str, enum.Enum), namespace)["A"]  # type: ignore[index]


def constant(**attributes: Any) -> Any:
    """An object of a class with these attributes, and none of its own."""
    return dataclass(made("Agent", **attributes))()


# Any two values of one family differ.
DIFFERENT: dict[str, list[Any]] = {
    "private attributes": [
        *(Model(), Model().said("hi"), Model().said("hi", "ho"), Model(x=2)),
        *(Model().later("a"), Model().later("b"), Model().said("a")),
        *(Odd(1, "kind"), Odd(1, "harsh")),
    ],
    "where an attribute of a model is": [
        Model().said("a"),
        with_(Model(), _history=["a"]),
        Model.model_validate({"_history": ["a"]}),
        Model(history=["a"]),
    ],
    "attributes set on a model": [Model(), with_(Model(), tone="a"), with_(Model(), tone="b")],
    "a class's own value": [Model(), with_(Model(), unit="cm"), with_(Model(), unit="m")],
    "extras": [Model(), Model(y=1), Model(y=2), Model(z=1)],
    "InitVar and __post_init__": [Prepared(1), Prepared(1, 5), Prepared(1, 6), Prepared(2)],
    "undecorated subclasses": [Undecorated(1, "a"), Undecorated(1, "b"), Point(1)],
    "attributes set on a dataclass": [Point(1), with_(Point(1), y=1), with_(Point(1), y=2)],
    "constants of a dataclass": [Point(1), with_(Point(1), unit="cm"), with_(Point(1), scale=3)],
    "slots": [
        *(Slotted(1), Slotted(2), with_(Slotted(1), later=1), with_(Slotted(1), later=2)),
        *(MoreSlots(1), MoreSlots(1, 2), OwnSlots(1, "a"), OwnSlots(1, "b")),
    ],
    "dataclasses of pydantic": [Checked(1), Checked(2), with_(Checked(1), seen=[2])],
    "type parameters": [Page(1), Page[int](1), Page[str](1)],
    "exceptions that are dataclasses": [Failure(1), Failure(2), with_(Failure(1), args=("a",))],
    "named tuples": [Named(1), Named(2), Noted(1), with_(Noted(1), note="a")]
    + [with_(Noted(1), note="b")],
    "texts": [Text("a"), with_(Text("a"), note="a"), with_(Text("a"), note="b"), Text("b"), "a"],
    "lists": [Row([1]), with_(Row([1]), note="a"), with_(Row([1]), note="b"), Row([2]), [1]],
    "dictionaries": [Bag(a=1), with_(Bag(a=1), note="a"), with_(Bag(a=1), note="b"), {"a": 1}],
    "ordered dictionaries": [
        *(Ordered(a=1, b=2), Ordered(b=2, a=1), with_(Ordered(a=1, b=2), note="a")),
        collections.OrderedDict(a=1, b=2),
    ],
    "defaults": [Defaults(None, a=1), Defaults(int, a=1), Defaults(list, a=1)]
    + [with_(Defaults(int, a=1), note="a")],
    "queues": [Queue([1]), Queue([1], 3), Queue([2]), with_(Queue([1]), note="a")],
    "bytes": [type("Raw", (bytearray,), {})(b"a"), type("Raw", (bytearray,), {})(b"b")],
    "namespaces": [Space(x=1), Space(x=2), Space(), types.SimpleNamespace(x=1)],
    "members": [Colour.RED, Colour.BLUE, Planet.EARTH, Planet.MARS, Shown.A, Shown.B],
    "members whose value was edited": [
        edited({"A": 1}).A,
        edited({"A": 2}).A,
        edited({"A": "1"}).A,
        edited({"A": True}).A,
        edited({"A": (1, 2)}).A,
        edited({"B": 1}).B,
    ],
    "members with a state": [edited({"A": 1}).A, member_with(text="a"), member_with(text="b")],
    "members with a text": [shown("a"), shown("b"), shown("c")],
    "flags": [
        *(Right.READ, Right.WRITE, Right.READ | Right.WRITE, Right(0)),
        edited({"READ": 1, "WRITE": 2}, enum.Flag)(3),
        edited({"READ": 4, "WRITE": 2}, enum.Flag)(6),
    ],
    "constants of the class": [
        constant(prompt="a"),
        constant(prompt="b"),
        constant(prompt=("a", 1)),
        constant(prompt=("a", 1.0)),
        constant(),
        constant(prompt=None),
    ],
}


@pytest.mark.parametrize("family", DIFFERENT.values(), ids=DIFFERENT)
def test_objects_that_hold_something_else_differ(family: list[Any]) -> None:
    keys = [key(value) for value in family]
    pairs = itertools.combinations(range(len(family)), 2)
    assert [(family[i], family[j]) for i, j in pairs if keys[i] == keys[j]] == []


EQUAL: dict[str, tuple[Any, Any]] = {
    "which fields were set": (Model(x=1), Model()),
    "a private attribute that was never set": (Model(), Model()),
    "the order of what was set": (with_(Point(1), a=1, b=2), with_(Point(1), b=2, a=1)),
    "an alias": (Colour.RED, Colour.CRIMSON),
    "a default that is read from the class": (Late(), with_(Late(), x=3)),
    "a combination of flags": (Right.READ | Right.WRITE, Right.WRITE | Right.READ),
    "lists of the class": (constant(seen=[]), constant(seen=[1])),
    "functions of the class": (constant(f=lambda self: 1), constant(f=lambda self: 2)),
    "a member that stands for nothing": (edited({"A": object()}).A, edited({"A": object()}).A),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_objects_that_hold_the_same_are_equal(one: Any, other: Any) -> None:
    assert key(one) == key(other)


def test_a_flag_that_was_inverted_is_the_same() -> None:
    before = key(Right.READ)
    assert ~Right.READ == Right.WRITE
    assert key(Right.READ) == before


# -- caches -------------------------------------------------------------------------------------


class Kept:
    """The descriptor of another library, which keeps what it gave."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, value: Any, owner: Any = None) -> Any:
        return value.__dict__.setdefault(self.name, self.function(value))


class KeptProperty(property):
    """The same, as Werkzeug has it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, value: Any, owner: Any = None) -> Any:
        return value.__dict__.setdefault(self.name, self.fget(value))  # type: ignore[misc]

    def __set__(self, value: Any, held: Any) -> None:
        value.__dict__[self.name] = held


class subclassed(functools.cached_property[Any]):
    pass


class CachingModel(BaseModel):
    model_config = ConfigDict(ignored_types=(subclassed,))
    x: int = 1

    @functools.cached_property
    def total(self) -> int:
        return self.x

    @computed_field
    @functools.cached_property
    def shown(self) -> int:
        return self.x

    @subclassed
    def other(self) -> object:
        return object()


@dataclass
class CachingPoint:
    x: int = 1

    @functools.cached_property
    def total(self) -> object:
        return threading.Lock()

    @Kept
    def shown(self) -> Any:
        return object()

    @KeptProperty
    def other(self) -> Any:
        return object()


class CachingRow(list[Any]):
    total = shown = other = functools.cached_property(lambda self: object())
    total.__set_name__(None, "total")  # type: ignore[arg-type]
    shown = CachingPoint.__dict__["shown"]
    other = CachingPoint.__dict__["other"]


@pytest.mark.parametrize("make", [CachingModel, CachingPoint, CachingRow])
def test_what_an_object_has_computed_and_kept_makes_no_difference(make: Any) -> None:
    value = make()
    before = key(value)
    for name in ("total", "shown", "other"):
        getattr(value, name)
        assert name in vars(value)
        assert key(value) == before


def test_what_a_member_has_computed_makes_no_difference() -> None:
    class Tone(enum.Enum):
        A = 1

        @functools.cached_property
        def total(self) -> int:
            return 1

    before = key(Tone.A)
    assert Tone.A.total == 1
    assert "total" in vars(Tone.A)
    assert key(Tone.A) == before


class Fixed:
    """A descriptor that is the declared default of a field."""

    def __get__(self, value: Any, owner: Any = None) -> int:
        return 7


class Usually:
    """A descriptor that gives what an object has not been given."""

    def __init__(self, usual: str) -> None:
        self.usual = usual

    def __get__(self, value: Any, owner: Any = None) -> str:
        return self.usual


class Voiced(Point):
    tone = Usually("kind")


def test_what_an_object_is_given_in_place_of_a_default_counts() -> None:
    values = [Voiced(1), with_(Voiced(1), tone="curt"), with_(Voiced(1), tone="rude")]
    assert len({key(value) for value in values}) == 3


class Prompts:
    prompt = "Answer."


class Prompted(Prompts, BaseModel):
    x: int = 1


def test_a_model_counts_by_the_constants_of_its_other_bases(monkeypatch: Any) -> None:
    before = key(Prompted())
    monkeypatch.setattr(Prompts, "prompt", "Answer briefly.")
    assert key(Prompted()) != before


@dataclass
class Described:
    x: int = Fixed()  # type: ignore[assignment]


def test_a_field_counts_whatever_its_class_has_under_its_name() -> None:
    assert key(Described(1)) != key(Described(2))


def test_a_method_that_is_replaced_counts() -> None:
    class Agent(Row):
        def ask(self) -> None: ...

        partial = functools.partialmethod(ask)
        made = classmethod(ask)

    plain = Agent()
    for name in ("ask", "partial", "made"):
        assert key(with_(Agent(), **{name: 1})) != key(plain)


# -- nothing of theirs runs ---------------------------------------------------------------------


def never(*_: Any) -> Any:
    raise AssertionError("it ran")


class Hostile:
    __getattr__ = __eq__ = __repr__ = never
    __hash__ = None  # type: ignore[assignment]
    shown = property(never)


HOSTILE: dict[str, Any] = {
    "a dataclass": dataclass(eq=False, repr=False)(type("D", (Hostile,), {"x": 1})),
    "a dataclass with its own reading": dataclass(eq=False, repr=False)(
        type("D", (), {"__getattribute__": never})
    ),
    "a text": type("S", (Hostile, str), {"__str__": never, "__len__": never}),
    "a dictionary": type("B", (Hostile, dict), {"items": never, "__iter__": never}),
    "an ordered dictionary": type(
        "O", (Hostile, collections.OrderedDict), {"items": never, "__getitem__": never}
    ),
    "a namespace": type("N", (Hostile, types.SimpleNamespace), {}),
    "a model": type(BaseModel)("M", (BaseModel,), {"__module__": "made", "shown": property(never)}),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_nothing_of_theirs_is_run(make: Any) -> None:
    assert key(make()) == key(make())


# -- what has no form ---------------------------------------------------------------------------


class Agent(BaseModel):
    name: str = "a"
    _client: Any = PrivateAttr(default=None)


class Stored:
    """A descriptor that keeps the value of a field where nobody sees it."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}

    def __get__(self, value: Any, owner: Any = None) -> Any:
        return 0 if value is None else self.held[id(value)]

    def __set__(self, value: Any, held: Any) -> None:
        self.held[id(value)] = held


@dataclass
class Elsewhere:
    x: int = Stored()  # type: ignore[assignment]


@dataclass
class Foreign(threading.local):
    x: int = 1


class Nameless(enum.IntFlag):
    R = 1


def connected() -> Agent:
    agent = Agent()
    agent._client = threading.Lock()
    return agent


REFUSED: dict[str, tuple[Any, str]] = {
    "a private attribute": (connected(), r"^self\._client is a lock,"),
    "an attribute of a model": (with_(Agent(), lock=threading.Lock()), r"^self\.lock is a lock,"),
    "an attribute of a dataclass": (with_(Point(1), call=never), r"^self\.call is a function,"),
    "an attribute of a text": (with_(Text("a"), lock=threading.Lock()), r"^self\.lock is a lock,"),
    "a factory": (Defaults(lambda: 1), r"^self\.default_factory is a function,"),
    "a field that is elsewhere": (Elsewhere(1), r"^self\.x is kept by a Stored,"),
    "the value of a member": (
        edited({"A": threading.Lock()}).A,
        r"^self\.value is a lock,",
    ),
    "the state of a member": (member_with(lock=threading.Lock()), r"^self\.lock is a lock,"),
    "flags without a name": (Nameless(9), "^self is a Nameless with a value that has no name,"),
    "a dataclass over what is not in attributes": (Foreign(), "^self is a Foreign,"),
    "a mock": (mock.Mock(), "^self is a Mock,"),
    "a mock with everything": (mock.MagicMock(), "^self is a MagicMock,"),
    "a mock of a class": (mock.Mock(spec=Point), "^self is a Mock,"),
    "a mock of a model": (mock.create_autospec(Model, instance=True), "^self is a "),
    "an object that says it is another": (
        type("Liar", (), {"__class__": property(lambda self: Point)})(),
        "^self is a Liar,",
    ),
    "an object that says it is a class": (
        type("Liar", (), {"__class__": type})(),
        "^self is a Liar,",
    ),
    "an object that says it is a member": (
        type("Liar", (), {"__class__": Colour})(),
        "^self is a Liar,",
    ),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_form_is_named_with_its_place_and_a_way_out(value: Any, message: str) -> None:
    with pytest.raises(UnkeyableError, match=message) as raised:
        canonical(value, where="self")
    for way in ("ignore=", "key=", "__cache_key__"):
        assert way in str(raised.value)


def test_a_registered_class_is_not_taken_for_a_model() -> None:
    class Alien:
        pass

    BaseModel.register(Alien)
    with pytest.raises(UnkeyableError, match=r"Alien,"):
        key(Alien())


# -- what they say of themselves ----------------------------------------------------------------


class Keyed(BaseModel):
    x: int = 1
    _client: Any = PrivateAttr(default_factory=threading.Lock)

    def __cache_key__(self) -> object:
        return self.x


class KeyedKind(type):
    version = 1

    def __cache_key__(cls) -> object:
        return [cls.__name__, cls.version]


class OfKind(metaclass=KeyedKind):
    """Its class has a key of its own, and its objects have none."""

    def __cache_key__(self) -> object:
        return "an object"


def test_an_object_with_a_key_of_its_own_counts_by_that() -> None:
    assert key(Keyed()) == key(Keyed()) != key(Keyed(x=2))


def test_a_class_is_not_asked_for_the_key_of_its_objects() -> None:
    assert key(Keyed) != key(Keyed())


def test_a_class_and_its_objects_have_keys_of_their_own() -> None:
    before = key(OfKind), key(OfKind())
    assert canonical(OfKind()) == {"!object": [f"{__name__}:OfKind", "an object"]}
    KeyedKind.version = 2
    try:
        assert key(OfKind) != before[0]
        assert key(OfKind()) == before[1]
    finally:
        KeyedKind.version = 1


def test_the_objects_of_a_class_whose_class_has_a_key_have_none() -> None:
    bare = KeyedKind("Bare", (), {})
    with pytest.raises(UnkeyableError, match="is a Bare,"):
        key(bare())


# -- attrs and msgspec --------------------------------------------------------------------------


def test_an_object_of_attrs_counts_by_all_it_holds() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Slim:
        x: Any

        @functools.cached_property
        def total(self) -> object:
            return object()

    @attrs.define(slots=False)
    class Wide:
        x: Any

    @attrs.frozen(cache_hash=True, slots=False)
    class Hashed:
        x: Any

    @attrs.frozen(cache_hash=True)
    class SlimHashed:
        x: Any

    for value in (Hashed("a"), SlimHashed("a")):
        before = key(value)
        assert hash(value) == hash(value)
        assert key(value) == before

    class Under(Wide):
        def __init__(self, x: Any, tone: str) -> None:
            super().__init__(x)
            self.tone = tone

    values = [Slim(1), Slim(2), Wide(1), Wide(2), with_(Wide(1), y=1), Under(1, "a"), Under(1, "b")]
    assert len({key(value) for value in values}) == len(values)
    before = key(values[0])
    assert values[0].total is values[0].total
    assert key(values[0]) == before


def test_a_struct_counts_by_all_it_holds() -> None:
    msgspec = pytest.importorskip("msgspec")

    class Spot(msgspec.Struct):  # type: ignore[misc, name-defined]
        x: Any
        y: Any = 1

    class Open(msgspec.Struct, dict=True):  # type: ignore[misc, name-defined, call-arg]
        x: Any

    opened = [Open(1), Open(1), Open(1)]
    opened[1].y, opened[2].y = 2, 3
    values = [Spot(1), Spot(2), Spot(1, 2), *opened]
    assert len({key(value) for value in values}) == len(values)
    assert key(Spot(1)) == key(Spot(1, 1))

    class Hashed(msgspec.Struct, frozen=True, cache_hash=True):  # type: ignore[misc, name-defined, call-arg]
        x: Any

    value = Hashed("a")
    before = key(value)
    hash(value)
    assert key(value) == before != key(Hashed("b"))


# -- what holds for any object ----------------------------------------------------------------

NAMES = st.sampled_from(["alpha", "beta", "_gamma"])
HELD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, -0.0, "", "1", b"1"])
)
STATES = st.dictionaries(NAMES, HELD | st.lists(HELD, max_size=2), max_size=3)
MAKERS: list[Any] = [
    *(lambda: Point(1), lambda: Model(), lambda: Checked(1), lambda: Space(), lambda: Text("a")),
    *(lambda: Row([1]), lambda: Bag(a=1), lambda: Noted(1), lambda: Failure(1), lambda: Late()),
    *(lambda: Prepared(1), lambda: Undecorated(1, "a"), lambda: edited({"A": 1}).A),
    lambda: Ordered(a=1),
]


@given(st.sampled_from(MAKERS), STATES, STATES)
@settings(max_examples=many(400), deadline=None)
def test_two_objects_are_one_only_if_all_they_hold_is(make: Any, one: Any, other: Any) -> None:
    assert (key(with_(make(), **one)) == key(with_(make(), **other))) == (key(one) == key(other))


# -- through the decorator ----------------------------------------------------------------------


class Chat(BaseModel):
    model: str = "gpt"
    _history: list[str] = PrivateAttr(default_factory=list)

    @functools.cached_property
    def name(self) -> str:
        return f"chat of {self.model}"

    @llm_cached(version=1)
    def ask(self, text: str) -> str:
        ASKED.append(text)
        return f"{text} after {self._history}"


ASKED: list[str] = []


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


def test_a_history_that_grew_is_asked_anew() -> None:
    with Cache.memory():
        chat = Chat()
        first = chat.ask("go on")
        chat._history.append(first)
        second = chat.ask("go on")
        assert chat.ask("go on") == second != first
        chat._history.clear()
        assert chat.ask("go on") == first
    assert len(ASKED) == 2


def test_a_property_that_was_computed_meanwhile_is_no_new_question() -> None:
    with Cache.memory():
        chat = Chat()
        chat.ask("go on")
        assert chat.name == "chat of gpt"
        chat.ask("go on")
    assert len(ASKED) == 1


def test_a_client_in_a_private_attribute_is_refused_by_name() -> None:
    chat = with_(Chat(), _client=threading.Lock())
    with Cache.memory(), pytest.raises(UnkeyableError, match=r"self\._client is a lock,.*ignore="):
        chat.ask("go on")
    assert ASKED == []
