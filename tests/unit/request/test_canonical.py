"""Keys: which requests are one, which are not, and which have none."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import enum
import io
import ipaddress
import itertools
import math
import os
import re
import subprocess
import sys
import textwrap
import threading
import types
import uuid
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import pytest
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PostgresDsn,
    PrivateAttr,
    Secret,
    SecretBytes,
    SecretStr,
    create_model,
)
from pydantic_core import MultiHostUrl, Url

from cachewrap.errors import UnkeyableError
from cachewrap.request.canonical import canonical, canonical_json
from cachewrap.request.key import decode_request, encode, key_of, salted

numpy = pytest.importorskip("numpy")
NAN = math.nan
T = TypeVar("T")


def key(value: object) -> str:
    return key_of(salted("1"), encode(canonical(value)))


def json_key(value: object) -> str:
    return key_of(salted("1"), encode(canonical_json(value)))


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Shade(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    A = "a"


class Flags(enum.Flag):
    R = 1
    W = 2


class OpenFlags(enum.IntFlag):
    R = 1


@dataclass
class Point:
    x: object
    y: object = 2


@dataclass
class Size:
    x: object
    y: object = 2


@dataclass(frozen=True, slots=True)
class Slotted:
    x: object


@dataclass
class Labels(dict):  # type: ignore[type-arg]
    x: int = 0


class Pair(NamedTuple):
    x: object
    y: object = 2


class Couple(NamedTuple):
    x: object
    y: object = 2


class NotedPair(Pair):
    note: str


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any
    y: Any = 2
    _secret: Any = PrivateAttr(default=None)


class Twin(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any
    y: Any = 2


class Box(BaseModel, Generic[T]):
    x: T


class Text(str):
    """Its text, as its owner prints it, is always the same."""

    def __str__(self) -> str:
        return "***"


class Number(int):
    def __int__(self) -> int:
        return 0

    def __index__(self) -> int:
        return 0


class Real(float):
    def __float__(self) -> float:
        return 0.0


class Row(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(())


class Bag(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return ()

    def keys(self) -> Any:
        return ()


class SlottedText(str):
    __slots__ = ("note",)
    note: str


class Client:
    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def __cache_key__(self) -> object:
        return self.url


class OtherClient(Client): ...


def noted(value: Any, note: str) -> Any:
    value.note = note
    return value


class Address(AnyUrl):
    def __cache_key__(self) -> object:
        return self.host


def fake(base: type[Any]) -> Any:
    """A class as freezegun puts one in the place of dates."""
    return type(f"Fake{base.__name__}", (base,), {"__module__": "freezegun.api"})


def printing(pattern: str) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return re.compile(pattern, re.DEBUG)


def secret(model: Model, text: str) -> Model:
    model._secret = text
    return model


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2024, 10, 27, 2, 30)
ALIKE = {
    "dict": {"x": 1, "y": 2},
    "Point": Point(1),
    "Size": Size(1),
    "Slotted": Slotted(1),
    "Pair": Pair(1),
    "Couple": Couple(1),
    "Model": Model(x=1, y=2),
    "Twin": Twin(x=1, y=2),
    "namespace": types.SimpleNamespace(x=1, y=2),
    "ordered": collections.OrderedDict(x=1, y=2),
    "tuple": (1, 2),
    "list": [1, 2],
    "set": {1, 2},
    "frozenset": frozenset({1, 2}),
    "array": numpy.array([1, 2]),
    "pairs": [("x", 1), ("y", 2)],
    "lists": [["x", 1], ["y", 2]],
    "keys": {1: "x", 2: "y"},
    "text keys": {"1": "x", "2": "y"},
}

# Any two values of one family differ.
DIFFERENT: dict[str, list[Any]] = {
    "ones": [1, 1.0, True, "1", b"1", Level.LOW, Decimal(1), Fraction(1), 1 + 0j, [1], (1,), {1}]
    + [numpy.int64(1), numpy.int32(1), numpy.float64(1), numpy.array(1), numpy.array([1])],
    "nothing": [None, False, 0, 0.0, -0.0, "", b"", bytearray(), [], (), {}, set(), frozenset()]
    + ["None", 0j, dt.timedelta(), collections.OrderedDict(), types.SimpleNamespace()],
    "floats": [NAN, math.inf, -math.inf, 1e308, 5e-324, 0.1, 0.1 + 1e-17 * 4, "nan", "inf"],
    "integers": [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400, 10**400 + 1]
    + [float(2**64), hex(2**64), str(2**64)],
    "text": ["a", b"a", bytearray(b"a"), "A", "a ", "\u00e9", "e\u0301", "\udc61", "\ud800", "\x00"]
    + [Name.A, Text("a"), ["a"], numpy.str_("a"), numpy.bytes_(b"a"), b"\xed\xa0\x80", uuid.UUID],
    "records": list(ALIKE.values()),
    "look-alikes": [
        {"!x": 1},
        {"!dict": [["!x", 1]]},
        {"!dict": [["!dict", [["!x", 1]]]]},
        {1: 1},
        {"!dict": [[1, 1]]},
        (1, 2),
        {"!tuple": [1, 2]},
        {"!tuple": (1, 2)},
        b"hi",
        {"!bytes": "aGk="},
        2**64,
        {"!int": hex(2**64)},
        NAN,
        {"!float": "nan"},
        "\ud800",
        {"!str": "7aCA"},
        {"!": 1},
        {"!tuple": [], "x": 1},
    ],
    "surrogate keys": [{"\ud800": 1}, {"\ud801": 1}, {"!\ud800": 1}, {"!dict": [["\ud800", 1]]}],
    "nesting": [[[1], 2], [[1, 2]], [1, [2]], [1, 2], [[[1, 2]]], [[], 1, 2], ["1", 2], ["1, 2"]],
    "dictionaries": [
        {"a": 1, "b": 2},
        {"a": 2, "b": 1},
        {"a": {"b": 2}},
        {"a": 1},
        {"a": None},
        {},
    ],
    "keys": [{1: 1}, {True: 1}, {1.0: 1}, {"1": 1}, {None: 1}, {(1,): 1}, {b"1": 1}, {NAN: 1}]
    + [{frozenset({1}): 1}, {Colour.RED: 1}, {Pair(1): 1}, {2**64: 1}],
    "enums": [Colour.RED, Shade.RED, Colour.BLUE, 1, "blue", "RED", Level.LOW, Name.A, "a"],
    "flags": [Flags.R, Flags.W, Flags.R | Flags.W, Flags(0), 1, 3, ["R", "W"]],
    "types": [Colour, Shade, Point, Size, Model, Twin, int, str, "int", type(None), None, BaseModel]
    + [Box, Box[int], Box[str], dict],
    "dates": [
        dt.date(2024, 10, 27),
        "2024-10-27",
        dt.datetime(2024, 10, 27),
        dt.datetime(2024, 10, 27, tzinfo=dt.UTC),
        "2024-10-27T00:00:00",
        dt.datetime(2024, 10, 27, 0, 0, 0, 1),
        dt.time(),
    ],
    "moments": [
        NOON,
        NOON.replace(fold=1),
        NOON.replace(tzinfo=BERLIN),
        NOON.replace(tzinfo=BERLIN, fold=1),
        NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        NOON.replace(tzinfo=dt.UTC),
        NOON.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
        NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
        NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
        NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1, microseconds=1))),
        NOON.time(),
        NOON.time().replace(tzinfo=dt.UTC),
    ],
    "zones": [
        *(BERLIN, zoneinfo.ZoneInfo("Europe/Paris"), zoneinfo.ZoneInfo("UTC"), dt.UTC, "UTC"),
        *(dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=1), "CET")),
    ],
    "spans": [
        dt.timedelta(1),
        dt.timedelta(seconds=1),
        dt.timedelta(microseconds=1),
        86400,
        86400.0,
    ],
    "numbers": [Decimal("1.0"), Decimal("1.00"), Decimal("NaN"), Decimal("sNaN"), Decimal("-0")]
    + [Decimal("0"), Decimal("Infinity"), Fraction(1, 3), Fraction(1, 2), 1j, -1j, complex(0, NAN)],
    "paths": [Path("a"), "a", PurePosixPath("a"), PureWindowsPath("a"), Path("./b"), "b", "./b"]
    + [PurePosixPath("\udcff"), PurePosixPath("\udcfe")],
    "uuids": [uuid.UUID(int=1), uuid.UUID(int=1).hex, str(uuid.UUID(int=1)), uuid.UUID(int=2), 1],
    "arrays": [
        numpy.zeros(4, "i4"),
        numpy.zeros(4, "<u4"),
        numpy.zeros(4, ">i4"),
        numpy.zeros(4, "f4"),
        numpy.zeros((2, 2), "i4"),
        numpy.zeros((4, 1), "i4"),
        numpy.zeros(2, "i8"),
        numpy.zeros(16, "u1"),
        numpy.zeros(16, "?"),
        numpy.zeros(2, "M8[s]"),
        numpy.zeros(2, "M8[ms]"),
        numpy.zeros(2, "m8[s]"),
        numpy.zeros(1, "S16"),
        numpy.zeros(1, "U4"),
        numpy.ones(4, "i4"),
        [0, 0, 0, 0],
        b"\0" * 16,
    ],
    "subclasses": [
        *("a", Text("a"), Text("b"), SlottedText("a")),
        *(noted(Text("a"), "n"), noted(Text("a"), "m"), noted(SlottedText("a"), "n")),
        *(1, Number(1), Number(2), 1.5, Real(1.5), Real(2.5)),
        *([1], Row([1]), Row([2]), {"a": 1}, Bag(a=1), Bag(a=2), Labels(x=1), Labels(x=2)),
        collections.Counter(a=1),
        collections.defaultdict(None, a=1),
        collections.defaultdict(int, a=1),
        collections.defaultdict(list, a=1),
    ],
    "a dataclass that is a dictionary": [noted(Labels(x=1), "a"), Labels(x=1)]
    + [collections.OrderedDict(x=1)],
    "a named tuple with more in it": [NotedPair(1), Pair(1), noted(NotedPair(1), "a")]
    + [noted(NotedPair(1), "b")],
    "pydantic": [noted(Model(x=1), "a"), secret(Model(x=1), "a"), secret(Model(x=1), "b")]
    + [Model(x=1), Model(x=1, y=3), Model(x=1, z=3), Model(x=1, z=4), Model(x="1")]
    + [Model.model_construct(), Box[int](x=1), Box[Any](x=1), Box(x=1), Twin(x=1)],
    "models made at run time": [
        create_model("Answer", x=(int, ...)),
        create_model("Answer", y=(int, ...)),
        create_model("Answer", x=(int, Field(description="the answer"))),
    ],
    "ordered": [
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
        {"a": 1, "b": 2},
    ],
    "addresses": [
        *(ipaddress.ip_address(text) for text in ("1.2.3.4", "1.2.3.5", "::1", "fe80::1%a")),
        *(ipaddress.ip_network(text) for text in ("1.2.3.4", "1.2.3.0/24", "::1")),
        *(ipaddress.ip_interface(text) for text in ("1.2.3.4", "1.2.3.4/24", "::1")),
        *("1.2.3.4", int(ipaddress.ip_address("1.2.3.4"))),
    ],
    "URLs": [
        *(AnyUrl("http://a.b/"), AnyUrl("http://a.b/c"), AnyUrl("http://u:p@a.b/")),
        *(HttpUrl("http://a.b/"), Url("http://a.b/"), MultiHostUrl("http://a.b/")),
        *(PostgresDsn("postgres://a:1,b:2/c"), "http://a.b/"),
    ],
    "patterns": [
        *(re.compile("a"), re.compile("b"), re.compile(b"a"), re.compile("a", re.IGNORECASE)),
        *(re.compile("(?i)a"), re.compile("a", re.ASCII), re.compile("\ud800"), "a", b"a"),
    ],
    "ranges": [range(3), range(4), range(0, 3, 2), range(0, 4, 2), range(2**64), (0, 1, 2), [0, 3]],
    "queues": [
        *(collections.deque([1, 2]), collections.deque([2, 1]), collections.deque([1, 2], 2)),
        *(collections.deque([1, 2], 3), [1, 2], (1, 2), collections.deque([(1, 2)])),
    ],
    "counts": [
        *(collections.Counter("a"), collections.Counter("b"), collections.Counter("aa")),
        *({"a": 1}, collections.OrderedDict(a=1), collections.defaultdict(int, a=1)),
        *(collections.defaultdict(Point, a=1), types.MappingProxyType({"a": 1})),
        *(types.MappingProxyType({1: 1}), types.MappingProxyType({"a": (1,)})),
    ],
    "what is not set": [msgspec.UNSET, None, "UNSET", {}],
    "own keys": [Client("a", "t"), Client("b", "t"), OtherClient("a", "t"), "a"],
}


@pytest.mark.parametrize("family", DIFFERENT.values(), ids=DIFFERENT)
def test_different_values_have_different_keys(family: list[Any]) -> None:
    keys = [key(value) for value in family]
    same = [
        (a, b)
        for (i, a), (j, b) in itertools.combinations(enumerate(family), 2)
        if keys[i] == keys[j]
    ]
    assert same == []


EQUAL: dict[str, tuple[Any, Any]] = {
    "the order of a dictionary": ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
    "the order of other keys": ({1: 1, "a": 2, (1,): 3}, {(1,): 3, "a": 2, 1: 1}),
    "the order of surrogate keys": ({"\ud800": 1, "a": 2}, {"a": 2, "\ud800": 1}),
    "the order of NaN keys": (
        {float("nan"): 1, float("nan"): 2},
        {float("nan"): 2, float("nan"): 1},
    ),
    "the order of a set": (set(map(str, range(50))), set(map(str, reversed(range(50))))),
    "the order of a mixed set": ({1, "a", (2,), None}, {None, (2,), "a", 1}),
    "every NaN": (float("nan"), -float("nan")),
    "URLs with one key": (Address("http://a.b/c"), Address("https://a.b/d")),
    "objects with one key": (Client("a", "s"), Client("a", "t")),
    "which fields of a model were set": (Model(x=1), Model(x=1, y=2)),
    "the ways to UTC": (
        NOON.replace(tzinfo=dt.UTC),
        NOON.replace(tzinfo=dt.timezone(dt.timedelta())),
    ),
    "a view of an array": (numpy.arange(4)[::2], numpy.array([0, 2])),
    "how an array lies in memory": (
        numpy.asfortranarray([[1, 2], [3, 4]]),
        numpy.array([[1, 2], [3, 4]]),
    ),
    "a shared part and its copies": ([shared := [1], shared], [[1], [1]]),
    "the order of a count": (collections.Counter("aab"), collections.Counter("baa")),
    "the order behind a proxy": (
        types.MappingProxyType({"a": 1, "b": 2}),
        types.MappingProxyType({"b": 2, "a": 1}),
    ),
    "the ways to a network": (
        ipaddress.ip_network("1.2.3.0/24"),
        ipaddress.ip_network("1.2.3.0/255.255.255.0"),
    ),
    "the ways to a URL": (HttpUrl("HTTP://A.b:80"), HttpUrl("http://a.b/")),
    "a pattern that prints": (re.compile("a"), printing("a")),
    "a date of a stopped clock": (dt.date(2024, 2, 29), fake(dt.date)(2024, 2, 29)),
    "a moment of a stopped clock": (
        dt.datetime(2024, 2, 29, 1, 2, 3, 4, dt.UTC, fold=1),
        fake(dt.datetime)(2024, 2, 29, 1, 2, 3, 4, dt.UTC, fold=1),
    ),
    "a plain part of what is not plain": ({"a": [2**64], "b": (1,)}, {"b": (1,), "a": [2**64]}),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_values_have_equal_keys(one: Any, other: Any) -> None:
    assert key(one) == key(other)


def test_the_context_of_decimals_makes_no_difference() -> None:
    import decimal

    expected = key(Decimal("1E+5"))
    with decimal.localcontext() as context:
        context.capitals = 0
        assert key(Decimal("1E+5")) == expected


@pytest.mark.parametrize("salts", [(("1",), ("2",)), (("a", "b"), ("ab",)), (("a", ""), ("a",))])
def test_the_salt_is_part_of_the_key(salts: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    one, other = (key_of(salted(*salt), encode("x")) for salt in salts)
    assert one != other


def test_a_plain_value_is_taken_as_it_is() -> None:
    value = {"messages": [{"role": "user", "content": "hi"}], "n": 1, "t": 0.5, "x": None}
    assert canonical(value) is value


def test_an_encoded_request_can_be_read_again() -> None:
    assert decode_request(encode({"b": 1, "a": [1.5, "x"]})) == {"a": [1.5, "x"], "b": 1}


def test_more_than_the_plain_walk_takes_has_a_key_all_the_same() -> None:
    assert key([0.5] * 60_000) != key([0.5] * 60_001)


# -- what has no key ------------------------------------------------------------------------------

loop: list[Any] = []
loop.append(loop)
ring: dict[str, Any] = {"a": (1,)}
ring["ring"] = ring
knot = Point(1)
knot.x = knot
deep: Any = None
for _ in range(20_000):
    deep = [deep]


def deep_with(value: Any, depth: int = 5000) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def function() -> None: ...


class Plain:
    pass


class Zone(dt.tzinfo):
    pass


class Selfish:
    def __cache_key__(self) -> object:
        return [self]


ZONE = b"TZif" + bytes(35) + b"\x01" + bytes(3) + b"\x04" + bytes(6) + b"UTC\0"


class Date(dt.date):
    pass


REFUSED: dict[str, tuple[Any, str]] = {
    "an object": ({"a": [1, Plain()]}, r"^a\[1\] is a Plain,"),
    "a function": ({"call": function}, "^call is a function,"),
    "a lambda in a model": ({"m": Model(x=(1, lambda: 1))}, r"^m\.x\[1\] is a function,"),
    "an object in a named tuple": ({"p": Pair(1, Plain())}, r"^p\[1\] is a Plain,"),
    "an object in a dataclass": ({"p": Point({"q": Plain()})}, r"^p\.x\.q is a Plain,"),
    "an object in a set": ({"s": {1, Plain()}}, r"^s\{\} is a Plain,"),
    "an object as a key": ({"d": {Plain(): 1}}, "^a key of d is a Plain,"),
    "an object beside a key": ({"d": {1: Plain()}}, r"^d\[1\] is a Plain,"),
    "an object in a text": ({"t": noted(Text("a"), Plain())}, r"^t\.note is a Plain,"),
    "a generator": ({"g": (i for i in ())}, "^g is a generator,"),
    "a file": (io.BytesIO(), "^the value is a BytesIO,"),
    "a lock": ({"l": threading.Lock()}, "^l is a lock,"),
    "a module": ({"m": os}, "^m is a module,"),
    "an array of objects": ({"a": numpy.array([None])}, "^a is a numpy array of object,"),
    "a structured array": ({"a": numpy.zeros(1, "i4,i4")}, "^a is a numpy array of "),
    "long doubles": (numpy.zeros(1, "g"), "^the value is a numpy array of "),
    "a masked array": (numpy.ma.array([1]), "^the value is a MaskedArray,"),
    "a zone of one's own": ({"t": NOON.replace(tzinfo=Zone())}, "^t has a time zone of type Zone,"),
    "a zone without a name": (
        {"z": zoneinfo.ZoneInfo.from_file(io.BytesIO(ZONE))},
        "^z has a time zone of type ZoneInfo,",
    ),
    "a date of one's own": ({"t": Date(2024, 1, 1)}, "^t is a Date,"),
    "a flag without a name": (
        {"f": OpenFlags(9)},
        "^f is a OpenFlags with a value that has no name,",
    ),
    "a date of another module": (
        type("Fake", (dt.date,), {"__module__": "pendulum"})(2024, 2, 29),
        "^the value is a Fake,",
    ),
    "a secret": ({"key": SecretStr("a")}, "^key is a SecretStr, whose secret is never hashed"),
    "secret bytes": ({"key": SecretBytes(b"a")}, "^key is a SecretBytes, whose secret"),
    "a secret of any type": ({"key": Secret[int](1)}, r"^key is a Secret(\[int\])?, whose secret"),
    "a secret in a model": ({"m": Model(x=SecretStr("a"))}, r"^m\.x is a SecretStr, whose secret"),
    "a chain of maps": (collections.ChainMap({}), "^the value is a ChainMap,"),
    "an object in a queue": ({"q": collections.deque([1, Plain()])}, r"^q\[1\] is a Plain,"),
    "an object behind a proxy": (
        {"p": types.MappingProxyType({"a": Plain()})},
        r"^p\.a is a Plain,",
    ),
    "a URL with more in it": (
        noted(AnyUrl("http://a.b"), "a"),
        "^the value has a AnyUrl with more",
    ),
    "a factory without a name": (
        collections.defaultdict(lambda: 1),
        "^default_factory is a function,",
    ),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_key_is_named_with_its_path(value: Any, message: str) -> None:
    with pytest.raises(UnkeyableError, match=message):
        key(value)


@pytest.mark.parametrize("way", ["ignore=", "key="])
@pytest.mark.parametrize("value", [SecretStr("abc"), [SecretBytes(b"abc")]], ids=["text", "bytes"])
def test_a_secret_is_never_hashed_and_the_error_says_what_to_do(value: Any, way: str) -> None:
    with pytest.raises(UnkeyableError, match=way) as raised:
        canonical(value)
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("clock", ["freezegun", "time_machine"])
def test_a_day_has_one_key_whether_or_not_the_clock_is_stopped(clock: str) -> None:
    module = pytest.importorskip(clock)
    stop = module.freeze_time if clock == "freezegun" else partial(module.travel, tick=False)
    with stop("2024-02-29 12:00:00+00:00"):
        keys = key(dt.date.today()), key(dt.datetime.now(dt.UTC))
    assert keys[0] == key(dt.date(2024, 2, 29))
    assert keys[1] == key(dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC))


@pytest.mark.parametrize("way", ["ignore=", "key=", "__cache_key__"])
@pytest.mark.parametrize(
    "value",
    [Plain(), OpenFlags(9), NOON.replace(tzinfo=Zone())],
    ids=["an object", "flags", "a time in a zone of its own"],
)
def test_the_error_names_the_three_ways_out(value: Any, way: str) -> None:
    with pytest.raises(UnkeyableError, match=way):
        canonical(value)


def test_the_error_begins_with_what_the_value_is_called() -> None:
    with pytest.raises(UnkeyableError, match=r"^version\[0\] is a Plain,"):
        canonical([Plain()], where="version")


ENDLESS = {
    "a list in itself": loop,
    "a dictionary in itself": ring,
    "a dataclass in itself": knot,
    "a key that refers to its object": Selfish(),
    "a deep list": deep,
    "a deep list with a tuple": deep_with((1,)),
    "a deep list with a large integer": deep_with(2**64),
    "a deep list with a surrogate": deep_with("\ud800"),
}


@pytest.mark.parametrize("make", [key, json_key], ids=["values", "json"])
@pytest.mark.parametrize("value", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_refused(make: Any, value: Any) -> None:
    with pytest.raises(UnkeyableError):
        make(value)


# -- JSON bodies ---------------------------------------------------------------------------------


class NotGiven:
    pass


class Omit:
    pass


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    content: str = Field(alias="text")
    when: dt.date | None = None


JSON_EQUAL: dict[str, tuple[Any, Any]] = {
    "whole floats": ({"n": 1.0, "t": [2.0, -3.0]}, {"n": 1, "t": [2, -3]}),
    "zeros": ([0.0, -0.0], [0, 0]),
    "tuples": ({"a": (1, (2,))}, {"a": [1, [2]]}),
    "order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "enums": ({"a": Colour.BLUE, "b": Level.LOW, "c": Name.A}, {"a": "blue", "b": 1, "c": "a"}),
    "enum keys": ({Name.A: 1}, {"a": 1}),
    "dates": ({"d": dt.date(2024, 1, 2)}, {"d": "2024-01-02"}),
    "moments": ({"d": NOON.replace(tzinfo=dt.UTC)}, {"d": "2024-10-27T02:30:00+00:00"}),
    "times": ([dt.time(1, 2)], ["01:02:00"]),
    "what is omitted": ({"a": 1, "b": NotGiven(), "c": {"d": Omit()}}, {"a": 1, "c": {}}),
    "models": ({"m": Model(x=1, z=2)}, {"m": {"x": 1, "z": 2}}),
    "aliases": ({"m": Aliased(content="a", when=None)}, {"m": {"text": "a", "when": None}}),
    "dates in models": (
        Aliased(content="a", when=dt.date(2024, 1, 2)),
        {"text": "a", "when": "2024-01-02"},
    ),
    "mappings": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "subclasses": ([Text("a"), Number(3), Real(2.5), Bag(a=1)], ["a", 3, 2.5, {}]),
    "floats of numpy": ([numpy.float64(1.5), numpy.float64(2)], [1.5, 2]),
    "named tuples": (Pair(1, 2), [1, 2]),
}


@pytest.mark.parametrize(("one", "other"), JSON_EQUAL.values(), ids=JSON_EQUAL)
def test_equal_json_has_equal_keys(one: Any, other: Any) -> None:
    assert json_key(one) == json_key(other)


JSON_DIFFERENT: dict[str, list[Any]] = {
    "numbers": [1, 1.5, 2, True, False, None, "1", "", 0, 2**53, 2**53 + 1, 2**64, 2**64 + 1, 0.1],
    "large": [1e300, 1e301, 10**300, "1e300", -1e300],
    "containers": [[], {}, None, [[]], [{}], {"a": []}, {"a": {}}, {"a": None}],
    "look-alikes": [{"!x": 1}, {"!dict": [["!x", 1]]}, {"!int": "0x1"}, 1, {"!tuple": [1]}, [1]],
    "surrogates": ["\ud800", "\ud801", {"!str": "7aCA"}, {"\ud800": 1}, {"\ud801": 1}],
    "models": [Model(x=1), Model(x=1, y=2), Model(x=2), Twin(x=1, z=1)],
}


@pytest.mark.parametrize("family", JSON_DIFFERENT.values(), ids=JSON_DIFFERENT)
def test_different_json_has_different_keys(family: list[Any]) -> None:
    assert len({json_key(value) for value in family}) == len(family)


JSON_REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": ({"a": [NAN]}, r"^a\[0\] is nan, which is not JSON$|^a\[0\] has nan|^a\[0\]"),
    "infinity": ({"a": {"b": -math.inf}}, r"^a\.b is -inf"),
    "bytes": ({"a": b"x"}, r"^a is a bytes"),
    "an object": ({"a": [{"b": Plain()}]}, r"^a\[0\]\.b is a Plain"),
    "a set": ([{1}], r"^\[0\] is a set"),
    "a key that is no text": ({"a": {1: 2}}, r"^a has the key 1,"),
    "a lambda": (function, "^the body is a function"),
    "an integer of numpy": ({"n": numpy.int64(1)}, "^n is a int64"),
    "an own key": (Client("a", "b"), "^the body is a Client"),
}


@pytest.mark.parametrize(("value", "message"), JSON_REFUSED.values(), ids=JSON_REFUSED)
def test_what_is_not_json_is_named_with_its_path(value: Any, message: str) -> None:
    with pytest.raises(UnkeyableError, match=message):
        json_key(value)


def test_plain_json_is_taken_as_it_is() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "n": 1}
    assert canonical_json(body) is body


# -- the same in every process ---------------------------------------------------------------------

PROGRAM = """
    import dataclasses, enum, multiprocessing, sys
    from cachewrap.format.codec import decode, encode as dump
    from cachewrap.request.canonical import canonical
    from cachewrap.request.key import encode, key_of, salted
    from cachewrap.request.values import key_name

    @dataclasses.dataclass
    class Point:
        x: int

    class Colour(enum.Enum):
        RED = 1

    def function(): ...

    def say(*_):
        value = [Point(1), Colour.RED, Point, {"b", "a", "c"}, {"z": 1, "y": {2: 3, 1: 2}}]
        key = key_of(salted(), encode(canonical(value)))
        kind, data = dump([Point(1), Colour.RED])
        back = decode(kind, data) == [Point(1), Colour.RED]
        return " ".join([key_name(function), key_name(Point), key, data.hex(), str(back)])

    if __name__ == "__main__":
        print(say())
"""
SPAWNING = """
    if __name__ == "__main__":
        pool = multiprocessing.get_context("spawn").Pool(1)
        print(pool.map(say, [0])[0])
        pool.terminate()
"""
IMPORTING = "import prog; print(prog.say())"


def run(folder: Path, *command: str, seed: str = "0") -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    root = str(Path(sys.modules["cachewrap"].__path__[0]).parent)
    environment["PYTHONPATH"] = os.pathsep.join([root, str(folder)])
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True
    )
    return done.stdout.decode().splitlines()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "prog.py").write_text(textwrap.dedent(PROGRAM))
    return tmp_path


WAYS: dict[str, list[str]] = {
    "run as a script": ["prog.py"],
    "run as a module": ["-m", "prog"],
    "imported": ["-c", IMPORTING],
    "run as a script by another path": ["./prog.py"],
}


@pytest.mark.parametrize("seed", ["1", "4000000000"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_names_keys_and_answers_agree_however_a_module_is_run(
    program: Path, way: list[str], seed: str
) -> None:
    (line,) = run(program, *way, seed=seed)
    name, cls, _, _, readable = line.split()
    assert (name, cls, readable) == ("prog:function", "prog:Point", "True")
    assert [line] == run(program, "-c", IMPORTING)


@pytest.mark.parametrize("way", [["prog.py"], ["-m", "prog"]], ids=["script", "module"])
def test_names_and_keys_agree_in_a_spawned_child(program: Path, way: list[str]) -> None:
    with (program / "prog.py").open("a") as file:
        file.write(textwrap.dedent(SPAWNING))
    own, child = run(program, *way)
    assert own == child


def test_two_scripts_with_one_function_do_not_share_names(program: Path) -> None:
    (program / "other.py").write_text(textwrap.dedent(PROGRAM))
    assert run(program, "other.py") != run(program, "prog.py")


def test_two_programs_in_folders_do_not_share_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__main__.py").write_text(textwrap.dedent(PROGRAM))
    assert run(tmp_path, "one")[0].startswith("one:function one:Point")
    assert run(tmp_path, "two")[0].startswith("two:function two:Point")


def test_a_package_that_is_run_is_called_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__main__.py").write_text(textwrap.dedent(PROGRAM))
    assert run(tmp_path, "-m", "pack")[0].startswith("pack.__main__:function ")
