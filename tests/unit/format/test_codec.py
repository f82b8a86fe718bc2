"""The codec: faithful in type, refuses what it cannot keep, and never runs what was stored."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import fractions
import gc
import re
import subprocess
import sys
import types
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import kinds
import msgspec
import numpy
import pydantic
import pytest
from kinds import VALUES, same

from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.format import codec, tagging


def there_and_back(value: Any) -> Any:
    return codec.decode(*codec.encode(value))


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was(name: str) -> None:
    assert same(there_and_back(VALUES[name]), VALUES[name])


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_from_inside_containers(name: str) -> None:
    value = VALUES[name]
    nested = {"list": [value], "tuple": (value, [value]), "dict": {1: value}}
    assert same(there_and_back(nested), nested)


def test_the_order_of_a_dictionary_is_kept() -> None:
    assert list(there_and_back({"b": 1, "a": (2,), "c": 3})) == ["b", "a", "c"]


def test_a_shared_reference_comes_back_as_copies() -> None:
    shared = [1]
    first, second = there_and_back([shared, shared])
    first.append(2)
    assert second == [1]


def test_text_is_stored_as_it_is() -> None:
    assert codec.encode("grüß") == (Kind.TEXT, "grüß".encode())


def test_encoding_leaves_the_value_alone() -> None:
    value = {"a": [kinds.extended(), {1, 2}]}
    before = repr(value)
    codec.encode(value)
    assert repr(value) == before


class TestNothingRuns:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(kinds.Eager(1), id="post-init"),
            pytest.param(kinds.Strict(a=1), id="validator"),
            pytest.param(kinds.Checked(1), id="pydantic dataclass"),
            pytest.param(kinds.Ticket("a"), id="attrs"),
            pytest.param(kinds.Labels(["a"]), id="list"),
            pytest.param(kinds.Scores(a=1), id="dictionary"),
        ],
    )
    def test_no_code_of_the_class(self, value: Any) -> None:
        data = codec.encode(value)
        kinds.RAN.clear()
        codec.decode(*data)
        assert kinds.RAN == []

    def test_no_module_level_getattr(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trap = types.ModuleType("trap")
        asked: list[str] = []
        trap.__getattr__ = asked.append  # type: ignore[method-assign, assignment]
        monkeypatch.setitem(sys.modules, "trap", trap)
        with pytest.raises(MissingTypeError, match=r"trap\.Thing"):
            codec.decode(Kind.VALUE, tagged({"!dataclass": ["trap:Thing", {}]}))
        assert asked == []

    def test_no_import(self) -> None:
        assert "antigravity" not in sys.modules
        with pytest.raises(MissingTypeError, match=r"antigravity\.Thing.*import antigravity"):
            codec.decode(Kind.VALUE, tagged({"!enum": ["antigravity:Thing", "A"]}))
        assert "antigravity" not in sys.modules


def test_a_type_that_another_process_has_not_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass Answer:\n    text: str\n"
    )
    code = "import sys; sys.path.insert(0, '.')\nfrom cachewrap.format import codec\n"
    written = subprocess.run(
        [
            sys.executable,
            "-c",
            code + "import answers\nprint(codec.encode([answers.Answer('hi')])[1].hex(), end='')",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    with pytest.raises(MissingTypeError, match=r"answers\.Answer.*import answers"):
        codec.decode(Kind.VALUE, bytes.fromhex(written.stdout))


GREW = """
import dataclasses
import pydantic

@dataclasses.dataclass(slots=True)
class Record:
    name: str
{record}
class Person(pydantic.BaseModel):
    name: str
{person}
"""


def test_a_class_that_has_gained_a_field_gives_its_default(monkeypatch: Any) -> None:
    def define(record: str, person: str) -> types.ModuleType:
        module = types.ModuleType("grew")
        monkeypatch.setitem(sys.modules, "grew", module)
        exec(GREW.format(record=record, person=person), vars(module))
        return module

    old = define("", "")
    stored = codec.encode([old.Record("bob"), old.Person(name="bob")])
    new = define(
        "    mail: str = 'none'\n    tags: list = dataclasses.field(default_factory=list)\n",
        "    mail: str = 'none'\n    tags: list = pydantic.Field(default_factory=list)\n",
    )
    assert codec.decode(*stored) == [new.Record("bob"), new.Person(name="bob")]


@pytest.mark.parametrize(
    ("record", "person"),
    [
        pytest.param("    mail: str\n", "", id="none"),
        pytest.param("    mail: str = dataclasses.field(default_factory=str)\n", "", id="factory"),
        pytest.param("    mail: object = re.compile('a')\n", "", id="object"),
        pytest.param("    mail: tuple = ('a', [])\n", "", id="tuple of a list"),
        pytest.param("", "    mail: str = pydantic.Field(default_factory=str)\n", id="model"),
        pytest.param("", "    mail: list = [1]\n", id="model with a list"),
        pytest.param(
            "",
            "    mail: str = pydantic.Field(default_factory=lambda given: given['name'][:1])\n",
            id="model that looks at others",
        ),
    ],
)
def test_a_class_that_has_gained_a_field_without_a_plain_default(
    record: str, person: str, monkeypatch: Any
) -> None:
    def define(record: str, person: str) -> types.ModuleType:
        module = types.ModuleType("grew")
        monkeypatch.setitem(sys.modules, "grew", module)
        exec("import re\n" + GREW.format(record=record, person=person), vars(module))
        return module

    old = define("", "")
    stored = codec.encode([old.Record("bob"), old.Person(name="bob")])
    define(record, person)
    with pytest.raises(CorruptEntryError, match=r"grew.\w+ has the new field mail"):
        codec.decode(*stored)


MORE = """
import attrs
import msgspec

@attrs.define
class Ticket:
    name: str
{ticket}
class Order(msgspec.Struct):
    name: str
{order}
"""


@pytest.mark.parametrize(
    ("ticket", "order", "expected"),
    [
        pytest.param("    x: int = 1", "    x: int = 1", 1, id="default"),
        pytest.param("    x: list = attrs.Factory(list)", "    x: list = []", [], id="list"),
        pytest.param("    x: int", "", "Ticket has the new field x", id="attrs without one"),
        pytest.param("", "    x: int", "Order has the new field x", id="struct without one"),
        pytest.param("    x: int = attrs.Factory(lambda: 1)", "", "field x", id="attrs by code"),
        pytest.param(
            "", "    x: int = msgspec.field(default_factory=lambda: 1)", "x", id="struct by code"
        ),
    ],
)
def test_a_field_that_attrs_or_a_struct_has_gained(
    ticket: str, order: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def define(ticket: str, order: str) -> types.ModuleType:
        module = types.ModuleType("more")
        monkeypatch.setitem(sys.modules, "more", module)
        exec(MORE.format(ticket=ticket, order=order), vars(module))
        return module

    old = define("", "")
    stored = codec.encode([old.Ticket("a"), old.Order("a")])
    define(ticket, order)
    if isinstance(expected, str):
        with pytest.raises(CorruptEntryError, match=expected):
            codec.decode(*stored)
    else:
        assert [one.x for one in codec.decode(*stored)] == [expected, expected]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


class TestEnums:
    """An entry names the class, the member, and the value that it stood for."""

    @staticmethod
    def define(
        monkeypatch: pytest.MonkeyPatch, *members: tuple[str, Any], flag: bool = False
    ) -> Any:
        base: Any = enum.Flag if flag else enum.Enum
        made = base("Answer", list(members), module="edited")
        module = types.ModuleType("edited")
        vars(module)["Answer"] = made
        monkeypatch.setitem(sys.modules, "edited", module)
        return made

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param("yes", "no", id="text"),
            pytest.param(1, 2, id="number"),
            pytest.param(1, 1.0, id="type of a number"),
            pytest.param(1, True, id="truth"),
            pytest.param((1, 2), (1, 3), id="tuple"),
            pytest.param((1, [2]), (1, [2.0]), id="tuple of a list"),
            pytest.param({"a": 1}, {"a": 2}, id="dictionary"),
            pytest.param(kinds.Point(1), kinds.Point(2), id="dataclass"),
            pytest.param(dt.date(2024, 1, 1), dt.date(2024, 1, 2), id="date"),
        ],
    )
    def test_a_member_whose_value_was_edited_is_another(
        self, old: Any, new: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = codec.encode(self.define(monkeypatch, ("YES", old)).YES)
        same_again = self.define(monkeypatch, ("YES", old))
        assert codec.decode(*stored) is same_again.YES
        self.define(monkeypatch, ("YES", new))
        with pytest.raises(CorruptEntryError, match="another value"):
            codec.decode(*stored)

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(float("nan"), id="nan"),
            pytest.param(object, id="class"),
            pytest.param(len, id="function"),
            pytest.param(kinds.noted(kinds.Point(1), x=[CYCLE]), id="cycle"),
            pytest.param(frozenset({1}), id="frozen set"),
            pytest.param(kinds.Colour.RED, id="member of another"),
        ],
    )
    def test_a_member_of_any_value_comes_back(
        self, value: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        member = self.define(monkeypatch, ("YES", value)).YES
        assert there_and_back(member) is member

    def test_flags_whose_bits_were_edited_are_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        old = self.define(monkeypatch, ("READ", 1), ("WRITE", 2), flag=True)
        stored = codec.encode(old.READ | old.WRITE)
        assert codec.decode(*stored) == old.READ | old.WRITE
        self.define(monkeypatch, ("READ", 1), ("WRITE", 4), flag=True)
        with pytest.raises(CorruptEntryError, match="another value"):
            codec.decode(*stored)

    def test_an_entry_without_the_value_is_read(self) -> None:
        data = tagged({"!enum": ["kinds:Colour", "RED"]})
        assert codec.decode(Kind.VALUE, data) is kinds.Colour.RED


T = TypeVar("T")


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class TestGenerics:
    """The class of a generic model is looked up, and never made for an entry."""

    @pytest.mark.parametrize(
        "form",
        [
            pytest.param("kinds:Colour", id="class"),
            pytest.param(["alias", ["builtins:list", "builtins:bytes"]], id="alias"),
            pytest.param(["kinds:Box", ["builtins:bytes"]], id="generic"),
            pytest.param(["Literal", ["never"]], id="literal"),
            pytest.param("nowhere:Thing", id="class that is nowhere"),
        ],
    )
    def test_one_that_the_program_has_not_made_is_missing(self, form: Any) -> None:
        before = type.__subclasses__(Page), type.__subclasses__(kinds.Box)
        name = f"{Page.__module__}:Page"
        spec = [name, [form]]
        with pytest.raises(MissingTypeError, match=r"Page of types .* annotate the function"):
            codec.decode(Kind.VALUE, tagged({"!pydantic": [spec, {}, None, [], None]}))
        assert (type.__subclasses__(Page), type.__subclasses__(kinds.Box)) == before

    def test_one_that_nothing_else_holds_is_held(self) -> None:
        stored = codec.encode(Page[dict[str, list[float]]](items=[]))
        gc.collect()
        assert codec.decode(*stored) == Page[dict[str, list[float]]](items=[])

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param(list[int], "list[int]", id="list"),
            pytest.param(list[int], list[str], id="item"),
            pytest.param(int | None, int, id="union"),
            pytest.param(tuple[int, ...], tuple[int], id="tuple"),
        ],
    )
    def test_forms_are_told_apart(self, one: Any, other: Any) -> None:
        import typing

        other = typing.List[int] if other == "list[int]" else other  # noqa: UP006
        made = [Page[form](items=[]) for form in (one, other)]
        assert [type(back) for back in there_and_back(made)] == [type(page) for page in made]

    def test_a_reloaded_class_is_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def define() -> Any:
            module = types.ModuleType("again")
            vars(module)["Item"] = type("Item", (pydantic.BaseModel,), {"__module__": "again"})
            monkeypatch.setitem(sys.modules, "again", module)
            return module

        stored = codec.encode(Page[define().Item](items=[]))
        again = define()
        with pytest.raises(MissingTypeError):
            codec.decode(*stored)
        page = Page[again.Item](items=[])
        assert type(codec.decode(*stored)) is type(page)


def test_a_url_whose_path_is_empty_comes_back() -> None:
    settings = pydantic.ConfigDict()
    settings["url_preserve_empty_path"] = True  # type: ignore[typeddict-unknown-key, unused-ignore]
    adapter = pydantic.TypeAdapter(pydantic.HttpUrl, config=settings)
    url = adapter.validate_python("http://a.b")
    assert str(there_and_back(url)) == str(url)


class TestStoppedClocks:
    """Where a test has stopped the clock, today is a date like any other."""

    def test_a_date_of_freezegun(self) -> None:
        freezegun = pytest.importorskip("freezegun")
        with freezegun.freeze_time("2024-02-29 12:00"):
            given = [dt.date.today(), dt.datetime.now(), dt.datetime.now(dt.UTC)]
            back = there_and_back(given)
        assert [type(value) for value in back] == [dt.date, dt.datetime, dt.datetime]
        assert back == given

    def test_a_date_of_time_machine(self) -> None:
        time_machine = pytest.importorskip("time_machine")
        with time_machine.travel("2024-02-29 12:00 +0000"):
            given = [dt.date.today(), dt.datetime.now(dt.UTC)]
            assert same(there_and_back(given), given)

    @pytest.mark.parametrize("base", [dt.date, dt.datetime])
    def test_a_date_that_looks_like_one_of_them(self, base: Any) -> None:
        fake = type("Fake", (base,), {"__module__": "freezegun.api"})(2024, 2, 29)
        assert same(there_and_back(fake), base(2024, 2, 29))

    def test_a_date_of_ones_own_is_refused(self) -> None:
        with pytest.raises(UnsupportedTypeError, match="Fake"):
            codec.encode(type("Fake", (dt.date,), {"__module__": "pandas"})(2024, 2, 29))


class Coin(msgspec.Struct, frozen=True, cache_hash=True):
    name: str


@pytest.mark.parametrize("kind", [kinds.Badge, Coin])
def test_a_hash_that_an_object_has_kept_is_not_stored(kind: Any) -> None:
    value = kind("a")
    before = codec.encode(value)
    hash(value)
    assert codec.encode(value) == before
    assert hash(codec.decode(*before)) == hash(value)


@dataclasses.dataclass
class Holder:
    """Defined at the top of a module, unlike what it holds."""

    content: Any


class Plain:
    pass


class Post(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        kinds.RAN.append("Post")


@attrs.define
class Mourned:
    x: int

    def __del__(self) -> None:
        kinds.RAN.append("Mourned")


class Login(pydantic.BaseModel):
    name: str
    token: pydantic.SecretStr


class Queue(deque[int]):
    pass


class Turn(complex):
    pass


class Odd(pydantic.HttpUrl):
    pass


def odd() -> Any:
    made = Odd("http://a.b")
    made.note = 1  # type: ignore[attr-defined]
    return made


def local() -> Any:
    @dataclasses.dataclass
    class Inside:
        x: int

    return Inside(1)


def cycle() -> Any:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def deep() -> Any:
    tower: list[Any] = []
    for _ in range(100_000):
        tower = [tower]
    return tower


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "object": (object, "object"),
    "plain class": (Plain, "Plain"),
    "function": (lambda: len, "builtin_function"),
    "generator": (lambda: (i for i in ()), "generator"),
    "class defined in a function": (local, r"Inside.*top level"),
    "class itself": (lambda: Plain, "type"),
    "cycle": (cycle, "refers to itself"),
    "deep nesting": (deep, "nested too deeply"),
    "array of objects": (lambda: numpy.array([object()]), "numpy array of object"),
    "array of long doubles": (lambda: numpy.zeros(1, "g"), "numpy array of"),
    "structured array": (lambda: numpy.zeros(1, dtype="i4,f4"), "numpy array of"),
    "exception": (lambda: ValueError("x"), "ValueError"),
    "subclass of dict": (lambda: type("Sub", (dict,), {})(), r"Sub.*top level"),
    "subclass of an ordered dict": (lambda: type("Sub", (OrderedDict,), {})(), "Sub"),
    "subclass of a deque": (Queue, "Queue, which no codec takes"),
    "subclass of a complex number": (Turn, "Turn, which no codec takes"),
    "secret": (lambda: pydantic.SecretStr("a"), r"a pydantic\.types\.SecretStr.*never stored"),
    "secret bytes": (lambda: pydantic.SecretBytes(b"a"), "SecretBytes.*never stored"),
    "secret in a model": (
        lambda: Login(name="a", token=pydantic.SecretStr("b")),
        r"the value\.token is a .*SecretStr, and a secret is never stored: return",
    ),
    "defaultdict of a lambda": (lambda: defaultdict(lambda: 1), "return a dict of it"),
    "defaultdict of a function": (lambda: defaultdict(kinds.eager), "no class of data"),
    "defaultdict of a class that acts": (lambda: defaultdict(subprocess.Popen), "no class of data"),
    "defaultdict of a class in a function": (
        lambda: defaultdict(type(local())),
        r"default_factory of the value is a .*top level",
    ),
    "long pattern": (lambda: re.compile("a" * 10_001), "pattern that may be slow"),
    "pattern of wide ranges": (lambda: re.compile("[\x00-\uffff]", re.I), "may be slow"),
    "struct that computes": (lambda: Post(1), "Post, whose __post_init__ is not to run"),
    "attrs that act when they go": (lambda: Mourned(1), "whose __del__ is not to run"),
    "generic of a class in a function": (
        lambda: Page[type(local())](items=[]),  # type: ignore[misc]
        "top level",
    ),
    "generic of a type variable": (lambda: Page(items=[Page[T](items=[object()])]), "object"),
    "URL with more in it": (odd, "more in it than a URL"),
    "chain of maps": (lambda: ChainMap({}), "ChainMap"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(UnsupportedTypeError, match=message):
        codec.encode(make())


def test_a_refusal_says_where() -> None:
    with pytest.raises(UnsupportedTypeError, match=r"the value\.steps\[1\]\.content is a .*object"):
        codec.encode({"steps": [1, Holder(object())]})


def tagged(plain: Any) -> bytes:
    return b"\x01" + msgspec.msgpack.encode(plain)


HOSTILE: dict[str, Any] = {
    "unknown tag": {"!nonsense": 1},
    "a function in place of a class": {"!dataclass": ["kinds:same", {}]},
    "a module in place of a class": {"!dataclass": ["kinds:math", {}]},
    "a plain class as a dataclass": {"!dataclass": ["builtins:object", {}]},
    "a subprocess as a dataclass": {"!dataclass": ["subprocess:Popen", {"args": "true"}]},
    "a dataclass as an enum": {"!enum": ["kinds:Point", "x"]},
    "an enum member that is a method": {"!enum": ["kinds:Colour", "__class__"]},
    "an enum without a name": {"!enum": ["kinds:Colour", 1]},
    "a flag of strange names": {"!enum": ["kinds:Right", ["READ", "mro"]]},
    "a named tuple of the wrong length": {"!namedtuple": ["kinds:City", [1]]},
    "a model that is none": {"!pydantic": ["builtins:dict", {}, None, [], None]},
    "a model that is not generic": {
        "!pydantic": [["kinds:Model", ["builtins:int"]], {}, None, [], None]
    },
    "a generic model of too many": {
        "!pydantic": [["kinds:Box", ["builtins:int", "builtins:int"]], {}, None, [], None]
    },
    "a model whose state is a list": {"!pydantic": ["kinds:Model", [1], None, [], None]},
    "state with names that are more than text": {
        "!dataclass": ["kinds:Point", {"!dict": [[{"!subclass": ["kinds:Name", "x", {}]}, 2]]}]
    },
    "state with keys that are no names": {"!dataclass": ["kinds:Point", {"!dict": [[1, 2]]}]},
    "an attribute of a slotted class that it has not": {"!dataclass": ["kinds:Slotted", {"z": 1}]},
    "an unhashable key": {"!dict": [[[1], 2]]},
    "an unhashable member": {"!set": [[1]]},
    "a pair of three": {"!dict": [[1, 2, 3]]},
    "an integer that is none": {"!int": "xyz"},
    "an integer that is a list": {"!int": []},
    "bytes that are no base64": {"!bytes": "*"},
    "a date that is none": {"!date": "2024-02-30"},
    "a datetime in no zone": {"!datetime": ["2024-01-01T00:00:00", 0, "../../etc/passwd"]},
    "a datetime with a huge offset": {"!datetime": ["2024-01-01T00:00:00", 0, [9**9, 0, 0]]},
    "a timedelta that overflows": {"!timedelta": [10**12, 0, 0]},
    "a fraction by zero": {"!fraction": ["0x1", "0x0"]},
    "a decimal that is none": {"!decimal": "x"},
    "a decimal that is a list": {"!decimal": [0, [1], 0]},
    "a path of another sort": {"!path": ["Popen", "x"]},
    "an array of objects": {"!array": ["|O", [1], b"12345678"]},
    "an array of the wrong size": {"!array": ["<i8", [2], b"12345678"]},
    "an array of a huge shape": {"!array": ["<i8", [2**40], b"12345678"]},
    "an array of strange bytes": {"!array": ["<i8", [1], "text"]},
    "a number that is none": {"!number": ["<i8", [], b""]},
    "a namespace of a list": {"!namespace": [1]},
    "an enum of two values": {"!enum": ["kinds:Colour", "RED", 1, 2]},
    "a range of fractions": {"!range": [0, 1.5, 1]},
    "a range of truths": {"!range": [False, True, 1]},
    "a range without steps": {"!range": [0, 1, 0]},
    "a range of four": {"!range": [0, 1, 1, 1]},
    "a deque that is fuller than it can be": {"!deque": [[1, 2], 1]},
    "a deque of less than nothing": {"!deque": [[], -1]},
    "a deque of a huge length": {"!deque": [[], 2**64 - 1]},
    "a deque without a length": {"!deque": [[1]]},
    "a defaultdict of a class that acts": {"!defaultdict": ["subprocess:Popen", []]},
    "a defaultdict of a plain class": {"!defaultdict": ["builtins:object", []]},
    "a defaultdict of a number": {"!defaultdict": [1, []]},
    "a pattern that is none": {"!pattern": ["(", 0]},
    "a pattern of a number": {"!pattern": [1, 0]},
    "a pattern with flags that are none": {"!pattern": ["a", "I"]},
    "a pattern with a truth for flags": {"!pattern": ["a", True]},
    "a pattern that prints": {"!pattern": ["a", int(re.DEBUG)]},
    "a pattern of bytes with flags of text": {"!pattern": [b"a", int(re.UNICODE)]},
    "a long pattern": {"!pattern": ["a" * 10_001, 32]},
    "a deep pattern": {"!pattern": ["(" * 4000 + ")" * 4000, 32]},
    "a pattern that counts too far": {"!pattern": ["a{99999999999999999999}", 32]},
    "a pattern of a wide range": {"!pattern": ["[\x00-\uffff]", 34]},
    "a pattern of a wide range within": {"!pattern": ["(?si:[\x00-\uffff])", 32]},
    "a pattern of an escaped range": {"!pattern": ["[\\0-\\uffff]", 34]},
    "a pattern of many ranges": {"!pattern": ["[\x00-\uffff]" * 101, 32]},
    "an address of another sort": {"!ip": ["ip_address", "1.2.3.4"]},
    "an address that is none": {"!ip": ["IPv4Address", "1.2.3"]},
    "an address that is a number": {"!ip": ["IPv4Address", 1]},
    "a URL that is none": {"!url": ["pydantic.networks:HttpUrl", "a b"]},
    "a URL of another class": {"!url": ["builtins:str", "http://a.b/"]},
    "a URL that is written otherwise": {"!url": ["pydantic.networks:HttpUrl", "HTTP://a.b/"]},
    "a URL that is a number": {"!url": ["pydantic.networks:HttpUrl", 1]},
    "attrs that are none": {"!attrs": ["kinds:Point", {}]},
    "attrs with an attribute that they have not": {"!attrs": ["kinds:Fee", {"zzz": 1}]},
    "attrs that act when they go": {"!attrs": [f"{__name__}:Mourned", {"x": 1}]},
    "a struct that is none": {"!struct": ["kinds:Point", {}]},
    "a struct that computes": {"!struct": [f"{__name__}:Post", {"x": 1}]},
    "a struct without a field": {"!struct": ["kinds:Cost", {}]},
    "a struct with an attribute that it has not": {
        "!struct": ["kinds:Cost", {"tokens": 1, "z": 1}]
    },
    "a subclass of another type": {"!subclass": ["kinds:Labels", {"a": 1}, {}]},
    "a subclass that is a builtin type": {"!subclass": ["builtins:list", [], {}]},
    "a subclass that is a deque": {"!subclass": ["collections:deque", [], {}]},
    "a subclass that is an enum": {"!subclass": ["kinds:Word", "hi", {}]},
    "a subclass that is a named tuple": {"!subclass": ["kinds:City", {"!tuple": [1]}, {}]},
    "a subclass that is made in C": {"!subclass": ["collections:OrderedDict", {}, {}]},
    "a subclass of numpy": {"!subclass": ["numpy:str_", "a", {}]},
    "a named tuple with a state of a list": {"!namedtuple": ["kinds:City", [1, 2], [1]]},
    "a named tuple with a state that it cannot have": {
        "!namedtuple": ["kinds:City", [1, 2], {"note": 1}]
    },
    "a secret": {"!secret": "a"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_corrupt(name: str) -> None:
    with pytest.raises(CorruptEntryError):
        codec.decode(Kind.VALUE, tagged(HOSTILE[name]))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.TEXT, b"\xff"),
        (Kind.VALUE, b""),
        (Kind.VALUE, b"\x02\xc0"),
        (Kind.VALUE, b"\x00\xdd\xff\xff\xff\xff"),
        (Kind.VALUE, b"\x01" + b"\x91" * 100_000),
        (Kind.VALUE, b"\x01" + msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"x"))),
        (Kind.HTTP, b"\xc0"),
        (Kind.HTTP, msgspec.msgpack.encode([200, [], b"abc", [1], [], False])),
        (Kind.HTTP, msgspec.msgpack.encode([200, [], b"abc", [4, -1], [], False])),
        (Kind.ITEMS, b"\xc0"),
        (Kind.ITEMS, msgspec.msgpack.encode([[[3, b""]], [0.0], [1, b""]])),
        (9, b""),
    ],
)
def test_hostile_bytes_are_corrupt(kind: Any, data: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        codec.decode(kind, data)


def test_an_http_answer_comes_back() -> None:
    answer = HttpAnswer(
        200, [("content-type", "text/event-stream"), ("a", "1"), ("a", "2")], [b"x", b"", b"yz"],
        [0.1, 0.2, 0.3], True,
    )  # fmt: skip
    assert there_and_back(answer) == answer


def test_recorded_items_come_back() -> None:
    items = Items([codec.encode("a"), codec.encode((1,))], [0.0, 0.5], codec.encode(None))
    assert there_and_back(items) == items


def test_openai_models_come_back_with_all_that_was_added() -> None:
    chat = pytest.importorskip("openai.types.chat")
    completion = chat.ChatCompletion.construct(
        id="c1",
        choices=[
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hi", "unknown": 1},
            }
        ],
        created=1,
        model="m",
        object="chat.completion",
        system_fingerprint="f",
    )
    completion._request_id = "req_1"
    completion.cost = 1.5
    back = there_and_back(completion)
    assert same(back, completion)
    assert (back._request_id, back.cost, back.choices[0].message.model_extra) == (
        "req_1",
        1.5,
        {"unknown": 1},
    )
    assert back.model_dump() == completion.model_dump()


def test_a_parsed_completion_keeps_the_class_in_its_brackets() -> None:
    chat = pytest.importorskip("openai.types.chat")
    parsed = chat.ParsedChatCompletion[kinds.Model].construct(id="c1", choices=[])
    assert type(there_and_back(parsed)) is type(parsed)


P = 2**61 - 1
SLOW: dict[str, tuple[Callable[[], Any], str]] = {
    "set of one hash": (lambda: {k * P for k in range(100)}, "more than 32 members"),
    "frozen set of one hash": (lambda: frozenset(k * P for k in range(100)), "more than 32"),
    "keys of one hash": (lambda: {k * P: 0 for k in range(100)}, "keys of a dictionary"),
    "counter of one hash": (lambda: Counter(k * P for k in range(100)), "keys of a dictionary"),
    "huge integer": (lambda: 1 << 300_000, "more than 65536 hexadecimal digits"),
    "huge integer in a list": (lambda: [-1 << 300_000], r"value\[0\] is a number of more than"),
    "huge fraction": (lambda: fractions.Fraction(1, 1 << 20_000), "more than 4096 hex"),
    "range of huge integers": (lambda: range(1 << 300_000), "more than 65536 hexadecimal"),
    "many wide patterns": (
        lambda: [re.compile(f"{k}" + "[\u0100-\uffff]" * 50) for k in range(12)],
        "patterns or fractions that may be slow",
    ),
    "many large fractions": (
        lambda: [fractions.Fraction(k + (1 << 80), 3) for k in range(2000)],
        "patterns or fractions that may be slow",
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_what_would_be_slow_to_read_is_not_stored(name: str) -> None:
    make, message = SLOW[name]
    with pytest.raises(UnsupportedTypeError, match=message):
        codec.encode(make())


FAST: dict[str, Callable[[], Any]] = {
    "many numbers in a set": lambda: set(range(10_000)),
    "many keys": lambda: {(k, str(k)): k for k in range(5000)},
    "small fractions": lambda: {fractions.Fraction(k, 7) for k in range(3000)},
    "some patterns": lambda: [re.compile(f"{k}[a-z]+") for k in range(200)],
    "an integer of many digits": lambda: 1 << 260_000,
    "members that are equal to others": lambda: {-1, -2, 0, P, 2**61},
}


@pytest.mark.parametrize("name", FAST)
def test_what_is_large_and_not_slow_is_stored(name: str) -> None:
    value = FAST[name]()
    assert there_and_back(value) == value


@pytest.mark.parametrize("key", [1, None, (1,), "\ud800"], ids=repr)
def test_what_stands_under_no_simple_name_is_looked_at_once(
    key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def count(value: Any, where: str) -> Any:
        looks.append(where)
        return tag(value, where)

    tag = tagging.tag
    monkeypatch.setattr(tagging, "tag", count)
    tower: Any = 0
    for _ in range(12):
        tower = {"a": tower, key: [2]}
    assert same(there_and_back(tower), tower)
    assert len(looks) < 100
