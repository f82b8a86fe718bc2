"""The codec: faithful in type, refuses what it cannot keep, and never runs what was stored."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds
import msgspec
import numpy
import pytest
from kinds import VALUES, same

from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError, UnsupportedTypeError
from cachewrap.format import codec


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
    def test_no_post_init(self) -> None:
        data = codec.encode(kinds.Eager(1))
        kinds.RAN.clear()
        codec.decode(*data)
        assert kinds.RAN == []

    def test_no_validator(self) -> None:
        data = codec.encode(kinds.Strict(a=1))
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
        "    mail: str = 'none'\n    tags: list = pydantic.Field(default_factory=list)\n"
        "    nick: str = pydantic.Field(default_factory=lambda given: given['name'][:1])\n",
    )
    assert codec.decode(*stored) == [new.Record("bob"), new.Person(name="bob")]
    define("    mail: str\n", "")
    with pytest.raises(CorruptEntryError, match="Record has the new field mail"):
        codec.decode(*stored)


@dataclasses.dataclass
class Holder:
    """Defined at the top of a module, unlike what it holds."""

    content: Any


class Plain:
    pass


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
    "structured array": (lambda: numpy.zeros(1, dtype="i4,f4"), "numpy array of"),
    "exception": (lambda: ValueError("x"), "ValueError"),
    "subclass of dict": (lambda: type("Sub", (dict,), {})(), "Sub"),
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
